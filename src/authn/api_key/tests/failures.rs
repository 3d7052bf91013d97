//! Failures of an address.
use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use super::*;
use crate::identity::ClientAddr;

fn limit(count: u32, seconds: u64) -> Arc<FailureLimit> {
    Arc::new(FailureLimit::new(NonZeroU32::new(count).unwrap(), Duration::from_secs(seconds)))
}

fn from(address: &str) -> http::request::Builder {
    get().extension(ClientAddr::new(address.parse::<IpAddr>().unwrap(), None))
}

fn answer(gate: &ApiKey, address: &str, key: &str) -> Result<(), Rejection> {
    let mut request = from(address).header("x-api-key", key).body(()).unwrap();
    match gate.check(&mut Head::of(&mut request)) {
        Ok(()) => Ok(()),
        Err(Answer::Refuse(rejection)) => Err(rejection),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_an_address_are_answered_429_and_its_valid_keys_pass() {
    let (known, stranger) = (mint("a", "x").unwrap(), mint("a", "y").unwrap());
    let gate = ApiKey::new(table(&[known.entry()])).failure_limit(limit(3, 30));
    let reason = |address, key: &str| answer(&gate, address, key).map_err(|refusal| refusal.reason());

    // Unknown keys, typing errors and two keys at once count alike.
    assert_eq!(reason("192.0.2.1", stranger.reveal()), Err(Reason::InvalidCredentials));
    assert_eq!(reason("192.0.2.1", "x"), Err(Reason::InvalidCredentials));
    let twice = from("192.0.2.1").header("x-api-key", "a").header("x-api-key", "b");
    assert_eq!(refused(&gate, twice).reason(), Reason::InvalidCredentials);

    let refusal = answer(&gate, "192.0.2.1", stranger.reveal()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::RateLimited);
    let http = refusal.clone().into_response(Protocol::Http);
    assert_eq!(http.status().as_u16(), 429);
    assert_eq!(http.headers()["retry-after"], "10");
    assert!(!http.headers().contains_key(header::WWW_AUTHENTICATE));
    assert_eq!(refusal.into_response(Protocol::Grpc).headers()["grpc-status"], "8");

    // Nobody locks a neighbour out; others have an account of their own; no key is no failure.
    assert_eq!(reason("192.0.2.1", known.reveal()), Ok(()));
    assert_eq!(reason("192.0.2.2", stranger.reveal()), Err(Reason::InvalidCredentials));
    assert_eq!(refused(&gate, from("192.0.2.1")).reason(), Reason::MissingCredentials);

    // It is forgiven as time goes, and what was answered 429 cost nothing.
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(reason("192.0.2.1", "x"), Err(Reason::InvalidCredentials));
    assert_eq!(reason("192.0.2.1", "x"), Err(Reason::RateLimited));
}

#[tokio::test(start_paused = true)]
async fn a_network_of_ipv6_is_one_address() {
    let gate = ApiKey::new(table(&[])).failure_limit(limit(1, 60));
    assert_eq!(answer(&gate, "2001:db8::1", "x").unwrap_err().reason(), Reason::InvalidCredentials);
    assert_eq!(answer(&gate, "2001:db8::2", "x").unwrap_err().reason(), Reason::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_addresses_allocates_nothing_and_a_limit_can_be_left_out() {
    let gate = ApiKey::new(table(&[])).failure_limit(limit(2, 60));
    let counted = |gate: &ApiKey| {
        let mut limited = 0;
        for host in 0..50_000_u32 {
            let address = IpAddr::from(host.to_be_bytes()).to_string();
            limited += u32::from(answer(gate, &address, "x").unwrap_err().reason() == Reason::RateLimited);
        }
        limited
    };
    // 8,192 accounts of two failures each: the rest of the flood is answered 429.
    assert!(counted(&gate) > 50_000 - 2 * 8_192 - 1);
    assert_eq!(counted(&ApiKey::new(table(&[])).failure_limit(None)), 0);
    let key = limit(2, 60);
    let mut request = from("192.0.2.1").body(()).unwrap();
    let mut head = Head::of(&mut request);
    let _ = key.count(&mut head);
    assert_eq!(allocation_counter::measure(|| _ = key.count(&mut head)).count_total, 0);
}

proptest! {
    /// Never more than the count in any period, and never fewer than the rate allows.
    #[test]
    fn it_is_a_rate(count in 1_u32..20, seconds in 1_u64..100, steps in prop::collection::vec(0_u64..5_000, 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limit = limit(count, seconds);
            let interval = u128::from(seconds) * 1_000_000_000 / u128::from(count);
            // The slow model: a bucket of failures that are forgiven one by one.
            let (mut debt, mut last) = (0_u128, tokio::time::Instant::now());
            for step in steps {
                tokio::time::advance(Duration::from_millis(step)).await;
                let now = tokio::time::Instant::now();
                debt = debt.saturating_sub((now - last).as_nanos());
                last = now;
                let fits = debt + interval <= interval * u128::from(count);
                let mut request = from("192.0.2.1").body(()).unwrap();
                let counted = limit.count(&mut Head::of(&mut request));
                assert_eq!(counted.is_ok(), fits, "{debt} {interval}");
                if fits {
                    debt += interval;
                } else {
                    let wait = debt + interval - interval * u128::from(count);
                    assert_eq!(counted.unwrap_err().as_nanos(), wait);
                }
            }
        });
    }
}
