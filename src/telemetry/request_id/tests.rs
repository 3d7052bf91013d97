use super::*;
use crate::{
    context::{Context, RequestId},
    gate::{Gate, Pass},
    head::Head,
    identity::{PeerAddr, TrustedProxies},
    time::ManualClock,
};
use http::{HeaderName, HeaderValue, Request, Response};
use std::{
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

fn edge() -> Trust {
    Trust::Peers(TrustedProxies::parse(["10.0.0.0/8"]).unwrap())
}

fn from(peer: &str, lines: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    for line in lines {
        request.headers_mut().append(X_REQUEST_ID, HeaderValue::from_bytes(line).unwrap());
    }
    request.extensions_mut().insert(PeerAddr::new(peer.parse::<SocketAddr>().unwrap()));
    request
}

/// The id after the gate: it must be the same one, once, wherever it is told.
fn settled(gate: &SetRequestId, request: &mut Request<()>) -> HeaderValue {
    let mut pass = gate.check(&mut Head::of(request)).unwrap();
    let lines: Vec<_> = request.headers().get_all(X_REQUEST_ID).iter().cloned().collect();
    let [id] = &lines[..] else { panic!("{} lines", lines.len()) };
    assert_eq!(request.extensions().get::<RequestId>().unwrap().as_header(), id);
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers.append(X_REQUEST_ID, HeaderValue::from_static("of-the-upstream"));
    head.headers.append(X_REQUEST_ID, HeaderValue::from_static("twice"));
    pass.on_head(&mut head);
    assert_eq!(head.headers.get_all(X_REQUEST_ID).iter().collect::<Vec<_>>(), [id]);
    id.clone()
}

fn is_made(id: &HeaderValue) -> bool {
    uuid::Uuid::try_parse_ascii(id.as_bytes()).is_ok_and(|id| id.get_version_num() == 7)
}

#[test]
fn a_trusted_peers_id_is_taken() {
    let gate = SetRequestId::new().trust(edge());
    let id = settled(&gate, &mut from("10.1.2.3:4000", &[b"from-the-edge/1"]));
    assert_eq!(id, "from-the-edge/1");
    let id = settled(&gate, &mut from("[::ffff:10.1.2.3]:4000", &[b"mapped"]));
    assert_eq!(id, "mapped");
}

#[test]
fn a_strangers_id_is_replaced() {
    let gate = SetRequestId::new().trust(edge());
    assert!(is_made(&settled(&gate, &mut from("192.0.2.1:4000", &[b"mine"]))));
    assert!(is_made(&settled(&SetRequestId::new(), &mut from("10.1.2.3:4000", &[b"mine"]))));
    let mut unknown = Request::builder().header(X_REQUEST_ID, "mine").body(()).unwrap();
    assert!(is_made(&settled(&gate, &mut unknown)), "a connection of unknown origin is no trusted peer");
}

#[test]
fn everybody_can_be_trusted() {
    let gate = SetRequestId::new().trust(Trust::Always);
    let mut request = Request::builder().header(X_REQUEST_ID, "mine").body(()).unwrap();
    assert_eq!(settled(&gate, &mut request), "mine");
}

#[test]
fn a_missing_id_is_made() {
    assert!(is_made(&settled(&SetRequestId::new().trust(edge()), &mut from("10.1.2.3:4000", &[]))));
}

#[test]
fn its_time_is_the_clocks_even_if_that_steps_back() {
    let hands = ManualClock::new(UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab));
    let gate = SetRequestId::new().clock(hands.clone());
    let first = settled(&gate, &mut Request::new(()));
    hands.step_back(Duration::from_millis(0xab));
    let second = settled(&gate, &mut Request::new(()));
    assert!(first.to_str().unwrap().starts_with("01234567-89ab-7"));
    assert!(second.to_str().unwrap().starts_with("01234567-8900-7"));
}

#[test]
fn the_id_of_a_layer_outside_stays() {
    let mut request = from("192.0.2.1:4000", &[b"a", b"b"]);
    let first = settled(&SetRequestId::new(), &mut request);
    assert_eq!(settled(&SetRequestId::new(), &mut request), first);
    request.headers_mut().insert(X_REQUEST_ID, HeaderValue::from_static("changed-on-the-way"));
    assert_eq!(settled(&SetRequestId::new(), &mut request), first);
}

