use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{COOKIE, SET_COOKIE},
    response::Parts,
};
use proptest::prelude::*;

use super::{token::Token, *};
use crate::{reject::Reason, time::ManualClock, upstream::balance::Named};

const KEY: SessionKey = SessionKey::new([7; 16]);
const X_SESSION: HeaderName = HeaderName::from_static("x-session");

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn head(status: u16) -> Parts {
    Response::builder().status(status).body(()).unwrap().into_parts().0
}

fn cookie() -> SessionCookie {
    SessionCookie::new("s").unwrap()
}

fn held(session: &Session, headers: &HeaderMap) -> Held {
    Held::new(&Arc::new(session.clone()), KEY, headers, false)
}

/// What a client is told that sends these fields and is answered by the endpoint at this port.
fn told(session: &Session, headers: &HeaderMap, port: u16, status: u16) -> Option<String> {
    let mut answer = head(status);
    held(session, headers).tell(at(port), &mut answer);
    let of = |name| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    of(SET_COOKIE).or_else(|| of(X_SESSION))
}

/// What a client sends next that was told this.
fn next(set: &str) -> HeaderMap {
    let pair = set.split(';').next().unwrap();
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(pair).unwrap())])
}

fn named(session: &Session, headers: &HeaderMap) -> Option<u64> {
    held(session, headers).named().map(|Named { name, .. }| name)
}

