//! The mesh client, as tonic's clients and code of hyper's use it.
#![cfg(feature = "mesh")]

use std::{future::Future, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, extract::Request, response::IntoResponse, routing::any};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use portcullis::{
    admission::concurrency::Concurrency,
    body::{Body, BoxError},
    identity::PeerAddr,
    key::Key,
    ratio::Ratio,
    reject::{RaiseLayer, Reason, Rejection, RescueLayer},
    resilience::{
        budget::Budget,
        hedge::{self, HedgeLayer},
        retry::{Policy, RetryLayer},
    },
    routing::mirror,
    stack::{
        Contradiction,
        gateway::Backend,
        mesh::{Client, ClientLayer, Destination, InvalidClient, ServerLayer},
        order,
    },
    trip::State,
    upstream::{Proxy, Upstream, outlier::Cause},
};
use tokio::{net::TcpListener, sync::Notify, time::timeout};
use tonic::Code;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::log::Log;

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// A service that tells its name and what it was asked with, one header a line.
async fn named(name: &'static str) -> SocketAddr {
    let tell = move |request: Request| async move {
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        format!("{name} {}\n{}", request.uri(), headers.collect::<String>())
    };
    serve(Router::new().fallback(tell)).await
}

/// Where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn upstream(name: &str, endpoint: SocketAddr) -> Upstream {
    Upstream::builder(name).endpoint(endpoint.to_string()).build().unwrap()
}

fn get(uri: &str) -> http::Request<Empty<Bytes>> {
    http::Request::get(uri).body(Empty::new()).unwrap()
}

