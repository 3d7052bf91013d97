use std::{
    convert::Infallible,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Abort, FaultBody, FaultHandle, FaultLayer, HEADERS, Policy, header};
use crate::{
    body::Body,
    chance::Chance,
    identity::PeerAddr,
    matching::RequestMatch,
    ratio::Ratio,
    reject::{GrpcCode, Reason, Rejection},
    trail::{Fault, FaultKind, Trail},
};

const MS: Duration = Duration::from_millis(1);

fn abort() -> Abort {
    Abort::status(StatusCode::NOT_FOUND)
}

/// What came of a request, and how often the service inside was asked.
struct Hit {
    response: Response<FaultBody<Body>>,
    asked: u32,
    took: Duration,
    told: Option<Fault>,
    handle: FaultHandle,
}

async fn hit(policy: Policy, mut request: Request<Body>) -> Hit {
    let (asked, layer, trail) = (Arc::new(AtomicU32::new(0)), FaultLayer::new(policy), Trail::default());
    let count = Arc::clone(&asked);
    let inner = service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        assert!(HEADERS.iter().all(|name| !request.headers().contains_key(name)), "they go no further");
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::from("0123456789"))))
    });
    request.extensions_mut().insert(trail.clone());
    let (start, handle) = (Instant::now(), layer.handle().unwrap());
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let told = trail.fault();
    assert_eq!(response.extensions().get::<Fault>().copied(), told);
    Hit { response, asked: asked.load(Ordering::Relaxed), took: start.elapsed(), told, handle }
}

fn get() -> Request<Body> {
    Request::get("/orders").body(Body::empty()).unwrap()
}

