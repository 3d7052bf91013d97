//! TLS on both sides: who we are, whom we believe, and who must be at the other end.
//!
//! # Example
//!
//! A service whose certificate somebody renews in a directory, and which takes none without one of the same roots:
//!
//! ```
//! use portcullis::tls::{ClientTls, Credentials, Directory, ServerTls};
//!
//! # async fn begin() {
//! let credentials = Credentials::follow(Directory::new("/etc/certs"));
//! credentials.ready().await;
//!
//! let inbound = ServerTls::mutual(&credentials); // for transport::ListenerBuilder::tls
//! let outbound = ClientTls::mutual(&credentials); // for upstream::UpstreamBuilder::tls
//! # let _ = (inbound, outbound); }
//! ```
//!
//! # Rotation
//!
//! [`Credentials`] are what connections are made with. What their source tells is used by every handshake from then on, the
//! certificate, the roots and the revocation lists alike, and no request waits for it. A connection that stands stays what
//! it is, until the certificate that its peer showed expires, and what is in flight then has had its time. Sessions are not resumed where roots can change, since nobody
//! would be verified again.
//!
//! # Whom to believe
//!
//! [`Trust`] holds the roots. A certificate with a SPIFFE ID is a workload's
//! ([X.509-SVID](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md)): it has that one URI, is for signatures,
//! signs nobody else, and only the roots of its trust domain vouch for it, if that has its own.
//!
//! TLS 1.2 and 1.3, cryptography by aws-lc, or by ring where [it is told so](Crypto) and the feature `ring` is there; nothing is
//! installed in the process.

mod certificate;
mod client;
mod crypto;
mod directory;
mod identity;
mod lists;
mod material;
mod remembered;
mod revocation;
#[cfg(feature = "transport")]
mod server;
mod shrink;
#[cfg(any(feature = "transport", feature = "upstream"))]
mod standing;
mod trust;
mod verifier;
#[cfg(feature = "spiffe")]
mod workload_api;

pub(crate) use certificate::read as read_certificates;
pub use client::ClientTls;
#[cfg(feature = "upstream")]
pub(crate) use client::Shaken;
#[cfg(feature = "config")]
pub(crate) use client::is_server_name;
pub use crypto::Crypto;
use crypto::http;
pub use directory::Directory;
pub use identity::{Identity, IdentityError};
pub use material::{Credentials, CredentialsStatus, IdentitySource, Material};
#[cfg(feature = "transport")]
pub use server::{ClientCertificates, ServerTls};
pub use shrink::OnTrustShrink;
#[cfg(any(feature = "transport", feature = "upstream"))]
pub(crate) use standing::Standing;
pub use trust::{Trust, TrustError};
pub use verifier::ServerId;
#[cfg(all(feature = "spiffe", fuzzing))]
pub use workload_api::fuzzing;
#[cfg(feature = "spiffe")]
#[cfg_attr(docsrs, doc(cfg(feature = "spiffe")))]
pub use workload_api::{InvalidEndpoint, WorkloadApi};

#[cfg(test)]
mod tests;
