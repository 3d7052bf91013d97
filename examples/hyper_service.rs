//! A service on hyper alone, behind our layers. `transport::Server` is this loop with limits and a gentler end.
//!
//! ```sh
//! cargo run --example hyper_service --features transport
//! # in a program of your own
//! cargo add portcullis --features transport
//! cargo add http hyper && cargo add hyper-util --features server-auto,service,tokio
//! cargo add tower --features util && cargo add tokio --features macros,rt-multi-thread
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{convert::Infallible, error::Error, net::SocketAddr, pin::pin, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use portcullis::{
    admission::rate_limit::{Limit, RateLimit},
    body::Body,
    identity::ClientAddr,
    resilience::timeout::TimeoutLayer,
    telemetry::request_id::SetRequestId,
    transport::{Connection, Drain, Listener},
};
use tower::{ServiceBuilder, service_fn};

async fn hello(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let client = request.extensions().get::<ClientAddr>().map(ToString::to_string).unwrap_or_default();
    Ok(Response::new(Body::from(format!("hello, {client}\n"))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3002").parse()?;

    // Outermost first.
    let service = ServiceBuilder::new()
        .layer(Connection::new().layer())
        .layer(SetRequestId::new().layer())
        .layer(RateLimit::new(Limit::builder("per-address", "10/s".parse()?).build()?).layer())
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .service(service_fn(hello));

    let drain = Drain::new();
    let cut = drain.on_signal(Duration::from_secs(30));
    let mut listener = Listener::bind(address)?;
    println!("curl -i http://{}/", listener.local_addr()?);

    let counted = drain.clone();
    tokio::spawn(async move {
        while let Some(io) = listener.next().await {
            let (peer, watch, service) = (io.peer(), counted.watch(), service.clone());
            tokio::spawn(async move {
                let service = ServiceBuilder::new()
                    .map_request(move |mut request: Request<Incoming>| {
                        request.extensions_mut().insert(peer);
                        request
                    })
                    .service(service);
                let http = Builder::new(TokioExecutor::new());
                let mut conn =
                    pin!(http.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)));
                tokio::select! {
                    _ = conn.as_mut() => return,
                    () = watch.drain().signalled() => conn.as_mut().graceful_shutdown(),
                }
                let _ = conn.await;
            });
        }
    });
    println!("{} connections were cut", cut.await);
    Ok(())
}
