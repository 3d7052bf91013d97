use std::time::{Duration, SystemTime};

use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

const PROXIES: &str = "10.0.0.0/8, 2001:db8:ffff::/48";
const PEER: &str = "10.0.0.5:41000";

fn trusted() -> TrustedProxies {
    PROXIES.parse().unwrap()
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn peer(text: &str) -> PeerAddr {
    PeerAddr::new(text.parse().unwrap())
}

fn resolve(lines: &[(&'static str, &str)]) -> String {
    ClientAddr::resolve(peer(PEER), &headers(lines), &trusted()).to_string()
}

fn x(value: &str) -> String {
    resolve(&[("x-forwarded-for", value)])
}

fn forwarded(value: &str) -> String {
    resolve(&[("forwarded", value)])
}

#[test]
fn a_stranger_is_not_listened_to() {
    let stranger = peer("192.0.2.7:5000");
    let lies = headers(&[
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank.example"),
        ("forwarded", "for=1.1.1.1;proto=https;host=bank.example"),
    ]);
    for trusted in [trusted(), TrustedProxies::none()] {
        let told = ForwardedInfo::resolve(stranger, &lies, &trusted);
        assert_eq!(told.client().to_string(), "192.0.2.7:5000");
        assert_eq!((told.scheme(), told.host()), (None, None));
    }
}

#[test]
fn without_headers_the_trusted_peer_is_the_client() {
    assert_eq!(resolve(&[]), PEER);
    assert_eq!(x(""), PEER);
    assert_eq!(x(" , ,\t,"), PEER);
    assert_eq!(forwarded(""), PEER);
}

#[test]
fn what_stands_left_of_the_client_is_not_believed() {
    assert_eq!(x("1.1.1.1, 192.0.2.7"), "192.0.2.7");
    assert_eq!(x("10.0.0.9, 192.0.2.7"), "192.0.2.7");
    assert_eq!(forwarded("for=1.1.1.1, for=192.0.2.7"), "192.0.2.7");
}

#[test]
fn trusted_proxies_are_walked_through() {
    assert_eq!(x("1.1.1.1, 192.0.2.7, 10.2.2.2, 10.1.1.1"), "192.0.2.7");
    assert_eq!(x("10.2.2.2,10.1.1.1"), "10.2.2.2");
    assert_eq!(forwarded("for=1.1.1.1, for=192.0.2.7;by=10.2.2.2, for=10.2.2.2"), "192.0.2.7");
    assert_eq!(forwarded(r#"for=192.0.2.7, for="[2001:db8:ffff::1]:80""#), "192.0.2.7");
}

#[test]
fn several_lines_are_one_list() {
    let lines = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "192.0.2.7, 10.2.2.2"),
        ("x-forwarded-for", "10.1.1.1"),
    ];
    assert_eq!(resolve(&lines), "192.0.2.7");
    let lines =
        [("forwarded", "for=1.1.1.1, for=192.0.2.7"), ("forwarded", ""), ("forwarded", "for=10.1.1.1")];
    assert_eq!(resolve(&lines), "192.0.2.7");
}

#[test]
fn an_address_has_many_forms() {
    for (written, read) in [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:80", "192.0.2.7:80"),
        ("192.0.2.7:65535", "192.0.2.7:65535"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:c000:207]:80", "192.0.2.7:80"),
        ("192.0.2.7:_hidden", "192.0.2.7"),
    ] {
        assert_eq!(x(written), read);
        assert_eq!(forwarded(&format!("for=\"{written}\"")), read);
        assert_eq!(forwarded(&format!("for={written}")), read, "not by the grammar, but meant so");
    }
}

#[test]
fn a_mapped_proxy_is_that_proxy() {
    let told = headers(&[("x-forwarded-for", "192.0.2.7, ::ffff:10.1.1.1")]);
    let client = ClientAddr::resolve(peer("[::ffff:10.0.0.5]:41000"), &told, &trusted());
    assert_eq!(client.to_string(), "192.0.2.7");
    assert_eq!(peer("[::ffff:10.0.0.5]:41000"), peer(PEER));
    assert_eq!(ClientAddr::new("::ffff:10.0.0.5".parse().unwrap(), None).to_string(), "10.0.0.5");
}

#[test]
fn junk_ends_the_walk_at_the_last_trusted_proxy() {
    for junk in [
        "unknown",
        "_gazonk",
        "localhost",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.4.",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:+80",
        "1.2.3.4:080000",
        "1.2.3.4 5.6.7.8",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]80",
        "[1.2.3.4]",
        "[]",
        "fe80::1%eth0",
        "[fe80::1%1]:80",
        "'1.2.3.4'",
        "\u{ff11}.2.3.4",
        "\u{80}",
    ] {
        assert_eq!(x(&format!("1.1.1.1, {junk}")), PEER, "{junk}");
        assert_eq!(x(&format!("1.1.1.1, {junk}, 10.1.1.1")), "10.1.1.1", "{junk}");
        assert_eq!(forwarded(&format!("for=1.1.1.1, for=\"{junk}\", for=10.1.1.1")), "10.1.1.1", "{junk}");
    }
    let binary = HeaderMap::from_iter([(
        http::header::FORWARDED,
        HeaderValue::from_bytes(b"for=1.1.1.1, for=\"\xff\", for=10.1.1.1").unwrap(),
    )]);
    assert_eq!(ClientAddr::resolve(peer(PEER), &binary, &trusted()).to_string(), "10.1.1.1");
}

#[test]
fn a_malformed_element_names_nobody() {
    for junk in [
        "for",
        "for=",
        "=1.1.1.1",
        "for=1.1.1.1;for=1.1.1.1",
        "for=1.1.1.1;For=2.2.2.2",
        "for=1.1.1.1;proto=http;proto=https",
        "for=\"1.1.1.1",
        "for=1.1.1.1\"",
        "for=\"1.1.1.1\"x",
        "for=1.1.1.1 proto=http",
        "for = 1.1.1.1",
        "for=\"1.1.\\1.1\"",
        "proto=https",
        "by=1.1.1.1",
    ] {
        assert_eq!(forwarded(junk), PEER, "{junk}");
        assert_eq!(forwarded(&format!("{junk}, for=10.1.1.1")), "10.1.1.1", "{junk}");
        assert_eq!(forwarded(&format!("{junk}, for=192.0.2.7")), "192.0.2.7", "{junk}");
    }
    for fine in [
        "FOR=192.0.2.7",
        ";;for=192.0.2.7;",
        "for=192.0.2.7 ; proto=http",
        "secret=\"a,b;c\\\"\";for=192.0.2.7",
    ] {
        assert_eq!(forwarded(fine), "192.0.2.7", "{fine}");
    }
}

#[test]
fn an_open_quote_swallows_nothing_that_a_proxy_appended() {
    for opened in ["for=\"", "for=\"1.1.1.1", "host=\"a\\", "x=\"\\\"", "\"", "\"\\\\\\"] {
        assert_eq!(forwarded(&format!("{opened}, for=192.0.2.7")), "192.0.2.7", "{opened}");
        assert_eq!(forwarded(&format!("{opened}, for=192.0.2.7, for=10.1.1.1")), "192.0.2.7", "{opened}");
    }
}

#[test]
fn ten_thousand_hops_are_not_walked() {
    let endless = "10.1.1.1, ".repeat(10_000);
    assert_eq!(x(&format!("1.1.1.1, {endless}")), "10.1.1.1");
    assert_eq!(x(&format!("{endless} 192.0.2.7")), "192.0.2.7");

    let in_reach = |hops| format!("192.0.2.7, {}", vec!["10.1.1.1"; hops].join(","));
    assert_eq!(x(&in_reach(MAX_HOPS - 1)), "192.0.2.7");
    assert_eq!(x(&in_reach(MAX_HOPS)), "10.1.1.1");

    let lines = vec![("x-forwarded-for", "10.1.1.1"); 10_000];
    assert_eq!(resolve(&lines), "10.1.1.1");
    let empty = [&[("forwarded", "for=1.1.1.1")][..], &vec![("forwarded", ","); 10_000]].concat();
    assert_eq!(resolve(&empty), PEER);
}

#[test]
fn no_more_bytes_are_looked_at_than_may_be() {
    assert_eq!(x(&"1".repeat(MAX_BYTES * 2)), PEER);
    assert_eq!(x(&format!("1.1.1.1,{}", " ".repeat(MAX_BYTES))), PEER);
    assert_eq!(x(&format!("{},192.0.2.7", "1".repeat(MAX_BYTES * 2))), "192.0.2.7");
    assert_eq!(forwarded(&format!("for=1.1.1.1;x=\"{}\"", ",".repeat(MAX_BYTES))), PEER);
    assert_eq!(forwarded(&format!("for=1.1.1.1, {}", "\"\\".repeat(MAX_BYTES))), PEER);
}

#[test]
fn both_headers_are_believed_as_far_as_they_agree() {
    let both = |x, forwarded| resolve(&[("x-forwarded-for", x), ("forwarded", forwarded)]);
    assert_eq!(both("192.0.2.7", "for=192.0.2.7"), "192.0.2.7");
    assert_eq!(both("192.0.2.7, 10.1.1.1", "for=192.0.2.7, for=\"10.1.1.1:80\""), "192.0.2.7");
    // Whichever of them the stranger wrote, the address in it is not taken.
    assert_eq!(both("192.0.2.7", "for=1.1.1.1"), PEER);
    assert_eq!(both("192.0.2.7, 10.1.1.1", "for=1.1.1.1, for=10.1.1.1"), "10.1.1.1");
    assert_eq!(both("192.0.2.7, 10.1.1.1", "for=10.1.1.1"), "10.1.1.1");
    assert_eq!(both("unknown", "for=_x"), PEER);
}

#[test]
fn the_header_that_proxies_do_not_write_can_be_shut_out() {
    let told = headers(&[
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=1.1.1.1;proto=https"),
    ]);
    let with = |header| ForwardedInfo::resolve(peer(PEER), &told, &trusted().header(header));
    let x = with(ForwardingHeader::XForwarded);
    assert_eq!((x.client().to_string().as_str(), x.scheme()), ("192.0.2.7", Some(&Scheme::HTTP)));
    let forwarded = with(ForwardingHeader::Forwarded);
    assert_eq!(
        (forwarded.client().to_string().as_str(), forwarded.scheme()),
        ("1.1.1.1", Some(&Scheme::HTTPS))
    );
    let either = with(ForwardingHeader::Either);
    assert_eq!((either.client().to_string().as_str(), either.scheme()), (PEER, None));
}

fn told(lines: &[(&'static str, &str)]) -> (Option<String>, Option<String>) {
    let told = ForwardedInfo::resolve(peer(PEER), &headers(lines), &trusted());
    (told.scheme().map(ToString::to_string), told.host().map(ToString::to_string))
}

#[test]
fn scheme_and_host_are_those_of_the_clients_element() {
    let (scheme, host) = told(&[(
        "forwarded",
        "for=1.1.1.1;proto=http;host=lie, for=192.0.2.7;Proto=HTTPS;Host=\"shop.example:8443\", for=10.1.1.1;proto=http",
    )]);
    assert_eq!((scheme.as_deref(), host.as_deref()), (Some("https"), Some("shop.example:8443")));
    // A proxy that hides its client still tells what it was asked.
    let (scheme, _) = told(&[("forwarded", "for=_hidden;proto=https")]);
    assert_eq!(scheme.as_deref(), Some("https"));
}

#[test]
fn x_scheme_and_host_are_the_rightmost() {
    let (scheme, host) = told(&[
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "lie.example, shop.example"),
    ]);
    assert_eq!((scheme.as_deref(), host.as_deref()), (Some("http"), Some("shop.example")));
    let (scheme, _) = told(&[("x-forwarded-proto", "https")]);
    assert_eq!(scheme.as_deref(), Some("https"));
}

#[test]
fn scheme_and_host_must_be_such_and_agree() {
    for bad in ["ftp", "https://", "javascript", "ht tp", "\"https\""] {
        assert_eq!(told(&[("x-forwarded-proto", bad)]).0, None, "{bad}");
    }
    for bad in ["a b", "user@host", "/", ":80", "h\u{f6}st", "shop.example/path"] {
        assert_eq!(told(&[("x-forwarded-host", bad)]).1, None, "{bad}");
    }
    let both = |proto, element| {
        told(&[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", proto), ("forwarded", element)]).0
    };
    assert_eq!(both("https", "for=192.0.2.7;proto=https").as_deref(), Some("https"));
    assert_eq!(both("http", "for=192.0.2.7;proto=https"), None);
    assert_eq!(both("https", "for=192.0.2.7"), None);
    assert_eq!(both("https", "for=1.1.1.1;proto=https"), None);
}

#[test]
fn identities_tell_what_was_put_in() {
    let peer = PeerIdentity::new([0xab; 32])
        .with_spiffe_id("spiffe://shop.example/orders")
        .with_dns_names(["orders.svc"])
        .with_uris(["spiffe://shop.example/orders"])
        .with_emails(["ops@shop.example"])
        .with_ips(["::ffff:10.0.0.1".parse().unwrap()])
        .with_subject("CN=orders")
        .with_serial("01")
        .with_validity(SystemTime::UNIX_EPOCH..=SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    assert_eq!(peer.ips().next().unwrap().to_string(), "10.0.0.1");
    assert_eq!((peer.subject(), peer.serial()), ("CN=orders", "01"));
    assert!(peer.validity().unwrap().contains(&SystemTime::UNIX_EPOCH));
    assert!(!peer.validity().unwrap().contains(&(SystemTime::UNIX_EPOCH + Duration::from_secs(2))));
    assert_eq!(peer, peer.clone());
    assert_ne!(peer, PeerIdentity::new([0xab; 32]));
    let shown = format!("{peer:?}");
    assert!(shown.contains(&"ab".repeat(32)) && shown.contains("spiffe://shop.example/orders"), "{shown}");
}

fn address() -> impl Strategy<Value = ClientAddr> {
    let ip =
        prop_oneof![any::<std::net::IpAddr>(), any::<[u8; 3]>().prop_map(|[a, b, c]| [10, a, b, c].into())];
    (ip, any::<Option<u16>>()).prop_map(|(ip, port)| ClientAddr::new(ip, port))
}

fn piece() -> impl Strategy<Value = String> {
    let text = |piece: &str| Just(piece.to_owned());
    prop_oneof![
        address().prop_map(|address| address.to_string()),
        address().prop_map(|address| format!("for=\"{address}\"")),
        text("\""),
        text("\\"),
        text(","),
        text(";"),
        text("for=unknown"),
        text(" "),
        ".{0,3}",
    ]
}

fn written(address: ClientAddr) -> String {
    if address.ip().is_ipv6() && address.port().is_none() {
        return format!("[{address}]");
    }
    address.to_string()
}

proptest! {
    #[test]
    fn walks_as_the_rule_says(hops in prop::collection::vec(address(), 0..MAX_HOPS)) {
        // The first from the right that is not trusted, else the leftmost, else the peer.
        let trusted = trusted();
        let expected = hops.iter().rev().find(|hop| !trusted.contains(hop.ip())).or(hops.first());
        let expected = expected.map_or(PEER.to_owned(), ToString::to_string);
        let list = |one: fn(&ClientAddr) -> String| hops.iter().map(one).collect::<Vec<_>>().join(", ");
        prop_assert_eq!(x(&list(ToString::to_string)), expected.clone());
        prop_assert_eq!(forwarded(&list(|hop| format!("for=\"{}\"", written(*hop)))), expected);
    }

    #[test]
    fn whatever_a_stranger_writes_the_proxy_has_the_last_word(
        lie in prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat()),
        client in address(),
        comma in prop_oneof![Just(","), Just(", ")],
    ) {
        prop_assume!(!trusted().contains(client.ip()));
        let Ok(x_list) = HeaderValue::try_from(format!("{lie}{comma}{client}")) else { return Ok(()) };
        let told = HeaderMap::from_iter([(forwarded::X_FORWARDED_FOR, x_list)]);
        prop_assert_eq!(ClientAddr::resolve(peer(PEER), &told, &trusted()), client);
        let list = HeaderValue::try_from(format!("{lie}{comma}for=\"{}\"", written(client))).unwrap();
        let told = HeaderMap::from_iter([(forwarded::FORWARDED, list)]);
        prop_assert_eq!(ClientAddr::resolve(peer(PEER), &told, &trusted()), client);
    }
}
