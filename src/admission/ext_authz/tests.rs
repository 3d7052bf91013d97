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

#[tokio::test]
async fn what_is_sent_is_what_was_chosen_and_where_it_came_from() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let gate = auth(fetch).request_headers(names(["authorization", "x-device"])).unwrap();
    let mut request = Request::post("http://shop.example/orders/7?dry=1")
        .header("authorization", "Bearer a")
        .header("x-device", "1")
        .header("x-device", "2")
        .header("cookie", "session=secret")
        .header("x-forwarded-uri", "/public")
        .header("x-forwarded-for", "1.1.1.1")
        .body(Body::from("order"))
        .unwrap();
    request.extensions_mut().insert(ClientAddr::new([192, 0, 2, 7].into(), None));
    let seen = call(&gate, request).await;
    assert_eq!((seen.status, &*seen.text), (200, "order"));

    let asked = log.lock().unwrap();
    assert_eq!(
        (asked[0].method(), asked[0].uri().to_string().as_str()),
        (&Method::GET, "http://iam.internal/check")
    );
    let sent: Vec<_> = asked[0]
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(
        sent,
        [
            "authorization: Bearer a",
            "x-device: 1",
            "x-device: 2",
            "x-forwarded-method: POST",
            "x-forwarded-proto: http",
            "x-forwarded-host: shop.example",
            "x-forwarded-uri: /orders/7?dry=1",
            "x-forwarded-for: 192.0.2.7",
        ]
    );
    assert!(asked[0].body().is_empty());
}