fn grpc() -> Request<Body> {
    Request::post("/stock.Stock/Get").header("content-type", "application/grpc").body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_an_answer_in_the_callers_protocol() {
    for (abort, request, status, code) in [
        (abort(), get(), 404, None),
        (abort(), grpc(), 200, Some("12")),
        (abort().grpc(GrpcCode::DATA_LOSS), grpc(), 200, Some("15")),
        (Abort::status(StatusCode::SERVICE_UNAVAILABLE), grpc(), 200, Some("14")),
        (Abort::status(StatusCode::IM_A_TEAPOT), get(), 418, None),
    ] {
        let hit = hit(Policy::new().abort(abort, Ratio::ALWAYS), request).await;
        let grpc_status = hit.response.headers().get("grpc-status").map(|code| code.to_str().unwrap());
        assert_eq!((hit.response.status().as_u16(), grpc_status, hit.asked), (status, code, 0));
        let rejection = hit.response.extensions().get::<Rejection>().map(Rejection::reason);
        assert_eq!((rejection, hit.handle.aborted()), (Some(Reason::FaultInjected), 1));
        assert_eq!(hit.told.map(Fault::label), Some("abort"));
        let body = hit.response.into_body().collect().await.unwrap().to_bytes();
        if code.is_none() {
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&problem["status"], &problem["reason"]), (&status.into(), &"fault_injected".into()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_before_everything() {
    let late = || Policy::new().delay(250 * MS, Ratio::ALWAYS);
    let passed = hit(late(), get()).await;
    assert_eq!((passed.response.status().as_u16(), passed.took, passed.asked), (200, 250 * MS, 1));
    assert_eq!((passed.told, passed.handle.delayed()), (Some(Fault::new(true, None)), 1));
    let aborted = hit(late().abort(abort(), Ratio::ALWAYS), get()).await;
    assert_eq!((aborted.response.status().as_u16(), aborted.took, aborted.asked), (404, 250 * MS, 0));
    assert_eq!(aborted.told.map(Fault::label), Some("delay+abort"));
}

/// A head at most, and then the end.
#[tokio::test(start_paused = true)]
async fn a_reset_is_a_body_that_breaks_off() {
    for request in [get(), grpc()] {
        let hit = hit(Policy::new().reset(Ratio::ALWAYS), request).await;
        assert_eq!(
            (hit.asked, hit.handle.reset(), hit.told),
            (0, 1, Some(Fault::new(false, Some(FaultKind::Reset))))
        );
        assert!(!hit.response.headers().contains_key("grpc-status"));
        let body = hit.response.into_body();
        assert!(!body.is_end_stream() && body.size_hint().upper().is_none());
        let error = body.collect().await.unwrap_err();
        assert_eq!(Rejection::find(&*error).map(Rejection::reason), Some(Reason::FaultInjected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_body_takes_its_time_and_is_whole() {
    // Ten bytes at five a second: one each 200 ms, the first at once.
    let rate = NonZeroU64::new(5).unwrap();
    let hit = hit(Policy::new().throttle(rate, Ratio::ALWAYS), get()).await;
    let (start, handle) = (Instant::now(), hit.handle.clone());
    let body = hit.response.into_body();
    assert_eq!(body.size_hint().exact(), Some(10));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "0123456789");
    let took = start.elapsed();
    assert!((1_800 * MS..=2_020 * MS).contains(&took), "{took:?}");
    assert_eq!(handle.throttled(), 1);
}

/// The first that is hit; a seed hits the same requests each time, and shares are as wide as they say.
#[tokio::test(start_paused = true)]
async fn shares_are_by_chance() {
    let hits = || async {
        let policy = Policy::new()
            .abort(abort(), Ratio::percent(20))
            .reset(Ratio::percent(50))
            .chance(Chance::seeded(11));
        let mut kinds = Vec::new();
        for _ in 0..500 {
            kinds.push(hit(policy.clone(), get()).await.told.map(Fault::label));
        }
        (kinds, policy.handle())
    };
    let (first, handle) = hits().await;
    assert_eq!(first, hits().await.0);
    let (aborted, reset) = (handle.aborted(), handle.reset());
    assert!((70..=130).contains(&aborted) && (160..=240).contains(&reset), "{aborted} {reset}");
    let none = hit(Policy::new().abort(abort(), Ratio::NEVER), get()).await;
    assert_eq!((none.told, none.asked), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn only_what_matches_is_hit() {
    let orders = RequestMatch::prefix("/orders").unwrap();
    let policy = || Policy::new().abort(abort(), Ratio::ALWAYS).when(orders.clone());
    assert_eq!(hit(policy(), get()).await.asked, 0);
    assert_eq!(hit(policy(), grpc()).await.asked, 1);
}

fn asking(name: &str, value: &str, peer: [u8; 4]) -> Request<Body> {
    let mut request = get();
    request.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    request.extensions_mut().insert(PeerAddr::new((peer, 4000).into()));
    request
}

/// Who is believed gets what it asks for, strangers get nothing; and nobody upstream sees that it was asked.
#[tokio::test(start_paused = true)]
async fn only_trusted_peers_ask_for_faults() {
    let policy = || Policy::new().believing("10.1.0.0/16".parse().unwrap());
    for (name, value, label) in [
        ("x-portcullis-fault-delay-request", "20", Some("delay")),
        ("x-portcullis-fault-abort-request", "503", Some("abort")),
        ("x-portcullis-fault-abort-grpc-request", "14", Some("abort")),
        ("x-portcullis-fault-reset-request", "1", Some("reset")),
        ("x-portcullis-fault-throughput-response", "64", Some("throttle")),
        ("x-portcullis-fault-throughput-response", "0", None),
        ("x-portcullis-fault-abort-request", "99", None),
        ("x-portcullis-fault-abort-request", "1000000", None),
        ("x-portcullis-fault-abort-grpc-request", "0", None),
        ("x-portcullis-fault-delay-request", "-1", None),
        ("x_portcullis-fault-abort-request", "503", None),
    ] {
        let trusted = hit(policy(), asking(name, value, [10, 1, 2, 3])).await;
        assert_eq!(trusted.told.map(Fault::label), label, "{name}: {value}");
        let stranger = hit(policy(), asking(name, value, [10, 2, 2, 3])).await;
        assert_eq!((stranger.told, stranger.asked), (None, 1), "{name}: {value}");
        let unheard = hit(Policy::new(), asking(name, value, [10, 1, 2, 3])).await;
        assert_eq!((unheard.told, unheard.asked), (None, 1), "{name}: {value}");
    }
    let long = hit(policy(), asking("x-portcullis-fault-delay-request", "4000000000", [10, 1, 2, 3])).await;
    assert_eq!(long.took, Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_switch_ends_all_of_it() {
    let policy = Policy::new().abort(abort(), Ratio::ALWAYS).believing("0.0.0.0/0".parse().unwrap());
    let handle = policy.handle();
    handle.stop();
    assert_eq!(hit(policy.clone(), get()).await.asked, 1);
    let asked = asking("x-portcullis-fault-reset-request", "1", [1, 1, 1, 1]);
    assert_eq!(hit(policy.clone(), asked).await.told, None);
    assert!(Policy::new().counted_by(&handle).handle().is_stopped());
    handle.resume();
    assert_eq!((hit(policy, get()).await.asked, handle.aborted()), (0, 1));
}

/// While it is held back nothing is asked, and a caller that goes leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_takes_the_wait_along() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let inner = service_fn(move |_: Request<Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    let mut service = FaultLayer::new(Policy::new().delay(100 * MS, Ratio::ALWAYS)).layer(inner);
    let mut call = tokio_test::task::spawn(service.call(get()));
    assert!(call.poll().is_pending());
    drop(call);
    tokio::time::advance(200 * MS).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let disabled = FaultLayer::disabled();
    assert!(disabled.handle().is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_safe(value in prop::collection::vec(any::<u8>(), 0..24)) {
        let Ok(value) = http::HeaderValue::from_bytes(&value) else { return Ok(()) };
        for name in HEADERS {
            let mut headers = [(name, value.clone())].into_iter().collect();
            let _ = header::read(&headers);
            header::strip(&mut headers);
            prop_assert!(headers.is_empty());
        }
    }
}

/// As any service can be: what waits begins with the first poll.
#[test]
fn a_call_may_be_made_outside_of_a_runtime() {
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    for (policy, status) in [
        (Policy::new().delay(50 * MS, Ratio::ALWAYS), 200),
        (Policy::new().delay(50 * MS, Ratio::ALWAYS).abort(abort(), Ratio::ALWAYS), 404),
    ] {
        let calling = FaultLayer::new(policy).layer(inner).call(get());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (response, took) = runtime.unwrap().block_on(async {
            let begin = Instant::now();
            (calling.await.unwrap(), begin.elapsed())
        });
        assert_eq!((response.status().as_u16(), took >= 50 * MS), (status, true));
    }
}
