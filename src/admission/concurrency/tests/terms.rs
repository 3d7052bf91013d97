//! Terms that change while requests are in flight, limits in shadow, and whom they skip.

use super::*;
use crate::admission::Skip;

/// A limit that becomes another with its first step.
#[derive(Debug)]
struct Steps(u32);

impl LimitAlgorithm for Steps {
    fn limit(&self) -> u32 {
        1
    }
    fn step(&mut self, _: &Seen) -> u32 {
        self.0
    }
}

fn counts(limit: &Concurrency) -> (u32, u32, u32) {
    let handle = limit.handle();
    (handle.limit(), handle.in_flight(), handle.waiting())
}

#[tokio::test(start_paused = true)]
async fn who_is_in_flight_counts_on_under_other_terms() {
    let limit = fixed(2).build().unwrap();
    let mut places = vec![held(&limit), held(&limit)];
    let more = limit.redefine(fixed(3).retry_after(7000 * MS)).unwrap();
    assert!(more.is_same(&limit));
    assert_eq!(counts(&more), (2, 2, 0), "nothing holds before a request comes under it");
    places.push(held(&more));
    assert_eq!(counts(&limit), (3, 3, 0));
    let refused = |limit: &Concurrency| match Gate::check(limit, &mut Head::of(&mut Request::new(()))) {
        Err(Answer::Refuse(rejection)) => rejection.retry_delay(),
        _ => None,
    };
    assert_eq!((refused(&more), refused(&limit)), (Some(7000 * MS), Some(1000 * MS)));

    let fewer = more.redefine(fixed(1)).unwrap();
    fewer.start();
    for left in (1..=3).rev() {
        assert!(matches!(ask(&fewer), Got::Refused), "{left} are still there");
        drop(places.pop());
    }
    assert!(matches!(ask(&fewer), Got::Held(_)));

    more.start();
    assert_eq!(counts(&limit), (1, 0, 0), "what others have taken the place of has no force");
    let other = limit.redefine(fixed(9).by(Key::ClientAddr)).unwrap();
    assert!(!other.is_same(&limit), "another key is another limit");
    let nameless = limit.redefine(Concurrency::fixed("other", some(9))).unwrap();
    assert!(!nameless.is_same(&limit));
    assert_eq!(limit.redefine(queue_without_time()).unwrap_err(), ConcurrencyError::Queue);
    assert_eq!(counts(&limit), (1, 0, 0), "what is no limit changes nothing");
}

fn queue_without_time() -> ConcurrencyBuilder {
    fixed(9).queue(Queue::new(some(1)).timeout(Duration::ZERO))
}

