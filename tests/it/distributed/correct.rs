//! What is charged on Redis, or given back, after it was decided.

use std::{slice, time::Duration};

use portcullis::{
    admission::{
        Settle,
        rate_limit::{Account, Algorithm, Distribution, DistributionHandle, Fallback, Limit},
    },
    ratio::Ratio,
    redis::Redis,
};
use tokio::time::sleep;

use super::{ACCOUNT, Gate, answer, gate, instance, limit, passes, passing, remaining, standing, until};
use crate::support::redis::{Server, Slow};

fn costs(limit: &Limit, first: u32, in_the_end: u32) -> Gate {
    let settle = Settle::by_outcome(move |_| Some(in_the_end));
    gate([limit.clone().costing(first).settle(settle)])
}

async fn reset(handle: &DistributionHandle, account: &str) -> bool {
    let mut account = Account::new().header(ACCOUNT, account.parse().unwrap());
    let reset = handle.reset(&mut account.head());
    reset.await.unwrap()
}

#[tokio::test]
async fn what_a_request_cost_in_the_end_is_charged_there() {
    for server in Server::each() {
        for (name, algorithm, rate) in [
            ("bucket", Algorithm::TokenBucket, "20/year"),
            ("sliding", Algorithm::SlidingWindow, "20/year"),
            ("fixed", Algorithm::CALENDAR, "20/300d"),
            ("month", Algorithm::CALENDAR, "20/year"),
        ] {
            let limit = limit(name, rate).algorithm(algorithm).max_debt(10).distributed(instance(&server));
            let limit = limit.build().unwrap();
            let handle = limit.distribution().unwrap();
            let left = async |account: &str, units: u32| {
                until(name, async || remaining(&handle, account).await == units).await;
            };
            let dear = costs(&limit, 1, 5);
            for units in [15, 10, 5, 0] {
                assert!(passes(&dear, "a").await);
                left("a", units).await;
            }
            assert!(!passes(&dear, "a").await, "{name}");
            // Who costs less than was charged is given the rest back; who costs nothing, all of it.
            assert!(passes(&costs(&limit, 10, 1), "b").await);
            left("b", 19).await;
            assert!(passes(&costs(&limit, 10, 0), "b").await);
            left("b", 19).await;

            // An account comes into debt, as far as it may.
            assert!(passes(&costs(&limit, 1, 28), "c").await);
            left("c", 0).await;
            assert!(passes(&costs(&limit, 1, 20), "d").await);
            left("d", 0).await;
            let (deep, even) = (standing(&handle, "c").await, standing(&handle, "d").await);
            assert!(deep.more_in >= even.more_in && deep.whole_in >= even.whole_in, "{name}");
            if algorithm == Algorithm::TokenBucket {
                let unit = even.whole_in / 20;
                let debt = deep.whole_in.abs_diff(unit * 28);
                assert!(debt < unit, "{deep:?} {even:?}");
                assert!(passes(&costs(&limit, 1, 1000), "e").await);
                until("it owes no more than it may", async || {
                    standing(&handle, "e").await.whole_in.abs_diff(unit * 30) < unit
                })
                .await;
            }
            assert_eq!(handle.unsettled(), 0);
        }
    }
}

#[tokio::test]
async fn what_was_paid_from_a_lease_is_settled_too() {
    let server = Server::start();
    let there = instance(&server).lease(Ratio::percent(5));
    let limit = limit("leased", "10000/year").distributed(there).build().unwrap();
    let handle = limit.distribution().unwrap();
    let plain = gate([limit.clone().into()]);
    let mut spent = 0;
    while handle.by_lease() == 0 {
        assert!(passes(&plain, "a").await);
        spent += 1;
        sleep(Duration::from_millis(5)).await;
    }
    let before = handle.by_lease();
    assert_eq!(passing(&[costs(&limit, 1, 3)], "a", 500).await, 500);
    assert_eq!(passing(&[costs(&limit, 3, 1)], "a", 500).await, 500);
    assert!(handle.by_lease() > before);
    // What is given back may cross what is taken.
    until("all that is in hand is given back", async || {
        handle.give_back().await;
        remaining(&handle, "a").await == 10_000 - spent - 2000
    })
    .await;
    assert_eq!(handle.unsettled(), 0);
}