async fn said(client: &Client, request: http::Request<Empty<Bytes>>) -> (StatusCode, String) {
    let (head, body) = soon(client.send(request)).await.into_parts();
    let bytes = soon(body.collect()).await.unwrap().to_bytes();
    (head.status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn one_service_is_asked_whatever_it_is_called() {
    let client = Client::to("orders", [named("orders").await.to_string()]).unwrap();
    for (uri, asked, host) in [
        ("/17?a=b", "/17?a=b", "orders"),
        ("http://orders/17", "/17", "orders"),
        ("http://shop.example:81/", "/", "shop.example:81"),
    ] {
        let (status, said) = said(&client, get(uri)).await;
        assert_eq!(status, 200);
        assert!(said.starts_with(&format!("orders {asked}\n")), "{said}");
        assert!(said.contains(&format!("host: {host}\n")), "{said}");
        assert!(!said.contains("forwarded"), "nobody is spoken for: {said}");
    }
    let mut request = get("/");
    request.headers_mut().insert("host", "own.example".parse().unwrap());
    request.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
    let (_, said) = said(&client, request).await;
    assert!(said.contains("host: own.example\n") && said.contains("x-forwarded-for: 192.0.2.1\n"), "{said}");
}

#[tokio::test]
async fn of_several_the_host_or_a_handle_says_which() {
    let (orders, stock) =
        (upstream("orders", named("orders").await), upstream("Stock", named("stock").await));
    let inner = Proxy::new(stock).host("stock.internal".parse().unwrap());
    let client = Client::of([orders.into(), Destination::new(inner)]).unwrap();
    for (uri, name) in
        [("http://orders/", "orders"), ("http://STOCK:80/", "stock"), ("http://stock/a", "stock")]
    {
        assert!(said(&client, get(uri)).await.1.starts_with(name), "{uri}");
    }
    assert!(said(&client, get("http://stock/")).await.1.contains("host: stock.internal\n"));
    for uri in ["/", "http://other/"] {
        let answer = soon(client.send(get(uri))).await;
        assert_eq!(answer.status(), 421);
        let refusal = answer.extensions().get::<Rejection>().unwrap();
        assert_eq!(refusal.reason(), Reason::Misdirected);
    }
    let handle = client.upstream("stock").unwrap();
    assert!(said(&handle, get("/")).await.1.starts_with("stock /\n"));
    assert!(said(&handle, get("http://orders/")).await.1.starts_with("stock /\n"));
    assert!(client.upstream("other").is_none());
    let names: Vec<_> = client.upstreams().iter().map(|upstream| upstream.name().to_owned()).collect();
    assert_eq!(names, ["Stock", "orders"]);
}

#[tokio::test]
async fn what_is_meant_to_be_secret_does_not_go_in_the_clear() {
    let client = Client::to("orders", [named("orders").await.to_string()]).unwrap();
    assert_eq!(said(&client, get("https://orders/")).await.0, 501);
}

#[tokio::test]
async fn contradictions_are_refused_by_name() {
    let orders = || upstream("orders", nobody());
    let ms = Duration::from_millis;
    let of = |policies| Client::new(Destination::new(orders()).policies(policies)).map(drop);
    let long = ClientLayer::new().timeout(ms(100)).attempt_timeout(ms(101));
    assert_eq!(
        of(long).unwrap_err().to_string(),
        "the calls of `orders`: an attempt may take longer than the whole call"
    );
    assert_eq!(of(ClientLayer::new().timeout(ms(100)).attempt_timeout(ms(100))), Ok(()));
    let none = Budget::new(Ratio::NEVER).floor(0, ms(1000));
    let spent = InvalidClient::Contradiction("orders".into(), Contradiction::NoBudget);
    let hedge = |at| ClientLayer::new().timeout(ms(100)).hedge(hedge::Policy::after(ms(at)));
    let late = InvalidClient::Contradiction("orders".into(), Contradiction::LateHedge);
    assert_eq!((of(hedge(100)), of(hedge(99))), (Err(late.clone()), Ok(())));
    let percentile = |least| {
        let policy = hedge::Policy::at_percentile(Ratio::percent(95)).least_delay(ms(least));
        of(ClientLayer::new().timeout(ms(100)).hedge(policy))
    };
    assert_eq!((percentile(100), percentile(99)), (Err(late), Ok(())));
    let retry = |policy| of(ClientLayer::new().timeout(ms(100)).retry(policy));
    let contradicts = |why| Err(InvalidClient::Contradiction("orders".into(), why));
    assert_eq!(retry(Policy::new(1).least_wait(ms(100))), contradicts(Contradiction::LateRetry));
    assert_eq!(retry(Policy::new(1).least_left(ms(100))), contradicts(Contradiction::NoTimeLeft));
    let broke = hedge::Policy::after(ms(10)).budget(none.clone());
    assert_eq!(of(ClientLayer::new().hedge(broke)), Err(spent.clone()));
    assert_eq!(of(ClientLayer::new().retry(Policy::new(1).budget(none.clone()))), Err(spent.clone()));
    let backend = || Backend::new(Proxy::new(orders())).retry_budget(none.clone());
    assert_eq!(Client::new(backend()).map(drop), Err(spent));
    assert_eq!(Client::new(Destination::new(backend()).policies(ClientLayer::new())).map(drop), Ok(()));
    assert_eq!(Client::of([]).map(drop), Err(InvalidClient::Empty));
    let twice = Client::of([orders().into(), Destination::split("Orders").backend(orders(), 1)]).map(drop);
    assert_eq!(twice, Err(InvalidClient::Duplicate("Orders".into())));
    let weightless = Client::new(Destination::split("orders").backend(orders(), 0)).unwrap_err();
    assert_eq!(weightless.to_string(), "the versions of `orders`: the weights sum up to zero");
    assert!(Client::to("orders", ["no port"]).is_err());
}

/// A layer has nobody to refuse it.
#[test]
fn contradictions_of_layers_are_warned_of() {
    let (log, _guard) = Log::start();
    let ms = Duration::from_millis;
    let ready = |_: http::Request<Body>| async { Ok::<_, Rejection>(http::Response::new(Body::empty())) };
    let inner = || service_fn(ready);
    let warned = |what: &str| log.ours().iter().filter(|line| line.contains(what)).count();
    let _ = ClientLayer::new().timeout(ms(100)).attempt_timeout(ms(100)).layer(inner());
    assert_eq!(log.ours(), Vec::<String>::new());
    let _ = ClientLayer::new().timeout(ms(100)).attempt_timeout(ms(101)).layer(inner());
    assert_eq!(warned("an attempt may take longer than the whole call"), 1);
    let none = Budget::new(Ratio::NEVER).floor(0, ms(1000));
    let _ = RetryLayer::new(Policy::new(1).budget(none.clone()));
    let _ = HedgeLayer::new(hedge::Policy::after(ms(10)).budget(none));
    assert_eq!(warned("its budget allows no attempt beside the first"), 2);
}

/// A client does not know that its calls are gRPC, and a hedge of these would never send anything.
#[test]
fn a_hedge_that_is_no_use_to_grpc_is_warned_of_by_name() {
    let (log, _guard) = Log::start();
    let hedge = || hedge::Policy::after(Duration::from_millis(10));
    let warned = || log.ours().iter().filter(|line| line.contains("gRPC is always POST")).count();
    let client = |policy| {
        let policies = ClientLayer::new().hedge(policy);
        Client::new(Destination::new(upstream("orders", nobody())).policies(policies)).unwrap()
    };
    let _ = (client(hedge().danger_any_method()), client(hedge().idempotent_only()));
    assert_eq!(warned(), 0, "{:?}", log.ours());
    let _ = client(hedge());
    let _ = ClientLayer::new().hedge(hedge()).layer(service_fn(async |_: http::Request<Body>| {
        Ok::<_, Rejection>(http::Response::new(Body::empty()))
    }));
    assert_eq!(warned(), 2, "{:?}", log.ours());
    assert!(log.ours()[0].contains("orders"), "{:?}", log.ours());
}

#[tokio::test]
async fn versions_share_a_name_and_a_caller_keeps_to_one() {
    let (v1, v2) = (upstream("v1", named("v1").await), upstream("v2", named("v2").await));
    let key = Key::Header(HeaderName::from_static("x-tenant"));
    let catalogue = Destination::split("catalogue").backend(v1, 1).backend(v2, 1).split_by(key);
    let client = Client::new(catalogue).unwrap();
    let version_of = async |tenant: u32| {
        let mut request = get("/");
        request.headers_mut().insert("x-tenant", tenant.into());
        let (_, said) = said(&client, request).await;
        assert!(said.contains("host: catalogue\n"), "{said}");
        said[..2].to_owned()
    };
    let mut first = Vec::new();
    for tenant in 0..20 {
        first.push(version_of(tenant).await);
    }
    assert!(first.contains(&"v1".to_owned()) && first.contains(&"v2".to_owned()));
    for (tenant, version) in first.iter().enumerate() {
        assert_eq!(version_of(tenant as u32).await, *version);
    }
}

/// Any body goes; trailers and errors come back as they are.
#[tokio::test]
async fn bodies_pass_both_ways() {
    let echo = |request: Request| async move { request.into_body() };
    let client = Client::to("echo", [serve(Router::new().fallback(echo)).await.to_string()]).unwrap();
    let frames = [
        Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(b"a"))),
        Ok(http_body::Frame::data(Bytes::from_static(b"b"))),
    ];
    let streamed = http_body_util::StreamBody::new(tokio_stream::iter(frames));
    let answer = soon(client.send(http::Request::post("/").body(streamed).unwrap())).await;
    assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "ab");
    let mut service = client.clone();
    let request = http::Request::put("/").body(Full::from("whole")).unwrap();
    let answer = soon(Service::call(&mut service, request)).await.unwrap();
    assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "whole");
}

