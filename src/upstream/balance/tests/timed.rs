//! Endpoints that are chosen by their latency, and those that are new.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_is_new_is_given_more_and_more() {
    let slow = SlowStart::new(Duration::from_secs(100));
    for balance in KEYLESS {
        let roster = roster(Rules { slow_start: Some(slow), ..by(balance.clone()) }, alike(5));
        assert!(roster.counts(500).iter().all(|count| *count > 50), "all are new");
        roster.member(4).withhold(Withheld::Unhealthy, true);
        roster.set(roster.plan().seats.clone());
        roster.member(4).withhold(Withheld::Unhealthy, false);
        roster.set(roster.plan().seats.clone());
        let last = |counts: Vec<usize>| counts[4];
        let parts = [(0, 20..90), (50, 250..400), (50, 420..580)];
        for (passed, part) in parts {
            tokio::time::advance(Duration::from_secs(passed)).await;
            let count = last(roster.counts(2_500));
            assert!(part.contains(&count), "{balance:?}: {count}");
        }
        assert_eq!(roster.member(4).state(), 0, "the clock is not asked any more");
    }
}

/// What becomes of requests at endpoints that answer after so long, or fail.
async fn simulate(
    roster: &Arc<Roster>,
    seconds: u64,
    answer: impl Fn(usize) -> (Duration, bool),
) -> Vec<usize> {
    let mut counts = vec![0; roster.plan().seats.len()];
    let mut open: Vec<(tokio::time::Instant, Load, bool)> = Vec::new();
    for _ in 0..seconds * 100 {
        let place = roster.any().unwrap();
        counts[place] += 1;
        let (after, fails) = answer(place);
        open.push((tokio::time::Instant::now() + after, roster.begin(place), fails));
        tokio::time::advance(Duration::from_millis(10)).await;
        for (_, mut load, fails) in open.extract_if(.., |(end, ..)| *end <= tokio::time::Instant::now()) {
            if fails {
                load.fail(&Rejection::new(Reason::UpstreamReset));
            } else {
                let (head, ()) = http::Response::new(()).into_parts();
                load.head(&head, true);
                load.complete();
            }
        }
    }
    counts
}

/// axum-reverse-proxy: by the time to a head of whatever status, an endpoint that fails at once attracts all there is.
#[tokio::test(start_paused = true)]
async fn who_fails_fast_attracts_nothing() {
    let roster = roster(by(Balance::PeakEwma), alike(5));
    let counts =
        simulate(&roster, 60, |place| (Duration::from_millis(if place == 0 { 1 } else { 50 }), place == 0))
            .await;
    assert!(counts[0] <= 10, "of 6000 requests: {counts:?}");
    assert!(counts[1..].iter().all(|count| *count > 600), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_gets_less_and_is_tried_again() {
    let roster = roster(by(Balance::PeakEwma), alike(4));
    let millis = |slow: u64| move |place| (Duration::from_millis(if place == 0 { slow } else { 20 }), false);
    let counts = simulate(&roster, 60, millis(2_000)).await;
    assert!((1..=120).contains(&counts[0]), "of 6000 requests: {counts:?}");
    let counts = simulate(&roster, 120, millis(20)).await;
    assert!(counts[0] > 1_000, "it has recovered: {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_new_starts_as_the_others_are() {
    let roster = roster(by(Balance::PeakEwma), alike(3));
    simulate(&roster, 60, |_| (Duration::from_millis(200), false)).await;
    let common = Arc::clone(roster.common());
    let new = seats(alike(4), &common)[3].clone();
    roster.set(roster.plan().seats.iter().cloned().chain([new]).collect());
    let [old, new] = [0, 3]
        .map(|place| roster.member(place))
        .map(|member| member.ewma().at(member.age(tokio::time::Instant::now())));
    assert!((new / old - 1.0).abs() < 0.3, "{new} and {old}");
    let counts = simulate(&roster, 10, |_| (Duration::from_millis(200), false)).await;
    assert!((150..400).contains(&counts[3]), "{counts:?}");
}
