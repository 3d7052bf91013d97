//! What is given in the place of failures, over real sockets.
#![cfg(feature = "tls")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use portcullis::config::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
};

use super::world::{Directory, Gateway, PATIENCE, file, nobody, upstream};
use crate::support::{log::Log, provider::Provider};

/// A gateway before an upstream that is dead, whose breaker opens at once, and another, with this rule.
async fn gateway(other: SocketAddr, rule: &str) -> Gateway {
    guarded(other, rule, "http://127.0.0.1:1").await
}

/// The same, with an issuer of tokens.
async fn guarded(other: SocketAddr, rule: &str, issuer: &str) -> Gateway {
    let (dead, idle) = (nobody(), nobody());
    Gateway::of(&file(&format!(
        "authentication: {{ idp: {{ jwt: {{ issuer: '{issuer}', audiences: [shop], jwks: {{ fetch: {{ dangerPlainHttp: \
         true }} }} }} }} }}\n\
         authorizers: {{ iam: {{ url: 'http://{idle}/check' }} }}\n\
         rateLimits: {{ one: {{ rate: 1/h }} }}\n\
         upstreams: {{ first: {{ endpoints: ['{dead}'], circuitBreaker: {{ consecutiveFailures: 1, openFor: 1h, \
         maxOpenFor: 1h }} }}, other: {{ endpoints: ['{other}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: first }}], {rule} }}] }}]\n"
    )))
    .await
}

async fn fallbacks(gateway: &Gateway) -> (u64, u64) {
    let told = gateway.status().await["fallbacks"][0].clone();
    assert_eq!(told["rule"], "r/all");
    (told["given"].as_u64().unwrap(), told["notGiven"].as_u64().unwrap())
}

#[tokio::test]
async fn a_static_answer_is_given_while_the_upstream_is_dead_and_its_breaker_open() {
    let (log, _guard) = Log::start();
    let rule = r#"policies: { fallback: { response: { status: 203, headers: [{ name: content-type, value: application/json }],
        body: "[]" } } }"#;
    let gateway = gateway(nobody(), rule).await;
    for _ in 0..3 {
        let answer = gateway.get("/", &[]).await;
        assert_eq!((answer.status, &*answer.text), (203, "[]"));
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    assert_eq!(gateway.status().await["circuitBreakers"][0]["refused"], 2);
    assert_eq!(fallbacks(&gateway).await, (3, 0));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_fallbacks_total{route="r/all",given="answer"} 3"#,
        r#"portcullis_fallbacks_total{route="r/all",given="server"} 0"#,
        r#"portcullis_fallbacks_not_given_total{route="r/all"} 0"#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
    let told: Vec<_> =
        log.access(3).await.iter().map(|line| (line["fallback"].clone(), line["failed"].clone())).collect();
    let expected =
        ["connect_failed", "circuit_open", "circuit_open"].map(|failed| ("answer".into(), failed.into()));
    assert_eq!(told, expected);
    // Not in gRPC: it means nothing there.
    let answer = gateway.get("/", &[("content-type", "application/grpc")]).await;
    assert_eq!((answer.status, &answer.headers["grpc-status"]), (200, &"14".parse().unwrap()));
}

#[tokio::test]
async fn another_upstream_is_asked_as_the_first_would_have_been() {
    let rule = "policies: { fallback: { on: [connect-failure, 5xx], backendRef: { name: other } } }, filters: [{ type: \
        RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-filtered, value: once }] } }]";
    let gateway = gateway(upstream("other").await, rule).await;
    for method in ["GET", "POST", "GET"] {
        let answer = gateway.client.send(method, gateway.at("public"), "/a", &[]).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.text.starts_with("other /a\n"), "{}", answer.text);
        assert_eq!(answer.text.matches("x-filtered: once").count(), 1);
    }
    assert_eq!(fallbacks(&gateway).await, (3, 0));
}

/// A lost connection is a case by its own name, and what nobody asked for stands.
#[tokio::test]
async fn only_the_cases_that_were_said_are_mended() {
    for (on, status) in [("connect-failure", 200), ("unavailable", 502)] {
        let rule = format!("policies: {{ fallback: {{ on: [{on}], backendRef: {{ name: other }} }} }}");
        let gateway = gateway(upstream("other").await, &rule).await;
        let answer = gateway.get("/", &[]).await;
        assert!(answer.status == status || status == 502 && answer.status == 503, "{on}: {}", answer.status);
    }
}

