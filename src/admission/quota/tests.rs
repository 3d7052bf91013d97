use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    admission::{Cost, Fields, Settle, Skip},
    gate::AsyncGateLayer,
    head::Head,
    identity::Principal,
    key::Key,
    time::{ManualClock, Period, parse_utc},
};

fn hands(at: &str) -> ManualClock {
    ManualClock::new(parse_utc(at).unwrap())
}

fn principal(subject: &str, plan: &str) -> Principal {
    let principal = Principal::new("keys", "", subject);
    if plan.is_empty() { principal } else { principal.with_plan(plan) }
}

fn request(principal: &Principal) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    request.extensions_mut().insert(principal.clone());
    request
}

/// Asks a service behind the layer, which answers with this header `x-cost`.
async fn ask(layer: &AsyncGateLayer<Quotas>, who: &Principal, cost: &'static str) -> Response<Bytes> {
    let service = layer.layer(service_fn(move |_: Request<Empty<Bytes>>| async move {
        let response = Response::builder().header("x-cost", cost).body(Full::new(Bytes::from("served")));
        Ok::<_, Infallible>(response.unwrap())
    }));
    let response = service.oneshot(request(who)).await.unwrap();
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

async fn status(layer: &AsyncGateLayer<Quotas>, who: &Principal) -> u16 {
    ask(layer, who, "").await.status().as_u16()
}

#[tokio::test]
async fn a_period_is_the_calendars_and_refusals_say_when_it_ends() {
    let hands = hands("2027-02-27T23:00:00Z");
    let quota = Quota::builder("monthly", 2, Period::Month).clock(hands.clock()).build().unwrap();
    let (layer, handle) = (quota.clone().layer(), quota.handle());
    let (ada, bob) = (principal("ada", ""), principal("bob", ""));
    for expected in [200, 200, 429] {
        assert_eq!(status(&layer, &ada).await, expected);
    }
    assert_eq!(status(&layer, &bob).await, 200, "another account");
    let refused = ask(&layer, &ada, "").await;
    assert_eq!(refused.headers()["retry-after"], (25 * 3600).to_string().as_str());
    assert_eq!(refused.headers()["ratelimit"], "\"monthly\";r=0;t=90000");
    assert_eq!(refused.headers()["ratelimit-policy"], format!("\"monthly\";q=2;w={}", 28 * 86_400));
    let read = handle.consumption_of(&ada).await.unwrap();
    assert_eq!((read.used, read.remaining(), read.end), (2, Some(0), parse_utc("2027-03-01").unwrap()));
    hands.advance(Duration::from_secs(90_000));
    assert_eq!(status(&layer, &ada).await, 200);
    hands.step_back(Duration::from_secs(90_000));
    assert_eq!(status(&layer, &ada).await, 200, "the later counter goes on, with one more");
    assert_eq!(status(&layer, &ada).await, 429, "a clock that is set back gives nothing back");
    assert_eq!((handle.spent(), handle.refused()), (5, 3));
}

#[tokio::test]
async fn refusals_speak_grpc() {
    let layer = Quota::builder("none", 0, Period::Day).build().unwrap().layer();
    let service = layer.layer(service_fn(|_: Request<Empty<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    }));
    let mut request = request(&principal("ada", ""));
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let refused = service.oneshot(request).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"8".parse().unwrap()));
}

#[tokio::test]
async fn plans_are_looked_up_each_time_and_keep_what_was_spent() {
    let hands = hands("2027-02-01");
    let quota = Quota::builder("daily", 1, Period::Day)
        .plan("gold", 3)
        .plan("internal", Allowance::Unlimited)
        .plan("closed", 0)
        .clock(hands.clock())
        .build()
        .unwrap();
    assert!(quota.needs_identity());
    let (layer, handle) = (quota.clone().layer(), quota.handle());
    assert_eq!(status(&layer, &principal("ada", "")).await, 200);
    assert_eq!(status(&layer, &principal("ada", "unheard of")).await, 429);
    for expected in [200, 200, 429] {
        assert_eq!(status(&layer, &principal("ada", "gold")).await, expected, "an upgrade counts at once");
    }
    assert_eq!(status(&layer, &principal("ada", "")).await, 429, "and so does the way back");
    let closed = ask(&layer, &principal("bob", "closed"), "").await;
    assert_eq!((closed.status().as_u16(), closed.headers().get("retry-after")), (429, None));
    for _ in 0..10 {
        assert_eq!(status(&layer, &principal("ops", "internal")).await, 200);
    }
    let ops = handle.consumption_of(&principal("ops", "internal")).await.unwrap();
    assert_eq!((ops.used, ops.remaining()), (10, None), "it is counted all the same");
}