#[tokio::test]
async fn an_account_can_be_looked_at_and_made_whole() {
    let server = Server::start();
    let limit = limit("a", "5/year").distributed(instance(&server)).build().unwrap();
    let (gate, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    assert!(!reset(&handle, "a").await, "it has spent nothing");
    let whole = standing(&handle, "a").await;
    assert_eq!((whole.remaining, whole.more_in, whole.whole_in), (5, Duration::ZERO, Duration::ZERO));
    assert_eq!(passing(slice::from_ref(&gate), "a", 9).await, 5);
    let used_up = standing(&handle, "a").await;
    assert_eq!(used_up.remaining, 0);
    assert!(Duration::ZERO < used_up.more_in && used_up.more_in < used_up.whole_in, "{used_up:?}");
    assert_eq!(remaining(&handle, "b").await, 5, "accounts are apart");
    // Also here it is known no more that it was refused.
    assert!(handle.known() > 0);
    assert!(reset(&handle, "a").await);
    assert_eq!(remaining(&handle, "a").await, 5);
    assert_eq!(passing(slice::from_ref(&gate), "a", 9).await, 5);

    let nobody = Distribution::on(Redis::builder("redis://127.0.0.1:1").unwrap().build());
    let nobody = super::limit("a", "5/year").distributed(nobody).build().unwrap().distribution().unwrap();
    let mut account = Account::new();
    let (peek, reset) = (nobody.peek(&mut account.head()), nobody.reset(&mut account.head()));
    assert!(peek.await.is_err() && reset.await.is_err());
}

/// What is too late has been decided here; Redis has charged it all the same, and takes it back.
#[tokio::test]
async fn an_answer_that_is_too_late_is_given_back() {
    let server = Server::start();
    let slow = Slow::to(&server).await;
    let there = Distribution::on(Redis::builder(&slow.url()).unwrap().build())
        .deadline(Duration::from_millis(200))
        .fallback(Fallback::Allow);
    let watched = limit("a", "1000/year").distributed(there).build().unwrap();
    let there = gate([watched.clone().costing(100)]);
    let direct = limit("a", "1000/year").distributed(instance(&server)).build().unwrap();
    let direct = direct.distribution().unwrap();
    until("it serves", async || {
        answer(&there, "first").await;
        watched.distribution().unwrap().by_redis() > 0
    })
    .await;
    slow.delay(Duration::from_millis(1500));
    let before = server.calls("evalsha");
    for _ in 0..3 {
        assert!(passes(&there, "a").await);
    }
    // Those answers are on their way; what is asked now is answered at once.
    slow.delay(Duration::ZERO);
    assert_eq!(watched.distribution().unwrap().by_fallback(), 3);
    until("it was asked", async || server.calls("evalsha") > before).await;
    until("it is given back", async || remaining(&direct, "a").await == 1000).await;
}

/// So it is where the server is stopped in the middle of it; also what was taken ahead with it is not lost.
#[tokio::test]
async fn what_a_paused_server_grants_later_is_not_lost() {
    let server = Server::start();
    let there = Distribution::on(Redis::builder(&server.url()).unwrap().build())
        .deadline(Duration::from_millis(200))
        .fallback(Fallback::Allow)
        .lease(Ratio::percent(5));
    let limit = limit("a", "10000/year").distributed(there).build().unwrap();
    let (gate, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    until("leases are taken", async || {
        passes(&gate, "first").await;
        handle.by_lease() > 0
    })
    .await;
    server.signal("STOP");
    for _ in 0..3 {
        assert!(passes(&gate, "a").await);
    }
    server.signal("CONT");
    until("all of it is there again", async || {
        handle.give_back().await;
        let mut account = Account::new().header(ACCOUNT, "a".parse().unwrap());
        let standing = handle.peek(&mut account.head());
        standing.await.is_ok_and(|standing| standing.remaining == 10_000)
    })
    .await;
}
