//! A gate of your own, used from the file.
//!
//! ```sh
//! cargo run --example custom_gate --features gateway
//! # in a program of your own
//! cargo add portcullis --features gateway
//! cargo add http && cargo add tower --features util && cargo add tokio --features macros,rt-multi-thread
//! ```
#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{convert::Infallible, error::Error, net::SocketAddr};

use http::{Request, Response, header::USER_AGENT};
use portcullis::{
    body::Body,
    config::{Config, Registry},
    gate::Gate,
    head::Head,
    reject::{Answer, Reason, Rejection},
    transport::{Listener, Server},
};
use tower::service_fn;

/// Refuses programs by the name they give themselves.
struct RefuseAgents(Vec<String>);

impl Gate for RefuseAgents {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let agent = head.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        match self.0.iter().find(|refused| agent.starts_with(refused.as_str())) {
            Some(refused) => Err(Rejection::new(Reason::Forbidden)
                .detail(format!("{refused} is not for this site"))
                .into()),
            None => Ok(()),
        }
    }
}

const FILE: &str = "
apiVersion: portcullis/v1alpha1
listeners: [{ name: public, address: LISTEN }]
shutdown: { delay: 0s }
upstreams:
  pages: { endpoints: [PAGES] }
routes:
  - name: pages
    rules:
      - policies:
          authenticate: none
          gates: [{ name: refuse-agents, with: [curl, wget] }]
        backendRefs: [{ name: pages }]
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3003").parse()?;

    // What the gateway stands before; in a program of yours, other servers.
    let pages = Listener::bind(([127, 0, 0, 1], 0).into())?;
    let file =
        FILE.replace("LISTEN", &address.to_string()).replace("PAGES", &pages.local_addr()?.to_string());
    let hello = |_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("hello\n"))) };
    tokio::spawn(Server::new().serve(pages, service_fn(hello)));

    let gates = Registry::new().register("refuse-agents", |agents: Vec<String>| Ok(RefuseAgents(agents)));
    let running = Config::text("custom_gate", file).gates(gates).start().await?;
    let address = running.gateway().address("public").ok_or("no such listener")?;
    let cut = running.gateway().run();
    println!("curl -i -A browser http://{address}/ # and without -A browser");
    println!("{} connections were cut", cut.await);
    Ok(())
}
