//! A breaker for each key.

use super::*;
use crate::{
    key::Key,
    trip::{Mode, State},
};
use http::HeaderName;
use tokio::time::advance;

fn by_shard() -> Policy {
    Policy::new(two()).by(Key::Header(HeaderName::from_static("x-shard")))
}

async fn ask(service: &Breaker<Server>, shard: u32, does: Does) -> u16 {
    let mut request = get(does);
    request.headers_mut().insert("x-shard", shard.into());
    let response = service.clone().oneshot(request).await.unwrap();
    response.status().as_u16()
}

async fn fail(service: &Breaker<Server>, shard: u32) {
    ask(service, shard, Does::Head(500)).await;
    ask(service, shard, Does::Head(500)).await;
}

#[tokio::test(start_paused = true)]
async fn one_key_is_not_another() {
    let (service, handle, _) = breaker(by_shard());
    fail(&service, 1).await;
    let answers = [ask(&service, 1, Does::Head(200)).await, ask(&service, 2, Does::Head(200)).await];
    assert_eq!((answers, handle.keys(), handle.state()), ([503, 200], Some((2, 1)), State::Open));
    advance(SECOND).await;
    assert_eq!(handle.state(), State::HalfOpen);
    assert_eq!(ask(&service, 1, Does::Head(200)).await, 200);
    assert_eq!((handle.keys(), handle.state()), (Some((2, 0)), State::Closed));
    handle.force_open();
    let answers = [ask(&service, 2, Does::Head(200)).await, ask(&service, 3, Does::Head(200)).await];
    assert_eq!((answers, handle.mode()), ([503, 503], Mode::ForcedOpen), "keys to come, too");
}

#[tokio::test(start_paused = true)]
async fn those_that_do_well_make_room() {
    let (service, handle, _) = breaker(by_shard().max_keys(n(160)));
    fail(&service, 0).await;
    for shard in 1..20_000 {
        if shard % 100 == 0 {
            advance(SECOND / 10).await;
        }
        assert_eq!(ask(&service, shard, Does::Head(200)).await, 200);
        assert!(handle.keys().unwrap().0 <= 160);
    }
    assert!(handle.unguarded() > 0);
    assert_eq!(handle.opened(), 1, "what has failed was not forgotten in its time");
}

#[tokio::test(start_paused = true)]
async fn where_all_fail_others_go_unguarded() {
    let (service, handle, server) = breaker(by_shard().max_keys(n(16)));
    for shard in 0..400 {
        fail(&service, shard).await;
    }
    let (keys, open) = handle.keys().unwrap();
    assert!(keys <= 16 && keys == open, "{keys} {open}");
    assert_eq!(server.asked(), 800);
    assert_eq!(handle.unguarded() as usize, 800 - 2 * keys);
}
