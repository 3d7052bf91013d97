//! What is a failure.

use super::*;
use crate::{
    context::Deadline,
    outcome::{Judgement, Verdict},
    resilience::timeout::TimeoutLayer,
    trip::State::{Closed, HalfOpen, Open},
    upload::Upload,
};
use tokio::time::{Instant, advance};

/// Peers end at the head: what fails in trailers, or in the middle of a body, is a success to them.
#[tokio::test(start_paused = true)]
async fn an_outcome_is_judged_at_its_end() {
    let grpc = |status| Does::Grpc(vec![Step::Data("a"), Step::Pending, Step::Trailers(status)]);
    for (does, closed, half_open) in [
        (Does::Head(500), Open, Open),
        (Does::Head(503), Open, Open),
        (grpc("14"), Open, Open),
        (grpc("13"), Open, Open),
        (Does::Grpc(vec![Step::Data("no status")]), Open, Open),
        (Does::GrpcHead("14"), Open, Open),
        (Does::Break, Open, Open),
        (Does::Lose(io::ErrorKind::ConnectionRefused), Open, Open),
        (Does::Lose(io::ErrorKind::ConnectionReset), Open, Open),
        (Does::Refuse(Reason::ConnectFailed), Open, Open),
        (Does::Refuse(Reason::UpstreamTimeout), Open, Open),
        (Does::Head(200), Closed, Closed),
        (Does::Head(302), Closed, Closed),
        (grpc("0"), Closed, Closed),
        // The caller is to blame, and the server has answered.
        (Does::Head(404), Closed, Closed),
        (Does::Head(429), Closed, Closed),
        (grpc("5"), Closed, Closed),
        (grpc("8"), Closed, Closed),
        (Does::GrpcHead("3"), Closed, Closed),
        // Nobody asked it.
        (Does::GrpcHead("12"), Closed, HalfOpen),
        (Does::Refuse(Reason::Overloaded), Closed, HalfOpen),
        (Does::Refuse(Reason::CircuitOpen), Closed, HalfOpen),
        (Does::Refuse(Reason::RateLimited), Closed, HalfOpen),
        (Does::Refuse(Reason::CallerDeadline), Closed, HalfOpen),
    ] {
        let (service, handle, server) = breaker(two());
        ask(&service, does.clone()).await;
        ask(&service, does.clone()).await;
        assert_eq!((handle.state(), server.asked()), (closed, 2), "{does:?}");
        if closed == Closed {
            ask(&service, Does::Head(500)).await;
            ask(&service, Does::Head(500)).await;
        }
        advance(SECOND).await;
        ask(&service, does.clone()).await;
        assert_eq!(handle.state(), half_open, "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_is_a_failure_by_choice() {
    for does in [Does::Head(429), Does::GrpcHead("8"), Does::Grpc(vec![Step::Trailers("8")])] {
        let (service, handle, _) = breaker(Policy::new(two()).throttling_fails(true));
        ask(&service, does.clone()).await;
        ask(&service, does.clone()).await;
        assert_eq!(handle.state(), Open, "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_knows_better_judges() {
    let policy = Policy::new(two()).judge(|outcome| match outcome.status.map(|status| status.as_u16()) {
        Some(404) => Judgement::Failure,
        _ if outcome.verdict() == Verdict::Cancelled => Judgement::Neither,
        _ => Judgement::Success,
    });
    let (service, handle, _) = breaker(policy);
    for does in [Does::Head(500), Does::Head(404), Does::Head(503), Does::Head(404), Does::Head(404)] {
        assert_eq!(handle.state(), Closed);
        ask(&service, does).await;
    }
    assert_eq!(handle.state(), Open);
}

/// Begins a call, lets it go on for `time`, and goes away.
async fn leave(service: &Breaker<Server>, request: Request<Does>, time: Duration) {
    let call = service.clone().oneshot(request);
    let _ = tokio::time::timeout(time, async {
        let response = call.await.unwrap();
        let mut body = response.into_body();
        while body.frame().await.is_some() {}
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_says_nothing_unless_told() {
    let hang = || get(Does::Hang);
    let (service, handle, _) = breaker(two());
    for _ in 0..10 {
        leave(&service, hang(), SECOND).await;
        drop(service.clone().oneshot(get(Does::Break)).await); // a body that nobody reads
    }
    assert_eq!(handle.state(), Closed);
    let (service, handle, _) = breaker(Policy::new(two()).cancelling_fails(true));
    leave(&service, hang(), SECOND).await;
    leave(&service, hang(), SECOND).await;
    assert_eq!(handle.state(), Open);
}

/// To tower-resilience a call that a timeout has cut off never was.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_ours_further_outside_is_a_failure() {
    for (tells, expected) in [(true, Open), (false, Closed)] {
        let (service, handle, _) = breaker(two());
        let bounded = TimeoutLayer::new(SECOND).tell_deadline(tells).layer(service);
        for _ in 0..2 {
            let response = bounded.clone().oneshot(get(Does::Hang)).await.unwrap();
            assert_eq!(response.status(), 504);
        }
        assert_eq!(handle.state(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_time_and_its_upload_are_the_callers() {
    let (service, handle, _) = breaker(two());
    let short = |imposed: bool, awaited: bool| {
        let mut request = get(Does::Hang);
        let deadline = Deadline::after(Instant::now(), SECOND);
        request.extensions_mut().insert(if imposed { deadline.imposed() } else { deadline });
        let upload = Upload::new();
        upload.set_awaited(awaited);
        request.extensions_mut().insert(upload);
        request
    };
    for _ in 0..4 {
        leave(&service, short(false, false), SECOND).await;
        leave(&service, short(true, true), SECOND).await;
        leave(&service, short(true, false), SECOND / 2).await;
        // It has obeyed the time that the caller gave.
        for late in [Does::Head(504), Does::GrpcHead("4")] {
            let mut obeys = short(false, false).map(|_| late);
            obeys.extensions_mut().insert(Deadline::after(Instant::now(), SECOND / 20));
            ask_with(&service, obeys).await;
        }
    }
    assert_eq!(handle.state(), Closed);
    leave(&service, short(true, false), SECOND).await;
    // There was time left: that is the server's own.
    ask_with(&service, short(false, false).map(|_| Does::GrpcHead("4"))).await;
    assert_eq!(handle.state(), Open);
}

async fn ask_with(service: &Breaker<Server>, request: Request<Does>) {
    service.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_slow_opens_it_also_if_nobody_waited_for_its_end() {
    use crate::ratio::Ratio;
    let slow = two().consecutive(None).ratio(Ratio::NEVER, n(2)).slow(SECOND, Ratio::percent(50));
    let (service, handle, _) = breaker(slow);
    leave(&service, get(Does::Hang), SECOND / 2).await;
    leave(&service, get(Does::Hang), SECOND).await;
    assert_eq!(handle.state(), Closed, "one result");
    leave(&service, get(Does::Hang), SECOND).await;
    assert_eq!(handle.state(), Open);
}

/// Of what lasts as long as it likes, the time to its head counts.
#[tokio::test(start_paused = true)]
async fn a_stream_of_events_is_not_slow() {
    use crate::ratio::Ratio;
    for (does, state) in [(Does::Events, Closed), (Does::Grpc(vec![Step::Trailers("0")]), Open)] {
        let slow = two().consecutive(None).ratio(Ratio::NEVER, n(2)).slow(SECOND, Ratio::percent(50));
        let (service, handle, _) = breaker(slow);
        for _ in 0..4 {
            let response = service.clone().oneshot(get(does.clone())).await.unwrap();
            tokio::time::sleep(3 * SECOND).await;
            response.into_body().collect().await.unwrap();
            if handle.state() == Open {
                break;
            }
        }
        assert_eq!(handle.state(), state, "{does:?}");
    }
}
