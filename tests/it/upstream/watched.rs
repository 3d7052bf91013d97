//! Endpoints that fail, over real sockets: who is left out, who is asked how it is, and what that costs.

use std::{
    convert::Infallible,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use portcullis::{
    backoff::{Backoff, Jitter},
    body::Body,
    context::Deadline,
    ratio::Ratio,
    reject::Reason,
    resilience::timeout::TimeoutLayer,
    trip,
    upstream::{
        Balance, Endpoint, Proxy, Subsets, Upstream, UpstreamBuilder,
        health::{self, Health},
        outlier::{self, Cause},
    },
};
use tokio::{net::TcpListener, time::Instant};
use tonic_health::ServingStatus;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::peers::{OK, PATIENCE, Raw, call, get, serve, soon, until};

const MS: Duration = Duration::from_millis(1);

/// What a peer does with requests; `/healthz` is answered with 200, unless it is ill.
const WORK: u8 = 0;
const FAIL: u8 = 1;
const HANG: u8 = 2;
/// gRPC: a message, and `UNAVAILABLE` in the trailers.
const UNAVAILABLE: u8 = 3;
const ILL: u8 = 4;
/// 504: the time is over.
const LATE: u8 = 5;

#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    does: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    checked: Arc<AtomicUsize>,
}

