//! Limits on a Cluster of which nodes fail.

use std::slice;

use http::StatusCode;
use portcullis::{
    admission::rate_limit::{Distribution, Fallback},
    redis::Redis,
    trip::State,
};
use tokio::time::{Duration, Instant};

use super::{answer, gate, limit, passes, passing, until};
use crate::{gateway::world::PATIENCE, support::redis::Nodes};

const DEADLINE: Duration = Duration::from_millis(100);

fn redis(nodes: &Nodes) -> Redis {
    let urls = nodes.urls();
    Redis::cluster(urls.iter().map(String::as_str)).unwrap().build()
}

/// Accounts of each of the three masters.
async fn homes(nodes: &Nodes, there: &Distribution) -> [Vec<String>; 3] {
    let probe = limit("probe", "1000/year").distributed(there.clone().deadline(PATIENCE)).build().unwrap();
    let probe = gate([probe.into()]);
    let counts =
        || [0, 1, 2].map(|at: usize| nodes.0[at].ask("KEYS *:limits.*").matches("}:limits.").count());
    let mut homes = [const { Vec::new() }; 3];
    let mut before = counts();
    for account in 0..30 {
        let account = format!("account-{account}");
        assert!(passes(&probe, &account).await);
        let now = counts();
        let home = (0..3).find(|&at| now[at] > before[at]).expect("a master has it");
        homes[home].push(account);
        before = now;
    }
    homes
}

#[tokio::test]
async fn the_outage_of_a_node_is_that_of_its_accounts_only() {
    let mut nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    // Replicas wait until they are told to take over; the others go on meanwhile.
    for node in &nodes.0 {
        node.ask("CONFIG SET cluster-require-full-coverage no");
        node.ask("CONFIG SET cluster-replica-no-failover yes");
    }
    let there = Distribution::on(redis(&nodes)).deadline(DEADLINE).fallback(Fallback::Allow);
    let homes = homes(&nodes, &there).await;
    let exact = limit("exact", "6/year").distributed(there.clone()).build().unwrap();
    let (gate, handle) = (gate([exact.clone().into()]), exact.distribution().unwrap());
    nodes.0[0].signal("STOP");
    until("it is known", async || {
        for account in &homes[0] {
            assert!(passes(&gate, account).await);
        }
        handle.redis() == State::Open
    })
    .await;
    // Nobody waits for that node, and the others are asked now and then which has its slots.
    let (errors, waited, fallback) = (handle.errors(), handle.waited(), handle.by_fallback());
    let asked = || nodes.0[1].calls("cluster|slots") + nodes.0[2].calls("cluster|slots");
    let (began, before, mut requests) = (Instant::now(), asked(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(passing(slice::from_ref(&gate), &homes[0][0], 100).await, 100);
        requests += 100;
    }
    let most = began.elapsed().as_millis() as u64 / 100 + 2;
    assert!(asked() - before <= most, "{} of {most}", asked() - before);
    assert_eq!((handle.errors(), handle.waited()), (errors, waited), "nobody has waited");
    assert_eq!(handle.by_fallback(), fallback + requests);
    for account in [&homes[1][0], &homes[2][0]] {
        assert_eq!(passing(slice::from_ref(&gate), account, 20).await, 6, "as exactly as ever");
    }
    assert_eq!(handle.by_fallback(), fallback + requests);

    for node in &nodes.0[1..] {
        node.ask("CONFIG SET cluster-replica-no-failover no");
    }
    let decides = async |account: &str| {
        until("a replica has taken over", async || {
            let before = handle.by_redis() + handle.by_deny_cache();
            passes(&gate, account).await;
            handle.by_redis() + handle.by_deny_cache() > before
        })
        .await;
    };
    decides(&homes[0][1]).await;
    assert_eq!(passing(slice::from_ref(&gate), &homes[0][2], 20).await, 6);
    nodes.0[0].signal("CONT");
    decides(&homes[0][3]).await;

    nodes.0[1].kill();
    decides(&homes[0][4]).await;
    decides(&homes[1][1]).await;
}

#[tokio::test]
async fn a_cluster_that_is_away_is_not_waited_for() {
    let mut nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    nodes.0.iter_mut().for_each(|node| node.kill());
    let there = Distribution::on(redis(&nodes)).deadline(DEADLINE);
    let with = |name: &str, fallback| {
        limit(name, "1000000/year").distributed(there.clone().fallback(fallback)).build().unwrap()
    };
    let [allow, deny] = [with("allow", Fallback::Allow), with("deny", Fallback::Deny)];
    let handle = allow.distribution().unwrap();
    let [allow, deny] = [allow, deny].map(|limit| gate([limit.into()]));
    until("it is known", async || {
        assert!(passes(&allow, "a").await);
        handle.redis() == State::Open
    })
    .await;
    let waited = handle.waited();
    assert_eq!(passing(slice::from_ref(&allow), "a", 1000).await, 1000);
    assert_eq!(answer(&deny, "a").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(handle.waited(), waited, "nobody has waited");
    nodes.0.iter_mut().for_each(|node| node.again());
    until("it decides", async || {
        passes(&allow, "a").await;
        handle.by_redis() > 0
    })
    .await;
}
