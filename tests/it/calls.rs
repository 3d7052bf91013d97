//! What a mesh client's calls are on the wire: their scheme and authority, within TLS too, and streams that go both ways.
#![cfg(feature = "full")]

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, Empty};
use portcullis::{
    reject::{Reason, Rejection},
    resilience::hedge,
    routing::mirror,
    stack::mesh::{Client, ClientLayer, Destination},
    tls::{ClientTls, ServerTls},
    transport::{Listener, Peer},
    upstream::{Upstream, UpstreamBuilder, Wire},
};
use tokio::{net::TcpListener, sync::Notify, time::timeout};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Response, Status, Streaming, server::StreamingService};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    certificates::{Authority, credentials},
    grpc::Bare,
};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what).await.expect("in time")
}

/// Says how it was asked: version, scheme, authority and path, and its `Host` if it was told in that.
fn told(request: &Request) -> String {
    let host = request.headers().get("host").map_or("none", |host| host.to_str().unwrap());
    format!("{:?} {} host: {host}", request.version(), request.uri())
}

async fn plain(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// The same behind TLS, for who shows a certificate, and what a client has to know.
fn secret(app: Router) -> (SocketAddr, ClientTls) {
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let theirs = credentials(authority.workload("spiffe://shop.example/carts"), authority.trust());
    let listener =
        Listener::builder().tls(ServerTls::mutual(&ours)).bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let service = app.into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    (address, ClientTls::mutual(&theirs))
}

fn to(name: &str, address: SocketAddr) -> UpstreamBuilder {
    Upstream::builder(name).endpoint(format!("localhost:{}", address.port()))
}

fn echo() -> Router {
    Router::new().fallback(async |request: Request| told(&request))
}

async fn said(client: &Client, uri: &str) -> String {
    let request = http::Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let answer = soon(client.send(request)).await;
    let bytes = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn an_upstream_is_told_scheme_and_authority_by_its_version() {
    let address = plain(echo()).await;
    let (within, tls) = secret(echo());
    for (upstream, origin, absolute) in [
        (
            to("orders", address).wire(Wire::Http1),
            "HTTP/1.1 /17?a=b host: orders",
            "HTTP/1.1 / host: shop.example:81",
        ),
        (
            to("orders", address).wire(Wire::Http2),
            "HTTP/2.0 http://orders/17?a=b host: none",
            "HTTP/2.0 http://shop.example:81/ host: none",
        ),
        (
            to("orders", within).tls(&tls).wire(Wire::Http2),
            "HTTP/2.0 https://orders/17?a=b host: none",
            "HTTP/2.0 https://shop.example:81/ host: none",
        ),
    ] {
        let client = Client::new(upstream.build().unwrap()).unwrap();
        assert_eq!(said(&client, "/17?a=b").await, origin);
        assert_eq!(said(&client, "http://shop.example:81/").await, absolute);
    }
}

/// Callers of a client that spoke TLS itself have such origins.
#[tokio::test]
async fn https_goes_where_the_upstream_is_called_within_tls() {
    let (address, tls) = secret(echo());
    for (wire, whole) in [
        (Wire::Http1, "HTTP/1.1 /17 host: orders.example"),
        (Wire::Http2, "HTTP/2.0 https://orders.example/17 host: none"),
    ] {
        let upstream = || to("orders", address).wire(wire).tls(&tls).build().unwrap();
        let client = Client::new(upstream()).unwrap();
        assert!(client.upstreams()[0].is_secure());
        for scheme in ["https", "http"] {
            assert_eq!(said(&client, &format!("{scheme}://orders.example/17")).await, whole);
        }
        // Of several, too; a handle is for one.
        let other = to("other", plain(echo()).await).build().unwrap();
        let client = Client::of([upstream().into(), other.into()]).unwrap();
        assert!(said(&client, "https://orders/17").await.contains("orders"));
        let handle = client.upstream("orders").unwrap();
        assert_eq!(said(&handle, "https://orders.example/17").await, whole);
        refused(&client, "https://other/").await;
    }
}

async fn refused(client: &Client, uri: &str) {
    let answer = soon(client.send(http::Request::get(uri).body(Empty::<Bytes>::new()).unwrap())).await;
    let reason = answer.extensions().get::<Rejection>().map(Rejection::reason);
    assert_eq!((answer.status().as_u16(), reason), (501, Some(Reason::NotImplemented)), "{uri}");
}

/// A version or a mirror in the clear would be told what was meant to be secret.
#[tokio::test]
async fn https_is_refused_where_a_part_of_the_destination_is_plain() {
    let (address, tls) = secret(echo());
    let secure = || to("secure", address).tls(&tls).build().unwrap();
    let asked = Arc::new(Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = to("open", listener.local_addr().unwrap());
    let (notify, open) = (Arc::clone(&asked), open.build().unwrap());
    tokio::spawn(async move {
        let _ = listener.accept().await;
        notify.notify_one();
    });
    assert!(secure().is_secure() && !open.is_secure());
    let split = Destination::split("orders").backend(secure(), 1).backend(open.clone(), 1);
    let mirrored = Destination::new(secure()).mirror(open, mirror::Policy::new("open"));
    for destination in [split, mirrored] {
        let client = Client::new(destination).unwrap();
        for _ in 0..20 {
            refused(&client, "https://orders/").await;
        }
    }
    assert!(timeout(Duration::from_millis(100), asked.notified()).await.is_err(), "nobody has connected");
}

#[tokio::test]
async fn a_generated_client_keeps_its_origin_of_https() {
    let (_, health) = tonic_health::server::health_reporter();
    let authority = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&authority);
    let app = Router::new().route_service("/grpc.health.v1.Health/{*method}", health).layer(
        axum::middleware::from_fn(move |request: Request, next: axum::middleware::Next| {
            seen.lock().unwrap().push(told(&request));
            next.run(request)
        }),
    );
    let (address, tls) = secret(app);
    let client = Client::new(to("orders", address).tls(&tls).build().unwrap()).unwrap();
    let mut stub = HealthClient::with_origin(client, "https://orders.example".parse().unwrap());
    let answer = soon(stub.check(HealthCheckRequest { service: String::new() })).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
    let seen = authority.lock().unwrap();
    assert_eq!(*seen, ["HTTP/2.0 https://orders.example/grpc.health.v1.Health/Check host: none"]);
}

/// Answers each word as soon as it has come; its head once it has had the first, of which it tells.
#[derive(Clone)]
struct Answering(Arc<Notify>);

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<Bytes> for Answering {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let first = Arc::clone(&self.0);
        Box::pin(async move {
            let mut words = request.into_inner();
            let begun = words.message().await?.ok_or_else(|| Status::internal("no words"))?;
            first.notify_one();
            let hurried = words.message().await?.ok_or_else(|| Status::internal("one word"))?;
            let answers = tokio_stream::iter([Ok(begun), Ok(hurried)]).chain(words);
            let answers: Answers =
                Box::pin(answers.map(|word| word.map(|word| [&word[..], b"!"].concat().into())));
            Ok(Response::new(answers))
        })
    }
}

/// Each word is sent once the one before is known to have come, so that nothing moves if anything waits for the whole body: not
/// the retries that are there by default, and not a hedge that is late at once.
#[tokio::test]
async fn both_sides_of_a_stream_talk_in_turns() {
    let first = Arc::new(Notify::new());
    let answering = Answering(Arc::clone(&first));
    let talk = move |request: Request| {
        let answering = answering.clone();
        async move { tonic::server::Grpc::new(Bare).streaming(answering, request).await }
    };
    let address = plain(Router::new().fallback(talk)).await;
    let upstream = || to("words", address).build().unwrap();
    let hedge = hedge::Policy::after(Duration::from_millis(1)).danger_any_method();
    let handle = hedge.handle();
    let hedged =
        Destination::new(upstream()).policies(ClientLayer::new().retry(Default::default()).hedge(hedge));
    for destination in [Destination::new(upstream()), hedged] {
        let mut client = tonic::client::Grpc::new(Client::new(destination).unwrap());
        let (say, words) = tokio::sync::mpsc::channel(1);
        say.send("first".into()).await.unwrap();
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/words.Words/Talk");
        let calling = client.streaming(tonic::Request::new(ReceiverStream::new(words)), path, Bare);
        let speaking = async {
            soon(first.notified()).await;
            say.send("second".into()).await.unwrap();
        };
        let (answer, ()) = soon(async { tokio::join!(calling, speaking) }).await;
        let mut answers: Streaming<Bytes> = answer.unwrap().into_inner();
        for expected in ["first!", "second!"] {
            assert_eq!(soon(answers.message()).await.unwrap().as_deref(), Some(expected.as_bytes()));
        }
        for turn in 0..20 {
            say.send(turn.to_string().into()).await.unwrap();
            assert_eq!(soon(answers.message()).await.unwrap(), Some(format!("{turn}!").into()));
        }
        drop(say);
        assert_eq!(soon(answers.message()).await.unwrap(), None);
    }
    assert_eq!(handle.hedges(), 0, "what has not come to its end is not sent twice");
}
