//! Requests of hyper's, over a client of the mesh: four servers, of which one fails and one hangs at times.
//!
//! ```sh
//! cargo run --example resilient_client --features mesh
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{
    convert::Infallible,
    error::Error,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::{
    body::Body,
    ratio::Ratio,
    resilience::{budget::Budget, retry::Policy},
    stack::mesh::{Client, ClientLayer, Destination},
    upstream::Upstream,
};
use tokio::net::TcpListener;

#[derive(Clone, Copy)]
enum Server {
    Sound,
    /// Answers 503.
    Fails,
    /// Leaves each third request without an answer.
    Hangs,
}

/// A server of hyper's at an address of its own, which counts what it is asked.
async fn serve(server: Server, asked: &Arc<AtomicU64>) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let asked = Arc::clone(asked);
    let own = Arc::new(AtomicU64::new(0));
    let service = service_fn(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        let number = own.fetch_add(1, Ordering::Relaxed);
        async move {
            let status = match server {
                Server::Hangs if number % 3 == 2 => pending().await,
                Server::Fails => 503,
                Server::Sound | Server::Hangs => 200,
            };
            let mut response = Response::new(Body::from("served"));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            Ok::<_, Infallible>(response)
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let asked = Arc::new(AtomicU64::new(0));
    let mut endpoints = Vec::new();
    for server in [Server::Sound, Server::Hangs, Server::Fails, Server::Sound] {
        endpoints.push(serve(server, &asked).await?);
    }
    let budget = Budget::new(Ratio::percent(50)).floor(50, Duration::from_secs(1)); // half of four servers are bad
    let policies = ClientLayer::new()
        .timeout(Duration::from_secs(5))
        .attempt_timeout(Duration::from_millis(200))
        .retry(Policy::new(2).budget(budget.clone()));
    let orders = Upstream::builder("orders").endpoints(&endpoints).build()?;
    let client = Client::new(Destination::new(orders).policies(policies))?;

    let mut served = 0;
    for number in 0..40 {
        let response = client.send(Request::get(format!("/orders/{number}")).body(Body::empty())?).await;
        let is_good = response.status() == 200;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        served += u32::from(is_good && body == "served");
    }
    let asked = asked.load(Ordering::Relaxed);
    println!("40 requests, two servers of four are bad: {served} served, with {asked} attempts");

    // With all of them gone an answer says so.
    let gone = Client::to("orders", ["127.0.0.1:1"])?;
    let response = gone.send(Request::get("/orders/1").body(Body::empty())?).await;
    let status = response.status();
    let problem = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    println!("nobody there: {status}, {}", String::from_utf8_lossy(&problem));
    Ok(())
}
