//! The vocabulary in the frameworks that it is used with, and what it costs.

use std::hint::black_box;
use std::num::NonZeroU16;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis::backoff::Backoff;
use portcullis::chance::Chance;
use portcullis::identity::{
    AssertedHeaders, ClientAddr, ForwardingHeader, PeerAddr, Principal, TrustedProxies,
};
use portcullis::ratio::Ratio;
use portcullis::window::Window;
use tokio::time::Instant;

#[track_caller]
fn allocates_nothing(work: impl FnOnce()) {
    let allocations = allocation_counter::measure(work);
    assert_eq!(allocations.count_total, 0);
}

#[test]
fn walking_forwarding_headers_allocates_nothing() {
    let trusted: TrustedProxies = "10.0.0.0/8, 2001:db8::/32".parse().unwrap();
    let peer = PeerAddr::new("10.0.0.5:41000".parse().unwrap());
    let mut headers = HeaderMap::new();
    headers.append("x-forwarded-for", HeaderValue::from_static("junk, 192.0.2.7, 10.1.1.1"));
    headers.append("x-forwarded-for", HeaderValue::from_static("10.2.2.2"));
    headers.insert(
        "forwarded",
        HeaderValue::from_static(r#"for=192.0.2.7;proto=https, for="10.1.1.1:80", for=10.2.2.2"#),
    );
    for header in [ForwardingHeader::Either, ForwardingHeader::Forwarded, ForwardingHeader::XForwarded] {
        let trusted = trusted.clone().header(header);
        allocates_nothing(|| {
            let client = ClientAddr::resolve(peer, &headers, &trusted);
            assert_eq!(client.ip(), std::net::Ipv4Addr::new(192, 0, 2, 7));
        });
    }
}

#[test]
fn stripping_asserted_headers_allocates_nothing() {
    let asserted: AssertedHeaders =
        ["x-user", "x-tenant", "x-forwarded-client-cert"].map(HeaderName::from_static).into_iter().collect();
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("shop.example"));
    for name in ["x-user", "x-tenant", "x-forwarded-client-cert"] {
        headers.append(name, HeaderValue::from_static("root"));
        headers.append(name, HeaderValue::from_static("admin"));
    }
    allocates_nothing(|| assert_eq!(asserted.strip(&mut headers), 3));
    assert_eq!(headers.len(), 1);
}

#[test]
fn deciding_and_counting_allocates_nothing() {
    const SIZE: NonZeroU16 = NonZeroU16::new(10).unwrap();
    let chance = Chance::seeded(1);
    let principal = Principal::new("p", "i", "s").with_scopes(["a b", "c"]).with_roles(["r"]);
    let now = Instant::now();
    let windows = [Window::by_time(Duration::from_secs(1), SIZE), Window::by_count(SIZE)];
    allocates_nothing(|| {
        black_box((chance.ratio(Ratio::percent(2)), chance.below(7), Backoff::default().delay(3, &chance)));
        assert!(principal.clone().has_scope("b") && principal.has_role("r"));
        for window in &windows {
            window.record(now, [true, false]);
            assert_eq!(window.totals(now), [1, 0]);
        }
    });
}

#[cfg(feature = "axum")]
mod extractors {
    use axum::{Router, body::Body, routing::get};
    use http::{HeaderValue, Request, StatusCode, header};
    use http_body_util::BodyExt;
    use portcullis::{
        context::{Context, Deadline, RequestId},
        identity::{ClientAddr, PeerAddr, PeerIdentity, Principal},
        reject::{Reason, Rejection},
    };
    use std::time::Duration;
    use tokio::time::Instant;
    use tower::ServiceExt;

    fn app() -> Router {
        Router::new()
            .route("/client", get(async |client: ClientAddr| client.to_string()))
            .route("/peer", get(async |peer: PeerAddr| peer.to_string()))
            .route("/certificate", get(async |peer: PeerIdentity| peer.subject().to_owned()))
            .route("/principal", get(async |principal: Principal| principal.subject().to_owned()))
            .route("/id", get(async |id: RequestId| id.to_string()))
            .route("/deadline", get(async |until: Deadline| until.is_imposed().to_string()))
            .route("/context", get(async |context: Context| format!("{:?}", context.request_id())))
            .route("/refuses", get(async || Err::<(), _>(Rejection::new(Reason::Forbidden))))
            .route(
                "/maybe",
                get(async |principal: Option<Principal>, client: Option<ClientAddr>| {
                    format!("{} {}", principal.is_some(), client.is_some())
                }),
            )
    }

    async fn ask(
        path: &str,
        tell: impl FnOnce(&mut http::Extensions),
    ) -> (StatusCode, String, Option<String>) {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        tell(request.extensions_mut());
        let response = app().oneshot(request).await.unwrap();
        let challenge =
            response.headers().get(header::WWW_AUTHENTICATE).map(|it| it.to_str().unwrap().to_owned());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), challenge)
    }

    #[tokio::test]
    async fn tell_what_was_told_outside() {
        let address: std::net::SocketAddr = "[::ffff:192.0.2.7]:80".parse().unwrap();
        for (path, expected) in [
            ("/client", "192.0.2.7:80"),
            ("/peer", "192.0.2.7:80"),
            ("/certificate", "CN=orders"),
            ("/principal", "alice"),
            ("/maybe", "true true"),
            ("/id", "a-1"),
            ("/deadline", "false"),
            ("/context", r#"Some(RequestId("a-1"))"#),
        ] {
            let (status, body, _) = ask(path, |extensions| {
                extensions.insert(ClientAddr::from(address));
                extensions.insert(PeerAddr::from(address));
                extensions.insert(PeerIdentity::new([0; 32]).with_subject("CN=orders"));
                extensions.insert(Principal::new("customers", "https://id.example", "alice"));
                extensions.insert(RequestId::new(HeaderValue::from_static("a-1")).unwrap());
                extensions.insert(Deadline::after(Instant::now(), Duration::from_secs(1)));
                let context = Context::of(extensions);
                extensions.insert(context);
            })
            .await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, expected), "{path}");
        }
    }

    #[tokio::test]
    async fn refuse_what_was_not() {
        for (path, expected) in [
            ("/client", StatusCode::INTERNAL_SERVER_ERROR),
            ("/peer", StatusCode::INTERNAL_SERVER_ERROR),
            ("/certificate", StatusCode::UNAUTHORIZED),
            ("/principal", StatusCode::UNAUTHORIZED),
            ("/id", StatusCode::INTERNAL_SERVER_ERROR),
            ("/deadline", StatusCode::INTERNAL_SERVER_ERROR),
            ("/context", StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let (status, _, challenge) = ask(path, |_| {}).await;
            assert_eq!(status, expected, "{path}");
            assert_eq!(challenge.as_deref(), (path == "/principal").then_some("Bearer"), "{path}");
        }
        assert_eq!(ask("/maybe", |_| {}).await.1, "false false");
    }

    #[tokio::test]
    async fn a_handler_refuses_as_our_layers_do() {
        let (status, body, _) = ask("/refuses", |_| {}).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], 403, "{body}");
    }

    #[tokio::test]
    async fn take_nobody_for_nobody() {
        let nobody = |extensions: &mut http::Extensions| _ = extensions.insert(Principal::anonymous());
        assert_eq!(ask("/principal", nobody).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(ask("/maybe", nobody).await.1, "false false");
    }
}
