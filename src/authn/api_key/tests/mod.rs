use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Request, header};
use proptest::prelude::*;

use super::{hash::HASHED, *};

mod failures;
mod hashes;
mod life;
use crate::{
    authn::Location,
    gate::Gate as _,
    head::Head,
    identity::Principal,
    reject::{Answer, Protocol, Reason, Rejection},
    time::ManualClock,
};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn table(entries: &[&KeyEntry]) -> KeyTable {
    KeyTable::new("partners", entries.iter().copied().cloned()).unwrap()
}

fn refused(gate: &ApiKey, request: http::request::Builder) -> Rejection {
    let mut request = request.body(()).unwrap();
    match gate.check(&mut Head::of(&mut request)) {
        Err(Answer::Refuse(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

fn get() -> http::request::Builder {
    Request::get("/orders?a=1")
}

#[test]
fn a_minted_key_is_known_again_and_is_nowhere_to_be_seen() {
    let minted = mint("shop_live", "acme").unwrap();
    let minted =
        minted.with(|entry| entry.scopes(["orders.read"]).roles(["buyer"]).plan("gold").expires(at(100)));
    let key = minted.reveal();
    assert!(key.starts_with("shop_live_") && key.len() == "shop_live_".len() + 12 + 1 + 43 + 6, "{key}");

    let principal = table(&[minted.entry()]).verify(key, at(99)).unwrap();
    assert_eq!(principal, Principal::new("partners", "", "acme"));
    assert!(principal.has_scope("orders.read") && principal.has_role("buyer"));
    assert_eq!((principal.plan(), principal.expires()), (Some("gold"), Some(at(100))));

    let secret = &key[key.len() - 49..];
    for shown in [format!("{minted:?}"), format!("{:?}", minted.entry()), minted.entry().to_yaml()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_ne!(mint("shop_live", "acme").unwrap().reveal(), key);
    for prefix in ["", "Shop", "sh op", "é", "shop-live", &"x".repeat(33)] {
        assert!(mint(prefix, "acme").is_err(), "{prefix}");
    }
}

#[test]
fn an_entry_is_written_as_an_item_of_the_file() {
    let hash: KeyHash = format!("sha256:{}", "0aF9".repeat(16)).parse().unwrap();
    let entry =
        KeyEntry::new("0123456789ab", hash, "acme: \"é\\\n#").scopes(["a", "b"]).expires(at(1_803_024_000));
    let written = format!(
        concat!(
            "- id: \"0123456789ab\"\n",
            "  hash: \"sha256:{}\"\n",
            "  owner: \"acme: \\\"\\U000000e9\\\\\\U0000000a#\"\n",
            "  scopes: [\"a\", \"b\"]\n",
            "  expires: \"2027-02-19T08:00:00Z\"\n"
        ),
        "0af9".repeat(16)
    );
    assert_eq!(entry.to_yaml(), written);
    for text in
        ["", "sha256:", "0af9", &"0af9".repeat(16), &format!("sha256:{}", "0ag9".repeat(16)), "sha256:é"]
    {
        assert!(text.parse::<KeyHash>().is_err(), "{text}");
    }
}

#[test]
fn an_entry_is_read_from_a_file() {
    let hash = KeyHash::of("x").to_string();
    let read = |text: &str| serde_json::from_str::<KeyEntry>(text);
    let entry =
        read(&format!(r#"{{"id":"0123456789ab","hash":"{hash}","owner":"acme","expires":"2027-02-19"}}"#));
    let expected = KeyEntry::new("0123456789ab", KeyHash::of("x"), "acme").expires(at(1_802_995_200));
    assert_eq!(entry.unwrap(), expected);
    for (text, says) in [
        (r#"{"id":"0123456789ab","hash":"hush","owner":"acme"}"#.to_owned(), "sha256:"),
        (format!(r#"{{"id":"a","hash":"{hash}","owner":"b","expires":"hush"}}"#), "UTC"),
        (format!(r#"{{"id":"a","hash":"{hash}","owner":"b","key":"hush"}}"#), "unknown field"),
        (format!(r#"{{"id":"a","hash":"{hash}"}}"#), "owner"),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("hush"), "{error}");
    }
}

#[test]
fn tables_that_cannot_be_right_are_refused() {
    let (a, b) = (mint("a", "x").unwrap(), mint("a", "y").unwrap());
    let twice = KeyTable::new("p", [a.entry().clone(), b.entry().clone(), a.entry().clone()]).unwrap_err();
    assert_eq!(twice, KeyTableError::Duplicate(a.entry().id().into()));
    for id in ["", "short", "0123456789abc", "0123456789a_", "0123456789aé"] {
        let entry = KeyEntry::new(id, KeyHash::of("x"), "acme");
        assert_eq!(KeyTable::new("p", [entry]).unwrap_err(), KeyTableError::Id(id.into()));
    }
    let nobody = KeyEntry::new("0123456789ab", KeyHash::of("x"), " ");
    assert!(matches!(KeyTable::new("p", [nobody]), Err(KeyTableError::Owner(_))));
    let hash = KeyHash::of("x");
    let many = (0..=MAX_KEYS).map(|i| KeyEntry::new(format!("{i:012}"), hash.clone(), "x"));
    assert_eq!(KeyTable::new("p", many).unwrap_err(), KeyTableError::TooMany);
}

#[test]
fn unknown_and_wrong_keys_cost_the_same_work_and_get_the_same_answer() {
    let (known, stranger) = (mint("a", "x").unwrap(), mint("a", "y").unwrap());
    let known = known.with(|entry| entry.expires(at(100)));
    // The public part of the known key with the secret of another, and a checksum that fits.
    let forged = {
        let (head, _) = known.reveal().rsplit_once('_').unwrap();
        let (_, tail) = stranger.reveal().rsplit_once('_').unwrap();
        text::with_checksum(&format!("{head}_{}", &tail[..43]))
    };
    let clock = ManualClock::new(at(99));
    let gate = ApiKey::new(table(&[known.entry()])).clock(clock.clock());
    let mut answers = Vec::new();
    for key in [stranger.reveal(), &forged] {
        HASHED.set(0);
        let rejection = refused(&gate, get().header("x-api-key", key));
        assert_eq!(HASHED.get(), 1);
        assert_eq!(rejection.detail_text(), Some("the API key is unknown"));
        answers.push(rejection);
    }
    clock.advance(Duration::from_secs(1));
    HASHED.set(0);
    answers.push(refused(&gate, get().header("x-api-key", known.reveal())));
    assert_eq!((HASHED.get(), answers[2].detail_text()), (1, Some("the API key has expired")));
    // A typing error needs no hash to be told.
    HASHED.set(0);
    answers.push(refused(&gate, get().header("x-api-key", format!("{}x", known.reveal()))));
    assert_eq!((HASHED.get(), answers[3].detail_text()), (0, Some("not an API key")));

    for answer in answers {
        assert_eq!(answer.reason(), Reason::InvalidCredentials);
        let http = answer.clone().into_response(Protocol::Http);
        assert_eq!((http.status().as_u16(), &http.headers()[header::WWW_AUTHENTICATE]), (401, &challenge()));
        assert!(!format!("{:?}", http.body()).contains("unknown"));
        assert_eq!(answer.into_response(Protocol::Grpc).headers()["grpc-status"], "16");
    }
}

fn challenge() -> http::HeaderValue {
    http::HeaderValue::from_static(r#"ApiKey realm="api""#)
}

#[test]
fn no_key_is_401_without_a_word_about_errors() {
    let gate = ApiKey::new(table(&[]));
    let answer = refused(&gate, get());
    assert_eq!(answer.reason(), Reason::MissingCredentials);
    let http = answer.clone().into_response(Protocol::Http);
    assert_eq!((http.status().as_u16(), &http.headers()[header::WWW_AUTHENTICATE]), (401, &challenge()));
    assert_eq!(answer.into_response(Protocol::Grpc).headers()["grpc-status"], "16");
}

#[test]
fn a_key_ends_by_the_wall_clock() {
    let minted = mint("a", "x").unwrap().with(|entry| entry.expires(at(100)));
    let table = table(&[minted.entry()]);
    for (now, valid) in [(0, true), (99, true), (100, false), (101, false)] {
        assert_eq!(table.verify(minted.reveal(), at(now)).is_ok(), valid, "{now}");
    }
}

#[test]
fn keys_are_found_where_they_are_looked_for_and_taken_out() {
    let minted = mint("a", "x").unwrap();
    let key = minted.reveal();
    let gate = ApiKey::new(table(&[minted.entry()])).locations([
        Location::header(HeaderName::from_static("x-api-key")),
        Location::scheme(header::AUTHORIZATION, "ApiKey"),
        Location::query("key"),
    ]);
    let pass = |request: http::request::Builder| {
        let mut request = request.body(()).unwrap();
        gate.check(&mut Head::of(&mut request)).unwrap();
        assert_eq!(request.extensions().get::<Principal>().unwrap().subject(), "x");
        (request.uri().to_string(), request.headers().clone())
    };
    let plain = ("/orders?a=1".to_owned(), HeaderMap::new());
    assert_eq!(pass(get().header("X-Api-Key", key)), plain);
    assert_eq!(pass(get().header("authorization", format!("apikey {key}"))), plain);
    assert_eq!(pass(Request::get(format!("/orders?key={key}&a=1"))), plain);

    for request in [
        get().header("x-api-key", key).header("x-api-key", key),
        get().header("x-api-key", key).header("authorization", format!("ApiKey {key}")),
        Request::get(format!("/orders?key={key}&key={key}")),
        Request::get(format!("/orders?key={key}")).header("x-api-key", "other"),
        get().header("x-api-key", ""),
        get().header("x-api-key", format!("{key}, {key}")),
        get().header("x-api-key", &b"\xff"[..]),
        get().header("x-api-key", "x".repeat(100_000)),
    ] {
        assert_eq!(refused(&gate, request).reason(), Reason::InvalidCredentials);
    }
    let forwarding = ApiKey::new(table(&[minted.entry()])).forward();
    let mut request = get().header("x-api-key", key).body(()).unwrap();
    forwarding.check(&mut Head::of(&mut request)).unwrap();
    assert_eq!(request.headers()["x-api-key"], key);
}

#[test]
fn keys_are_replaced_while_in_use() {
    let (old, new) = (mint("a", "x").unwrap(), mint("a", "y").unwrap());
    let keys = ApiKeys::from(table(&[old.entry()]));
    let gate = ApiKey::new(keys.clone());
    keys.replace(table(&[new.entry()]));
    assert_eq!(refused(&gate, get().header("x-api-key", old.reveal())).reason(), Reason::InvalidCredentials);
    let mut request = get().header("x-api-key", new.reveal()).body(()).unwrap();
    gate.check(&mut Head::of(&mut request)).unwrap();
    assert_eq!(keys.current().unwrap().len(), 1);
}

#[test]
fn a_known_key_allocates_only_its_place_in_the_extensions() {
    let pepper = Pepper::new("2026", &[7; 32]).unwrap();
    let plain = mint("a", "x").unwrap().with(|entry| entry.scopes(["a", "b"]));
    let peppered = mint("a", "y").unwrap().peppered(&pepper);
    let entries = [&plain, &peppered].map(|minted| minted.entry().clone());
    let table = KeyTable::peppered("partners", pepper.into(), entries).unwrap();
    for minted in [&plain, &peppered] {
        let verified = || allocation_counter::measure(|| drop(table.verify(minted.reveal(), at(1)).unwrap()));
        assert_eq!(verified().count_total, 0);
    }
    let gate = ApiKey::new(table);
    let check = |key: &str| {
        let mut request = get().header("x-api-key", key).body(()).unwrap();
        request.extensions_mut().insert(());
        allocation_counter::measure(|| gate.check(&mut Head::of(&mut request)).unwrap()).count_total
    };
    for minted in [&plain, &peppered] {
        check(minted.reveal());
        assert_eq!(check(minted.reveal()), 1);
    }
}

proptest! {
    #[test]
    fn nothing_made_up_is_a_key(text in "\\PC{0,120}", like in "[a-z_]{0,9}_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}") {
        let table = KeyTable::new("p", []).unwrap();
        prop_assert!(table.verify(&text, at(0)).is_err());
        prop_assert!(table.verify(&like, at(0)).is_err());
    }

    #[test]
    fn no_change_of_a_key_is_a_key(position in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        let minted = mint("shop", "acme").unwrap();
        let mut changed = minted.reveal().as_bytes().to_vec();
        changed[position.index(minted.reveal().len())] = byte;
        let changed = String::from_utf8(changed).unwrap();
        let found = table(&[minted.entry()]).verify(&changed, at(0));
        prop_assert_eq!(found.is_ok(), changed == minted.reveal());
        // Most of them are told by the checksum alone.
        if changed != minted.reveal() {
            prop_assert_eq!(found.unwrap_err(), InvalidKey::Malformed);
        }
    }
}
