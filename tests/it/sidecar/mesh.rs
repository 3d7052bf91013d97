//! From service to service, through the sidecars of both.
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{identities, inbound, outbound, sidecar};
use crate::{
    gateway::world::{Answer, Directory, Gateway, nobody, upstream},
    support::{grpc::health, log::Log},
};

async fn call(gateway: &Gateway, host: &str) -> Answer {
    gateway.client.get(gateway.at("calls"), "/", &[("host", host), ("x-request-id", "of-the-caller")]).await
}

#[tokio::test]
async fn a_service_calls_another_in_plain_http() {
    let directory = identities(&["orders", "web"]);
    let orders = sidecar(&directory, "orders", &inbound("orders", upstream("orders").await)).await;
    let web = sidecar(&directory, "web", &outbound("web", orders.at("mesh"), "")).await;
    for host in ["orders", "ORDERS", "orders:8080"] {
        let answer = call(&web, host).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.starts_with("orders /\n"), "{answer:?}");
        assert!(answer.text.contains(&format!("host: {host}\n")), "{answer:?}");
        assert!(answer.text.contains("x-request-id: of-the-caller\n"), "one id on the whole way: {answer:?}");
        assert_eq!(answer.headers["x-request-id"], "of-the-caller");
    }
    let status = web.status().await;
    assert_eq!(status["listeners"][0]["direction"], "outbound");
    assert_eq!(status["identities"][0]["name"], "spiffe://mesh.local/web");
    assert_eq!(orders.status().await["rules"][0]["public"], false);
}

