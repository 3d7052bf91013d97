//! What a gateway of the file does with requests.
use std::{collections::HashSet, net::SocketAddr};

use super::world::{Client, Directory, Gateway, PATIENCE, file, nobody, upstream};
use http::HeaderName;
use portcullis::{
    admission::authz::Authorize,
    authn::{
        Location, Providers,
        api_key::{self, ApiKey, KeyTable},
    },
    config::Config,
    matching::RequestMatch,
    routing::filter::{Redirect, Scheme},
    stack::{
        Admin,
        gateway::{self, Listen, Rule, Snapshot},
    },
    telemetry::metrics::Metrics,
    upstream::{Proxy, Upstream},
};

pub(super) fn rule(path: &str, more: &str) -> String {
    format!("  - {{ matches: [{{ path: {{ value: {path} }} }}], {more} }}\n")
}

/// What only the gateway may say comes from no client, on no rule; and no upstream sees its credentials.
#[tokio::test]
async fn what_the_gateway_asserts_no_client_can_say() {
    let one = upstream("one").await;
    let jwk = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let gateway = Gateway::of(&file(&format!(
        "authentication:\n  users:\n    jwt: {{ issuer: i, audiences: [a], algorithms: [EdDSA], \
         jwks: {{ inline: '{jwk}' }}, claimHeaders: {{ x-user: sub }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes:\n- name: r\n  rules:\n{}{}",
        rule("/private", "backendRefs: [{ name: one }], policies: { authenticate: [users] }"),
        rule("/open", "backendRefs: [{ name: one }], policies: { authenticate: none }"),
    )))
    .await;
    let answer = gateway
        .get(
            "/open",
            &[
                ("x-user", "root"),
                ("x_user", "root"),
                ("authorization", "Bearer secret"),
                ("x-forwarded-for", "192.0.2.7"),
                ("forwarded", "for=192.0.2.7"),
                ("x-real-ip", "192.0.2.7"),
                ("x-request-id", "chosen-by-the-client"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("x-kept", "1"),
            ],
        )
        .await;
    assert_eq!(answer.status, 200);
    let told = answer.text.to_lowercase();
    for gone in ["x-user", "x_user", "secret", "192.0.2.7", "chosen", "x-hop"] {
        assert!(!told.contains(gone), "{gone}: {told}");
    }
    for there in ["x-kept: 1", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-request-id: "] {
        assert!(told.contains(there), "{there}: {told}");
    }
}

/// Also where the gateway is built in Rust, by rules alone.
#[tokio::test]
async fn a_credential_of_one_rule_reaches_no_upstream_through_another() {
    let endpoint = upstream("one").await.to_string();
    let upstream = Upstream::builder("one").endpoint(&endpoint).build().unwrap();
    let rule = |path| {
        let when = RequestMatch::prefix(path).unwrap();
        Rule::new(path).when(when).backend(Proxy::new(upstream.clone()), 1)
    };
    let moved = |path, to| Rule::new(path).when(RequestMatch::prefix(path).unwrap()).filter(to);
    let keys = || ApiKey::new(KeyTable::new("keys", []).unwrap());
    let forwarded = keys().locations([Location::header(HeaderName::from_static("x-other-key"))]).forward();
    let in_link = keys().locations([Location::query("key")]);
    let providers = Providers::new().with(keys()).with(forwarded).with(in_link);
    let snapshot = Snapshot::builder()
        .listen(Listen::on("public", "127.0.0.1:0".parse().unwrap()))
        .rule(rule("/private").authenticate(providers))
        .rule(rule("/open"))
        .rule(moved("/moved", Redirect::new()))
        .rule(moved("/away", Redirect::new().hostname("b.example").unwrap()))
        .rule(moved("/plain", Redirect::new().scheme(Scheme::Http)))
        .build()
        .unwrap();
    let gateway = gateway::Gateway::start(snapshot).await.unwrap();
    let at = gateway.address("public").unwrap();
    let sent = [("x-api-key", "secret"), ("x-other-key", "forwarded"), ("x-kept", "kept")];
    let told = Client::new().get(at, "/open?a=b&key=secret", &sent).await.text;
    assert!(!told.contains("secret") && !told.contains("x-other-key") && told.contains("kept"), "{told}");
    // Who is sent elsewhere comes there with it.
    let moved = Client::new().get(at, "/moved?a=b&key=secret", &sent).await;
    assert_eq!(moved.headers["location"], format!("http://{at}/moved?a=b&key=secret"));
    // But not to another host, nor where everybody reads it.
    for path in ["/away", "/plain"] {
        let sent_on = Client::new().get(at, &format!("{path}?a=b&key=secret"), &sent).await;
        let location = sent_on.headers["location"].to_str().unwrap();
        assert!(location.ends_with(&format!("{path}?a=b")), "{location}");
    }
}

/// A rule that takes keys asks nobody for a token, whoever of its gates refuses.
#[tokio::test]
async fn who_is_refused_is_asked_for_what_the_rule_takes() {
    let endpoint = upstream("one").await.to_string();
    let upstream = Upstream::builder("one").endpoint(&endpoint).build().unwrap();
    let minted = api_key::mint("shop", "acme").unwrap();
    let keys = ApiKey::new(KeyTable::new("keys", [minted.entry().clone()]).unwrap());
    let snapshot = Snapshot::builder()
        .listen(Listen::on("public", "127.0.0.1:0".parse().unwrap()))
        .rule(
            Rule::new("keys")
                .authenticate(Providers::new().with(keys).optional())
                .authorize(Authorize::new().all_scopes(["orders.read"]))
                .backend(Proxy::new(upstream), 1),
        )
        .build()
        .unwrap();
    let gateway = gateway::Gateway::start(snapshot).await.unwrap();
    let at = gateway.address("public").unwrap();
    let nobody = Client::new().get(at, "/", &[]).await;
    assert_eq!(
        (nobody.status, &nobody.headers["www-authenticate"]),
        (401, &"ApiKey realm=\"api\"".parse().unwrap())
    );
    let lacks_it = Client::new().get(at, "/", &[("x-api-key", minted.reveal())]).await;
    assert_eq!((lacks_it.status, lacks_it.headers.get("www-authenticate")), (403, None));
}

/// Once whoever had it has let it go.
async fn soon_bound(address: SocketAddr) -> tokio::net::TcpListener {
    tokio::time::timeout(PATIENCE, async {
        loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    })
    .await
    .expect("it is let go")
}

/// So is the address of its operators, whatever name leads there: a file says it, and who builds one in Rust need not.
#[tokio::test]
async fn no_upstream_of_one_that_is_built_is_its_admin_address() {
    let [first, second] = [nobody(), nobody()];
    let named = |name: &str, port: u16| {
        Upstream::builder(name).endpoint(format!("localhost:{port}")).build().unwrap()
    };
    let upstream = named("loop", first.port());
    let snapshot = |admin: SocketAddr| {
        let built = Snapshot::builder().listen(Listen::on("public", "127.0.0.1:0".parse().unwrap()));
        let built =
            built.admin(Admin::at(admin)).rule(Rule::new("all").backend(Proxy::new(upstream.clone()), 1));
        built.build().unwrap()
    };
    let gateway = gateway::Gateway::start(snapshot(first)).await.unwrap();
    let (at, client) = (gateway.address("public").unwrap(), Client::new());
    let asked = async |at| {
        let answer = client.get(at, "/status", &[("host", "127.0.0.1")]).await;
        (answer.status, answer.text)
    };
    assert_eq!(asked(first).await.0, 200, "operators are answered");
    let (status, text) = asked(at).await;
    assert!(status == 503 && !text.contains("generation"), "{status} {text}");
    // It is that of what is in force, and not of what was.
    gateway.apply(snapshot(second)).await.unwrap();
    assert_eq!(asked(second).await.0, 200);
    let service = soon_bound(first).await;
    tokio::spawn(async move {
        axum::serve(service, axum::Router::new().fallback(|| async { "a service" })).await
    });
    tokio::time::timeout(PATIENCE, async {
        while asked(at).await != (200, "a service".to_owned()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it is an upstream's as any other");
}

/// One rule that keeps `//` must not let requests pass beside the others.
#[tokio::test]
async fn an_empty_segment_that_one_rule_keeps_is_no_way_around_another() {
    let one = upstream("one").await;
    let directory = Directory::new("empty-segments");
    directory.write("keys.yaml", "keys: []\n");
    let rules = [
        rule("/admin", "backendRefs: [{ name: one }], policies: { authenticate: [keys] }"),
        rule("/objects", "backendRefs: [{ name: one }], policies: { path: { keepEmptySegments: true } }"),
        rule("/", "backendRefs: [{ name: one }]"),
    ];
    directory.write(
        "gateway.yaml",
        &file(&format!(
            "authentication: {{ keys: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\nroutes:\n- name: r\n  rules:\n{}",
            rules.concat()
        )),
    );
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    for (path, status) in
        [("/admin", 401), ("//admin", 400), ("/objects/..//admin", 400), ("/x//y", 400), ("/x/y", 200)]
    {
        assert_eq!(gateway.get(path, &[]).await.status, status, "{path}");
    }
    let kept = gateway.get("/objects//a", &[]).await;
    assert!(kept.text.starts_with("one /objects//a\n"), "{kept:?}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let one = upstream("one").await;
    let text = file(&format!(
        "rateLimits: {{ once: {{ key: clientIp, rate: 1/h, burst: 1 }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ rateLimit: [once] }} }}] }}]\n"
    ));
    let gateway = Gateway::of(
        &text.replace("address: 127.0.0.1:0 }]", "address: 127.0.0.1:0, trustedProxies: [127.0.0.0/8] }]"),
    )
    .await;
    for (client, status) in
        [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429), ("1.1.1.1, 192.0.2.2", 429)]
    {
        let answer = gateway.get("/", &[("x-forwarded-for", client), ("x-request-id", "of-the-proxy")]).await;
        assert_eq!(answer.status, status, "{client}");
        assert_eq!(answer.headers["x-request-id"], "of-the-proxy");
        if status == 200 {
            assert!(
                answer.text.contains(&format!("x-forwarded-for: {client}, 127.0.0.1")),
                "{}",
                answer.text
            );
        }
    }
}

/// What stands in the header that the proxies do not write, they let through.
#[tokio::test]
async fn only_the_header_that_the_proxies_write_is_believed() {
    let one = upstream("one").await;
    let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
    for (header, counted, gone) in [
        ("forwarded", "forwarded: for=192.0.2.2, for=127.0.0.1", "192.0.2.1"),
        ("xForwarded", "x-forwarded-for: 192.0.2.1, 127.0.0.1", "192.0.2.2"),
    ] {
        let gateway = Gateway::of(
            &file(&format!(
                "rateLimits: {{ l: {{ key: clientIp, rate: 1/min }} }}\n\
                 upstreams: {{ one: {{ endpoints: ['{one}'], forwarded: true }} }}\n\
                 routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [l] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
            ))
            .replace("name: public,", &format!("name: public, trustedProxies: [127.0.0.1], forwardingHeader: {header},")),
        )
        .await;
        let answer = gateway.get("/", &both).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text.contains(counted) && !answer.text.contains(gone), "{}", answer.text);
        assert!(answer.text.contains("for=127.0.0.1;"), "{}", answer.text);
        let own = if header == "forwarded" { both[1] } else { both[0] };
        assert_eq!(gateway.get("/", &[own]).await.status, 429, "the same client");
        let other = [(own.0, if header == "forwarded" { "for=192.0.2.9" } else { "192.0.2.9" })];
        assert_eq!(gateway.get("/", &other).await.status, 200, "another one");
    }
}

/// Two of a hundred, always the same ones, and the first of them stay when the share grows.
#[tokio::test]
async fn the_canary_is_a_share_and_sticks() {
    let (stable, canary) = (upstream("stable").await, upstream("canary").await);
    let text = |weights: [u32; 2]| {
        file(&format!(
            "upstreams: {{ stable: {{ endpoints: ['{stable}'] }}, canary: {{ endpoints: ['{canary}'] }} }}\n\
             routes:\n- name: r\n  rules:\n  - policies: {{ split: {{ by: {{ header: x-visitor }}, variantHeader: x-version }} }}\n\
             \x20   backendRefs: [{{ name: stable, weight: {} }}, {{ name: canary, weight: {} }}]\n",
            weights[0], weights[1]
        ))
    };
    let visitors = async |gateway: &Gateway| {
        let mut of_canary = HashSet::new();
        for visitor in 0..1500 {
            let answer = gateway.get("/", &[("x-visitor", &visitor.to_string())]).await;
            let version = answer.headers["x-version"].to_str().unwrap().to_owned();
            assert!(answer.text.starts_with(&version), "{answer:?}");
            if version == "canary" {
                of_canary.insert(visitor);
            }
        }
        of_canary
    };
    let two = visitors(&Gateway::of(&text([98, 2])).await).await;
    let again = visitors(&Gateway::of(&text([98, 2])).await).await;
    let four = visitors(&Gateway::of(&text([96, 4])).await).await;
    assert!((5..75).contains(&two.len()), "{}", two.len());
    assert_eq!(two, again, "after a restart");
    assert!(four.is_superset(&two) && four.len() > two.len());
}

#[tokio::test]
async fn filters_change_what_they_say() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{one}'], host: inner.example }} }}\n\
         routes:\n- name: r\n  rules:\n\
         \x20 - matches: [{{ path: {{ value: /shop }} }}]\n\
         \x20   filters:\n\
         \x20   - {{ type: URLRewrite, urlRewrite: {{ path: {{ type: ReplacePrefixMatch, replacePrefixMatch: /v2 }} }} }}\n\
         \x20   - {{ type: RequestHeaderModifier, requestHeaderModifier: {{ set: [{{ name: x-a, value: b }}], remove: [x-gone] }} }}\n\
         \x20   - {{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-served-by, value: us }}] }} }}\n\
         \x20   - {{ type: CORS, cors: {{ allowOrigins: ['https://*.shop.example'], allowMethods: [PUT] }} }}\n\
         \x20   backendRefs: [{{ name: one }}]\n"
    )))
    .await;
    let answer = gateway.get("/shop/x?q=1", &[("x-gone", "1"), ("origin", "https://a.shop.example")]).await;
    assert!(answer.text.starts_with("one /v2/x\n"), "{}", answer.text);
    assert!(answer.text.contains("x-a: b") && !answer.text.contains("x-gone"), "{}", answer.text);
    assert!(answer.text.contains("host: inner.example"), "{}", answer.text);
    assert_eq!(answer.headers["x-served-by"], "us");
    assert_eq!(answer.headers["access-control-allow-origin"], "https://a.shop.example");
    let preflight = [("origin", "https://a.shop.example"), ("access-control-request-method", "PUT")];
    let answer = gateway.client.send("OPTIONS", gateway.at("public"), "/shop", &preflight).await.unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
}

