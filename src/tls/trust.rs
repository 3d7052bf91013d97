use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, Error,
    pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime, pem::PemObject},
};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, RevocationOptions, anchor_from_trusted_cert};

use super::{
    Crypto, certificate,
    remembered::{self, Remembered},
    revocation::{Lists, Look},
    verifier::refused,
};
use crate::identity::{PeerIdentity, SpiffeId, TrustDomain};

/// The most certificates that are read as roots.
const MAX_ROOTS: usize = 4096;
/// The most revocation lists.
const MAX_LISTS: usize = 256;

/// Whose certificates are believed, of servers and of clients alike. A clone is a pointer.
///
/// Roots of a [trust domain](TrustDomain) vouch for the SPIFFE IDs of that domain and for nothing else. Roots of none vouch
/// for every certificate but the SPIFFE IDs of domains that have roots of their own: no domain can speak for another.
///
/// If there are revocation lists, each certificate of a chain but the root must be on none of them that is not over, and its issuer
/// must have one that is not over and that he has signed: where all have expired nobody is let in. Nor is anybody where a source
/// such as [`Directory`](super::Directory) has lists to read and cannot.
///
/// A chain that was believed is remembered by its bytes, 1,024 of them and 4 MiB at most, for as long as every certificate of it and
/// every revocation list is valid: who connects again proves that the key is his, as everybody does, and the issuers' signatures
/// are not verified anew. Other roots or lists are another `Trust`, which remembers nothing of this one.
///
/// ```
/// use portcullis::tls::Trust;
///
/// # fn roots() -> Result<(), Box<dyn std::error::Error>> {
/// let ours = Trust::roots(&std::fs::read("ca.crt")?)?;
/// let federated = Trust::none()
///     .trust_domain("shop.example".parse()?, &std::fs::read("bundle.pem")?)?
///     .trust_domain("partner.example".parse()?, &std::fs::read("partner.pem")?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Trust {
    anchors: Arc<Anchors>,
    /// Of these anchors, as they are.
    remembered: Arc<Remembered>,
}

/// Roots and revocation lists.
#[derive(Clone, Default)]
pub(super) struct Anchors {
    of_any: Vec<TrustAnchor<'static>>,
    of_domains: BTreeMap<TrustDomain, Vec<TrustAnchor<'static>>>,
    lists: Lists,
    /// Why there are no revocation lists where there should be some: nobody can be believed then.
    unreadable: Option<Arc<str>>,
    /// What all of it was read from, to tell whether another is the same.
    read: Vec<u8>,
}

/// What a peer shows its certificate for.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Usage {
    Client,
    Server,
}

/// Why roots or revocation lists cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// What was given is not certificates in PEM, or too many.
    #[error("expected certificates, 4096 at most")]
    Malformed,
    /// There is no certificate in it.
    #[error("no root certificate was found")]
    NoRoots,
    /// What was given is not revocation lists in PEM, or too many.
    #[error("expected certificate revocation lists, 256 at most, and 8 of one issuer")]
    RevocationList,
}

impl Trust {
    /// Believes nobody yet.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Believes these roots in PEM.
    ///
    /// # Errors
    ///
    /// There is none among them, or one that cannot be read.
    pub fn roots(pem: &[u8]) -> Result<Self, TrustError> {
        let mut trust = Self::none();
        trust.of(in_pem(pem), |anchors| &mut anchors.of_any)?;
        Ok(trust)
    }