impl Peer {
    async fn start() -> Self {
        let (does, asked, checked) =
            (Arc::<AtomicU8>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let peer = Self { address: ([0, 0, 0, 0], 0).into(), does, asked, checked };
        let serving = peer.clone();
        let address = serve(service_fn(move |request| serving.clone().answer(request))).await;
        Self { address, ..peer }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let does = self.does.load(SeqCst);
        if request.uri().path() == "/healthz" {
            self.checked.fetch_add(1, SeqCst);
            // Of the body of such an answer nothing is read, however long it is.
            let endless = futures_util::stream::repeat_with(|| {
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 1024])))
            });
            let mut response = Response::new(Body::new(StreamBody::new(endless)));
            *response.status_mut() = if does == ILL { 500 } else { 200 }.try_into().unwrap();
            return Ok(response);
        }
        self.asked.fetch_add(1, SeqCst);
        let mut response = Response::new(Body::new(Full::from("ok")));
        match does {
            FAIL => *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR,
            LATE => *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT,
            HANG => std::future::pending().await,
            UNAVAILABLE => {
                let trailers =
                    HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]);
                let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
                let frames = tokio_stream::iter(frames.map(Ok::<_, Infallible>));
                *response.body_mut() = Body::new(StreamBody::new(frames));
                response.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
            }
            _ => {}
        }
        Ok(response)
    }

    fn does(&self, what: u8) {
        self.does.store(what, SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

async fn peers<const N: usize>() -> [Peer; N] {
    let mut peers = Vec::new();
    for _ in 0..N {
        peers.push(Peer::start().await);
    }
    peers.try_into().ok().unwrap()
}

fn group(peers: &[Peer]) -> UpstreamBuilder {
    Upstream::builder("fleet").endpoints(peers.iter().map(|peer| peer.address.to_string()))
}

/// Five in a row, and no shares; it looks every 20 ms.
fn in_a_row() -> outlier::Policy {
    let policy = outlier::Policy::new().success_rate(None).failure_percentage(None);
    policy.interval(20 * MS).ejection_time(Duration::from_secs(60), Duration::from_secs(60))
}

fn http_check() -> health::Policy {
    let policy = health::Policy::http(PathAndQuery::from_static("/healthz"));
    policy.interval(5 * MS).no_traffic_interval(5 * MS).jitter(MS).timeout(Duration::from_secs(5))
}

async fn ask(proxy: &Proxy, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        let response = call(proxy, get("/")).await;
        statuses.push(match response {
            Ok(response) => {
                let status = response.status().as_u16();
                let _ = response.into_body().collect().await;
                status
            }
            Err(_) => 0,
        });
        // What was judged beside takes effect.
        tokio::task::yield_now().await;
    }
    statuses
}

fn cause(upstream: &Upstream, peer: &Peer) -> Option<Cause> {
    let endpoints = upstream.endpoints();
    let endpoint = endpoints.iter().find(|endpoint| endpoint.address == peer.address).unwrap();
    assert_eq!(endpoint.ejected.is_none(), endpoint.availability.takes());
    endpoint.ejected.map(|ejected| ejected.cause)
}

fn health(upstream: &Upstream, peer: SocketAddr) -> Health {
    upstream.endpoints().iter().find(|endpoint| endpoint.address == peer).unwrap().health
}

#[tokio::test]
async fn who_answers_500_is_left_out_and_is_back_when_told() {
    let peers = peers::<3>().await;
    let upstream = group(&peers).outlier_detection(in_a_row()).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    peers[1].does(FAIL);
    ask(&proxy, 30).await;
    until(|| cause(&upstream, &peers[1]) == Some(Cause::Consecutive5xx)).await;
    let asked = peers[1].asked();
    assert!((5..=7).contains(&asked), "{asked}");
    assert_eq!(ask(&proxy, 60).await, [200; 60]);
    assert_eq!(peers[1].asked(), asked, "no request more");
    let ejections = upstream.ejections().unwrap();
    assert_eq!((ejections.made(Cause::Consecutive5xx), ejections.spared(Cause::Consecutive5xx)), (1, 0));

    peers[1].does(WORK);
    assert!(upstream.readmit(peers[1].address) && !upstream.readmit(peers[0].address));
    assert_eq!(cause(&upstream, &peers[1]), None);
    assert_eq!(ask(&proxy, 30).await, [200; 30]);
    assert!(peers[1].asked() > asked);
}

#[tokio::test]
async fn a_status_in_trailers_counts() {
    let peers = peers::<3>().await;
    let upstream = group(&peers).outlier_detection(in_a_row()).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    peers.iter().for_each(|peer| peer.does(UNAVAILABLE));
    let ask = || async {
        let request = Request::post("/orders.Orders/Get")
            .header("host", "a")
            .header("content-type", "application/grpc");
        let response = call(&proxy, request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap().trailers().cloned().unwrap()
    };
    for _ in 0..40 {
        assert_eq!(ask().await["grpc-status"], "14");
    }
    until(|| upstream.endpoints().iter().filter(|endpoint| endpoint.ejected.is_some()).count() == 1).await;
    assert!(upstream.ejections().unwrap().spared(Cause::Consecutive5xx) > 0, "one of three, though all fail");
}

#[tokio::test]
async fn who_hangs_or_is_gone_is_left_out_and_who_was_given_up_is_not() {
    let [working, hanging] = peers().await;
    let local = in_a_row().consecutive_local_origin_failures(NonZeroU32::new(3));
    let upstream =
        group(&[working.clone(), hanging.clone()]).outlier_detection(local.clone()).build().unwrap();
    hanging.does(HANG);
    let proxy = Proxy::new(upstream.clone());
    // The caller goes away: nobody is to blame.
    for _ in 0..20 {
        let _ = tokio::time::timeout(5 * MS, proxy.clone().oneshot(get("/"))).await;
    }
    assert_eq!(cause(&upstream, &hanging), None);
    // A time of ours passes.
    let timed =
        ServiceBuilder::new().layer(TimeoutLayer::new(500 * MS).tell_deadline(true)).service(proxy.clone());
    let mut late = 0;
    for _ in 0..8 {
        let response = soon(timed.clone().oneshot(get("/"))).await.unwrap();
        late += usize::from(response.status() == 504);
        tokio::task::yield_now().await;
    }
    assert!(late >= 3, "{late}");
    until(|| cause(&upstream, &hanging) == Some(Cause::ConsecutiveLocalOriginFailure)).await;

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoints = [working.address.to_string(), gone.to_string()];
    let upstream = Upstream::builder("fleet")
        .endpoints(endpoints)
        .outlier_detection(local.consecutive_local_origin_failures(NonZeroU32::new(1)));
    let upstream = upstream.build().unwrap();
    assert_eq!(ask(&Proxy::new(upstream.clone()), 4).await, [200; 4], "another endpoint was tried");
    until(|| upstream.ejections().unwrap().made(Cause::ConsecutiveLocalOriginFailure) == 1).await;
}

#[tokio::test]
async fn who_flaps_is_left_out_for_longer_each_time() {
    let peers = peers::<2>().await;
    let policy = in_a_row().ejection_time(30 * MS, Duration::from_secs(10));
    let upstream = group(&peers).outlier_detection(policy).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    for times in 1..=3 {
        peers[0].does(FAIL);
        soon(async {
            while cause(&upstream, &peers[0]).is_none() {
                ask(&proxy, 2).await;
            }
        })
        .await;
        let endpoint = upstream.endpoints().into_iter().find(|endpoint| endpoint.address == peers[0].address);
        assert!(endpoint.unwrap().ejected.unwrap().times <= times);
        peers[0].does(WORK);
        until(|| cause(&upstream, &peers[0]).is_none()).await;
    }
    assert_eq!(upstream.ejections().unwrap().made(Cause::Consecutive5xx), 3);
}

#[tokio::test]
async fn in_shadow_and_for_the_last_one_nothing_happens() {
    let peers = peers::<2>().await;
    peers.iter().for_each(|peer| peer.does(FAIL));
    for (policy, fleet) in
        [(in_a_row().shadow(true), &peers[..]), (in_a_row().max_ejected(Ratio::ALWAYS), &peers[..1])]
    {
        let upstream = group(fleet).outlier_detection(policy).build().unwrap();
        assert_eq!(ask(&Proxy::new(upstream.clone()), 30).await, [500; 30]);
        until(|| upstream.ejections().unwrap().spared(Cause::Consecutive5xx) > 0).await;
        assert!(upstream.endpoints().iter().all(|endpoint| endpoint.availability.takes()));
    }
}

#[tokio::test]
async fn a_reload_forgets_no_ejection_and_one_without_detection_ends_them() {
    let peers = peers::<2>().await;
    let before = group(&peers).outlier_detection(in_a_row()).build().unwrap();
    peers[0].does(FAIL);
    ask(&Proxy::new(before.clone()), 20).await;
    until(|| cause(&before, &peers[0]).is_some()).await;
    let after = group(&peers).outlier_detection(in_a_row()).inherit(&before).build().unwrap();
    let asked = peers[0].asked();
    assert_eq!(ask(&Proxy::new(after.clone()), 20).await, [200; 20]);
    assert_eq!(peers[0].asked(), asked);
    drop(before);
    let without = group(&peers).inherit(&after).build().unwrap();
    assert!(cause(&without, &peers[0]).is_some(), "as long as it is not in force");
    without.warm().await.unwrap();
    assert_eq!(cause(&without, &peers[0]), None);
}

/// The same names are no new beginning: what is known of an endpoint goes on, also how long its answers take.
#[tokio::test]
async fn a_reload_forgets_neither_an_open_breaker_nor_who_is_slow() {
    let [peer] = peers().await;
    peer.does(FAIL);
    let policy = trip::Policy::new()
        .consecutive(NonZeroU32::new(2))
        .wait(Backoff::new(Duration::from_secs(60)).jitter(Jitter::None));
    let build = || group(std::slice::from_ref(&peer)).circuit_breaker(policy);
    let before = build().build().unwrap();
    assert_eq!(ask(&Proxy::new(before.clone()), 2).await, [500; 2]);
    let after = build().inherit(&before).build().unwrap();
    drop(before);
    let refused = call(&Proxy::new(after), get("/")).await.unwrap_err();
    assert_eq!((refused.reason(), peer.asked()), (Reason::CircuitOpen, 2));

    let peers = peers::<2>().await;
    peers[0].does(FAIL);
    let build = || group(&peers).balance(Balance::PeakEwma);
    let mut upstream = build().build().unwrap();
    // It has failed once, which counts as five seconds.
    soon(async {
        while peers[0].asked() == 0 {
            ask(&Proxy::new(upstream.clone()), 1).await;
        }
    })
    .await;
    for _ in 0..5 {
        upstream = build().inherit(&upstream).build().unwrap();
        assert_eq!(ask(&Proxy::new(upstream.clone()), 10).await, [200; 10]);
    }
    assert_eq!(peers[0].asked(), 1, "whoever knew nothing of it would have asked it again");
}

/// With everybody left out, and no panic, a call ends at once: nothing is sent, and nothing is looked at again and again.
#[tokio::test]
async fn where_all_are_left_out_a_call_is_refused_and_spins_on_nothing() {
    async fn polled<F: Future>(calling: F) -> (F::Output, usize) {
        let (mut calling, mut polls) = (std::pin::pin!(calling), 0);
        let answer = soon(std::future::poll_fn(|cx| {
            polls += 1;
            calling.as_mut().poll(cx)
        }));
        (answer.await, polls)
    }

    let [one, two] = peers().await;
    let fleet = [one.clone(), two.clone()];
    let upstream = group(&fleet).panic_threshold(Ratio::NEVER);
    let upstream = upstream.outlier_detection(in_a_row()).health_check(http_check()).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    one.does(FAIL);
    ask(&proxy, 20).await;
    until(|| cause(&upstream, &one).is_some()).await;
    two.does(ILL);
    until(|| health(&upstream, two.address) == Health::Unhealthy).await;
    let asked = [one.asked(), two.asked()];
    for _ in 0..10 {
        let (refused, polls) = polled(proxy.clone().oneshot(get("/"))).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.reason(), refused.is_unsent()), (Reason::NoEndpoint, true));
        assert!(polls <= 3, "{polls} polls");
    }
    #[cfg(feature = "stack")]
    {
        let client = portcullis::stack::mesh::Client::new(upstream.clone()).unwrap();
        let (answer, polls) = polled(client.send(get("/"))).await;
        assert_eq!(answer.status(), 503);
        assert!(polls <= 3, "{polls} polls");
    }
    assert_eq!([one.asked(), two.asked()], asked);
    two.does(WORK);
    until(|| health(&upstream, two.address) == Health::Healthy).await;
    assert_eq!(ask(&proxy, 3).await, [200; 3]);
}

