use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::{
    CertificateHeader, XfccDetails,
    header::{CLIENT_CERT, CLIENT_CERT_CHAIN, XFCC},
};
use crate::{identity::PeerIdentity, tls};

const ID: &str = "spiffe://shop.example/ns/shop/sa/orders";
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn read(header: CertificateHeader, lines: &[(HeaderName, &str)]) -> Result<Option<PeerIdentity>, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let why = |why: super::InvalidCertificateHeader| why.to_string().split_once(": ").unwrap().1.to_owned();
    header.read(&headers).map_err(why)
}

fn xfcc(value: &str) -> Result<PeerIdentity, String> {
    read(CertificateHeader::Xfcc, &[(XFCC, value)]).map(Option::unwrap)
}

/// A workload's certificate.
fn made(id: &str) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["orders.shop.svc".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Shöp, \"Inc\"");
    params.distinguished_name.push(DnType::CommonName, "orders");
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

/// The examples of Envoy's documents.
#[test]
fn envoys_elements_are_read() {
    let hash = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688";
    let one = format!(
        "By=http://frontend.lyft.com;Hash={hash};Subject=\"/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client\";URI=http://testclient.lyft.com"
    );
    let peer = xfcc(&one).unwrap();
    assert_eq!(peer.subject(), "/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client");
    assert_eq!(peer.uris().collect::<Vec<_>>(), ["http://testclient.lyft.com"]);
    assert_eq!((peer.spiffe_id(), peer.sha256()[..2].to_vec()), (None, vec![0x46, 0x8e]));

    let two = format!("{one},By=http://backend.lyft.com;Hash={ZEROS};URI=http://frontend.lyft.com");
    assert_eq!(xfcc(&two).unwrap().uris().collect::<Vec<_>>(), ["http://frontend.lyft.com"]);
    let names = format!(
        "By=spiffe://d/a;By=http://a;hash={};SUBJECT=\"\";uri={ID};DNS=a.example;dns=www.example",
        hash.to_uppercase()
    );
    let peer = xfcc(&names).unwrap();
    assert_eq!(peer.spiffe_id(), Some(ID));
    assert_eq!(peer.dns_names().collect::<Vec<_>>(), ["a.example", "www.example"]);
    assert_eq!(*peer.sha256(), *xfcc(&one).unwrap().sha256());
}

#[test]
fn the_last_element_of_the_last_line_counts_whatever_stands_before() {
    let own = format!("Hash={ZEROS};Subject=\"a, b; c=d \\\"e\\\"\";URI={ID}");
    for before in ["", "Hash=00", "URI=\"", "Subject=\"a\\", "a,b\";", "\"", "=;=,\u{e4}", "\\\"\\"] {
        for value in [vec![format!("{before},{own}")], vec![before.to_owned(), own.clone()]] {
            let lines: Vec<_> = value.iter().map(|line| (XFCC, line.as_str())).collect();
            let peer = read(CertificateHeader::Xfcc, &lines).unwrap().unwrap();
            assert_eq!((peer.spiffe_id(), peer.subject()), (Some(ID), "a, b; c=d \\\"e\\\""), "{before}");
        }
    }
}

