//! Endpoints that fail, some or all of them.

use std::time::Duration;

use http::StatusCode;
use portcullis::{
    ratio::Ratio,
    resilience::{
        budget::Budget,
        retry::{Policy, RetryOn},
    },
    stack::mesh::{Client, Destination},
    upstream::Upstream,
};

use super::calls::{Over, client, seen, start};

const NONE: Vec<String> = Vec::new();

/// The requirement: callers see no failure, and the upstreams at most 1.2 times the calls. By default, with the name and the
/// endpoints alone, as far as the protocol allows: gRPC calls have to say that they may be made twice.
#[tokio::test]
async fn one_of_ten_fails_every_call_and_nobody_sees_it() {
    for protocol in Over::BOTH {
        let mut endpoints = start(10).await;
        endpoints[3].does(protocol.fails()).await;
        let client = match protocol {
            Over::Http | Over::Post => {
                Client::to("orders", endpoints.iter().map(|endpoint| endpoint.address.to_string())).unwrap()
            }
            Over::Grpc => client(&endpoints, protocol.repeatable(Policy::default())),
        };
        assert_eq!(protocol.many(&client, 500).await, NONE, "{protocol:?}");
        let seen = seen(&mut endpoints).await;
        assert!((501..=600).contains(&seen), "{protocol:?}: {seen}");
    }
}

/// The same where it fails with a status that has to be named.
#[tokio::test]
async fn one_of_ten_answers_500() {
    for protocol in Over::BOTH {
        let mut endpoints = start(10).await;
        endpoints[0].does("status 500").await;
        let policy = match protocol {
            Over::Http | Over::Post => Policy::default().codes([StatusCode::INTERNAL_SERVER_ERROR]),
            Over::Grpc => Policy::default().on([RetryOn::Internal]),
        };
        let client = client(&endpoints, protocol.repeatable(policy));
        assert_eq!(protocol.many(&client, 300).await, NONE, "{protocol:?}");
        let seen = seen(&mut endpoints).await;
        assert!((301..=360).contains(&seen), "{protocol:?}: {seen}");
    }
}

/// The requirement: no retry storm. Each call fails, and there are 1.2 times the calls and the floor, exactly.
#[tokio::test]
async fn all_fail_and_no_storm_follows() {
    for protocol in Over::BOTH {
        let mut endpoints = start(4).await;
        for endpoint in &mut endpoints {
            endpoint.does(protocol.fails()).await;
        }
        let hour = Duration::from_secs(3600);
        let budget = Budget::new(Ratio::percent(20)).floor(20, hour).window(hour); // however long this takes
        let policies = protocol.repeatable(Policy::new(3).budget(budget));
        let failed = protocol.many(&client(&endpoints, policies), 500).await;
        assert_eq!(failed.len(), 500, "{protocol:?}");
        let seen = seen(&mut endpoints).await;
        assert_eq!(seen, 500 + 100 + 20, "{protocol:?}");
    }
}

/// The same of endpoints that say nothing: that hang up on each call, or hang until the attempt's time is over.
#[tokio::test]
async fn all_hang_up_or_hang_and_no_storm_follows() {
    for protocol in Over::BOTH {
        for (fault, calls) in [("drops", 500), ("slow", 50)] {
            let mut endpoints = start(4).await;
            for endpoint in &mut endpoints {
                endpoint.does(fault).await;
            }
            let hour = Duration::from_secs(3600);
            let budget = Budget::new(Ratio::percent(20)).floor(5, hour).window(hour); // however long this takes
            let policy = Policy::new(3).on(RetryOn::ALL.iter().copied()).budget(budget.clone());
            let policies = protocol.repeatable(policy).attempt_timeout(Duration::from_millis(200));
            let failed = protocol.many(&client(&endpoints, policies), calls as usize).await;
            assert_eq!(failed.len(), calls as usize, "{protocol:?} {fault}");
            let seen = seen(&mut endpoints).await;
            assert_eq!(budget.spent(), calls / 5 + 5, "{protocol:?} {fault}");
            assert!((calls..=calls + budget.spent()).contains(&seen), "{protocol:?} {fault}: {seen}");
        }
    }
}

