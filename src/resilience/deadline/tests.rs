use std::{convert::Infallible, time::Duration};

use http::{HeaderName, Request, Response};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use super::{InheritDeadline, ReadDeadline, TellDeadline, wire};
use crate::{
    body::Body,
    context::{Context, Deadline},
    gate::{Gate, GateLayer},
    head::Head,
};

const HEADER: HeaderName = HeaderName::from_static("x-timeout-ms");
const MS: Duration = Duration::from_millis(1);

#[test]
fn times_are_read_as_the_standard_has_them() {
    for (text, expected) in [
        ("1H", Some(3_600_000 * MS)),
        ("2M", Some(120_000 * MS)),
        ("3S", Some(3_000 * MS)),
        ("250m", Some(250 * MS)),
        ("1500u", Some(1500 * MS / 1000)),
        ("1000000n", Some(MS)),
        ("0m", Some(Duration::ZERO)),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("100000000m", None),
        ("", None),
        ("m", None),
        ("1", None),
        ("-1m", None),
        ("1.5S", None),
        ("1 S", None),
        ("1h", None),
        ("1ms", None),
    ] {
        assert_eq!(wire::grpc(text.as_bytes()), expected, "{text}");
    }
    assert_eq!(wire::plain(b"250"), Some(250 * MS));
    assert_eq!(wire::plain(b"250m"), Some(250 * MS));
    assert_eq!(wire::plain(b"9999999999999999"), None);
    assert_eq!(wire::to_plain(1500 * MS), "1500");
}

proptest! {
    #[test]
    fn what_is_written_is_read(nanos in 0..u64::MAX) {
        let time = Duration::from_nanos(nanos);
        let read = wire::grpc(wire::to_grpc(time).unwrap().as_bytes()).unwrap();
        prop_assert!(read <= time);
        // What has nine digits is told in the next unit, a thousand times as long: six are left.
        prop_assert!(time - read <= time / 100_000 + Duration::from_micros(1), "{time:?} {read:?}");
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let _ = (wire::grpc(&bytes), wire::plain(&bytes));
    }
}

/// What a request is given that has these fields.
fn read(fields: &[(&str, &str)], known: Option<Duration>) -> Option<Duration> {
    let now = Instant::now();
    let mut request = Request::new(());
    for (name, value) in fields {
        request.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    if let Some(left) = known {
        request.extensions_mut().insert(Deadline::after(now, left));
    }
    ReadDeadline::new().header(HEADER).check(&mut Head::of(&mut request)).unwrap();
    request.extensions().get::<Deadline>().map(|deadline| deadline.left(now))
}

#[tokio::test(start_paused = true)]
async fn a_caller_shortens_and_never_lengthens() {
    const GRPC: (&str, &str) = ("content-type", "application/grpc");
    for (fields, known, expected) in [
        (&[GRPC, ("grpc-timeout", "2S")][..], None, Some(2_000)),
        (&[GRPC, ("grpc-timeout", "2S")], Some(1_000), Some(1_000)),
        (&[GRPC, ("grpc-timeout", "2S")], Some(3_000), Some(2_000)),
        (&[GRPC, ("grpc-timeout", "soon")], None, None),
        (&[GRPC, ("x-timeout-ms", "7")], None, None),
        (&[("grpc-timeout", "2S")], None, None),
        (&[("x-timeout-ms", "70")], None, Some(70)),
        (&[("x-timeout-ms", "0")], None, Some(0)),
        (&[("x-timeout-ms", "-7")], Some(9), Some(9)),
    ] {
        let millis = |millis| Duration::from_millis(millis);
        assert_eq!(read(fields, known.map(millis)), expected.map(millis), "{fields:?}");
    }
}

/// From the request that came, through its handler, to the call that it makes.
#[tokio::test(start_paused = true)]
async fn a_call_has_what_is_left_of_its_request() {
    // It answers with the fields that it was sent.
    let server = service_fn(|call: Request<Body>| async move {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = call.headers().clone();
        Ok::<_, Infallible>(response)
    });
    let client = GateLayer::new(InheritDeadline::new().margin(10 * MS))
        .layer(GateLayer::new(TellDeadline::new().header(HEADER)).layer(server));
    let mut request = Request::new(());
    request.extensions_mut().insert(Deadline::after(Instant::now(), 1_000 * MS));
    let context = Context::of(request.extensions());
    let handler = context.scope(async {
        tokio::time::sleep(300 * MS).await;
        for (own, told) in [(None, "690000u"), (Some("1H"), "690000u"), (Some("20m"), "20m")] {
            let mut call = Request::new(Body::empty());
            call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            call.headers_mut().extend(own.map(|own| (wire::GRPC_TIMEOUT, own.parse().unwrap())));
            let sent = client.clone().oneshot(call).await.unwrap();
            assert_eq!(
                (&sent.headers()["grpc-timeout"], sent.headers().get(HEADER)),
                (&told.parse().unwrap(), None)
            );
        }
        let sent = client.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!((&sent.headers()[HEADER], sent.headers().len()), (&"690".parse().unwrap(), 1));
    });
    handler.await;
}

/// The server gives up before its caller does, and can say so.
#[tokio::test(start_paused = true)]
async fn a_server_is_told_less_by_the_margin() {
    for (left, told) in [(300, "280"), (20, "0"), (7, "0")] {
        let mut call = Request::new(());
        call.extensions_mut().insert(Deadline::after(Instant::now(), left * MS));
        TellDeadline::new().header(HEADER).margin(20 * MS).check(&mut Head::of(&mut call)).unwrap();
        assert_eq!(call.headers()[HEADER], told);
    }
}

/// A call without a deadline is left as its caller made it.
#[tokio::test(start_paused = true)]
async fn without_a_deadline_nothing_is_told() {
    let mut call = Request::new(());
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    call.headers_mut().insert("grpc-timeout", "5S".parse().unwrap());
    InheritDeadline::new().check(&mut Head::of(&mut call)).unwrap();
    TellDeadline::new().header(HEADER).check(&mut Head::of(&mut call)).unwrap();
    assert_eq!(call.headers()["grpc-timeout"], "5S");
    assert!(call.extensions().get::<Deadline>().is_none() && !call.headers().contains_key(HEADER));
}
