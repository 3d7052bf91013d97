//! gRPC and WebSocket through a gateway.
use axum::extract::ws::{Message, WebSocketUpgrade};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::world::{Gateway, file, nobody, upstream};
use crate::support::grpc::health;

/// An upstream's echo.
pub(crate) async fn socket(upgrade: WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                let _ = socket.send(Message::Text(format!("echo {text}").into())).await;
            }
        }
    })
}

#[tokio::test]
async fn a_websocket_passes() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let url = format!("ws://{}/socket", gateway.at("public"));
    let (mut socket, response) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    for word in ["hello", "again"] {
        socket.send(tungstenite::Message::text(word)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), format!("echo {word}"));
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn grpc_passes_and_is_refused_in_its_own_words() {
    let (grpc, reporter) = health().await;
    reporter.set_service_status("shop", tonic_health::ServingStatus::Serving).await;

    let rule = |host: &str, upstream: &str, more: &str| {
        format!(
            "- {{ name: {upstream}, hostnames: [{host}], rules: [{{ backendRefs: [{{ name: {upstream} }}] {more} }}] }}\n"
        )
    };
    let gateway = Gateway::of(&file(&format!(
        "rateLimits: {{ none: {{ key: clientIp, rate: 1/h, burst: 1 }} }}\n\
         upstreams: {{ open: {{ endpoints: ['{grpc}'] }}, gone: {{ endpoints: ['{}'] }}, limited: {{ endpoints: ['{grpc}'] }} }}\n\
         routes:\n{}{}{}",
        nobody(),
        rule("open.example", "open", ""),
        rule("gone.example", "gone", ""),
        rule("limited.example", "limited", ", policies: { rateLimit: [none] }"),
    )))
    .await;
    let ask = async |host: &str, service: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{}", gateway.at("public"))).unwrap();
        let channel = endpoint.origin(format!("http://{host}").parse().unwrap()).connect().await.unwrap();
        let request = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(channel).check(request).await.map(|answer| answer.into_inner().status)
    };
    assert_eq!(ask("open.example", "shop").await.unwrap(), 1);
    assert_eq!(
        ask("open.example", "unknown").await.unwrap_err().code(),
        Code::NotFound,
        "the upstream's own"
    );
    assert_eq!(ask("gone.example", "shop").await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(ask("nobody.example", "shop").await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(ask("limited.example", "shop").await.unwrap(), 1);
    assert_eq!(ask("limited.example", "shop").await.unwrap_err().code(), Code::ResourceExhausted);
}