#[tokio::test]
async fn if_the_other_is_dead_too_the_first_failure_stands() {
    let gateway = gateway(nobody(), "policies: { fallback: { backendRef: { name: other } } }").await;
    assert!(gateway.get("/", &[]).await.status >= 502);
    assert_eq!(fallbacks(&gateway).await, (0, 1));
}

/// An upstream that takes two requests on its first connection, and closes it without an answer to the second.
async fn forgetful() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                for request in 0.. {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    seen.fetch_add(1, Ordering::SeqCst);
                    if (connection, request) == (0, 1) {
                        return;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    (address, asked)
}

/// What its pool sends twice is bound as well, by its own budget.
#[tokio::test]
async fn the_other_upstream_is_not_asked_twice_without_bound() {
    for (constraint, status, seen) in
        [("", 200, 3), ("retryConstraint: { budget: { percent: 0 }, minRetryRate: { count: 0 } }", 502, 2)]
    {
        let (other, asked) = forgetful().await;
        let dead = nobody();
        let gateway = Gateway::of(&file(&format!(
            "upstreams: {{ first: {{ endpoints: ['{dead}'] }}, other: {{ endpoints: ['{other}'], {constraint} }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: first }}], policies: {{ fallback: {{ backendRef: \
             {{ name: other }} }} }} }}] }}]\n"
        )))
        .await;
        assert_eq!(gateway.get("/1", &[]).await.status, 200);
        assert_eq!(gateway.get("/2", &[]).await.status, status, "{constraint}");
        assert_eq!(asked.load(Ordering::SeqCst), seen, "{constraint}");
    }
}

/// Who could not be let in reaches no other upstream, whatever the reason.
#[tokio::test]
async fn nobody_gets_past_a_gate_by_it() {
    for (gate, answers) in [
        ("authenticate: [idp]", [401, 401]),
        ("authorize: { authorizers: [iam] }", [503, 503]),
        ("rateLimit: [one]", [200, 429]),
    ] {
        let rule = format!(
            "policies: {{ {gate}, fallback: {{ on: [5xx, reset], codes: [401, 403, 429], backendRef: {{ name: other }} }} }}"
        );
        let gateway = gateway(upstream("other").await, &rule).await;
        let mut passed = 0;
        for status in answers {
            let answer = gateway.get("/", &[]).await;
            assert_eq!(answer.status, status, "{gate}: {}", answer.text);
            assert_eq!(answer.text.starts_with("other /"), status == 200);
            passed += u64::from(status == 200);
        }
        assert_eq!(fallbacks(&gateway).await, (passed, 0), "{gate}");
    }
}

#[tokio::test]
async fn while_the_identity_provider_is_down_nobody_gets_in_by_it() {
    let provider = Provider::start().await;
    let token = format!("Bearer {}", provider.token("alice"));
    provider.kill().await;
    let rule = "policies: { authenticate: [idp], fallback: { backendRef: { name: other } } }";
    let gateway = guarded(upstream("other").await, rule, &provider.issuer()).await;
    for (headers, status) in [(vec![], 401), (vec![("authorization", &*token)], 503)] {
        let answer = gateway.get("/", &headers).await;
        assert_eq!(answer.status, status);
        assert!(!answer.text.contains("other /"), "{}", answer.text);
    }
    assert_eq!(fallbacks(&gateway).await, (0, 0));
}

#[tokio::test]
async fn a_faulty_one_is_told_by_its_place() {
    let text = file(
        "upstreams: { one: { endpoints: ['127.0.0.1:1'] } }\n\
         routes: [{ name: r, rules: [{ name: all, backendRefs: [{ name: one }], policies: { fallback: { backendRef: \
         { name: one } } } }] }]\n",
    );
    let told = Config::text("f", &*text).check().to_string();
    let expected = "routes[0].rules[0].policies.fallback.backendRef.name: the rule has no other upstream";
    assert!(told.contains(expected), "{told}");
}

/// An upstream on a port of its own: the text is the path and how often it was asked, the query its fields and its length. Its
/// answers are `public`, unless they say something else.
struct Origin {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Origin {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        runtime.spawn(async move {
            let app = Router::new().fallback(move |request: Request| {
                let count = count.fetch_add(1, Ordering::Relaxed) + 1;
                async move { tell(&request, count) }
            });
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        Self { address, runtime: Some(runtime) }
    }

    /// Closes its port and every connection.
    async fn kill(&mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn tell(request: &Request, count: usize) -> Response {
    let said = |name: &str| {
        let pairs =
            request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(own, _)| *own == name).map(|(_, value)| value.replace('+', " ")).next()
    };
    let size = said("size").map_or(0, |size| size.parse().unwrap());
    let text = format!("{} {count}{}", request.uri().path(), ".".repeat(size));
    let mut response = Response::new(text.into());
    response.headers_mut().insert("cache-control", "public".parse().unwrap());
    for name in ["cache-control", "set-cookie", "vary"] {
        said(name).map(|value| response.headers_mut().insert(name, value.parse().unwrap()));
    }
    if request.headers().contains_key("grpc-timeout") {
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("grpc-status", "0".parse().unwrap());
    }
    response
}

/// A file with an upstream, a provider, and a rule for each of these policies, by its path.
fn with_rules(origin: SocketAddr, issuer: &str, rules: &[(&str, &str)]) -> String {
    let rule = |(path, policies): &(&str, &str)| {
        format!(
            "{{ name: {path}, matches: [{{ path: {{ value: /{path} }} }}], backendRefs: [{{ name: origin }}], policies: \
             {{ {policies} }} }}"
        )
    };
    file(&format!(
        "authentication: {{ idp: {{ jwt: {{ issuer: '{issuer}', audiences: [shop], jwks: {{ fetch: {{ dangerPlainHttp: \
         true }} }} }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{origin}'] }} }}\n\
         routes: [{{ name: r, rules: [{}] }}]\n",
        rules.iter().map(rule).collect::<Vec<_>>().join(", ")
    ))
}

const NOBODY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn an_old_answer_is_given_while_the_upstream_is_dead() {
    let (log, _guard) = Log::start();
    let mut origin = Origin::start();
    let rules = [("a", "fallback: { stale: { maxBody: 1000 }, response: { status: 203, body: always } }")];
    let gateway = Gateway::of(&with_rules(origin.address, NOBODY, &rules)).await;
    let grpc = [("content-type", "application/grpc"), ("grpc-timeout", "9S")];
    let (big, no_store) = ("/a/big?size=1000", "/a/not?cache-control=no-store");
    let others =
        ["/a/cookie?set-cookie=a=b", "/a/vary?vary=x-a", "/a/private?cache-control=private", big, no_store];
    for path in ["/a/kept?page=2", "/a/changed?page=2", "/a/grpc"].iter().chain(&others) {
        let headers = if path.ends_with("grpc") { &grpc[..] } else { &[] };
        let answer = gateway.get(path, headers).await;
        assert_eq!((answer.status, answer.headers.get("cache-status")), (200, None), "{path}");
    }
    gateway.client.send("POST", gateway.at("public"), "/a/changed", &[]).await.unwrap();
    origin.kill().await;

    let answer = gateway.get("/a/kept?page=2", &[]).await;
    assert_eq!((answer.status, &*answer.text), (200, "/a/kept 1"));
    assert!(answer.headers["age"].to_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(answer.headers["cache-status"], "portcullis; fwd=stale; detail=stale-if-error");
    assert!(answer.headers.contains_key("date") && !answer.headers.contains_key("warning"));
    let head = gateway.client.send("HEAD", gateway.at("public"), "/a/kept?page=2", &[]).await.unwrap();
    assert_eq!((head.status, &*head.text, &head.headers["content-length"]), (200, "", &"9".parse().unwrap()));
    for path in ["/a/kept?page=3", "/a/changed?page=2"].iter().chain(&others) {
        let answer = gateway.get(path, &[]).await;
        assert_eq!((answer.status, &*answer.text), (203, "always"), "{path}");
    }
    assert_eq!(gateway.get("/a/grpc", &grpc).await.headers["grpc-status"], "14");

    let told = gateway.status().await["fallbacks"][0].clone();
    assert_eq!((told["given"].as_u64(), told["notGiven"].as_u64()), (Some(9), Some(1)));
    // Of what was changed, the answer is there, though it is not given.
    assert_eq!((&told["stale"]["kept"], &told["stale"]["notKept"]), (&2.into(), &1.into()));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_fallbacks_total{route="r/a",given="stale"} 2"#,
        r#"portcullis_fallbacks_total{route="r/a",given="answer"} 7"#,
        r#"portcullis_stale_answers{route="r/a"} 2"#,
        r#"portcullis_stale_kept_total{route="r/a"} 2"#,
        r#"portcullis_stale_not_kept_total{route="r/a"} 1"#,
        r#"portcullis_stale_bytes{route="r/a"} "#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
    let lines = log.access(19).await;
    let told = |path: &str| {
        let line = lines.iter().rfind(|line| line["path"] == path).unwrap();
        (line["fallback"].clone(), line["failed"].clone())
    };
    assert_eq!(told("/a/kept"), ("answer".into(), "connect_failed".into()));
    let old = lines.iter().filter(|line| line["fallback"] == "stale").collect::<Vec<_>>();
    assert!(
        old.len() == 2 && old.iter().all(|line| line["failed"] == "connect_failed" && line["status"] == 200)
    );
}

#[tokio::test]
async fn an_old_answer_is_given_to_nobody_else() {
    let provider = Provider::start().await;
    let bearer = |name: &str| format!("Bearer {}", provider.token(name));
    let (alice, bob) = (bearer("alice"), bearer("bob"));
    let mut origin = Origin::start();
    let rules = [
        ("own", "authenticate: [idp], fallback: { stale: { key: principal } }"),
        ("application", "authenticate: [idp], fallback: { stale: {} }"),
        ("session", "authenticate: none, fallback: { stale: { key: { cookie: session } } }"),
        ("all", "authenticate: none, fallback: { stale: {} }"),
    ];
    let gateway = Gateway::of(&with_rules(origin.address, &provider.issuer(), &rules)).await;
    let private = "?cache-control=private";
    let [own, session, application] =
        ["own", "session", "application"].map(|path| format!("/{path}{private}"));
    let unsaid = "/all?cache-control=max-age=60";
    assert_eq!(gateway.get(&own, &[("authorization", &alice)]).await.text, "/own 1");
    assert_eq!(gateway.get(&session, &[("cookie", "session=a")]).await.text, "/session 2");
    assert_eq!(gateway.get(&application, &[("authorization", &alice), ("x-session", "1")]).await.status, 200);
    assert_eq!(gateway.get("/application", &[("authorization", &alice)]).await.status, 200);
    assert_eq!(gateway.get(unsaid, &[("x-api-key", "a")]).await.status, 200);
    assert_eq!(gateway.get("/all", &[("cookie", "session=a")]).await.status, 200);
    origin.kill().await;
    for (path, headers, status) in [
        (&*own, &[("authorization", &*alice)][..], 200),
        (&own, &[("authorization", &bob)], 502),
        // Who was let in once is not let in for ever.
        (&own, &[], 401),
        (&own, &[("authorization", "Bearer x")], 401),
        (&session, &[("cookie", "session=a")], 200),
        (&session, &[("cookie", "session=b")], 502),
        (&session, &[], 502),
        // An application has many users.
        (&application, &[("authorization", &alice), ("x-session", "2")], 502),
        (&application, &[("authorization", &alice), ("x-session", "1")], 502),
        ("/application", &[("authorization", &alice), ("x-session", "2")], 200),
        ("/application", &[("authorization", &bob)], 502),
        (unsaid, &[("x-api-key", "a")], 502),
        (unsaid, &[("x-api-key", "wrong")], 502),
        (unsaid, &[], 502),
        ("/all", &[("cookie", "session=b")], 200),
    ] {
        let answer = gateway.get(path, headers).await;
        assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn an_old_answer_is_given_for_as_long_as_it_may_be() {
    let mut origin = Origin::start();
    let rules = [("short", "fallback: { stale: { maxAge: 1s } }"), ("long", "fallback: { stale: {} }")];
    let gateway = Gateway::of(&with_rules(origin.address, NOBODY, &rules)).await;
    let paths = [
        "/short",
        "/long?cache-control=public,+max-age=1,+must-revalidate",
        "/long?cache-control=public,+stale-if-error=1",
    ];
    for path in paths.iter().chain(&["/long"]) {
        assert_eq!(gateway.get(path, &[]).await.status, 200);
    }
    origin.kill().await;
    for path in paths {
        let until = tokio::time::Instant::now() + PATIENCE;
        while gateway.get(path, &[]).await.status != 502 {
            assert!(tokio::time::Instant::now() < until, "{path} is given for ever");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(gateway.get("/long", &[]).await.status, 200);
}

/// The same rule goes on with what it has; where other servers are asked, in another way, or for others, it begins anew.
#[tokio::test]
async fn old_answers_outlive_a_reload() {
    let mut origin = Origin::start();
    let address = origin.address;
    let directory = Directory::new("stale");
    let text = |rules: &[(&str, &str)]| with_rules(address, NOBODY, rules);
    let kept = ("kept", "fallback: { stale: {} }");
    directory.write("gateway.yaml", &text(&[kept, ("changed", "fallback: { stale: {} }")]));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    for path in ["/kept", "/changed"] {
        assert_eq!(gateway.get(path, &[]).await.status, 200);
    }
    let keyed = ("changed", "fallback: { stale: { key: { cookie: a } } }");
    directory.write("gateway.yaml", &text(&[("new", "authenticate: none"), kept, keyed]));
    gateway.until(|status| status["generation"] == 2).await;
    let (filter, endpoint) = (
        "filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /v2 } } }], policies: {",
        format!("endpoints: ['{address}', '{}']", nobody()),
    );
    let before = text(&[kept]);
    let changes = [
        ("policies: {", filter),
        (&*format!("endpoints: ['{address}']"), &*endpoint),
        ("audiences: [shop]", "audiences: [shop, office]"),
        ("upstreams: {", "callerHeaders: { x-caller: subject }\nupstreams: {"),
    ];
    let mut generation = 2;
    let mut reload = async |text: &str| {
        generation += 1;
        directory.write("gateway.yaml", text);
        let status = gateway.until(|status| status["generation"] == generation).await;
        status["fallbacks"][0]["stale"]["answers"].as_u64().unwrap()
    };
    assert_eq!(reload(&before).await, 1);
    for (from, to) in changes {
        assert!(before.contains(from), "{from}");
        assert_eq!(reload(&before.replace(from, to)).await, 0, "{to}");
        assert_eq!(reload(&before).await, 0, "{to}");
        assert_eq!(gateway.get("/kept", &[]).await.status, 200);
    }
    origin.kill().await;
    assert!(gateway.get("/kept", &[]).await.text.starts_with("/kept "));
}

/// No server says `Vary` by what it never sees to vary: its callers are those of one tenant.
#[tokio::test]
async fn an_old_answer_is_of_the_endpoint_and_the_caller_that_headers_choose() {
    let (mut of_a, mut of_b) = (Origin::start(), Origin::start());
    let iam = Router::new().fallback(|request: Request| async move {
        let user = request.headers().get("authorization").cloned().unwrap();
        [("x-user", user)]
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (iam_at, a, b) = (listener.local_addr().unwrap(), of_a.address, of_b.address);
    tokio::spawn(async move { axum::serve(listener, iam).await.unwrap() });
    let gateway = Gateway::of(&file(&format!(
        "authorizers: {{ iam: {{ url: 'http://{iam_at}/', upstreamHeaders: [x-user] }} }}\n\
         upstreams: {{ origin: {{ endpoints: [{{ address: '{a}', labels: {{ tenant: a }} }}, {{ address: '{b}', labels: \
         {{ tenant: b }} }}], subsets: {{ fromHeaders: {{ tenant: x-tenant }} }} }} }}\n\
         routes: [{{ name: r, rules: [\
         {{ name: told, matches: [{{ path: {{ value: /told }} }}], backendRefs: [{{ name: origin }}], policies: {{ authorize: \
         {{ authorizers: [iam] }}, fallback: {{ stale: {{}} }} }} }}, \
         {{ name: all, backendRefs: [{{ name: origin }}], policies: {{ fallback: {{ stale: {{}} }} }} }}] }}]\n"
    )))
    .await;
    let (tenant_a, tenant_b) = (("x-tenant", "a"), ("x-tenant", "b"));
    let (alice, bob) = (("authorization", "alice"), ("authorization", "bob"));
    assert_eq!(gateway.get("/report", &[tenant_a]).await.status, 200);
    assert_eq!(gateway.get("/told", &[tenant_a, alice]).await.status, 200);
    of_a.kill().await;
    of_b.kill().await;
    for (path, headers, status) in [
        ("/report", &[tenant_a][..], 200),
        ("/report", &[tenant_b], 502),
        ("/report", &[], 502),
        ("/told", &[tenant_a, alice], 200),
        ("/told", &[tenant_a, bob], 502),
        ("/told", &[tenant_b, alice], 502),
    ] {
        assert_eq!(gateway.get(path, headers).await.status, status, "{path} {headers:?}");
    }
}
