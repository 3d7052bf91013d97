mod callers;
mod ours;
mod refused;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::json;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{
    answer::{Answer, bearer},
    *,
};
use crate::{
    authn::oauth::{
        Client,
        stub::{Manner, Stub},
    },
    body::{
        Body,
        script::{Script, Step},
    },
    context::Context,
    identity::CallerToken,
    reject::{Reason, Rejection},
};

const SECOND: Duration = Duration::from_secs(1);

fn token(name: &str, lives: u64) -> String {
    json!({ "access_token": name, "token_type": "Bearer", "expires_in": lives }).to_string()
}

fn ours(stub: &Stub) -> TokenSource {
    let endpoint = stub.endpoint(Client::secret_basic("orders", "hush"));
    TokenSource::client_credentials(TokenRequest::new(endpoint).scopes(["stock.read", "stock.write"]))
}

/// The service that is called: it takes one token, and writes down what it is shown.
#[derive(Clone, Default)]
struct Stock {
    takes: Arc<Mutex<Option<&'static str>>>,
    seen: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    grpc: bool,
}

impl Stock {
    fn takes(&self, token: &'static str) {
        *self.takes.lock().unwrap() = Some(token);
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn behind(
        &self,
        source: &TokenSource,
    ) -> impl Service<
        Request<Body>,
        Response = Response<crate::body::ResponseBody<Body>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + use<> {
        let this = self.clone();
        OutboundLayer::new(source.clone()).layer(service_fn(move |call: Request<Body>| {
            let this = this.clone();
            async move {
                let (head, body) = call.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                this.bodies.lock().unwrap().push(body);
                let shown = head.headers.get(header::AUTHORIZATION);
                assert!(shown.is_none_or(HeaderValue::is_sensitive));
                let shown = shown.map_or("nothing", |line| line.to_str().unwrap()).to_owned();
                let fits = this.takes.lock().unwrap().is_none_or(|taken| shown == format!("Bearer {taken}"));
                this.seen.lock().unwrap().push(shown);
                let response = match (fits, this.grpc) {
                    (true, _) => Response::builder().status(200),
                    (false, false) => Response::builder().status(401),
                    (false, true) => Response::builder()
                        .header("grpc-status", "16")
                        .header("content-type", "application/grpc"),
                };
                Ok(response.body(Body::empty()).unwrap())
            }
        }))
    }
}

fn get() -> Request<Body> {
    Request::get("https://stock.example/shelves").body(Body::empty()).unwrap()
}

fn of(caller: &str) -> Request<Body> {
    let mut request = get();
    request.extensions_mut().insert(CallerToken::new(caller));
    request
}

async fn status<S, B>(service: &S, request: Request<Body>) -> u16
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
{
    service.clone().oneshot(request).await.unwrap().status().as_u16()
}

fn read(status: u16, body: &str, exchanges: bool) -> Result<(String, u64), Option<&'static str>> {
    match Answer::read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), exchanges) {
        Ok(Answer::Token { line, lives }) => Ok((line.to_str().unwrap().to_owned(), lives.as_secs())),
        Ok(Answer::CallerRefused) => Err(None),
        Err(odd) => Err(Some(odd.0)),
    }
}

#[test]
fn answers_are_read_as_the_standard_has_them() {
    let with = |more: &str| format!(r#"{{"access_token":"2YotnFZFEjr1zCsicMWpAA"{more}}}"#);
    let token = || "Bearer 2YotnFZFEjr1zCsicMWpAA".to_owned();
    // RFC 6749 section 5.1.
    assert_eq!(
        read(200, &with(r#","token_type":"example","expires_in":3600,"example_parameter":"value""#), false),
        Err(Some("the provider's token is none that its bearer can use"))
    );
    for (more, lives) in [
        (r#","token_type":"Bearer","expires_in":3600"#, 3600),
        (r#","token_type":"bearer","expires_in":"3600","refresh_token":"x""#, 3600),
        (r#","token_type":"BEARER","expires_in":59.9"#, 59),
        (r#","token_type":"Bearer""#, 60),
        (r#","token_type":"Bearer","expires_in":null"#, 60),
        (r#","token_type":"Bearer","expires_in":1e99"#, 86_400),
        (r#","token_type":"Bearer","expires_in":0"#, 0),
    ] {
        assert_eq!(read(200, &with(more), false), Ok((token(), lives)), "{more}");
    }
    for bad in [
        "",
        "[]",
        "{}",
        "null",
        "<html>",
        &with(""),
        &with(r#","token_type":"Bearer","expires_in":-1"#),
        &with(r#","token_type":"Bearer","expires_in":"soon""#),
        &with(r#","token_type":"Bearer","expires_in":true"#),
        &with(r#","token_type":7"#),
        &with(r#","token_type":"Bearer","access_token":"other""#),
        r#"{"access_token":"a b","token_type":"Bearer"}"#,
        r#"{"access_token":"a\r\nb","token_type":"Bearer"}"#,
        r#"{"access_token":"","token_type":"Bearer"}"#,
        r#"{"access_token":7,"token_type":"Bearer"}"#,
    ] {
        assert_eq!(
            read(200, bad, false),
            Err(Some("the provider's answer is not one with a token")),
            "{bad}"
        );
    }
    // Section 5.2.
    let refused = |code: &str| format!(r#"{{"error":"{code}","error_description":"hush"}}"#);
    assert_eq!(
        read(400, &refused("invalid_scope"), true),
        Err(Some("the provider refuses us a token: invalid_scope"))
    );
    assert_eq!(read(400, &refused("hush"), true), Err(Some("the provider refuses us a token")));
    assert_eq!(read(400, "{}", false), Err(Some("the provider refuses us a token")));
    for code in ["invalid_grant", "invalid_request"] {
        assert_eq!(read(400, &refused(code), true), Err(None));
        for odd in [202, 274, 401, 500] {
            assert!(read(odd, &refused(code), true).unwrap_err().unwrap().ends_with(code), "{odd}");
        }
        assert!(read(400, &refused(code), false).unwrap_err().unwrap().ends_with(code));
    }
}

#[test]
fn debug_shows_no_token() {
    let stub = Stub::says("");
    let request =
        TokenRequest::new(stub.endpoint(Client::secret_post("orders", "hush"))).parameter("a", "hush");
    let source = TokenSource::exchange(request.clone());
    let shown =
        format!("{request:?} {source:?} {:?} {:?}", OutboundLayer::new(source.clone()), bearer("hush"));
    assert!(shown.contains("orders") && !shown.contains("hush"), "{shown}");
    assert!(!TokenSource::file("/var/run/token").needs_caller());
    assert!(OutboundLayer::disabled().source().is_none() && OutboundLayer::new(source).source().is_some());
}

proptest! {
    #[test]
    fn no_answer_panics_and_every_token_is_a_header(body in prop::collection::vec(any::<u8>(), 0..200), status in 100_u16..600) {
        let status = StatusCode::from_u16(status).unwrap();
        for exchanges in [true, false] {
            if let Ok(Answer::Token { line, .. }) = Answer::read(status, &body, exchanges) {
                prop_assert!(line.is_sensitive() && line.to_str().unwrap().starts_with("Bearer "));
            }
        }
    }

    #[test]
    fn what_would_end_a_header_is_no_token(token in "\\PC{0,40}") {
        let fits = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        prop_assert_eq!(bearer(&token).is_some(), fits);
        let headers = bearer(&token).map(|line| HeaderMap::from_iter([(header::AUTHORIZATION, line)]));
        let shown = format!("{headers:?}");
        prop_assert!(!shown.contains("Bearer"));
    }
}
