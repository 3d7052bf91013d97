//! Who is calling: the address, the connection's certificate, the principal.
//!
//! | Type | Says | Put into the request's extensions by |
//! |---|---|---|
//! | [`PeerAddr`] | who opened the connection to us | the listener, or the connection layer |
//! | [`ClientAddr`] | whose request it is, through trusted proxies | the same, by [`ClientAddr::resolve`] |
//! | [`PeerIdentity`] | what the peer's verified certificate says | the TLS acceptor, or the connection layer |
//! | [`Principal`] | who was authenticated | an authentication layer |
//!
//! All are values: they are cheap to clone and hold no guard and no connection. With the feature `axum` each
//! is an extractor.
//!
//! # Example
//!
//! ```
//! use http::HeaderMap;
//! use portcullis::identity::{ClientAddr, PeerAddr, Principal, TrustedProxies};
//!
//! // 192.0.2.7 reached our load balancer, 10.0.0.5, and wrote a header that says it is 1.1.1.1.
//! let trusted: TrustedProxies = "10.0.0.0/8".parse()?;
//! let peer = PeerAddr::from("10.0.0.5:41000".parse::<std::net::SocketAddr>()?);
//! let mut headers = HeaderMap::new();
//! headers.insert("x-forwarded-for", "1.1.1.1, 192.0.2.7".parse()?);
//!
//! let client = ClientAddr::resolve(peer, &headers, &trusted);
//! assert_eq!(client.to_string(), "192.0.2.7");
//!
//! let principal = Principal::new("customers", "https://id.example", "alice").with_scopes(["orders.read"]);
//! assert!(principal.has_scope("orders.read"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Whose address is believed
//!
//! Anyone can write `X-Forwarded-For`. It is looked at only if the connection comes from a trusted proxy, and
//! it is walked from the right, because each proxy appends whom it saw:
//!
//! 1. The peer is not trusted: the peer is the client.
//! 2. Else the rightmost entry is whom the peer saw. If that address is not trusted, it is the client.
//!    Whatever stands left of it is hearsay, and is not even read.
//! 3. If it is a trusted proxy too, its own entry is the next to the left; and so on.
//! 4. If all entries are trusted proxies, the leftmost of them is the client.
//!
//! Something that is no address (junk, a zone id, RFC 7239's `unknown` and `_hidden`) ends the walk at the
//! last trusted proxy that was reached: that proxy answers for whom it lets through. So do the limits,
//! [`MAX_HOPS`] and [`MAX_BYTES`]. The client is then a trusted proxy; who has rules for the addresses of
//! the own proxies should know that, and a proxy that appends a proper address never lets it happen.
//!
//! Several header lines are one list, in their order. `::ffff:192.0.2.7` is 192.0.2.7 everywhere.
//!
//! If both `X-Forwarded-For` and RFC 7239 `Forwarded` are present, nobody can tell from the request which of
//! them the proxy wrote and which it let through. Unless [`TrustedProxies::header`] names one, both are
//! walked together for as long as they agree, and the walk ends at the last trusted proxy before they differ:
//! a stranger who adds the other header is never taken for the address in it.
//!
//! # Whose certificate is believed
//!
//! Where TLS ends before us, a proxy tells of the client's certificate in a header, which anyone can write too. It is
//! believed only if the connection comes from a trusted proxy and [`TrustedProxies::client_certificate`] says which
//! header that proxy writes:
//!
//! | Header | Said by |
//! |---|---|
//! | `X-Forwarded-Client-Cert` | Envoy, and what is built on it; the last element counts, which is the nearest proxy's |
//! | `Client-Cert` and `Client-Cert-Chain` | RFC 9440 |
//!
//! 1. The peer is not trusted: whatever it says of certificates is taken out, however it is spelt. Its own certificate,
//!    if the connection has one, is the [`PeerIdentity`].
//! 2. It is trusted, and no header is stated: as before, but its `X-Forwarded-Client-Cert` goes on unread, for upstreams.
//! 3. A header is stated: what the proxy says there is the [`PeerIdentity`], in the place of the proxy's own. If it says
//!    nothing there is none: a client without a certificate is not taken for the proxy. The other header is taken out.
//! 4. What cannot be read is refused with 400, and so is an element that contradicts itself: nobody would know who calls.
//!
//! A certificate in a header is read as one that was shown to us. That it was verified is the proxy's word.

mod address;
mod asserted;
mod destination;
mod entrance;
#[cfg(feature = "axum")]
mod extract;
mod forwarded;
mod name;
mod networks;
mod peer;
mod principal;
mod session;
#[cfg(any(feature = "tls", feature = "transport", feature = "upstream"))]
mod shown;
mod spiffe;
#[cfg(any(feature = "telemetry", feature = "upstream"))]
mod text;
mod token;
mod told;
mod trusted;
mod walk;

pub use address::{ClientAddr, PeerAddr};
pub use asserted::AssertedHeaders;
pub use destination::OriginalDestination;
pub use entrance::Entrance;
#[cfg(feature = "upstream")]
pub(crate) use forwarded::HEARSAY;
#[cfg(feature = "tls")]
pub(crate) use name::is_dns_name;
pub use networks::Networks;
pub use peer::PeerIdentity;
pub use principal::{ClaimLookup, Principal};
pub use session::TlsSession;
#[cfg(feature = "upstream")]
pub(crate) use shown::CERTIFICATES;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use shown::{CertificateHeader, InvalidCertificateHeader, XfccDetails};
#[cfg(all(feature = "tls", feature = "upstream"))]
pub(crate) use shown::{OfConnection, XFCC};
pub use spiffe::{InvalidSpiffeId, SpiffeId, TrustDomain};
#[cfg(any(feature = "telemetry", feature = "upstream"))]
pub(crate) use text::AddressText;
pub use token::CallerToken;
#[cfg(feature = "jwt")]
pub(crate) use told::header_value;
pub use told::{CallerFact, CallerHeaders};
pub use trusted::{ForwardingHeader, InvalidTrustedProxy, TrustedProxies};
pub use walk::{ForwardedInfo, MAX_BYTES, MAX_HOPS};

#[cfg(test)]
mod tests;