/// A refusal is an answer, unless errors are asked for.
#[tokio::test]
async fn a_refusal_can_be_an_error() {
    let client = Client::to("nobody", [nobody().to_string()]).unwrap();
    let answer = soon(client.send(get("/"))).await;
    assert_eq!(answer.status(), 502);
    let error = soon(RaiseLayer::new().layer(client).oneshot(get("/"))).await.unwrap_err();
    assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::ConnectFailed);
}

async fn health() -> (SocketAddr, tonic_health::server::HealthReporter) {
    let (address, reporter) = crate::support::grpc::health().await;
    reporter.set_service_status("orders", ServingStatus::Serving).await;
    (address, reporter)
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn a_generated_client_takes_it_in_place_of_its_channel() {
    let (address, reporter) = health().await;
    let client = Client::to("orders", [address.to_string()]).unwrap();
    let mut stub = HealthClient::new(client.clone());
    assert_eq!(soon(stub.check(asking("orders"))).await.unwrap().into_inner().status, 1);
    assert_eq!(soon(stub.check(asking("nothing"))).await.unwrap_err().code(), Code::NotFound);
    let mut changes = soon(stub.watch(asking("orders"))).await.unwrap().into_inner();
    assert_eq!(soon(changes.message()).await.unwrap().unwrap().status, 1);
    reporter.set_service_status("orders", ServingStatus::NotServing).await;
    assert_eq!(soon(changes.message()).await.unwrap().unwrap().status, 2);
    let status = client.upstreams()[0].endpoints().remove(0);
    assert_eq!((status.connections, status.in_flight), (1, 1), "one HTTP/2 connection, one stream");
    // With an origin of its own, too.
    let origin = "http://orders.example".parse().unwrap();
    let mut stub = HealthClient::with_origin(client, origin);
    assert_eq!(soon(stub.check(asking("orders"))).await.unwrap().into_inner().status, 2);
}

/// Each reason for which a call fails on our side is the status of the table.
#[tokio::test(start_paused = true)]
async fn a_tonic_caller_is_told_the_status_of_each_reason() {
    for &reason in Reason::ALL {
        let fails = service_fn(move |_: http::Request<Body>| async move {
            Err::<http::Response<Body>, _>(Rejection::new(reason).detail("hidden"))
        });
        let client = RescueLayer::new().layer(ClientLayer::new().layer(fails));
        let status = HealthClient::new(client).check(asking("orders")).await.unwrap_err();
        assert_eq!(status.code() as i32, i32::from(reason.grpc().number()), "{reason}");
        assert_eq!(status.message(), reason.label());
    }
}

#[tokio::test]
async fn what_fails_on_the_way_is_a_status() {
    let stuck = || async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
            }
        });
        address
    };
    let ms = Duration::from_millis;
    let once = ClientLayer::new();
    let one = Concurrency::fixed("one", NonZeroU32::MIN).build().unwrap();
    for (endpoint, policies, code) in [
        (nobody(), once.clone(), Code::Unavailable),
        (stuck().await, once.clone().timeout(ms(50)), Code::DeadlineExceeded),
        (stuck().await, once.clone().timeout(ms(500)).attempt_timeout(ms(50)), Code::DeadlineExceeded),
    ] {
        let client = Client::new(Destination::new(upstream("orders", endpoint)).policies(policies)).unwrap();
        let status = soon(HealthClient::new(client).check(asking("orders"))).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    // A caller's own deadline.
    let client = Client::new(upstream("orders", stuck().await)).unwrap();
    let mut request = tonic::Request::new(asking("orders"));
    request.set_timeout(ms(50));
    let status = soon(HealthClient::new(client).check(request)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "caller_deadline"));
    // No room.
    let (address, _reporter) = health().await;
    let backend = Backend::new(Proxy::new(upstream("orders", address))).concurrency(one);
    let mut stub = HealthClient::new(Client::new(Destination::new(backend).policies(once)).unwrap());
    let _watched = soon(stub.watch(asking("orders"))).await.unwrap();
    let status = soon(stub.check(asking("orders"))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "overloaded"));
}

