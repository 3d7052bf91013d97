//! Lets in, or keeps out, by the client's address.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{admission::address::AddressList, identity::ClientAddr};
//! use std::net::IpAddr;
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let list = AddressList::builder().allow(["10.0.0.0/8".parse()?]).deny(["10.66.0.0/16".parse()?]).build();
//! let app = list.layer().layer(tower::service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
//! }));
//! for (address, status) in [("10.1.2.3", 200), ("10.66.1.1", 403), ("192.0.2.1", 403)] {
//!     let mut request = Request::new(String::new());
//!     request.extensions_mut().insert(ClientAddr::from(address.parse::<IpAddr>()?));
//!     assert_eq!(app.clone().oneshot(request).await?.status(), status);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! A list of thousands, as they are published, replaced while requests go on:
//!
//! ```
//! use portcullis::admission::address::{AddressList, parse_networks};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let published = "# known spammers\n192.0.2.0/24\n2001:db8:bad::/48 # all of it\n198.51.100.7\n";
//! let list = AddressList::builder().deny(parse_networks(published)?).build();
//! let layer = list.clone().layer();
//!
//! let later = AddressList::builder().deny(parse_networks("192.0.2.0/25\n")?).build();
//! list.replace(&later);
//! assert!(list.admits("192.0.2.200".parse()?));
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
//!
//! # Who is let in
//!
//! Of all networks that hold the address, the longest prefix decides, whichever list it stands in; a network that stands
//! in both is denied. An address that no network holds is let in, unless something is allowed: then only that is.
//!
//! The address is the [`ClientAddr`](crate::identity::ClientAddr), or the connection's peer if nobody has told it. Where
//! neither is known, nobody is let in.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | the address is not let in | [`AddressDenied`] | 403 | `PERMISSION_DENIED` |
//!
//! # Position
//!
//! Outside of everything that costs something, rate limits too; inside of whatever tells the client's address, and of
//! access logs and metrics, which see the answer.
//!
//! # Shared state
//!
//! Clones of a list are one list: all layers and services made from it follow a [replacement](AddressList::replace).
//! A look-up takes no lock.
//!
//! # Compared with tower
//!
//! tower has nothing of the kind.
//!
//! # Metrics
//!
//! [`AddressList::refused`] counts. Refusals have the label `address_denied` and the access-log flag `AD`.
//!
//! [`AddressDenied`]: crate::reject::Reason::AddressDenied

mod list;
mod text;

pub use list::{AddressList, AddressListBuilder};
pub use text::{InvalidNetworks, parse_networks};
