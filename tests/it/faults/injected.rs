//! Faults on purpose, in a client of servers that serve: what its callers see, and that servers do not.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use portcullis::{
    chance::Chance,
    matching::RequestMatch,
    ratio::Ratio,
    reject::{GrpcCode, Reason, Rejection},
    resilience::{
        fault::{Abort, Policy},
        retry,
    },
    stack::mesh::{Client, ClientLayer},
    trail::Fault,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    calls::{Over, client, seen, start},
    endpoint::Endpoint,
};

const NONE: Vec<String> = Vec::new();

async fn one() -> Vec<Endpoint> {
    start(1).await
}

/// With retries, which do not mend what is not to be mended.
fn with(policy: Policy) -> ClientLayer {
    ClientLayer::new().retry(retry::Policy::default().danger_any_method()).fault(policy)
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).body(Empty::new()).unwrap()
}

async fn code(client: &Client) -> Code {
    match HealthClient::new(client.clone()).check(HealthCheckRequest::default()).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn an_abort_is_a_status_in_the_callers_protocol() {
    let mut endpoints = one().await;
    let abort = Abort::status(StatusCode::IM_A_TEAPOT).grpc(GrpcCode::DATA_LOSS);
    let policy = Policy::new().abort(abort, Ratio::ALWAYS);
    let (handle, client) = (policy.handle(), client(&endpoints, with(policy)));
    let answer = client.send(get("/")).await;
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.extensions().get::<Rejection>().map(Rejection::reason), Some(Reason::FaultInjected));
    assert_eq!(answer.extensions().get::<Fault>().map(|fault| fault.label()), Some("abort"));
    assert_eq!(code(&client).await, Code::DataLoss);
    assert_eq!((seen(&mut endpoints).await, handle.aborted()), (0, 2));
    handle.stop();
    for protocol in Over::BOTH {
        assert_eq!(protocol.many(&client, 3).await, NONE, "{protocol:?}");
    }
    assert_eq!((seen(&mut endpoints).await, handle.aborted()), (6, 2), "the switch ends all of it");
}

/// The call's own time bounds it, as it would a server that is late.
#[tokio::test]
async fn a_delay_is_bounded_by_the_time_of_the_call() {
    let mut endpoints = one().await;
    let long = Policy::new().delay(Duration::from_secs(3600), Ratio::ALWAYS);
    let timed = client(&endpoints, with(long).timeout(Duration::from_millis(50)));
    assert_eq!(timed.send(get("/")).await.status(), 504);
    assert_eq!(code(&timed).await, Code::DeadlineExceeded);
    assert_eq!(seen(&mut endpoints).await, 0);
    let short = Policy::new().delay(Duration::from_millis(1), Ratio::ALWAYS);
    let (handle, client) = (short.handle(), client(&endpoints, with(short)));
    for protocol in Over::BOTH {
        assert_eq!(protocol.call(&client).await, Ok(()), "{protocol:?}");
    }
    assert_eq!((seen(&mut endpoints).await, handle.delayed()), (2, 2));
}

#[tokio::test]
async fn a_reset_breaks_off_and_asks_nobody() {
    let mut endpoints = one().await;
    let policy = Policy::new().reset(Ratio::ALWAYS);
    let (handle, client) = (policy.handle(), client(&endpoints, with(policy)));
    for protocol in Over::BOTH {
        assert!(protocol.call(&client).await.is_err(), "{protocol:?}");
    }
    let answer = client.send(get("/")).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!((seen(&mut endpoints).await, handle.reset()), (0, 3));
}

/// What comes is whole, in pieces; `served` in six.
#[tokio::test]
async fn a_throttled_answer_is_whole() {
    let mut endpoints = one().await;
    let policy = Policy::new().throttle(NonZeroU64::new(10).unwrap(), Ratio::ALWAYS);
    let (handle, client) = (policy.handle(), client(&endpoints, with(policy)));
    let mut body = client.send(get("/")).await.into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(pieces, ["s", "e", "r", "v", "e", "d"]);
    assert_eq!(Over::Grpc.call(&client).await, Ok(()), "trailers come last");
    assert_eq!((seen(&mut endpoints).await, handle.throttled()), (2, 2));
}

