//! What is believed of chains of certificates: remembered, revoked, and over.
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose as Purpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::{Crypto, Trust, trust::Usage};
use crate::identity::PeerIdentity;

const YEAR: u64 = 31_556_952;

/// In the middle of a year.
fn year(year: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * YEAR + YEAR / 2))
}

/// A leaf for clients, valid from 2020 to 2040, an issuer that is so from 2025 to 2035, and its root.
struct Shop {
    root: String,
    of_root: Issuer<'static, KeyPair>,
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
}

fn authority(name: &str, from: i32, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    params
}

fn shop() -> Shop {
    let key = || KeyPair::generate().unwrap();
    let (params, own) = (authority("root", 2000, 2100), key());
    let root = params.self_signed(&own).unwrap().pem();
    let of_root = Issuer::new(params, own);
    let (params, own) = (authority("issuer", 2025, 2035), key());
    let between = params.signed_by(&own, &of_root).unwrap();
    let issuer = Issuer::new(params, own);
    let mut leaf = CertificateParams::new(["orders.shop".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![Purpose::ClientAuth];
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    let leaf = leaf.signed_by(&key(), &issuer).unwrap();
    Shop { root, of_root, issuer, chain: vec![leaf.der().clone(), between.der().clone()] }
}

fn seen(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<PeerIdentity, String> {
    trust.verify(chain, now, usage, Crypto::AwsLc).map_err(|error| format!("{error:?}"))
}

#[test]
fn a_chain_that_comes_again_is_not_verified_anew() {
    let Shop { root, chain, .. } = shop();
    let trust = Trust::roots(root.as_bytes()).unwrap();
    let cost = |trust: &Trust, peer: &mut Option<PeerIdentity>| {
        let look = || *peer = Some(seen(trust, &chain, year(2030), Usage::Client).unwrap());
        allocation_counter::measure(look).count_total
    };
    let (mut first, mut again, mut later) = (None, None, None);
    assert!(cost(&trust, &mut first) > 5);
    assert_eq!(cost(&trust, &mut again), 0);
    assert!(cost(&Trust::roots(root.as_bytes()).unwrap(), &mut later) > 5, "other roots know nothing of it");
    assert!(first.is_some() && first == again && again == later);
}

#[test]
fn what_is_remembered_is_over_when_any_part_of_the_chain_is() {
    let Shop { root, chain, .. } = shop();
    let trust = Trust::roots(root.as_bytes()).unwrap();
    seen(&trust, &chain, year(2030), Usage::Client).unwrap();
    for (at, why) in [(2036, "Expired"), (2041, "Expired"), (2022, "NotValidYet"), (2019, "NotValidYet")] {
        let refused = seen(&trust, &chain, year(at), Usage::Client).unwrap_err();
        assert!(refused.contains(why), "{at}: {refused}");
    }
    seen(&trust, &chain, year(2034), Usage::Client).unwrap();
}

#[test]
fn it_is_remembered_for_this_use_and_these_bytes() {
    let (Shop { root, chain, .. }, other) = (shop(), shop());
    let trust = Trust::roots(root.as_bytes()).unwrap();
    seen(&trust, &chain, year(2030), Usage::Client).unwrap();
    let refused = seen(&trust, &chain, year(2030), Usage::Server).unwrap_err();
    assert!(refused.contains("InvalidPurpose"), "{refused}");
    let leaf = chain[0].clone();
    for (others, why) in [
        (vec![], "UnknownIssuer"),
        (vec![other.chain[1].clone()], "BadSignature"),
        (vec![leaf.clone()], "UnknownIssuer"),
    ] {
        let chain = [vec![leaf.clone()], others].concat();
        let refused = seen(&trust, &chain, year(2030), Usage::Client).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let mut forged = chain.clone();
    let mut bytes = forged[0].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    forged[0] = bytes.into();
    seen(&trust, &forged, year(2030), Usage::Client).unwrap_err();
}

/// A list of those whom `issuer` has taken back, until the beginning of a year.
fn list(issuer: &Issuer<'static, KeyPair>, number: u64, until: i32, revoked_certs: &[&[u8]]) -> String {
    let revoked = |serial: &&[u8]| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

/// Believes the root and looks at these lists.
fn with(shop: &Shop, lists: &[String]) -> Trust {
    Trust::roots(shop.root.as_bytes()).unwrap().revocation_lists(lists.concat().as_bytes()).unwrap()
}

#[test]
fn each_issuer_has_a_list_that_counts() {
    let shop = shop();
    let look = |lists: &[String]| seen(&with(&shop, lists), &shop.chain, year(2030), Usage::Client);
    let (issuer, root) =
        (|until| list(&shop.issuer, 1, until, &[]), |until| list(&shop.of_root, 1, until, &[]));
    look(&[issuer(2031), root(2031)]).unwrap();
    // In any order, beside those that are over, and beside those of a former key.
    look(&[issuer(2029), issuer(2031), root(2031), root(2029)]).unwrap();
    let former = self::shop();
    look(&[
        list(&former.issuer, 1, 2031, &[]),
        issuer(2031),
        root(2031),
        list(&former.of_root, 1, 2031, &[]),
    ])
    .unwrap();
    for (lists, why) in [
        (vec![issuer(2031)], "UnknownRevocationStatus"),
        (vec![root(2031)], "UnknownRevocationStatus"),
        (vec![issuer(2029), root(2031)], "ExpiredRevocationList"),
        (vec![issuer(2031), root(2029), root(2028)], "ExpiredRevocationList"),
        (vec![list(&former.issuer, 1, 2031, &[]), root(2031)], "signed by somebody else"),
    ] {
        let refused = look(&lists).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

/// Whatever else there is: lists that do not name it, lists of others that are of no use, and certificates that lead nowhere.
#[test]
fn who_is_on_a_list_stays_out() {
    let shop = shop();
    let (leaf, between) = (serial(&shop.chain[0]), serial(&shop.chain[1]));
    let [old, new] =
        [(1, vec![]), (2, vec![&*leaf])].map(|(number, on)| list(&shop.issuer, number, 2031, &on));
    let [good, over] = [2031, 2029].map(|until| list(&shop.of_root, 1, until, &[]));
    let junk = {
        let mut params = authority("issuer", 2000, 2001);
        params.key_usages.clear();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    };
    let with_junk = [shop.chain.clone(), vec![junk]].concat();
    for lists in [
        vec![new.clone(), good.clone()],
        vec![old.clone(), new.clone(), good.clone()],
        vec![new.clone(), old.clone(), over.clone(), good.clone()],
        vec![new, old.clone(), good.clone(), over],
        vec![old, list(&shop.of_root, 2, 2031, &[&between]), good],
    ] {
        for chain in [&shop.chain, &with_junk] {
            seen(&with(&shop, &lists), chain, year(2030), Usage::Client).unwrap_err();
        }
    }
}

#[test]
fn what_is_remembered_is_over_when_a_revocation_list_is() {
    let shop = shop();
    let leaf = serial(&shop.chain[0]);
    let root = list(&shop.of_root, 1, 2035, &[]);
    let trust =
        with(&shop, &[list(&shop.issuer, 1, 2029, &[]), list(&shop.issuer, 2, 2031, &[]), root.clone()]);
    for at in [2028, 2028, 2030] {
        seen(&trust, &shop.chain, year(at), Usage::Client).unwrap();
    }
    let refused = seen(&trust, &shop.chain, year(2031), Usage::Client).unwrap_err();
    assert!(refused.contains("ExpiredRevocationList"), "{refused}");
    // Nor does it count before a list that names it was over, should the clock go back.
    let trust = with(&shop, &[list(&shop.issuer, 1, 2029, &[&leaf]), list(&shop.issuer, 2, 2031, &[]), root]);
    seen(&trust, &shop.chain, year(2030), Usage::Client).unwrap();
    seen(&trust, &shop.chain, year(2028), Usage::Client).unwrap_err();
}

#[test]
fn who_is_believed_is_forgotten_when_more_is_said() {
    let shop = shop();
    let trust = Trust::roots(shop.root.as_bytes()).unwrap();
    seen(&trust, &shop.chain, year(2030), Usage::Client).unwrap();
    let lists = [list(&shop.issuer, 1, 2031, &[&serial(&shop.chain[0])]), list(&shop.of_root, 1, 2031, &[])];
    let trust = trust.revocation_lists(lists.concat().as_bytes()).unwrap();
    seen(&trust, &shop.chain, year(2030), Usage::Client).unwrap_err();
}

fn serial(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).unwrap();
    read.raw_serial().to_vec()
}
