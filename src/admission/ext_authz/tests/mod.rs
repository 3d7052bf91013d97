mod answered;
mod asked;

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, header};
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    admission::authz::{Authorization, Guard, Operation, Policy, Rule, Tally},
    body::{Body, TapLayer},
    fetch::Fetch,
    identity::ClientAddr,
    reject::{Reason, Rejection},
    trail::Trail,
    trip,
};

type Log = std::sync::Arc<Mutex<Vec<Request<Bytes>>>>;

/// An authorizer that answers so, after so many milliseconds, and what it was asked.
fn authorizer(
    wait: u64,
    answer: impl Fn(&Request<Bytes>) -> Response<Body> + Send + Sync + 'static,
) -> (Fetch, Log) {
    let (log, answer) = (Log::default(), std::sync::Arc::new(answer));
    let seen = log.clone();
    let service = service_fn(move |question: Request<Body>| {
        let (log, answer) = (seen.clone(), answer.clone());
        async move {
            let (parts, body) = question.into_parts();
            let question = Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
            let told = answer(&question);
            log.lock().unwrap().push(question);
            sleep(Duration::from_millis(wait)).await;
            Ok::<_, Infallible>(told)
        }
    });
    (Fetch::new(service), log)
}

fn says(status: u16, headers: &[(&str, &str)]) -> Response<Body> {
    let made = headers
        .iter()
        .fold(Response::builder().status(status), |made, (name, value)| made.header(*name, *value));
    made.body(Body::from("the authorizer's word")).unwrap()
}

fn auth(fetch: Fetch) -> ExternalAuth {
    ExternalAuth::new("iam", "http://iam.internal/check", fetch).unwrap()
}

fn names<const N: usize>(names: [&'static str; N]) -> [HeaderName; N] {
    names.map(HeaderName::from_static)
}

/// What a caller gets, and what the upstream got, if it was reached.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    text: String,
    reason: Option<Reason>,
    upstream: Option<HeaderMap>,
}

async fn call(gate: &ExternalAuth, request: Request<Body>) -> Seen {
    let reached = std::sync::Arc::new(Mutex::new(None));
    let told = reached.clone();
    let service =
        TapLayer::new().layer(gate.clone().layer().layer(service_fn(move |request: Request<Body>| {
            let reached = told.clone();
            async move {
                *reached.lock().unwrap() = Some(request.headers().clone());
                let echo = request.into_body().collect().await.unwrap().to_bytes();
                Ok::<_, Infallible>(Response::new(Body::from(echo)))
            }
        })));
    let response = service.oneshot(request).await.unwrap();
    let reason = response.extensions().get::<Rejection>().map(Rejection::reason);
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let upstream = reached.lock().unwrap().take();
    Seen { status: parts.status.as_u16(), headers: parts.headers, text, reason, upstream }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "shop.example").body(Body::empty()).unwrap()
}

/// From the address 192.0.2.n.
fn from(n: u8, path: &str) -> Request<Body> {
    let mut request = get(path);
    request.extensions_mut().insert(ClientAddr::new([192, 0, 2, n].into(), None));
    request
}

fn grpc() -> Request<Body> {
    let mut request = get("/orders.v1.Orders/Get");
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc".parse().unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_is_remembered_under_everything_that_was_sent() {
    let (fetch, log) = authorizer(10, |question| match question.headers().get("authorization") {
        Some(_) => says(200, &[("x-user", "alice")]),
        None => says(403, &[]),
    });
    let gate = auth(fetch).upstream_headers(names(["x-user"])).unwrap().cache(Duration::from_secs(10), 100);
    let ask = |path: &'static str, token: Option<&'static str>| {
        let mut request = get(path);
        token.map(|token| request.headers_mut().insert("authorization", token.parse().unwrap()));
        request
    };
    let asked = || log.lock().unwrap().len();
    for (n, (path, token, status, questions)) in [
        ("/", Some("a"), 200, 1),
        ("/", Some("a"), 200, 1),
        ("/", Some("b"), 200, 2),
        ("/", None, 403, 3),
        ("/", None, 403, 3),
        ("/x", Some("a"), 200, 4),
        ("/?q", Some("a"), 200, 5),
        ("/", Some("a"), 200, 5),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = call(&gate, ask(path, token)).await;
        assert_eq!((seen.status, asked()), (status, questions), "{n}");
        assert_eq!(seen.upstream.is_some_and(|headers| headers.contains_key("x-user")), status == 200, "{n}");
    }
    let handle = gate.handle();
    assert_eq!([handle.passed(), handle.refused(), handle.failed(), handle.remembered()], [6, 2, 0, 3]);
    tokio::time::advance(Duration::from_secs(11)).await;
    call(&gate, ask("/", Some("a"))).await;
    assert_eq!(asked(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_same_question_is_asked_once_at_a_time_and_an_answer_for_one_is_for_one() {
    let (fetch, log) = authorizer(50, |_| says(200, &[]));
    let gate = auth(fetch).cache(Duration::from_secs(10), 100);
    let calls = (0..20).map(|_| call(&gate, get("/")));
    assert!(futures_util::future::join_all(calls).await.iter().all(|seen| seen.status == 200));
    assert_eq!(log.lock().unwrap().len(), 1);

    // Each gets a session of their own.
    let sessions = AtomicUsize::new(0);
    let (fetch, log) = authorizer(50, move |_| {
        says(302, &[("set-cookie", &format!("s={}", sessions.fetch_add(1, Relaxed)))])
    });
    let gate = auth(fetch).cache(Duration::from_secs(10), 100);
    let seen = futures_util::future::join_all((0..20).map(|_| call(&gate, get("/")))).await;
    let sessions: std::collections::HashSet<_> =
        seen.iter().map(|seen| seen.headers["set-cookie"].to_str().unwrap().to_owned()).collect();
    assert_eq!((sessions.len(), log.lock().unwrap().len()), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_remembered() {
    let turns = AtomicUsize::new(0);
    let (fetch, _) =
        authorizer(0, move |_| says(if turns.fetch_add(1, Relaxed) == 0 { 500 } else { 200 }, &[]));
    let gate = auth(fetch).cache(Duration::from_secs(10), 100);
    assert_eq!(call(&gate, get("/")).await.status, 503);
    assert_eq!(call(&gate, get("/")).await.status, 200);
}
