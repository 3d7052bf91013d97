use std::{io, time::Duration};

use http::{Request, Response};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{Instant, advance};
use tower::{Service, ServiceExt, service_fn};

use super::{
    rollout::Rollout,
    trial::{Bound, Call},
    *,
};
use crate::{
    body::{
        Body,
        script::{Script, Step},
    },
    chance::Chance,
    context::Deadline,
    key::Key,
    ratio::Ratio,
    routing::split::{self, Split},
};

const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Instant {
    tokio_test::block_on(async { Instant::now() })
}

fn quick() -> Policy {
    let steps = [Ratio::percent(10), Ratio::percent(50)];
    Policy::new(steps).unwrap().least_time(MINUTE).least_calls(50).slow(Slow::Than(Duration::from_secs(1)))
}

fn call(failed: bool, millis: u64) -> Call {
    Call { failed, took: Duration::from_millis(millis), given_up: false }
}

/// Feeds a rollout with calls of both versions, by their shares, of which so many fail and are slow; as long as it goes
/// on, for so many calls at most.
fn run(policy: &Policy, chance: &Chance, old: (f64, f64), new: (f64, f64), most: usize) -> (State, usize) {
    let (mut at, epoch_of) = (now(), Rollout::epoch);
    let mut rollout = Rollout::new(policy.clone(), at);
    let happens = |share: f64| (chance.next() as f64) < share * (u64::MAX as f64);
    for number in 0..most {
        if rollout.state().has_ended() {
            return (rollout.state(), number);
        }
        at += Duration::from_millis(50);
        let is_new = chance.ratio(policy.shares()[rollout.at()]);
        let (version, (fails, slow)) = if is_new { (Version::New, new) } else { (Version::Old, old) };
        let millis = if happens(slow) { 2_000 } else { 10 };
        let epoch = epoch_of(&rollout);
        rollout.ended(version, epoch, call(happens(fails), millis), at);
    }
    (rollout.state(), most)
}

/// How many of so many canaries end so.
fn simulate(old: (f64, f64), new: (f64, f64), is: impl Fn(State) -> bool) -> usize {
    let policy = quick().margin(Ratio::percent(2)).unwrap();
    let chance = Chance::seeded(11);
    (0..RUNS).filter(|_| is(run(&policy, &chance, old, new, 60_000).0)).count()
}

const RUNS: usize = 120;
/// 5% of them, and three standard deviations.
const FEW: usize = 6 + 7;

/// Over the whole schedule, with both tests of each step.
#[test]
fn a_version_that_is_no_worse_is_seldom_rolled_back() {
    for both in [(0.001, 0.01), (0.01, 0.02)] {
        let back = simulate(both, both, |state| matches!(state, State::RolledBack(_)));
        assert!(back <= FEW, "{both:?}: {back}");
        let promoted = simulate(both, both, |state| state == State::Promoted);
        assert!(promoted >= RUNS - FEW, "{both:?}: {promoted}");
    }
}

#[test]
fn a_version_that_is_worse_by_the_margin_seldom_passes() {
    let old = (0.005, 0.01);
    for (new, worse) in [((0.025, 0.01), Worse::Failures), ((0.005, 0.06), Worse::Slowness)] {
        let back = simulate(old, new, |state| state == State::RolledBack(worse));
        assert!(back >= RUNS - FEW, "{new:?}: {back}");
    }
}

#[test]
fn a_broken_version_is_gone_after_a_few_calls() {
    let chance = Chance::seeded(3);
    let (state, calls) = run(&Policy::default(), &chance, (0.0, 0.0), (1.0, 0.0), 100_000);
    assert_eq!(state, State::RolledBack(Worse::Failures));
    // One in a hundred of them was the new version's.
    assert!(calls < 2_500, "{calls}");
}

