//! Chains that were believed: who connects again shows the same one, of which the same roots say the same.
use std::{
    fmt,
    ops::Range,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Crypto, trust::Usage};
use crate::{
    cache::{Cache, Domain, Item},
    identity::PeerIdentity,
    time::after,
};

const MOST: usize = 1024;
const MOST_BYTES: usize = 4 << 20;
/// What a peer's names take, beside its chain.
const NAMES: usize = 1024;

/// What was found out under the roots and revocation lists that it belongs to. A copy, which is to have others, has nothing.
pub(super) struct Remembered {
    found: Cache<Found, [u8; 32]>,
    domain: Domain,
}

struct Found {
    peer: PeerIdentity,
    /// While all that it was found from is valid.
    valid: Range<SystemTime>,
}

impl Remembered {
    /// Whose chain this is, if it was believed for the same use and all of it is valid at the moment.
    pub(super) fn find(&self, chain: &[u8; 32], now: SystemTime) -> Option<PeerIdentity> {
        let valid = |found: &Found| found.valid.contains(&now).then(|| found.peer.clone());
        self.found.read(self.domain, chain, Instant::now(), valid).flatten()
    }

    pub(super) fn keep(
        &self,
        chain: [u8; 32],
        peer: PeerIdentity,
        valid: Range<SystemTime>,
        now: SystemTime,
    ) {
        let at = Instant::now();
        let left = valid.end.duration_since(now).unwrap_or(Duration::ZERO);
        let weight = NAMES + peer.chain().map(<[u8]>::len).sum::<usize>();
        let value = Found { peer, valid };
        let item = Item { domain: self.domain, key: chain, value, weight, expires: after(at, left) };
        self.found.insert(item, at);
    }
}

/// What tells a chain and its use from all others.
pub(super) fn print(chain: &[CertificateDer<'_>], usage: Usage, crypto: Crypto) -> [u8; 32] {
    let mut print = Sha256::new_with_prefix([usage as u8, crypto as u8]);
    for certificate in chain {
        print.update(certificate.len().to_be_bytes());
        print.update(certificate);
    }
    print.finalize().into()
}

impl Default for Remembered {
    fn default() -> Self {
        Self { found: Cache::new(MOST, MOST_BYTES), domain: Domain::unique() }
    }
}

impl Clone for Remembered {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams,
        ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
        SerialNumber, date_time_ymd,
    };
    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::tls::Trust;

    const YEAR: u64 = 31_556_952;

    /// In the middle of a year.
    fn year(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * YEAR + YEAR / 2))
    }

    /// A leaf for clients, valid from 2020 to 2040, an issuer that is so from 2025 to 2035, and its root.
    struct Shop {
        root: String,
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
        Shop { root, issuer, chain: vec![leaf.der().clone(), between.der().clone()] }
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
        assert!(
            cost(&Trust::roots(root.as_bytes()).unwrap(), &mut later) > 5,
            "other roots know nothing of it"
        );
        assert!(first.is_some() && first == again && again == later);
    }

    #[test]
    fn what_is_remembered_is_over_when_any_part_of_the_chain_is() {
        let Shop { root, chain, .. } = shop();
        let trust = Trust::roots(root.as_bytes()).unwrap();
        seen(&trust, &chain, year(2030), Usage::Client).unwrap();
        for (at, why) in [(2036, "Expired"), (2041, "Expired"), (2022, "NotValidYet"), (2019, "NotValidYet")]
        {
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

    #[test]
    fn it_is_over_when_a_revocation_list_is() {
        let Shop { root, issuer, chain } = shop();
        let list = |number: u64, until: i32| {
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2026, 1, 1),
                next_update: date_time_ymd(until, 1, 1),
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&issuer).unwrap().pem().unwrap()
        };
        let of_leaf =
            Trust::roots(root.as_bytes()).unwrap().revocation_lists(list(1, 2031).as_bytes()).unwrap();
        // The root's own list is missing.
        let refused = seen(&of_leaf, &chain, year(2030), Usage::Client).unwrap_err();
        assert!(refused.contains("UnknownRevocationStatus"), "{refused}");
        // The issuer is a root here, and its list is all there is to ask.
        let pem = rcgen_pem(&chain[1]);
        let trust = Trust::roots(pem.as_bytes()).unwrap();
        let trust = trust.revocation_lists((list(1, 2029) + &list(2, 2031)).as_bytes()).unwrap();
        for at in [2028, 2028, 2030] {
            seen(&trust, &chain[..1], year(at), Usage::Client).unwrap();
        }
        let refused = seen(&trust, &chain[..1], year(2031), Usage::Client).unwrap_err();
        assert!(refused.contains("ExpiredRevocationList"), "{refused}");
    }

    fn rcgen_pem(certificate: &CertificateDer<'_>) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }
}