#[tokio::test]
async fn cookies_that_came_apart_are_joined() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let mut request = get("/");
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    call(&auth(fetch), request).await;
    assert_eq!(log.lock().unwrap()[0].headers()["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn headers_of_a_pass_reach_the_upstream_and_the_caller_and_nobody_else_sets_them() {
    let (fetch, _) = authorizer(0, |question| match question.headers()["x-forwarded-uri"].as_bytes() {
        b"/known" => says(
            200,
            &[("x-user", "alice"), ("x-role", "a"), ("x-role", "b"), ("set-cookie", "s=1"), ("x-other", "1")],
        ),
        _ => says(200, &[]),
    });
    let gate = auth(fetch)
        .upstream_headers(names(["x-user", "x-role"]))
        .unwrap()
        .client_headers(names(["set-cookie"]))
        .unwrap();
    assert_eq!(gate.asserted_headers().cloned().collect::<Vec<_>>(), names(["x-user", "x-role"]));
    for path in ["/known", "/unknown"] {
        let mut request = get(path);
        for lie in ["x-user", "X-User", "x_user", "x-role", "X_Role"] {
            request
                .headers_mut()
                .append(HeaderName::from_bytes(lie.as_bytes()).unwrap(), "root".parse().unwrap());
        }
        let seen = call(&gate, request).await;
        let upstream = seen.upstream.unwrap();
        let of = |name: &str| {
            upstream.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (users, roles): (&[&str], &[&str]) =
            if path == "/known" { (&["alice"], &["a", "b"]) } else { (&[], &[]) };
        assert_eq!(
            (of("x-user"), of("x-role"), of("x_user"), of("x-other")),
            (
                users.iter().map(ToString::to_string).collect(),
                roles.iter().map(ToString::to_string).collect(),
                vec![],
                vec![]
            )
        );
        assert_eq!(seen.headers.contains_key("set-cookie"), path == "/known");
        assert!(!seen.headers.contains_key("x-user"));
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_as_the_authorizer_made_it() {
    let fields = [
        ("location", "https://login.example/?back=1"),
        ("set-cookie", "state=1"),
        ("set-cookie", "nonce=2"),
        ("www-authenticate", "Bearer realm=\"iam\""),
        ("content-type", "text/html"),
        ("x-internal", "secret"),
        ("connection", "close, x-user"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=1"),
        ("trailer", "x-user"),
        ("content-length", "21"),
        ("server", "iam/1.0"),
        ("retry-after", "7"),
    ];
    for (status, reason) in [
        (302, Reason::Forbidden),
        (401, Reason::InvalidCredentials),
        (403, Reason::Forbidden),
        (400, Reason::BadRequest),
        (418, Reason::Forbidden),
        (429, Reason::RateLimited),
    ] {
        let (fetch, _) = authorizer(0, move |_| says(status, &fields));
        let gate = auth(fetch);
        let mut request = get("/");
        let slate = Trail::join(&mut crate::head::Head::of(&mut request));
        let seen = call(&gate, request).await;
        assert_eq!((seen.status, &*seen.text, seen.reason), (status, "the authorizer's word", Some(reason)));
        assert!(seen.upstream.is_none());
        let mut told: Vec<_> = seen.headers.keys().map(HeaderName::as_str).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            ["cache-control", "content-type", "location", "retry-after", "set-cookie", "www-authenticate"]
        );
        assert_eq!(seen.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(seen.headers["cache-control"], "no-store");
        assert_eq!(slate.decision(), Some("iam"));

        let seen = call(&gate, grpc()).await;
        let code = match status {
            400 => "13",
            401 => "16",
            429 => "8",
            _ => "7",
        };
        assert_eq!(
            (seen.status, &seen.headers["grpc-status"], &*seen.text),
            (200, &code.parse().unwrap(), "")
        );
        assert!(!seen.headers.contains_key("set-cookie"));
        let after = seen.headers.get("grpc-retry-pushback-ms");
        assert_eq!(after.is_some_and(|after| after == "7000"), status == 429);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_closed_and_blames_nobody_who_asks() {
    let silent = |_: &Request<Bytes>| says(200, &[]);
    let broken = Fetch::new(service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(std::io::Error::other("down"))
    }));
    let huge = |_: &Request<Bytes>| {
        let (mut parts, _) = says(403, &[]).into_parts();
        parts.headers.clear();
        Response::from_parts(parts, Body::from("x".repeat(70_000)))
    };
    let wide = |_: &Request<Bytes>| says(200, &[("x-user", &"x".repeat(17_000))]);
    for (name, fetch) in [
        ("an error", authorizer(0, |_| says(500, &[])).0),
        ("unavailable", authorizer(0, |_| says(503, &[])).0),
        ("a switch of protocols", authorizer(0, |_| says(101, &[])).0),
        ("a status that is none", authorizer(0, |_| says(777, &[])).0),
        ("too late", authorizer(60_000, silent).0),
        ("no connection", broken),
        ("too much", authorizer(0, huge).0.max_body(64 * 1024)),
        ("too many headers", authorizer(0, wide).0),
    ] {
        let gate = auth(fetch).upstream_headers(names(["x-user"])).unwrap();
        let seen = call(&gate, get("/")).await;
        assert_eq!((seen.status, seen.reason), (503, Some(Reason::AuthorizerUnavailable)), "{name}");
        assert_eq!(seen.headers["retry-after"], "1");
        assert!(seen.upstream.is_none(), "{name}");
        let seen = call(&gate, grpc()).await;
        assert_eq!(seen.headers["grpc-status"], "14", "{name}");
        assert_eq!(gate.handle().failed(), 2);

        let told = call(&gate.clone().on_failure(Reason::Forbidden), get("/")).await;
        assert_eq!((told.status, told.headers.contains_key("retry-after")), (403, false), "{name}");
        let mut lying = get("/");
        lying.headers_mut().insert("x-user", "root".parse().unwrap());
        let open = call(&gate.danger_fail_open(), lying).await;
        assert_eq!((open.status, open.upstream.unwrap().contains_key("x-user")), (200, false), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_keeps_failing_is_spared() {
    let (fetch, log) = authorizer(0, |_| says(500, &[]));
    let gate = auth(fetch.clone());
    for n in 0..20 {
        assert_eq!(call(&gate, from(n, "/")).await.status, 503);
    }
    let asked = log.lock().unwrap().len();
    assert_eq!(asked, 5);
    let unspared = auth(fetch).breaker(None::<trip::Policy>);
    for _ in 0..20 {
        assert_eq!(call(&unspared, get("/")).await.status, 503);
    }
    assert_eq!(log.lock().unwrap().len(), asked + 20);
}

#[tokio::test(start_paused = true)]
async fn who_makes_it_fail_keeps_nobody_from_being_asked_about() {
    let answer = |question: &Request<Bytes>| match question.headers()["x-forwarded-uri"].as_bytes() {
        b"/wide" => says(200, &[("x-user", &"x".repeat(17_000))]),
        b"/fails" => says(500, &[]),
        b"/huge" => Response::builder().status(403).body(Body::from("x".repeat(70_000))).unwrap(),
        _ => says(403, &[]),
    };
    for odd in ["/wide", "/huge", "/fails"] {
        let (fetch, log) = authorizer(0, answer);
        let gate = auth(fetch.max_body(64 * 1024)).upstream_headers(names(["x-user"])).unwrap();
        let gate = gate.danger_fail_open();
        for _ in 0..30 {
            assert_eq!(call(&gate, from(66, odd)).await.status, 200, "{odd}");
        }
        // The others are asked about still, and refused.
        assert_eq!(call(&gate, from(7, "/")).await.status, 403, "{odd}");
        assert_eq!(log.lock().unwrap().len(), 31);
    }
}

#[tokio::test]
async fn it_is_asked_only_about_what_rules_mean() {
    let (fetch, log) = authorizer(0, |_| says(403, &[]));
    let transfers = Rule::new().name("all").to(Operation::new().paths(["/transfers/{**}"]).unwrap());
    let gate = auth(fetch)
        .upstream_headers(names(["x-user"]))
        .unwrap()
        .only([Policy::custom("risk").rule(transfers)])
        .unwrap();
    let mut request = get("/orders");
    request.headers_mut().insert("x-user", "root".parse().unwrap());
    let seen = call(&gate, request).await;
    assert_eq!((seen.status, seen.upstream.unwrap().contains_key("x-user")), (200, false));
    assert!(log.lock().unwrap().is_empty());
    let mut request = get("//transfers/7");
    let slate = Trail::join(&mut crate::head::Head::of(&mut request));
    assert_eq!(call(&gate, request).await.status, 403);
    assert_eq!(slate.decision(), Some("risk/all"));
    assert_eq!(call(&gate, get("/transfers%2f7")).await.status, 400);
    assert!(auth(authorizer(0, |_| says(200, &[])).0).only([Policy::deny("d")]).is_err());
}

/// The answer to a call with policies inside, what the caller is told of who decided, and what the log is.
async fn decided(gate: &ExternalAuth, request: Request<Body>) -> (u16, Option<String>, Option<String>) {
    let to = |path: &str| Rule::new().to(Operation::new().paths([path]).unwrap());
    let inside = Authorization::new([Policy::deny("no-exports").rule(to("/transfers/export"))]).unwrap();
    let told_in = HeaderName::from_static("x-decision");
    // An upstream does not say who decided here.
    let upstream = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(
            Response::builder().header("x-decision", "allow all").body(Body::empty()).unwrap(),
        )
    });
    let mut request = request;
    let slate = Trail::join(&mut crate::head::Head::of(&mut request));
    let is_in = request.uri().path().ends_with("export");
    let gate = gate.clone().told_in(told_in.clone()).layer();
    let response = if is_in {
        let answer =
            gate.layer(inside.told_in(told_in).layer().layer(upstream)).oneshot(request).await.unwrap();
        answer.map(|_| ())
    } else {
        gate.layer(upstream).oneshot(request).await.unwrap().map(|_| ())
    };
    let lines: Vec<_> = response.headers().get_all("x-decision").iter().collect();
    assert!(lines.len() < 2, "{lines:?}");
    let told = lines.first().map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), told, slate.decision().map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn who_decided_is_told_logged_and_counted() {
    let (fetch, _) =
        authorizer(0, |question| match question.headers()["x-forwarded-uri"].to_str().unwrap() {
            "/transfers/no" | "/orders.v1.Orders/Get" => says(403, &[]),
            "/transfers/lost" => says(500, &[]),
            _ => says(200, &[]),
        });
    let rule = Rule::new().name("some").to(Operation::new().not_paths(["/free"]).unwrap());
    let tally = Tally::new();
    let guard = Guard::new([Policy::custom("risk").rule(rule)], &tally).unwrap();
    let (always, gate) = (auth(fetch.clone()), auth(fetch).guarded(guard));
    let some = |text: &str| Some(text.to_owned());
    for (request, status, told, log) in [
        (get("/transfers/7"), 200, "allow risk/some", "risk/some"),
        (get("/transfers/no"), 403, "deny risk/some", "risk/some"),
        (grpc(), 200, "deny risk/some", "risk/some"),
        (get("/transfers/lost"), 503, "deny risk/some", "risk/some"),
        // The one that decides in the end is named.
        (get("/transfers/export"), 403, "deny no-exports/0", "no-exports/0"),
    ] {
        let path = request.uri().path().to_owned();
        assert_eq!(decided(&gate, request).await, (status, some(told), some(log)), "{path}");
    }
    // Nobody decided but the upstream.
    assert_eq!(decided(&gate, get("/free")).await, (200, some("allow all"), None));
    assert_eq!(decided(&always, get("/transfers/no")).await, (403, some("deny iam"), some("iam")));
    let open = gate.clone().danger_fail_open();
    assert_eq!(
        decided(&open, get("/transfers/lost")).await,
        (200, some("allow risk/some"), some("risk/some"))
    );

    let counts: Vec<_> = tally.read().iter().map(|count| (count.action, count.decisions)).collect();
    assert_eq!(counts, [("allow", 3), ("custom", 6), ("deny", 3)]);
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

fn post(body: Body) -> Request<Body> {
    Request::post("/").header("host", "a").header("content-type", "text/plain").body(body).unwrap()
}

#[tokio::test]
async fn the_body_goes_along_whole_or_by_its_beginning() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    for (body, sent, status, text, partial) in [
        (AuthBody::Excluded, "", 200, "hello", false),
        (AuthBody::Whole(5), "hello", 200, "hello", false),
        (AuthBody::Whole(4), "", 413, "", false),
        (AuthBody::Beginning(4), "hell", 200, "hello", true),
        (AuthBody::Beginning(9), "hello", 200, "hello", false),
    ] {
        log.lock().unwrap().clear();
        let seen = call(&auth(fetch.clone()).body(body), post(Body::from("hello"))).await;
        assert_eq!(seen.status, status, "{body:?}");
        let asked = log.lock().unwrap();
        if status == 413 {
            assert!(asked.is_empty() && seen.upstream.is_none() && seen.reason == Some(Reason::BodyTooLarge));
            continue;
        }
        assert_eq!((&*seen.text, asked[0].body()), (text, &Bytes::from(sent)), "{body:?}");
        assert_eq!(asked[0].method(), if body == AuthBody::Excluded { Method::GET } else { Method::POST });
        assert_eq!(asked[0].headers().contains_key("x-forwarded-body"), partial, "{body:?}");
        assert_eq!(asked[0].headers().contains_key("content-type"), body != AuthBody::Excluded);
    }
    let seen = call(&auth(fetch).body(AuthBody::Whole(9)), get("/")).await;
    assert_eq!((seen.status, log.lock().unwrap().last().unwrap().body().len()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408_and_one_that_breaks_off_is_400() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let gate = auth(fetch.clone()).body(AuthBody::Whole(9));
    let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, Infallible>,
    >());
    assert_eq!(call(&gate, post(Body::new(never))).await.status, 408);
    let broken =
        futures_util::stream::iter([Err::<http_body::Frame<Bytes>, _>(std::io::Error::other("gone"))]);
    assert_eq!(call(&gate, post(Body::new(http_body_util::StreamBody::new(broken)))).await.status, 400);
    assert!(log.lock().unwrap().is_empty());

    // Without a tap nobody can say what the body is.
    let untapped = gate
        .layer()
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) }));
    let mut request = post(Body::from("hello"));
    request.headers_mut().insert("content-length", 5.into());
    assert_eq!(untapped.clone().oneshot(request).await.unwrap().status(), 500);
    // Over HTTP/2 a body may come without a word about it.
    assert_eq!(untapped.oneshot(post(Body::from("hello"))).await.unwrap().status(), 500);
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn different_bodies_are_different_questions() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let gate = auth(fetch).body(AuthBody::Whole(9)).cache(Duration::from_secs(9), 9);
    for (body, questions) in [("a", 1), ("a", 1), ("b", 2), ("a", 2)] {
        assert_eq!(call(&gate, post(Body::from(body))).await.status, 200);
        assert_eq!(log.lock().unwrap().len(), questions);
    }
}

#[test]
fn what_cannot_be_asked_or_handed_on_is_refused() {
    let fetch = || {
        Fetch::new(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) }))
    };
    for url in ["", "/check", "iam.internal", "ftp://iam/", "http://", "http://user:pw@iam/", "http://a b/"] {
        assert_eq!(ExternalAuth::new("x", url, fetch()).unwrap_err(), InvalidAuthorizer::Url, "{url}");
    }
    for name in [
        "connection",
        "host",
        "content-length",
        "transfer-encoding",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-authorization",
    ] {
        let [name] = names([name]);
        let refused = Some(InvalidAuthorizer::Header(name.clone()));
        assert_eq!(auth(fetch()).request_headers([name.clone()]).err(), refused);
        assert_eq!(auth(fetch()).upstream_headers([name.clone()]).err(), refused);
        assert_eq!(auth(fetch()).client_headers([name.clone()]).err(), refused);
        assert_eq!(auth(fetch()).refusal_headers([name]).err(), refused);
    }
    assert!(auth(fetch()).request_headers(names(["x-forwarded-for"])).is_err());
}
