//! Authorization, authorizers and asserted headers, through sockets.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request, response::IntoResponse, routing::any};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use portcullis::config::{Config, Registry};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::log::Log;

use super::world::{Answer, Directory, Gateway, PATIENCE, file, nobody, upstream, yaml_of};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// An upstream that tells headers and trailers, each on a line.
async fn told_upstream() -> SocketAddr {
    serve(Router::new().fallback(|request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap();
        let lines = |mark: &str, headers: &HeaderMap| {
            let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                format!("{mark}{name}: {}\n", value.to_str().unwrap())
            };
            headers.iter().map(line).collect::<String>()
        };
        lines("", &parts.headers)
            + &body.trailers().map(|trailers| lines("trailer ", trailers)).unwrap_or_default()
    }))
    .await
}

/// An authorizer: `/open` passes and says who it is, `/login` is sent to the login, anything else is refused. With a
/// body, what it says is echoed.
async fn iam(asked: Arc<AtomicUsize>) -> SocketAddr {
    serve(Router::new().route(
        "/check",
        any(move |request: Request| async move {
            asked.fetch_add(1, Ordering::Relaxed);
            let uri = request.headers()["x-forwarded-uri"].to_str().unwrap().to_owned();
            let echo = request
                .headers()
                .get("authorization")
                .map_or("nobody", |value| value.to_str().unwrap())
                .to_owned();
            let body =
                String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
            match uri.as_str() {
                "/open" => [("x-user", echo), ("x-body", body), ("x-other", "1".into())].into_response(),
                "/login" => {
                    (StatusCode::FOUND, [("location", "https://login.example/"), ("set-cookie", "state=1")])
                        .into_response()
                }
                "/broken" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                _ => (
                    StatusCode::FORBIDDEN,
                    [("content-type", "text/plain"), ("x-secret", "1")],
                    "no, says the authorizer",
                )
                    .into_response(),
            }
        }),
    ))
    .await
}

/// One answer over a connection of its own, to a request of any shape.
async fn raw(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
    answer
}