/// Who goes away takes with it what was asked on its behalf, down to the last service.
#[tokio::test]
async fn cancelling_a_request_cancels_the_calls_made_for_it() {
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    for grpc in [false, true] {
        let (begun, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (at_begin, at_end) = (Arc::clone(&begun), Arc::clone(&gone));
        let wait = move || {
            let (begun, gone) = (Arc::clone(&at_begin), Gone(Arc::clone(&at_end)));
            async move {
                let _gone = gone;
                begun.notify_one();
                std::future::pending::<()>().await;
            }
        };
        let stock =
            Client::to("stock", [serve(Router::new().fallback(any(wait))).await.to_string()]).unwrap();
        let handler = service_fn(move |request: http::Request<Body>| {
            let stock = stock.clone();
            async move {
                let mut call = http::Request::post("/").body(Body::from("what is left?")).unwrap();
                if let Some(kind) = request.headers().get("content-type") {
                    call.headers_mut().insert("content-type", kind.clone());
                }
                stock.oneshot(call).await
            }
        });
        let shop = ServerLayer::new().layer(handler);
        let mut request = http::Request::get("/").body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
        if grpc {
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        }
        let asked = tokio::spawn(shop.oneshot(request));
        soon(begun.notified()).await;
        asked.abort();
        soon(gone.notified()).await;
    }
}

/// What is left of a caller's time is told in plain HTTP, too, where a header is named.
#[tokio::test]
async fn the_time_that_is_left_is_told() {
    let name = HeaderName::from_static("x-timeout-ms");
    let policies = ClientLayer::new().timeout(Duration::from_secs(2)).deadline_header(name);
    let orders = upstream("orders", named("orders").await);
    let client = Client::new(Destination::new(orders).policies(policies)).unwrap();
    let left = |said: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix("x-timeout-ms: "));
        line.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    };
    assert!((1..=2_000).contains(&left(&said(&client, get("/")).await.1)));
    let mut request = get("/");
    request.headers_mut().insert("x-timeout-ms", "700".parse().unwrap());
    assert!((1..=700).contains(&left(&said(&client, request).await.1)));
}

/// Numbers are kept under the name of what is called.
#[tokio::test]
async fn calls_are_counted_by_destination() {
    let metrics = portcullis::telemetry::metrics::Metrics::new();
    let orders = upstream(
        "orders",
        serve(Router::new().fallback(|| async { StatusCode::NOT_FOUND.into_response() })).await,
    );
    let policies = ClientLayer::new().metrics(&metrics);
    let client = Client::new(Destination::new(orders).policies(policies)).unwrap();
    assert_eq!(said(&client, get("/")).await.0, 404);
    let text = metrics.render();
    assert!(text.contains(r#"portcullis_requests_total{route="orders",method="GET",status="404""#), "{text}");
}

#[test]
fn it_is_shared_by_threads_and_explains_itself() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Client>();
    sent::<portcullis::stack::mesh::ResponseFuture>();
    let text = Client::explain().to_string();
    assert_eq!(text, order::mesh_client().to_string());
    let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name}"));
    assert!(at(". deadline of the call") < at(". split") && at(". split") < at(". retry"));
    assert!(at(". retry") < at(". timeout of an attempt"));
    assert!(
        at(". timeout of an attempt") < at(". circuit breaker") && at(". circuit breaker") < at(". proxy")
    );
}