/// What is down, hangs or comes and goes is gone round.
#[tokio::test]
async fn one_of_three_does_what_endpoints_do() {
    for protocol in Over::BOTH {
        let mut endpoints = start(3).await;
        let policy =
            Policy::default().budget(Budget::new(Ratio::percent(50)).floor(50, Duration::from_secs(1)));
        // Long enough for a machine that has much to do.
        let policies = protocol.repeatable(policy).attempt_timeout(Duration::from_millis(1500));
        for fault in ["drops", "refuses", "flaps", protocol.fails()] {
            endpoints[1].does(fault).await;
            let client = client(&endpoints, policies.clone());
            assert_eq!(protocol.many(&client, 60).await, NONE, "{protocol:?} {fault}");
        }
        let client = client(&endpoints, policies);
        endpoints[1].does("slow").await;
        assert_eq!(protocol.many(&client, 12).await, NONE, "{protocol:?} slow");
        endpoints[1].does("serves").await;
        endpoints[1].signal("STOP").await;
        assert_eq!(protocol.many(&client, 12).await, NONE, "{protocol:?} paused");
        endpoints[1].signal("CONT").await;
        let before = endpoints[1].calls().await;
        let mut calls = 0;
        while endpoints[1].calls().await == before {
            assert_eq!(protocol.call(&client).await, Ok(()), "{protocol:?} goes on");
            calls += 1;
            assert!(calls < 1000, "{protocol:?}: it serves again, and is not asked");
        }
    }
}

/// A part is never taken for the whole, and what has begun is not asked for again.
#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_is_not_repeated() {
    for protocol in Over::BOTH {
        let mut endpoints = start(2).await;
        for (made, fault) in [(20, "breaks"), (40, "resets")] {
            for endpoint in &mut endpoints {
                endpoint.does(fault).await;
            }
            let client = client(&endpoints, protocol.repeatable(Policy::default()));
            assert_eq!(protocol.many(&client, 20).await.len(), 20, "{protocol:?} {fault}");
            assert_eq!(seen(&mut endpoints).await, made, "{protocol:?} {fault}");
        }
    }
}

/// What the pool sends twice by itself, since it may have met a connection that was just being closed, is bound like the rest: not
/// even servers that take each call and fall over on it see more than 1.2 times the calls.
#[tokio::test]
async fn all_forget_what_they_were_asked_and_no_storm_follows() {
    let mut endpoints = start(2).await;
    for endpoint in &mut endpoints {
        endpoint.does("forgets").await;
    }
    let hour = Duration::from_secs(3600);
    let budget = Budget::new(Ratio::percent(20)).floor(0, hour).window(hour); // however long this takes
    let policy = Policy::new(3).budget(budget.clone());
    let failed = Over::Http.many(&client(&endpoints, Over::Http.repeatable(policy)), 500).await;
    let seen = seen(&mut endpoints).await;
    assert!((501..=600).contains(&seen), "{seen}");
    assert_eq!(seen, 500 + budget.spent(), "each of them is counted");
    assert!(!failed.is_empty() && failed.len() < 500 && budget.refused() > 0, "{}", failed.len());
}

/// What might be done twice is asked for once, unless nobody has looked at it.
#[tokio::test]
async fn what_is_not_repeatable_is_made_once() {
    let mut endpoints = start(3).await;
    endpoints[0].does("unavailable").await;
    let [failing, gone, sound] = [0, 1, 2].map(|at| endpoints[at].address.to_string());
    endpoints.remove(1).kill().await;
    let upstream = Upstream::builder("orders").endpoints([gone, sound]).build().unwrap();
    let client = Client::new(upstream).unwrap();
    assert_eq!(Over::Grpc.many(&client, 40).await, NONE, "what is not sent may be sent elsewhere");
    let client =
        Client::new(Destination::new(Upstream::builder("orders").endpoint(failing).build().unwrap()))
            .unwrap();
    assert_eq!(Over::Grpc.many(&client, 10).await.len(), 10);
    assert_eq!(endpoints[0].calls().await, 10);
}
