//! What the defaults cut off.
use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::world::{Directory, Gateway, PATIENCE, file, upstream, yaml_of};
use portcullis::config::Config;

/// Takes connections and never says a word.
async fn mute() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_504() {
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
        mute().await
    )))
    .await;
    for (kind, status, grpc) in [("text/plain", 504, None), ("application/grpc", 200, Some("4"))] {
        let (client, at) = (gateway.client.clone(), gateway.at("public"));
        let asked = tokio::spawn(async move { client.get(at, "/", &[("content-type", kind)]).await });
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
        let answer = asked.await.unwrap();
        let told = answer.headers.get("grpc-status").map(|code| code.to_str().unwrap());
        assert_eq!((answer.status, told), (status, grpc), "{kind}");
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 0).await;
    }
}

#[tokio::test]
async fn a_file_chooses_what_is_told_of_limits() {
    let one = upstream("one").await;
    let text = |top: &str, listener: &str, rule: &str| {
        file(&format!(
            "rateLimits: {{ l: {{ key: clientIp, rate: 2/min }}, all: {{ key: clientIp, rate: 100/min }} }}\n{top}\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [l] {rule} }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        ))
        .replace("name: public,", &format!("name: public, rateLimit: [all], {listener}"))
    };
    // Of the rule's limit and the listener's: what a 200 tells, and what a 429 does.
    let told = async |text: String| {
        let gateway = Gateway::of(&text).await;
        let mut told = Vec::new();
        for status in [200, 200, 429] {
            let answer = gateway.get("/", &[]).await;
            assert_eq!(answer.status, status);
            let policies: Vec<_> = answer.headers.get_all("ratelimit-policy").iter().collect();
            let legacy = answer.headers.get("x-ratelimit-limit");
            told.push((policies.len(), legacy.map(|limit| limit.to_str().unwrap().to_owned())));
        }
        told.remove(1);
        told
    };
    let limit = |limit: &str| Some(limit.to_owned());
    assert_eq!(told(text("", "", "")).await, [(0, None), (1, None)]);
    let always = "rateLimitFields: { standard: always, legacy: true }";
    assert_eq!(told(text(&format!("{always}\n"), "", "")).await, [(2, limit("100")), (2, limit("100"))]);
    assert_eq!(told(text("", &format!("{always},"), "")).await, [(1, limit("100")), (2, limit("100"))]);
    assert_eq!(told(text("", "", &format!(", {always}"))).await, [(1, limit("2")), (1, limit("2"))]);
    let never = "rateLimitFields: { standard: never }";
    assert_eq!(
        told(text(&format!("{always}\n"), &format!("{never},"), &format!(", {never}"))).await,
        [(0, None), (0, None)]
    );
}

/// The same host is the same account, whichever version of HTTP names it.
#[tokio::test]
async fn a_host_is_one_account_in_every_version() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "rateLimits: {{ l: {{ key: {{ header: host }}, rate: 2/min }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [l] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let http2 = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let uri =
        |host: &str| format!("http://{host}:{}/", gateway.at("public").port()).parse::<http::Uri>().unwrap();
    for (host, status) in [("127.0.0.1", 200), ("127.0.0.1", 200), ("127.0.0.1", 429), ("localhost", 200)] {
        assert_eq!(http2.get(uri(host)).await.unwrap().status(), status, "{host}");
    }
    assert_eq!(gateway.get("/", &[]).await.status, 429);
    assert_eq!(gateway.get("/", &[("host", "localhost")]).await.status, 200);
    assert_eq!(gateway.get("/", &[("host", "localhost:1")]).await.status, 429);
}

/// The time that an upload takes is the caller's: 408, and not 504.
#[tokio::test]
async fn an_upload_that_never_ends_is_408() {
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
        mute().await
    )))
    .await;
    for (sent, status) in [("abc", "408"), ("abcdefghij", "504")] {
        let mut stream = TcpStream::connect(gateway.at("public")).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";
        stream.write_all(format!("{head}{sent}").as_bytes()).await.unwrap();
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        gateway.until(|status| status["upstreams"][0]["endpoints"][0]["inFlight"] == 0).await;
    }
}