/// The whole client over its connection: what is counted beside a bare proxy's allocations.
#[test]
fn a_call_allocates_little_beside_its_connection() {
    use std::io::{Read, Write};

    let elsewhere = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            }
        });
        address
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Made of constants, as to clone a part of a buffer of one's own is to allocate once.
    let request = || {
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = http::Uri::from_static("/a/b?c");
        for (name, value) in [("host", "shop.example"), ("accept", "*/*"), ("x-request-id", "r-1")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        request
    };
    let round = async |answer: Result<http::Response<Body>, Rejection>| {
        let body = answer.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
    };
    let proxy = Proxy::new(upstream("a", elsewhere())).direct();
    let metrics = portcullis::telemetry::metrics::Metrics::new();
    let policies =
        ClientLayer::new().retry(Policy::default()).attempt_timeout(Duration::from_secs(5)).metrics(&metrics);
    let client = Client::new(Destination::new(upstream("a", elsewhere())).policies(policies)).unwrap();
    for _ in 0..10 {
        runtime.block_on(async { round(proxy.clone().oneshot(request()).await).await });
        runtime.block_on(async { round(Ok(client.send(request()).await)).await });
    }
    // Both in a box: tokio puts a large future in one where debug assertions are on.
    let bare = crate::support::least_allocations(|| {
        runtime.block_on(Box::pin(async { round(proxy.clone().oneshot(request()).await).await }));
    });
    let whole = crate::support::least_allocations(|| {
        runtime.block_on(Box::pin(async { round(Ok(client.send(request()).await)).await }));
    });
    let beside = whole.saturating_sub(bare);
    println!("{beside} allocations beside {bare}");
    assert!(beside <= 12, "{beside} allocations beside {bare}");
}

const CALLS: &str = "apiVersion: portcullis/v1alpha1\n";

