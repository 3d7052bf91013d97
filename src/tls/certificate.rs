//! What a certificate says, once somebody has found it to be true.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::{
    certificate::{Validity, X509Certificate},
    extensions::GeneralName,
    prelude::FromDer,
    public_key::PublicKey,
    time::ASN1Time,
    x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name},
};

use crate::identity::{PeerIdentity, SpiffeId, is_dns_name};

/// More names than any certificate needs.
const MOST_NAMES: usize = 256;

/// What the first of these certificates says; whether it is true is for others to find out.
///
/// # Errors
///
/// It cannot be read, or it claims to be an X.509-SVID and is none.
pub(crate) fn read(chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, &'static str> {
    read_if(chain, |_| Ok(()))
}

/// The same, of one whose key is to be relied on.
///
/// # Errors
///
/// The same, and of a key that is too weak. Handshakes with one would fail by its signature, without a word that says why.
pub(super) fn read_strong(chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, &'static str> {
    read_if(chain, |certificate| match is_strong(certificate.public_key()) {
        true => Ok(()),
        false => Err("its key is too weak, or of an unknown kind"),
    })
}

fn read_if(
    chain: &[CertificateDer<'_>],
    is_good: impl FnOnce(&X509Certificate<'_>) -> Result<(), &'static str>,
) -> Result<PeerIdentity, &'static str> {
    let leaf = chain.first().ok_or("there is no certificate")?;
    let (rest, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| "the certificate cannot be read")?;
    if !rest.is_empty() {
        return Err("something follows the certificate");
    }
    is_good(&certificate)?;
    let names = Names::of(&certificate)?;
    let mut peer = PeerIdentity::new(Sha256::digest(leaf).into())
        .with_subject(subject(certificate.subject()))
        .with_serial(serial(certificate.raw_serial()))
        .with_validity(validity(certificate.validity())?)
        .with_chain(chain.iter().map(|certificate| certificate.as_ref()));
    if let Some(id) = spiffe_id(&certificate, &names.uris)? {
        peer = peer.with_spiffe_id(id.as_str());
    }
    Ok(peer.with_dns_names(names.dns).with_uris(names.uris).with_emails(names.emails).with_ips(names.ips))
}

/// Certificates in DER, one after the other; `None`, and nothing more, where something else follows.
#[cfg(feature = "spiffe")]
pub(super) fn split(mut der: &[u8]) -> impl Iterator<Item = Option<CertificateDer<'_>>> {
    std::iter::from_fn(move || {
        if der.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut der);
        Some(X509Certificate::from_der(all).ok().map(|(rest, _)| {
            der = rest;
            all[..all.len() - rest.len()].into()
        }))
    })
}

#[derive(Default)]
struct Names<'a> {
    dns: Vec<&'a str>,
    uris: Vec<&'a str>,
    emails: Vec<&'a str>,
    ips: Vec<IpAddr>,
}

impl<'a> Names<'a> {
    fn of(certificate: &'a X509Certificate<'_>) -> Result<Self, &'static str> {
        let mut names = Self::default();
        let said =
            certificate.subject_alternative_name().map_err(|_| "its alternative names cannot be read")?;
        let said = said.map_or(&[][..], |said| &said.value.general_names);
        if said.len() > MOST_NAMES {
            return Err("it has too many names");
        }
        for name in said {
            match *name {
                GeneralName::DNSName(name) if is_dns_name(name) => names.dns.push(name),
                GeneralName::DNSName(_) => return Err("one of its DNS names is none"),
                GeneralName::URI(uri) => names.uris.push(uri),
                GeneralName::RFC822Name(email) => names.emails.push(email),
                GeneralName::IPAddress(bytes) => names.ips.push(ip(bytes)?),
                GeneralName::Invalid(..) => return Err("one of its names cannot be read"),
                // No policy asks for these.
                _ => {}
            }
        }
        Ok(names)
    }
}

/// When a revocation list is over.
pub(super) fn list_is_over(list: &[u8]) -> Option<SystemTime> {
    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(list).ok()?;
    time(list.next_update()?).ok()
}

