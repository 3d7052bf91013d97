//! Takes the certificate of the connection for a credential.
//!
//! # Example
//!
//! ```
//! use portcullis::authn::certificate::Certificate;
//!
//! let layer = Certificate::new().layer();
//! # let _ = layer;
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::Request;
//! use portcullis::{gate::Gate, head::Head, authn::certificate::Certificate, identity::{PeerIdentity, Principal}};
//!
//! let peer = PeerIdentity::new([7; 32]).with_spiffe_id("spiffe://shop.example/ns/shop/sa/orders");
//! let mut request = Request::get("/").extension(peer).body(())?;
//! Certificate::new().named("workloads").check(&mut Head::of(&mut request)).unwrap();
//!
//! let principal: &Principal = request.extensions().get().unwrap();
//! assert_eq!(principal, &Principal::new("workloads", "", "spiffe://shop.example/ns/shop/sa/orders"));
//! # Ok::<(), http::Error>(())
//! ```
//!
//! # Whose it is
//!
//! The subject is the certificate's SPIFFE ID, or else its first DNS name, URI or mail address, or else its distinguished
//! name: no name of one kind can be taken for [one of another](PeerIdentity::name). That it was verified is the word of whoever
//! put the [`PeerIdentity`] into the extensions; which names may do what is a matter of authorization.
//!
//! A certificate is of the connection and not of the request: one that nobody asked for is not refused, and it makes no
//! request more than anonymous in a gate that does not name it.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no certificate | `MissingCredentials` | 401 | UNAUTHENTICATED |
//! | it has no name | `InvalidCredentials` | 401 | UNAUTHENTICATED |
//!
//! # Position
//!
//! As [authentication](super) in general, inside of whatever tells the [`PeerIdentity`].
//!
//! # Shared state
//!
//! None.
//!
//! # Compared with tower
//!
//! tower-http has no counterpart.
//!
//! # Metrics
//!
//! None of its own: refusals are counted by reason with all others.

use std::sync::Arc;

use super::{Authenticator, Credential, authenticator::check_alone};
use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::{AssertedHeaders, PeerIdentity, Principal},
    reject::{Answer, Reason, Rejection},
};

/// Takes the certificate of the connection for a credential.
///
/// See the [module docs](self).
#[derive(Debug, Clone)]
#[must_use]
pub struct Certificate {
    provider: Arc<str>,
}

impl Certificate {
    /// A provider named `certificate`.
    pub fn new() -> Self {
        Self { provider: "certificate".into() }
    }

    /// Names the provider: the first part of its principals.
    pub fn named(mut self, provider: &str) -> Self {
        self.provider = provider.into();
        self
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}

impl Authenticator for Certificate {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let Some(peer) = head.extensions().get::<PeerIdentity>() else { return Credential::Absent };
        match peer.name() {
            Some(name) => Credential::Valid(Principal::new(self.provider.clone(), "", name)),
            None => Credential::Invalid(
                Rejection::new(Reason::InvalidCredentials).detail("the certificate has no name"),
            ),
        }
    }
}

impl Gate for Certificate {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        check_alone(self, &AssertedHeaders::default(), head)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::reject::Protocol;

    fn call(peer: Option<PeerIdentity>) -> Result<Principal, Rejection> {
        let mut request = Request::get("/").body(()).unwrap();
        request.extensions_mut().extend(
            peer.map(|peer| {
                let mut with = http::Extensions::new();
                with.insert(peer);
                with
            })
            .unwrap_or_default(),
        );
        match Certificate::new().check(&mut Head::of(&mut request)) {
            Ok(()) => Ok(request.extensions().get::<Principal>().unwrap().clone()),
            Err(Answer::Refuse(rejection)) => Err(rejection),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_most_telling_name_is_the_subject() {
        let all = PeerIdentity::new([7; 32])
            .with_subject("CN=orders")
            .with_emails(["orders@shop.example"])
            .with_uris(["https://shop.example/orders"])
            .with_dns_names(["orders.shop.svc", "other.shop.svc"])
            .with_spiffe_id("spiffe://shop.example/orders");
        let none: [&str; 0] = [];
        let [spiffe, dns, uri, mail] = [
            all.clone(),
            PeerIdentity::new([7; 32]).with_dns_names(["a", "b"]).with_subject("CN=x"),
            PeerIdentity::new([7; 32]).with_uris(["u:1"]).with_emails(["m@a"]).with_dns_names(none),
            PeerIdentity::new([7; 32]).with_emails(["m@a"]).with_subject("CN=x"),
        ];
        for (peer, subject) in [
            (spiffe, "spiffe://shop.example/orders"),
            (dns, "a"),
            (uri, "u:1"),
            (mail, "m@a"),
            (PeerIdentity::new([7; 32]).with_subject("CN=x"), "CN=x"),
        ] {
            assert_eq!(call(Some(peer)).unwrap(), Principal::new("certificate", "", subject));
        }
    }

    #[test]
    fn no_name_passes_for_one_of_another_kind() {
        const WEB: &str = "spiffe://mesh.local/web";
        let bare = || PeerIdentity::new([7; 32]);
        let shouted = WEB.to_uppercase();
        for peer in [
            bare().with_emails([WEB]),
            bare().with_emails([&*shouted, "CN=web@mesh.local"]),
            bare().with_uris([&*shouted, "web.mesh.local", "CN=web"]),
            bare().with_dns_names([WEB]),
            bare().with_subject(WEB),
            bare().with_subject("web.mesh.local"),
        ] {
            assert_eq!(
                call(Some(peer.clone())).unwrap_err().reason(),
                Reason::InvalidCredentials,
                "{peer:?}"
            );
            let named = peer.with_uris(["urn:web"]);
            assert_eq!(call(Some(named)).unwrap(), Principal::new("certificate", "", "urn:web"));
        }
    }

    #[test]
    fn each_row_of_answers_as_http_and_as_grpc() {
        for (peer, reason) in [
            (None, Reason::MissingCredentials),
            (Some(PeerIdentity::new([7; 32])), Reason::InvalidCredentials),
        ] {
            let refused = call(peer).unwrap_err();
            assert_eq!(refused.reason(), reason);
            assert_eq!(refused.clone().into_response(Protocol::Http).status().as_u16(), 401);
            assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "16");
        }
    }
}