#[test]
fn what_is_quoted_is_taken_whole() {
    for (value, uri) in [
        ("http://a/?b=c", "http://a/?b=c"),
        (" http://a ", "http://a"),
        ("\"http://a,b;c=d\"", "http://a,b;c=d"),
        (r#""a\"b\\c\d""#, r#"a"b\cd"#),
        ("\"\"", ""),
        ("", ""),
    ] {
        let peer = xfcc(&format!("Hash={ZEROS}; URI = {value} ;;DNS=a")).unwrap();
        assert_eq!(peer.uris().collect::<String>(), uri, "{value}");
        assert_eq!(peer.dns_names().count(), 1);
    }
}

#[test]
fn what_is_malformed_or_contradicts_itself_is_no_identity() {
    let (cert, other) = (encoded(&[made(ID)]), encoded(&[made(ID)]));
    let hash = format!("Hash={ZEROS}");
    for (value, why) in [
        ("nonsense", "expected pairs, `Key=value`"),
        (&*format!("{hash};URI=\"a"), "expected pairs, `Key=value`"),
        (&*format!("{hash};URI=\"a\"b"), "expected pairs, `Key=value`"),
        (&*format!("{hash};URI=a\"b\""), "expected pairs, `Key=value`"),
        ("URI=spiffe://d/a", "it has none of `Hash`, `Cert` and `Chain`"),
        ("Hash=;URI=spiffe://d/a", "it has none of `Hash`, `Cert` and `Chain`"),
        ("Hash=00", "`Hash` is no SHA-256"),
        (&*format!("Hash={}é", &ZEROS[2..]), "`Hash` is no SHA-256"),
        (&*format!("{hash};{hash}"), "it says something twice"),
        (&*format!("{hash};Subject=\"a\";subject=\"b\""), "it says something twice"),
        (&*format!("{hash};URI={ID};URI=spiffe://d/b"), "a workload's certificate has one URI"),
        (&*format!("{hash};URI=http://a;URI={ID}"), "a workload's certificate has one URI"),
        (&*format!("{hash};URI=spiffe://d/../b"), "its SPIFFE ID is malformed"),
        (&*format!("{hash};URI=SPIFFE://d/b"), "its SPIFFE ID is malformed"),
        (&*format!("{hash};DNS={ID}"), "one of its DNS names is none"),
        (&*format!("{hash};DNS={ID};URI=https://x"), "one of its DNS names is none"),
        (&*format!("{hash};DNS=a.example;DNS=\"b c\""), "one of its DNS names is none"),
        (&*format!("{hash};DNS=a@b.example"), "one of its DNS names is none"),
        (&*format!("{hash};DNS={}", "a".repeat(254)), "one of its DNS names is none"),
        (&*format!("{hash};Cert=\"{cert}\""), "`Hash` is of another certificate"),
        (&*format!("Cert=\"{cert}\";Chain=\"{other}\""), "`Chain` is of another certificate"),
        (&*format!("Cert=\"{cert}{other}\""), "`Cert` is more than one certificate"),
        ("Cert=\"AAAA\"", "expected a certificate in PEM"),
        (&*format!("Cert=\"{}\"", encoded(&[vec![0; 9].into()])), "the certificate cannot be read"),
        (&*format!("Chain=\"{}\"", cert.repeat(17)), "there are too many certificates"),
        (&*format!("{hash};{}", "a=b;".repeat(512)), "it has too many pairs"),
        (&*format!("{hash};a={}", "b".repeat(64 * 1024)), "it is too long"),
    ] {
        assert_eq!(xfcc(value).map(|peer| format!("{peer:?}")), Err(why.to_owned()), "{value:.99}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(XFCC, HeaderValue::from_bytes(b"Hash=\xff").unwrap());
    assert!(CertificateHeader::Xfcc.read(&headers).is_err());
    for silent in [&[][..], &[(XFCC, "")], &[(XFCC, " "), (XFCC, "")]] {
        assert_eq!(read(CertificateHeader::Xfcc, silent), Ok(None));
    }
}

fn encoded(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    chain.iter().for_each(|der| super::pem::encode(&mut text, der));
    text
}

#[test]
fn a_certificate_in_it_is_read_as_one_that_was_shown() {
    let chain = [made(ID), made("https://authority.example")];
    let shown = tls::read_certificates(&chain).unwrap();
    let hash: String = Sha256::digest(&chain[0]).iter().map(|byte| format!("{byte:02x}")).collect();
    // As Envoy writes it, and as others encode it.
    let pem = |of: &str| {
        let lines = STANDARD.encode(&chain[0]);
        let lines: Vec<_> =
            lines.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        of.chars().fold(pem, |pem, sign| pem.replace(sign, &format!("%{:02X}", u32::from(sign))))
    };
    assert_eq!(pem("\n +/="), encoded(&chain[..1]));
    for own in [pem("\n +/="), pem("\n :-+=,;\"")] {
        let alone = xfcc(&format!("Hash={hash};Cert=\"{own}\";URI={ID}")).unwrap();
        assert_eq!((alone.spiffe_id(), alone.chain().count()), (Some(ID), 1));
        assert_eq!(alone.subject(), r#"CN=orders,O=Shöp\, \"Inc\""#);
        let whole = xfcc(&format!("Hash={hash};Cert=\"{own}\";Chain=\"{}\"", encoded(&chain))).unwrap();
        assert_eq!(whole, shown);
    }
}

#[test]
fn what_is_written_is_read_the_same() {
    let chain = [made(ID), made("https://authority.example")];
    let shown = tls::read_certificates(&chain).unwrap();
    let details = XfccDetails::new().subject(true).uri(true).dns(true);
    let told = |details: XfccDetails| {
        let element = details.element(&shown, Some(&shown));
        xfcc(element.to_str().unwrap()).unwrap()
    };
    assert_eq!(told(details.cert(true).chain(true)), shown);
    assert_eq!(told(details.chain(true)), shown);
    assert_eq!(told(details.cert(true)).chain().count(), 1);
    let told = told(details);
    assert_eq!(
        (told.spiffe_id(), told.subject(), told.sha256()),
        (shown.spiffe_id(), shown.subject(), shown.sha256())
    );
    assert!(told.uris().eq(shown.uris()) && told.dns_names().eq(shown.dns_names()));
    // Envoy writes an empty `URI`.
    let nobody = PeerIdentity::new([0; 32]);
    assert_eq!(details.cert(true).element(&nobody, None), format!("Hash={ZEROS};Subject=\"\";URI="));
}

#[test]
fn byte_sequences_are_read_by_the_standard() {
    let chain = [made(ID), made("https://a.example"), made("https://b.example")];
    let shown = tls::read_certificates(&chain).unwrap();
    let [leaf, one, other] = chain.each_ref().map(|der| format!(":{}:", STANDARD.encode(der)));
    let read = |lines: &[(HeaderName, &str)]| read(CertificateHeader::ClientCert, lines);
    let both = format!("{one} ,\t{other}");
    for lines in [
        &[(CLIENT_CERT, &*leaf), (CLIENT_CERT_CHAIN, &*both)][..],
        &[(CLIENT_CERT_CHAIN, &*one), (CLIENT_CERT, &*leaf), (CLIENT_CERT_CHAIN, &*other)],
    ] {
        assert_eq!(read(lines), Ok(Some(shown.clone())));
    }
    let unpadded = leaf.replace('=', "");
    assert_eq!(read(&[(CLIENT_CERT, &unpadded)]).unwrap().unwrap().spiffe_id(), Some(ID));
    assert_eq!(read(&[]), Ok(None));

    let (expected, long) = ("expected a byte sequence, `:..:`", format!(":{}:", "A".repeat(64 * 1024)));
    let many = vec![one.as_str(); 16].join(",");
    for (lines, why) in [
        (&[(CLIENT_CERT, "")][..], expected),
        (&[(CLIENT_CERT, ":")], expected),
        (&[(CLIENT_CERT, leaf.trim_matches(':'))], expected),
        (&[(CLIENT_CERT, &leaf.replace('A', "*"))], expected),
        (&[(CLIENT_CERT, &format!("{leaf}, {one}"))], expected),
        (&[(CLIENT_CERT, &format!("{leaf};a=b"))], expected),
        (&[(CLIENT_CERT, "::")], "the certificate cannot be read"),
        (&[(CLIENT_CERT, &leaf), (CLIENT_CERT, &leaf)], "there is more than one `Client-Cert`"),
        (&[(CLIENT_CERT, &leaf), (CLIENT_CERT_CHAIN, &format!("{one},"))], expected),
        (&[(CLIENT_CERT_CHAIN, &one)], "there is a `Client-Cert-Chain` without a `Client-Cert`"),
        (&[(CLIENT_CERT, &leaf), (CLIENT_CERT_CHAIN, &many)], "there are too many certificates"),
        (&[(CLIENT_CERT, &long)], "it is too long"),
    ] {
        assert_eq!(read(lines).map(drop), Err(why.to_owned()));
    }
}

/// Who is believed, by whom, and what is left in the request.
#[cfg(feature = "transport")]
#[test]
fn only_trusted_proxies_speak_for_others() {
    use http::Request;

    use super::header::OfConnection;
    use crate::{
        head::Head,
        identity::{PeerAddr, TrustedProxies},
    };

    let client_cert = format!(":{}:", STANDARD.encode(made(ID)));
    let xfcc = format!("Hash={ZEROS};URI=spiffe://d/xfcc");
    let own = PeerIdentity::new([7; 32]).with_spiffe_id("spiffe://d/own");
    let ask = |peer: &str,
               header: CertificateHeader,
               lines: &[(&str, &str)],
               shown: Option<&PeerIdentity>| {
        let mut request = Request::new(());
        for (name, value) in lines {
            request.headers_mut().append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        shown.map(|own| request.extensions_mut().insert(own.clone()));
        let trusted = "10.0.0.0/8".parse::<TrustedProxies>().unwrap().client_certificate(header);
        let peer = PeerAddr::new(peer.parse::<SocketAddr>().unwrap());
        trusted.hear_of_certificate(peer, &mut Head::of(&mut request)).ok()?;
        let told =
            request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::spiffe_id).map(str::to_owned);
        let connected = request.extensions().get::<OfConnection>().map(|OfConnection(own)| own.is_some());
        let mut left: Vec<_> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        left.sort();
        Some((told.unwrap_or_default(), connected, left.join(" ")))
    };
    let all = [
        ("X-Forwarded-Client-Cert", xfcc.as_str()),
        ("x_forwarded-client_cert", "Hash=1"),
        ("client-cert", &client_cert),
        ("client_cert", &client_cert),
        ("client-cert_chain", &client_cert),
    ];
    use CertificateHeader::{ClientCert, None as Nothing, Xfcc};
    let told =
        |id: &str, connected: Option<bool>, left: &str| Some((id.to_owned(), connected, left.to_owned()));
    for (peer, header, shown, expected) in [
        ("192.0.2.7:1", Xfcc, None, told("", None, "")),
        ("192.0.2.7:1", ClientCert, Some(&own), told("spiffe://d/own", None, "")),
        ("10.0.0.1:1", Nothing, Some(&own), told("spiffe://d/own", None, "x-forwarded-client-cert")),
        ("10.0.0.1:1", Xfcc, None, told("spiffe://d/xfcc", Some(false), "x-forwarded-client-cert")),
        ("10.0.0.1:1", Xfcc, Some(&own), told("spiffe://d/xfcc", Some(true), "x-forwarded-client-cert")),
        ("10.0.0.1:1", ClientCert, Some(&own), told(ID, Some(true), "client-cert")),
    ] {
        assert_eq!(ask(peer, header, &all, shown), expected, "{peer} {header:?}");
    }
    // Whose proxy says nothing is not taken for the proxy, and what cannot be read is nobody.
    assert_eq!(ask("10.0.0.1:1", Xfcc, &[], Some(&own)), told("", Some(true), ""));
    assert_eq!(ask("10.0.0.1:1", ClientCert, &all[..2], Some(&own)), told("", Some(true), ""));
    assert_eq!(ask("10.0.0.1:1", Xfcc, &[("x-forwarded-client-cert", "By=a")], None), None);
    assert_eq!(
        ask("10.0.0.1:1", Nothing, &[("x-forwarded-client-cert", "By=a")], None).map(|_| ()),
        Some(())
    );
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z:/.]{1,20}", "[ -~]{1,20}".prop_map(|text| format!("u{text}"))]
}

proptest! {
    #[test]
    fn names_are_read_as_they_were_written(
        uris in prop::collection::vec(name(), 0..4),
        dns in prop::collection::vec("[a-zA-Z0-9_.*-]{1,20}", 0..4),
        subject in r#"([ -\[\]-~&&[^"]]|\\[",+;<> #=\\]|ä|\\0A){0,12}"#,
        before in "[ -~]{0,20}",
        hash: [u8; 32],
    ) {
        let peer = PeerIdentity::new(hash).with_subject(subject).with_uris(uris).with_dns_names(dns);
        let element = XfccDetails::new().subject(true).uri(true).dns(true).element(&peer, Some(&peer));
        let told = xfcc(&format!("{before},{}", element.to_str().unwrap())).unwrap();
        prop_assert_eq!(told, peer);
    }

    #[test]
    fn whatever_is_said_an_element_can_be_read(subject in "\\PC{0,12}", uri in "\\PC{0,12}") {
        let peer = PeerIdentity::new([7; 32]).with_subject(subject).with_uris([format!("u{uri}")]);
        let element = XfccDetails::new().subject(true).uri(true).element(&peer, Some(&peer));
        let told = xfcc(element.to_str().unwrap()).unwrap();
        prop_assert_eq!(told.uris().count(), 1);
    }

    #[test]
    fn nothing_that_is_said_is_read_beyond_its_end(text in "(Hash=|URI=|Cert=|[,;\"\\\\=a0 ]){0,40}") {
        let _ = xfcc_of(&text);
        let _ = read(CertificateHeader::ClientCert, &[(CLIENT_CERT, &text)]);
    }
}

fn xfcc_of(text: &str) -> Result<Option<PeerIdentity>, String> {
    read(CertificateHeader::Xfcc, &[(XFCC, text)])
}