/// RSA of 2048 bits at least, a curve of NIST's of 256 at least, or Ed25519: what rustls verifies signatures of.
fn is_strong(key: &SubjectPublicKeyInfo<'_>) -> bool {
    const LEAST_OF_RSA: usize = 2048;

    match &*key.algorithm.algorithm.to_id_string() {
        "1.2.840.113549.1.1.1" => match key.parsed() {
            Ok(PublicKey::RSA(key)) => {
                let mut bytes = key.modulus.iter().skip_while(|byte| **byte == 0);
                let used = bytes.next().map_or(0, |first| 8 - first.leading_zeros() as usize);
                used + 8 * bytes.count() >= LEAST_OF_RSA
            }
            _ => false,
        },
        "1.2.840.10045.2.1" => {
            let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            let curve = curve.map(|curve| curve.to_id_string());
            matches!(curve.as_deref(), Some("1.2.840.10045.3.1.7" | "1.3.132.0.34" | "1.3.132.0.35"))
        }
        "1.3.101.112" => true,
        _ => false,
    }
}

fn ip(bytes: &[u8]) -> Result<IpAddr, &'static str> {
    let v4 = |_| <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    let v6 = <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into());
    v6.or_else(v4).map_err(|_| "one of its IP addresses cannot be read")
}

/// The ID of an [X.509-SVID](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md), by its sections 2 to 4.
fn spiffe_id(certificate: &X509Certificate<'_>, uris: &[&str]) -> Result<Option<SpiffeId>, &'static str> {
    let Some(id) = SpiffeId::among(uris)? else { return Ok(None) };
    let usage = certificate.key_usage().map_err(|_| "its key usage cannot be read")?;
    let Some(usage) = usage.map(|usage| usage.value) else {
        return Err("a workload's key has a stated usage");
    };
    if certificate.is_ca() || usage.key_cert_sign() || usage.crl_sign() {
        return Err("a workload signs no certificates");
    }
    if !usage.digital_signature() {
        return Err("a workload's key is for signatures");
    }
    Ok(Some(id))
}

fn validity(validity: &Validity) -> Result<RangeInclusive<SystemTime>, &'static str> {
    Ok(time(validity.not_before)?..=time(validity.not_after)?)
}

/// When all of these are valid; `None` if one cannot be read, or they never are.
pub(super) fn valid(chain: &[CertificateDer<'_>]) -> Option<RangeInclusive<SystemTime>> {
    let mut all: Option<RangeInclusive<SystemTime>> = None;
    for certificate in chain {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let one = validity(certificate.validity()).ok()?;
        all = Some(match all {
            None => one,
            Some(all) => *all.start().max(one.start())..=*all.end().min(one.end()),
        });
    }
    all.filter(|all| !all.is_empty())
}

fn time(time: ASN1Time) -> Result<SystemTime, &'static str> {
    let seconds = u64::try_from(time.timestamp()).ok();
    let time = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    time.ok_or("its validity cannot be read")
}

