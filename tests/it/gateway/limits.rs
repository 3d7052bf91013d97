//! What the defaults cut off.
use std::time::Duration;

use tokio::net::TcpListener;

use super::world::{Gateway, file};

/// Takes connections and never says a word.
async fn mute() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_504() {
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
        mute().await
    )))
    .await;
    for (kind, status, grpc) in [("text/plain", 504, None), ("application/grpc", 200, Some("4"))] {
        let (client, at) = (gateway.client.clone(), gateway.at("public"));
        let asked = tokio::spawn(async move { client.get(at, "/", &[("content-type", kind)]).await });
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
        let answer = asked.await.unwrap();
        let told = answer.headers.get("grpc-status").map(|code| code.to_str().unwrap());
        assert_eq!((answer.status, told), (status, grpc), "{kind}");
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 0).await;
    }
}
