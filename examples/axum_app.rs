//! An axum application behind our layers, on our server.
//!
//! ```sh
//! cargo run --example axum_app --features axum,authn,transport
//! # in a program of your own
//! cargo add portcullis --features axum,authn,transport
//! cargo add axum tower && cargo add tokio --features macros,rt-multi-thread
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{error::Error, net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use portcullis::{
    admission::{
        authz::Authorize,
        rate_limit::{Limit, RateLimit},
    },
    authn::api_key::{self, ApiKey, KeyTable},
    context::{ContextLayer, RequestId},
    identity::{ClientAddr, Principal},
    resilience::timeout::TimeoutLayer,
    telemetry::request_id::SetRequestId,
    transport::{Connection, Drain, Listener, Server},
};
use tower::ServiceBuilder;

async fn orders(customer: Principal, client: ClientAddr, id: RequestId) -> String {
    format!("the orders of {}, asked for by {} in request {}\n", customer.subject(), client.ip(), id.as_str())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000").parse()?;

    // In a program of yours, the hashes of the keys come from a file.
    let key = api_key::mint("shop", "acme")?.with(|entry| entry.scopes(["orders.read"]));
    let keys = KeyTable::new("customers", [key.entry().clone()])?;

    // Outermost first.
    let customers_only = ServiceBuilder::new()
        .layer(ApiKey::new(keys).layer())
        .layer(Authorize::new().all_scopes(["orders.read"]).layer())
        .layer(ContextLayer::new());
    let everybody = ServiceBuilder::new()
        .layer(Connection::new().layer())
        .layer(SetRequestId::new().layer())
        .layer(RateLimit::new(Limit::builder("per-address", "10/s".parse()?).build()?).layer())
        .layer(TimeoutLayer::new(Duration::from_secs(5)));

    let app = Router::new()
        .route("/orders", get(orders))
        .route_layer(customers_only)
        .route("/", get(|| async { "hello\n" }))
        .layer(everybody);

    // `axum::serve` takes the listener as well; the server adds limits for what strangers may send, and an end.
    let drain = Drain::new();
    let cut = drain.on_signal(Duration::from_secs(30));
    let listener = Listener::bind(address)?;
    println!("curl -i -H 'x-api-key: {}' http://{}/orders", key.reveal(), listener.local_addr()?);
    let server = tokio::spawn(Server::new().drain(&drain).serve(listener, app));
    println!("{} connections were cut", cut.await);
    Ok(server.await?)
}
