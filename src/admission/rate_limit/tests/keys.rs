//! Keys from strangers, and floods of them.

use std::num::{NonZeroU32, NonZeroU64};

use http::{HeaderName, HeaderValue, Request};

use super::asking::passes;
use crate::{
    admission::rate_limit::{Algorithm, Limit, RateLimit},
    chance::Chance,
    identity::ClientAddr,
    key::Key,
};

fn algorithms() -> [Algorithm; 3] {
    [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR]
}

/// Of any length and content: an account takes what it takes, and nobody is in somebody else's.
#[tokio::test(start_paused = true)]
async fn strangers_keys_neither_grow_memory_nor_meet() {
    let tenant = HeaderName::from_static("x-tenant");
    let limit = Limit::builder("a", "1/h".parse().unwrap())
        .by(Key::tuple([Key::Header(tenant.clone()), Key::Cookie("session".into())]))
        .build()
        .unwrap();
    let gate = RateLimit::new(limit.clone());
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    // What would run together, what would be cut, what is not text, and what is long.
    for n in 0..50_usize {
        lines.push((vec![b'a'; n], vec![b'a'; 50 - n]));
        lines.push((vec![b'a'; 8_000 + n], b"x".to_vec()));
        lines.push((vec![0x80 + n as u8; 3], b"{x}:*\"'%0d".to_vec()));
        lines.push((format!("{n}\t{n}").into_bytes(), vec![0xff; n]));
    }
    let chance = Chance::seeded(1);
    for _ in 0..2_000 {
        let random =
            chance.next().to_le_bytes().map(|b| if b < 0x20 || b == 0x7f || b == b';' { b'.' } else { b });
        lines.push((random.to_vec(), chance.below(1000).to_string().into_bytes()));
    }
    lines.sort_unstable();
    lines.dedup();
    for (header, cookie) in &lines {
        let mut request = Request::new(());
        request.headers_mut().insert(&tenant, HeaderValue::from_bytes(header).unwrap());
        let cookie = [b"session=", &**cookie].concat();
        request.headers_mut().insert("cookie", HeaderValue::from_bytes(&cookie).unwrap());
        assert!(passes(&gate, &mut request), "in somebody's account: {header:?}");
        assert!(!passes(&gate, &mut request));
    }
    assert_eq!(limit.handle().len(), lines.len());
    assert!(limit.handle().bytes() < 72 * lines.len(), "{} bytes", limit.handle().bytes());
}

/// As ten million would be: it stays under its cap, by each algorithm, and those who are at their limit stay there.
#[tokio::test(start_paused = true)]
async fn a_flood_stays_under_the_cap_in_bytes() {
    const CAP: u64 = 1 << 19;
    const FLOOD: u32 = 100_000;
    for algorithm in algorithms() {
        let limit = Limit::builder("a", "10/d".parse().unwrap())
            .algorithm(algorithm)
            .max_bytes(NonZeroU64::new(CAP).unwrap())
            .build()
            .unwrap();
        let gate = RateLimit::new(limit.clone());
        let mut request = Request::new(());
        let mut aim = |n: u32| {
            request.extensions_mut().insert(ClientAddr::new(n.to_be_bytes().into(), None));
            passes(&gate, &mut request)
        };
        for abuser in 0..300 {
            assert_eq!((0..20).filter(|_| aim(abuser)).count(), 10);
        }
        let before = allocation_counter::measure(|| {
            for n in 1000..1000 + FLOOD {
                aim(n);
            }
        });
        assert!(limit.handle().bytes() as u64 <= CAP, "{algorithm:?}: {} bytes", limit.handle().bytes());
        assert!(before.bytes_current <= CAP as i64, "{algorithm:?}: {before:?}");
        assert!((0..300).all(|abuser| !aim(abuser)), "{algorithm:?}: an abuser is free");
        assert!(limit.handle().forgotten() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_key_allocates_nothing_by_any_algorithm() {
    let gate = RateLimit::from_iter(algorithms().map(|algorithm| {
        Limit::builder("a", "1000/s".parse().unwrap()).algorithm(algorithm).build().unwrap()
    }))
    .sync()
    .unwrap();
    let mut request = Request::new(());
    assert!(passes(&gate, &mut request));
    let count = allocation_counter::measure(|| assert!(passes(&gate, &mut request)));
    assert_eq!(count.count_total, 0);
}

#[test]
fn one_account_is_enough_for_a_limit() {
    let limit = Limit::builder("a", "1/h".parse().unwrap()).max_keys(NonZeroU32::MIN).build().unwrap();
    let gate = RateLimit::new(limit.clone());
    let mut request = Request::new(());
    for n in 0..100_u32 {
        request.extensions_mut().insert(ClientAddr::new(n.to_be_bytes().into(), None));
        passes(&gate, &mut request);
        assert!(!passes(&gate, &mut request), "whether it is held or not");
    }
    assert_eq!(limit.handle().len(), 1);
}
