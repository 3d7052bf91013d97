//! Quotas that change while accounts have something spent.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::advance;

use super::asking::{from, passes, remaining};
use crate::{
    admission::rate_limit::{Limit, Quota, QuotaProvider, Rate, RateLimit},
    head::Head,
    identity::ClientAddr,
};

/// The quota of an account is its contract's, and each contract has a price of its own.
#[derive(Clone)]
struct Contracts(Arc<Mutex<Of>>);

/// How much the contract of a customer has of an hour.
type Of = fn(u32) -> u32;

impl QuotaProvider for Contracts {
    fn quota(&self, head: &Head<'_>) -> Option<Quota> {
        let IpAddr::V4(ip) = head.extensions().get::<ClientAddr>()?.ip() else { return None };
        let of = *self.0.lock().unwrap();
        Some(Quota::new(Rate::new(of(ip.to_bits()), Duration::from_secs(3600)).unwrap()))
    }

    fn most(&self) -> NonZeroU32 {
        NonZeroU32::new(1_000_000).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_spent_stays_spent_under_any_number_of_contracts() {
    const CUSTOMERS: u32 = 700;
    let contracts = Contracts(Arc::new(Mutex::new(|n| 1000 + n)));
    let limit = Limit::builder("contract", "5/h".parse().unwrap()).quotas(contracts.clone()).build().unwrap();
    let gate = RateLimit::new(limit.clone().costing(7));
    for n in 0..CUSTOMERS {
        assert!(passes(&gate, &mut from(n)));
    }
    let left = |of: Of| {
        *contracts.0.lock().unwrap() = of;
        (0..CUSTOMERS).filter(|&n| remaining(&limit, &mut from(n)) != of(n) - 7).count()
    };
    assert_eq!(left(|n| 1000 + n), 0);
    assert_eq!(left(|_| 900), 0, "all to one price, whether they had a number or not");
    assert_eq!(left(|n| 5000 + n), 0, "to prices of which none has a number");
    let pays = |of: Of, n| {
        *contracts.0.lock().unwrap() = of;
        assert!(passes(&gate, &mut from(n)));
        remaining(&limit, &mut from(n))
    };
    for n in 0..CUSTOMERS {
        assert_eq!(pays(|n| 9000 + n, n), 9000 + n - 14);
        assert_eq!(pays(|_| 900, n), 900 - 21);
        assert_eq!(pays(|n| 20_000 + n, n), 20_000 + n - 28);
    }
    // What is whole is forgotten, and what has another price comes back at that.
    advance(Duration::from_secs(3600)).await;
    let whole = (0..CUSTOMERS).filter(|&n| remaining(&limit, &mut from(n)) == 20_000 + n).count();
    assert_eq!(whole, CUSTOMERS as usize);
}