#[tokio::test]
async fn whatever_is_spoken_over_http_passes() {
    let directory = identities(&["orders", "web"]);
    let orders = sidecar(&directory, "orders", &inbound("orders", upstream("orders").await)).await;
    let web = sidecar(&directory, "web", &outbound("web", orders.at("mesh"), "")).await;
    let stream = TcpStream::connect(web.at("calls")).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://orders/socket", stream).await.unwrap();
    for word in ["hello", "again"] {
        socket.send(tungstenite::Message::text(word)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), format!("echo {word}"));
    }

    let (grpc, reporter) = health().await;
    reporter.set_service_status("shop", tonic_health::ServingStatus::Serving).await;
    let orders = sidecar(&directory, "orders-grpc", &inbound("orders", grpc)).await;
    let web = sidecar(&directory, "web-grpc", &outbound("web", orders.at("mesh"), "")).await;
    let ask = async |host: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{}", web.at("calls"))).unwrap();
        let channel = endpoint.origin(format!("http://{host}").parse().unwrap()).connect().await.unwrap();
        let request = HealthCheckRequest { service: "shop".to_owned() };
        HealthClient::new(channel).check(request).await.map(|answer| answer.into_inner().status)
    };
    assert_eq!(ask("orders").await.unwrap(), 1);
    assert_eq!(ask("payments").await.unwrap_err().code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn who_is_not_allowed_is_refused_and_the_log_says_who_it_was() {
    let (log, _guard) = Log::start();
    let directory = identities(&["orders", "payments", "stranger", "web"]);
    let service = upstream("orders").await;
    let orders = sidecar(&directory, "orders", &inbound("orders", service)).await;
    let stranger = sidecar(&directory, "stranger", &outbound("stranger", orders.at("mesh"), "")).await;
    assert_eq!(call(&stranger, "orders").await.status, 403);
    let lines = log.access(2).await;
    let refused = lines.iter().find(|line| line["route"] == "service/0").unwrap();
    assert_eq!(refused["peer"], "spiffe://mesh.local/stranger", "{refused}");
    assert_eq!((&refused["status"], &refused["reason"]), (&403.into(), &"forbidden".into()), "{refused}");

    // Another server than was meant is sent nothing.
    let payments = sidecar(&directory, "payments", &inbound("payments", service)).await;
    let web = sidecar(&directory, "web", &outbound("web", payments.at("mesh"), "")).await;
    assert_eq!(call(&web, "orders").await.status, 502);
    let lines = log.access(3).await;
    let failed = lines.iter().find(|line| line["status"] == 502).unwrap()["error"].as_str().unwrap();
    assert!(failed.contains("spiffe://mesh.local/payments"), "{failed}");
}

/// `127.0.0.1` and this port.
fn host(address: SocketAddr) -> String {
    address.to_string()
}

#[tokio::test]
async fn unknown_hosts_are_refused_or_passed_through() {
    let (directory, other) = (identities(&["web"]), upstream("other").await);
    let web = sidecar(&directory, "web", &outbound("web", nobody(), "")).await;
    for unknown in ["payments", "orders.example", &host(other)] {
        assert_eq!(call(&web, unknown).await.status, 404, "{unknown}");
    }
    let admin = nobody();
    let text = outbound("web", nobody(), "\x20 unknownHosts: passThrough\n")
        .replace("admin: { address: 127.0.0.1:0 }", &format!("admin: {{ address: '{admin}' }}"));
    let calls = nobody();
    let text = text.replace("name: calls, address: 127.0.0.1:0", &format!("name: calls, address: '{calls}'"));
    let web = sidecar(&directory, "open", &text).await;
    let answer = call(&web, &host(other)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text.starts_with("other /\n"), "{answer:?}");
    assert_eq!(call(&web, &format!("localhost:{}", other.port())).await.status, 200, "a name is resolved");
    // Neither is what is asked for sent round for ever, nor does anybody get at what is for operators.
    for own in [host(calls), host(admin), format!("localhost:{}", admin.port())] {
        assert_eq!(call(&web, &own).await.status, 503, "{own}");
    }
    assert_eq!(call(&web, &host(nobody())).await.status, 502, "nobody is there");
    assert_eq!(call(&web, "a..b").await.status, 400);
}

#[tokio::test]
async fn rules_of_one_side_are_not_of_the_other() {
    let (service, other) = (upstream("service").await, upstream("other").await);
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ service: {{ endpoints: ['{service}'] }}, other: {{ endpoints: ['{other}'] }} }}\n\
         inbound:\n\
         \x20 listeners: [{{ name: in, address: 127.0.0.1:0 }}]\n\
         \x20 routes: [{{ name: service, rules: [{{ backendRefs: [{{ name: service }}] }}] }}]\n\
         outbound:\n\
         \x20 listeners: [{{ name: calls, address: 127.0.0.1:0 }}]\n\
         \x20 destinations: {{ other: {{}} }}\n\
         \x20 routes: [{{ name: more, hostnames: [more.example], rules: [{{ backendRefs: [{{ name: other }}] }}] }}]\n\
         listeners: [{{ name: public, address: 127.0.0.1:0 }}]\n\
         routes: [{{ name: edge, hostnames: [edge.example], rules: [{{ backendRefs: [{{ name: service }}] }}] }}]\n"
    );
    let gateway = Gateway::of(&text).await;
    for (listener, host, answer) in [
        ("in", "other", "service /"),
        ("in", "edge.example", "service /"),
        ("calls", "other", "other /"),
        ("calls", "more.example", "other /"),
        ("calls", "edge.example", "404"),
        ("calls", "service", "404"),
        ("public", "edge.example", "service /"),
        ("public", "other", "404"),
        ("public", "more.example", "404"),
    ] {
        let got = gateway.client.get(gateway.at(listener), "/", &[("host", host)]).await;
        let first =
            if got.status == 200 { got.text.lines().next().unwrap() } else { &got.status.to_string() };
        assert_eq!(first, answer, "{listener} {host}");
    }
}

