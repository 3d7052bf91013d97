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

#[tokio::test(start_paused = true)]
async fn a_token_of_ours_is_had_once_and_renewed_ahead() {
    let (provider, stock) = (Stub::says(token("one", 100)), Stock::default());
    let source = ours(&provider);
    let client = stock.behind(&source);
    for _ in 0..3 {
        let mut request = get();
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Basic of-the-caller"));
        assert_eq!(status(&client, request).await, 200);
    }
    assert_eq!(stock.seen(), ["Bearer one"; 3]);
    let form = provider.last().form;
    assert_eq!(
        (form["grant_type"].as_str(), form["scope"].as_str()),
        ("client_credentials", "stock.read stock.write")
    );
    assert_eq!(provider.calls(), 1);

    // It lives 90 s for us; from 63 s to 70 s on a new one is had in the background.
    provider.behave(Manner::After(SECOND, token("two", 100)));
    advance(62 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen()), (1, vec!["Bearer one".to_owned()]));
    advance(8 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(status(&client, get()).await, 200);
    }
    assert_eq!(stock.seen(), ["Bearer one"; 3], "nobody waits for it");
    sleep(2 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen()), (2, vec!["Bearer two".to_owned()]));
    let handle = source.handle();
    assert_eq!((handle.fetched(), handle.kept(), handle.failed(), handle.refused()), (2, 7, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_is_not_noticed_while_a_token_lives() {
    let (provider, stock) = (Stub::says(token("one", 100)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    provider.behave(Manner::Fails);
    for _ in 0..89 {
        advance(SECOND).await;
        assert_eq!(status(&client, get()).await, 200);
        tokio::task::yield_now().await;
    }
    advance(2 * SECOND).await;
    let response = client.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(response.extensions().get::<Rejection>().unwrap().reason(), Reason::TokenUnavailable);
    let mut grpc = get();
    grpc.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = client.clone().oneshot(grpc).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &HeaderValue::from_static("14"))
    );
    assert!(provider.calls() < 20, "the breaker was open most of the time: {}", provider.calls());
    // It comes back.
    provider.behave(Manner::Says(200, token("two", 100)));
    advance(31 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_at_once_are_one_question() {
    let (provider, stock) = (Stub::says(""), Stock::default());
    provider.behave(Manner::After(SECOND, token("one", 100)));
    let client = stock.behind(&ours(&provider));
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { status(&client, get()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!((provider.calls(), stock.seen().len()), (1, 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_had_anew_and_the_call_made_once_more() {
    let (provider, stock) = (Stub::says(token("one", 1_000)), Stock::default());
    let source = ours(&provider);
    let client = stock.behind(&source);
    assert_eq!(status(&client, get()).await, 200);
    stock.takes("two");
    provider.behave(Manner::After(SECOND, token("two", 1_000)));
    stock.seen();
    let mut request = Request::new(Body::from("twelve"));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert("x-order", HeaderValue::from_static("7"));
    request.extensions_mut().insert(7_u8);
    assert_eq!(status(&client, request).await, 200);
    assert_eq!(stock.seen(), ["Bearer one", "Bearer two"]);
    assert_eq!(stock.bodies.lock().unwrap()[1..], ["twelve", "twelve"]);
    assert_eq!((provider.calls(), source.handle().refused()), (2, 1));

    // A service that takes no token is told once, and the provider is not hammered for it.
    stock.takes("none");
    for _ in 0..5 {
        assert_eq!(status(&client, get()).await, 401);
    }
    assert_eq!(provider.calls(), 2, "one was had for a refusal a moment ago");
    advance(10 * SECOND).await;
    assert_eq!(status(&client, get()).await, 401);
    assert_eq!(status(&client, get()).await, 401);
    assert_eq!(provider.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_refusals_at_once_are_one_question() {
    let (provider, stock) = (Stub::says(token("one", 1_000)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    stock.takes("two");
    provider.behave(Manner::After(SECOND, token("two", 1_000)));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { status(&client, get()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_made_again_leaves_the_new_token_to_the_next() {
    for grpc in [false, true] {
        let (provider, stock) = (Stub::says(token("one", 1_000)), Stock { grpc, ..Stock::default() });
        let client = stock.behind(&ours(&provider));
        assert_eq!(status(&client, get()).await, 200);
        stock.takes("two");
        provider.behave(Manner::Says(200, token("two", 1_000)));
        let body = if grpc { Body::empty() } else { Body::new(Script::new([Step::Data("a"), Step::End])) };
        let response = client.clone().oneshot(Request::new(body)).await.unwrap();
        let refused = if grpc { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(response.status(), refused);
        assert_eq!(stock.seen(), ["Bearer one"; 2], "once");
        sleep(SECOND).await;
        assert_eq!(provider.calls(), 2, "the next need not even ask");
        let response = client.clone().oneshot(get()).await.unwrap();
        assert!(!response.headers().contains_key("grpc-status"));
        assert_eq!((stock.seen(), provider.calls()), (vec!["Bearer two".to_owned()], 2));
    }
}

#[tokio::test(start_paused = true)]
async fn if_no_new_token_can_be_had_that_is_said() {
    let (provider, stock) = (Stub::says(token("one", 1_000)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    stock.takes("two");
    provider.behave(Manner::Fails);
    assert_eq!(status(&client, get()).await, 503);
    assert_eq!(stock.seen(), ["Bearer one", "Bearer one"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_serves_the_others_until_another_is_had() {
    let (provider, stock) = (Stub::says(token("one", 3_000)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    provider.behave(Manner::Fails);
    for _ in 0..8 {
        // One path is refused for a reason of its own, again and again.
        stock.takes("two");
        assert!(matches!(status(&client, get()).await, 401 | 503));
        *stock.takes.lock().unwrap() = None;
        stock.seen();
        assert_eq!(status(&client, get()).await, 200);
        assert_eq!(stock.seen(), ["Bearer one"]);
        advance(10 * SECOND).await;
    }
    // Nor does anybody wait for the next one while a token is there.
    provider.behave(Manner::Never);
    advance(31 * SECOND).await;
    stock.takes("two");
    let refused = tokio::spawn({
        let client = client.clone();
        async move { status(&client, get()).await }
    });
    tokio::task::yield_now().await;
    *stock.takes.lock().unwrap() = None;
    let asked = tokio::time::Instant::now();
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!(asked.elapsed(), Duration::ZERO);
    refused.abort();
}

#[tokio::test(start_paused = true)]
async fn a_callers_token_is_exchanged_once_for_each_caller() {
    let (provider, stock) = (Stub::says(token("adas", 1_000)), Stock::default());
    let endpoint = provider.endpoint(Client::secret_post("orders", "hush"));
    let request =
        TokenRequest::new(endpoint).audience("stock").resource("https://stock.example/").scopes(["read"]);
    let source = TokenSource::exchange(request.parameter("requested_token_type", "x"));
    assert!(source.needs_caller());
    let client = stock.behind(&source);
    assert_eq!(status(&client, of("ada")).await, 200);
    let form = provider.last().form;
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "ada"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("audience", "stock"),
        ("resource", "https://stock.example/"),
        ("scope", "read"),
        ("requested_token_type", "x"),
    ] {
        assert_eq!(form[name], value);
    }
    provider.behave(Manner::Says(200, token("bobs", 1_000)));
    assert_eq!(status(&client, of("bob")).await, 200);
    assert_eq!(status(&client, of("ada")).await, 200);
    assert_eq!(stock.seen(), ["Bearer adas", "Bearer bobs", "Bearer adas"]);
    assert_eq!(provider.calls(), 2);

    // In a handler's context, too.
    let mut served = get();
    served.extensions_mut().insert(CallerToken::new("bob"));
    let context = Context::of(served.extensions());
    assert_eq!(context.scope(status(&client, get())).await, 200);
    assert_eq!((stock.seen(), provider.calls()), (vec!["Bearer bobs".to_owned()], 2));

    // Who came without a token is not served as somebody else.
    let response = client.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.extensions().get::<Rejection>().unwrap().reason(), Reason::MissingCredentials);
    assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    assert!(stock.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_whom_the_provider_refuses_is_401_and_others_do_not_mind() {
    let (provider, stock) = (Stub::says(""), Stock::default());
    provider.behave(Manner::Says(400, r#"{"error":"invalid_grant"}"#.into()));
    let endpoint = provider.endpoint(Client::secret_post("orders", "hush"));
    let client = stock.behind(&TokenSource::exchange(TokenRequest::new(endpoint)));
    for n in 0..20 {
        let response = client.clone().oneshot(of(&format!("mallory-{n}"))).await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = &response.headers()[header::WWW_AUTHENTICATE];
        assert_eq!(challenge, r#"Bearer realm="api", error="invalid_token""#);
    }
    assert_eq!(status(&client, of("mallory-0")).await, 401);
    assert_eq!(provider.calls(), 20, "it is remembered for a while");
    provider.behave(Manner::Says(200, token("adas", 1_000)));
    assert_eq!(status(&client, of("ada")).await, 200);
    advance(10 * SECOND).await;
    assert_eq!(status(&client, of("mallory-0")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_token_goes_on_if_told() {
    let stock = Stock::default();
    let source = TokenSource::danger_caller();
    let client = stock.behind(&source);
    assert_eq!(status(&client, of("ada")).await, 200);
    let mut anonymous = get();
    anonymous.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer smuggled"));
    assert_eq!(status(&client, anonymous).await, 200);
    stock.takes("other");
    assert_eq!(status(&client, of("ada")).await, 401);
    assert_eq!(stock.seen(), ["Bearer ada", "nothing", "Bearer ada"]);
    assert_eq!((source.needs_caller(), source.handle().kept()), (true, 0));
}

#[tokio::test]
async fn a_file_is_read_again_as_it_is_renewed() {
    let path = std::env::temp_dir().join(format!("portcullis-outbound-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let stock = Stock::default();
    let source = TokenSource::file(&path);
    let client = stock.behind(&source);
    assert_eq!(status(&client, get()).await, 200);
    std::fs::write(&path, "two\n").unwrap();
    assert_eq!(status(&client, get()).await, 200);
    // Refused, it is read at once.
    stock.takes("two");
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!(stock.seen(), ["Bearer one", "Bearer one", "Bearer one", "Bearer two"]);
    let shown = format!("{source:?} {:?}", source.handle());
    assert!(shown.contains("portcullis-outbound") && !shown.contains("two"), "{shown}");

    for bad in ["", " \n", "two words", "\u{1}"] {
        std::fs::write(&path, bad).unwrap();
        let client = stock.behind(&TokenSource::file(&path));
        assert_eq!(status(&client, get()).await, 503, "{bad:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status(&stock.behind(&TokenSource::file(&path)), get()).await, 503);
    assert!(stock.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_no_token_with_it() {
    let (provider, stock) = (Stub::says(""), Stock::default());
    provider.behave(Manner::After(SECOND, token("one", 1_000)));
    let client = stock.behind(&ours(&provider));
    for polls in 1..4 {
        let mut leaves = tokio_test::task::spawn(client.clone().oneshot(get()));
        for _ in 0..polls {
            assert!(leaves.poll().is_pending());
            tokio::task::yield_now().await;
        }
    }
    sleep(2 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen().len()), (1, 1));
    // Also in the middle of the second try.
    stock.takes("two");
    provider.behave(Manner::After(SECOND, token("two", 1_000)));
    let mut leaves = tokio_test::task::spawn(client.clone().oneshot(get()));
    assert!(leaves.poll().is_pending());
    drop(leaves);
    sleep(2 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen()), (2, vec!["Bearer one".to_owned(), "Bearer two".to_owned()]));
}

/// The second try goes to an instance that was made ready, as the first does.
#[tokio::test(start_paused = true)]
async fn both_tries_go_to_an_instance_that_was_made_ready() {
    struct Strict {
        ready: bool,
        calls: Arc<AtomicUsize>,
    }
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self { ready: false, calls: Arc::clone(&self.calls) }
        }
    }
    impl Service<Request<Body>> for Strict {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            self.ready = true;
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready));
            self.calls.fetch_add(1, Relaxed);
            let response = Response::builder().status(401).body(Body::empty()).unwrap();
            std::future::ready(Ok(response))
        }
    }
    let calls = Arc::<AtomicUsize>::default();
    let provider = Stub::says(token("one", 1_000));
    let strict = Strict { ready: false, calls: Arc::clone(&calls) };
    let client = OutboundLayer::new(ours(&provider)).layer(strict);
    assert_eq!(status(&client, get()).await, 401);
    assert_eq!((calls.load(Relaxed), provider.calls()), (2, 2));
    let off = OutboundLayer::disabled().layer(Strict { ready: false, calls: Arc::clone(&calls) });
    assert_eq!(status(&off, get()).await, 401);
    assert_eq!(calls.load(Relaxed), 3);
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