/// One answer over HTTP/2, to a request with these headers and trailers.
async fn http2(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    trailers: &[(&str, &str)],
) -> Answer {
    let exchange = async {
        let (client, connection) =
            h2::client::handshake(TcpStream::connect(at).await.unwrap()).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut request = http::Request::builder().method(method).uri(format!("http://shop.example{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from("x"), trailers.is_empty()).unwrap();
        if !trailers.is_empty() {
            let mut map = HeaderMap::new();
            for (name, value) in trailers {
                map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            body.send_trailers(map).unwrap();
        }
        let (parts, mut body) = response.await.unwrap().into_parts();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            let _ = body.flow_control().release_capacity(data.len());
            text.extend_from_slice(&data);
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(text).unwrap(),
        }
    };
    timeout(PATIENCE, exchange).await.expect("in time")
}

/// A gateway that asserts `x-user` and `x-plan`: one by an authorizer, one by a token that only another rule takes.
async fn asserting(protocol: &str) -> Gateway {
    let (one, iam) = (told_upstream().await, iam(Arc::default()).await);
    let jwks =
        r#"'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'"#;
    Gateway::of(&format!(
        "apiVersion: portcullis/v1alpha1\n\
         listeners: [{{ name: public, address: 127.0.0.1:0 }}, {{ name: trusting, address: 127.0.0.1:0, trustedProxies: [127.0.0.0/8] }}]\n\
         authentication:\n\
         \x20 customers: {{ jwt: {{ issuer: i, audiences: [a], algorithms: [EdDSA], claimHeaders: {{ x-plan: plan }}, jwks: {{ inline: {jwks} }} }} }}\n\
         authorizers: {{ iam: {{ url: 'http://{iam}/check', upstreamHeaders: [x-user] }}, unused: {{ url: 'http://{iam}/check', upstreamHeaders: [x-unused] }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'], protocol: {protocol} }} }}\n\
         routes:\n\
         - name: r\n\
         \x20 rules:\n\
         \x20 - {{ matches: [{{ path: {{ value: /open }} }}], policies: {{ authorize: {{ authorizers: [iam] }} }}, backendRefs: [{{ name: one }}] }}\n\
         \x20 - {{ matches: [{{ path: {{ value: /optional }} }}], policies: {{ authenticate: {{ providers: [customers], optional: true }} }}, backendRefs: [{{ name: one }}] }}\n\
         \x20 - {{ backendRefs: [{{ name: one }}] }}\n"
    ))
    .await
}

/// No spelling of them, and nothing that a `Connection` field names, comes through; what we say does.
fn is_clean(text: &str, path: &str) {
    let said = text.lines().filter(|line| line.contains("root"));
    assert_eq!(said.collect::<Vec<_>>(), Vec::<&str>::new(), "{path}: {text}");
    assert!(text.contains("x-kept: 1"), "{path}: {text}");
    let ours = text.lines().filter(|line| line.starts_with("x-user:")).collect::<Vec<_>>();
    assert_eq!(ours, if path == "/open" { vec!["x-user: nobody"] } else { vec![] }, "{path}: {text}");
}

#[tokio::test]
async fn what_is_asserted_no_client_says_over_http_1() {
    let gateway = asserting("http1").await;
    let lies = "X-User: root\r\nx-user: root, root\r\nX_USER: root\r\nx_user: root\r\nX-Plan: root\r\nx_Plan: root\r\nX-Unused: root\r\n";
    for listener in ["public", "trusting"] {
        for path in ["/open", "/optional", "/other"] {
            for connection in ["close", "close, x-user, X-Plan", "x_user, close, x-kept-not"] {
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: {connection}\r\n{lies}X-Kept: 1\r\n\r\n"
                );
                let answer = raw(gateway.at(listener), &request).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                is_clean(&answer, path);
            }
        }
    }
}

#[tokio::test]
async fn what_is_asserted_no_client_says_over_http_2() {
    for protocol in ["http1", "http2"] {
        let gateway = asserting(protocol).await;
        let lies = [
            ("x-user", "root"),
            ("x-user", "root"),
            ("x_user", "root"),
            ("x-plan", "root"),
            ("x_plan", "root"),
            ("x-unused", "root"),
            ("x-kept", "1"),
        ];
        for path in ["/open", "/optional", "/other"] {
            let answer = http2(gateway.at("public"), "POST", path, &lies, &[]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            is_clean(&answer.text, path);
        }
    }
}

#[tokio::test]
async fn what_is_asserted_no_trailer_says() {
    let gateway = asserting("http2").await;
    let trailers = [("x-user", "root"), ("x_user", "root"), ("x-plan", "root"), ("x-sum", "7")];
    for path in ["/open", "/other"] {
        let answer = http2(gateway.at("public"), "POST", path, &[("x-kept", "1")], &trailers).await;
        is_clean(&answer.text, path);
        assert!(answer.text.contains("trailer x-sum: 7"), "{}", answer.text);

        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nX-Kept: 1\r\nTransfer-Encoding: chunked\r\nTrailer: x-user, x-sum\r\n\r\n1\r\nx\r\n0\r\nx-user: root\r\nX_User: root\r\nx-sum: 7\r\n\r\n"
        );
        let answer = raw(gateway.at("public"), &chunked).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        is_clean(&answer, path);
    }
}

#[tokio::test]
async fn a_connection_field_over_http_2_is_no_request() {
    let gateway = asserting("http1").await;
    let mut stream = TcpStream::connect(gateway.at("public")).await.unwrap();
    // A preface, empty settings, and a head with `connection: x-user`, in literals.
    let literal = |name: &str, value: &str| {
        let mut block = vec![0, name.len() as u8];
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
        block
    };
    let block = [
        literal(":method", "GET"),
        literal(":scheme", "http"),
        literal(":path", "/other"),
        literal(":authority", "shop.example"),
        literal("connection", "x-user"),
    ]
    .concat();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    sent.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    sent.extend_from_slice(&block);
    stream.write_all(&sent).await.unwrap();
    // RST_STREAM (3) or GOAWAY (7), and no answer (1).
    let mut head = [0; 9];
    loop {
        timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("in time").unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            3 | 7 => break,
            1 => panic!("it was answered"),
            _ => {}
        }
    }
}