#[test]
fn a_client_is_told_once_where_it_is() {
    let session = Session::cookie(cookie());
    let none = HeaderMap::new();
    assert_eq!(held(&session, &none).named(), None);
    let set = told(&session, &none, 1, 200).unwrap();
    assert!(set.starts_with("s=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let client = next(&set);
    assert_eq!(named(&session, &client), Some(KEY.name(at(1))));
    assert_eq!(told(&session, &client, 1, 200), None, "it knows");
    let moved = told(&session, &client, 2, 200).unwrap();
    assert_eq!(named(&session, &next(&moved)), Some(KEY.name(at(2))));
}

#[test]
fn a_header_is_told_in_the_same_way() {
    let session = Session::header(X_SESSION).strict(true);
    let token = told(&session, &HeaderMap::new(), 1, 200).unwrap();
    assert_eq!(token.len(), 64);
    let client = HeaderMap::from_iter([(X_SESSION, HeaderValue::from_str(&token).unwrap())]);
    assert_eq!(held(&session, &client).named(), Some(Named { name: KEY.name(at(1)), strict: true }));
    assert_eq!(told(&session, &client, 1, 200), None);
}

#[test]
fn who_fails_begins_no_session() {
    let session = Session::cookie(cookie());
    assert_eq!(told(&session, &HeaderMap::new(), 1, 500), None);
    let set = told(&session, &HeaderMap::new(), 1, 404).unwrap();
    assert_eq!(told(&session, &next(&set), 2, 503), None, "and takes none over");
}

#[test]
fn an_address_does_not_show() {
    let names: Vec<_> = (1..200).map(|port| KEY.name(at(port))).collect();
    for (place, name) in names.iter().enumerate() {
        assert!(!names[..place].contains(name));
    }
    assert_ne!(KEY.name(at(1)), SessionKey::random().name(at(1)));
    assert_ne!(KEY.name(at(1)), SessionKey::new([8; 16]).name(at(1)));
    let set = told(&Session::cookie(cookie()), &HeaderMap::new(), 8080, 200).unwrap();
    assert!(!set.contains("0a000001") && !set.contains("1f90"), "{set}");
    assert_eq!(format!("{KEY:?}"), "SessionKey(..)");
    let mapped = "[::ffff:10.0.0.1]:1".parse().unwrap();
    assert_ne!(KEY.name(mapped), KEY.name(at(1)), "each member has a name of its own");
}

/// The same on each machine, of whatever byte order, since instances share sessions; by the reference's SipHash-2-4-128.
#[test]
fn a_token_is_the_same_everywhere() {
    let token = Token { name: KEY.name(at(1)), begun: 1, seen: 2 };
    assert_eq!(token.write(KEY), GOLDEN);
}

const GOLDEN: &str = "696a7f045dd30600000000010000000281e8fb8da3db0c0aa8b7b01cb1967a99";

#[test]
fn a_session_ends() {
    let hands = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let seconds = Duration::from_secs;
    let session = Session::cookie(cookie()).absolute_timeout(seconds(100)).clock(hands.clock());
    let client = next(&told(&session, &HeaderMap::new(), 1, 200).unwrap());
    hands.advance(seconds(99));
    assert!(named(&session, &client).is_some());
    assert_eq!(told(&session, &client, 1, 200), None);
    hands.advance(seconds(1));
    assert_eq!(named(&session, &client), None);
    let anew = next(&told(&session, &client, 1, 200).unwrap());
    assert!(named(&session, &anew).is_some());
    hands.step_back(seconds(500));
    assert!(named(&session, &anew).is_some(), "a clock that was set back ends nothing");
}

#[test]
fn a_session_that_is_used_goes_on() {
    let hands = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let seconds = Duration::from_secs;
    let session = Session::cookie(cookie()).idle_timeout(seconds(100)).absolute_timeout(seconds(300));
    let session = session.clock(hands.clock());
    let mut client = next(&told(&session, &HeaderMap::new(), 1, 200).unwrap());
    hands.advance(seconds(9));
    assert_eq!(told(&session, &client, 1, 200), None, "not on each answer");
    for _ in 0..3 {
        hands.advance(seconds(90));
        client = next(&told(&session, &client, 1, 200).unwrap());
    }
    hands.advance(seconds(21));
    assert_eq!(named(&session, &client), None, "but for no longer than it may");
    let client = next(&told(&session, &client, 1, 200).unwrap());
    hands.advance(seconds(100));
    assert_eq!(named(&session, &client), None, "nobody has used it");
}

#[test]
fn a_cookie_has_the_attributes_that_were_asked_for() {
    let set = |cookie: SessionCookie, https| {
        let session = Arc::new(Session::cookie(cookie).absolute_timeout(Duration::from_secs(60)));
        let mut answer = head(200);
        Held::new(&session, KEY, &HeaderMap::new(), https).tell(at(1), &mut answer);
        let text = answer.headers[SET_COOKIE].to_str().unwrap().to_owned();
        text.split_once("; ").unwrap().1.to_owned()
    };
    assert_eq!(set(cookie(), true), "Path=/; HttpOnly; SameSite=Lax; Secure");
    assert_eq!(set(cookie().secure(false).unwrap(), true), "Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(set(cookie().same_site(SameSite::None), false), "Path=/; HttpOnly; SameSite=None; Secure");
    let strict = cookie().same_site(SameSite::Strict).path("/shop").unwrap().permanent(true);
    assert_eq!(set(strict, false), "Path=/shop; HttpOnly; SameSite=Strict; Max-Age=60");
    assert_eq!(set(SessionCookie::new("__Host-s").unwrap(), false), "Path=/; HttpOnly; SameSite=Lax; Secure");
    for name in ["", "a b", "a=b", "a;b", "a\n", &"a".repeat(129)] {
        assert!(matches!(SessionCookie::new(name), Err(InvalidCookie::Name(_))), "{name}");
    }
    for path in ["", "shop", "/a;b", "/a\nb", "/ä"] {
        assert!(matches!(cookie().path(path), Err(InvalidCookie::Path(_))), "{path}");
    }
}

/// What browsers would not take is refused when it is built: they look at the beginning of the name.
#[test]
fn a_cookie_is_what_its_name_says() {
    for (name, for_a_path) in
        [("__Host-s", false), ("__hOST-s", false), ("__Secure-s", true), ("_Host-s", true)]
    {
        let new = || SessionCookie::new(name).unwrap();
        assert!(new().path("/").is_ok() && new().secure(true).is_ok(), "{name}");
        assert_eq!(new().path("/shop").is_ok(), for_a_path, "{name}");
        assert_eq!(new().secure(false).is_ok(), name == "_Host-s", "{name}");
    }
    let refused = SessionCookie::new("__Host-s").unwrap().secure(false).unwrap_err();
    assert_eq!(refused, InvalidCookie::Prefix("__Host-s".into()));
}

/// What the application has set beside it stays.
#[test]
fn other_cookies_are_left() {
    let session = Session::cookie(cookie());
    let set = told(&session, &HeaderMap::new(), 1, 200).unwrap();
    let mut many = HeaderMap::new();
    for line in ["a=1; S=2", "s=\"forged\"; b=3", &format!("s=; {}", set.split(';').next().unwrap())] {
        many.append(COOKIE, HeaderValue::from_str(line).unwrap());
    }
    assert_eq!(named(&session, &many), Some(KEY.name(at(1))), "of several the one that is ours");
    let mut answer = head(200);
    answer.headers.append(SET_COOKIE, HeaderValue::from_static("own=1"));
    held(&session, &HeaderMap::new()).tell(at(1), &mut answer);
    assert_eq!(answer.headers.get_all(SET_COOKIE).iter().count(), 2);
    let mut endless = HeaderMap::new();
    let forged = "s=0; ".repeat(4) + set.split(';').next().unwrap();
    endless.append(COOKIE, HeaderValue::from_str(&forged).unwrap());
    assert_eq!(named(&session, &endless), None, "four of its name are looked at");
}

#[test]
fn a_strict_session_is_refused_and_what_is_gone_taken_back() {
    let session = Session::cookie(cookie()).strict(true);
    let client = next(&told(&session, &HeaderMap::new(), 1, 200).unwrap());
    let asks = held(&session, &client);
    let away = asks.refusal(false).unwrap();
    assert_eq!((away.reason(), away.headers().len()), (Reason::NoEndpoint, 0));
    let gone = asks.refusal(true).unwrap();
    assert_eq!(gone.headers()[SET_COOKIE], "s=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    assert!(held(&session, &HeaderMap::new()).refusal(true).is_none(), "it has no session");
    assert!(held(&Session::cookie(cookie()), &client).refusal(true).is_none());
}

proptest! {
    /// Whatever is sent: nothing panics, and only what we have written is a token.
    #[test]
    fn nobody_makes_a_token(bytes in prop::collection::vec(any::<u8>(), 0..200), digits in "[0-9a-fA-F+]{60,68}") {
        prop_assert_eq!(Token::read(&bytes, KEY), None);
        prop_assert_eq!(Token::read(digits.as_bytes(), KEY), None);
    }

    #[test]
    fn a_token_is_what_was_written(name: u64, begun: u32, seen: u32, place in 0_usize..64, digit in "[0-9a-fg]") {
        let token = Token { name, begun, seen };
        let text = token.write(KEY);
        prop_assert_eq!(text.len(), 64);
        prop_assert_eq!(Token::read(text.as_bytes(), KEY), Some(token));
        prop_assert_eq!(Token::read(text.as_bytes(), SessionKey::new([8; 16])), None);
        let mut other = text.clone();
        other.replace_range(place..=place, &digit);
        if other != text {
            prop_assert_eq!(Token::read(other.as_bytes(), KEY), None, "{}", other);
        }
    }
}
