//! Endpoints that are replaced while they are called.

use portcullis::resilience::retry::Policy;

use super::{
    calls::{Callers, Over, client, start},
    endpoint::Endpoint,
};

/// The requirement: during a rolling restart of all endpoints not one request is lost.
#[tokio::test]
async fn a_rolling_restart_loses_nothing() {
    replaced(Endpoint::drain).await;
}

/// And where they are killed in the middle of what they do, nothing that may be done twice.
#[tokio::test]
async fn endpoints_that_are_killed_take_nothing_with_them() {
    replaced(Endpoint::kill).await;
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