#[test]
fn a_step_has_its_time_and_its_calls() {
    let begin = now();
    let policy = quick().least_calls(5_000);
    let mut rollout = Rollout::new(policy, begin);
    let mut feed = |calls: usize, at: Instant| {
        let mut moved = None;
        for _ in 0..calls {
            for version in [Version::Old, Version::New] {
                let epoch = rollout.epoch();
                moved = moved.or(rollout.ended(version, epoch, call(false, 10), at));
            }
        }
        moved.map(|moved| (moved.from, moved.to, moved.new.calls))
    };
    assert_eq!(feed(4_000, begin + 2 * MINUTE), None, "too few calls");
    assert_eq!(feed(2_000, begin + MINUTE / 2), None, "too soon");
    assert_eq!(feed(1, begin + MINUTE), Some((1, 2, 6_000)));
}

#[test]
fn calls_of_another_step_and_those_given_up_say_nothing() {
    let begin = now();
    let mut rollout = Rollout::new(quick(), begin);
    let epoch = rollout.epoch();
    let given_up = |millis| Call { given_up: true, ..call(false, millis) };
    rollout.ended(Version::New, epoch, given_up(10), begin);
    rollout.ended(Version::New, epoch.wrapping_sub(1), call(true, 10), begin);
    assert_eq!(rollout.trial().new, Calls::default());
    rollout.ended(Version::New, epoch, given_up(2_000), begin);
    assert_eq!(rollout.trial().new, Calls { calls: 1, failed: 0, slow: 1 });
    rollout.advance(begin);
    rollout.ended(Version::New, epoch, call(true, 10), begin);
    assert_eq!(rollout.trial().new, Calls::default());
}

#[tokio::test(start_paused = true)]
async fn it_is_moved_by_hand() {
    let canary = Canary::new("c", quick());
    let handle = canary.handle();
    let place = || (handle.status().state, handle.status().step, handle.status().share.to_string());
    let is = |state, step, share: &str| (state, step, share.to_owned());
    assert_eq!(place(), is(State::Running, 1, "10%"));
    handle.pause().unwrap();
    assert_eq!(place(), is(State::Paused, 1, "10%"));
    handle.advance().unwrap();
    assert_eq!(place(), is(State::Paused, 2, "50%"));
    handle.resume().unwrap();
    advance(MINUTE).await;
    assert_eq!((place(), handle.status().since), (is(State::Running, 2, "50%"), MINUTE));
    handle.advance().unwrap();
    assert_eq!(place(), is(State::Promoted, 3, "100%"));
    for refused in [handle.pause(), handle.resume(), handle.advance()] {
        assert_eq!(refused, Err(Ended(State::Promoted)));
    }
    handle.abort();
    assert_eq!(place(), is(State::Aborted, 0, "0%"));
    handle.promote();
    assert_eq!(place(), is(State::Promoted, 3, "100%"));
    handle.restart();
    assert_eq!((place(), handle.rollbacks()), (is(State::Running, 1, "10%"), 0));

    let handle = Canary::new("blue-green", Policy::new([Ratio::ALWAYS]).unwrap().paused()).handle();
    let place = || (handle.status().state, handle.status().step, handle.status().share.to_string());
    assert_eq!(place(), is(State::Paused, 0, "0%"));
    handle.advance().unwrap();
    assert_eq!(place(), is(State::Promoted, 1, "100%"));
    handle.restart();
    assert_eq!(place(), is(State::Paused, 0, "0%"));
    handle.resume().unwrap();
    assert_eq!(place(), is(State::Promoted, 1, "100%"));
}

#[test]
fn what_is_no_policy_is_refused() {
    let percents = |percents: &[u8]| Policy::new(percents.iter().copied().map(Ratio::percent));
    for steps in [&[][..], &[0], &[5, 5], &[5, 1], &[100, 100]] {
        assert_eq!(percents(steps), Err(InvalidPolicy::Steps), "{steps:?}");
    }
    assert_eq!(percents(&[1, 5, 25]), Ok(Policy::default()));
    assert_eq!(percents(&[1, 5, 25, 100]), Ok(Policy::default()));
    for nothing in [Ratio::NEVER, Ratio::ALWAYS] {
        let policy = Policy::default();
        let refused = [
            policy.clone().alpha(nothing),
            policy.clone().beta(nothing),
            policy.clone().margin(nothing),
            policy.slow_margin(nothing),
        ];
        assert!(refused.iter().all(|refused| *refused == Err(InvalidPolicy::Share)));
    }
    // 3 steps, 2 tests each.
    assert!((Policy::default().error_of_a_test() - 0.05 / 6.0).abs() < 1e-12);
    assert!((Policy::default().slow(Slow::Never).error_of_a_test() - 0.05 / 3.0).abs() < 1e-12);
}