/// The same policies as data, followed like a gateway's.
#[cfg(feature = "config")]
#[tokio::test]
async fn a_file_says_what_is_called_and_is_followed() {
    use portcullis::config::Config;

    let [v1, v2, dead] = [named("v1").await, named("v2").await, nobody()];
    let path = std::env::temp_dir().join(format!("portcullis-calls-{}.yaml", std::process::id()));
    let write = |rest: &str| std::fs::write(&path, format!("{CALLS}{rest}")).unwrap();
    write(&format!(
        "upstreams:\n  v1: {{ endpoints: ['{v1}', '{dead}'] }}\n  v2: {{ endpoints: ['{v2}'], host: two.internal }}\n\
         destinations:\n  all:\n    backendRefs: [{{ name: v1, weight: 0 }}, {{ name: v2 }}]\n    \
         timeouts: {{ request: 2s, backendRequest: 1s }}\n    retry: {{ attempts: 1 }}\n    \
         policies: {{ deadlineHeader: x-timeout-ms, split: {{ variantHeader: x-version }} }}\n"
    ));
    let configured = Config::file(&path).client().await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let client = configured.client().clone();
    let answer = soon(client.send(get("http://all/"))).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-version"]), (200, &"v2".parse().unwrap()));
    let text = said(&client, get("http://all/")).await.1;
    assert!(text.contains("x-timeout-ms: ") && text.contains("host: two.internal\n"), "{text}");
    for _ in 0..4 {
        assert_eq!(said(&client, get("http://v1/")).await.0, 200, "an endpoint of two is gone");
    }
    assert_eq!(said(&client, get("http://v3/")).await.0, 421);

    write("upstreams: { v1: { endpoints: [nowhere] } }");
    configured.reload();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(said(&client, get("http://v2/")).await.0, 200, "a faulty file changes nothing");
    write(&format!("upstreams: {{ v3: {{ endpoints: ['{v2}'] }} }}"));
    configured.reload();
    soon(async {
        while client.upstream("v3").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(said(&client, get("http://v3/")).await.1.starts_with("v2 /"));
    std::fs::remove_file(&path).unwrap();
}

/// Who calls, and who the services must be, as a file says it; what is renewed is shown by the next connection.
#[cfg(all(feature = "config", feature = "tls"))]
#[tokio::test]
async fn a_file_says_by_which_identity_services_are_called() {
    use portcullis::{
        config::Config,
        identity::PeerIdentity,
        tls::ServerTls,
        transport::{Drain, Listener, Server},
    };

    use crate::{
        gateway::world::Directory,
        support::certificates::{Authority, credentials, uri},
    };

    let (directory, mesh) = (Directory::new("mesh-identities"), Authority::new("mesh"));
    std::fs::create_dir(directory.path("web")).unwrap();
    let write = |id: &str| {
        let (chain, key) = mesh.sign(|params| params.subject_alt_names = vec![uri(id)]);
        directory.write("web/tls.key", &key);
        directory.write("web/tls.crt", &chain);
    };
    directory.write("web/ca.crt", &mesh.pem());
    write("spiffe://mesh.local/web");
    // Each call comes on a connection of its own.
    let who = service_fn(async |request: http::Request<Body>| {
        let peer =
            request.extensions().get::<PeerIdentity>().and_then(|peer| peer.name()).unwrap_or("nobody");
        let answer = http::Response::builder().header("connection", "close");
        Ok::<_, std::convert::Infallible>(answer.body(Body::from(peer.to_owned())).unwrap())
    });
    let theirs = credentials(mesh.workload("spiffe://mesh.local/orders"), mesh.trust());
    let listener =
        Listener::builder().tls(ServerTls::mutual(&theirs)).bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (port, drain) = (listener.local_addr().unwrap().port(), Drain::new());
    tokio::spawn(Server::new().drain(&drain).serve(listener, who));
    let upstream = |name: &str, tls: &str| {
        format!("  {name}: {{ endpoints: ['localhost:{port}'], tls: {{ {tls} }} }}\n")
    };
    let text = [
        CALLS.to_owned(),
        "identities: { web: { directory: web } }\nupstreams:\n".to_owned(),
        upstream("orders", "identity: web, spiffeId: spiffe://mesh.local/orders"),
        upstream("of-the-domain", "identity: web, trustDomain: mesh.local"),
        upstream("impostor", "identity: web, spiffeId: spiffe://mesh.local/payments"),
        upstream("as-nobody", "roots: web/ca.crt, serverName: localhost"),
        "  plain: { endpoints: ['localhost:PORT'] }\n".replace("PORT", &port.to_string()),
    ];
    directory.write("calls.yaml", &text.concat());
    let configured = Config::file(directory.path("calls.yaml")).client().await.unwrap();
    let client = configured.client().clone();
    for name in ["orders", "of-the-domain"] {
        let (status, text) = said(&client, get(&format!("http://{name}/"))).await;
        assert_eq!((status.as_u16(), &*text), (200, "spiffe://mesh.local/web"), "{name}");
    }
    for name in ["impostor", "as-nobody", "plain"] {
        let (status, text) = said(&client, get(&format!("http://{name}/"))).await;
        assert_eq!(status.as_u16(), 502, "{name}: {text}");
    }
    write("spiffe://mesh.local/renewed");
    soon(async {
        while said(&client, get("http://orders/")).await.1 != "spiffe://mesh.local/renewed" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A copy of each call goes to a shadow, said in Rust and in a file; what is no mirror is refused there.
#[cfg(feature = "config")]
#[tokio::test]
async fn calls_are_mirrored() {
    use portcullis::config::Config;

    let copies = Arc::new(Notify::new());
    let told = Arc::clone(&copies);
    let shadow = serve(Router::new().fallback(move || {
        told.notify_one();
        std::future::pending::<()>() // nobody waits for it
    }))
    .await;
    let v1 = named("v1").await;
    let policy = mirror::Policy::new("shadow");
    let handle = policy.handle();
    let destination = Destination::new(upstream("orders", v1)).mirror(upstream("shadow", shadow), policy);
    let client = Client::new(destination).unwrap();
    assert_eq!(client.upstreams().iter().map(Upstream::name).collect::<Vec<_>>(), ["orders", "shadow"]);
    assert!(said(&client, get("http://orders/1")).await.1.starts_with("v1 /1"));
    soon(copies.notified()).await;
    assert_eq!((handle.begun(), handle.in_flight()), (1, 1));

    let file = |filter: &str| {
        format!(
            "{CALLS}upstreams: {{ orders: {{ endpoints: ['{v1}'] }}, shadow: {{ endpoints: ['{shadow}'] }} }}\n\
             destinations: {{ orders: {{ filters: [{filter}], policies: {{ mirror: {{ maxInFlight: 1 }} }} }} }}\n"
        )
    };
    let to_shadow = "{ type: RequestMirror, requestMirror: { backendRef: { name: shadow } } }";
    let configured = Config::text("f", file(to_shadow)).client().await.unwrap();
    for _ in 0..2 {
        assert!(said(configured.client(), get("http://orders/2")).await.1.starts_with("v1 /2"));
    }
    soon(copies.notified()).await;
    let other = file("{ type: URLRewrite, urlRewrite: { hostname: a.example } }");
    let faults = Config::text("f", other).client().await.map(drop).unwrap_err();
    let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(text[0].contains("filters[0].type: a client has `RequestMirror` alone"), "{text:?}");
}

/// Upstreams have all that a gateway's have: they are found, asked and judged.
#[cfg(feature = "config")]
#[tokio::test]
async fn endpoints_are_found_and_watched_as_a_file_says() {
    use portcullis::config::Config;

    let failing = || async { StatusCode::INTERNAL_SERVER_ERROR };
    let bad = serve(Router::new().route("/healthz", any(|| async { "ok" })).fallback(failing)).await;
    let [one, two] = [named("one").await, named("two").await];
    let folder = std::env::temp_dir().join(format!("portcullis-found-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let list = |endpoints: &[SocketAddr]| {
        let endpoints: Vec<_> = endpoints.iter().map(|at| format!("'{at}'")).collect();
        std::fs::write(folder.join("list.yaml"), format!("endpoints: [{}]", endpoints.join(", "))).unwrap();
    };
    list(&[one, bad]);
    let file = folder.join("client.yaml");
    let orders = "discovery: { file: list.yaml }, outlierDetection: { consecutive5xx: 3 }, maxStreams: 10, \
                  healthCheck: { http: { path: /healthz }, interval: 20ms, intervalJitter: 1ms, waitForFirst: true }, \
                  maxConnectionAge: 1m, http2KeepAlive: { interval: 10s }, preconnect: true";
    std::fs::write(&file, format!("{CALLS}upstreams: {{ orders: {{ {orders} }} }}")).unwrap();
    let configured = Config::file(&file).client().await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let client = configured.client().clone();
    // They are not tried again.
    let order = || http::Request::post("http://orders/").body(Empty::new()).unwrap();
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(said(&client, order()).await.0 == 500);
    }
    assert_eq!(failed, 3, "then it is left out");
    let answers = async |name: &str| {
        soon(async {
            while !said(&client, order()).await.1.starts_with(name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    list(&[two, bad]);
    answers("two /").await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What is called by a client that has everything, and a failing service beside.
#[cfg(feature = "config")]
fn everything([old, new, bad]: [SocketAddr; 3], more: &str) -> String {
    let upstreams = format!(
        "  old: {{ endpoints: ['{old}'] }}\n  new: {{ endpoints: ['{new}'] }}\n  bad: {{ endpoints: ['{bad}'], \
         circuitBreaker: {{ consecutiveFailures: 100 }}, outlierDetection: {{ consecutive5xx: 1 }} }}\n{more}"
    );
    let shop = "backendRefs: [{ name: old }, { name: new }], policies: { split: { canary: { steps: [1%] } }, \
                fault: { abort: { httpStatus: 503, share: 100% } } }";
    format!("{CALLS}upstreams:\n{upstreams}destinations: {{ Shop: {{ {shop} }} }}\n")
}

/// What is told of it, once it was called.
#[cfg(feature = "config")]
const TOLD: [&str; 9] = [
    r#"portcullis_requests_total{route="Shop",variant="new",method="GET",status="200""#,
    r#"portcullis_retries_total{route="bad"} 2"#,
    r#"portcullis_upstream_attempts_total{upstream="bad",verdict="server_fault"} 3"#,
    r#"portcullis_upstream_attempt_duration_seconds_count{upstream="bad"} 3"#,
    r#"portcullis_retry_budget_calls_total{upstream="bad"} "#,
    r#"portcullis_upstream_endpoints{upstream="old"} 1"#,
    r#"portcullis_outlier_ejections_total{upstream="bad",cause="consecutive_5xx"} 0"#,
    r#"portcullis_circuit_breaker_state{kind="upstream",name="bad",state="open"} 1"#,
    r#"portcullis_canary_state{route="Shop",state="promoted"} 1"#,
];

/// A client from a file is counted and steered as a gateway is, also by what it says anew.
#[cfg(feature = "config")]
#[tokio::test]
async fn a_client_from_a_file_has_numbers_and_handles() {
    use portcullis::{config::Config, telemetry::metrics::Metrics};

    let bad = serve(Router::new().fallback(|| async { StatusCode::SERVICE_UNAVAILABLE })).await;
    let [old, new] = [named("old").await, named("new").await];
    let path = std::env::temp_dir().join(format!("portcullis-told-{}.yaml", std::process::id()));
    let write = |more: &str| std::fs::write(&path, everything([old, new, bad], more)).unwrap();
    write("");
    let configured = Config::file(&path).client().await.unwrap_or_else(|faults| panic!("{faults:?}"));
    let client = configured.client().clone();
    assert_eq!(said(&client, get("http://shop/")).await.0, 503);
    client.fault("shop").unwrap().stop();
    client.canary("shop").unwrap().promote();
    assert!(said(&client, get("http://shop/")).await.1.starts_with("new /"));
    assert_eq!(said(&client, get("http://bad/")).await.0, 503);
    let breaker = client.circuit_breaker("bad").unwrap();
    breaker.force_open();
    let refused = soon(client.send(get("http://bad/"))).await;
    assert_eq!(refused.extensions().get::<Rejection>().unwrap().reason(), Reason::CircuitOpen);
    assert!(client.circuit_breaker("old").is_none() && client.canary("bad").is_none());
    let ejections = client.upstreams()[0].ejections().unwrap();
    assert!(ejections.spared(Cause::Consecutive5xx) > 0, "the last one is not left out");
    let tells = |sample: &str| {
        let told = configured.metrics().render();
        assert!(told.contains(sample), "{sample} is not in {told}");
    };
    TOLD.iter().for_each(|sample| tells(sample));

    write(&format!("  more: {{ endpoints: ['{old}'] }}\n"));
    configured.reload();
    soon(async {
        while client.upstream("more").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    tells(r#"portcullis_upstream_endpoints{upstream="more"} 1"#);
    tells(r#"portcullis_canary_state{route="Shop",state="promoted"} 1"#);
    assert_eq!(said(&client, get("http://bad/")).await.0, 503);
    breaker.force_closed();
    assert_eq!(client.circuit_breaker("bad").unwrap().state(), State::Closed, "it is the same");

    // Beside other numbers of the process, where these are kept already.
    let metrics = Metrics::builder().namespace("shop").build();
    let other = Config::file(&path).metrics(&metrics).client().await.unwrap();
    assert!(said(other.client(), get("http://old/")).await.1.starts_with("old /"));
    let told = metrics.render();
    assert!(
        told.contains(r#"shop_requests_total{route="old""#) && told.contains("shop_canary_state"),
        "{told}"
    );
    drop((other, configured, client));
    // Who is gone tells nothing.
    soon(async {
        while metrics.render().contains("shop_canary_state") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    std::fs::remove_file(&path).unwrap();
}

#[cfg(feature = "config")]
#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_at_its_place() {
    use portcullis::config::Config;

    for (rest, told) in [
        (
            "upstreams: { a: { endpoints: ['h:1'] } }\ndestinations: { b: {} }",
            "3:17: destinations.b: no upstream of this name",
        ),
        (
            "upstreams: { a: { endpoints: ['h:1'] }, A: { endpoints: ['h:1'] } }",
            "two destinations are called `a`",
        ),
        (
            "upstreams: { a: { endpoints: ['h:1'] } }\ndestinations: { a: { timeouts: { request: 1s, backendRequest: 2s } } }",
            "destinations.a.timeouts.backendRequest: longer than `request`",
        ),
        ("upstreams: { a: { endpoints: ['h:1'] } }\nroutes: []", "3:1: routes: unknown field"),
        ("upstreams: {}", "upstreams"),
    ] {
        let faults = Config::text("f", format!("{CALLS}{rest}")).client().await.map(drop).unwrap_err();
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|fault| fault.contains(told)), "{told}: {text:?}");
    }
    // A hedge that says nothing of methods is warned of in the log, and may be meant.
    for (hedge, warnings) in [
        ("delay: 5ms", 1),
        ("delay: 5ms, dangerAnyMethod: false", 0),
        ("delay: 5ms, dangerAnyMethod: true", 0),
    ] {
        let text = format!(
            "{CALLS}upstreams: {{ a: {{ endpoints: ['h:1'] }} }}\ndestinations: {{ a: {{ policies: {{ hedge: {{ {hedge} }} }} }} }}"
        );
        let (log, _guard) = Log::start();
        Config::text("f", text).client().await.unwrap();
        let told =
            log.ours().into_iter().filter(|line| line.contains("gRPC is always POST")).collect::<Vec<_>>();
        assert_eq!(told.len(), warnings, "{told:?}");
        assert!(told.iter().all(|line| line.contains("destinations.a.policies.hedge")), "{told:?}");
    }
    let none = "upstreams: { a: { endpoints: ['h:1'], retryConstraint: { budget: { percent: 0 }, minRetryRate: { count: 0 } } } }";
    Config::text("f", format!("{CALLS}{none}")).client().await.unwrap();
}
