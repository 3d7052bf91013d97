//! Keys and partitions.

use super::*;

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own() {
    let limit = fixed(2).by(Key::ClientAddr).queue(Queue::new(some(1))).build().unwrap();
    let of = |n| ask_as(&limit, caller(n));
    let (Got::Held(one), Got::Held(two)) = (of(1), of(1)) else { panic!("2 places") };
    let Got::Waits(mut wait) = of(1) else { panic!("1 waits") };
    assert!(matches!(of(1), Got::Refused));
    assert!(matches!(of(2), Got::Held(_)), "another key, which is forgotten at once");
    let handle = limit.handle();
    assert_eq!(
        (handle.keys().unwrap().0, handle.in_flight(), handle.waiting(), handle.limit()),
        (1, 2, 1, 2)
    );
    drop(one);
    let three = look(&mut wait).unwrap().unwrap();
    assert_eq!(handle.in_flight(), 2);
    let Got::Waits(gone) = of(1) else { panic!("1 waits") };
    drop(gone);
    drop((two, three, wait));
    assert_eq!(
        (handle.keys().unwrap().0, handle.in_flight(), handle.waiting()),
        (0, 0, 0),
        "idle keys are not kept"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_without_room_share_one() {
    let limit = fixed(3).by(Key::ClientAddr).max_keys(some(16)).build().unwrap();
    let mut held = Vec::new();
    let mut refused = 0;
    for n in 0..1000 {
        match ask_as(&limit, caller(n)) {
            Got::Held(one) => held.push(one),
            _ => refused += 1,
        }
    }
    let (keys, most) = limit.handle().keys().unwrap();
    assert_eq!((keys, most), (16, 16));
    // 16 keys with a place each, and 3 places of the crowd of each shard.
    assert_eq!((held.len(), refused), (16 + 16 * 3, 1000 - 64));
    assert!(matches!(ask_as(&limit, caller(0)), Got::Held(_)), "who is known has its own places");
    drop(held);
    assert_eq!((limit.handle().keys().unwrap().0, limit.handle().in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn partitions_borrow_and_get_back() {
    let plan = HeaderName::from_static("x-plan");
    let shares = Partitions::by_header(plan.clone())
        .share("gold", Ratio::percent(50))
        .share("free", Ratio::percent(20));
    let limit = fixed(10).partitions(shares).queue(Queue::new(some(2))).build().unwrap();
    let of = |who: &'static str| {
        let request = Request::get("/").header(plan.clone(), who).body(()).unwrap();
        ask_as(&limit, request)
    };
    let take = |who| match of(who) {
        Got::Held(held) => held,
        _ => panic!("{who} has no place"),
    };
    let mut free: Vec<_> = (0..10).map(|_| take("free")).collect();
    let Got::Waits(mut wait) = of("free") else { panic!("it borrowed all there is") };
    // What gold was promised it gets, though all is lent.
    let gold: Vec<_> = (0..5).map(|_| take("gold")).collect();
    assert!(matches!(of("gold"), Got::Waits(_)));
    assert!(matches!(of("nobody"), Got::Waits(_)));
    assert_eq!(limit.handle().in_flight(), 15);
    // Nothing is lent any more until the limit is kept again, but what is free's own.
    free.truncate(3);
    assert!(look(&mut wait).unwrap().is_ok(), "8 are in flight");
    let shown = limit.handle().partitions();
    assert_eq!(
        shown.iter().map(|(name, now, own)| (&**name, *now, *own)).collect::<Vec<_>>(),
        [("free", 3, 2), ("gold", 5, 5)]
    );
    drop((free, gold));
    assert_eq!(limit.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_waits_is_served_by_its_share() {
    let shares = Partitions::by_plan().share("gold", Ratio::percent(50)).share("free", Ratio::percent(50));
    let limit = fixed(2).partitions(shares).queue(Queue::new(some(5))).build().unwrap();
    let of = |plan: &'static str| {
        let mut request = Request::new(());
        request.extensions_mut().insert(Principal::new("p", "", "s").with_plan(plan));
        request
    };
    let borrowed = [ask_as(&limit, of("free")), ask_as(&limit, of("free"))];
    let Got::Held(gold) = ask_as(&limit, of("gold")) else { panic!("it was promised one") };
    let (mut free, mut golden) = (waits_as(&limit, of("free")), waits_as(&limit, of("gold")));
    drop(gold);
    // Two of free are still there: the limit is full, free has more than its share, and gold has less.
    assert!(look(&mut free).is_none());
    assert!(look(&mut golden).unwrap().is_ok());
    drop(borrowed);
    assert!(look(&mut free).unwrap().is_ok());
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}
