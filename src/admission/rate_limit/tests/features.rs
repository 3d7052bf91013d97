//! What a limit can do besides refusing: skip, settle, look on, remember, grant more.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, Method, Request, Response};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

use super::asking::{from, passes, refusal, remaining};
use crate::{
    admission::{
        HeaderCost, Plans, Settle, Skip,
        rate_limit::{
            Account, Algorithm, Charge, Limit, LimitBuilder, LimitError, Quota, QuotaProvider, RateLimit,
            RateLimitRegistry,
        },
    },
    body::Body,
    head::Head,
    identity::Principal,
    key::Key,
    matching::PathTemplate,
    outcome::End,
    time::ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);

fn builder(rate: &str) -> LimitBuilder {
    Limit::builder("a", rate.parse().unwrap())
}

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::TokenBucket,
    Algorithm::SlidingWindow,
    Algorithm::CALENDAR,
    Algorithm::LeakyBucket { max_wait: Duration::ZERO },
];

#[tokio::test(start_paused = true)]
async fn every_algorithm_is_one_decision_with_the_others() {
    let limits =
        ALGORITHMS[..3].iter().map(|&algorithm| builder("100/min").algorithm(algorithm).build().unwrap());
    let narrow = Limit::builder("narrow", "1/h".parse().unwrap()).build().unwrap();
    for limit in limits {
        let gate = RateLimit::new(limit.clone()).and(narrow.clone());
        narrow.handle().reset(&mut Head::of(&mut from(1)));
        assert!(passes(&gate, &mut from(1)));
        let (before, admitted) = (remaining(&limit, &mut from(1)), limit.handle().admitted());
        for _ in 0..9 {
            assert!(!passes(&gate, &mut from(1)));
        }
        assert_eq!((remaining(&limit, &mut from(1)), limit.handle().admitted()), (before, admitted));
        assert_eq!(limit.handle().admitted(), 1);
        assert_eq!(limit.handle().refused(), 0, "another limit refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sliding_window_slides() {
    advance(600 * SECOND).await;
    let limit = builder("60/min").algorithm(Algorithm::SlidingWindow).build().unwrap();
    let gate = RateLimit::new(limit.clone());
    assert_eq!((0..100).filter(|_| passes(&gate, &mut from(1))).count(), 60);
    advance(60 * SECOND).await; // all of it counts still: the window before is covered as a whole
    let refused = refusal(&gate, &mut from(1));
    assert_eq!(refused.retry_delay(), Some(SECOND), "a sixtieth of it leaves in a second");
    advance(15 * SECOND).await;
    assert_eq!((0..100).filter(|_| passes(&gate, &mut from(1))).count(), 15);
    advance(120 * SECOND).await;
    assert_eq!(remaining(&limit, &mut from(1)), 60);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_window_ends_by_the_wall_clock() {
    let hands = ManualClock::new(SystemTime::UNIX_EPOCH + 1_795_251_590 * SECOND); // ten seconds before nine
    let limit = builder("3/h").algorithm(Algorithm::CALENDAR).clock(hands.clock()).build().unwrap();
    let gate = RateLimit::new(limit.clone());
    let all = || (0..10).filter(|_| passes(&gate, &mut from(1))).count();
    assert_eq!(all(), 3);
    assert_eq!(refusal(&gate, &mut from(1)).retry_delay(), Some(10 * SECOND));
    advance(3600 * SECOND).await;
    assert_eq!(all(), 0, "no other clock counts");
    hands.advance(10 * SECOND);
    assert_eq!(all(), 3);
    hands.step_back(20 * SECOND);
    assert_eq!(all(), 0, "the hour of nine has had its three");
    hands.advance(20 * SECOND);
    assert_eq!(all(), 0);
    hands.step_back(2 * 3600 * SECOND);
    assert_eq!(all(), 3, "a clock that was wrong by hours begins anew");
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_is_not_counted() {
    let limit = builder("1/h").build().unwrap();
    let office = Skip::new().networks(["10.0.0.0/8".parse().unwrap()]);
    let health = Skip::new().methods([Method::GET]).paths([PathTemplate::parse("/healthz").unwrap()]);
    let gate = RateLimit::new(Charge::from(limit.clone()).skip(office).skip(health));
    for _ in 0..5 {
        assert!(passes(&gate, &mut from(0x0a00_0001)));
        let mut request = from(1);
        *request.uri_mut() = http::Uri::from_static("/healthz");
        assert!(passes(&gate, &mut request));
    }
    assert_eq!((limit.handle().len(), limit.handle().admitted()), (0, 0));
    assert!(passes(&gate, &mut from(1)));
    assert!(!passes(&gate, &mut from(1)));
    let known = Charge::from(limit.clone()).skip(Skip::new().principal("staff", "ann"));
    assert!(known.needs_identity() && !Charge::from(limit).needs_identity());
}

#[tokio::test(start_paused = true)]
async fn a_limit_in_shadow_counts_and_lets_pass() {
    let (tried, real) =
        (builder("1/h").build().unwrap(), Limit::builder("b", "3/h".parse().unwrap()).build().unwrap());
    let gate = RateLimit::new(Charge::from(tried.clone()).in_shadow(true)).and(real.clone());
    assert_eq!((0..5).filter(|_| passes(&gate, &mut from(1))).count(), 3);
    let (handle, real) = (tried.handle(), real.handle());
    assert_eq!((handle.admitted(), handle.spared(), handle.refused()), (1, 4, 0));
    assert_eq!((real.admitted(), real.spared(), real.refused()), (3, 0, 2));
    let refused = refusal(&gate, &mut from(1));
    assert_eq!(refused.detail_text(), Some("reached: b"), "the other is not told");
    let response = refused.into_response(crate::reject::Protocol::Http);
    assert_eq!(response.headers()["ratelimit"], "\"b\";r=0;t=1200");
    assert_eq!(response.headers()["ratelimit-policy"], "\"b\";q=3;w=3600");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_slow_down_is_not_let_in() {
    for algorithm in ALGORITHMS {
        let limit = builder("2/min").algorithm(algorithm).build().unwrap();
        let strict = RateLimit::new(Charge::from(limit.clone()).spend_on_denial(true));
        let mild = RateLimit::new(
            Limit::builder("mild", "2/min".parse().unwrap()).algorithm(algorithm).build().unwrap(),
        );
        let mut passed = [0, 0];
        for _ in 0..60 {
            for (gate, passed) in [&strict, &mild].into_iter().zip(&mut passed) {
                *passed += u32::from(passes(gate, &mut from(1)));
            }
            advance(5 * SECOND).await;
        }
        assert!((2..=14).contains(&passed[1]), "{algorithm:?}: {passed:?}");
        match algorithm {
            Algorithm::FixedWindow { .. } => {} // the wall clock stands still here
            _ => assert!(passed[0] <= 2 && passed[1] > 4, "{algorithm:?}: {passed:?}"),
        }
        advance(300 * SECOND).await;
        assert!(
            passes(&strict, &mut from(1)) || algorithm.is_by_calendar(),
            "{algorithm:?}: it has slowed down"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_by_another_limit_is_charged_if_told() {
    let (wide, narrow) =
        (builder("100/h").build().unwrap(), Limit::builder("b", "1/h".parse().unwrap()).build().unwrap());
    let gate = RateLimit::new(Charge::from(wide.clone()).spend_on_denial(true)).and(narrow.clone());
    assert!(passes(&gate, &mut from(1)));
    for _ in 0..20 {
        assert!(!passes(&gate, &mut from(1)));
    }
    assert_eq!(remaining(&wide, &mut from(1)), 79);
    assert_eq!(wide.handle().refused(), 0);
}

async fn ask(gate: &RateLimit, cost: Option<&'static str>) -> (u16, HeaderMap) {
    let service = gate.clone().layer().layer(service_fn(move |_| async move {
        let mut response = Response::new(Body::from("hello"));
        if let Some(cost) = cost {
            response.headers_mut().insert("x-used", cost.parse().unwrap());
        }
        Ok::<_, std::convert::Infallible>(response)
    }));
    let response = service.oneshot(from(1)).await.unwrap();
    let (parts, body) = response.into_parts();
    http_body_util::BodyExt::collect(body).await.unwrap();
    (parts.status.as_u16(), parts.headers)
}

#[tokio::test(start_paused = true)]
async fn what_a_request_cost_in_the_end_is_charged() {
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR] {
        let limit = builder("100/h").algorithm(algorithm).max_debt(50).build().unwrap();
        let used = HeaderCost::new(HeaderName::from_static("x-used")).at_least(0).at_most(500);
        let gate = RateLimit::new(Charge::from(limit.clone()).costing(20).settle(Settle::by_header(used)));
        let left = || remaining(&limit, &mut from(1));
        assert_eq!(
            (ask(&gate, Some("5")).await.0, left()),
            (200, 95),
            "{algorithm:?}: the rest is given back"
        );
        assert_eq!((ask(&gate, Some("30")).await.0, left()), (200, 65), "more is charged");
        assert_eq!((ask(&gate, None).await.0, left()), (200, 45), "what is not told stays as it was");
        assert_eq!((ask(&gate, Some("lots")).await.0, left()), (200, 25));
        assert_eq!((ask(&gate, Some("0")).await.0, left()), (200, 25));
        // 75 units spent; 500 more would be far in debt, and 50 is the most.
        assert_eq!((ask(&gate, Some("99999999999")).await.0, left()), (200, 0));
        assert_eq!(ask(&gate, Some("1")).await.0, 429);
        if algorithm == Algorithm::TokenBucket {
            let standing = limit.handle().peek(&mut Head::of(&mut from(1)));
            assert_eq!(standing.whole_in, 150 * 36 * SECOND);
            assert_eq!(standing.more_in, 51 * 36 * SECOND);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_counted_is_not_settled() {
    let limit = builder("100/h").build().unwrap();
    let settle = Settle::by_head(|_| Some(50));
    let gate =
        RateLimit::new(Charge::from(limit.clone()).settle(settle).skip(Skip::new().methods([Method::GET])));
    assert_eq!((ask(&gate, None).await.0, remaining(&limit, &mut from(1))), (200, 100));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_tells_the_cost() {
    let limit = builder("10/h").build().unwrap();
    // Only what failed is counted, as tries of a password are.
    let settle = Settle::by_outcome(|outcome| {
        let failed = outcome.status == Some(http::StatusCode::UNAUTHORIZED);
        (outcome.end == End::Complete && !failed).then_some(0)
    });
    let gate = RateLimit::new(Charge::from(limit.clone()).settle(settle));
    let layer = gate.layer();
    for (status, left) in [(200, 10), (401, 9), (200, 9), (401, 8)] {
        let service = layer.layer(service_fn(move |_: Request<()>| async move {
            Response::builder().status(status).body(Body::from("hello"))
        }));
        let response = service.oneshot(from(1)).await.unwrap();
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        assert_eq!(remaining(&limit, &mut from(1)), left);
    }
    // Whoever goes away has not had success.
    let service =
        layer.layer(service_fn(|_: Request<()>| std::future::pending::<Result<Response<Body>, ()>>()));
    drop(service.oneshot(from(1)));
    assert_eq!(remaining(&limit, &mut from(1)), 8, "it was never asked");
}

#[tokio::test(start_paused = true)]
async fn plans_grant_more() {
    let quota = |rate: &str| Quota::new(rate.parse().unwrap());
    let plans = || {
        let gold = quota("10/h");
        Plans::new().with("gold", gold).with("free", quota("1/h"))
    };
    let as_user = |user: &str, plan: Option<&str>| {
        let mut request = from(1);
        let principal = Principal::new("p", "", user);
        let principal = plan.map_or_else(|| principal.clone(), |plan| principal.clone().with_plan(plan));
        request.extensions_mut().insert(principal);
        request
    };
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR] {
        let limit = builder("3/h").by(Key::Principal).algorithm(algorithm).plans(plans()).build().unwrap();
        assert!(limit.needs_identity());
        let gate = RateLimit::new(limit.clone());
        for (user, plan, granted) in
            [("ann", Some("gold"), 10), ("bob", Some("free"), 1), ("eve", None, 3), ("joe", Some("none"), 3)]
        {
            let mut request = as_user(user, plan);
            assert_eq!(limit.quota(&Head::of(&mut request)).rate().count().get(), granted);
            assert_eq!(remaining(&limit, &mut request), granted);
            let passed = (0..20).filter(|_| passes(&gate, &mut request)).count();
            assert_eq!(passed, granted as usize, "{algorithm:?} {user}");
            let refused = refusal(&gate, &mut request).into_response(crate::reject::Protocol::Http);
            assert!(refused.headers().contains_key("retry-after"));
        }
        assert_eq!(limit.handle().len(), 4);
    }

    let limits = RateLimitRegistry::new();
    let define = |plans| limits.define(builder("3/h").plans(plans)).unwrap();
    let first = define(plans());
    assert!(first.is_same(&define(plans())));
    let more = define(plans().with("gold", quota("20/h")));
    assert!(first.is_same(&more), "what was spent stays spent");
    assert_eq!(remaining(&more, &mut as_user("ann", Some("gold"))), 20);
    let windows = builder("3/h").algorithm(Algorithm::CALENDAR).plans(Plans::new().with("day", quota("9/d")));
    assert!(matches!(windows.build(), Err(LimitError::Plan { plan, .. }) if &*plan == "day"));
}

#[tokio::test(start_paused = true)]
async fn who_changes_plans_has_spent_as_many_units() {
    let gold = Quota::new("1000/h".parse().unwrap()).with_burst(NonZeroU32::new(200).unwrap());
    let limit = builder("100/h").by(Key::Principal).plans(Plans::new().with("gold", gold)).build().unwrap();
    let gate = RateLimit::new(limit.clone());
    let as_user = |plan: Option<&str>| {
        let mut request = from(1);
        let ann = Principal::new("p", "", "ann");
        request.extensions_mut().insert(plan.map_or_else(|| ann.clone(), |plan| ann.clone().with_plan(plan)));
        request
    };
    let (mut free, mut gold) = (as_user(None), as_user(Some("gold")));
    let spend = |request: &mut Request<()>, units: usize| {
        assert_eq!((0..units).filter(|_| passes(&gate, request)).count(), units);
    };
    spend(&mut free, 60);
    assert_eq!((remaining(&limit, &mut free), remaining(&limit, &mut gold)), (40, 140));
    spend(&mut gold, 30);
    advance(Duration::from_secs(36)).await;
    assert_eq!(remaining(&limit, &mut gold), 120, "it comes back as fast as the plan says");
    assert_eq!(remaining(&limit, &mut free), 20, "which is ten times as fast");
    spend(&mut free, 20);
    assert_eq!(remaining(&limit, &mut gold), 100);
    spend(&mut gold, 100);
    // Of a smaller account no more is owed than it holds.
    assert!(!passes(&gate, &mut free));
    advance(Duration::from_secs(36)).await;
    assert_eq!(remaining(&limit, &mut free), 1);
}

#[tokio::test(start_paused = true)]
async fn quotas_can_come_from_anywhere() {
    struct ByHeader;
    impl QuotaProvider for ByHeader {
        fn quota(&self, head: &Head<'_>) -> Option<Quota> {
            let rate = head.headers().get("x-rate")?.to_str().ok()?;
            rate.parse().ok().map(Quota::new)
        }
        fn most(&self) -> NonZeroU32 {
            NonZeroU32::new(50).unwrap()
        }
    }
    let with_rate = |n, rate: &'static str| {
        let mut request = from(n);
        request.headers_mut().insert("x-rate", rate.parse().unwrap());
        request
    };
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR] {
        let limit = builder("2/h").algorithm(algorithm).quotas(ByHeader).build().unwrap();
        let gate = RateLimit::new(limit);
        let all = |mut request| (0..2000).filter(|_| passes(&gate, &mut request)).count();
        assert_eq!((all(from(1)), all(with_rate(2, "40/h")), all(with_rate(3, "junk"))), (2, 40, 2));
        let daily = if algorithm == Algorithm::TokenBucket { 9 } else { 2 };
        assert_eq!((all(with_rate(4, "1000/h")), all(with_rate(5, "9/d"))), (1000, daily));
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_makes_an_account_whole() {
    for algorithm in ALGORITHMS {
        let limit =
            builder("1/h").by(Key::tuple([Key::Principal, Key::Route])).algorithm(algorithm).build().unwrap();
        let gate = RateLimit::new(limit.clone());
        let account = || Account::new().principal(Principal::new("p", "i", "ann")).route("orders");
        let mut request = from(1);
        request.extensions_mut().insert(Principal::new("p", "i", "ann"));
        request.extensions_mut().insert(crate::key::RouteName("orders".into()));
        assert!(passes(&gate, &mut request) && !passes(&gate, &mut request));
        assert!(!limit.handle().reset(&mut Account::new().address("0.0.0.1".parse().unwrap()).head()));
        assert_eq!(limit.handle().peek(&mut account().head()).remaining, 0);
        assert!(limit.handle().reset(&mut account().head()));
        assert_eq!((limit.handle().len(), limit.handle().peek(&mut account().head()).remaining), (0, 1));
        assert!(passes(&gate, &mut request) && !passes(&gate, &mut request));
    }
}

#[test]
fn bounds_can_be_told_in_bytes() {
    let capacity = |bytes| {
        builder("1/h")
            .max_bytes(std::num::NonZeroU64::new(bytes).unwrap())
            .build()
            .unwrap()
            .handle()
            .capacity()
    };
    assert_eq!((capacity(48_000), capacity(1)), (1000, 1));
}

#[test]
fn contradictions_are_refused() {
    let burst = NonZeroU32::new(5).unwrap();
    for algorithm in &ALGORITHMS[1..] {
        let refused = builder("1/h").algorithm(*algorithm).burst(burst).build();
        assert_eq!(refused.unwrap_err(), LimitError::NoBurst);
    }
    let wait = |max_wait| builder("1/h").algorithm(Algorithm::LeakyBucket { max_wait }).build();
    assert!(wait(Duration::from_secs(3600)).is_ok());
    assert_eq!(wait(Duration::MAX).unwrap_err(), LimitError::Wait(Duration::MAX));
    let refused = Limit::builder("a", crate::admission::rate_limit::Rate::new(1, SECOND / 2).unwrap())
        .algorithm(Algorithm::CALENDAR)
        .build();
    assert!(matches!(refused, Err(LimitError::Window { .. })));
    assert!(builder("1/month").max_debt(2000).build().is_err());
}