#[tokio::test]
async fn a_list_is_all_or_nothing_and_the_longest_wait_is_told() {
    let hands = hands("2027-02-01T12:00:00Z");
    let define = |name: &str, units: u64, period| Quota::builder(name, units, period).clock(hands.clock());
    let day = define("daily", 10, Period::Day).build().unwrap();
    let month = define("monthly", 2, Period::Month).build().unwrap();
    let layer = Quotas::from_iter([day.clone(), month]).fields(Fields::Always).legacy_fields(true).layer();
    let ada = principal("ada", "");
    let served = ask(&layer, &ada, "").await;
    assert_eq!(served.headers()["ratelimit"], "\"daily\";r=9;t=43200, \"monthly\";r=1;t=2376000");
    let names = ["limit", "remaining", "reset"].map(|name| format!("x-ratelimit-{name}"));
    let legacy = names.map(|name| served.headers()[name].to_str().unwrap().to_owned());
    assert_eq!(legacy, ["2", "1", "2376000"], "of the one that is nearest to its end");
    for expected in [200, 429, 429] {
        assert_eq!(status(&layer, &ada).await, expected);
    }
    assert_eq!(day.handle().consumption_of(&ada).await.unwrap().used, 2, "a denial spends nothing");
    assert_eq!(ask(&layer, &ada, "").await.headers()["retry-after"], "2376000");
}

#[tokio::test]
async fn what_it_has_cost_is_settled_at_the_end() {
    let settled = |head: &http::response::Parts| head.headers["x-cost"].to_str().ok()?.parse().ok();
    let quota = Quota::builder("tokens", 10, Period::Day).settle(Settle::by_head(settled)).build().unwrap();
    let (layer, handle, ada) = (quota.clone().layer(), quota.handle(), principal("ada", ""));
    let used = || async { handle.consumption_of(&ada).await.unwrap().used };
    ask(&layer, &ada, "7").await;
    assert_eq!(used().await, 7);
    ask(&layer, &ada, "0").await;
    assert_eq!(used().await, 7, "the unit charged ahead came back");
    ask(&layer, &ada, "nonsense").await;
    assert_eq!(used().await, 8);
    ask(&layer, &ada, "50").await;
    assert_eq!(used().await, 58, "beyond the allowance, once");
    assert_eq!(status(&layer, &ada).await, 429);
    handle.reset_of(&ada).await.unwrap();
    assert_eq!(status(&layer, &ada).await, 200);
}

#[tokio::test]
async fn what_went_wrong_can_be_free() {
    let free = |outcome: &crate::outcome::Outcome| (outcome.bytes == 0).then_some(0);
    let quota = Quota::builder("daily", 1, Period::Day).settle(Settle::by_outcome(free)).build().unwrap();
    let (layer, ada) = (quota.clone().layer(), principal("ada", ""));
    let mut failing =
        layer.layer(service_fn(|_: Request<Empty<Bytes>>| async { Err::<Response<Empty<Bytes>>, _>("no") }));
    for _ in 0..3 {
        let failed = failing.ready().await.unwrap().call(request(&ada)).await;
        assert_eq!(failed.err(), Some("no"));
    }
    assert_eq!((status(&layer, &ada).await, status(&layer, &ada).await), (200, 429));
}

#[tokio::test]
async fn what_costs_nothing_passes_and_what_costs_too_much_never_does() {
    let cost = |head: &Head<'_>| head.headers().get("x").map_or(0, |_| 11);
    let quota = Quota::builder("daily", 10, Period::Day).costing(Cost::told_by(cost)).build().unwrap();
    let (layer, ada) = (quota.clone().layer(), principal("ada", ""));
    assert_eq!(status(&layer, &ada).await, 200);
    let service = layer.layer(service_fn(|_: Request<Empty<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    }));
    let mut costly = request(&ada);
    costly.headers_mut().insert("x", "1".parse().unwrap());
    let refused = service.oneshot(costly).await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().get("retry-after")), (429, None));
    assert_eq!(quota.handle().consumption_of(&ada).await.unwrap().used, 0);
}

