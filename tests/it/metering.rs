//! Quotas, usage, addresses and slow clients, on real sockets, files and Redis servers.
#![cfg(all(feature = "config", feature = "redis"))]

use std::{
    collections::BTreeMap,
    fs,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use portcullis::{
    admission::{
        Settle,
        quota::{Quota, QuotaFallback, QuotaStore, Quotas},
    },
    config::Config,
    gate::AsyncGateLayer,
    identity::Principal,
    redis::Redis,
    telemetry::usage::{UsageMeter, UsageStream},
    time::{Calendar, ManualClock, Period, WallClock, parse_utc},
    trip::State,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    gateway::world::{Client, Directory, Gateway, PATIENCE, Process, file, upstream},
    support::redis::{Nodes, Server},
};

/// What survives a kill of the server.
const DURABLE: &str = "appendonly yes\nappendfsync always";

fn store(server: &Server) -> QuotaStore {
    QuotaStore::redis(Redis::builder(&server.url()).unwrap().build())
        .deadline(PATIENCE)
        .fallback(QuotaFallback::Deny)
}

/// Noon in the middle of a month: no period ends while a test runs.
fn noon() -> SystemTime {
    parse_utc("2027-02-10T12:00:00Z").unwrap()
}

fn clock() -> WallClock {
    ManualClock::new(noon()).clock()
}

fn quota(name: &str, units: u64, period: Period, store: QuotaStore) -> Quota {
    Quota::builder(name, units, period).plan("gold", 2 * units).store(store).clock(clock()).build().unwrap()
}

fn ada() -> Principal {
    Principal::new("keys", "", "ada")
}

async fn status(layer: &AsyncGateLayer<Quotas>, who: &Principal) -> u16 {
    let service = layer.layer(service_fn(|_: http::Request<String>| async {
        let answer = http::Response::builder().header("x-cost", "5").body(String::new());
        Ok::<_, std::convert::Infallible>(answer.unwrap())
    }));
    let mut request = http::Request::new(String::new());
    request.extensions_mut().insert(who.clone());
    let response = service.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    status
}

#[tokio::test]
async fn instances_share_a_quota_exactly_and_a_kill_of_the_server_forgets_nothing() {
    let mut server = Server::with(DURABLE, &[]);
    let instances: Vec<_> = (0..4).map(|_| quota("monthly", 100, Period::Month, store(&server))).collect();
    let layers: Vec<_> = instances.iter().map(|quota| quota.clone().layer()).collect();
    let mut asked = tokio::task::JoinSet::new();
    for ask in 0..200 {
        let layer = layers[ask % 4].clone();
        asked.spawn(async move { status(&layer, &ada()).await });
    }
    let answers = asked.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 100);
    assert_eq!(answers.iter().filter(|status| **status == 429).count(), 100);
    let read = instances[0].handle().consumption_of(&ada()).await.unwrap();
    assert_eq!((read.used, read.remaining()), (100, Some(0)));

    server.kill();
    assert_eq!(status(&layers[0], &ada()).await, 503, "nothing is let pass that cannot be counted");
    server.again();
    let late = quota("monthly", 100, Period::Month, store(&server));
    assert_eq!(status(&late.clone().layer(), &ada()).await, 429);
    // A larger plan, in the middle of the period.
    assert_eq!(status(&late.clone().layer(), &ada().with_plan("gold")).await, 200);
    assert_eq!(late.handle().consumption_of(&ada()).await.unwrap().used, 101);

    // What is on the server ends a day after the month, and names nobody.
    let keys = server.ask("KEYS *");
    let key = keys.lines().find(|line| line.starts_with("portcullis:")).unwrap();
    assert!(key.starts_with("portcullis:{quota.") && key.contains(":monthly:M") && !key.contains("ada"));
    let lives = server.ask(&format!("TTL {key}"));
    let lives: u64 = lives.lines().next().unwrap().trim_start_matches(':').parse().unwrap();
    let rest = Calendar::UTC.span(Period::Month, noon()).remaining(noon()).as_secs();
    assert!((rest + 86_000..rest + 87_000).contains(&lives), "{lives} {rest}");
}