#[test]
fn a_quantile_is_learnt() {
    let (chance, mut bound) = (Chance::seeded(5), Bound::new(Slow::ThanOld(Ratio::percent(90))));
    assert!(!bound.is_slow(Duration::MAX) && bound.now().is_none());
    let (mut slow, mut at) = (0, Duration::ZERO);
    for number in 0..20_000 {
        // From 0 to 100 ms, each as likely.
        let took = Duration::from_micros(chance.below(100_000));
        if number >= 10_000 {
            slow += usize::from(bound.is_slow(took));
        }
        bound.learn(took);
        at = bound.now().unwrap();
    }
    assert!((Duration::from_millis(75)..Duration::from_millis(110)).contains(&at), "{at:?}");
    assert!((800..1_200).contains(&slow), "{slow} of 10,000 are slower");
}

/// Two versions that answer so.
fn versions<S>(
    old: S,
    new: S,
    policy: Policy,
) -> (
    Canary,
    impl Service<
        Request<Body>,
        Response = Response<impl http_body::Body<Data = bytes::Bytes, Error: std::fmt::Debug>>,
        Error = io::Error,
        Future: Send,
    > + Clone,
)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = io::Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let canary = Canary::new("c", policy);
    let split = Split::builder().variant("old", 1, old).variant("new", 1, new).build().unwrap();
    let service = canary.over(&split).unwrap().into_service(split::Policy::random(Chance::seeded(1)));
    (canary, service)
}

/// It is judged by what is in trailers, and at the end of bodies; callers who go away are nobody's fault.
#[tokio::test(start_paused = true)]
async fn it_hears_of_ends() {
    type Answer = fn() -> Result<Response<Body>, io::Error>;
    let cases: [(Answer, bool, Calls); 8] = [
        (|| Ok(Response::default()), true, Calls { calls: 1, failed: 0, slow: 0 }),
        (|| status(503), true, Calls { calls: 1, failed: 1, slow: 0 }),
        (|| status(404), true, Calls { calls: 1, failed: 0, slow: 0 }),
        (|| Err(io::ErrorKind::ConnectionReset.into()), true, Calls { calls: 1, failed: 1, slow: 0 }),
        (|| trailers("14"), true, Calls { calls: 1, failed: 1, slow: 0 }),
        (|| trailers("0"), true, Calls { calls: 1, failed: 0, slow: 0 }),
        (
            || Ok(Response::new(Body::new(Script::new([Step::Data("a"), Step::Fail])))),
            true,
            Calls { calls: 1, failed: 1, slow: 0 },
        ),
        (
            || Ok(Response::new(Body::new(Script::new([Step::Data("a"), Step::Data("b")]).untold()))),
            false,
            Calls { calls: 1, failed: 0, slow: 0 },
        ),
    ];
    for (number, (answer, reads, expected)) in cases.into_iter().enumerate() {
        let service = service_fn(move |_: Request<Body>| async move { answer() });
        let half = Policy::new([Ratio::new(999_999, 1_000_000).unwrap()]).unwrap().slow(Slow::Than(MINUTE));
        let (canary, service) = versions(service, service, half);
        if let Ok(response) = service.oneshot(Request::new(Body::empty())).await
            && reads
        {
            let _ = response.into_body().collect().await;
        }
        assert_eq!(canary.handle().status().new, expected, "{number}");
    }
}

fn status(status: u16) -> Result<Response<Body>, io::Error> {
    Ok(Response::builder().status(status).body(Body::empty()).unwrap())
}

