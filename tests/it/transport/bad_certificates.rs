//! Certificates that must not be believed, shown by openssl: of clients to our server, and of servers to our client. Beside each
//! table stands a good one, made the same way.

use portcullis::tls::{ClientTls, ServerId, ServerTls, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber, date_time_ymd,
};

use super::{
    tls::{ask, serve},
    until,
};
use crate::support::{
    certificates::{Authority, credentials, uri},
    log::Log,
    openssl::{self, Files},
};

const ORDERS: &str = "spiffe://shop.example/orders";
const CARTS: &str = "spiffe://shop.example/carts";
const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
/// Of an X.509-SVID.
const SVID: &str = "subjectAltName=URI:spiffe://shop.example/carts,DNS:localhost\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n";

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn named(params: &mut CertificateParams, names: &[SanType]) {
    params.subject_alt_names = names.to_vec();
}

/// A certificate for `carts` by `authority`, but for this.
fn carts(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Files {
    Files::of(&authority.sign(|params| {
        named(params, &[uri(CARTS), dns("localhost")]);
        change(params);
    }))
}

/// A certificate for `carts` that nobody else has signed.
fn alone() -> Files {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    named(&mut params, &[uri(CARTS), dns("localhost")]);
    let key = KeyPair::generate().unwrap();
    Files::of(&(params.self_signed(&key).unwrap().pem(), key.serialize_pem()))
}

/// What is wrong in the same way with a client's and a server's, and what a log says of it. `but` is a usage that is not theirs.
async fn bad(
    authority: &Authority,
    but: ExtendedKeyUsagePurpose,
) -> Vec<(&'static str, Files, &'static str)> {
    let made = async |key: &[&str], arguments: &[&str]| Files::made(authority, key, SVID, arguments).await;
    vec![
        ("another root", carts(&Authority::new("another"), |_| {}), "UnknownIssuer"),
        ("another root of this name", carts(&Authority::new("shop"), |_| {}), "BadSignature"),
        ("self-signed", alone(), "UnknownIssuer"),
        (
            "expired",
            carts(authority, |params| {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
            }),
            "Expired",
        ),
        (
            "not yet valid",
            carts(authority, |params| {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
            }),
            "NotValidYet",
        ),
        ("revoked", carts(authority, |params| params.serial_number = Some(SerialNumber::from(7))), "Revoked"),
        ("for others", carts(authority, |params| params.extended_key_usages = vec![but]), "InvalidPurpose"),
        (
            "two SPIFFE IDs",
            carts(authority, |params| named(params, &[uri(CARTS), uri(ORDERS), dns("localhost")])),
            "a workload's certificate has one URI",
        ),
        (
            "a SPIFFE ID and a URI",
            carts(authority, |params| named(params, &[uri("https://shop.example"), uri(CARTS)])),
            "a workload's certificate has one URI",
        ),
        (
            "a SPIFFE ID with a wildcard",
            carts(authority, |params| named(params, &[uri("spiffe://shop.example/*"), dns("localhost")])),
            "its SPIFFE ID is malformed",
        ),
        (
            "an authority with a SPIFFE ID",
            carts(authority, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "a workload signs no certificates",
        ),
        (
            "an authority",
            carts(authority, |params| {
                named(params, &[dns("localhost")]);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
            }),
            "CaUsedAsEndEntity",
        ),
        ("RSA of 1024 bits", made(&["-newkey", "rsa:1024"], &[]).await, WEAK),
        ("RSA of 2047 bits", made(&["-newkey", "rsa:2047"], &[]).await, WEAK),
        ("signed by SHA-1", made(&P256, &["-sha1"]).await, "UnsupportedSignatureAlgorithm"),
    ]
}

const WEAK: &str = "its key is too weak, or of an unknown kind";

/// Each handshake is refused with a line in the log that says why and, where it can be read, who it was.
#[tokio::test]
async fn bad_clients_are_refused_and_the_log_says_why() {
    let authority = Authority::new("shop");
    let tls = ServerTls::mutual(&credentials(authority.workload(ORDERS), authority.revoking(7, 2100)));
    let come = async |shown: Option<&Files>, version: &str| {
        let (log, _guard) = Log::start();
        let running = serve(tls.clone()).await;
        let told = openssl::client(running.address, shown, &[version]).await;
        if told.contains("HTTP/1.1 200 OK") {
            return Ok(told);
        }
        let failed = || log.ours().into_iter().find(|line| line.contains("the handshake failed"));
        until(|| failed().is_some()).await;
        Err(failed().unwrap())
    };
    let rsa = Files::made(&authority, &["-newkey", "rsa:2048"], SVID, &[]).await;
    for good in [carts(&authority, |_| {}), Files::made(&authority, &P256, SVID, &[]).await, rsa] {
        for version in ["-tls1_2", "-tls1_3"] {
            let told = come(Some(&good), version).await.unwrap();
            assert!(told.contains("spiffe://shop.example/carts, "), "{told}");
        }
    }
    let none = come(None, "-tls1_3").await.unwrap_err();
    assert!(none.contains("peer sent no certificates"), "{none}");
    for (what, shown, why) in bad(&authority, ExtendedKeyUsagePurpose::ServerAuth).await {
        for version in ["-tls1_2", "-tls1_3"] {
            let line = come(Some(&shown), version).await.unwrap_err();
            assert!(line.contains(why), "{what}: {line}");
            let is_named = line.contains(&format!(r#"says \"{CARTS}\""#));
            let has_name = !why.starts_with("a workload") && !why.starts_with("its SPIFFE");
            assert_eq!(is_named, has_name && what != "an authority", "{what}: {line}");
        }
    }
}

/// The client gives the whole story in its error; nothing of the request is sent.
#[tokio::test]
async fn bad_servers_are_refused_and_the_error_says_why() {
    let authority = Authority::new("shop");
    let tls = ClientTls::trusting(authority.revoking(7, 2100));
    let come = async |shown: &Files, server: &ServerId| {
        let server_of = openssl::Server::start(shown, &[]).await;
        ask(server_of.address, &tls.clone().server(server.clone())).await
    };
    let (host, id) = (ServerId::Host, ServerId::Spiffe(CARTS.parse().unwrap()));
    let domain = ServerId::TrustDomain("shop.example".parse().unwrap());
    for server in [&host, &id, &domain] {
        come(&carts(&authority, |_| {}), server).await.unwrap();
        come(&Files::made(&authority, &P256, SVID, &[]).await, server).await.unwrap();
    }
    for (what, shown, why) in bad(&authority, ExtendedKeyUsagePurpose::ClientAuth).await {
        let told = come(&shown, &host).await.unwrap_err();
        assert!(told.contains(why), "{what}: {told}");
    }
    let orders = |names: &[SanType]| carts(&authority, |params| named(params, names));
    for (names, why) in [
        (
            &[uri(ORDERS)][..],
            "the server is spiffe://shop.example/orders, and it should be spiffe://shop.example/carts",
        ),
        (&[uri("spiffe://shop.example/carts/1")], "and it should be spiffe://shop.example/carts"),
        (&[uri("spiffe://shop.example/cart")], "and it should be"),
        (&[uri("spiffe://other.example/carts")], "and it should be"),
        (&[dns("*.shop.example")], "the server is *.shop.example, and it should be"),
        (&[dns("localhost")], "the server is localhost, and it should be"),
    ] {
        let told = come(&orders(names), &id).await.unwrap_err();
        assert!(told.contains(why), "{names:?}: {told}");
    }
    let told = come(&orders(&[uri("spiffe://other.example/carts"), dns("localhost")]), &domain).await;
    assert!(told.unwrap_err().contains("and it should be shop.example"));
}

/// RFC 9525 section 6.3: a `*` is the first label, whole, and stands for one label.
#[tokio::test]
async fn wildcards_are_not_to_be_abused() {
    let authority = Authority::new("shop");
    let tls = ClientTls::trusting(authority.trust());
    let of = |name: &'static str| carts(&authority, move |params| named(params, &[dns(name)]));
    for (presented, asked, is_right) in [
        ("*.shop.example", "www.shop.example", true),
        ("*.shop.example", "WWW.Shop.Example", true),
        ("*.shop.example", "a.www.shop.example", false),
        ("*.shop.example", "shop.example", false),
        ("*.shop.example", "www.shop.example.evil.example", false),
        ("*", "localhost", false),
        ("*", "www.shop.example", false),
        ("*.example", "shop.example", false),
        ("*.com", "shop.com", false),
        ("w*w.shop.example", "www.shop.example", false),
        ("w*.shop.example", "www.shop.example", false),
        ("*w.shop.example", "www.shop.example", false),
        ("www.*.example", "www.shop.example", false),
        ("*.*.example", "www.shop.example", false),
        ("**.shop.example", "www.shop.example", false),
        ("*.0.0.1", "127.0.0.1", false),
        ("127.0.0.1", "127.0.0.1", false),
        ("*", "127.0.0.1", false),
    ] {
        let server = openssl::Server::start(&of(presented), &[]).await;
        let told = ask(server.address, &tls.clone().server(ServerId::Name(asked.into()))).await;
        assert_eq!(told.is_ok(), is_right, "{presented} for {asked}: {told:?}");
        if !is_right {
            let told = told.unwrap_err();
            assert!(told.contains("NotValidForName"), "{presented} for {asked}: {told}");
        }
    }
    let by_ip = carts(&authority, |params| named(params, &[SanType::IpAddress([127, 0, 0, 1].into())]));
    let server = openssl::Server::start(&by_ip, &[]).await;
    ask(server.address, &tls.clone().server(ServerId::Name("127.0.0.1".into()))).await.unwrap();
    ask(server.address, &tls.server(ServerId::Name("127.0.0.2".into()))).await.unwrap_err();
}

/// TLS of before 1.2, and no TLS at all.
#[tokio::test]
async fn servers_of_long_ago_are_not_spoken_to() {
    let authority = Authority::new("shop");
    let tls = ClientTls::trusting(authority.trust());
    for (version, is_spoken) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let server = openssl::Server::start(&carts(&authority, |_| {}), &[version]).await;
        let told = ask(server.address, &tls).await;
        assert_eq!(told.is_ok(), is_spoken, "{version}: {told:?}");
    }
}

/// A root that is weak vouches for nobody.
#[tokio::test]
async fn weak_roots_vouch_for_nobody() {
    let strong = Authority::new("shop");
    for (key, is_believed) in [(["-newkey", "rsa:1024"], false), (["-newkey", "rsa:2048"], true)] {
        let (root, chain) = openssl::root_and_leaf(&key, SVID).await;
        let trust = Trust::roots(root.as_bytes()).unwrap();
        let running = serve(ServerTls::mutual(&credentials(strong.workload(ORDERS), trust))).await;
        let told = openssl::client(running.address, Some(&chain), &[]).await;
        assert_eq!(told.contains("HTTP/1.1 200 OK"), is_believed, "{key:?}: {told}");
    }
}