#[tokio::test]
async fn the_admin_address_answers_operators_only() {
    let gateway = Gateway::of(&file("")).await;
    let admin = gateway.at("admin");
    let client = Client::new();
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/status", 200), ("/x", 404)]
    {
        assert_eq!(client.get(admin, path, &[]).await.status, status, "{path}");
        assert_eq!(client.get(admin, path, &[("host", "evil.example")]).await.status, 421, "{path}");
    }
    let metrics = client.get(admin, "/metrics", &[]).await;
    assert_eq!(
        metrics.headers["content-type"],
        Metrics::CONTENT_TYPE,
        "it says what it is: {}",
        metrics.text
    );
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
    for (path, host, says) in [("/", "localhost", "/readyz"), ("/status", "evil.example", "admin.hosts")] {
        let answer = client.get(admin, path, &[("host", host)]).await;
        assert!(answer.text.contains(says), "{answer:?}");
    }
    let head = client.send("HEAD", admin, "/status", &[]).await.unwrap();
    assert_eq!((head.status, &*head.text), (200, ""));
    assert_eq!(client.send("POST", admin, "/readyz", &[]).await.unwrap().status, 405);
    assert_eq!(gateway.get("/healthz", &[]).await.status, 404, "not on a listener");
    let status = gateway.status().await;
    assert_eq!((&status["state"], &status["generation"]), (&"serving".into(), &1.into()));
    assert_eq!(status["listeners"][0]["name"], "public");
}

