use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::StatusCode;
use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    judge::{Grade, Results, grade, outliers},
    *,
};
use crate::{
    chance::Chance,
    outcome::{End, Failure, Outcome},
    ratio::Ratio,
    reject::{GrpcCode, Reason},
    upstream::{availability::Withheld, common::Common, member::Member, options::Options},
};

const SECOND: Duration = Duration::from_secs(1);

fn of(status: u16) -> Outcome {
    Outcome {
        status: StatusCode::from_u16(status).ok(),
        grpc: None,
        reason: None,
        end: End::Complete,
        bytes: 0,
    }
}

fn grpc(code: GrpcCode) -> Outcome {
    Outcome { grpc: Some(code), ..of(200) }
}

fn failed(failure: Failure) -> Outcome {
    Outcome { status: None, end: End::Failed(failure), ..of(200) }
}

fn members(n: u16) -> Vec<Arc<Member>> {
    let (options, common) = (Arc::new(Options::default()), Arc::new(Common::default()));
    let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    (1..=n)
        .map(|port| {
            Arc::new(Member::new(address(port), "".into(), Arc::clone(&options), Arc::clone(&common)))
        })
        .collect()
}

fn counts(watch: &Watch) -> (u64, u64) {
    let ejections = watch.ejections();
    (ejections.made(Cause::Consecutive5xx), ejections.spared(Cause::Consecutive5xx))
}

fn watch(policy: Policy, members: &[Arc<Member>]) -> Arc<Watch> {
    let watch = Arc::new(Watch::new("orders".into(), policy, Chance::seeded(1)));
    members.iter().for_each(|member| member.record().watched_by(Some(&watch)));
    watch
}

fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn count(member: &Member, times: u32, outcome: Outcome) {
    (0..times).for_each(|_| member.record().count(&outcome));
}

/// The places of those that are left out.
fn out(members: &[Arc<Member>]) -> Vec<usize> {
    (0..members.len()).filter(|at| members[*at].record().is_ejected()).collect()
}

#[test]
fn what_a_result_says() {
    for (outcome, says) in [
        (of(200), Some(Grade::Good)),
        (of(404), Some(Grade::Good)),
        (of(429), Some(Grade::Good)),
        (of(500), Some(Grade::Failed)),
        (of(502), Some(Grade::Gateway)),
        (of(503), Some(Grade::Gateway)),
        (of(504), Some(Grade::Gateway)),
        (grpc(GrpcCode::OK), Some(Grade::Good)),
        (grpc(GrpcCode::NOT_FOUND), Some(Grade::Good)),
        (grpc(GrpcCode::INTERNAL), Some(Grade::Failed)),
        (grpc(GrpcCode::UNKNOWN), Some(Grade::Failed)),
        (grpc(GrpcCode::UNIMPLEMENTED), None),
        (grpc(GrpcCode::UNAVAILABLE), Some(Grade::Gateway)),
        (grpc(GrpcCode::DEADLINE_EXCEEDED), Some(Grade::Gateway)),
        (failed(Failure::Connect), Some(Grade::Local)),
        (failed(Failure::Reset), Some(Grade::Local)),
        (failed(Failure::Protocol), Some(Grade::Local)),
        (failed(Failure::Deadline), Some(Grade::Local)),
        (failed(Failure::Refused), None),
        (failed(Failure::CallerDeadline), None),
        (Outcome { reason: Some(Reason::BadRequest), ..failed(Failure::Other) }, None),
        (Outcome { end: End::Cancelled, ..of(200) }, None),
        (Outcome { end: End::Cancelled, ..of(500) }, None),
    ] {
        assert_eq!(grade(&outcome), says, "{outcome:?}");
    }
}

