//! What is gone from a request by the time that a key or a match looks at it: it would be missing in all requests, and a
//! key would silently be the address.
use http::{HeaderName, header};

use super::Compiler;
use crate::{
    authn::{self, Location, Providers},
    identity::{AssertedHeaders, CERTIFICATES, HEARSAY},
    key::Key,
    upstream::HopByHop,
};

/// Header fields that frame or address a message, or say how it came or who sent it: nothing of ours is told in them.
pub(super) const NOT_OURS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Header fields that have a meaning of their own for whoever retries or keeps deadlines.
const RESERVED: [&str; 4] = ["content-type", "expect", "grpc-timeout", "idempotency-key"];

impl Compiler<'_> {
    /// Why a rule cannot tell upstreams a number in this header field.
    pub(super) fn no_number(&self, name: &HeaderName) -> Option<&'static str> {
        let is_hearsay = HEARSAY.contains(name) || CERTIFICATES.contains(name);
        if NOT_OURS.contains(name) || RESERVED.contains(&name.as_str()) || is_hearsay {
            return Some("no number can be told in this header: it means something else");
        }
        let mut locations = self.providers.values().flat_map(|provider| provider.locations());
        if locations.any(|location| location.header_name() == Some(name)) {
            return Some("no number can be told in this header: credentials come in it");
        }
        self.removed(name)
    }

    /// Whether a rule tells upstreams in this header which attempt it is. What clients send of it is taken out.
    pub(super) fn numbers_attempts(&self, name: &HeaderName) -> bool {
        let attempts =
            self.file.all_rules().filter_map(|rule| rule.policies.retry.as_ref()?.attempt_header.as_ref());
        attempts.map(|header| header.0.clone()).collect::<AssertedHeaders>().contains(name)
    }

    /// Why no request has this header field when limits count and rules are matched.
    pub(super) fn removed(&self, name: &HeaderName) -> Option<&'static str> {
        let of_providers = self.providers.values().flat_map(|provider| provider.asserted_headers());
        if of_providers.cloned().collect::<AssertedHeaders>().contains(name) {
            return Some(
                "no request has it here: what clients send is taken out, for `claimHeaders` says it",
            );
        }
        if AssertedHeaders::new(self.asserted()).contains(name) {
            return Some(
                "no request has it here: what clients send is taken out, for `upstreamHeaders` or `callerHeaders` says it",
            );
        }
        if self.marks_mirrored(name) {
            return Some(
                "no request has it here: what clients send is taken out, for it marks mirrored requests",
            );
        }
        if HopByHop::always_removes(name) {
            return Some("no request has it here: it is for one connection, and taken out");
        }
        let trusts = |listener: &crate::config::schema::Listener| !listener.trusted().is_empty();
        let is_hearsay = HEARSAY.contains(name) || CERTIFICATES.contains(name);
        if is_hearsay && !self.file.all_listeners().any(trusts) {
            return Some("no request has it here: it is taken out, for no listener has `trustedProxies`");
        }
        None
    }

    /// Why no request has this part of a key when a rule with these providers chooses among its backends.
    pub(super) fn removed_inside(&self, key: &Key, providers: Option<&Providers>) -> Option<&'static str> {
        let locations = self.providers.values().flat_map(|provider| provider.locations());
        let kept_back = authn::kept_back(locations, providers);
        let own = providers.into_iter().flat_map(Providers::removed_locations);
        if own.chain(&kept_back).any(|location| holds(location, key)) {
            return Some("no request has it here: credentials are taken out before");
        }
        let Key::Header(name) = key else { return None };
        let says = |providers: &Providers| providers.asserted_headers().any(|said| said == name);
        self.removed(name).filter(|_| !providers.is_some_and(says))
    }
}

/// Whether a part of this key is a credential that these providers take out.
pub(super) fn counts_credential(key: &Key, providers: &Providers) -> bool {
    match key {
        Key::Tuple(parts) => parts.iter().any(|part| counts_credential(part, providers)),
        part => providers.removed_locations().any(|location| holds(location, part)),
    }
}

/// Whether this part of a key is what stands in that place.
fn holds(location: &Location, part: &Key) -> bool {
    match part {
        Key::Header(name) => *name != header::COOKIE && location.header_name() == Some(name),
        Key::Cookie(name) => *location == Location::cookie(&**name),
        _ => false,
    }
}