/// What servers read in different ways is refused unless a rule takes it, and then on that rule only.
#[tokio::test]
async fn a_rule_can_take_unusual_paths() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes:\n- name: r\n  rules:\n{}{}",
        rule("/files", "backendRefs: [{ name: one }], policies: { path: { allow: [encodedSlash] } }"),
        rule("/other", "backendRefs: [{ name: one }]"),
    )))
    .await;
    let taken = gateway.get("/files/a%2fb", &[]).await;
    assert_eq!(taken.status, 200);
    assert!(taken.text.starts_with("one /files/a%2Fb\n"), "{}", taken.text);
    assert_eq!(gateway.get("/other/a%2fb", &[]).await.status, 400);
    assert_eq!(gateway.get("/files/a%5cb", &[]).await.status, 400);
    assert_eq!(gateway.get("/nowhere/a%2fb", &[]).await.status, 404);
}

/// A connection ends at its age, between requests, and its client is told before.
#[tokio::test]
async fn connections_end_at_their_age() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&format!(
        "apiVersion: portcullis/v1alpha1\n\
         listeners: [{{ name: public, address: 127.0.0.1:0, maxConnectionAge: 300ms }}]\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    ))
    .await;
    let stream = tokio::net::TcpStream::connect(gateway.at("public")).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let ended = tokio::spawn(connection);
    let mut answered = 0;
    let ends = async {
        while sender.ready().await.is_ok() {
            let request = http::Request::get("/").header("host", "a").body(String::new()).unwrap();
            let Ok(answer) = sender.send_request(request).await else { break };
            assert_eq!(answer.status(), 200);
            http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
            answered += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("it ends");
    ended.await.unwrap().unwrap();
    assert!(answered > 0);
}