fn trailers(status: &'static str) -> Result<Response<Body>, io::Error> {
    let body = Body::new(Script::new([Step::Data("a"), Step::Trailers(status)]));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

/// From the first call to the last, with nothing but time and answers.
#[tokio::test(start_paused = true)]
async fn a_good_version_is_promoted_and_a_hanging_one_rolled_back() {
    let good = || service_fn(|_: Request<Body>| async { Ok(Response::new(Body::from("answer"))) });
    let (canary, service) = versions(good(), good(), quick());
    let handle = canary.handle();
    let mut shares = vec![handle.status().share.to_string()];
    for _ in 0..40_000 {
        advance(Duration::from_millis(20)).await;
        let response = service.clone().oneshot(Request::new(Body::empty())).await.unwrap();
        response.into_body().collect().await.unwrap();
        let share = handle.status().share.to_string();
        if shares.last() != Some(&share) {
            shares.push(share);
        }
        if handle.status().state.has_ended() {
            break;
        }
    }
    assert_eq!(shares, ["10%", "50%", "100%"]);
    assert_eq!((handle.status().state, handle.rollbacks()), (State::Promoted, 0));

    // Callers go away after two seconds: nobody ever hears an error.
    let version = |hangs: bool| {
        service_fn(move |_: Request<Body>| async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(Response::new(Body::from("answer")))
        })
    };
    let (canary, service) = versions(version(false), version(true), quick());
    let handle = canary.handle();
    for _ in 0..2_000 {
        let call = service.clone().oneshot(Request::new(Body::empty()));
        if let Ok(response) = tokio::time::timeout(Duration::from_secs(2), call).await {
            response.unwrap().into_body().collect().await.unwrap();
        }
    }
    assert_eq!((handle.status().state, handle.rollbacks()), (State::RolledBack(Worse::Slowness), 1));
    assert_eq!(handle.status().share, Ratio::NEVER);

    // A timeout of ours that says what it is, is a failure, even where nobody asks how long calls take.
    let (canary, service) = versions(version(false), version(true), quick().slow(Slow::Never));
    for _ in 0..2_000 {
        let mut request = Request::new(Body::empty());
        let time = Duration::from_secs(2);
        request.extensions_mut().insert(Deadline::after(Instant::now(), time).imposed());
        if let Ok(response) = tokio::time::timeout(time, service.clone().oneshot(request)).await {
            response.unwrap().into_body().collect().await.unwrap();
        }
    }
    assert_eq!(canary.handle().status().state, State::RolledBack(Worse::Failures));
}

#[test]
fn a_canary_is_between_two() {
    let canary = Canary::new("c", Policy::default());
    let split = |names: &[&'static str]| {
        names.iter().fold(Split::builder(), |split, name| split.variant(*name, 1, ())).build().unwrap()
    };
    assert!(canary.over(&split(&["old", "new"])).is_ok());
    for names in [&["old"][..], &["old", "new", "other"]] {
        assert_eq!(canary.over(&split(names)).unwrap_err(), split::InvalidSplit::NotTwo);
    }
}

proptest! {
    /// Who has what of the circle is as in a split of these weights, so that a file with weights can take over where a canary
    /// has ended, and the other way round.
    #[test]
    fn its_circle_is_the_splits(percent in 1_u8..100, point: u64) {
        let policy = Policy::new([Ratio::percent(percent)]).unwrap();
        let canary = Canary::new("c", policy);
        let weights = Split::builder()
            .variant("old", 100 - u32::from(percent), false)
            .variant("new", percent.into(), true)
            .build()
            .unwrap();
        prop_assert_eq!(canary.is_new(point), *weights.pick(point).value());
    }

    /// Who has seen the new version goes on seeing it, while its share grows.
    #[test]
    fn it_keeps_whom_it_has(tenant: u32) {
        let canary = Canary::new("c", Policy::default());
        let handle = canary.handle();
        let mut request = Request::get("/").header("x-tenant", tenant).body(()).unwrap();
        let point = Key::Header(http::HeaderName::from_static("x-tenant"))
            .stable_hash(&crate::head::Head::of(&mut request), "orders");
        let mut seen = false;
        for _ in 0..3 {
            prop_assert!(!seen || canary.is_new(point));
            seen = canary.is_new(point);
            handle.advance().unwrap();
        }
        prop_assert!(canary.is_new(point));
        handle.abort();
        prop_assert!(!canary.is_new(point));
    }
}
