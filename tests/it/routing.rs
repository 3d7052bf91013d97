//! Requests as they come over the wire, through the router, the filters and the split, to real servers.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use portcullis::{
    body::Body,
    gate::{Gate, GateLayer, Gates},
    key::{Key, RouteName},
    matching::{HostPattern, Normalize, PathPolicy, PathQuirk, RequestMatch},
    routing::{
        filter::{Cors, HeaderChanges, PathChange, Redirect, Rewrite, Scheme},
        router::{Router, RouterLayer, Rule},
        split::{Policy, Split},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

/// Says what it got: the rule, the target and the host.
async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let rule = request.extensions().get::<RouteName>().map_or("-", |name| &*name.0);
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("-");
    let text = format!("{rule} {} {host}", request.uri());
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// Serves every connection to the address that is returned, HTTP/1 and HTTP/2.
async fn serve<S, ResB>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<ResB>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    ResB:
        http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// The status and the body of the answer to these bytes.
async fn raw(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn get(address: SocketAddr, target: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n");
    raw(address, request.as_bytes()).await
}

type Backend = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

fn behind<G: Gate>(gate: G) -> Backend {
    let service = GateLayer::new(gate).layer(service_fn(echo));
    BoxCloneSyncService::new(service.map_response(|response| response.map(Body::new)))
}

fn shop() -> Backend {
    let rule = |name: &'static str, path, gate| {
        let shop = HostPattern::parse("shop.example").unwrap();
        Rule::new(name, gate).host(shop).when(RequestMatch::prefix(path).unwrap())
    };
    let change = |from, to| PathChange::prefix(from, to).unwrap();
    let old = Redirect::new().path(change("/old", "/new")).status(301).unwrap().listener(Scheme::Https, 443);
    let router = Router::builder()
        .rule(rule("admin", "/admin", behind(Gates::new())))
        .rule(rule("catalogue", "/catalogue", behind(Rewrite::new().path(change("/catalogue", "/")))))
        .rule(rule("old", "/old", behind(old)));
    let service = GateLayer::new(Normalize::new()).layer(router.build().unwrap().into_service());
    BoxCloneSyncService::new(service.map_response(|response| response.map(Body::new)))
}

#[tokio::test]
async fn what_was_matched_is_what_the_upstream_gets() {
    let address = serve(shop()).await;
    for (target, status, body) in [
        ("/catalogue/books?q=%2e", 200, "catalogue /books?q=%2e shop.example"),
        ("/catalogue", 200, "catalogue / shop.example"),
        ("/x/../admin", 200, "admin /admin shop.example"),
        ("//admin", 200, "admin /admin shop.example"),
        ("/%61dmin/", 200, "admin /admin/ shop.example"),
        ("/catalogue/%2e%2e/admin", 200, "admin /admin shop.example"),
    ] {
        assert_eq!(get(address, target).await, (status, body.to_owned()), "{target}");
    }
    assert_eq!(get(address, "/administration").await.0, 404);
}

#[tokio::test]
async fn ambiguous_paths_reach_nobody() {
    let address = serve(shop()).await;
    for target in [
        "/catalogue/..%2fadmin",
        "/catalogue/..;/admin",
        "/catalogue\\..\\admin",
        "/a%00",
        "/..",
        "/%zz",
        "/a%5cb",
    ] {
        assert_eq!(get(address, target).await.0, 400, "{target}");
    }
}

#[tokio::test]
async fn a_request_has_one_host_or_none_at_all() {
    let address = serve(shop()).await;
    for (hosts, target, status) in [
        ("host: shop.example\r\n", "/admin", 200),
        ("host: SHOP.example.:8080\r\n", "/admin", 200),
        ("host: shop.example\r\n", "http://shop.example/admin", 200),
        ("", "/admin", 400),
        ("host:\r\n", "/admin", 400),
        ("host: shop.example\r\nhost: shop.example\r\n", "/admin", 400),
        ("host: shop.example\r\nhost: b.example\r\n", "/admin", 400),
        ("host: b.example\r\n", "http://shop.example/admin", 400),
        ("host: shop.example/x\r\n", "/admin", 400),
        ("host: a@shop.example\r\n", "/admin", 400),
        ("host: b.example\r\n", "/admin", 404),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        assert_eq!(raw(address, request.as_bytes()).await.0, status, "{hosts:?} {target}");
    }
}

#[tokio::test]
async fn a_redirect_says_where_to() {
    let address = serve(shop()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://shop.example/old/x?y=1").body(Empty::<Bytes>::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 301);
    assert_eq!(response.headers()["location"], "https://shop.example/new/x?y=1");
}

#[tokio::test]
async fn http2_is_routed_by_its_authority_and_grpc_is_answered_as_such() {
    let address = serve(shop()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://shop.example/./admin").body(Empty::<Bytes>::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "admin http://shop.example/admin -");
    for (path, code) in [("/orders.Orders/List", "12"), ("/..", "13")] {
        let request =
            Request::post(format!("http://shop.example{path}")).header("content-type", "application/grpc");
        let response = client.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()),
            (200, code)
        );
    }
}

#[tokio::test]
async fn filters_run_in_a_slice_around_an_axum_router() {
    let gates = Gates::new()
        .with(Cors::new().allow_origin("https://*.shop.example").unwrap().allow_method(Method::PUT))
        .with(
            HeaderChanges::new()
                .set(HeaderName::from_static("x-served-by"), HeaderValue::from_static("portcullis"))
                .unwrap()
                .for_responses(),
        )
        .with(Rewrite::new().path(PathChange::prefix("/api", "").unwrap()));
    // An axum router matches before its layers run: what rewrites stands around it.
    let app = axum::Router::new().route("/books", axum::routing::put(async || "stored"));
    let service = GateLayer::new(gates).layer(app);

    let preflight = Request::options("/api/books")
        .header("origin", "https://a.shop.example")
        .header("access-control-request-method", "PUT")
        .body(axum::body::Body::empty());
    let response = service.clone().oneshot(preflight.unwrap()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["access-control-allow-methods"]),
        (204, &HeaderValue::from_static("PUT"))
    );

    let put =
        Request::put("/api/books").header("origin", "https://a.shop.example").body(axum::body::Body::empty());
    let response = service.oneshot(put.unwrap()).await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "https://a.shop.example");
    assert_eq!(response.headers()["x-served-by"], "portcullis");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "stored");
}