#[tokio::test]
async fn who_is_ill_gets_no_requests_until_it_is_well() {
    let peers = peers::<2>().await;
    let upstream = group(&peers).health_check(http_check()).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    assert!(upstream.endpoints().iter().all(|endpoint| endpoint.health == Health::Unknown));
    ask(&proxy, 1).await;
    until(|| upstream.endpoints().iter().all(|endpoint| endpoint.health == Health::Healthy)).await;
    peers[0].does(ILL);
    until(|| health(&upstream, peers[0].address) == Health::Unhealthy).await;
    let asked = peers[0].asked();
    assert_eq!(ask(&proxy, 30).await, [200; 30]);
    assert_eq!(peers[0].asked(), asked);
    peers[0].does(WORK);
    until(|| health(&upstream, peers[0].address) == Health::Healthy).await;
    ask(&proxy, 30).await;
    assert!(peers[0].asked() > asked);
    let (good, bad) = upstream.checks().unwrap();
    assert!(good >= 4 && bad >= 3, "{good} {bad}");

    // What asks ends with the upstream.
    drop((proxy, upstream));
    let checked = || peers[1].checked.load(SeqCst);
    soon(async {
        let mut before = checked();
        loop {
            tokio::time::sleep(50 * MS).await;
            if checked() == before {
                return;
            }
            before = checked();
        }
    })
    .await;
}

