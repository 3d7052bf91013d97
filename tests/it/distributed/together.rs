//! Requests that come together are one call, and each is decided as if it had come alone.

use std::{slice, time::Duration};

use portcullis::{
    admission::rate_limit::{Fallback, Limit},
    redis::Redis,
    trip::State,
};

use super::{
    Distribution, Gate, StatusCode, account, answer, gate, instance, join_all, limit, passes, passing, until,
};
use crate::{
    gateway::world::PATIENCE,
    support::redis::{Nodes, Server, Trio},
};

/// How many of so many requests at once pass, each of its own account.
async fn apart(gate: &Gate, requests: usize) -> usize {
    let all = join_all((0..requests).map(async |at| passes(gate, &format!("account-{at}")).await)).await;
    all.into_iter().filter(|passes| *passes).count()
}

fn three(server: &Server) -> [Limit; 3] {
    let there = instance(server);
    ["a", "b", "c"].map(|name| limit(name, "20/year").distributed(there.clone()).build().unwrap())
}

#[tokio::test]
async fn those_who_come_together_are_one_call() {
    for server in Server::each() {
        let limits = three(&server);
        let (one, list) = (gate([limits[0].clone().into()]), gate(limits.clone().map(Into::into)));
        assert!(passes(&one, "first").await);
        let calls = || server.calls("evalsha");
        // A sign of life may come between.
        let before = calls();
        assert_eq!(apart(&one, 60).await, 60);
        assert!((2..=3).contains(&(calls() - before)), "{} calls", calls() - before);
        let before = calls();
        assert_eq!(apart(&list, 60).await, 60);
        assert!((6..=7).contains(&(calls() - before)), "{} calls of 33 limits", calls() - before);
        assert_eq!(limits[0].distribution().unwrap().by_redis(), 121);

        // Of one account, in one call, each in its turn.
        let before = calls();
        assert_eq!(
            join_all((0..60).map(|_| passes(&one, "b"))).await.iter().filter(|passes| **passes).count(),
            20
        );
        assert!((2..=3).contains(&(calls() - before)));
    }
}

/// A server is judged by the deadline of those who ask.
#[tokio::test]
async fn who_waits_for_another_time_asks_in_another_call() {
    let server = Server::start();
    let there = instance(&server);
    let gates = ["a", "b"].map(|name| {
        let there = if name == "a" { there.clone() } else { there.clone().deadline(PATIENCE / 2) };
        gate([limit(name, "20/year").distributed(there).build().unwrap().into()])
    });
    assert!(passes(&gates[0], "first").await);
    let before = server.calls("evalsha");
    let all = join_all((0..20).map(|at| passes(&gates[at % 2], "a"))).await;
    assert!(all.into_iter().all(|passes| passes));
    assert!((2..=3).contains(&(server.calls("evalsha") - before)));
}

