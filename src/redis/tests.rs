use std::time::Duration;

use proptest::prelude::*;

use super::{address::Address, *};

fn address(text: &str) -> Result<Address, InvalidAddress> {
    text.parse()
}

#[test]
fn an_address_says_where_as_whom_and_which_database() {
    let of = |tls, host: &str, port, user: Option<&str>, database| {
        Ok(Address { tls, host: host.into(), port, user: user.map(Into::into), database })
    };
    for (text, expected) in [
        ("redis://127.0.0.1", of(false, "127.0.0.1", 6379, None, 0)),
        ("redis://127.0.0.1/", of(false, "127.0.0.1", 6379, None, 0)),
        ("redis://[::1]:7000/15", of(false, "::1", 7000, None, 15)),
        ("rediss://gateway@redis.internal:6380/2", of(true, "redis.internal", 6380, Some("gateway"), 2)),
        ("redis://gateway:hush@redis.internal", Err(InvalidAddress::Password)),
        ("redis://:hush@redis.internal", Err(InvalidAddress::Password)),
        ("redis://@redis.internal", Err(InvalidAddress::Form)),
        ("redis://redis.internal:0", Err(InvalidAddress::Form)),
        ("redis://redis.internal:", of(false, "redis.internal", 6379, None, 0)),
        ("redis://redis.internal/one", Err(InvalidAddress::Form)),
        ("redis://redis.internal/65536", Err(InvalidAddress::Form)),
        ("redis://redis.internal/1/2", Err(InvalidAddress::Form)),
        ("redis://redis.internal?db=1", Err(InvalidAddress::Form)),
        ("redis://a%40b@redis.internal", Err(InvalidAddress::Form)),
        ("http://redis.internal", Err(InvalidAddress::Form)),
        ("redis.internal:6379", Err(InvalidAddress::Form)),
        ("redis://", Err(InvalidAddress::Form)),
        ("", Err(InvalidAddress::Form)),
    ] {
        assert_eq!(address(text), expected, "{text}");
    }
}

#[test]
fn what_is_refused_is_told_by_its_code_alone() {
    let theirs = |code: &str| redis::make_extension_error(code.into(), Some("of TELLTALE".into()));
    for (code, outage, connection) in [
        ("ERR", true, false),
        ("NOPERM", true, false),
        ("NOAUTH", true, true),
        ("NOSCRIPT", false, false),
        ("WRONGTYPE", false, false),
        ("OOM", true, false),
        ("READONLY", true, true),
    ] {
        let error = RedisError::of(&theirs(code));
        assert_eq!(error.to_string(), format!("Redis refused: {code}"));
        assert_eq!((error.is_outage(), error.is_of_connection()), (outage, connection), "{code}");
    }
}

#[test]
fn what_a_script_fails_of_is_told_by_old_servers_too() {
    let told = |text: &str| {
        RedisError::of(&redis::make_extension_error("ERR".into(), Some(text.to_owned()))).to_string()
    };
    for (text, code) in [
        (
            "Error running script (call to f_a81f): @user_script:1: @user_script: 1: -OOM command not allowed when \
             used memory > 'maxmemory'.",
            "OOM",
        ),
        (
            "Error running script (call to f_a81f): @user_script:1: @user_script: 1: -READONLY You can't",
            "READONLY",
        ),
        ("Error running script (call to f_a81f): @user_script:1: user_script:1: attempt to index", "ERR"),
        ("value is not an integer: -OOM", "ERR"),
        ("@user_script: - ", "ERR"),
    ] {
        assert_eq!(told(text), format!("Redis refused: {code}"), "{text}");
    }
}

#[test]
fn keys_of_a_set_are_in_one_slot() {
    let redis = Redis::builder("redis://127.0.0.1").unwrap().namespace("shop").build();
    assert_eq!(redis.key("keys.partners", "version"), "shop:{keys.partners}:version");
}

/// Nobody listens there: each is told at once, and after a few nobody tries for a while.
#[tokio::test]
async fn a_server_that_is_not_there_costs_nothing_once_it_is_known() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let redis = Redis::builder(&format!("redis://{nobody}")).unwrap().build();
    for _ in 0..5 {
        assert!(matches!(redis.ping().await, Err(RedisError::Connect(_))));
    }
    assert!(matches!(redis.ping().await, Err(RedisError::Open(_))));
    assert!(redis.clone().ping().await.is_err(), "clones share the breaker");
}

/// A server that takes connections and says nothing adds its deadline, and no more.
#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_the_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let redis = Redis::builder(&format!("redis://{address}/1")).unwrap().build();
    let began = tokio::time::Instant::now();
    let late = redis.ping().await.unwrap_err();
    assert!(matches!(late, RedisError::Late(time) if time == Duration::from_millis(50)), "{late:?}");
    assert_eq!(began.elapsed(), Duration::from_millis(50));
}

proptest! {
    #[test]
    fn no_address_panics_or_shows_what_it_says(text in "(rediss?://)?[a-zTELTA@:/\\[\\]0-9%?.-]{0,40}") {
        if let Err(error) = address(&text) {
            prop_assert!(!error.to_string().contains("TELLTALE"));
        }
    }
}