#[tokio::test]
async fn a_change_is_in_force_on_both_sides_and_a_faulty_one_on_none() {
    let directory = identities(&["orders", "web"]);
    let orders = sidecar(&directory, "orders", &inbound("orders", upstream("orders").await)).await;
    let payments = upstream("payments").await;
    let text = outbound("web", orders.at("mesh"), "");
    let web = sidecar(&directory, "web", &text).await;
    assert_eq!(call(&web, "payments").await.status, 404);

    directory.write("web.yaml", &text.replace("destinations: {", "destinations: { payments: {},"));
    let refused = web.until(|status| status["lastLoad"]["accepted"] == false).await;
    assert!(refused["lastLoad"]["faults"][0].as_str().unwrap().contains("outbound.destinations.payments"));
    assert_eq!(call(&web, "orders").await.status, 200);

    let text = text
        .replace("destinations: {", "destinations: { payments: {},")
        .replace("upstreams: {", &format!("upstreams: {{ payments: {{ endpoints: ['{payments}'] }},"));
    directory.write("web.yaml", &text);
    web.until(|status| status["generation"] == 2).await;
    assert_eq!(call(&web, "payments").await.status, 200);

    directory.write("orders.yaml", &inbound("orders", payments).replace("mesh.local/web", "mesh.local/shop"));
    orders.until(|status| status["generation"] == 2).await;
    assert_eq!(call(&web, "orders").await.status, 403);
}

/// A call that has failed before it was sent is made again, as a mesh client does, and no other.
#[tokio::test]
async fn what_was_not_sent_is_sent_elsewhere() {
    let (directory, service) = (identities(&["web"]), upstream("service").await);
    let text = outbound("web", service, "").replace(
        &format!("endpoints: ['{service}'], protocol: follow, tls: {{ identity: web, spiffeId: spiffe://mesh.local/orders }}"),
        &format!("endpoints: ['{}', '{service}']", nobody()),
    );
    let web = sidecar(&directory, "web", &text).await;
    for _ in 0..10 {
        assert_eq!(call(&web, "orders").await.status, 200);
    }
}

/// What callers show at the way in, and what is said of them there, is nobody's business on the way out.
#[tokio::test]
async fn what_the_service_sends_is_its_own() {
    let (service, directory) = (upstream("service").await, Directory::new("own"));
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         authentication: {{ users: {{ apiKey: {{ header: authorization, keys: {{ file: keys.yaml }} }} }} }}\n\
         callerHeaders: {{ x-user: subject }}\n\
         upstreams: {{ service: {{ endpoints: ['{service}'] }} }}\n\
         inbound:\n\
         \x20 listeners: [{{ name: in, address: 127.0.0.1:0 }}]\n\
         \x20 routes: [{{ name: in, rules: [{{ policies: {{ authenticate: [users] }}, backendRefs: [{{ name: service }}] }}] }}]\n\
         outbound:\n\
         \x20 listeners: [{{ name: calls, address: 127.0.0.1:0 }}]\n\
         \x20 destinations: {{ service: {{}} }}\n\
         \x20 unknownHosts: passThrough\n"
    );
    directory.write("keys.yaml", "keys: []\n");
    let gateway = sidecar(&directory, "own", &text).await;
    for host in ["service", &host(service)] {
        let headers = [("host", host), ("authorization", "Bearer of-the-service"), ("x-user", "alice")];
        let answer = gateway.client.get(gateway.at("calls"), "/", &headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text.contains("authorization: Bearer of-the-service\n"), "{host}: {answer:?}");
        assert!(answer.text.contains("x-user: alice\n"), "{host}: {answer:?}");
    }
    let strangers = [("authorization", "Bearer of-nobody"), ("x-user", "alice")];
    assert_eq!(gateway.client.get(gateway.at("in"), "/", &strangers).await.status, 401);
}

/// A sidecar is asked by whatever name its callers have for the service.
#[tokio::test]
async fn a_service_is_called_by_the_name_that_its_caller_has_for_it() {
    let directory = identities(&["orders", "web"]);
    let orders = sidecar(&directory, "orders", &inbound("orders", upstream("orders").await)).await;
    let text = outbound("web", orders.at("mesh"), "").replace(
        "destinations: { orders: {} }",
        "destinations: { payments.example: { backendRefs: [{ name: orders }] } }",
    );
    let web = sidecar(&directory, "web", &text).await;
    assert_eq!(call(&web, "payments.example").await.status, 200);
}
