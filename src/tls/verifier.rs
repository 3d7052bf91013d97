//! What rustls asks of us about the other end.
#[cfg(feature = "transport")]
use std::{cell::RefCell, io};
use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::CertifiedKey,
};
use thiserror::Error;
use webpki::EndEntityCert;

#[cfg(feature = "transport")]
use super::certificate;
use super::{Credentials, Crypto, Identity, Material, trust::Usage};
use crate::identity::{PeerIdentity, SpiffeId, TrustDomain};

/// Who a server must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerId {
    /// The host that is asked for: a DNS name or an IP address of the certificate (RFC 9525).
    #[default]
    Host,
    /// This DNS name or IP address, whatever host it is found at. The name is asked for (SNI); what is no name fails each
    /// handshake.
    Name(Arc<str>),
    /// This workload, whatever host it is found at.
    Spiffe(SpiffeId),
    /// Any workload of this trust domain.
    TrustDomain(TrustDomain),
}

/// Verifies by what these credentials trust at the moment.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Credentials,
    /// Who servers must be.
    pub(super) server: ServerId,
    /// Whether clients may come without a certificate.
    pub(super) is_optional: bool,
    pub(super) crypto: Crypto,
}

/// What is wrong with the other end, where rustls has no word for it.
#[derive(Debug, Error)]
#[error("{0}")]
struct Refused(String);

pub(super) fn refused(why: impl Into<String>) -> Error {
    CertificateError::Other(OtherError(Arc::new(Refused(why.into())))).into()
}

/// Why a client was not let in, and who it said it was: nobody has found that to be true.
#[cfg(feature = "transport")]
#[derive(Debug, Error)]
struct NotBelieved {
    name: Option<Box<str>>,
    source: io::Error,
}

#[cfg(feature = "transport")]
impl fmt::Display for NotBelieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}; its certificate says {name:?}", self.source),
            None => self.source.fmt(f),
        }
    }
}

/// What became of a client's certificate in a handshake.
#[cfg(feature = "transport")]
#[derive(Default)]
enum Claim {
    #[default]
    None,
    /// It is not believed, and says this name.
    Refused(Option<Box<str>>),
    /// It is, and says this: nobody has to read it again.
    Believed(PeerIdentity),
}

#[cfg(feature = "transport")]
tokio::task_local! {
    static CLAIM: RefCell<Claim>;
}

/// The most letters of the name of somebody who is not believed.
#[cfg(feature = "transport")]
const LONGEST: usize = 256;

fn claim(leaf: &CertificateDer<'_>) {
    #[cfg(feature = "transport")]
    {
        let peer = certificate::read(std::slice::from_ref(leaf)).ok();
        let name = peer.as_ref().and_then(|peer| peer.name());
        let name = name.map(|name| name.chars().take(LONGEST).collect());
        // Outside of a handshake nobody asks.
        let _ = CLAIM.try_with(|claim| claim.replace(Claim::Refused(name)));
    }
    #[cfg(not(feature = "transport"))]
    let _ = leaf;
}

fn believe(peer: PeerIdentity) {
    #[cfg(feature = "transport")]
    let _ = CLAIM.try_with(|claim| claim.replace(Claim::Believed(peer)));
    #[cfg(not(feature = "transport"))]
    drop(peer);
}

/// Shakes hands with a client, and tells what the certificate says that was verified, if there was one. Of one whose certificate is
/// not believed the error tells the name, and its kind is [`PermissionDenied`](io::ErrorKind::PermissionDenied).
#[cfg(feature = "transport")]
pub(super) async fn claimed<T>(
    handshake: impl Future<Output = io::Result<T>>,
) -> io::Result<(T, Option<PeerIdentity>)> {
    let handshake = async {
        match (handshake.await, CLAIM.with(RefCell::take)) {
            (Ok(stream), Claim::Believed(peer)) => Ok((stream, Some(peer))),
            (Ok(stream), _) => Ok((stream, None)),
            (Err(source), Claim::Refused(name)) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, NotBelieved { name, source }))
            }
            (Err(source), _) => Err(source),
        }
    };
    CLAIM.scope(RefCell::default(), handshake).await
}

impl Verifier {
    /// Who is refused is told of by the name with which it came.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let believed = self.believed()?.trust.verify(&chain(leaf, others), now, Usage::Client, self.crypto);
        believed.map(believe).inspect_err(|_| claim(leaf))
    }

    fn believed(&self) -> Result<Arc<Material>, Error> {
        self.trust.current().ok_or_else(|| refused("whom to believe is not known yet"))
    }

    /// The name that is asked for is the one by which the server is verified, if it is by name.
    fn is_right(
        &self,
        peer: &PeerIdentity,
        leaf: &CertificateDer<'_>,
        host: &ServerName<'_>,
    ) -> Result<(), Error> {
        let expected: &dyn fmt::Display = match &self.server {
            ServerId::Host | ServerId::Name(_) => {
                let valid = EndEntityCert::try_from(leaf)
                    .and_then(|leaf| leaf.verify_is_valid_for_subject_name(host));
                return valid.map_err(|_| CertificateError::NotValidForName.into());
            }
            ServerId::Spiffe(id) if peer.spiffe_id() == Some(id.as_str()) => return Ok(()),
            ServerId::TrustDomain(domain) if is_of(peer, domain) => return Ok(()),
            ServerId::Spiffe(id) => id,
            ServerId::TrustDomain(domain) => domain,
        };
        let name = peer.name().unwrap_or("without a name");
        Err(refused(format!("the server is {name}, and it should be {expected}")))
    }
}

fn chain<'a>(leaf: &'a CertificateDer<'_>, others: &'a [CertificateDer<'_>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(others).map(|certificate| certificate.as_ref().into()).collect()
}

fn is_of(peer: &PeerIdentity, domain: &TrustDomain) -> bool {
    let id = peer.spiffe_id().and_then(|id| id.parse::<SpiffeId>().ok());
    id.is_some_and(|id| id.trust_domain() == domain.as_str())
}

/// What both sides' verifiers say of signatures.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.crypto.provider().signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.crypto.provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.crypto.provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Once, so that both questions are of the same roots.
        let material = self.believed()?;
        let peer = material.trust.verify(&chain(leaf, others), now, Usage::Server, self.crypto)?;
        let ours = material.identity.as_ref().map(Identity::names);
        let is_by_name = matches!(self.server, ServerId::Host | ServerId::Name(_));
        if is_by_name && material.trust.is_foreign(&peer, ours) {
            let name = peer.name().unwrap_or_default();
            return Err(refused(format!(
                "the server is {name}: its roots vouch for no host names, say which SPIFFE ID it must have"
            )));
        }
        self.is_right(&peer, leaf, host)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.is_optional
    }

    /// None: the roots change, and a workload has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, others, now)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}

/// Shows the identity of these credentials to servers that ask for one.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Credentials, pub(super) Crypto);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let material = self.0.load();
        material.as_ref()?.identity.as_ref()?.key(self.1)
    }

    fn has_certs(&self) -> bool {
        self.0.load().as_ref().is_some_and(|material| material.identity.is_some())
    }
}
