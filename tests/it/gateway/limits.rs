//! What the defaults cut off.
use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::world::{Gateway, file, upstream};

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

#[tokio::test]
async fn a_file_chooses_what_is_told_of_limits() {
    let one = upstream("one").await;
    let text = |top: &str, listener: &str, rule: &str| {
        file(&format!(
            "rateLimits: {{ l: {{ key: clientIp, rate: 2/min }}, all: {{ key: clientIp, rate: 100/min }} }}\n{top}\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [l] {rule} }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        ))
        .replace("name: public,", &format!("name: public, rateLimit: [all], {listener}"))
    };
    // Of the rule's limit and the listener's: what a 200 tells, and what a 429 does.
    let told = async |text: String| {
        let gateway = Gateway::of(&text).await;
        let mut told = Vec::new();
        for status in [200, 200, 429] {
            let answer = gateway.get("/", &[]).await;
            assert_eq!(answer.status, status);
            let policies: Vec<_> = answer.headers.get_all("ratelimit-policy").iter().collect();
            let legacy = answer.headers.get("x-ratelimit-limit");
            told.push((policies.len(), legacy.map(|limit| limit.to_str().unwrap().to_owned())));
        }
        told.remove(1);
        told
    };
    let limit = |limit: &str| Some(limit.to_owned());
    assert_eq!(told(text("", "", "")).await, [(0, None), (1, None)]);
    let always = "rateLimitFields: { standard: always, legacy: true }";
    assert_eq!(told(text(&format!("{always}\n"), "", "")).await, [(2, limit("100")), (2, limit("100"))]);
    assert_eq!(told(text("", &format!("{always},"), "")).await, [(1, limit("100")), (2, limit("100"))]);
    assert_eq!(told(text("", "", &format!(", {always}"))).await, [(1, limit("2")), (1, limit("2"))]);
    let never = "rateLimitFields: { standard: never }";
    assert_eq!(
        told(text(&format!("{always}\n"), &format!("{never},"), &format!(", {never}"))).await,
        [(0, None), (0, None)]
    );
}

/// The same host is the same account, whichever version of HTTP names it.
#[tokio::test]
async fn a_host_is_one_account_in_every_version() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "rateLimits: {{ l: {{ key: {{ header: host }}, rate: 2/min }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [l] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let http2 = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let uri =
        |host: &str| format!("http://{host}:{}/", gateway.at("public").port()).parse::<http::Uri>().unwrap();
    for (host, status) in [("127.0.0.1", 200), ("127.0.0.1", 200), ("127.0.0.1", 429), ("localhost", 200)] {
        assert_eq!(http2.get(uri(host)).await.unwrap().status(), status, "{host}");
    }
    assert_eq!(gateway.get("/", &[]).await.status, 429);
    assert_eq!(gateway.get("/", &[("host", "localhost")]).await.status, 200);
    assert_eq!(gateway.get("/", &[("host", "localhost:1")]).await.status, 429);
}

/// The time that an upload takes is the caller's: 408, and not 504.
#[tokio::test]
async fn an_upload_that_never_ends_is_408() {
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
        mute().await
    )))
    .await;
    for (sent, status) in [("abc", "408"), ("abcdefghij", "504")] {
        let mut stream = TcpStream::connect(gateway.at("public")).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";
        stream.write_all(format!("{head}{sent}").as_bytes()).await.unwrap();
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 0).await;
    }
}
