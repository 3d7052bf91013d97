use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt, service_fn};

use super::asking::{from, passes, refusal, remaining};
use crate::{
    admission::{
        Cost, Fields,
        rate_limit::{Charge, Limit, RateLimit, RateLimitRegistry},
    },
    body::Body,
    gate::{AsyncGateLayer, Enforce, Gates},
    identity::{ClientAddr, Principal},
    key::Key,
    reject::Reason,
};

const SECOND: Duration = Duration::from_secs(1);

fn limit(name: &str, rate: &str, burst: u32) -> Limit {
    Limit::builder(name, rate.parse().unwrap()).burst(NonZeroU32::new(burst).unwrap()).build().unwrap()
}

async fn hello(_: Request<()>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("hello")))
}

async fn answer(layer: &AsyncGateLayer<RateLimit>, request: Request<()>) -> (u16, HeaderMap, bytes::Bytes) {
    let (parts, body) = layer.layer(service_fn(hello)).oneshot(request).await.unwrap().into_parts();
    (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test(start_paused = true)]
async fn it_refuses_in_each_protocol() {
    let layer = RateLimit::new(limit("per \"ip\"", "2/min", 2)).layer();
    for _ in 0..2 {
        let (status, headers, body) = answer(&layer, from(1)).await;
        assert_eq!((status, &*body), (200, &b"hello"[..]));
        assert!(headers.is_empty(), "{headers:?}");
    }
    let (status, headers, body) = answer(&layer, from(1)).await;
    assert_eq!(status, 429);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["retry-after"], "30");
    assert_eq!(headers["ratelimit"], r#""per \"ip\"";r=0;t=30"#);
    assert_eq!(headers["ratelimit-policy"], r#""per \"ip\"";q=2;w=60"#);
    assert!(!headers.contains_key("x-ratelimit-limit"));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["reason"], body.get("detail")), (&"rate_limited".into(), None));

    let mut grpc = from(1);
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (status, headers, body) = answer(&layer, grpc).await;
    assert_eq!((status, &headers["grpc-status"], body.len()), (200, &"8".parse().unwrap(), 0));
    assert_eq!(headers["grpc-retry-pushback-ms"], "30000");
    assert_eq!(headers["ratelimit"], r#""per \"ip\"";r=0;t=30"#);

    assert_eq!(answer(&layer, from(2)).await.0, 200, "another address is another account");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_when_it_passes_rounded_up() {
    let gate = RateLimit::new(limit("a", "10/s", 1));
    assert!(passes(&gate, &mut from(1)));
    let refused = refusal(&gate, &mut from(1));
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert_eq!(refused.retry_delay(), Some(Duration::from_millis(100)));
    assert_eq!(refused.detail_text(), Some("reached: a"));
    advance(Duration::from_millis(99)).await;
    assert!(!passes(&gate, &mut from(1)));
    advance(Duration::from_millis(1)).await;
    assert!(passes(&gate, &mut from(1)));
    let response = refusal(&gate, &mut from(1)).into_response(crate::reject::Protocol::Http);
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test(start_paused = true)]
async fn what_can_never_pass_is_told_apart() {
    let layer = RateLimit::new(limit("a", "10/s", 5).costing(6)).layer();
    let (status, headers, _) = answer(&layer, from(1)).await;
    assert_eq!(status, 429);
    assert!(!headers.contains_key("retry-after"));
    assert_eq!(headers["ratelimit"], r#""a";r=5;t=0"#);
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_where_they_stand() {
    let both = || RateLimit::new(limit("s", "10/s", 20)).and(limit("m", "100/min", 50));
    let layer = both().fields(Fields::Always).legacy_fields(true).layer();
    let (status, headers, _) = answer(&layer, from(1)).await;
    assert_eq!(status, 200);
    assert_eq!(headers["ratelimit-policy"], r#""s";q=10;w=1, "m";q=100;w=60"#);
    assert_eq!(headers["ratelimit"], r#""s";r=10;t=1, "m";r=49;t=1"#);
    assert_eq!(
        (&headers["x-ratelimit-limit"], &headers["x-ratelimit-remaining"]),
        (&"10".parse().unwrap(), &"10".parse().unwrap())
    );
    assert_eq!(headers["x-ratelimit-reset"], "1");

    let silent = both().fields(Fields::Never).layer();
    for _ in 0..20 {
        assert_eq!(answer(&silent, from(1)).await.0, 200);
    }
    let (status, headers, _) = answer(&silent, from(1)).await;
    assert_eq!((status, &headers["retry-after"]), (429, &"1".parse().unwrap()));
    assert!(!headers.contains_key("ratelimit"));
}

#[tokio::test(start_paused = true)]
async fn a_denial_spends_nothing_of_the_others() {
    let (wide, narrow) = (limit("wide", "100/h", 100), limit("narrow", "1/h", 1));
    for gate in
        [RateLimit::new(wide.clone()).and(narrow.clone()), RateLimit::new(narrow.clone()).and(wide.clone())]
    {
        let mut request = from(1);
        passes(&gate, &mut request);
        let before = remaining(&wide, &mut request);
        for _ in 0..50 {
            assert!(!passes(&gate, &mut request));
        }
        assert_eq!(remaining(&wide, &mut request), before);
    }
    assert_eq!((wide.handle().refused(), narrow.handle().refused()), (0, 101));
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_told() {
    let gate = RateLimit::new(limit("s", "1/s", 1)).and(limit("m", "1/min", 1)).and(limit("h", "9/h", 9));
    assert!(passes(&gate, &mut from(1)));
    let refused = refusal(&gate, &mut from(1));
    assert_eq!(refused.retry_delay(), Some(60 * SECOND));
    assert_eq!(refused.detail_text(), Some("reached: s m"));
    let gate = gate.and(limit("never", "1/h", 1).costing(2));
    assert_eq!(refusal(&gate, &mut from(1)).retry_delay(), None);
}

#[tokio::test(start_paused = true)]
async fn a_limit_named_twice_is_charged_once() {
    let limit = limit("a", "10/h", 10);
    let gate = RateLimit::new(limit.clone()).and(limit.clone());
    assert!(passes(&gate, &mut from(1)));
    assert_eq!(remaining(&limit, &mut from(1)), 9);
    let gate = gate.and(limit.clone().costing(4));
    assert!(passes(&gate, &mut from(1)));
    assert_eq!(remaining(&limit, &mut from(1)), 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_costs_what_it_is_told() {
    let limit = limit("a", "10/h", 10);
    let by_query = Cost::told_by(|head| head.uri().query().map_or(0, |q| q.len() as u32));
    let gate = RateLimit::new(limit.clone().costing(by_query));
    let ask = |uri: &'static str| {
        let mut request = from(1);
        *request.uri_mut() = http::Uri::from_static(uri);
        (passes(&gate, &mut request), remaining(&limit, &mut request))
    };
    assert_eq!(ask("/"), (true, 10));
    assert_eq!(limit.handle().len(), 0, "what costs nothing leaves no account");
    assert_eq!(ask("/?1234567"), (true, 3));
    assert_eq!(ask("/?1234"), (false, 3));
    assert_eq!(ask("/?123"), (true, 0));
    assert_eq!(ask("/"), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_one_account_wherever_it_is_named() {
    let limits = RateLimitRegistry::new();
    let define = || limits.define(Limit::builder("one", "5/h".parse().unwrap())).unwrap();
    let layers =
        [RateLimit::new(define()).layer(), RateLimit::new(define()).and(limit("x", "9/s", 9)).layer()];
    let mut passed = 0;
    for n in 0..40 {
        let layer = &layers[n % 2].clone();
        passed += usize::from(answer(layer, from(1)).await.0 == 200);
    }
    assert_eq!(passed, 5);
}

#[tokio::test(start_paused = true)]
async fn accounts_are_by_key_and_fall_back_to_the_address() {
    let by = |key| RateLimit::new(Limit::builder("a", "1/h".parse().unwrap()).by(key).build().unwrap());
    let as_user = |address, user: &str| {
        let mut request = from(address);
        request.extensions_mut().insert(Principal::new("p", "i", user));
        request
    };
    let gate = by(Key::Principal);
    assert!(passes(&gate, &mut as_user(1, "ann")));
    assert!(!passes(&gate, &mut as_user(2, "ann")));
    assert!(passes(&gate, &mut as_user(1, "bob")));
    assert!(passes(&gate, &mut from(1)));
    assert!(!passes(&gate, &mut from(1)), "without a principal it is the address, not no limit");

    let shared = RateLimit::new(Limit::builder("all", "1/h".parse().unwrap()).shared().build().unwrap());
    assert!(passes(&shared, &mut from(1)));
    assert!(!passes(&shared, &mut as_user(2, "ann")));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_spends_and_lets_pass() {
    let limit = limit("a", "1/h", 1);
    let shadow = Enforce::shadow("a", RateLimit::new(limit.clone()).sync().unwrap());
    let handle = shadow.handle();
    for _ in 0..3 {
        assert!(passes(&shadow, &mut from(1)));
    }
    assert_eq!((handle.spared(), limit.handle().refused()), (2, 2));
    assert!(!passes(&Gates::new().with(RateLimit::new(limit).sync().unwrap()), &mut from(1)));
}

#[tokio::test(start_paused = true)]
async fn no_limit_lets_everything_pass_and_many_are_as_one() {
    assert!(passes(&RateLimit::from_iter([] as [Limit; 0]), &mut from(1)));
    let many: Vec<_> = (0..20).map(|n| limit(&n.to_string(), "3/h", 3)).collect();
    let gate = RateLimit::from_iter(many.clone());
    let passed = (0..10).filter(|_| passes(&gate, &mut from(1))).count();
    assert_eq!(passed, 3);
    assert!(many.iter().all(|limit| remaining(limit, &mut from(1)) == 0));
}

#[tokio::test(start_paused = true)]
async fn a_known_key_allocates_nothing() {
    let gate = RateLimit::from_iter(["a", "b", "c"].map(|name| limit(name, "1000/s", 1000))).sync().unwrap();
    let mut request = from(1);
    assert!(passes(&gate, &mut request));
    let mut passed = false;
    let count = allocation_counter::measure(|| passed = passes(&gate, &mut request));
    assert_eq!((passed, count.count_total), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_take_what_is_stated() {
    let limit = Limit::builder("a", "1/h".parse().unwrap())
        .max_keys(NonZeroU32::new(2_000_000).unwrap())
        .build()
        .unwrap();
    let gate = RateLimit::new(limit.clone());
    let mut request = from(0);
    for n in 0..1_000_000_u32 {
        *request.extensions_mut().get_mut().unwrap() = ClientAddr::new(n.to_be_bytes().into(), None);
        assert!(passes(&gate, &mut request));
    }
    let handle = limit.handle();
    assert_eq!((handle.len(), handle.forgotten()), (1_000_000, 0));
    assert!(handle.bytes() <= 48 * 1_000_000, "{} bytes", handle.bytes());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_neither_grows_memory_nor_frees_the_abusers() {
    let limit = Limit::builder("a", "10/h".parse().unwrap())
        .max_keys(NonZeroU32::new(5_000).unwrap())
        .build()
        .unwrap();
    let gate = RateLimit::new(limit.clone());
    let abusers = 0..200;
    for abuser in abusers.clone() {
        while passes(&gate, &mut from(abuser)) {}
    }
    let flooded: u32 = (1000..101_000).map(|n| u32::from(passes(&gate, &mut from(n)))).sum();
    let handle = limit.handle();
    assert!(handle.len() <= handle.capacity() && handle.capacity() <= 5_000);
    assert!(handle.bytes() <= 5_000 * 48, "{} bytes", handle.bytes());
    assert!(handle.forgotten() > 0);
    assert!(flooded <= 5_000 * 15, "the newcomers together got {flooded}");
    assert!(!abusers.into_iter().any(|abuser| passes(&gate, &mut from(abuser))));

    advance(3600 * SECOND).await;
    assert!((0..4_000).all(|n| passes(&gate, &mut from(n))), "when the flood has passed all is well");
}

#[test]
fn threads_together_admit_exactly_the_burst() {
    let limit =
        Limit::builder("a", "1/h".parse().unwrap()).burst(NonZeroU32::new(1000).unwrap()).build().unwrap();
    let gate = RateLimit::new(limit);
    let admitted = race(|thread| (0..1000).filter(|n| passes(&gate, &mut from((thread + n) % 3))).count());
    assert_eq!(admitted, 3000);
}

#[test]
fn threads_together_decide_lists_as_one() {
    let (a, b, c) = (limit("a", "1/h", 300), limit("b", "1/h", 500), limit("c", "1/h", 700));
    // All orders, so that two threads would wait for each other if limits were locked in the order of the list.
    let lists: Vec<Vec<Charge>> = vec![
        vec![a.clone().into(), b.clone().costing(2), c.clone().into()],
        vec![c.clone().into(), b.clone().into()],
        vec![b.clone().into(), a.clone().into(), b.clone().into()],
    ];
    let gates: Vec<_> = lists.into_iter().map(RateLimit::from_iter).collect();
    let passed = [const { AtomicUsize::new(0) }; 3];
    race(|thread| {
        for n in 0..2000 {
            let which = (thread as usize + n) % 3;
            if passes(&gates[which], &mut from(1)) {
                passed[which].fetch_add(1, Ordering::Relaxed);
            }
        }
        0
    });
    let [all, two, one] = passed.map(|n| n.into_inner() as u32);
    let spent = |limit: &Limit| limit.burst().get() - remaining(limit, &mut from(1));
    assert_eq!((spent(&a), spent(&b), spent(&c)), (all + one, 2 * all + two + one, all + two));
    assert_eq!(spent(&b).max(spent(&a) + 200), 500, "all that could be spent was");
}

/// Runs eight threads from one moment on, and adds up what they say.
fn race(run: impl Fn(u32) -> usize + Sync) -> usize {
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3, 4, 5, 6, 7].map(|thread| {
            let (start, run) = (&start, &run);
            scope.spawn(move || {
                start.wait();
                run(thread)
            })
        });
        threads.map(|thread| thread.join().unwrap()).into_iter().sum()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A log of every unit admitted: in no window more than the burst and what refills in it, of any limit; and what
    /// was refused would have been too much for one of them.
    #[test]
    fn lists_of_limits_keep_to_their_definitions(
        terms in prop::collection::vec((1_u32..20, 1_u32..30), 1..4),
        requests in prop::collection::vec((0_u64..2000, 0_u32..3, 1_u32..4), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limits: Vec<_> = terms.iter().map(|&(n, burst)| limit("x", &format!("{n}/10s"), burst)).collect();
            let begin = Instant::now();
            let mut log: Vec<(u32, Duration, u32)> = Vec::new();
            for (wait, key, cost) in requests {
                advance(Duration::from_millis(wait)).await;
                let now = begin.elapsed();
                let gate = RateLimit::from_iter(limits.iter().map(|limit| limit.clone().costing(cost)));
                let passed = passes(&gate, &mut from(key));
                let this = (key, now, cost);
                let mine: Vec<_> = log.iter().filter(|entry| entry.0 == key).chain([&this]).collect();
                // Exactly; and if each unit took so much longer.
                let fits = |longer: u128| limits.iter().zip(&terms).all(|(limit, &(count, _))| {
                    let (count, burst) = (u128::from(count), u128::from(limit.burst().get()));
                    let unit = limit.rate().period().as_nanos() + longer * count;
                    (0..mine.len()).all(|first| {
                        let spent: u128 = mine[first..].iter().map(|entry| u128::from(entry.2)).sum();
                        unit * spent <= unit * burst + count * (now - mine[first].1).as_nanos()
                    })
                });
                assert!(!passed || fits(0), "more than the rate, at {now:?}");
                assert!(passed || !fits(1), "starved, at {now:?}");
                if passed {
                    log.push((key, now, cost));
                }
            }
        });
    }
}