/// One that fails with the caller's time over has done as it was told; one that fails by itself has not.
#[tokio::test]
async fn who_keeps_to_the_callers_time_is_not_left_out() {
    let peers = peers::<2>().await;
    peers[0].does(LATE);
    let (soon_over, far) = (50 * MS, Duration::from_secs(60));
    for (time, of_caller, is_left_out) in [(soon_over, true, false), (far, true, true), (far, false, true)] {
        let upstream = group(&peers).outlier_detection(in_a_row()).build().unwrap();
        let proxy = Proxy::new(upstream.clone());
        for _ in 0..20 {
            let mut request = get("/");
            let deadline = Deadline::after(Instant::now(), time);
            request.extensions_mut().insert(if of_caller { deadline } else { deadline.imposed() });
            call(&proxy, request).await.unwrap().into_body().collect().await.unwrap();
        }
        if is_left_out {
            until(|| cause(&upstream, &peers[0]) == Some(Cause::Consecutive5xx)).await;
        } else {
            tokio::time::sleep(60 * MS).await;
            assert_eq!(cause(&upstream, &peers[0]), None);
        }
    }
}

/// With nobody left who may be asked, the answer is the breaker's: an endpoint that is alone is spared as well.
#[tokio::test]
async fn an_endpoint_that_is_alone_is_spared_while_its_breaker_is_open() {
    let [peer] = peers().await;
    peer.does(FAIL);
    let policy = trip::Policy::new()
        .consecutive(NonZeroU32::new(2))
        .wait(Backoff::new(Duration::from_secs(60)).jitter(Jitter::None));
    let upstream = group(std::slice::from_ref(&peer)).circuit_breaker(policy).build().unwrap();
    let proxy = Proxy::new(upstream);
    assert_eq!(ask(&proxy, 2).await, [500; 2]);
    for _ in 0..10 {
        let refused = call(&proxy, get("/")).await.unwrap_err();
        assert_eq!((refused.reason(), refused.is_unsent()), (Reason::CircuitOpen, true));
    }
    assert_eq!(peer.asked(), 2);
}

