//! Endpoints that come and go while requests are under way.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis::{
    body::BoxError,
    reject::Reason,
    upstream::{BuildError, EndpointSet, Proxy, StreamSource, Upstream, Wire, Withheld},
};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::peers::{OK, Raw, call, full, get, soon, text, until};

type Told = Result<EndpointSet, BoxError>;

/// An upstream that is told its endpoints here.
fn told() -> (mpsc::UnboundedSender<Told>, Upstream) {
    let (tell, told) = mpsc::unbounded_channel();
    let source = StreamSource::new(UnboundedReceiverStream::new(told));
    (tell, Upstream::builder("told").source(source).build().unwrap())
}

fn set(addresses: impl IntoIterator<Item = SocketAddr>) -> Told {
    Ok(EndpointSet::new(addresses))
}

fn addresses(upstream: &Upstream) -> Vec<SocketAddr> {
    upstream.endpoints().iter().map(|endpoint| endpoint.address).collect()
}

fn lost() -> Told {
    Err("the registry is away".into())
}

#[tokio::test]
async fn requests_wait_for_the_first_set_and_errors_change_nothing() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
    let (tell, upstream) = told();
    let proxy = Proxy::new(upstream.clone());
    let first = tokio::spawn({
        let proxy = proxy.clone();
        async move { call(&proxy, get("/")).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!first.is_finished());
    tell.send(set([peers[0].address])).unwrap();
    assert_eq!(text(first.await.unwrap().unwrap()).await, "ok");
    let discovery = upstream.discovery().unwrap();
    assert_eq!((discovery.stale, discovery.updates, discovery.failures), (None, 1, 0));

    for (failures, (told, why)) in
        [(lost(), "the registry is away"), (set([]), "the source knows no endpoints")].into_iter().enumerate()
    {
        tell.send(told).unwrap();
        until(|| upstream.discovery().unwrap().failures == failures as u64 + 1).await;
        assert_eq!(upstream.discovery().unwrap().stale.as_deref(), Some(why));
        assert_eq!(addresses(&upstream), [peers[0].address]);
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
    }
    tell.send(Ok(EndpointSet::new([peers[1].address]).stale("from the disk"))).unwrap();
    until(|| addresses(&upstream) == [peers[1].address]).await;
    assert_eq!(upstream.discovery().unwrap().stale.as_deref(), Some("from the disk"));

    tell.send(Ok(EndpointSet::none())).unwrap();
    until(|| addresses(&upstream).is_empty()).await;
    assert_eq!(
        call(&proxy, get("/")).await.unwrap_err().reason(),
        Reason::NoEndpoint,
        "at once: it is certain"
    );
    tell.send(set([peers[0].address])).unwrap();
    until(|| !addresses(&upstream).is_empty()).await;
    assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
    drop(tell);
    until(|| upstream.discovery().unwrap().stale.as_deref() == Some("the source has ended")).await;
    assert_eq!(addresses(&upstream), [peers[0].address]);
}

#[tokio::test]
async fn what_is_under_way_ends_on_the_old_endpoint_whose_connections_close() {
    let slow = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        line.say("lf").await;
        // Until the other side closes.
        assert_eq!(line.rest().await, "");
        line.say("").await;
    })
    .await;
    let other = Raw::answering(OK).await;
    let (tell, upstream) = told();
    let proxy = Proxy::new(upstream.clone());
    tell.send(set([slow.address])).unwrap();
    let begun = call(&proxy, get("/")).await.unwrap();
    tell.send(set([other.address])).unwrap();
    until(|| addresses(&upstream) == [other.address]).await;
    assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
    assert_eq!(text(begun).await, "half");
    assert_eq!(slow.connections(), 1);
}

