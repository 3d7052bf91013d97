//! What of a request a rule can ask for, and how its values are told apart.

use std::{fmt, net::IpAddr, sync::Arc};

use http::HeaderName;
use ipnet::IpNet;

use super::{Facts, Pattern};
use crate::{
    identity::{PeerIdentity, Principal},
    matching::{PathTemplate, query_values},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attribute {
    // Who: the caller that was authenticated,
    Principal,
    Issuer,
    Scope,
    Role,
    Claim(Box<str>),
    Plan,
    // the peer's certificate,
    Peer,
    TrustDomain,
    PeerPath,
    Namespace,
    ServiceAccount,
    // and addresses.
    Client,
    Connected,
    // What.
    Host,
    Method,
    Path,
    Header(HeaderName),
    Query(Box<str>),
    // When.
    Predicate,
}

/// What a request shows of an attribute.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    Text(&'a [u8]),
    Principal(&'a Principal),
    /// A namespace and an account of it.
    Account(&'a str, &'a str),
    Address(IpAddr),
    All(&'a Facts<'a>),
}

/// What a rule asks of an attribute.
#[derive(Clone)]
pub(super) enum Value {
    Text(Pattern),
    Principal(Pattern, Pattern),
    Account(Pattern, Pattern),
    Path(PathTemplate),
    Network(IpNet),
    Predicate(Arc<dyn Fn(&Facts<'_>) -> bool + Send + Sync>),
}

impl Value {
    pub(super) fn matches(&self, seen: Seen<'_>) -> bool {
        match (self, seen) {
            (Self::Text(pattern), Seen::Text(text)) => pattern.matches(text),
            (Self::Path(template), Seen::Text(path)) => template.matches_bytes(path),
            // Any of any: whoever was authenticated. A guest was not, and is meant only by name.
            (Self::Principal(of_provider, of_subject), Seen::Principal(principal)) => {
                of_provider.matches(principal.provider().as_bytes())
                    && of_subject.matches(principal.subject().as_bytes())
                    && !(principal.is_guest() && of_provider.is_any() && of_subject.is_any())
            }
            (Self::Account(of_namespace, of_account), Seen::Account(namespace, account)) => {
                of_namespace.matches(namespace.as_bytes()) && of_account.matches(account.as_bytes())
            }
            (Self::Network(network), Seen::Address(address)) => network.contains(&address),
            (Self::Predicate(says), Seen::All(facts)) => says(facts),
            _ => false,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Principal(a, b), Self::Principal(c, d)) | (Self::Account(a, b), Self::Account(c, d)) => {
                (a, b) == (c, d)
            }
            (Self::Path(a), Self::Path(b)) => a == b,
            (Self::Network(a), Self::Network(b)) => a == b,
            (Self::Predicate(a), Self::Predicate(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(pattern) => pattern.fmt(f),
            Self::Principal(a, b) | Self::Account(a, b) => write!(f, "{a:?}/{b:?}"),
            Self::Path(template) => template.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Predicate(_) => f.write_str("a predicate"),
        }
    }
}

impl Attribute {
    /// Whether a caller can send it several times although it means one thing: which of them an upstream reads is not
    /// known.
    pub(super) const fn is_ambiguous_if_repeated(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Query(_))
    }

    /// Whether it is known only of who was authenticated.
    pub(super) const fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Self::Principal | Self::Issuer | Self::Scope | Self::Role | Self::Claim(_) | Self::Plan
        )
    }

    /// Whether it is known only of who has shown a certificate.
    pub(super) const fn is_of_peer(&self) -> bool {
        matches!(
            self,
            Self::Peer | Self::TrustDomain | Self::PeerPath | Self::Namespace | Self::ServiceAccount
        )
    }

    /// Whether nobody can know it, since what is asked is no request.
    pub(super) fn is_unknowable(&self, facts: &Facts<'_>) -> bool {
        facts.request().is_none()
            && (self.is_of_caller()
                || matches!(self, Self::Host | Self::Method | Self::Path | Self::Header(_) | Self::Query(_)))
    }

    /// Shows every value there is, until `found` says `true`; tells whether it did.
    pub(super) fn any(&self, facts: &Facts<'_>, found: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        match self {
            Self::Host | Self::Method | Self::Path | Self::Header(_) | Self::Query(_) => {
                self.any_of_request(facts, found)
            }
            _ if self.is_of_peer() => facts.peer().is_some_and(|peer| self.any_of_peer(peer, found)),
            Self::Client => facts.client().is_some_and(|address| found(Seen::Address(address))),
            Self::Connected => facts.connected().is_some_and(|address| found(Seen::Address(address))),
            Self::Predicate => found(Seen::All(facts)),
            _ => facts.principal().is_some_and(|principal| self.any_of_principal(principal, found)),
        }
    }

    fn any_of_principal(&self, principal: &Principal, found: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        match self {
            Self::Principal => found(Seen::Principal(principal)),
            Self::Issuer => found(text(principal.issuer())),
            Self::Scope => principal.scopes().any(|scope| found(text(scope))),
            Self::Role => principal.roles().any(|role| found(text(role))),
            Self::Plan => principal.plan().is_some_and(|plan| found(text(plan))),
            Self::Claim(name) => principal.any_claim(name, &mut |claim| found(text(claim))),
            _ => false,
        }
    }

    /// A peer is its SPIFFE id, or else the DNS names of its certificate.
    fn any_of_peer(&self, peer: &PeerIdentity, found: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        let Some(id) = peer.spiffe_id() else {
            return *self == Self::Peer && peer.dns_names().any(|name| found(text(name)));
        };
        let Some(rest) = id.strip_prefix("spiffe://") else { return false };
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match self {
            Self::Peer => found(text(id)),
            Self::TrustDomain => found(text(domain)),
            Self::PeerPath => found(text(path)),
            Self::Namespace => account(path).is_some_and(|(namespace, _)| found(text(namespace))),
            Self::ServiceAccount => {
                account(path).is_some_and(|(namespace, account)| found(Seen::Account(namespace, account)))
            }
            _ => false,
        }
    }

    fn any_of_request(&self, facts: &Facts<'_>, found: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        let Some(request) = facts.request() else { return false };
        match self {
            Self::Host => found(text(&request.host)),
            Self::Method => found(text(request.method.as_str())),
            Self::Path => found(text(&request.path)),
            Self::Header(name) => {
                // HTTP/1 upstreams do not see blanks at the ends, which HTTP/2 hands on.
                let mut lines = request.headers.iter().filter(|(other, _)| is_same(name, other));
                lines.any(|(_, line)| found(Seen::Text(line.as_bytes().trim_ascii())))
            }
            Self::Query(name) => query_values(request.query, name).any(|value| found(Seen::Text(&value))),
            _ => false,
        }
    }
}

/// Whether upstreams may take one header for the other: many read `_` for `-`.
fn is_same(a: &HeaderName, b: &HeaderName) -> bool {
    let (a, b) = (a.as_str().as_bytes(), b.as_str().as_bytes());
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| dashed(*a) == dashed(*b))
}

fn text(text: &str) -> Seen<'_> {
    Seen::Text(text.as_bytes())
}

/// The `x` and `y` of `/ns/x/sa/y`, the form that Istio gives to SPIFFE ids.
fn account(path: &str) -> Option<(&str, &str)> {
    let (namespace, account) = path.strip_prefix("/ns/")?.split_once('/')?;
    let account = account.strip_prefix("sa/")?;
    (!account.is_empty() && !account.contains('/')).then_some((namespace, account))
}
