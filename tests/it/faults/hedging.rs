//! Endpoints that are late, some or all of them.

use std::time::Duration;

use portcullis::{
    ratio::Ratio,
    resilience::{budget::Budget, hedge::Policy},
    stack::mesh::{Client, ClientLayer, Destination},
    upstream::Upstream,
};

use super::calls::{Over, client, seen, start};

const NONE: Vec<String> = Vec::new();

/// Paused, it takes connections and calls and never answers: another endpoint does, and nobody waits for this one.
#[tokio::test]
async fn one_of_three_is_late_and_nobody_waits_for_it() {
    for protocol in Over::BOTH {
        let mut endpoints = start(3).await;
        endpoints[2].does("slow").await;
        let late = Policy::after(Duration::from_millis(100)).budget(Budget::new(Ratio::ALWAYS));
        let late = if protocol == Over::Grpc { late.danger_any_method() } else { late };
        let handle = late.handle();
        let client = client(&endpoints, ClientLayer::new().hedge(late));
        assert_eq!(protocol.many(&client, 60).await, NONE, "{protocol:?}");
        let hedges = handle.hedges();
        assert!(handle.won() > 0 && handle.won() <= hedges, "{protocol:?}: {handle:?}");
        assert_eq!(handle.cancelled(), hedges, "{protocol:?}: of each two attempts one is let go");
        let asked = endpoints[2].calls().await;
        assert!((1..=hedges).contains(&asked), "{protocol:?}: {asked} of {hedges}");
        endpoints[2].does("serves").await;
        assert_eq!(protocol.many(&client, 20).await, NONE, "{protocol:?}: it serves again");
    }
}

/// A budget binds the second attempts of late calls like those of failed ones.
#[tokio::test]
async fn all_are_late_and_no_storm_follows() {
    let mut endpoints = start(3).await;
    for endpoint in &mut endpoints {
        endpoint.does("slow").await;
    }
    let hour = Duration::from_secs(3600);
    let budget = Budget::new(Ratio::percent(20)).floor(10, hour).window(hour); // however long this takes
    let late = Policy::after(Duration::from_millis(20)).budget(budget);
    let handle = late.handle();
    let policies = ClientLayer::new().timeout(Duration::from_millis(400)).hedge(late);
    assert_eq!(Over::Http.many(&client(&endpoints, policies), 40).await.len(), 40);
    assert_eq!((handle.hedges(), handle.won()), (10, 0));
    let seen = seen(&mut endpoints).await;
    assert!(seen <= 50, "{seen}");
}

/// The same policy in a file.
#[cfg(feature = "config")]
#[tokio::test]
async fn a_file_says_when_calls_are_late() {
    use portcullis::config::Config;

    let mut endpoints = start(3).await;
    endpoints[0].does("slow").await;
    let addresses = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>();
    let file = |hedge: &str| {
        format!(
            "apiVersion: portcullis/v1alpha1\n\
             upstreams: {{ orders: {{ endpoints: {addresses:?}, retryConstraint: {{ budget: {{ percent: 100 }} }} }} }}\n\
             destinations: {{ orders: {{ policies: {{ hedge: {hedge} }}, timeouts: {{ request: 20s }} }} }}\n"
        )
    };
    let configured =
        Config::text("calls", file("{ delay: 100ms, dangerAnyMethod: true }")).client().await.unwrap();
    for protocol in Over::BOTH {
        assert_eq!(protocol.many(configured.client(), 30).await, NONE, "{protocol:?}");
    }
    assert!(endpoints[0].calls().await > 0);
    for (hedge, told) in [
        ("{ delay: 20s }", "destinations.orders.policies.hedge.delay: as long as the whole request may take"),
        ("{}", "destinations.orders.policies.hedge: expected exactly one of `delay` and `percentile`"),
    ] {
        let faults = Config::text("calls", file(hedge)).client().await.map(drop).unwrap_err();
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|fault| fault.contains(told)), "{told}: {text:?}");
    }
}

/// A late call and a failed one spend from one budget.
#[tokio::test]
async fn retries_and_hedges_share_a_budget() {
    let mut endpoints = start(2).await;
    endpoints[0].does("slow").await;
    endpoints[1].does("status 503").await;
    let hour = Duration::from_secs(3600);
    let budget = Budget::new(Ratio::NEVER).floor(12, hour).window(hour);
    let addresses = endpoints.iter().map(|endpoint| endpoint.address.to_string());
    let upstream = Upstream::builder("orders").endpoints(addresses).build().unwrap();
    let retry = portcullis::resilience::retry::Policy::new(1).budget(budget.clone());
    let (retries, late) = (retry.handle(), Policy::after(Duration::from_millis(20)));
    let hedges = late.handle();
    let policies = ClientLayer::new().timeout(Duration::from_millis(400)).retry(retry).hedge(late);
    let client = Client::new(Destination::new(upstream).policies(policies)).unwrap();
    assert_eq!(Over::Http.many(&client, 60).await.len(), 60);
    assert_eq!((budget.spent(), retries.retries() + hedges.hedges()), (12, 12));
}