/// And a moment: timers are rounded up to milliseconds, and who is woken has its turn.
async fn a_minute_passes() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(60_005)).await;
    tokio::time::resume();
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// While it was open nobody was to be picked, and who would be picked now was worked out then.
#[tokio::test]
async fn the_first_request_after_the_wait_is_the_probe() {
    let [peer] = peers().await;
    peer.does(FAIL);
    let policy = trip::Policy::new()
        .consecutive(NonZeroU32::MIN)
        .wait(Backoff::new(Duration::from_secs(60)).jitter(Jitter::None));
    let proxy = Proxy::new(group(std::slice::from_ref(&peer)).circuit_breaker(policy).build().unwrap());
    assert_eq!(ask(&proxy, 1).await, [500]);
    assert_eq!(call(&proxy, get("/")).await.unwrap_err().reason(), Reason::CircuitOpen);
    peer.does(WORK);
    a_minute_passes().await;
    assert_eq!(ask(&proxy, 3).await, [200; 3]);
    assert_eq!(peer.asked(), 4);
}

/// What is open counts for whom it would be, and nobody has seen the request.
#[tokio::test]
async fn a_request_is_refused_by_what_its_own_subset_is() {
    let [one, two] = peers().await;
    one.does(FAIL);
    let policy = trip::Policy::new()
        .consecutive(NonZeroU32::MIN)
        .wait(Backoff::new(Duration::from_secs(60)).jitter(Jitter::None));
    let labelled =
        |peer: &Peer, version: &str| Endpoint::new(peer.address.to_string()).label("version", version);
    let upstream = Upstream::builder("a").endpoints([labelled(&one, "1"), labelled(&two, "2")]);
    let upstream = upstream.subsets(Subsets::new().by(["version"])).circuit_breaker(policy).build().unwrap();
    let version = |version: &str| Proxy::new(upstream.subset([("version", version)]));
    assert_eq!(ask(&version("1"), 1).await, [500]);
    for (name, reason) in [("1", Reason::CircuitOpen), ("3", Reason::NoEndpoint)] {
        let refused = call(&version(name), get("/")).await.unwrap_err();
        assert_eq!((refused.reason(), refused.is_unsent()), (reason, true));
        assert_eq!(refused.retry_delay().is_some(), reason == Reason::CircuitOpen);
    }
    assert_eq!(ask(&version("2"), 2).await, [200; 2]);
    // Its wait is over, while the others never had one.
    one.does(WORK);
    a_minute_passes().await;
    assert_eq!(ask(&version("1"), 2).await, [200; 2]);
}

