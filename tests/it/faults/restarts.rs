//! Endpoints that are replaced while they are called.

use portcullis::{attempt::RetryStop, resilience::retry::Policy, stack::mesh::ClientLayer};

use super::{
    calls::{Callers, Over, client, seen, start},
    endpoint::Endpoint,
};

/// The requirement: during a rolling restart of all endpoints not one request is lost.
#[tokio::test]
async fn a_rolling_restart_loses_nothing() {
    replaced(async |old| _ = old.drain().await).await;
}

/// And where they are killed in the middle of what they do, nothing that may be done twice.
#[tokio::test]
async fn endpoints_that_are_killed_take_nothing_with_them() {
    replaced(async |old| old.kill().await).await;
}

/// Each endpoint goes in this way, and another comes in its place.
async fn replaced(go: impl AsyncFn(Endpoint)) {
    for protocol in Over::BOTH {
        let mut endpoints = start(4).await;
        let client = client(&endpoints, protocol.repeatable(Policy::default()));
        let callers = Callers::start(protocol, &client);
        for _ in 0..endpoints.len() {
            callers.go_on().await;
            let old = endpoints.remove(0);
            let address = old.address;
            go(old).await;
            callers.go_on().await;
            endpoints.push(Endpoint::at(address).await);
        }
        // Each is asked again, once its second of rest is over.
        for endpoint in &mut endpoints {
            while endpoint.calls().await == 0 {
                callers.go_on().await;
            }
        }
        assert_eq!(callers.stop().await, Vec::<String>::new(), "{protocol:?}");
    }
}

/// The same for what is made once, where servers say that they will close before they do, by GOAWAY or `Connection: close`:
/// each call is answered, and seen once.
#[tokio::test]
async fn a_graceful_restart_loses_and_repeats_nothing_that_is_made_once() {
    for protocol in Over::ONCE {
        let mut endpoints = start(3).await;
        let client = client(&endpoints, ClientLayer::new().retry(Policy::default()));
        let callers = Callers::start(protocol, &client);
        let mut all = 0;
        for _ in 0..endpoints.len() {
            callers.go_on().await;
            let old = endpoints.remove(0);
            let address = old.address;
            all += old.drain_gently().await;
            callers.go_on().await;
            endpoints.push(Endpoint::at(address).await);
        }
        callers.go_on().await;
        let (made, failed) = callers.count().await;
        assert_eq!(failed, Vec::<String>::new(), "{protocol:?}");
        assert_eq!(all + seen(&mut endpoints).await, made, "{protocol:?}");
    }
}

/// Where a server of HTTP/1.1 closes what seems idle without a word, a call may be on its way there (RFC 9112 section 9.6). What
/// is made once is lost then, and said to be; it is not made again, for nobody knows whether it was seen.
#[tokio::test]
async fn what_meets_a_connection_that_closes_is_counted_apart() {
    let mut endpoints = start(3).await;
    let policy = Policy::default();
    let handle = policy.handle();
    let client = client(&endpoints, ClientLayer::new().retry(policy));
    let callers = Callers::start(Over::Post, &client);
    let mut all = 0;
    for _ in 0..endpoints.len() {
        callers.go_on().await;
        let old = endpoints.remove(0);
        let address = old.address;
        all += old.drain().await;
        callers.go_on().await;
        endpoints.push(Endpoint::at(address).await);
    }
    let (made, failed) = callers.count().await;
    all += seen(&mut endpoints).await;
    let lost = failed.len() as u64;
    assert_eq!(handle.stopped(RetryStop::Unsafe), lost, "{failed:?}");
    assert!((made - lost..=made).contains(&all), "{made} made, {lost} lost, {all} seen: {failed:?}");
}
