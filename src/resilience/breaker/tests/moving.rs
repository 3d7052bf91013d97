//! How it opens and closes, and what it answers.

use super::*;
use crate::trip::{Cause, Mode, State};
use tokio::time::advance;

async fn opened(policy: impl Into<Policy>) -> (Breaker<Server>, BreakerHandle, Server) {
    let (service, handle, server) = breaker(policy);
    while handle.state() == State::Closed {
        ask(&service, Does::Head(500)).await;
    }
    (service, handle, server)
}

#[tokio::test(start_paused = true)]
async fn open_it_answers_in_both_protocols() {
    let (service, handle, server) = opened(two().wait(Backoff::new(3 * SECOND).jitter(Jitter::None))).await;
    let mut grpc = get(Does::Head(200));
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let refuse = |request| async { service.clone().oneshot(request).await.unwrap() };
    for half_open in [false, true] {
        let (_probe, seconds) = if half_open {
            advance(3 * SECOND).await;
            (Some(tokio::spawn(service.clone().oneshot(get(Does::Hang)))), "1")
        } else {
            (None, "3")
        };
        tokio::task::yield_now().await;
        let http = refuse(get(Does::Head(200))).await;
        assert_eq!(
            (http.status().as_u16(), http.headers()["retry-after"].as_bytes()),
            (503, seconds.as_bytes())
        );
        assert_eq!(http.headers()["content-type"], "application/problem+json");
        let rejection = http.extensions().get::<Rejection>().unwrap();
        assert!(rejection.reason() == Reason::CircuitOpen && rejection.is_unsent());
        let text = http.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains("circuit_open"));
        let grpc = refuse(grpc.clone()).await;
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "14");
        assert_eq!(grpc.headers()["grpc-retry-pushback-ms"], format!("{seconds}000"));
    }
    assert_eq!((server.asked(), handle.refused()), (3, 4));
}

/// tower-resilience issue 381: an open breaker waited for its service before it refused.
#[tokio::test(start_paused = true)]
async fn open_it_waits_for_nobody() {
    let server = Server { unready: true, ..Server::default() };
    let layer = BreakerLayer::new(two());
    let mut service = layer.layer(server);
    assert!(service.ready().await.is_ok(), "always");
    let waiting = tokio::time::timeout(SECOND, service.call(get(Does::Head(200)))).await;
    assert!(waiting.is_err(), "closed, it waits inside of the call");
    layer.handle().unwrap().force_open();
    assert_eq!(service.call(get(Does::Head(200))).await.unwrap().status(), 503);
}

/// Issues 903, 935, 544 and 1568 of Resilience4j: stuck half open.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_is_given_back() {
    let (service, handle, server) = opened(two()).await;
    advance(SECOND).await;
    // In its future, before and after the first poll; and in its body, before and after the first frame.
    drop(service.clone().call(get(Does::Hang)));
    let hanging = service.clone().oneshot(get(Does::Hang));
    assert!(tokio::time::timeout(SECOND, hanging).await.is_err());
    let streams = || Does::Grpc(vec![Step::Data("a"), Step::Pending, Step::Data("b"), Step::Trailers("0")]);
    for frames in 0..2 {
        let mut body = service.clone().oneshot(get(streams())).await.unwrap().into_body();
        for _ in 0..frames {
            body.frame().await.unwrap().unwrap();
        }
    }
    assert_eq!((handle.state(), server.asked(), handle.refused()), (State::HalfOpen, 6, 0));
    assert_eq!(ask(&service, streams()).await, 200);
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_service_is_never_ready_is_given_back() {
    let layer = BreakerLayer::new(two());
    let service = layer.layer(Server::default());
    ask(&service, Does::Head(500)).await;
    ask(&service, Does::Head(500)).await;
    advance(SECOND).await;
    let never = layer.layer(Server { unready: true, ..Server::default() });
    assert!(tokio::time::timeout(SECOND, never.clone().oneshot(get(Does::Hang))).await.is_err());
    assert_eq!(ask(&service, Does::Head(200)).await, 200);
    assert_eq!(layer.handle().unwrap().state(), State::Closed);
}