/// Whose key holds something else is decided here; the others have no part in that, and the server serves.
#[tokio::test]
async fn an_account_that_is_none_fails_for_itself() {
    for server in Server::each() {
        let there = instance(&server).fallback(Fallback::Deny);
        let limit = limit("a", "20/year").distributed(there).build().unwrap();
        let (one, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
        assert!(passes(&one, "bad").await);
        let key = account(&server).expect("there is one");
        server.ask(&format!("DEL {key}"));
        for theirs in ["LPUSH KEY x", "SETRANGE KEY 0 x"] {
            server.ask(&theirs.replace("KEY", &key));
            for round in 0..10 {
                let accounts = (0..20)
                    .map(|at| if at == 7 { "bad".to_owned() } else { format!("{theirs}-{round}-{at}") });
                let all = join_all(accounts.map(async |account| answer(&one, &account).await.status())).await;
                let refused = all.iter().enumerate().filter(|(_, status)| **status != StatusCode::OK);
                assert_eq!(refused.collect::<Vec<_>>(), [(7, &StatusCode::SERVICE_UNAVAILABLE)]);
            }
            assert_eq!(handle.redis(), State::Closed, "it serves");
            server.ask(&format!("DEL {key}"));
        }
        assert_eq!((handle.errors(), handle.by_fallback()), (20, 20));
        assert!(passes(&one, "bad").await);
    }
}

/// A call that has no answer is one failure for each who waits: no second one is waited for.
#[tokio::test]
async fn a_call_that_fails_fails_for_each() {
    let server = Server::start();
    let there = instance(&server).deadline(Duration::from_millis(300)).fallback(Fallback::Allow);
    let limit = limit("a", "20/year").distributed(there).build().unwrap();
    let (one, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    until("it is asked", async || passes(&one, "a").await && handle.by_redis() > 0).await;
    let errors = handle.errors();
    server.signal("STOP");
    assert_eq!(apart(&one, 30).await, 30);
    // Well before the signs of life have failed as often as it takes.
    let open = until("it is known", async || handle.redis() == State::Open);
    tokio::time::timeout(Duration::from_secs(1), open).await.expect("one call was enough");
    assert_eq!(handle.errors() - errors, 30);
    server.signal("CONT");
}

#[tokio::test]
async fn so_it_is_behind_sentinels_and_in_a_cluster() {
    let (trio, nodes) = tokio::task::spawn_blocking(|| (Trio::start(), Nodes::start())).await.unwrap();
    let (sentinels, cluster) = (trio.urls(), nodes.urls());
    let sentinels = Redis::sentinel("limits", sentinels.iter().map(String::as_str)).unwrap().build();
    let cluster = Redis::cluster(cluster.iter().map(String::as_str)).unwrap().build();
    for redis in [sentinels, cluster] {
        let there = Distribution::on(redis).deadline(PATIENCE);
        let limit = limit("a", "20/year").distributed(there).build().unwrap();
        let one = gate([limit.clone().into()]);
        assert_eq!(apart(&one, 60).await, 60);
        assert_eq!(passing(slice::from_ref(&one), "b", 60).await, 20);
        let told = limit.distribution().unwrap();
        assert_eq!((told.by_redis(), told.by_fallback()), (120, 0));
    }
    let calls = |node: &Server| node.calls("evalsha");
    assert!(calls(&trio.master) < 20, "{}", calls(&trio.master));
}

/// A server of a Cluster that is named as if it stood alone decides of one slot at a time.
#[tokio::test]
async fn a_server_that_is_asked_of_too_much_at_once_is_asked_of_each_alone() {
    let server = Server::node();
    server.ask("CLUSTER ADDSLOTSRANGE 0 16383");
    until("it serves", async || server.ask("CLUSTER INFO").contains("cluster_state:ok")).await;
    let limit = limit("a", "20/year").distributed(instance(&server)).build().unwrap();
    let (one, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    assert_eq!(apart(&one, 30).await, 30);
    assert_eq!(passing(slice::from_ref(&one), "b", 30).await, 20);
    assert_eq!((handle.by_redis(), handle.errors(), handle.by_fallback()), (60, 0, 0));
}

/// A runtime that lives and that nobody drives keeps no other from asking.
#[test]
fn who_stands_still_before_it_asks_keeps_nobody_waiting() {
    let server = Server::start();
    let limit = limit("a", "20/year").distributed(instance(&server)).build().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (gate, still) = (gate([limit.clone().into()]), runtime());
    let mut asked = Box::pin(passes(&gate, "a"));
    still.block_on(async { assert!(futures_util::poll!(asked.as_mut()).is_pending()) });
    runtime().block_on(async {
        // Within the deadline of whoever asks, which is long here.
        assert!(passes(&gate, "b").await);
        assert_eq!(limit.distribution().unwrap().errors(), 0);
    });
}

/// A gate whose runtime ends before it has asked keeps no other from asking.
#[test]
fn who_ends_before_it_asks_keeps_nobody_waiting() {
    let server = Server::start();
    let limit = limit("a", "20/year").distributed(instance(&server)).build().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gate = gate([limit.clone().into()]);
    runtime().block_on(async {
        let mut asked = std::pin::pin!(passes(&gate, "a"));
        // What it asks stands there, and nobody will send it.
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
    });
    runtime().block_on(async {
        assert!(passes(&gate, "b").await);
        assert_eq!(limit.distribution().unwrap().errors(), 0);
    });
}