#[test]
fn several_lines_become_one_new_one() {
    let gate = SetRequestId::new().trust(edge());
    for lines in [&[&b"a"[..], b"b"][..], &[b"same", b"same"], &[b"a", b"", b"c"]] {
        assert!(is_made(&settled(&gate, &mut from("10.1.2.3:4000", lines))));
    }
}

#[test]
fn empty_oversized_and_hostile_ids_are_replaced() {
    let gate = SetRequestId::new().trust(edge());
    let long = [b'a'; 129];
    for value in [
        &b""[..],
        &long,
        b"a b",
        b"a\tb",
        b"a\"b",
        b"a,b",
        b"a;b",
        b"${jndi:x}",
        b"\\n",
        b"it's",
        b"\xff",
        b"<b>",
    ] {
        assert!(is_made(&settled(&gate, &mut from("10.1.2.3:4000", &[value]))), "{value:?}");
    }
    assert_eq!(settled(&gate, &mut from("10.1.2.3:4000", &[&long[..128]])).len(), 128);
}

#[test]
fn the_header_can_have_another_name_and_the_response_none() {
    let name = HeaderName::from_static("x-correlation-id");
    let gate = SetRequestId::new().header(name.clone()).echo(false);
    let mut request = Request::new(());
    let pass = gate.check(&mut Head::of(&mut request)).unwrap();
    assert!(is_made(&request.headers()[&name]));
    assert!(!pass.watches());
}

#[test]
fn a_full_header_map_does_no_harm() {
    let mut request = Request::new(());
    for i in 0.. {
        let name = HeaderName::from_bytes(format!("x-{i}").as_bytes()).unwrap();
        if request.headers_mut().try_insert(name, HeaderValue::from_static("1")).is_err() {
            break;
        }
    }
    SetRequestId::new().check(&mut Head::of(&mut request)).unwrap();
    assert!(request.extensions().get::<RequestId>().is_some());
}

fn call(gate: &PropagateRequestId, mut request: Request<()>) -> Option<HeaderValue> {
    gate.check(&mut Head::of(&mut request)).unwrap();
    assert!(request.headers().get_all(X_REQUEST_ID).iter().count() <= 1);
    request.headers().get(X_REQUEST_ID).cloned()
}

fn id(value: &'static str) -> RequestId {
    RequestId::new(HeaderValue::from_static(value)).unwrap()
}

#[test]
fn a_call_carries_the_id_of_its_own_extensions() {
    let mut request = Request::new(());
    request.extensions_mut().insert(id("own"));
    assert_eq!(call(&PropagateRequestId::new(), request).unwrap(), "own");
}

#[test]
fn an_id_set_by_the_caller_stays_unless_told() {
    let request = || {
        let mut request = Request::builder().header(X_REQUEST_ID, "explicit").body(()).unwrap();
        request.extensions_mut().insert(id("own"));
        request
    };
    assert_eq!(call(&PropagateRequestId::new(), request()).unwrap(), "explicit");
    assert_eq!(call(&PropagateRequestId::new().replace(true), request()).unwrap(), "own");
}

#[test]
fn a_call_for_no_request_gets_no_id() {
    assert!(Context::current().is_none());
    assert_eq!(call(&PropagateRequestId::new(), Request::new(())), None);
}

#[test]
fn making_setting_and_telling_allocates_twice() {
    let gate = SetRequestId::new();
    // The first id of a thread seeds its generator.
    gate.check(&mut Head::of(&mut Request::new(()))).unwrap();
    // As a server gives it: with room for another header, and with extensions.
    let mut request = Request::builder().header("host", "a").body(()).unwrap();
    request.extensions_mut().insert(0_u8);
    request.extensions_mut().insert(0_u16);
    let (mut head, ()) =
        Response::builder().header("content-type", "text/plain").body(()).unwrap().into_parts();
    let made = allocation_counter::measure(|| {
        gate.check(&mut Head::of(&mut request)).unwrap().on_head(&mut head);
    });
    assert_eq!(made.count_total, 2, "the id, and its place in the extensions");

    request.extensions_mut().remove::<RequestId>();
    let gate = SetRequestId::new().trust(Trust::Always);
    let taken = allocation_counter::measure(|| {
        gate.check(&mut Head::of(&mut request)).unwrap().on_head(&mut head);
    });
    assert_eq!(taken.count_total, 1, "its place in the extensions");
}
