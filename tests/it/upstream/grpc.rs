//! gRPC through the proxy, with tonic on both sides.

use std::net::SocketAddr;

use portcullis::{
    reject::Reason,
    upstream::{Proxy, Upstream},
};
use tonic::{Code, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use super::peers::{Raw, edge, soon, until};
use crate::support::grpc::health;

async fn client(edge: SocketAddr) -> HealthClient<Channel> {
    let channel = Channel::from_shared(format!("http://{edge}")).unwrap().connect().await;
    HealthClient::new(channel.unwrap())
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn calls_and_streams_pass_untouched() {
    let (address, reporter) = health().await;
    reporter.set_service_status("orders", ServingStatus::Serving).await;
    let group = Upstream::builder("grpc").endpoint(address.to_string()).build().unwrap();
    let mut client = client(edge(Proxy::new(group.clone())).await).await;

    let answer = soon(client.check(asking("orders"))).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
    let unknown = soon(client.check(asking("nothing"))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "a status in trailers, or in a head alone");

    let mut changes = soon(client.watch(asking("orders"))).await.unwrap().into_inner();
    assert_eq!(soon(changes.message()).await.unwrap().unwrap().status, 1);
    assert_eq!(group.endpoints()[0].in_flight, 1, "a stream is in flight until it ends");
    for (status, number) in [(ServingStatus::NotServing, 2), (ServingStatus::Serving, 1)] {
        reporter.set_service_status("orders", status).await;
        assert_eq!(soon(changes.message()).await.unwrap().unwrap().status, number);
    }
    drop(changes);
    until(|| group.endpoints()[0].in_flight == 0).await;
    let status = group.endpoints().remove(0);
    assert_eq!((status.connections, status.idle), (1, 0), "one HTTP/2 connection for all of it");
}

#[tokio::test]
async fn what_fails_on_the_way_is_a_grpc_status() {
    let gone = Raw::start(|_, _| async {}).await;
    for (endpoint, reason) in
        [("127.0.0.1:1".to_owned(), Reason::ConnectFailed), (gone.address.to_string(), Reason::UpstreamReset)]
    {
        let group = Upstream::builder("grpc").endpoint(endpoint).build().unwrap();
        let mut client = client(edge(Proxy::new(group)).await).await;
        let status = soon(client.check(asking("orders"))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{reason:?}: {status:?}");
    }
}
