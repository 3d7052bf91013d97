//! Who wins, and what becomes of the others.

use std::sync::Arc;

use tokio_test::task::spawn;
use tower::{Layer, Service};

use super::{End, Error, Grpc, Head, MS, OK, Policy, Raised, Refused, Server, get, late, raced};
use crate::{
    body::script::{Script, Step},
    reject::{Reason, Rejection},
    resilience::hedge::HedgeLayer,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected};

const DOWN: End = Head(503, &[]);
const GRPC_DOWN: End = Head(200, &[("content-type", "application/grpc"), ("grpc-status", "14")]);
const GRPC_NO: End = Head(200, &[("content-type", "application/grpc"), ("grpc-status", "5")]);

/// What two attempts do; what is given, by which, after how long; sent, won and cancelled.
type Row = ([(u64, End); 2], Option<(u16, &'static str)>, u128, (u64, u64, u64));

#[tokio::test(start_paused = true)]
async fn the_first_good_head_is_given() {
    let rows: [Row; 16] = [
        // In time, or failed before there is another: one attempt.
        ([(49, OK), (0, OK)], Some((200, "1")), 49, (0, 0, 0)),
        ([(49, DOWN), (0, OK)], Some((503, "1")), 49, (0, 0, 0)),
        ([(10, Error), (0, OK)], None, 10, (0, 0, 0)),
        // Late: whoever is first with a good one.
        ([(1_000, OK), (10, OK)], Some((200, "2")), 60, (1, 1, 1)),
        ([(55, OK), (10, OK)], Some((200, "1")), 55, (1, 0, 1)),
        ([(1_000, OK), (10, Head(404, &[]))], Some((404, "2")), 60, (1, 1, 1)),
        ([(1_000, OK), (10, GRPC_NO)], Some((200, "2")), 60, (1, 1, 1)),
        // A failure waits for the other.
        ([(90, OK), (10, DOWN)], Some((200, "1")), 90, (1, 0, 0)),
        ([(90, OK), (10, Error)], Some((200, "1")), 90, (1, 0, 0)),
        ([(90, OK), (10, GRPC_DOWN)], Some((200, "1")), 90, (1, 0, 0)),
        ([(60, DOWN), (40, OK)], Some((200, "2")), 90, (1, 1, 0)),
        // As long as it was waited for, and not longer.
        ([(60, DOWN), (1_000, OK)], Some((503, "1")), 110, (1, 0, 1)),
        ([(1_000, OK), (10, DOWN)], Some((503, "2")), 110, (1, 0, 1)),
        // The best of what came: an answer before none, else the last.
        ([(60, DOWN), (20, Error)], Some((503, "1")), 70, (1, 0, 0)),
        ([(60, Error), (20, DOWN)], Some((503, "2")), 70, (1, 0, 0)),
        ([(60, DOWN), (20, GRPC_DOWN)], Some((200, "2")), 70, (1, 0, 0)),
    ];
    for (at, (script, given, took, counts)) in rows.into_iter().enumerate() {
        let raced = raced(late(), script, get()).await;
        assert_eq!((raced.given(), raced.took, raced.counts()), (given, took, counts), "row {at}");
    }
}

/// A server of gRPC that fails says so in trailers, mostly: who fails fast is not to win by that.
#[tokio::test(start_paused = true)]
async fn trailers_that_come_at_once_are_looked_at() {
    use Step::{Data, Fail, Pending, Trailers};
    const SOUND: End = Grpc(&[Data("a message"), Trailers("0")]);
    let rows: [Row; 9] = [
        ([(90, SOUND), (10, Grpc(&[Trailers("14")]))], Some((200, "1")), 90, (1, 0, 0)),
        ([(90, SOUND), (10, Grpc(&[Fail]))], Some((200, "1")), 90, (1, 0, 0)),
        ([(60, Grpc(&[Trailers("14")])), (40, SOUND)], Some((200, "2")), 90, (1, 1, 0)),
        ([(60, Grpc(&[Trailers("14")])), (1_000, SOUND)], Some((200, "1")), 110, (1, 0, 1)),
        // What is the caller's fault, or is not known yet, is an answer.
        ([(1_000, SOUND), (10, Grpc(&[Trailers("5")]))], Some((200, "2")), 60, (1, 1, 1)),
        ([(1_000, SOUND), (10, Grpc(&[Pending, Trailers("14")]))], Some((200, "2")), 60, (1, 1, 1)),
        ([(1_000, SOUND), (10, Grpc(&[Data("some"), Trailers("14")]))], Some((200, "2")), 60, (1, 1, 1)),
        // There is no other.
        ([(40, Grpc(&[Trailers("14")])), (0, SOUND)], Some((200, "1")), 40, (0, 0, 0)),
        ([(60, Error), (20, Grpc(&[Trailers("14")]))], Some((200, "2")), 70, (1, 1, 0)),
    ];
    for (at, (script, given, took, counts)) in rows.into_iter().enumerate() {
        let raced = raced(late(), script.clone(), get()).await;
        assert_eq!((raced.given(), raced.took, raced.counts()), (given, took, counts), "row {at}");
        // Nothing of it is lost by that.
        let number: usize = given.unwrap().1.parse().unwrap();
        let Grpc(steps) = &script[number - 1].1 else { panic!("{at}") };
        let collected = raced.answered.unwrap().into_body().collect().await;
        let expected = Script::new(steps.to_vec()).collect().await;
        let parts = |all: Collected<Bytes>| (all.trailers().cloned(), all.to_bytes());
        assert_eq!(collected.ok().map(parts), expected.ok().map(parts), "row {at}");
    }
}

/// What our own layers refuse was not sent: nobody waits for it, is told of it, or sends more, while another may answer.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_ours_is_no_answer() {
    let refused = || Refused(Reason::Overloaded);
    let patient = || late().hedges(3);
    let one = raced(patient(), [(1_000, OK), (0, refused())], get()).await;
    assert_eq!((one.given(), one.took, one.counts()), (Some((200, "1")), 1_000, (1, 0, 0)));
    let one = raced(patient(), [(1_000, DOWN), (0, refused())], get()).await;
    assert_eq!((one.given(), one.took), (Some((503, "1")), 1_000));
    assert!(one.answered.unwrap().extensions().get::<Rejection>().is_none(), "it is the server's");
    let alone = raced(patient(), [(0, refused())], get()).await;
    assert_eq!((alone.given(), alone.took, alone.handle.budget().calls()), (Some((503, "1")), 0, 0));
    let raised = raced(patient(), [(0, Raised(Reason::NoEndpoint))], get()).await;
    assert_eq!((raised.answered.is_err(), raised.handle.budget().calls()), (true, 0));
    // What was sent and lost, by the word of one of ours, is a failure like others.
    let lost = raced(late(), [(60, Refused(Reason::UpstreamTimeout)), (20, OK)], get()).await;
    assert_eq!((lost.given(), lost.took), (Some((200, "2")), 70));
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_attempts_as_allowed() {
    for hedges in 1..4_u32 {
        let script = (0..9).map(|n| (if n == hedges { 10 } else { 100_000 }, OK));
        let raced = raced(late().hedges(hedges), script, get()).await;
        let times: Vec<u128> = (0..=hedges).map(|n| u128::from(n) * 50).collect();
        assert_eq!((raced.times.clone(), raced.took), (times, u128::from(hedges) * 50 + 10));
        assert_eq!(raced.counts(), (u64::from(hedges), 1, u64::from(hedges)));
    }
    // The last one is all there is to wait for.
    let raced = raced(late(), [(9_000, OK), (9_000, OK), (0, OK)], get()).await;
    assert_eq!((raced.given(), raced.server.attempts()), (Some((200, "1")), 2));
}

/// At any moment: before the second attempt, while both are in flight, and while a failure waits.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_takes_all_attempts_along() {
    let scripts =
        || [vec![(9_000, OK), (9_000, OK)], vec![(60, DOWN), (9_000, OK)], vec![(9_000, OK), (5, Error)]];
    for script in scripts() {
        for waits in [0, 20, 50, 58, 70, 90] {
            let (server, layer) = (Server::new(script.clone()), HedgeLayer::new(late()));
            let mut call = spawn(layer.layer(server.clone()).call(get()));
            assert!(call.poll().is_pending());
            for _ in 0..waits {
                tokio::time::advance(MS).await;
                assert!(call.poll().is_pending());
            }
            let attempts = server.attempts();
            assert_eq!(attempts, if waits > 50 { 2 } else { attempts });
            drop(call);
            assert_eq!(Arc::strong_count(&server.alive), 1, "after {waits} ms");
            tokio::time::advance(1_000 * MS).await;
            assert_eq!(server.attempts(), attempts, "nobody is asked any more");
        }
    }
}

/// It learns from the first attempts how late is late, also from those that it did not wait for.
#[tokio::test(start_paused = true)]
async fn a_percentile_follows_the_answers() {
    let layer = HedgeLayer::new(Policy::at_percentile(crate::ratio::Ratio::percent(90)).least_delay(2 * MS));
    let handle = layer.handle().unwrap();
    // One in twenty is slow, and until enough is known it is waited for.
    let script = (0..400).map(|n| if n % 20 == 7 { (500, OK) } else { (20, OK) });
    let server = Server::new(script);
    for n in 0..256 {
        assert_eq!(handle.delay().is_some(), n >= 128, "after {n}");
        tower::ServiceExt::oneshot(layer.layer(server.clone()), get()).await.unwrap();
    }
    let delay = handle.delay().unwrap();
    assert!((20 * MS..=24 * MS).contains(&delay), "{delay:?}");
    let (sent, cancelled) = (handle.hedges(), handle.cancelled());
    assert!((4..=12).contains(&sent) && cancelled >= sent - 1, "{sent} {cancelled}");
    assert_eq!(handle.won(), cancelled);
    // The next policy of its place knows it, too.
    let next = Policy::at_percentile(crate::ratio::Ratio::percent(90)).counted_by(&handle).handle();
    assert_eq!((next.hedges(), next.delay()), (sent, Some(delay)));
    let other = Policy::at_percentile(crate::ratio::Ratio::percent(80)).counted_by(&handle).handle();
    assert_eq!((other.hedges(), other.delay()), (sent, None));
}