/// A share of those that match; seeded, the same in each run.
#[tokio::test]
async fn a_share_of_what_matches_is_hit() {
    let mut endpoints = one().await;
    let mut hit = Vec::new();
    for _ in 0..2 {
        let policy = Policy::new()
            .when(RequestMatch::prefix("/orders").unwrap())
            .abort(Abort::status(StatusCode::SERVICE_UNAVAILABLE), Ratio::percent(30))
            .chance(Chance::seeded(7));
        let (handle, client) = (policy.handle(), client(&endpoints, with(policy)));
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(client.send(get("/orders/1")).await.status().as_u16());
            assert_eq!(client.send(get("/other")).await.status(), 200);
        }
        let aborted = statuses.iter().filter(|status| **status == 503).count() as u64;
        assert!((4..=24).contains(&aborted), "{aborted}");
        assert_eq!(handle.aborted(), aborted);
        hit.push(statuses);
    }
    assert_eq!(hit[0], hit[1]);
    let refused: usize = hit.iter().flatten().filter(|status| **status == 503).count();
    assert_eq!(seen(&mut endpoints).await, 160 - refused as u64);
}

/// No word of a request does it: calls have no peer who could be trusted.
#[tokio::test]
async fn nobody_asks_by_header() {
    let endpoints = one().await;
    let policy = Policy::new().believing("0.0.0.0/0".parse().unwrap());
    let client = client(&endpoints, with(policy));
    let mut request = get("/");
    request.headers_mut().insert("x-portcullis-fault-abort-request", "503".parse().unwrap());
    assert_eq!(client.send(request).await.status(), 200);
}

#[cfg(feature = "prometheus")]
#[tokio::test]
async fn the_metrics_of_a_client_have_them() {
    use portcullis::telemetry::metrics::Metrics;

    let endpoints = one().await;
    let policy = Policy::new().delay(Duration::from_millis(1), Ratio::ALWAYS).reset(Ratio::ALWAYS);
    let metrics = Metrics::new();
    let client = client(&endpoints, with(policy).metrics(&metrics));
    for _ in 0..3 {
        let _ = client.send(get("/")).await.into_body().collect().await;
    }
    let text = metrics.render();
    for kind in ["delay", "reset"] {
        let sample = format!(r#"portcullis_faults_injected_total{{route="orders",kind="{kind}"}} 3"#);
        assert!(text.contains(&sample), "{sample} is not in {text}");
    }
}

#[cfg(feature = "config")]
#[tokio::test]
async fn a_file_says_which_calls_fail_and_ends_it() {
    use portcullis::config::Config;

    let endpoints = one().await;
    let file = |rest: &str| {
        format!(
            "apiVersion: portcullis/v1alpha1\n\
             upstreams: {{ orders: {{ endpoints: ['{}'] }} }}\n\
             destinations: {{ orders: {{ policies: {{ fault: {{ {rest} }} }} }} }}\n",
            endpoints[0].address
        )
    };
    let abort = "matches: [{ path: { value: /orders } }], abort: { httpStatus: 429, share: 100% }";
    let on = Config::text("calls", file(abort)).client().await.unwrap();
    assert_eq!(on.client().send(get("/orders")).await.status(), 429);
    assert_eq!(on.client().send(get("/other")).await.status(), 200);
    let off = Config::text("calls", format!("{}disableFaults: true\n", file(abort))).client().await.unwrap();
    assert_eq!(off.client().send(get("/orders")).await.status(), 200);
    for (rest, told) in [
        ("byHeader: true", "destinations.orders.policies.fault.byHeader: nobody could ask"),
        ("abort: { share: 100% }, reset: { share: 1% }", "fault.reset: nothing is left for it"),
    ] {
        let faults = Config::text("calls", file(rest)).client().await.map(drop).unwrap_err();
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|fault| fault.contains(told)), "{told}: {text:?}");
    }
}