/// Without the zero by which DER tells a positive number.
fn serial(bytes: &[u8]) -> String {
    let bytes = if let [0, rest @ ..] = bytes
        && !rest.is_empty()
    {
        rest
    } else {
        bytes
    };
    hex(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
    text
}

/// As RFC 4514 writes it: the last part first.
fn subject(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    match (short, attribute.as_str()) {
        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
        _ => format!("{}=#{}", short.unwrap_or(&oid), hex(attribute.attr_value().data)),
    }
}

/// RFC 4514 section 3.
const SHORT: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// RFC 4514 section 2.4; control characters too, so that a log keeps its lines.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, sign) in text.chars().enumerate() {
        match sign {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', sign]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            _ if sign.is_control() => {
                let mut bytes = [0; 4];
                sign.encode_utf8(&mut bytes).bytes().for_each(|byte| _ = write!(escaped, "\\{byte:02x}"));
            }
            _ => escaped.push(sign),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
        date_time_ymd,
    };

    use super::*;

    fn read_made(change: impl FnOnce(&mut CertificateParams)) -> Result<PeerIdentity, &'static str> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        read(&[made.der().clone()])
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn all_is_told_that_it_says() {
        let peer = read_made(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("orders.shop.svc".try_into().unwrap()),
                uri("https://shop.example/orders"),
                SanType::Rfc822Name("ops@shop.example".try_into().unwrap()),
                SanType::IpAddress("192.0.2.7".parse().unwrap()),
                SanType::IpAddress("::ffff:192.0.2.8".parse().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
            ];
            for (of, text) in [
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Shop, \"Inc\""),
                (DnType::CommonName, " #orders\n"),
            ] {
                params.distinguished_name.push(of, text);
            }
            params.serial_number = Some(SerialNumber::from(vec![0xff, 0x01]));
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(2027, 1, 1);
        })
        .unwrap();
        assert_eq!(peer.spiffe_id(), None);
        assert_eq!(peer.dns_names().collect::<Vec<_>>(), ["orders.shop.svc"]);
        assert_eq!(peer.uris().collect::<Vec<_>>(), ["https://shop.example/orders"]);
        assert_eq!(peer.emails().collect::<Vec<_>>(), ["ops@shop.example"]);
        let ips: Vec<_> = peer.ips().map(|ip| ip.to_string()).collect();
        assert_eq!(ips, ["192.0.2.7", "192.0.2.8", "2001:db8::1"]);
        assert_eq!(peer.subject(), r#"CN=\ #orders\0a,O=Shop\, \"Inc\",C=DE"#);
        assert_eq!(peer.serial(), "ff01");
        let year = Duration::from_secs(365 * 86_400);
        let (from, to) = peer.validity().unwrap().clone().into_inner();
        assert_eq!(to.duration_since(from).unwrap(), year);
        assert_eq!(peer.chain().count(), 1);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(peer.chain().next().unwrap())), *peer.sha256());
    }

    #[test]
    fn a_workload_has_one_name() {
        let svid = |uris: &[&str], usages: &[KeyUsagePurpose], is_ca: bool| {
            read_made(|params| {
                params.subject_alt_names = uris.iter().copied().map(uri).collect();
                params.key_usages = usages.to_vec();
                params.is_ca =
                    if is_ca { IsCa::Ca(rcgen::BasicConstraints::Unconstrained) } else { IsCa::NoCa };
            })
            .map(|peer| peer.spiffe_id().map(str::to_owned))
        };
        let (id, signs) = ("spiffe://shop.example/orders", [KeyUsagePurpose::DigitalSignature]);
        assert_eq!(svid(&[id], &signs, false), Ok(Some(id.to_owned())));
        assert_eq!(svid(&["https://shop.example"], &[], false), Ok(None));
        for (uris, usages, is_ca, why) in [
            (
                &[id, "spiffe://shop.example/carts"][..],
                &signs[..],
                false,
                "a workload's certificate has one URI",
            ),
            (&["https://shop.example", id], &signs, false, "a workload's certificate has one URI"),
            (&["spiffe://shop.example/a/../b"], &signs, false, "its SPIFFE ID is malformed"),
            (&["SPIFFE://shop.example/a"], &signs, false, "its SPIFFE ID is malformed"),
            (&["spiffe:shop.example"], &signs, false, "its SPIFFE ID is malformed"),
            (&[id], &[], false, "a workload's key has a stated usage"),
            (&[id], &[KeyUsagePurpose::KeyEncipherment], false, "a workload's key is for signatures"),
            (&[id], &[signs[0], KeyUsagePurpose::KeyCertSign], false, "a workload signs no certificates"),
            (&[id], &[signs[0], KeyUsagePurpose::CrlSign], false, "a workload signs no certificates"),
            (&[id], &signs, true, "a workload signs no certificates"),
        ] {
            assert_eq!(svid(uris, usages, is_ca), Err(why), "{uris:?}");
        }
    }

    #[cfg(feature = "spiffe")]
    #[test]
    fn certificates_stand_one_after_the_other() {
        let made = ["a.example", "b.example"]
            .map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.der().to_vec());
        let parts = |der: &[u8]| split(der).map(|one| one.map(|one| one.to_vec())).collect::<Vec<_>>();
        assert!(parts(b"").is_empty());
        assert_eq!(parts(&made.concat()), made.clone().map(Some));
        let junk = [&made[0], &b"junk"[..], &made[1]].concat();
        assert_eq!(parts(&junk), [Some(made[0].clone()), None]);
        let cut = &made.concat()[..made[0].len() + 10];
        assert_eq!(parts(cut), [Some(made[0].clone()), None]);
    }

    #[test]
    fn weak_and_unknown_keys_are_not_relied_on() {
        // Made by `openssl req -x509`: openssl shows no such certificates itself, and rcgen makes none.
        let made = [
            (
                "prime192v1",
                "MIIBNjCB7aADAgECAhRP7TigcLhW3HsBPjZCE7GjvsazNTAKBggqhkjOPQQDAjAAMCAXDTI2MTEyMjA1Mzk1MVoYDz\
             IxMjYxMDI5MDUzOTUxWjAAMEkwEwYHKoZIzj0CAQYIKoZIzj0DAQEDMgAEOQFwRJzRfUBiMplSFidLX9uLxIi95yfP\
             Huc4YyjbcbMKdxRZfZFBWq2sFLN1qgB7o1MwUTAdBgNVHQ4EFgQUB5nr9yHWlaHpur0NfaS5R5Ugq98wHwYDVR0jBB\
             gwFoAUB5nr9yHWlaHpur0NfaS5R5Ugq98wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgM4ADA1AhkAsuKs02d0\
             HNM7vSqePGHfPjIaqyGp2OBkAhhRHlDMvq5l5iwMbf9NJM9N4emq/Y/sHHk=",
                false,
            ),
            (
                "secp256k1",
                "MIIBUzCB+qADAgECAhRE/SXjcLDtPBiIvyoeBBxSeVgSiDAKBggqhkjOPQQDAjAAMCAXDTI2MTEyMjA1Mzk1MVoYDz\
             IxMjYxMDI5MDUzOTUxWjAAMFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEDi7lWHEgZlQNyc0oCkgIKxYVgCiCrwwO55Js\
             N+W2fUx4WbreQ2pX+Mfx80frnHszb785R1krij+JuYaAXpFc9aNTMFEwHQYDVR0OBBYEFBMwaEVfDJzx7h9k7rAPft\
             XtFjjTMB8GA1UdIwQYMBaAFBMwaEVfDJzx7h9k7rAPftXtFjjTMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID\
             SAAwRQIhAL/tVHPNbkgEUZJ6t68SgBHynerI/Cwcyy7/Vod6ycQZAiAOc/z0oNsjEifcnvriemVvxAqpeHRqxDpo1K\
             67DBohSA==",
                false,
            ),
            (
                "secp384r1",
                "MIIBkzCCARqgAwIBAgIUEVVG2sIoc/QBcFjOuH5skR1J0xwwCgYIKoZIzj0EAwIwADAgFw0yNjExMjIwNTM5NTFaGA\
             8yMTI2MTAyOTA1Mzk1MVowADB2MBAGByqGSM49AgEGBSuBBAAiA2IABIPGnnKlN9uEa0vnk2g4H8+w9dwHFqP1cs3b\
             2ANTt2D4LTCuQeHcTkD1jvwxjoLr2O24weAWBeKjdIWMQwBkr6VzMG7VzF2I87bGZdktoJ2SKU+Yvi7BVvz00UUZPQ\
             nrvaNTMFEwHQYDVR0OBBYEFKz3LimGQhkvcdZhZox/3EuMKbhSMB8GA1UdIwQYMBaAFKz3LimGQhkvcdZhZox/3EuM\
             KbhSMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDZwAwZAIwWVW+KDso/pr9PZ4nwS66r9NbQbE65SyQp6J1TC\
             GTz0fNfn1FEZ7YSrBWZQnZ2wLXAjALSsVOKv75t+uaizcC/EEasyWSZ9+UAaxiKKfETVJlLD+W5pcIZFEek+htNuyJ\
             Vlw=",
                true,
            ),
            (
                "ed25519",
                "MIIBFjCByaADAgECAhQ18t6Z5BQFtxHwVOhiFgQbosf8pTAFBgMrZXAwADAgFw0yNjExMjIwNTM5NTFaGA8yMTI2MT\
             AyOTA1Mzk1MVowADAqMAUGAytlcAMhAGLLwqFrYoTTHYqLmra8SuvbYCPLbSPbyAGLew5HpXBYo1MwUTAdBgNVHQ4E\
             FgQUorKIcVpMHoxCTNdPXApczswLyIcwHwYDVR0jBBgwFoAUorKIcVpMHoxCTNdPXApczswLyIcwDwYDVR0TAQH/BA\
             UwAwEB/zAFBgMrZXADQQDFsRiA80MdWtNhgMhZvC0GlwZvjNGQG+LnCosrGrcWsfSnT+XnPRR6juDFhaIWyDAPFpec\
             JE0WmY8rdAFjW38P",
                true,
            ),
        ];
        for (what, base64, is_strong) in made {
            let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
            let chain = [CertificateDer::from(der)];
            read(&chain).unwrap();
            let weak = Err("its key is too weak, or of an unknown kind");
            assert_eq!(read_strong(&chain).map(|_| ()), if is_strong { Ok(()) } else { weak }, "{what}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert_eq!(read(&[]), Err("there is no certificate"));
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let whole = made.cert.der().to_vec();
        let mut more = whole.clone();
        more.push(0);
        assert_eq!(read(&[more.into()]), Err("something follows the certificate"));
        for length in 0..whole.len() {
            assert!(read(&[whole[..length].to_vec().into()]).is_err(), "{length}");
        }
        let many = read_made(|params| {
            params.subject_alt_names = (0..=MOST_NAMES)
                .map(|n| SanType::DnsName(format!("n{n}.example").try_into().unwrap()))
                .collect();
        });
        assert_eq!(many, Err("it has too many names"));
    }
}