#[test]
fn who_stands_out_is_found() {
    let policy = Policy::new().failure_percentage(None);
    let results = |rates: &[u64]| -> Vec<_> {
        rates.iter().map(|good| Results { good: *good, failed: 100 - good }).collect()
    };
    let found = |rates: &[u64]| outliers(&policy, &results(rates));
    assert_eq!(found(&[100, 100, 100, 100, 0]), [(4, Cause::SuccessRate)]);
    assert_eq!(found(&[95, 96, 97, 96, 80]), [(4, Cause::SuccessRate)]);
    assert!(found(&[100, 100, 100, 0]).is_empty(), "too few to compare");
    assert!(found(&[0, 0, 0, 0, 0]).is_empty(), "all alike");
    assert!(found(&[100, 100, 100, 0, 0]).is_empty(), "no one of them stands out");
    let mut few = results(&[100, 100, 100, 100, 100, 0]);
    few[5].failed = 99;
    assert!(outliers(&policy, &few).is_empty(), "too few requests");

    let policy = Policy::new().success_rate(None);
    let found = |rates: &[u64]| outliers(&policy, &results(rates));
    let share = Cause::FailurePercentage;
    assert_eq!(found(&[100, 15, 100, 0, 16]), [(3, share), (1, share)], "the worst first");
    assert!(found(&[0, 0, 0, 0]).is_empty(), "too few");
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row() {
    let members = members(10);
    let watch = watch(Policy::new(), &members);
    let look = || watch.look_at_rows(&members, Instant::now());
    count(&members[3], 4, of(500));
    count(&members[3], 1, of(200));
    count(&members[3], 4, grpc(GrpcCode::UNAVAILABLE));
    count(&members[3], 9, Outcome { end: End::Cancelled, ..of(200) });
    look();
    assert!(out(&members).is_empty());
    count(&members[3], 1, failed(Failure::Reset));
    look();
    assert_eq!(out(&members), [3]);
    assert!(!members[3].availability().takes());
    let ejected = members[3].record().ejected(Instant::now()).unwrap();
    assert_eq!((ejected.cause, ejected.times, ejected.left), (Cause::Consecutive5xx, 1, 30 * SECOND));

    count(&members[4], 5, of(500));
    look();
    assert_eq!(out(&members), [3], "a tenth at most");
    assert_eq!(counts(&watch), (1, 1));
    members[3].record().readmit();
    members[3].withhold(Withheld::Ejected, false);
    look();
    assert!(out(&members).is_empty(), "its row began anew");
}

#[tokio::test(start_paused = true)]
async fn kinds_of_failures_have_rows_of_their_own() {
    let members = members(3);
    let policy = Policy::new().consecutive_5xx(None).consecutive_gateway_failures(n(3));
    let gateway = watch(policy.clone(), &members);
    count(&members[0], 2, of(503));
    count(&members[0], 1, of(500));
    count(&members[0], 2, failed(Failure::Connect));
    gateway.look_at_rows(&members, Instant::now());
    assert!(out(&members).is_empty());
    count(&members[0], 1, of(504));
    gateway.look_at_rows(&members, Instant::now());
    assert_eq!(members[0].record().ejected(Instant::now()).unwrap().cause, Cause::ConsecutiveGatewayFailure);

    let apart = watch(policy.consecutive_local_origin_failures(n(4)), &members);
    count(&members[1], 3, failed(Failure::Connect));
    apart.look_at_rows(&members, Instant::now());
    assert_eq!(out(&members), [0], "they count for themselves");
    count(&members[1], 1, of(500));
    count(&members[1], 3, failed(Failure::Connect));
    assert_eq!(members[1].record().take_results(), Results { good: 0, failed: 1 });
    members[0].record().readmit();
    members[0].withhold(Withheld::Ejected, false);
    count(&members[1], 1, failed(Failure::Deadline));
    apart.look_at_rows(&members, Instant::now());
    assert_eq!(
        members[1].record().ejected(Instant::now()).unwrap().cause,
        Cause::ConsecutiveLocalOriginFailure
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_grows_and_shrinks_again() {
    let members = members(2);
    let watch = watch(Policy::new().ejection_time(30 * SECOND, 80 * SECOND), &members);
    let sweep = || watch.sweep(&members, Instant::now());
    let left_out = || {
        count(&members[0], 5, of(500));
        watch.look_at_rows(&members, Instant::now());
        members[0].record().ejected(Instant::now()).unwrap().left.as_secs()
    };
    let mut times = Vec::new();
    for _ in 0..4 {
        let time = left_out();
        times.push(time);
        tokio::time::advance(Duration::from_secs(time) - SECOND).await;
        sweep();
        assert_eq!(out(&members), [0]);
        tokio::time::advance(SECOND).await;
        sweep();
        assert!(members[0].availability().takes());
    }
    assert_eq!(times, [30, 60, 80, 80]);
    for _ in 0..3 {
        sweep();
    }
    assert_eq!(left_out(), 60, "three quiet intervals took three back");
    assert_eq!(counts(&watch), (5, 0));
}

/// `max(1, floor(share * n))`.
#[test]
fn so_many_are_left_out_at_most() {
    for (percent, endpoints, most) in [
        (10, 1, 1),
        (10, 3, 1),
        (10, 19, 1),
        (10, 20, 2),
        (10, 29, 2),
        (50, 3, 1),
        (50, 5, 2),
        (0, 100, 1),
        (100, 7, 7),
    ] {
        assert_eq!(
            Policy::new().max_ejected(Ratio::percent(percent)).most(endpoints),
            most,
            "{percent}% of {endpoints}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_ends() {
    let policy = Policy::new().jitter(10 * SECOND);
    let chance = Chance::seeded(3);
    let ends: std::collections::HashSet<_> = (0..20).map(|_| policy.time(1, &chance)).collect();
    assert!(ends.len() > 10 && ends.iter().all(|end| (30 * SECOND..40 * SECOND).contains(end)));
    assert_eq!(Policy::new().time(u32::MAX, &chance), 300 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn in_shadow_nobody_is_left_out() {
    let members = members(5);
    let watch = watch(Policy::new().shadow(true), &members);
    count(&members[0], 60, of(500));
    (1..5).for_each(|at| count(&members[at], 100, of(200)));
    watch.sweep(&members, Instant::now());
    assert!(out(&members).is_empty() && members.iter().all(|member| member.availability().takes()));
    assert_eq!(counts(&watch), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_judges_otherwise_begins_anew() {
    let members = members(2);
    let _before = watch(Policy::new(), &members);
    count(&members[0], 4, of(500));
    let after = watch(Policy::new().consecutive_5xx(n(2)), &members);
    after.look_at_rows(&members, Instant::now());
    assert!(out(&members).is_empty());
    members[0].record().watched_by(None);
    count(&members[0], 9, of(500));
    after.look_at_rows(&members, Instant::now());
    assert!(out(&members).is_empty(), "nobody watches");
}

#[tokio::test(start_paused = true)]
async fn it_looks_when_rung_and_ends_with_the_upstream() {
    let members = members(2);
    let watch = watch(Policy::new(), &members);
    let group = Arc::new(members.clone());
    let (seen, task) = (Arc::downgrade(&group), Arc::clone(&watch));
    let task = tokio::spawn(async move { task.run(move || Some(seen.upgrade()?.to_vec())).await });
    count(&members[1], 5, of(500));
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(out(&members), [1], "long before the interval is over");
    tokio::time::sleep(41 * SECOND).await;
    assert!(members[1].availability().takes());
    drop(group);
    tokio::time::timeout(11 * SECOND, task).await.unwrap().unwrap();
}

proptest! {
    #[test]
    fn never_too_many_and_never_the_last(
        size in 1_u16..12,
        percent in 0_u8..=100,
        unhealthy in prop::collection::vec(any::<bool>(), 12),
        steps in prop::collection::vec((0_usize..12, 0_u32..120, 0_u32..120, 0_u64..40), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let members = members(size);
            let policy = Policy::new().max_ejected(Ratio::percent(percent));
            let most = policy.most(size.into());
            prop_assert!(most >= 1 && most <= usize::from(size));
            let watch = watch(policy, &members);
            for (member, unhealthy) in members.iter().zip(unhealthy) {
                member.withhold(Withheld::Unhealthy, unhealthy);
            }
            let could = members.iter().filter(|member| member.availability().takes()).count();
            for (at, good, bad, seconds) in steps {
                let member = &members[at % members.len()];
                count(member, good, of(200));
                count(member, bad, of(500));
                tokio::time::advance(Duration::from_secs(seconds)).await;
                if seconds % 2 == 0 {
                    watch.look_at_rows(&members, Instant::now());
                } else {
                    watch.sweep(&members, Instant::now());
                }
                prop_assert!(out(&members).len() <= most);
                let takes = members.iter().filter(|member| member.availability().takes()).count();
                prop_assert!(takes > 0 || could == 0);
            }
            Ok(())
        })?;
    }
}
