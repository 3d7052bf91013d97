//! What proxies tell of the certificate that a client has shown them: `X-Forwarded-Client-Cert`, as Envoy writes it, and
//! `Client-Cert` of RFC 9440. The rules are in the [module above](super#whose-certificate-is-believed).

#[cfg(feature = "tls")]
mod client_cert;
#[cfg(feature = "tls")]
mod details;
mod header;
#[cfg(feature = "tls")]
mod pem;
#[cfg(test)]
#[cfg(feature = "tls")]
mod tests;
#[cfg(feature = "tls")]
mod xfcc;

#[cfg(feature = "tls")]
pub use details::XfccDetails;
#[cfg(feature = "upstream")]
pub(crate) use header::CERTIFICATES;
#[cfg(feature = "tls")]
pub use header::{CertificateHeader, InvalidCertificateHeader};
#[cfg(all(feature = "tls", feature = "upstream"))]
pub(crate) use header::{OfConnection, XFCC};