/// A file with policies for one upstream.
fn with_policies(one: SocketAddr, authorization: &str, rule: &str) -> String {
    file(&format!(
        "authorization:\n{authorization}upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ authorize: {{ {rule} }} }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    ))
}

async fn metric(gateway: &Gateway, line: &str) -> Option<u64> {
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    let found = metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map(|number| number.parse().unwrap())
}

#[tokio::test]
async fn policies_of_the_file_decide_and_are_named() {
    let one = upstream("one").await;
    let policies = "\x20 no-admin: { action: deny, rules: [{ name: outside, from: [{ notNetworks: [10.0.0.0/8] }], to: [{ paths: ['/admin/{**}'] }] }] }\n\
                    \x20 readers: { action: allow, rules: [{ to: [{ methods: [GET], hosts: ['*.example'] }] }] }\n\
                    \x20 small: { action: deny, rules: [{ when: [{ name: longer-than, with: 9 }] }] }\n";
    let text =
        with_policies(one, policies, "policies: [readers, no-admin, small], decisionHeader: x-decision");
    let gates = Registry::new().predicate("longer-than", |most: usize| {
        Ok(move |facts: &portcullis::admission::authz::Facts<'_>| {
            facts.path().is_some_and(|path| path.len() > most)
        })
    });
    let gateway = Gateway::start(Config::text("f", text).gates(gates)).await;
    let (log, _guard) = Log::start();
    let asked = [
        ("/orders", "shop.example", 200, "allow readers/0"),
        ("/admin", "shop.example", 403, "deny no-admin/outside"),
        ("//x/../admin/a", "shop.example", 403, "deny no-admin/outside"),
        ("/%61dmin", "shop.example", 403, "deny no-admin/outside"),
        ("/orders", "shop.test", 403, "deny _none"),
        ("/orders/long/path", "shop.example", 403, "deny small/0"),
    ];
    for (path, host, status, decision) in asked {
        let answer = gateway.get(path, &[("host", host)]).await;
        assert_eq!(
            (answer.status, &answer.headers["x-decision"]),
            (status, &decision.parse().unwrap()),
            "{path} {host}"
        );
        assert!(
            !answer.text.contains("no-admin"),
            "why is told to nobody but in that header: {}",
            answer.text
        );
    }
    for ((path, _, _, decision), line) in asked.iter().zip(log.access(asked.len()).await) {
        assert_eq!(line["decision"], decision.split_once(' ').unwrap().1, "{path}: {line}");
    }
    let answer = http2(gateway.at("public"), "GET", "/admin", &[], &[]).await;
    assert_eq!(
        (answer.status, &answer.headers["x-decision"]),
        (403, &"deny no-admin/outside".parse().unwrap())
    );
    let line = |policy: &str, rule: &str, action: &str| {
        format!(
            r#"portcullis_authorization_decisions_total{{policy="{policy}",rule="{rule}",action="{action}",shadow="false"}}"#
        )
    };
    assert_eq!(metric(&gateway, &line("no-admin", "outside", "deny")).await, Some(4));
    assert_eq!(metric(&gateway, &line("readers", "0", "allow")).await, Some(1));
    assert_eq!(metric(&gateway, &line("_none", "", "deny")).await, Some(1));
}

#[tokio::test]
async fn a_policy_in_shadow_only_counts_and_a_reload_counts_on() {
    let one = upstream("one").await;
    let directory = Directory::new("shadow");
    let policies = |shadow: &str| {
        format!(
            "\x20 old: {{ action: allow, rules: [{{ to: [{{ methods: [GET] }}] }}] }}\n\
                 \x20 new: {{ action: deny, {shadow} rules: [{{ to: [{{ paths: ['/export'] }}] }}] }}\n"
        )
    };
    let text = |shadow: &str| with_policies(one, &policies(shadow), "policies: [old, new]");
    directory.write("gateway.yaml", &text("shadow: true,"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let (log, _guard) = Log::start();
    assert_eq!(gateway.get("/export", &[]).await.status, 200);
    assert_eq!(gateway.get("/orders", &[]).await.status, 200);
    let events = log.of("portcullis::shadow");
    let told: Vec<_> =
        events.iter().map(|event| (&event["fields"]["message"], &event["fields"]["decision"])).collect();
    assert_eq!(told, [(&json!("would have decided otherwise"), &json!("deny new/0"))]);
    let line = |policy: &str, action: &str, shadow: bool| {
        format!(
            r#"portcullis_authorization_decisions_total{{policy="{policy}",rule="0",action="{action}",shadow="{shadow}"}}"#
        )
    };
    assert_eq!(metric(&gateway, &line("new", "deny", true)).await, Some(1));
    assert_eq!(metric(&gateway, &line("old", "allow", true)).await, Some(1));
    assert_eq!(metric(&gateway, &line("old", "allow", false)).await, Some(2));

    directory.write("gateway.yaml", &text(""));
    gateway.configured.reload();
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.get("/export", &[]).await.status, 403);
    assert_eq!(gateway.get("/orders", &[]).await.status, 200);
    assert_eq!(metric(&gateway, &line("new", "deny", false)).await, Some(1));
    assert_eq!(metric(&gateway, &line("old", "allow", false)).await, Some(3));
}

/// A gateway that asks an authorizer, which counts how often.
async fn asking() -> (Gateway, Arc<AtomicUsize>) {
    let (one, asked) = (told_upstream().await, Arc::new(AtomicUsize::new(0)));
    let iam = iam(asked.clone()).await;
    let text = file(&format!(
        "authorizers:\n\
         \x20 iam: {{ url: 'http://{iam}/check', upstreamHeaders: [x-user, x-body], body: {{ whole: 8 }}, cache: {{ ttl: 1m }} }}\n\
         \x20 gone: {{ url: 'http://{}/check' }}\n\
         authorization:\n\
         \x20 ask: {{ action: custom, authorizer: iam, rules: [{{ name: some, to: [{{ notPaths: [/free] }}] }}] }}\n\
         \x20 try: {{ action: custom, authorizer: gone, shadow: true, rules: [{{}}] }}\n\
         \x20 lost: {{ action: custom, authorizer: gone, rules: [{{ to: [{{ paths: [/lost] }}] }}] }}\n\
         \x20 never: {{ action: deny, rules: [{{ to: [{{ paths: [/login] }}] }}] }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes:\n\
         - name: r\n\
         \x20 rules:\n\
         \x20 - {{ matches: [{{ path: {{ value: /lost }} }}], policies: {{ authorize: {{ policies: [lost] }} }}, backendRefs: [{{ name: one }}] }}\n\
         \x20 - {{ policies: {{ authorize: {{ policies: [never, ask, try], decisionHeader: x-decision }} }}, backendRefs: [{{ name: one }}] }}\n",
        nobody()
    ));
    (Gateway::of(&text).await, asked)
}

/// Up to eight bytes.
async fn bodies_are_shown(gateway: &Gateway) {
    let post = |length: usize| {
        format!(
            "POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{}",
            "b".repeat(length)
        )
    };
    let answer = raw(gateway.at("public"), &post(8)).await;
    assert!(answer.contains("x-body: bbbbbbbb") && answer.contains("content-length: 8"), "{answer}");
    assert!(raw(gateway.at("public"), &post(9)).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn an_authorizer_is_asked_about_what_a_policy_means() {
    let (gateway, asked) = asking().await;
    let (log, _guard) = Log::start();
    let count = || asked.load(Ordering::Relaxed);

    let answer = gateway.get("/open", &[("authorization", "Bearer a"), ("x-user", "root")]).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text.contains("x-user: Bearer a")
            && !answer.text.contains("root")
            && !answer.text.contains("x-other"),
        "{}",
        answer.text
    );
    assert_eq!(count(), 1);
    gateway.get("/open", &[("authorization", "Bearer a")]).await;
    assert_eq!(count(), 1, "it was remembered");
    let other = gateway.get("/open", &[("authorization", "Bearer b")]).await;
    assert!(other.text.contains("x-user: Bearer b"), "{}", other.text);
    assert_eq!(count(), 2);

    assert_eq!(gateway.get("/free", &[]).await.status, 200);
    assert_eq!(count(), 2, "no rule means it");
    let answer = gateway.get("/closed", &[]).await;
    assert_eq!(answer.headers["x-decision"], "deny ask/some");
    assert_eq!((answer.status, &*answer.text), (403, "no, says the authorizer"));
    assert!(!answer.headers.contains_key("x-secret"));
    // A custom policy comes before one that denies.
    let answer = gateway.get("/login", &[]).await;
    assert_eq!(
        (answer.status, &answer.headers["location"]),
        (302, &"https://login.example/".parse().unwrap())
    );
    assert_eq!(answer.headers["set-cookie"], "state=1");
    let answer = gateway.get("/broken", &[]).await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true));
    assert_eq!(answer.headers["x-decision"], "deny ask/some");
    assert_eq!(gateway.get("/lost", &[]).await.status, 503);
    // What is tried in shadow would refuse all of them, and is said to have decided none.
    let decisions: Vec<_> = log.access(8).await.iter().map(|line| line["decision"].clone()).collect();
    let (ask, lost) = ("ask/some", "lost/0");
    assert_eq!(decisions, ["_none", "_none", "_none", "_none", ask, ask, ask, lost]);

    bodies_are_shown(&gateway).await;
    let line = |result: &str| {
        format!(r#"portcullis_external_authorization_total{{authorizer="iam",result="{result}"}}"#)
    };
    assert_eq!(metric(&gateway, &line("refuse")).await, Some(2));
    assert_eq!(metric(&gateway, &line("fail")).await, Some(1));
    let decided = |action: &str| {
        format!(
            r#"portcullis_authorization_decisions_total{{policy="ask",rule="some",action="{action}",shadow="false"}}"#
        )
    };
    // Whose body is too large for it, the authorizer was not asked about in the end.
    assert_eq!(metric(&gateway, &decided("custom")).await, Some(8));
    assert_eq!(metric(&gateway, &decided("allow")).await, Some(4));
    assert_eq!(metric(&gateway, &decided("deny")).await, Some(3));
    assert!(
        metric(&gateway, r#"portcullis_external_authorization_remembered_total{authorizer="iam"}"#).await
            >= Some(1)
    );
}

#[tokio::test]
async fn a_preflight_comes_without_credentials_and_is_not_401() {
    let one = upstream("one").await;
    let directory = Directory::new("preflight");
    directory.write("keys.yaml", "keys: []\n");
    directory.write(
        "gateway.yaml",
        &file(&format!(
            "authentication: {{ keys: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
             authorization: {{ nobody: {{ action: allow }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes:\n\
             - name: r\n\
             \x20 rules:\n\
             \x20 - matches: [{{ path: {{ value: /api }}, method: PUT }}]\n\
             \x20   policies: {{ authenticate: [keys], csrf: {{ trustedOrigins: ['https://a.shop.example'] }}, authorize: {{ policies: [nobody], scopes: {{ any: [w] }} }} }}\n\
             \x20   filters: [{{ type: CORS, cors: {{ allowOrigins: ['https://*.shop.example'], allowMethods: [PUT], allowHeaders: [x-api-key], allowCredentials: true }} }}]\n\
             \x20   backendRefs: [{{ name: one }}]\n"
        )),
    );
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let at = gateway.at("public");
    for (origin, allowed) in
        [("https://a.shop.example", true), ("https://evil.example", false), ("null", false)]
    {
        let fields = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-api-key"),
        ];
        let over_1 = gateway.client.send("OPTIONS", at, "/api/x", &fields).await.unwrap();
        for answer in [over_1, http2(at, "OPTIONS", "/api/x", &fields, &[]).await] {
            assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{origin}");
            let told = answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(told, allowed.then_some(origin));
        }
        // The request itself is asked for its credentials, and the page may read that.
        let origin = [("origin", origin)];
        let over_1 = gateway.client.send("PUT", at, "/api/x", &origin).await.unwrap();
        for answer in [over_1, http2(at, "PUT", "/api/x", &origin, &[]).await] {
            assert_eq!(answer.status, if allowed { 401 } else { 403 }, "{origin:?}");
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed);
        }
    }
    // What asks for no method, or for one that the rule does not have, is no preflight of it.
    assert_eq!(
        gateway
            .client
            .send("OPTIONS", at, "/api/x", &[("origin", "https://a.shop.example")])
            .await
            .unwrap()
            .status,
        404
    );
    let get = [("origin", "https://a.shop.example"), ("access-control-request-method", "GET")];
    assert_eq!(gateway.client.send("OPTIONS", at, "/api/x", &get).await.unwrap().status, 404);
}

#[tokio::test]
async fn the_guard_refuses_what_other_sites_change() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ csrf: {{ trustedOrigins: ['https://admin.example'] }} }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let own = format!("http://{}", gateway.at("public"));
    for (fields, status) in [
        (&[][..], 200),
        (&[("origin", &*own)], 200),
        (&[("origin", "https://admin.example"), ("sec-fetch-site", "cross-site")], 200),
        (&[("origin", "https://evil.example")], 403),
        (&[("sec-fetch-site", "cross-site"), ("cookie", "session=1")], 403),
    ] {
        let answer = gateway.client.send("POST", gateway.at("public"), "/", fields).await.unwrap();
        assert_eq!(answer.status, status, "{fields:?}");
        assert_eq!(gateway.get("/", fields).await.status, 200, "{fields:?}");
    }
}

/// The files of the guide are accepted as they stand, and decide as it says.
#[tokio::test]
async fn the_files_of_the_guide_do_what_it_says() {
    let guide = include_str!("../../../docs/guides/authorization.md");
    let files = yaml_of(guide);
    assert_eq!(files.len(), 2);
    let directory = Directory::new("guide");
    let key = portcullis::authn::api_key::mint("shop", "acme").unwrap();
    let key = key.with(|entry| entry.scopes(["orders.read", "orders.write"]).plan("gold"));
    let entry = serde_json::to_value(key.entry()).unwrap();
    directory.write("keys.yaml", &serde_json::json!({ "keys": [entry] }).to_string());
    let one = told_upstream().await.to_string();
    for (n, file) in files.iter().enumerate() {
        directory.write("gateway.yaml", file);
        let check = Config::file(directory.path("gateway.yaml")).check();
        assert!(check.is_accepted() && !check.to_string().contains("auth"), "{n}: {check}");
    }
    let free = |file: &str| {
        let file = file.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0");
        file.replace("127.0.0.1:9001", &one)
    };
    directory.write("gateway.yaml", &free(files[0]));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let secret = key.reveal().to_owned();
    for (method, path, status, decision) in [
        ("GET", "/api/orders/7", 200, "allow partners-orders/read"),
        ("GET", "/api/orders?limit=all", 200, "allow partners-orders/read"),
        ("POST", "/api/orders", 200, "allow partners-orders/write"),
        ("DELETE", "/api/orders/7", 403, "deny _none"),
        ("GET", "/api//admin/users", 403, "deny no-outsiders/admin-from-outside"),
    ] {
        let fields = [("x-api-key", &*secret), ("x-user", "root"), ("x-plan", "platinum")];
        let answer = gateway.client.send(method, gateway.at("public"), path, &fields).await.unwrap();
        assert_eq!(
            (answer.status, &answer.headers["x-decision"]),
            (status, &decision.parse().unwrap()),
            "{path}"
        );
        if status == 200 {
            let told: Vec<_> = answer
                .text
                .lines()
                .filter(|line| line.starts_with("x-user") || line.starts_with("x-plan"))
                .collect();
            assert!(
                told.len() == 2 && told.contains(&"x-user: acme") && told.contains(&"x-plan: gold"),
                "{told:?}"
            );
            assert!(!answer.text.contains(&secret));
        }
    }
    let shadow = r#"portcullis_authorization_decisions_total{policy="no-exports",rule="large",action="deny",shadow="true"}"#;
    assert_eq!(metric(&gateway, shadow).await, Some(1));
}