#[tokio::test]
async fn what_is_skipped_is_neither_charged_nor_settled() {
    let quota = Quota::builder("daily", 1, Period::Day)
        .settle(Settle::by_head(|_| Some(5)))
        .skip(Skip::new().principals_of("keys"))
        .by(Key::ClientAddr)
        .build()
        .unwrap();
    assert!(quota.needs_identity());
    let (layer, other) = (quota.clone().layer(), Principal::new("other", "", "bob"));
    for _ in 0..3 {
        assert_eq!(status(&layer, &principal("ada", "")).await, 200);
    }
    assert_eq!(quota.handle().consumption_of(&other).await.unwrap().used, 0);
    assert_eq!((status(&layer, &other).await, status(&layer, &other).await), (200, 429));
}

#[tokio::test]
async fn a_quota_in_shadow_looks_on() {
    let define = |name: &str, units: u64| Quota::builder(name, units, Period::Day);
    let trial = define("trial", 1).in_shadow(true).build().unwrap();
    let never = define("never", 0).in_shadow(true).build().unwrap();
    let enforced = define("enforced", 3).build().unwrap();
    let quotas = Quotas::from_iter([trial.clone(), never.clone(), enforced.clone()]).fields(Fields::Always);
    let (layer, ada) = (quotas.layer(), principal("ada", ""));
    let told = ask(&layer, &ada, "").await.headers()["ratelimit"].to_str().unwrap().to_owned();
    assert!(told.starts_with("\"enforced\";r=2;") && !told.contains("trial"), "{told}");
    for expected in [200, 200, 429] {
        assert_eq!(status(&layer, &ada).await, expected);
    }
    let used = async |quota: &Quota| quota.handle().consumption_of(&ada).await.unwrap().used;
    assert_eq!((used(&trial).await, used(&never).await, used(&enforced).await), (1, 0, 3));
    assert_eq!((trial.handle().spared(), never.handle().spared(), enforced.handle().spared()), (2, 3, 0));
    assert_eq!((trial.handle().refused(), enforced.handle().refused()), (0, 1));
}

#[test]
fn what_cannot_be_is_told() {
    let build = |name: &str, units| Quota::builder(name, units, Period::Day).build().err();
    for name in ["", "a b", "a\"", "größe", &"x".repeat(64)] {
        assert_eq!(build(name, 1), Some(QuotaError::Name), "{name}");
    }
    assert_eq!(build("a", 1 << 53), Some(QuotaError::Allowance));
    assert_eq!(build("a", (1 << 53) - 1), None);
    assert!(!Quota::builder("a", 1, Period::Day).by(Key::ClientAddr).build().unwrap().needs_identity());
}