    /// Believes the roots that this machine trusts, as they are now: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else
    /// of the operating system. It reads files.
    ///
    /// # Errors
    ///
    /// There is none that can be read.
    pub fn platform() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        if !found.errors.is_empty() {
            tracing::debug!(errors = ?found.errors, "roots of the platform were left out");
        }
        let mut anchors = Anchors::default();
        for certificate in found.certs {
            if let Ok(anchor) = anchor_from_trusted_cert(&certificate) {
                anchors.read.extend_from_slice(&certificate);
                anchors.of_any.push(anchor.to_owned());
            }
        }
        if anchors.of_any.is_empty() {
            Err(TrustError::NoRoots)
        } else {
            Ok(Self { anchors: Arc::new(anchors), ..Self::none() })
        }
    }

    /// To be changed by, which makes it another.
    fn change(&mut self) -> &mut Anchors {
        self.remembered = Arc::default();
        Arc::make_mut(&mut self.anchors)
    }

    /// Believes these roots in PEM for the SPIFFE IDs of a domain, beside those that it has.
    ///
    /// # Errors
    ///
    /// As [`roots`](Self::roots).
    pub fn trust_domain(self, domain: TrustDomain, pem: &[u8]) -> Result<Self, TrustError> {
        self.of_domain(domain, in_pem(pem))
    }

    /// The same, in DER, one certificate after the other.
    #[cfg(feature = "spiffe")]
    pub(super) fn trust_domain_in_der(self, domain: TrustDomain, der: &[u8]) -> Result<Self, TrustError> {
        self.of_domain(domain, certificate::split(der))
    }

    fn of_domain<'a>(
        mut self,
        domain: TrustDomain,
        certificates: impl Iterator<Item = Option<CertificateDer<'a>>>,
    ) -> Result<Self, TrustError> {
        self.of(certificates, |anchors| {
            anchors.read.extend_from_slice(domain.as_str().as_bytes());
            anchors.of_domains.entry(domain).or_default()
        })?;
        Ok(self)
    }

    /// Looks for certificates on these revocation lists in PEM (RFC 5280 section 5).
    ///
    /// # Errors
    ///
    /// There is none among them, or one that cannot be read.
    pub fn revocation_lists(self, pem: &[u8]) -> Result<Self, TrustError> {
        self.revoked(CertificateRevocationListDer::pem_slice_iter(pem).map(Result::ok))
    }

    /// The same, each in DER.
    #[cfg(feature = "spiffe")]
    pub(super) fn revocation_lists_in_der(self, lists: &[&[u8]]) -> Result<Self, TrustError> {
        self.revoked(lists.iter().map(|list| Some((*list).into())))
    }

    fn revoked<'a>(
        mut self,
        lists: impl Iterator<Item = Option<CertificateRevocationListDer<'a>>>,
    ) -> Result<Self, TrustError> {
        let anchors = self.change();
        for list in lists.take(MAX_LISTS + 1) {
            let list = list.ok_or(TrustError::RevocationList)?;
            anchors.lists.add(&list).ok_or(TrustError::RevocationList)?;
            anchors.read.extend_from_slice(&list);
        }
        if (1..=MAX_LISTS).contains(&anchors.lists.len()) {
            Ok(self)
        } else {
            Err(TrustError::RevocationList)
        }
    }

    /// Believes nobody, since the revocation lists cannot be read: whoever shows a certificate may have lost the right to it.
    pub(super) fn with_unreadable_lists(mut self, why: Arc<str>) -> Self {
        self.change().unreadable = Some(why);
        self
    }

    /// Why the revocation lists cannot be read.
    pub(super) fn unreadable_lists(&self) -> Option<&Arc<str>> {
        self.anchors.unreadable.as_ref()
    }

    fn of<'a>(
        &mut self,
        certificates: impl Iterator<Item = Option<CertificateDer<'a>>>,
        place: impl FnOnce(&mut Anchors) -> &mut Vec<TrustAnchor<'static>>,
    ) -> Result<(), TrustError> {
        let (mut read, mut bytes) = (Vec::new(), Vec::new());
        for certificate in certificates.take(MAX_ROOTS + 1) {
            let certificate = certificate.ok_or(TrustError::Malformed)?;
            read.push(anchor_from_trusted_cert(&certificate).map_err(|_| TrustError::Malformed)?.to_owned());
            bytes.extend_from_slice(&certificate);
        }
        match read.len() {
            0 => return Err(TrustError::NoRoots),
            1..=MAX_ROOTS => {}
            _ => return Err(TrustError::Malformed),
        }
        let anchors = self.change();
        place(anchors).extend(read);
        anchors.read.extend_from_slice(&bytes);
        Ok(())
    }

    /// Whether there is nobody who is believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.of_any.is_empty() && self.anchors.of_domains.is_empty()
    }

    /// When the first issuer has no revocation list left that is not over.
    pub(super) fn revocation_expires(&self) -> Option<SystemTime> {
        self.anchors.lists.expire()
    }

    /// What tells it from another, without what is remembered.
    #[cfg(any(feature = "transport", feature = "upstream"))]
    pub(super) fn anchors(&self) -> &Arc<Anchors> {
        &self.anchors
    }

    fn roots_of(&self, peer: &PeerIdentity) -> &[TrustAnchor<'static>] {
        let id = peer.spiffe_id().and_then(|id| id.parse::<SpiffeId>().ok());
        let domain = id.and_then(|id| id.trust_domain().parse::<TrustDomain>().ok());
        domain.and_then(|domain| self.anchors.of_domains.get(&domain)).unwrap_or(&self.anchors.of_any)
    }

    /// Finds out whether this chain is to be believed at this moment, and what it says.
    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
        crypto: Crypto,
    ) -> Result<PeerIdentity, Error> {
        if self.anchors.unreadable.is_some() {
            return Err(refused("the revocation lists cannot be read"));
        }
        let (print, moment) = (remembered::print(chain, usage, crypto), at(now));
        if let Some(peer) = self.remembered.find(&print, moment) {
            return Ok(peer);
        }
        let peer = self.verify_anew(chain, now, usage, crypto)?;
        if let Some(valid) = self.valid(chain, moment) {
            self.remembered.keep(print, peer.clone(), valid, moment);
        }
        Ok(peer)
    }

    /// Around `now`, while no certificate of the chain and no revocation list begins or ends to count.
    fn valid(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Option<Range<SystemTime>> {
        let certificates = certificate::valid(chain)?;
        let (mut from, mut until) = (*certificates.start(), *certificates.end());
        for end in self.anchors.lists.ends() {
            if end <= now { from = from.max(end) } else { until = until.min(end) }
        }
        Some(from..until)
    }

    fn verify_anew(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
        crypto: Crypto,
    ) -> Result<PeerIdentity, Error> {
        let malformed = |_| Error::from(CertificateError::BadEncoding);
        let (leaf, others) = chain.split_first().ok_or(CertificateError::BadEncoding)?;
        let end = EndEntityCert::try_from(leaf).map_err(malformed)?;
        let peer = certificate::read_strong(chain).map_err(refused)?;
        let usage = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        let (algorithms, roots) =
            (crypto.provider().signature_verification_algorithms.all, self.roots_of(&peer));
        let find = |revocation: Option<RevocationOptions<'_>>, look: Look<'_>| {
            end.verify_for_usage(algorithms, roots, others, now, usage, revocation, Some(look)).map(drop)
        };
        self.anchors.lists.find(at(now), find).map_err(refusal)?;
        Ok(peer)
    }

    /// Whether the roots that vouch for this peer vouch for another trust domain than ours, and for nothing else.
    pub(super) fn is_foreign(&self, peer: &PeerIdentity, ours: Option<&PeerIdentity>) -> bool {
        let domain = |peer: &PeerIdentity| {
            peer.spiffe_id()?.parse::<SpiffeId>().ok()?.trust_domain().parse::<TrustDomain>().ok()
        };
        let theirs = domain(peer).filter(|domain| self.anchors.of_domains.contains_key(domain));
        theirs.is_some_and(|theirs| ours.and_then(domain) != Some(theirs))
    }
}

fn at(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
}

/// `None` where something else stands.
fn in_pem(pem: &[u8]) -> impl Iterator<Item = Option<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).map(Result::ok)
}

/// What rustls tells the peer, and the log.
fn refusal(error: webpki::Error) -> Error {
    use webpki::Error as E;

    let error = match error {
        E::CertExpired { .. } | E::InvalidCertValidity => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::CertRevoked => CertificateError::Revoked,
        E::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::InvalidCrlSignatureForPublicKey | E::IssuerNotCrlSigner => {
            return refused("a revocation list of its issuer is signed by somebody else");
        }
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        other => return refused(format!("the certificate is not to be believed: {other}")),
    };
    error.into()
}

impl PartialEq for Trust {
    /// Whether both were read from the same.
    fn eq(&self, other: &Self) -> bool {
        self.anchors == other.anchors
    }
}

impl PartialEq for Anchors {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.read == other.read && self.unreadable == other.unreadable
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.anchors.fmt(f)
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("roots", &self.of_any.len())
            .field("trust_domains", &self.of_domains.keys())
            .field("revocation_lists", &self.lists.len())
            .field("unreadable", &self.unreadable)
            .finish()
    }
}