#[tokio::test]
async fn a_list_on_a_server_is_all_or_nothing_and_costs_are_settled() {
    let server = Server::start();
    let store = store(&server);
    let cost = |head: &http::response::Parts| head.headers["x-cost"].to_str().ok()?.parse().ok();
    let define = |name: &str, units, period| {
        Quota::builder(name, units, period)
            .settle(Settle::by_head(cost))
            .store(store.clone())
            .clock(clock())
            .build()
            .unwrap()
    };
    let (day, month) = (define("daily", 1_000, Period::Day), define("monthly", 10, Period::Month));
    let layer = Quotas::from_iter([day.clone(), month.clone()]).layer();
    let used = async |quota: &Quota| {
        quota.handle().flush().await.unwrap();
        quota.handle().consumption_of(&ada()).await.unwrap().used
    };
    assert_eq!(status(&layer, &ada()).await, 200);
    assert_eq!((used(&day).await, used(&month).await), (5, 5));
    assert_eq!(status(&layer, &ada()).await, 200);
    assert_eq!((used(&day).await, used(&month).await), (10, 10));
    assert_eq!(status(&layer, &ada()).await, 429);
    assert_eq!((used(&day).await, used(&month).await), (10, 10), "a denial spends nothing");
    // Also where a part of the list is kept elsewhere.
    let here = Quota::builder("here", 100, Period::Day).build().unwrap();
    let mixed = Quotas::from_iter([here.clone(), month.clone()]).layer();
    assert_eq!(status(&mixed, &ada()).await, 429);
    assert_eq!(used(&here).await, 0);
    month.handle().reset_of(&ada()).await.unwrap();
    assert_eq!(status(&mixed, &ada()).await, 200);
    assert_eq!(used(&here).await, 1);
}

#[tokio::test]
async fn a_quota_in_shadow_on_a_server_stands_in_nobodys_way() {
    let server = Server::start();
    let store = store(&server);
    let define = |name: &str, units: u64| {
        Quota::builder(name, units, Period::Month).store(store.clone()).clock(clock())
    };
    let trial = define("trial", 1).in_shadow(true).build().unwrap();
    let never = define("never", 0).in_shadow(true).build().unwrap();
    let enforced = define("enforced", 3).build().unwrap();
    let layer = Quotas::from_iter([trial.clone(), never.clone(), enforced.clone()]).layer();
    for expected in [200, 200, 200, 429] {
        assert_eq!(status(&layer, &ada()).await, expected);
    }
    let used = async |quota: &Quota| quota.handle().consumption_of(&ada()).await.unwrap().used;
    assert_eq!((used(&trial).await, used(&never).await, used(&enforced).await), (1, 0, 3));
    assert_eq!((trial.handle().spared(), enforced.handle().refused()), (2, 1));
    // Not even where it cannot be asked, though it would refuse everybody then.
    let gone = QuotaStore::redis(Redis::builder("redis://127.0.0.1:1").unwrap().build());
    let gone =
        Quota::builder("gone", 1, Period::Month).store(gone.fallback(QuotaFallback::Deny)).in_shadow(true);
    assert_eq!(status(&gone.build().unwrap().layer(), &ada()).await, 200);
}

#[tokio::test]
async fn a_server_that_is_stopped_lets_pass_uncounted_if_it_is_said() {
    let server = Server::start();
    let redis = Redis::builder(&server.url()).unwrap().build();
    let open = quota("monthly", 1, Period::Month, QuotaStore::redis(redis).fallback(QuotaFallback::Allow));
    let layer = open.clone().layer();
    // However long it takes to connect.
    let seen = async {
        loop {
            if let Ok(seen) = open.handle().consumption_of(&ada()).await {
                return seen.used;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, seen).await, Ok(0));
    server.signal("STOP");
    for _ in 0..20 {
        assert_eq!(timeout(PATIENCE, status(&layer, &ada())).await, Ok(200));
    }
    assert_eq!(open.handle().uncounted(), 20);
    server.signal("CONT");
    // Some of those that came too late have been counted there.
    let until = Instant::now() + PATIENCE;
    while open.handle().consumption_of(&ada()).await.is_err() || status(&layer, &ada()).await == 200 {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(20)).await;
    }
}