/// failsafe and recloser let everybody in.
#[tokio::test(start_paused = true)]
async fn a_thousand_who_come_when_it_is_half_open_are_three() {
    let (service, handle, server) = opened(two().probes(n(3), n(3))).await;
    advance(SECOND).await;
    let slow = || Does::Grpc([vec![Step::Pending; 100], vec![Step::Trailers("0")]].concat());
    let calls = (0..1_000).map(|_| {
        let service = service.clone();
        tokio::spawn(async move { ask(&service, slow()).await })
    });
    let mut answered = 0;
    for call in calls.collect::<Vec<_>>() {
        answered += usize::from(call.await.unwrap() == 200);
    }
    assert_eq!((answered, server.asked(), handle.refused()), (3, 2 + 3, 997));
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn it_tells_of_every_move() {
    let layer = BreakerLayer::new(Policy::new(two()).name("stock"));
    let (service, handle) = (layer.layer(Server::default()), layer.handle().unwrap());
    let mut events = handle.subscribe();
    ask(&service, Does::Head(500)).await;
    ask(&service, Does::Head(500)).await;
    advance(SECOND).await;
    ask(&service, Does::Head(200)).await;
    handle.force_open();
    handle.set_mode(Mode::Enforced);
    let mut heard = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(&*event.breaker, "stock");
        heard.push((event.change.state, event.change.cause, event.change.wait));
    }
    assert_eq!(
        heard,
        [
            (State::Open, Cause::Consecutive, Some(SECOND)),
            (State::HalfOpen, Cause::Waited, None),
            (State::Closed, Cause::Recovered, None),
            (State::Open, Cause::Told, None),
            (State::Closed, Cause::Told, None),
        ]
    );
    // Who does not listen keeps nobody waiting.
    (0..1_000).for_each(|_| handle.reset());
    assert!(matches!(events.try_recv(), Err(tokio::sync::broadcast::error::TryRecvError::Lagged(936))));
}

#[tokio::test(start_paused = true)]
async fn in_shadow_it_counts_and_lets_pass() {
    let (service, handle, server) = opened(Policy::new(two()).in_shadow(true)).await;
    assert_eq!(ask(&service, Does::Head(200)).await, 200);
    assert_eq!((handle.mode(), handle.state()), (Mode::Observed, State::Open));
    assert_eq!((handle.spared(), handle.refused(), server.asked()), (1, 0, 3));
    handle.set_mode(Mode::Enforced);
    assert_eq!(handle.state(), State::Closed, "it begins anew");
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_is_open_or_closed() {
    let (service, handle, server) = breaker(two());
    handle.force_open();
    advance(1_000_000 * SECOND).await;
    assert_eq!(ask(&service, Does::Head(200)).await, 503);
    handle.force_closed();
    for _ in 0..10 {
        assert_eq!(ask(&service, Does::Head(500)).await, 500);
    }
    assert_eq!((server.asked(), handle.state(), handle.opened()), (10, State::Closed, 0));
}

/// tower-resilience makes a breaker for each service: with axum, one for each route.
#[tokio::test(start_paused = true)]
async fn all_services_of_a_layer_are_one_breaker() {
    let layer = BreakerLayer::new(two());
    let (one, other) = (layer.layer(Server::default()), layer.clone().layer(Server::default()));
    ask(&one, Does::Head(500)).await;
    ask(&other, Does::Head(500)).await;
    assert_eq!((ask(&one, Does::Head(200)).await, ask(&other, Does::Head(200)).await), (503, 503));
}

#[tokio::test(start_paused = true)]
async fn disabled_it_does_nothing() {
    let layer = BreakerLayer::disabled();
    let mut service = layer.layer(Server { unready: true, ..Server::default() });
    assert!(tokio::time::timeout(SECOND, service.ready()).await.is_err(), "as ready as what is inside");
    let service = layer.layer(Server::default());
    for _ in 0..100 {
        assert_eq!(ask(&service, Does::Head(500)).await, 500);
    }
    assert!(layer.handle().is_none());
}