/// Nobody has to warm it: the first requests wait.
#[tokio::test]
async fn first_requests_wait_for_first_answers() {
    let peers = peers::<3>().await;
    peers[0].does(ILL);
    let upstream = group(&peers).health_check(http_check().wait_for_first(true)).build().unwrap();
    let proxy = Proxy::new(upstream);
    let asked = (0..20).map(|_| call(&proxy, get("/")));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
    assert_eq!((peers[0].asked(), peers[1].asked() + peers[2].asked()), (0, 20));
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_good_answer() {
    let peers = peers::<2>().await;
    peers[0].does(ILL);
    let upstream = group(&peers).health_check(http_check().wait_for_first(true)).build().unwrap();
    soon(upstream.warm()).await.unwrap();
    assert_eq!(health(&upstream, peers[0].address), Health::Unhealthy, "one bad answer was enough");
    assert_eq!(ask(&Proxy::new(upstream.clone()), 20).await, [200; 20]);
    assert_eq!((peers[0].asked(), peers[1].asked()), (0, 20));
    peers[0].does(WORK);
    until(|| health(&upstream, peers[0].address) == Health::Healthy).await;
    ask(&Proxy::new(upstream), 20).await;
    assert!(peers[0].asked() > 0);
}

#[tokio::test]
async fn the_health_service_of_grpc_is_asked() {
    let (address, reporter) = crate::support::grpc::health().await;
    let upstream = |service: &str| {
        let check = health::Policy::grpc(service)
            .no_traffic_interval(5 * MS)
            .interval(5 * MS)
            .jitter(MS)
            .timeout(PATIENCE);
        Upstream::builder("grpc").endpoint(address.to_string()).health_check(check).build().unwrap()
    };
    let (orders, nothing, all) = (upstream("orders"), upstream("nothing"), upstream(""));
    reporter.set_service_status("orders", ServingStatus::Serving).await;
    for upstream in [&orders, &nothing, &all] {
        upstream.warm().await.unwrap();
    }
    until(|| health(&orders, address) == Health::Healthy && health(&all, address) == Health::Healthy).await;
    until(|| health(&nothing, address) == Health::Unhealthy).await;
    reporter.set_service_status("orders", ServingStatus::NotServing).await;
    until(|| health(&orders, address) == Health::Unhealthy).await;
    assert_eq!(health(&all, address), Health::Healthy);
}

#[tokio::test]
async fn what_is_no_health_service_is_ill() {
    let chatty = Peer::start().await;
    let raw = Raw::answering(OK).await;
    let slow = Raw::start(|_, line| async move {
        let _line = line;
        std::future::pending::<()>().await;
    })
    .await;
    for (check, address) in [
        (health::Policy::grpc(""), chatty.address),
        (health::Policy::grpc(""), raw.address),
        (http_check(), slow.address),
        (http_check().expect(500..=599), raw.address),
    ] {
        let check = check.interval(MS).no_traffic_interval(MS).jitter(MS).timeout(200 * MS);
        let upstream =
            Upstream::builder("a").endpoint(address.to_string()).health_check(check).build().unwrap();
        upstream.warm().await.unwrap();
        until(|| health(&upstream, address) == Health::Unhealthy).await;
        assert!(upstream.endpoints()[0].connections == 0, "checks have connections of their own");
    }
    let check = health::Policy::tcp().interval(MS).timeout(200 * MS);
    let upstream =
        Upstream::builder("a").endpoint(slow.address.to_string()).health_check(check).build().unwrap();
    upstream.warm().await.unwrap();
    until(|| health(&upstream, slow.address) == Health::Healthy).await;
}