#[tokio::test]
async fn a_new_endpoint_is_connected_to_before_it_takes_requests() {
    for wire in [Wire::Http1, Wire::Http2] {
        let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
        let (_listener, full, _queued) = full().await;
        let (tell, told) = mpsc::unbounded_channel();
        let source = StreamSource::new(UnboundedReceiverStream::new(told));
        let upstream = Upstream::builder("told").source(source).wire(wire).preconnect(true);
        let upstream = upstream.connect_timeout(Duration::from_millis(500)).build().unwrap();
        tell.send(set([peers[0].address])).unwrap();
        soon(upstream.warm()).await.unwrap();
        until(|| peers[0].connections() == 1).await;
        assert_eq!(upstream.endpoints()[0].connections, 1, "before there was a request");

        tell.send(set([peers[0].address, peers[1].address, full])).unwrap();
        until(|| addresses(&upstream).len() == 3).await;
        let withheld = |at: usize| !upstream.endpoints()[at].availability.takes();
        assert!(!withheld(0) && withheld(2), "nobody waits for the first ones");
        let reasons: Vec<_> = upstream.endpoints()[2].availability.reasons().collect();
        assert_eq!(reasons, [Withheld::Connecting]);
        until(|| !withheld(1)).await;
        until(|| peers[1].connections() == 1).await;
        if wire == Wire::Http1 {
            let proxy = Proxy::new(upstream.clone());
            for _ in 0..6 {
                assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
            }
            assert_eq!([0, 1].map(|at| peers[at].connections()), [1, 1], "requests made none");
        }
        until(|| !withheld(2)).await;
        assert_eq!(upstream.endpoints()[2].connections, 0, "whoever cannot be reached is tried like others");
    }
}

#[tokio::test]
async fn an_endpoint_that_may_not_be_one_is_left_out() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
    let (tell, told) = mpsc::unbounded_channel();
    let source = StreamSource::new(UnboundedReceiverStream::new(told));
    let upstream = Upstream::builder("told").source(source).refuse(peers[0].address).build().unwrap();
    tell.send(set(peers.iter().map(|peer| peer.address))).unwrap();
    soon(upstream.warm()).await.unwrap();
    assert_eq!(addresses(&upstream), [peers[1].address]);
    tell.send(Ok(EndpointSet::new(["no endpoint"]))).unwrap();
    until(|| upstream.discovery().unwrap().failures == 1).await;
    assert_eq!(addresses(&upstream), [peers[1].address]);
}

#[test]
fn endpoints_come_from_one_place() {
    let source = || StreamSource::new(tokio_stream::empty());
    let both = Upstream::builder("a").endpoint("127.0.0.1:80").source(source()).build();
    assert_eq!(both.unwrap_err(), BuildError::TwoSources);
    assert!(Upstream::builder("a").source(source()).build().is_ok());
}

#[derive(Debug, Clone)]
enum Event {
    Set(Vec<usize>),
    None,
    Empty,
    Lost,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => prop::collection::vec(0..3_usize, 1..4).prop_map(Event::Set),
        1 => Just(Event::None),
        1 => Just(Event::Empty),
        2 => Just(Event::Lost),
    ];
    prop::collection::vec(event, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever a source tells, nothing that is under way is lost, and nobody is without endpoints by an error.
    #[test]
    fn no_request_is_lost_and_no_error_makes_a_set_empty(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut peers = Vec::new();
            for _ in 0..3 {
                peers.push(Raw::answering(OK).await);
            }
            let (tell, upstream) = told();
            let proxy = Proxy::new(upstream.clone());
            tell.send(set([peers[0].address])).unwrap();
            soon(upstream.warm()).await.unwrap();
            let (mut known, mut heard) = (vec![0], 1);
            let held = Arc::new(Mutex::new(Vec::new()));
            for event in events {
                if !known.is_empty() {
                    let begun = call(&proxy, get("/held")).await.unwrap();
                    held.lock().unwrap().push(begun);
                }
                let told = match &event {
                    Event::Set(places) => set(places.iter().map(|place| peers[*place].address)),
                    Event::None => Ok(EndpointSet::none()),
                    Event::Empty => set([]),
                    Event::Lost => lost(),
                };
                tell.send(told).unwrap();
                heard += 1;
                let all_heard = || {
                    let discovery = upstream.discovery().unwrap();
                    discovery.updates + discovery.failures == heard
                };
                until(all_heard).await;
                match event {
                    Event::Set(places) => {
                        known.clear();
                        places.iter().for_each(|place| if !known.contains(place) { known.push(*place) });
                    }
                    Event::None => known.clear(),
                    Event::Empty | Event::Lost => {}
                }
                let expected: Vec<_> = known.iter().map(|place| peers[*place].address).collect();
                prop_assert_eq!(addresses(&upstream), expected);
                match call(&proxy, get("/")).await {
                    Ok(response) => prop_assert_eq!(text(response).await, "ok"),
                    Err(refused) => {
                        prop_assert!(known.is_empty());
                        prop_assert_eq!(refused.reason(), Reason::NoEndpoint);
                    }
                }
            }
            let begun = std::mem::take(&mut *held.lock().unwrap());
            for response in begun {
                prop_assert_eq!(text(response).await, "ok");
            }
            Ok(())
        })?;
    }
}