/// An upstream that says what an answer took: as much as the last segment of its path.
async fn dear() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(async |request: axum::extract::Request| {
        let took = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        ([("x-took", took)], "hello")
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// Each way to count, side by side, and what the metrics tell of them.
#[tokio::test]
async fn a_file_says_how_limits_count() {
    let gateway = Gateway::of(&file(&format!(
        "rateLimits:\n  \
         bucket: {{ key: clientIp, rate: 3/h, burst: 2, skip: [{{ paths: ['/a/free'] }}] }}\n  \
         window: {{ key: clientIp, rate: 3/h, algorithm: slidingWindow, cost: {{ header: x-cost, max: 9 }} }}\n  \
         month: {{ key: clientIp, rate: 2/month, algorithm: fixedWindow, utcOffset: '-05:30' }}\n  \
         trial: {{ key: clientIp, rate: 1/h, shadow: true }}\n  \
         took: {{ key: clientIp, rate: 100/h, cost: 10, settle: {{ header: x-took, max: 500 }}, maxDebt: 50 }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes:\n  - name: r\n    rules:\n{}",
        dear().await,
        ["/a: [bucket, trial]", "/b: [window]", "/c: [month]", "/d: [took]"]
            .map(|rule| {
                let (path, limits) = rule.split_once(": ").unwrap();
                format!(
                    "      - {{ matches: [{{ path: {{ value: {path} }} }}], policies: {{ rateLimit: {limits} }}, backendRefs: [{{ name: one }}] }}\n"
                )
            })
            .concat()
    )))
    .await;
    let ask = async |path: &str, cost: &[(&str, &str)]| gateway.get(path, cost).await.status;
    for (path, cost, status) in [
        ("/a/1", "", 200),
        ("/a/1", "", 200),
        ("/a/1", "", 429),
        ("/a/free", "", 200),
        ("/b/1", "2", 200),
        ("/b/1", "2", 429),
        ("/b/1", "many", 200),
        ("/b/1", "9999999999999", 429),
        ("/c/1", "", 200),
        ("/c/1", "", 200),
        ("/c/1", "", 429),
        ("/d/5", "", 200),
        ("/d/85", "", 200),
        ("/d/200", "", 200),
        ("/d/1", "", 429),
    ] {
        assert_eq!(ask(path, &[("x-cost", cost)]).await, status, "{path} {cost}");
    }
    // Nine cost more than an hour has: that will never pass. One passes later.
    assert!(!gateway.get("/b/1", &[("x-cost", "9")]).await.headers.contains_key("retry-after"));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for line in [
        r#"rate_limit_requests_total{limit="bucket",result="admitted"} 2"#,
        r#"rate_limit_requests_total{limit="bucket",result="refused"} 1"#,
        r#"rate_limit_requests_total{limit="trial",result="spared"} 3"#,
        r#"rate_limit_requests_total{limit="month",result="refused"} 1"#,
        r#"rate_limit_accounts{limit="took"} 1"#,
        r#"rate_limit_forgotten_total{limit="took"} 0"#,
        r#"rate_limit_waiting{limit="bucket"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// Without a key there is one account, whoever asks.
#[tokio::test]
async fn a_limit_without_a_key_is_everybodys_together() {
    let text = file(&format!(
        "rateLimits: {{ all: {{ rate: 2/h }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [all] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
        upstream("one").await
    ));
    let text = text.replace("name: public,", "name: public, trustedProxies: [127.0.0.0/8],");
    let gateway = Gateway::of(&text).await;
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.3", 429)] {
        assert_eq!(gateway.get("/", &[("x-forwarded-for", client)]).await.status, status, "{client}");
    }
}

/// Whatever a reload grants, what was spent stays spent. Only who counts otherwise begins anew.
#[tokio::test]
async fn what_was_spent_outlives_a_reload() {
    // A limit of two before and after, and what is answered then to who has spent both.
    let mut changes = vec![
        ("key: clientIp, rate: 2/h", "key: clientIp, rate: 2/h, plans: { gold: { rate: 9/h } }", [429, 429]),
        ("rate: 2/h", "rate: 2/h, skip: [{ paths: [/none] }], spendOnDenial: true", [429, 429]),
        ("rate: 2/h, shadow: true", "rate: 2/h", [429, 429]),
        ("rate: 2/h", "rate: 2/h, cost: 2, settle: { header: x-took, max: 5 }, maxDebt: 3", [429, 429]),
        ("rate: 2/h, maxKeys: 5000", "rate: 2/h, maxKeys: 9000", [429, 429]),
        ("rate: 2/h", "rate: 4/h, burst: 2", [429, 429]),
        ("rate: 2/year, algorithm: slidingWindow", "rate: 3/year, algorithm: slidingWindow", [200, 429]),
        ("rate: 2/year, algorithm: fixedWindow", "rate: 3/year, algorithm: fixedWindow", [200, 429]),
        ("rate: 2/year, algorithm: fixedWindow", "rate: 2/week, algorithm: fixedWindow", [200, 200]),
        ("rate: 2/h", "rate: 2/h, algorithm: slidingWindow", [200, 200]),
        ("rate: 2/h", "rate: 2/h, key: clientIp", [200, 200]),
    ];
    if cfg!(feature = "redis") {
        let (before, after) = ("rate: 2/h, redis: gone", "rate: 2/h, redis: gone, deadline: 40ms, lease: 1%");
        changes.push((before, after, [429, 429]));
    }
    let one = upstream("one").await;
    let text = |limits: Vec<&str>| {
        let (mut defined, mut rules) = (String::new(), String::new());
        for (n, limit) in limits.iter().enumerate() {
            defined += &format!("  l{n}: {{ {limit} }}\n");
            rules += &format!(
                "      - {{ matches: [{{ path: {{ value: /{n} }} }}], policies: {{ rateLimit: [l{n}] }}, backendRefs: [{{ name: one }}] }}\n"
            );
        }
        let redis =
            if cfg!(feature = "redis") { "redis: { gone: { url: 'redis://127.0.0.1:1' } }\n" } else { "" };
        file(&format!(
            "{redis}rateLimits:\n{defined}upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\nroutes:\n  - name: r\n    rules:\n{rules}"
        ))
    };
    let directory = Directory::new("outlives");
    directory.write("gateway.yaml", &text(changes.iter().map(|(before, ..)| *before).collect()));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let twice = async |n: usize| {
        let path = format!("/{n}/");
        [gateway.get(&path, &[]).await.status, gateway.get(&path, &[]).await.status]
    };
    for (n, (before, ..)) in changes.iter().enumerate() {
        assert_eq!(twice(n).await, [200, 200], "{before}");
    }
    directory.write("gateway.yaml", &text(changes.iter().map(|(_, after, _)| *after).collect()));
    gateway.until(|status| status["generation"] == 2).await;
    for (n, (before, after, expected)) in changes.iter().enumerate() {
        assert_eq!(twice(n).await, *expected, "{before} -> {after}");
    }
}

/// A list is one decision, of which nothing is spent where it refuses. Lists are decided one after the other, and what let
/// pass before has been spent: ADR 12 says why.
#[tokio::test]
async fn whom_a_later_list_refuses_has_spent_those_before() {
    let one = upstream("one").await;
    let text = file(&format!(
        "rateLimits:\n  \
         door: {{ key: clientIp, rate: 3/h }}\n  \
         rule: {{ key: clientIp, rate: 2/h }}\n  \
         beside: {{ key: clientIp, rate: 100/h }}\n\
         quotas: {{ calls: {{ allowance: 1, period: year, key: clientIp }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [beside, rule], quota: [calls] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    let gateway = Gateway::of(&text.replace("name: public,", "name: public, rateLimit: [door],")).await;
    let metric = async |limit: &str, result: &str| -> u64 {
        let told = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let start = format!("portcullis_rate_limit_requests_total{{limit={limit:?},result={result:?}}} ");
        told.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("0").parse().unwrap()
    };
    // Served; refused by the quota, then by the limit of the rule, then by that of the listener.
    for (refused_by, spent) in
        [(None, [1, 1, 1]), (Some("calls"), [2, 2, 2]), (Some("rule"), [3, 2, 2]), (Some("door"), [3, 2, 2])]
    {
        let answer = gateway.get("/", &[]).await;
        assert_eq!(answer.status, if refused_by.is_some() { 429 } else { 200 });
        let told = answer.headers.get("ratelimit").map_or("", |told| told.to_str().unwrap());
        let by = refused_by.map(|name| format!("{name:?};r=0;"));
        assert!(by.is_none_or(|by| told.contains(&by)), "{refused_by:?}: {told}");
        let mut now = [0; 3];
        for (limit, now) in ["door", "beside", "rule"].into_iter().zip(&mut now) {
            *now = metric(limit, "admitted").await;
        }
        assert_eq!(now, spent, "{refused_by:?}");
    }
    assert_eq!((metric("door", "refused").await, metric("rule", "refused").await), (1, 1));
}

/// Requests wait for their turn, and who would wait too long is refused.
#[tokio::test]
async fn a_leaky_bucket_shapes() {
    let gateway = Gateway::of(&file(&format!(
        "rateLimits: {{ l: {{ key: clientIp, rate: 20/min, algorithm: leakyBucket, maxWait: 30s }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [l] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
        upstream("one").await
    )))
    .await;
    shapes(&gateway).await;
}

/// Before any rule is known, too.
#[tokio::test]
async fn a_leaky_bucket_shapes_at_a_listener() {
    let text = file(&format!(
        "rateLimits: {{ l: {{ rate: 20/min, algorithm: leakyBucket, maxWait: 30s }}, plain: {{ rate: 100/h }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
        upstream("one").await
    ));
    let gateway = Gateway::of(&text.replace("name: public,", "name: public, rateLimit: [l, plain],")).await;
    shapes(&gateway).await;
}

/// Of many that come while nobody's turn is in sight: ten wait, 3 s each, and the others are refused.
async fn shapes(gateway: &Gateway) {
    let began = Instant::now();
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    let mut many = JoinSet::new();
    for _ in 0..30 {
        let (client, at) = (gateway.client.clone(), gateway.at("public"));
        many.spawn(async move { client.get(at, "/", &[]).await });
    }
    let waiting = async || {
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let told = metrics.lines().find_map(|line| line.split(r#"rate_limit_waiting{limit="l"} "#).nth(1));
        told.is_some_and(|count| count != "0")
    };
    while !waiting().await {
        assert!(began.elapsed() < PATIENCE, "some wait");
        sleep(Duration::from_millis(10)).await;
    }
    let (mut served, mut refused) = (0, 0);
    while served == 0 || refused == 0 {
        let answer = many.join_next().await.expect("some are served and some refused").unwrap();
        match answer.status {
            200 => served += 1,
            status => {
                assert_eq!((status, answer.headers.contains_key("retry-after")), (429, true));
                refused += 1;
            }
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(3), "the second waited for its turn");
}

/// The files of the guides are accepted as they stand.
#[test]
fn the_files_of_the_guides_are_accepted() {
    for guide in [
        include_str!("../../../docs/guides/choose_an_algorithm.md"),
        include_str!("../../../docs/guides/limits_by_plan.md"),
    ] {
        let text = yaml_of(guide)[0];
        let directory = Directory::new("limits");
        directory.write("keys.yaml", "keys: []\n");
        directory.write("gateway.yaml", text);
        let check = Config::file(directory.path("gateway.yaml")).check();
        assert!(check.is_accepted(), "{check}");
        assert!(!check.to_string().contains("rateLimit"), "{check}");
    }
}

/// What the guide of plans says, with keys of two plans.
#[tokio::test]
async fn plans_of_keys_have_their_limits() {
    let guide = include_str!("../../../docs/guides/limits_by_plan.md");
    let text = yaml_of(guide)[0];
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0");
    let directory = Directory::new("plans");
    let mint = |owner: &str, plan: &str| {
        let key = portcullis::authn::api_key::mint("shop", owner).unwrap();
        if plan.is_empty() { key } else { key.with(|entry| entry.plan(plan)) }
    };
    let keys = [mint("ann", "gold"), mint("bob", ""), mint("monitoring", "")];
    let entries: Vec<_> = keys.iter().map(|key| serde_json::to_value(key.entry()).unwrap()).collect();
    directory.write("keys.yaml", &serde_json::json!({ "keys": entries }).to_string());
    directory.write("gateway.yaml", &text.replace("127.0.0.1:9001", &dear().await.to_string()));
    let config = Config::file(directory.path("gateway.yaml"));
    let gateway = Gateway::start(config).await;
    for (key, passes) in keys.iter().zip([12, 5, 12]) {
        let secret = key.reveal().to_owned();
        let mut passed = 0;
        for _ in 0..12 {
            passed += u32::from(gateway.get("/0", &[("x-api-key", &secret)]).await.status == 200);
        }
        assert_eq!(passed, passes);
    }
}