/// A file of a gateway whose callers name themselves.
async fn described(rest: &str, policies: &str) -> String {
    let upstream = upstream("one").await;
    file(&format!(
        "{rest}upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
         routes: [{{ name: shop, rules: [{{ name: all, policies: {{ {policies} }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    ))
}

#[tokio::test]
async fn two_gateways_hold_one_quota_and_tell_of_it() {
    let server = Server::start();
    let text = described(
        &format!(
            "redis: {{ shared: {{ url: {:?} }} }}\n\
             quotas: {{ yearly: {{ allowance: 6, period: year, key: {{ header: x-tenant }}, redis: shared, deadline: 30s, fallback: deny }} }}\n",
            server.url()
        ),
        "quota: [yearly], rateLimitFields: { standard: always, legacy: true }",
    )
    .await;
    let (one, other) = (Gateway::of(&text).await, Gateway::of(&text).await);
    for left in (0..6).rev() {
        let gateway = if left % 2 == 0 { &one } else { &other };
        let served = gateway.get("/", &[("x-tenant", "acme")]).await;
        assert_eq!(served.status, 200);
        let told = served.headers["ratelimit"].to_str().unwrap().to_owned();
        assert_eq!(served.headers["x-ratelimit-remaining"], left.to_string().as_str());
        assert!(told.starts_with(&format!("\"yearly\";r={left};t=")), "{told}");
    }
    let refused = one.get("/", &[("x-tenant", "acme")]).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=366 * 86_400).contains(&wait));
    assert_eq!(other.get("/", &[("x-tenant", "other")]).await.status, 200);
    let quota = one.status().await["quotas"][0].clone();
    assert_eq!(
        (&quota["name"], &quota["spent"], &quota["refused"]),
        (&"yearly".into(), &3.into(), &1.into())
    );
    let metrics = one.client.get(one.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains(r#"portcullis_quota_refusals_total{quota="yearly"} 1"#), "{metrics}");
}

/// What a file says of a quota's costs, of what it does not count, and of one that only looks on.
#[tokio::test]
async fn a_file_says_what_quotas_count() {
    let text = described(
        "quotas:\n  \
           tokens: { allowance: 10, period: month, key: { header: x-tenant }, cost: { header: x-cost, max: 4 }, skip: [{ paths: [/free] }] }\n  \
           trial: { allowance: 2, period: month, key: { header: x-tenant }, shadow: true }\n",
        "quota: [tokens, trial]",
    )
    .await;
    let gateway = Gateway::of(&text).await;
    let ask = async |path: &str, cost: &str| {
        gateway.get(path, &[("x-tenant", "acme"), ("x-cost", cost)]).await.status
    };
    for (path, cost, status) in [
        ("/", "3", 200),
        ("/", "9", 200),
        ("/free", "9", 200),
        ("/", "4", 429),
        ("/", "3", 200),
        ("/", "1", 429),
    ] {
        assert_eq!(ask(path, cost).await, status, "{path} {cost}");
    }
    let quotas = gateway.status().await["quotas"].clone();
    let count = |quota: usize, what: &str| quotas[quota][what].as_u64().unwrap();
    assert_eq!((count(0, "refused"), count(0, "spared")), (2, 0));
    assert_eq!((count(1, "refused"), count(1, "spent")), (0, 2));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains(r#"portcullis_quota_spared_total{quota="trial"} 2"#), "{metrics}");
    let read = async |path: &str| gateway.client.get(gateway.at("admin"), path, &[]).await;
    let told = read("/quotas/tokens?header.x-tenant=acme").await;
    let told: serde_json::Value = serde_json::from_str(&told.text).unwrap();
    let units = ["used", "allowance", "remaining"].map(|what| told[what].as_u64().unwrap());
    assert_eq!((units, &told["quota"]), ([10, 10, 0], &"tokens".into()));
    assert!(told["start"].as_str() < told["end"].as_str(), "{told}");
    let other = read("/quotas/tokens?header.x-tenant=a%26b+c").await.text;
    assert!(other.contains("\"used\": 0"), "{other}");
    for (path, status, said) in [
        ("/quotas/none", 404, "no rule has a quota of this name"),
        ("/quotas/tokens", 400, "it counts by header.x-tenant, which is not said"),
        ("/quotas/tokens?header.x-tenant=a&header.x-tenant=b", 400, "header.x-tenant is said twice"),
        ("/quotas/tokens?tenant=acme", 400, "expected address, issuer"),
        ("/quotas/tokens?header.x-tenant=acme&subject=ann", 400, "a caller is a provider and a subject"),
        ("/quotas/tokens?header.x-tenant=%ff", 400, "not UTF-8"),
        ("/quotas/tokens?header.x-tenant=acme&address=here", 400, "address is no IP address"),
    ] {
        let answer = read(path).await;
        assert!(
            answer.status == status && answer.text.contains(said),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
    }
}

#[tokio::test]
async fn a_file_of_a_gateway_that_is_killed_goes_on_where_it_was_written() {
    let directory = Directory::new("quota-kill");
    let text = described(
        "quotas: { monthly: { allowance: 5, period: { billingDay: 31 }, key: { header: x-tenant }, file: counters } }\n",
        "quota: [monthly]",
    )
    .await;
    directory.write("gateway.yaml", &text);
    let path = directory.path("gateway.yaml");
    let (client, run) = (Client::new(), || Process::start(&["--config", path.to_str().unwrap()]));
    let ask = async |process: &mut Process| {
        let at = process.addresses(2).await["public"];
        let client = client.clone();
        move || {
            let client = client.clone();
            async move { client.get(at, "/", &[("x-tenant", "acme")]).await.status }
        }
    };
    let mut first = run();
    let asked = ask(&mut first).await;
    for _ in 0..3 {
        assert_eq!(asked().await, 200);
    }
    let written = || fs::read_to_string(directory.path("counters")).unwrap_or_default();
    let until = Instant::now() + PATIENCE;
    while !written().ends_with(" 3\n") {
        assert!(Instant::now() < until, "{:?}", written());
        sleep(Duration::from_millis(20)).await;
    }
    first.signal("KILL");
    first.exit().await;
    let mut second = run();
    let asked = ask(&mut second).await;
    for expected in [200, 200, 429] {
        assert_eq!(asked().await, expected);
    }
    // An orderly end writes all.
    second.signal("TERM");
    assert_eq!(second.exit().await, Some(0));
    assert!(written().ends_with(" 5\n"), "{:?}", written());
}

/// The events of these lines by their ids; a repeat must say the same.
fn events<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, serde_json::Value> {
    let mut events = BTreeMap::new();
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = event["id"].as_str().unwrap().to_owned();
        let before = events.insert(id, event.clone());
        assert!(before.is_none_or(|before| before == event), "{line}");
    }
    events
}

fn requests(events: &BTreeMap<String, serde_json::Value>) -> u64 {
    events.values().map(|event| event["requests"].as_u64().unwrap()).sum()
}

/// What stands in a stream.
fn streamed(server: &Server) -> BTreeMap<String, serde_json::Value> {
    let all = server.ask("XRANGE portcullis:{usage}:events - +");
    events(all.lines().filter(|line| line.starts_with('{')))
}

#[tokio::test]
async fn usage_reaches_the_file_and_the_stream_whatever_is_killed() {
    let mut server = Server::with(DURABLE, &[]);
    let directory = Directory::new("usage-kill");
    let text = described(
        &format!(
            "redis: {{ shared: {{ url: {:?} }} }}\n\
             usage: {{ interval: 100ms, instance: eu-1, spool: spool, file: {{ path: usage.jsonl }}, redis: {{ server: shared }} }}\n\
             shutdown: {{ delay: 0s, grace: 5s }}\n",
            server.url()
        ),
        "",
    )
    .await;
    directory.write("gateway.yaml", &text);
    let path = directory.path("gateway.yaml");
    let (client, run) = (Client::new(), || Process::start(&["--config", path.to_str().unwrap()]));
    let filed = || {
        let text = fs::read_to_string(directory.path("usage.jsonl")).unwrap_or_default();
        events(text.lines())
    };
    let until = async |what: &str, is: &dyn Fn() -> bool| {
        let until = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < until, "{what}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    let mut first = run();
    let at = first.addresses(2).await["public"];
    for _ in 0..7 {
        assert_eq!(client.get(at, "/", &[]).await.status, 200);
    }
    until("the stream", &|| requests(&streamed(&server)) == 7).await;
    // What Redis does not take is in the spool when the gateway is killed.
    server.kill();
    for _ in 0..5 {
        assert_eq!(client.get(at, "/missing", &[]).await.status, 200);
    }
    until("the file", &|| requests(&filed()) == 12).await;
    first.signal("KILL");
    first.exit().await;
    server.again();
    let mut second = run();
    let at = second.addresses(2).await["public"];
    until("the rest", &|| requests(&streamed(&server)) == 12).await;
    // What was counted just before an orderly end is delivered.
    for _ in 0..3 {
        assert_eq!(client.get(at, "/", &[]).await.status, 200);
    }
    second.signal("TERM");
    assert_eq!(second.exit().await, Some(0));
    let (filed, streamed) = (filed(), streamed(&server));
    assert_eq!((requests(&filed), requests(&streamed)), (15, 15));
    assert_eq!(filed, streamed, "the same events, with the same ids");
    assert_eq!(fs::read_dir(directory.path("spool")).unwrap().count(), 0);
    let one = filed.values().next().unwrap();
    assert_eq!(
        (&one["instance"], &one["route"], &one["outcome"]),
        (&"eu-1".into(), &"shop/all".into(), &"success".into())
    );
}

#[tokio::test]
async fn addresses_are_kept_out_and_their_file_is_followed() {
    let directory = Directory::new("addresses");
    let many: String =
        (0..100_000_u32).map(|n| format!("10.{}.{}.{}/31\n", n >> 15, n >> 7 & 255, n << 1 & 255)).collect();
    directory.write("networks", &many);
    let text = described("", "addresses: { deny: [192.0.2.0/24], denyFile: networks }").await;
    directory.write(
        "gateway.yaml",
        &text.replace("address: 127.0.0.1:0 }]", "address: 127.0.0.1:0, trustedProxies: [127.0.0.1] }]"),
    );
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let from = async |address: &str| gateway.get("/", &[("x-forwarded-for", address)]).await.status;
    for (address, status) in
        [("10.1.2.3", 403), ("192.0.2.1", 403), ("198.51.100.1", 200), ("2001:db8::1", 200)]
    {
        assert_eq!(from(address).await, status, "{address}");
    }
    let generation = |status: &serde_json::Value| status["generation"].as_u64().unwrap();
    directory.write("networks", &format!("{many}198.51.100.0/24 # more\n"));
    gateway.until(|status| generation(status) == 2).await;
    assert_eq!((from("198.51.100.1").await, from("10.1.2.3").await), (403, 403));
    directory.write("networks", "10.0.0.0/33\n");
    let refused = gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    assert!(
        refused["lastLoad"]["faults"][0].as_str().unwrap().contains("denyFile: line 1: expected a network"),
        "{refused:#}"
    );
    assert_eq!(from("198.51.100.1").await, 403, "what is in force stays");
}

#[tokio::test]
async fn a_listener_lets_in_who_is_allowed() {
    let text = described("", "").await;
    let closed = text
        .replace("address: 127.0.0.1:0 }]", "address: 127.0.0.1:0, addresses: { allow: [192.0.2.0/24] } }]");
    let gateway = Gateway::of(&closed).await;
    assert_eq!(gateway.get("/", &[]).await.status, 403);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for line in
        [r#"status="403""#, r#"portcullis_address_refusals_total{position="listener",name="public"} 1"#]
    {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// Sends this, goes on with as many bytes as it can, one by one, and tells what comes until the end.
async fn answer(at: SocketAddr, sent: &str, dripping: usize) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let drip = async {
        for _ in 0..dripping {
            sleep(Duration::from_millis(20)).await;
            if writing.write_all(b"x").await.is_err() {
                break;
            }
        }
        pending::<()>().await;
    };
    let mut answer = Vec::new();
    let heard = async {
        tokio::select! {
            _ = reading.read_to_end(&mut answer) => {}
            () = drip => {}
        }
    };
    timeout(PATIENCE, heard).await.expect("it was kept waiting");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_clients_are_given_up() {
    let reader = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = reader.local_addr().unwrap();
    let app = axum::Router::new().fallback(|body: String| async move { body });
    tokio::spawn(async move { axum::serve(reader, app).await.unwrap() });
    let text = file(&format!(
        "upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
         routes: [{{ name: shop, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    let with = |rates: &str| {
        text.replace(
            "address: 127.0.0.1:0 }]",
            &format!("address: 127.0.0.1:0, minimumRates: {{ {rates} }} }}]"),
        )
    };
    let strict = Gateway::of(&with("head: 1000000, body: 1000000, grace: 100ms")).await;
    let at = strict.at("public");
    let head = "GET / HTTP/1.1\r\nhost: a\r\nx-drip: ";
    let body = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 100000\r\n\r\nfew";
    for (sent, dripping) in [(head, 0), (head, 5000), (body, 0), (body, 5000)] {
        let late = answer(at, sent, dripping).await;
        assert!(late.starts_with("HTTP/1.1 408 "), "{sent} {dripping}: {late}");
    }
    assert_eq!(strict.get("/", &[]).await.status, 200);

    // Without a rate, one may take its time.
    let lenient = Gateway::of(&with("head: 0, body: 0, response: 0")).await;
    let mut stream = TcpStream::connect(lenient.at("public")).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\n")
        .await
        .unwrap();
    for byte in [b"a", b"b", b"c"] {
        sleep(Duration::from_millis(100)).await;
        stream.write_all(byte).await.unwrap();
    }
    let mut served = String::new();
    stream.read_to_string(&mut served).await.unwrap();
    assert!(served.starts_with("HTTP/1.1 200 "), "{served}");
}

/// An upstream that answers without an end, and counts its answers: those that began, and those of which nobody wants more.
async fn endless() -> (SocketAddr, [Arc<AtomicUsize>; 2]) {
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let counts = [Arc::<AtomicUsize>::default(), Arc::default()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, [begun, ended]) = (listener.local_addr().unwrap(), counts.clone());
    let app = axum::Router::new().fallback(move || {
        begun.fetch_add(1, SeqCst);
        let alive = Alive(Arc::clone(&ended));
        let chunks = futures_util::stream::unfold(alive, async |alive| {
            Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 16_384])), alive))
        });
        async { axum::response::Response::new(axum::body::Body::from_stream(chunks)) }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, counts)
}

/// A gateway in front of this, whose clients must be so fast.
async fn with_rates(upstream: SocketAddr, rates: &str) -> Gateway {
    let text = file(&format!(
        "upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
         routes: [{{ name: shop, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    let said = format!("address: 127.0.0.1:0, minimumRates: {{ {rates} }} }}]");
    Gateway::of(&text.replace("address: 127.0.0.1:0 }]", &said)).await
}

async fn over_version_2(gateway: &Gateway) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = TcpStream::connect(gateway.at("public")).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn asking(method: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri("http://a/").body(()).unwrap()
}

/// Over sockets, and over both versions: who reads an answer drop by drop or not at all.
#[tokio::test]
async fn slow_readers_are_given_up_over_both_versions() {
    let (upstream, [begun, ended]) = endless().await;
    // Neither is ever less: who looks seldom misses none.
    let until_ended = async |count: usize| {
        let late = Instant::now() + PATIENCE;
        while ended.load(SeqCst) < count {
            assert!(Instant::now() < late, "{} of {count} answers", ended.load(SeqCst));
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((begun.load(SeqCst), ended.load(SeqCst)), (count, count));
    };

    // A reader of version 1, and one of version 2, whose windows are full.
    let strict = with_rates(upstream, "response: 1000000, body: 1000000, grace: 200ms").await;
    let mut reader = TcpStream::connect(strict.at("public")).await.unwrap();
    reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    reader.read_u8().await.unwrap();
    until_ended(1).await;
    let mut client = over_version_2(&strict).await;
    let (response, _) = client.send_request(asking("GET"), true).unwrap();
    let mut reading = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    until_ended(2).await;
    let cut = async {
        loop {
            match reading.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("it has no end"),
            }
        }
    };
    let cut = timeout(PATIENCE, cut).await.unwrap();
    assert!(cut.is_reset() || cut.is_go_away() || cut.is_io(), "{cut}");

    // Who takes its time where that is allowed is not cut: it has what it was sent, seconds later.
    let lenient = with_rates(upstream, "response: 0, body: 0").await;
    let mut reader = TcpStream::connect(lenient.at("public")).await.unwrap();
    reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(1500)).await;
    let mut much = vec![0; 1 << 22];
    timeout(PATIENCE, reader.read_exact(&mut much)).await.unwrap().unwrap();
    assert_eq!((begun.load(SeqCst), ended.load(SeqCst)), (3, 2), "it goes on");
}

/// And who sends a body drop by drop, over version 2.
#[tokio::test]
async fn a_body_that_drips_over_version_2_is_408() {
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    let app = axum::Router::new().fallback(|body: String| async move { body });
    tokio::spawn(async move { axum::serve(echo, app).await.unwrap() });
    let strict = with_rates(address, "body: 1000000, grace: 200ms").await;
    let mut client = over_version_2(&strict).await;
    let (response, mut body) = client.send_request(asking("POST"), false).unwrap();
    let drip = async {
        while body.send_data(bytes::Bytes::from_static(b"x"), false).is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        pending::<()>().await;
    };
    let status = async { response.await.map(|response| response.status().as_u16()) };
    let told = async {
        tokio::select! {
            told = status => told,
            () = drip => unreachable!(),
        }
    };
    let told = timeout(PATIENCE, told).await.expect("it was waited for");
    assert_eq!(told.unwrap(), 408);
    // The others of its connection go on.
    let (response, mut body) = client.ready().await.unwrap().send_request(asking("POST"), false).unwrap();
    body.send_data(bytes::Bytes::from_static(b"quick"), true).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
}

/// What is cut at the end is counted, and so is what began on a meter that a reload has replaced.
#[tokio::test]
async fn what_is_cut_and_what_a_replaced_meter_has_counted_is_delivered() {
    let directory = Directory::new("usage-replaced");
    let text =
        async |to: &str| described(&format!("usage: {{ interval: 1h, file: {{ path: {to} }} }}\n"), "").await;
    directory.write("gateway.yaml", &text("one").await);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let mut endless = TcpStream::connect(gateway.at("public")).await.unwrap();
    endless.write_all(b"GET /trickle/1000000 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    endless.read_u8().await.unwrap();
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    directory.write("gateway.yaml", &text("two").await);
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    gateway.configured.gateway().cut().await;
    let counted = ["one", "two"].map(|name| {
        let text = fs::read_to_string(directory.path(name)).unwrap_or_default();
        requests(&events(text.lines()))
    });
    assert_eq!(counted, [2, 1]);
}

#[test]
fn what_is_wrong_is_told_at_its_field() {
    let text = file(
        "redis: { shared: { url: 'redis://127.0.0.1:1' } }\n\
         quotas:\n  \
           a: { allowance: many, period: day }\n  \
           b: { allowance: 1, period: { billingDay: 32 } }\n  \
           c: { allowance: 9007199254740992, period: month }\n  \
           d: { allowance: 1, period: day, redis: shard }\n  \
           e: { allowance: 1, period: day, redis: shared, file: y }\n  \
           f: { allowance: 1, period: day, deadline: 1s }\n  \
           g: { allowance: 1, period: day, file: x }\n  \
           h: { allowance: unlimited, period: day, file: x }\n  \
           i: { allowance: 1, period: day, fallback: deny }\n  \
           j: { allowance: 1, period: fortnight }\n  \
           k: { allowance: 1, period: day, cost: 0 }\n  \
           l: { allowance: 1, period: day, utcOffset: CET }\n  \
           n: { allowance: 7, period: day, cost: 9, plans: { gold: 8 } }\n  \
           o: { allowance: 1, period: day, redis: shared, deadline: 0s }\n  \
           p: { allowance: 1, period: day, redis: shared, deadline: 2m }\n  \
           q: { allowance: 1, period: day, redis: shared, maxKeys: 5 }\n  \
           r: { allowance: 1, period: day, maxKeys: 100000001 }\n  \
           s: { allowance: 5, period: day, cost: { header: x-c, max: 9, default: 6 } }\n  \
           t: { allowance: 5, period: day, settle: { header: x-c, min: 3, max: 2 } }\n  \
           u: { allowance: 5, period: day, settle: { header: x-c } }\n  \
           m: { allowance: 1, period: day }\n\
         usage: { interval: 0s, file: { path: u } }\n\
         upstreams: { one: { endpoints: ['127.0.0.1:1'] } }\n\
         routes: [{ name: shop, rules: [{ policies: { quota: [m, z], addresses: {} }, backendRefs: [{ name: one }] }] }]\n",
    );
    let said = Config::text("f", text).check().to_string();
    for expected in [
        "quotas.a.allowance: expected a whole number or `unlimited`",
        "quotas.b.period.billingDay: expected a number from 1 to 31",
        "quotas.c.allowance: an allowance is at most 9007199254740991 units",
        "quotas.d.redis: no server of this name; did you mean `shared`?",
        "quotas.e.file: `redis` keeps the counters already",
        "quotas.f.deadline: only `redis` has a deadline",
        "quotas.h.file: it is the file of `g`",
        "quotas.i.fallback: only what `redis` or a `file` keeps can be out of reach",
        "quotas.j.period: ",
        "quotas.k.cost: ",
        "quotas.l.utcOffset: expected an offset from UTC such as `Z`, `+01:00` or `-09:30`",
        "quotas.n.cost: more than any account ever holds: no request would ever pass",
        "quotas.o.deadline: nothing is decided in no time",
        "quotas.p.deadline: expected at most a minute: requests wait for so long",
        "quotas.q.maxKeys: `redis` holds as many as there are",
        "quotas.r.maxKeys: expected a number from 1 to 100000000",
        "quotas.s.cost.default: more than any account ever holds: no request would ever pass",
        "quotas.t.settle.min: more than `max`",
        "quotas.u.settle",
        "usage.interval: expected some time: batches would never end",
        "routes[0].rules[0].policies.quota[1]: no quota of this name",
        "policies.addresses: lets everybody in: expected `allow`, `allowFile`, `deny` or `denyFile`",
        "it counts callers, and nobody asks who they are: addresses are counted instead",
    ] {
        assert!(said.contains(expected), "{expected}\nis not in\n{said}");
    }
}

async fn used(meter: &UsageMeter) {
    let service = meter.layer().layer(service_fn(|_: http::Request<String>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    }));
    let mut request = http::Request::new(String::new());
    request.extensions_mut().insert(ada());
    let response = service.oneshot(request).await.unwrap();
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
}

/// Usage is added in a transaction. A server that refuses a part of it tells why, and that it does not serve.
#[tokio::test]
async fn a_transaction_that_is_refused_tells_that_the_server_does_not_serve() {
    let server = Server::start();
    let redis = Redis::builder(&server.url()).unwrap().build();
    let meter = UsageMeter::builder().sink(UsageStream::new(redis.clone(), "usage")).build();
    meter.start().await.unwrap();
    let added = || server.ask("XLEN portcullis:{usage}:usage").trim() == ":1";
    for (fault, setting, well) in [
        ("full", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("a replica", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ] {
        server.ask(setting);
        used(&meter).await;
        let until = Instant::now() + PATIENCE;
        while redis.state() == State::Closed {
            assert!(Instant::now() < until, "{fault}: it is asked as if it served");
            assert!(!meter.flush(Duration::from_millis(100)).await, "{fault}");
        }
        server.ask(well);
        assert!(meter.flush(PATIENCE).await, "{fault}");
        assert!(added(), "{fault}: added once");
        server.ask("DEL portcullis:{usage}:usage");
    }
}

/// The slot of the stream has moved, and nobody else asks for it: the way is learned from the transaction's refusal.
#[tokio::test]
async fn a_transaction_is_sent_on_to_where_its_slot_has_gone() {
    let nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    let urls = nodes.urls();
    let redis = Redis::cluster(urls.iter().map(String::as_str)).unwrap().build();
    let meter = UsageMeter::builder().sink(UsageStream::new(redis, "usage")).build();
    meter.start().await.unwrap();
    used(&meter).await;
    assert!(meter.flush(PATIENCE).await);
    let key = "portcullis:{usage}:usage";
    let from = nodes.master_of(key);
    let to = (from + 1) % 3;
    nodes.move_slot(key, from, to);
    used(&meter).await;
    assert!(meter.flush(PATIENCE).await);
    assert_eq!(nodes.0[to].ask(&format!("XLEN {key}")).trim(), ":2");
}
