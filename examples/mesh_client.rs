//! A client that tonic has generated, over a client of the mesh: three servers, one of which fails every call.
//!
//! ```sh
//! cargo run --example mesh_client --features mesh
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{error::Error, time::Duration};

use portcullis::{
    resilience::retry::Policy,
    stack::mesh::{Client, ClientLayer, Destination},
    upstream::Upstream,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A gRPC service at an address of its own; one that is not `sound` has no answers.
async fn serve(sound: bool) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let (_, health) = tonic_health::server::health_reporter();
    let check = move |request| if sound { Ok(request) } else { Err(Status::unavailable("not today")) };
    let service = InterceptedService::new(health, check);
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sound = [serve(true).await?, serve(true).await?];
    let broken = serve(false).await?;
    let health = Upstream::builder("health").endpoints(sound).endpoint(broken.clone()).build()?;

    // In the place of a channel. These calls only read, so that they may be made twice.
    let retries = Policy::new(2).danger_any_method();
    let handle = retries.handle();
    let reads = ClientLayer::new()
        .timeout(Duration::from_secs(2))
        .attempt_timeout(Duration::from_millis(500))
        .retry(retries);
    let client = Client::new(Destination::new(health).policies(reads))?;
    let mut stub = HealthClient::new(client);
    for _ in 0..30 {
        stub.check(HealthCheckRequest::default()).await?;
    }
    println!(
        "30 calls, one server of three fails: 30 answers, {} of them at the second try",
        handle.recovered()
    );

    // What fails is a status, whoever has failed.
    let mut alone = HealthClient::new(Client::to("health", [broken])?);
    let status = alone.check(HealthCheckRequest::default()).await.err().ok_or("it must fail")?;
    println!("the broken server alone: {:?}, {:?}", status.code(), status.message());
    let mut nobody = HealthClient::new(Client::to("nobody", ["127.0.0.1:1"])?);
    let status = nobody.check(HealthCheckRequest::default()).await.err().ok_or("it must fail")?;
    println!("nobody at all: {:?}, {:?}", status.code(), status.message());

    // How long a caller waits is known to every server behind it.
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_nanos(1));
    let status = stub.check(request).await.err().ok_or("it must fail")?;
    println!("a caller that does not wait: {:?}, {:?}", status.code(), status.message());
    Ok(())
}
