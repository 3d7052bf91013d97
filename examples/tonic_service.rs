//! A gRPC server and a client of it, both of tonic and both behind our layers.
//!
//! ```sh
//! cargo run --example tonic_service --features tonic,authn,transport
//! # in a program of your own
//! cargo add portcullis --features tonic,authn,transport
//! cargo add http tonic tonic-health && cargo add tower --features util
//! cargo add tokio --features macros,rt-multi-thread
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{error::Error, net::SocketAddr, time::Duration};

use http::{HeaderName, HeaderValue};
use portcullis::{
    admission::rate_limit::{Limit, RateLimit},
    authn::api_key::{self, ApiKey, KeyTable},
    context::ContextLayer,
    resilience::timeout::TimeoutLayer,
    telemetry::request_id::{PropagateRequestId, SetRequestId},
    transport::{Connection, Drain, Listener},
};
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3001").parse()?;
    let key = api_key::mint("shop", "acme")?;
    let keys = KeyTable::new("partners", [key.entry().clone()])?;

    // Outermost first.
    let drain = Drain::new();
    let layers = ServiceBuilder::new()
        .layer(drain.layer())
        .layer(Connection::new().layer())
        .layer(SetRequestId::new().layer())
        .layer(RateLimit::new(Limit::builder("per-address", "10/s".parse()?).build()?).layer())
        .layer(ApiKey::new(keys).layer())
        .layer(TimeoutLayer::new(Duration::from_secs(5)).grpc_streams(true))
        .layer(ContextLayer::new());
    let (_, health) = tonic_health::server::health_reporter();
    let cut = drain.on_signal(Duration::from_secs(30));
    let listener = Listener::bind(address)?;
    let address = listener.local_addr()?;
    let server = Server::builder().layer(layers).add_service(health);
    let server =
        tokio::spawn(server.serve_with_incoming_shutdown(listener.into_incoming(), drain.signalled()));

    let (name, value) = (HeaderName::from_static("x-api-key"), HeaderValue::from_str(key.reveal())?);
    let channel = ServiceBuilder::new()
        .layer(PropagateRequestId::new().layer())
        .layer(TimeoutLayer::new(Duration::from_secs(2)))
        .map_request(move |mut request: http::Request<tonic::body::Body>| {
            request.headers_mut().insert(name.clone(), value.clone());
            request
        })
        .service(Endpoint::try_from(format!("http://{address}"))?.connect().await?);
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    println!("the service is {:?}", answer.into_inner().status());

    println!(
        "printf '\\0\\0\\0\\0\\0' | curl -i --http2-prior-knowledge -H 'x-api-key: {}' \
         -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- \
         -o - http://{address}/grpc.health.v1.Health/Check",
        key.reveal()
    );
    println!("{} calls were cut", cut.await);
    Ok(server.await??)
}
