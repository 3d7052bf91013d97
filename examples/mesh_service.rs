//! One service of a mesh: it shows its identity, knows who asks, and asks others. The identities are those of `mesh_ca`.
//!
//! ```sh
//! cargo run --example mesh_ca --features tls -- --dir ./mesh orders web stranger
//! cargo run --example mesh_service --features full -- serve ./mesh/orders 127.0.0.1:8443 spiffe://mesh.local/web
//! cargo run --example mesh_service --features full -- call ./mesh/web 127.0.0.1:8443 spiffe://mesh.local/orders
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to who runs it")]

use std::{convert::Infallible, error::Error, path::PathBuf, time::Duration};

use http::{Request, Response};
use http_body_util::BodyExt;
use portcullis::{
    admission::authz::{Authorization, Policy, Rule, Source},
    body::Body,
    identity::{PeerIdentity, SpiffeId},
    reject::RescueLayer,
    stack::mesh::Client,
    telemetry::access_log::AccessLog,
    tls::{ClientTls, Credentials, Directory, ServerId, ServerTls},
    transport::{Connection, Drain, Listener, Server},
    upstream::Upstream,
};
use tower::{ServiceBuilder, service_fn};

const USAGE: &str = "usage: mesh_service serve|call DIRECTORY ADDRESS SPIFFE-ID
  serve  at ADDRESS, for callers of this SPIFFE ID
  call   once a second, the service of this SPIFFE ID at ADDRESS";

type Failure = Box<dyn Error + Send + Sync>;

async fn orders(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let caller = request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::name).unwrap_or("nobody");
    Ok(Response::new(Body::from(format!("three orders for {caller}"))))
}

async fn serve(ours: &Credentials, address: &str, caller: &SpiffeId) -> Result<(), Failure> {
    let allowed = Rule::new().from(Source::new().peers([caller.as_str()])?);
    let service = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(Connection::new().layer())
        .layer(AccessLog::new().layer())
        .layer(Authorization::new([Policy::allow("callers").rule(allowed)])?.layer())
        .service(service_fn(orders));

    let listener = Listener::builder().tls(ServerTls::mutual(ours)).bind(address.parse()?)?;
    println!("serves {caller} at {}", listener.local_addr()?);
    let drain = Drain::new();
    let cut = tokio::spawn(drain.on_signal(Duration::from_secs(30)));
    Server::new().drain(&drain).serve(listener, service).await;
    println!("{} connections were cut", cut.await?);
    Ok(())
}

async fn call(ours: &Credentials, address: &str, server: SpiffeId) -> Result<(), Failure> {
    let tls = ClientTls::mutual(ours).server(ServerId::Spiffe(server));
    let client = Client::new(Upstream::builder("orders").endpoint(address).tls(&tls).build()?)?;
    loop {
        let answer = client.send(Request::get("/").body(Body::empty())?).await;
        let status = answer.status();
        match answer.into_body().collect().await {
            Ok(body) => println!("{status}: {}", String::from_utf8_lossy(&body.to_bytes())),
            Err(error) => println!("{status}, and then {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [what @ ("serve" | "call"), directory, address, peer] = *arguments else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let peer = peer.parse().map_err(|error| format!("{peer}: {error}"))?;
    let directory = Directory::new(PathBuf::from(directory));
    let ours = Credentials::follow_from(directory.material()?, directory);
    if what == "serve" { serve(&ours, address, &peer).await } else { call(&ours, address, peer).await }
}