#[tokio::test]
async fn a_definition_that_comes_again_goes_on_with_its_counters() {
    let registry = QuotaRegistry::new();
    let define = |units: u64, period| registry.define(Quota::builder("q", units, period)).unwrap();
    let ada = principal("ada", "");
    let first = define(1, Period::Month);
    assert_eq!(status(&first.clone().layer(), &ada).await, 200);
    let again = define(2, Period::Month);
    assert_eq!((status(&again.clone().layer(), &ada).await, status(&again.layer(), &ada).await), (200, 429));
    let other = define(1, Period::Day);
    assert_eq!(status(&other.layer(), &ada).await, 200, "another period has other counters");
    drop(first);
    assert_eq!(define(1, Period::Month).handle().accounts(), Some(0), "nobody used them any more");
    assert_eq!(registry.define(Quota::builder("", 1, Period::Day)).unwrap_err(), QuotaError::Name);
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-quota-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, every: Duration) -> QuotaStore {
        QuotaStore::file(self.0.join("counters")).every(every).fallback(QuotaFallback::Deny)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const DAY: Duration = Duration::from_secs(86_400);

fn of_file(scratch: &Scratch, every: Duration) -> Quota {
    Quota::builder("monthly", 3, Period::Month).store(scratch.file(every)).build().unwrap()
}

#[tokio::test]
async fn a_file_is_taken_up_where_it_was_left() {
    let (scratch, ada) = (Scratch::new("again"), principal("ada", ""));
    let first = of_file(&scratch, DAY);
    assert_eq!(status(&first.clone().layer(), &ada).await, 200);
    // As a second process would find it.
    let second = of_file(&scratch, DAY);
    assert_eq!(status(&second.clone().layer(), &ada).await, 503, "another has the file");
    assert!(second.handle().open().await.unwrap_err().to_string().contains("in use"));
    drop(first);
    tokio::time::sleep(Duration::from_millis(1_050)).await; // until it is tried again
    assert_eq!(second.handle().consumption_of(&ada).await.unwrap().used, 1);
    for expected in [200, 200, 429] {
        assert_eq!(status(&second.clone().layer(), &ada).await, expected);
    }
    second.handle().flush().await.unwrap();
    let text = std::fs::read_to_string(scratch.0.join("counters")).unwrap();
    assert!(text.starts_with("portcullis-quota 1 monthly\n") && text.ends_with(" 3\n"), "{text}");
    assert!(!text.contains("ada"), "who it is does not stand there");
}

#[tokio::test]
async fn a_file_is_written_while_something_is_spent() {
    let (scratch, ada) = (Scratch::new("written"), principal("ada", ""));
    let quota = of_file(&scratch, Duration::from_millis(5));
    assert_eq!(status(&quota.clone().layer(), &ada).await, 200);
    let written = || std::fs::read_to_string(scratch.0.join("counters")).unwrap_or_default();
    while !written().ends_with(" 1\n") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_something_else_is_not_touched() {
    let (scratch, ada) = (Scratch::new("other"), principal("ada", ""));
    std::fs::write(scratch.0.join("counters"), "keys: []\n").unwrap();
    let quota = of_file(&scratch, DAY);
    assert_eq!(status(&quota.clone().layer(), &ada).await, 503);
    drop(quota);
    assert_eq!(std::fs::read_to_string(scratch.0.join("counters")).unwrap(), "keys: []\n");
    let open =
        Quota::builder("monthly", 1, Period::Month).store(scratch.file(DAY).fallback(QuotaFallback::Allow));
    let open = open.build().unwrap();
    assert_eq!((status(&open.clone().layer(), &ada).await, open.handle().uncounted()), (200, 1));
}

#[tokio::test]
async fn a_definition_that_comes_again_says_what_becomes_of_outages() {
    let (scratch, registry, ada) = (Scratch::new("outage"), QuotaRegistry::new(), principal("ada", ""));
    std::fs::write(scratch.0.join("counters"), "keys: []\n").unwrap();
    let define = |fallback| {
        let store = scratch.file(DAY).fallback(fallback);
        registry.define(Quota::builder("monthly", 1, Period::Month).store(store)).unwrap()
    };
    let open = define(QuotaFallback::Allow);
    assert_eq!(status(&open.clone().layer(), &ada).await, 200);
    let closed = define(QuotaFallback::Deny);
    assert!(Arc::ptr_eq(&open.counters, &closed.counters), "they go on");
    assert_eq!(status(&closed.layer(), &ada).await, 503);
}

#[tokio::test]
async fn a_quota_that_is_named_twice_is_charged_once() {
    let (quota, ada) = (Quota::builder("daily", 2, Period::Day).build().unwrap(), principal("ada", ""));
    let layer = Quotas::from_iter([quota.clone(), quota.clone()]).layer();
    for expected in [200, 200, 429] {
        assert_eq!(status(&layer, &ada).await, expected);
    }
}

#[tokio::test]
async fn what_we_could_not_serve_is_not_paid() {
    use crate::reject::{Protocol, Reason, Rejection};

    let (quota, ada) = (Quota::builder("daily", 9, Period::Day).build().unwrap(), principal("ada", ""));
    let layer = quota.clone().layer();
    for (reason, paid) in [
        (Reason::Overloaded, 0),
        (Reason::CircuitOpen, 0),
        (Reason::NoEndpoint, 0),
        (Reason::RateLimited, 1),
        (Reason::UpstreamTimeout, 2),
    ] {
        let service = layer.layer(service_fn(move |_: Request<Empty<Bytes>>| async move {
            Ok::<_, Infallible>(Rejection::new(reason).into_response(Protocol::Http).map(Full::new))
        }));
        let response = service.oneshot(request(&ada)).await.unwrap();
        response.into_body().collect().await.unwrap();
        assert_eq!(quota.handle().consumption_of(&ada).await.unwrap().used, paid, "{reason}");
    }
}

#[cfg(feature = "redis")]
#[tokio::test(start_paused = true)]
async fn accounts_and_servers_together_take_one_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let quota = |name: &str| {
        let store = QuotaStore::redis(crate::redis::Redis::builder(&url).unwrap().build());
        Quota::builder(name, 1, Period::Day).store(store).build().unwrap()
    };
    let quotas = ["a", "b", "c", "d"].map(quota);
    let (layer, began) = (Quotas::from_iter(quotas.clone()).layer(), tokio::time::Instant::now());
    assert_eq!(status(&layer, &principal("ada", "")).await, 200);
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(quotas.iter().all(|quota| quota.handle().uncounted() == 1));
}