/// Those who wait are let in when the limit is raised, and served only when enough have left when it is lowered.
#[tokio::test(start_paused = true)]
async fn who_waits_waits_on_under_other_terms() {
    let terms = |most, key: bool| {
        let builder = fixed(most).queue(Queue::new(some(9)));
        if key { builder.by(Key::ClientAddr) } else { builder }
    };
    for key in [false, true] {
        let limit = terms(2, key).build().unwrap();
        let as_one = |limit: &Concurrency| match ask_as(limit, caller(1)) {
            Got::Held(held) => Ok(held),
            Got::Waits(wait) => Err(wait),
            Got::Refused => panic!("there is room in the queue"),
        };
        let (one, two) = (as_one(&limit).unwrap(), as_one(&limit).unwrap());
        let mut waiting = [(); 3].map(|()| as_one(&limit).unwrap_err());
        let higher = limit.redefine(terms(3, key)).unwrap();
        assert_eq!(counts(&limit), (2, 2, 3));
        higher.start();
        assert_eq!(counts(&limit), (3, 3, 2));
        let three = look(&mut waiting[0]).unwrap().unwrap();
        assert!(look(&mut waiting[1]).is_none());

        higher.redefine(terms(1, key)).unwrap().start();
        drop((one, two));
        assert_eq!(counts(&limit), (1, 1, 2), "one is in flight, and no more may be");
        assert!(look(&mut waiting[1]).is_none());
        drop(three);
        assert!(look(&mut waiting[1]).unwrap().is_ok());
        assert!(look(&mut waiting[2]).unwrap().is_ok());
        assert_eq!(counts(&limit), (1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_know_who_is_in_flight_under_other_shares() {
    let plan = HeaderName::from_static("x-plan");
    let terms = |percent| {
        let shares = Partitions::by_header(plan.clone()).share("gold", Ratio::percent(percent));
        fixed(4).partitions(shares)
    };
    let limit = terms(25).build().unwrap();
    let gold = || Request::get("/").header(&plan, "gold").body(()).unwrap();
    let others = [(); 3].map(|()| held(&limit));
    let Got::Held(first) = ask_as(&limit, gold()) else { panic!("a place is free") };
    assert!(matches!(ask_as(&limit, gold()), Got::Refused), "it has its share");

    let half = limit.redefine(terms(50)).unwrap();
    let Got::Held(second) = ask_as(&half, gold()) else { panic!("its share is 2 of 4 now, and 1 is taken") };
    assert!(matches!(ask_as(&half, gold()), Got::Refused));
    assert_eq!(half.handle().partitions(), [("gold".into(), 2, 2)]);
    drop((first, second, others));
    assert_eq!(half.handle().partitions(), [("gold".into(), 0, 2)]);
}

/// Who waits is let in when a limit that adapts grows, while everybody before is still in flight.
#[tokio::test(start_paused = true)]
async fn a_limit_that_grows_lets_those_in_who_wait() {
    let limit =
        Concurrency::adaptive("test", Steps(3)).queue(Queue::new(some(9))).window(MS).build().unwrap();
    let app = limit.layer().layer(service_fn(|_: Request<()>| async {
        sleep(10 * MS).await;
        Ok::<_, Infallible>(Response::new(Body::from("x")))
    }));
    // One less than a window needs.
    for _ in 0..9 {
        drop(app.clone().oneshot(Request::new(())).await.unwrap());
    }
    let call = || tokio::spawn(app.clone().oneshot(Request::new(())));
    let calls = [call(), call(), call(), call()];
    sleep(MS).await;
    assert_eq!(counts(&limit), (1, 1, 3));
    let [first, rest @ ..] = calls;
    let first = first.await.unwrap().unwrap();
    assert_eq!(counts(&limit), (3, 3, 1), "two more are let in, and the first has not ended");
    drop(first);
    for call in rest {
        drop(call.await.unwrap().unwrap());
    }
    assert_eq!(counts(&limit), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_found_no_second_time() {
    let aimd = |min| Aimd::new().initial(some(8)).bounds(some(min), some(10));
    let terms = |min| Concurrency::adaptive("test", aimd(min)).window(MS);
    let limit = terms(2).build().unwrap();
    let app = |limit: &Concurrency| {
        limit.layer().layer(service_fn(|_: Request<()>| async {
            sleep(2 * MS).await;
            Ok::<_, Infallible>(Response::new(Body::from("x")))
        }))
    };
    let run = async |limit: &Concurrency| {
        for _ in 0..20 {
            let calls = (0..limit.handle().limit()).map(|_| app(limit).oneshot(Request::new(())));
            futures_util::future::join_all(calls).await.into_iter().for_each(|answer| drop(answer.unwrap()));
        }
    };
    run(&limit).await;
    assert_eq!(limit.handle().limit(), 10);
    let wider = limit.redefine(terms(4)).unwrap();
    wider.start();
    assert_eq!(wider.handle().limit(), 10, "and not 8, where it would begin");

    // What ends under terms that are past moves nothing.
    let fixed = wider.redefine(fixed(5)).unwrap();
    fixed.start();
    run(&wider).await;
    assert_eq!(counts(&fixed), (5, 0, 0));
    let again = fixed.redefine(terms(2)).unwrap();
    again.start();
    assert_eq!(again.handle().limit(), 8, "a fixed limit is nothing that was found");
}

/// A limit in shadow counts everybody, refuses nobody, and lets nobody wait.
#[tokio::test(start_paused = true)]
async fn in_shadow_everybody_passes() {
    for builder in [fixed(1), fixed(1).by(Key::ClientAddr)] {
        let limit = builder.queue(Queue::new(some(5))).in_shadow(true).build().unwrap();
        let places = [(); 3].map(|()| match ask_as(&limit, caller(1)) {
            Got::Held(held) => held,
            _ => panic!("it only looks on"),
        });
        assert!(!limit.has_queue());
        assert_eq!(counts(&limit), (1, 3, 0));
        let handle = limit.handle();
        assert_eq!((handle.spared(), handle.refused(), handle.queued()), (2, 0, 0));
        drop(places);
        assert_eq!(counts(&limit), (1, 0, 0));
        assert!(Gate::check(&limit, &mut Head::of(&mut caller(1))).is_ok());
        assert_eq!(handle.spared(), 2, "who finds a place is not spared");
    }
    // Out of the shadow it knows who is there.
    let shadow = fixed(1).in_shadow(true).build().unwrap();
    let places = [held(&shadow), held(&shadow)];
    let limit = shadow.redefine(fixed(2)).unwrap();
    assert!(matches!(ask(&limit), Got::Refused));
    drop(places);
    assert!(matches!(ask(&limit), Got::Held(_)));
}

#[tokio::test(start_paused = true)]
async fn who_is_skipped_takes_no_place() {
    let skip = Skip::new().networks(["0.0.0.7/32".parse().unwrap()]);
    let limit = fixed(1).skip(skip).build().unwrap();
    let _one = held(&limit);
    assert!(matches!(ask_as(&limit, caller(8)), Got::Refused));
    let Got::Held(skipped) = ask_as(&limit, caller(7)) else { panic!("it is not counted") };
    assert!(Gate::check(&limit, &mut Head::of(&mut caller(7))).is_ok());
    assert_eq!(counts(&limit), (1, 1, 0));
    drop(skipped);
    assert_eq!(counts(&limit), (1, 1, 0));
    assert!(fixed(1).skip(Skip::new().principals_of("staff")).build().unwrap().needs_identity());
}