#[tokio::test]
async fn a_router_with_policies_stands_in_a_tonic_server() {
    // gRPC methods are paths: a rule for a service is a prefix, one for a method an exact path.
    let layer = RouterLayer::new(
        Router::builder()
            .rule(
                Rule::new("health", GateLayer::new(Normalize::new()))
                    .when(RequestMatch::exact("/grpc.health.v1.Health/Check").unwrap()),
            )
            .build()
            .unwrap(),
    );
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));

    let channel =
        tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let check = || tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert!(client.check(check()).await.is_ok());
    let refused = client.watch(check()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_split_is_sticky_over_the_wire() {
    let tenant = HeaderName::from_static("x-tenant");
    let version = HeaderName::from_static("x-version");
    let serve_split = || async {
        let policy = Policy::sticky(Key::Header(tenant.clone()), "orders").tell_client(version.clone());
        let variants =
            Split::builder().variant("stable", 1, service_fn(echo)).variant("canary", 1, service_fn(echo));
        serve(variants.build().unwrap().into_service(policy)).await
    };
    // Two instances, as after a restart.
    let (one, two) = (serve_split().await, serve_split().await);
    let mut seen = std::collections::HashSet::new();
    for number in 0..20 {
        let mut versions = Vec::new();
        for address in [one, two, one] {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut client, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request =
                Request::get("/").header("host", "a").header(&tenant, number).body(Empty::<Bytes>::new());
            let response = client.send_request(request.unwrap()).await.unwrap();
            versions.push(response.headers()[&version].to_str().unwrap().to_owned());
        }
        assert!(versions.iter().all(|of| *of == versions[0]), "{versions:?}");
        seen.extend(versions);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_rule_may_be_stricter_than_its_listener() {
    let rule = PathPolicy::strict();
    let listener = rule.union(PathPolicy::strict().allow(PathQuirk::EncodedSlash));
    let gates = Gates::new().with(Normalize::new().paths(listener)).with(Normalize::new().paths(rule));
    let service = GateLayer::new(gates).layer(service_fn(echo));
    let request = Request::get("/a%2fb").header("host", "a").body(()).unwrap();
    let response = tokio_test::block_on(service.oneshot(request)).unwrap();
    assert_eq!(response.status(), 400);
}
