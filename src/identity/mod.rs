//! Who is calling: the address, the connection's certificate, the principal.
//!
//! | Type | Says | Put into the request's extensions by |
//! |---|---|---|
//! | [`PeerAddr`] | who opened the connection to us | the listener, or the connection layer |
//! | [`ClientAddr`] | whose request it is, through trusted proxies | the same, by [`ClientAddr::resolve`] |
//! | [`PeerIdentity`] | what the peer's verified certificate says | the TLS acceptor |
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

mod address;
mod asserted;
#[cfg(feature = "axum")]
mod extract;
mod forwarded;
mod networks;
mod peer;
mod principal;
#[cfg(any(feature = "telemetry", feature = "upstream"))]
mod text;
mod token;
mod told;
mod trusted;
mod walk;

pub use address::{ClientAddr, PeerAddr};
pub use asserted::AssertedHeaders;
#[cfg(feature = "upstream")]
pub(crate) use forwarded::HEARSAY;
pub use networks::Networks;
pub use peer::PeerIdentity;
pub use principal::{ClaimLookup, Principal};
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
