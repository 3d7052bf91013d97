use std::{fmt, sync::Arc};

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::{
    Facts, InvalidValue, Pattern,
    attribute::{Attribute, Value},
    condition::Condition,
};
use crate::matching::PathTemplate;

/// When a policy means a request: one of its [sources](Source), one of its [operations](Operation), and every predicate.
/// What is not said is not asked, so that a rule that says nothing means every request.
#[derive(Clone, Default)]
#[must_use]
pub struct Rule {
    pub(super) name: Option<Arc<str>>,
    from: Vec<Source>,
    to: Vec<Operation>,
    when: Vec<Condition>,
}

/// Who: all that is said must hold, and of each list one value.
///
/// Texts are [patterns](Pattern). Each field has a twin that rules values out; an attribute that a request does not have
/// has none of the values. Of a list that is empty nobody has a value.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Source(Vec<Condition>);

/// What: all that is said must hold, and of each list one value.
///
/// As a [`Source`]. A header or parameter that comes several times with different values is read against the caller: in
/// a DENY policy it matches if one of them does, in an ALLOW policy if all do.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Operation(Vec<Condition>);

impl Rule {
    /// A rule for every request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names it, for logs, metrics and answers. Its place in the policy is its name unless told.
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Also for these callers. Without any it is for all of them.
    pub fn from(mut self, source: Source) -> Self {
        self.from.push(source);
        self
    }

    /// Also for these operations. Without any it is for all of them.
    pub fn to(mut self, operation: Operation) -> Self {
        self.to.push(operation);
        self
    }

    /// Only when this says so. It must not block, and is asked only if the rest may hold.
    pub fn when(self, says: impl Fn(&Facts<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.predicate(Arc::new(says), false)
    }

    /// Only when this does not say so.
    pub fn unless(self, says: impl Fn(&Facts<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.predicate(Arc::new(says), true)
    }

    fn predicate(mut self, says: Arc<dyn Fn(&Facts<'_>) -> bool + Send + Sync>, negated: bool) -> Self {
        let values = Box::new([Value::Predicate(says)]);
        self.when.push(Condition { attribute: Attribute::Predicate, values, negated });
        self
    }

    /// Whether it means every request.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.when.is_empty() && self.conjunctions().any(|conditions| conditions.is_empty())
    }

    /// Whether it can mean no request, because it asks for what it rules out.
    #[must_use]
    pub fn is_contradictory(&self) -> bool {
        self.conjunctions()
            .all(|conditions| conditions.iter().any(|a| conditions.iter().any(|b| a.contradicts(b))))
    }

    /// Whether it asks who was authenticated, or what is known of them.
    #[must_use]
    pub fn needs_caller(&self) -> bool {
        self.from.iter().flat_map(|source| &source.0).any(|condition| condition.attribute.is_of_caller())
    }

    /// Whether both mean the same requests, said in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to && self.when == other.when
    }

    /// How many pairs of a source and an operation there are.
    pub(super) fn size(&self) -> usize {
        self.from.len().max(1).saturating_mul(self.to.len().max(1))
    }

    /// Each source with each operation: what must hold together.
    pub(super) fn conjunctions(&self) -> impl Iterator<Item = Vec<Condition>> {
        let (any_source, any_operation) = (self.from.is_empty(), self.to.is_empty());
        let from = self.from.iter().map(|source| &source.0[..]).chain(any_source.then_some(&[][..]));
        from.flat_map(move |source| {
            let to = self.to.iter().map(|operation| &operation.0[..]).chain(any_operation.then_some(&[][..]));
            to.map(move |operation| [source, operation, &self.when].concat())
        })
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("when", &self.when)
            .finish()
    }
}

fn values<T: AsRef<str>>(
    list: impl IntoIterator<Item = T>,
    parse: impl Fn(&str) -> Result<Value, InvalidValue>,
) -> Result<Box<[Value]>, InvalidValue> {
    list.into_iter().map(|text| parse(text.as_ref())).collect()
}

fn pattern(text: &str) -> Result<Value, InvalidValue> {
    Pattern::parse(text).map(Value::Text)
}

/// `provider/subject`, of which each may be a pattern, or `*` alone.
fn principal(text: &str) -> Result<Value, InvalidValue> {
    let (provider, subject) = match text {
        "*" => ("*", "*"),
        _ => text.split_once('/').ok_or(InvalidValue::Principal)?,
    };
    Ok(Value::Principal(Pattern::parse(provider)?, Pattern::parse(subject)?))
}

/// `namespace/account`, of which each may be a pattern.
fn account(text: &str) -> Result<Value, InvalidValue> {
    let (namespace, account) = text.split_once('/').ok_or(InvalidValue::Account)?;
    Ok(Value::Account(Pattern::parse(namespace)?, Pattern::parse(account)?))
}

/// A [template](PathTemplate), or a pattern if a `*` stands at one end.
fn path(text: &str) -> Result<Value, InvalidValue> {
    if text.contains('{') || !text.contains('*') {
        return Ok(Value::Path(PathTemplate::parse(text)?));
    }
    let pattern = Pattern::parse(text)?;
    // What such a path has for certain has to be in its normal form.
    if let Some(begin) = pattern.as_prefix()
        && !is_normal(begin)
    {
        PathTemplate::parse(begin)?;
        return Err(InvalidValue::Path(crate::matching::InvalidTemplate::NotNormal));
    }
    if let Some(end) = pattern.as_suffix()
        && !is_normal(&format!("/{}", end.strip_prefix('/').unwrap_or(end)))
    {
        return Err(InvalidValue::Path(crate::matching::InvalidTemplate::NotNormal));
    }
    Ok(Value::Text(pattern))
}

fn is_normal(path: &str) -> bool {
    let normal = crate::matching::PathPolicy::strict().normalize(path);
    !path.contains(['?', '#', '{', '}']) && normal.is_ok_and(|normal| normal == path)
}

/// The fields of texts, each with its twin.
macro_rules! texts {
    ($kind:ident; $($(#[doc = $doc:literal])+ $yes:ident, $no:ident: $attribute:ident, $parse:expr;)*) => {
        impl $kind {
            $(
                $(#[doc = $doc])+
                ///
                /// # Errors
                ///
                /// If one of them can stand in no rule.
                pub fn $yes<T: AsRef<str>>(self, list: impl IntoIterator<Item = T>) -> Result<Self, InvalidValue> {
                    Ok(self.with(Attribute::$attribute, values(list, $parse)?, false))
                }

                #[doc = concat!("The twin of [`", stringify!($yes), "`](Self::", stringify!($yes), "): none of these.")]
                ///
                /// # Errors
                ///
                /// If one of them can stand in no rule.
                pub fn $no<T: AsRef<str>>(self, list: impl IntoIterator<Item = T>) -> Result<Self, InvalidValue> {
                    Ok(self.with(Attribute::$attribute, values(list, $parse)?, true))
                }
            )*

            fn with(mut self, attribute: Attribute, values: Box<[Value]>, negated: bool) -> Self {
                self.0.push(Condition { attribute, values, negated });
                self
            }
        }
    };
}

texts! { Source;
    /// Who was authenticated, as `provider/subject`: `customers/alice`, `partners/*`, or `*` for anybody but guests.
    principals, not_principals: Principal, principal;
    /// Who vouches for the caller: a token's `iss`.
    issuers, not_issuers: Issuer, pattern;
    /// One of these scopes. Said again, one of those as well.
    scopes, not_scopes: Scope, pattern;
    /// One of these roles. Said again, one of those as well.
    roles, not_roles: Role, pattern;
    /// The plan of the credential.
    plans, not_plans: Plan, pattern;
    /// The peer's SPIFFE id, as in `spiffe://shop.example/ns/shop/sa/*`, or a DNS name of a certificate without one.
    peers, not_peers: Peer, pattern;
    /// The trust domain of the peer's SPIFFE id.
    trust_domains, not_trust_domains: TrustDomain, |text| Ok(Value::Text(Pattern::parse(text)?.lowercase()));
    /// The path of the peer's SPIFFE id, as a template: `/ns/{*}/sa/orders`.
    peer_paths, not_peer_paths: PeerPath, path;
    /// The namespace in a SPIFFE id of Istio's form, `/ns/shop/sa/orders`.
    namespaces, not_namespaces: Namespace, pattern;
    /// The namespace and the service account in such an id, as `namespace/account`: `shop/orders`, `shop/*`.
    service_accounts, not_service_accounts: ServiceAccount, account;
}

texts! { Operation;
    /// The host's name, without regard to case and without its port.
    hosts, not_hosts: Host, |text| Ok(Value::Text(Pattern::parse(text)?.lowercase()));
    /// The path, as a template (`/orders/{id}`, `/admin/{**}`) or with a `*` at one end.
    paths, not_paths: Path, path;
}

impl Source {
    /// Anybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each of these scopes.
    ///
    /// # Errors
    ///
    /// If one of them can stand in no rule.
    pub fn all_scopes<T: AsRef<str>>(self, list: impl IntoIterator<Item = T>) -> Result<Self, InvalidValue> {
        list.into_iter().try_fold(self, |source, scope| source.scopes([scope]))
    }

    /// Each of these roles.
    ///
    /// # Errors
    ///
    /// If one of them can stand in no rule.
    pub fn all_roles<T: AsRef<str>>(self, list: impl IntoIterator<Item = T>) -> Result<Self, InvalidValue> {
        list.into_iter().try_fold(self, |source, role| source.roles([role]))
    }

    /// A claim, by name or JSON pointer; of a list, one element.
    ///
    /// # Errors
    ///
    /// If one of the values can stand in no rule.
    pub fn claim<T: AsRef<str>>(
        self,
        pointer: &str,
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidValue> {
        Ok(self.with(Attribute::Claim(pointer.into()), values(list, pattern)?, false))
    }

    /// The twin of [`claim`](Self::claim): none of these.
    ///
    /// # Errors
    ///
    /// If one of the values can stand in no rule.
    pub fn not_claim<T: AsRef<str>>(
        self,
        pointer: &str,
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidValue> {
        Ok(self.with(Attribute::Claim(pointer.into()), values(list, pattern)?, true))
    }

    /// The network of the client, as trusted proxies tell it.
    pub fn networks(self, list: impl IntoIterator<Item = IpNet>) -> Self {
        self.with(Attribute::Client, networks(list), false)
    }

    /// The twin of [`networks`](Self::networks): none of these.
    pub fn not_networks(self, list: impl IntoIterator<Item = IpNet>) -> Self {
        self.with(Attribute::Client, networks(list), true)
    }

    /// The network of whoever has the connection to us: the client, or the last proxy.
    pub fn peer_networks(self, list: impl IntoIterator<Item = IpNet>) -> Self {
        self.with(Attribute::Connected, networks(list), false)
    }

    /// The twin of [`peer_networks`](Self::peer_networks): none of these.
    pub fn not_peer_networks(self, list: impl IntoIterator<Item = IpNet>) -> Self {
        self.with(Attribute::Connected, networks(list), true)
    }
}

fn networks(list: impl IntoIterator<Item = IpNet>) -> Box<[Value]> {
    list.into_iter().map(|network| Value::Network(network.trunc())).collect()
}

impl Operation {
    /// Anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The method. gRPC calls are `POST`.
    pub fn methods(self, list: impl IntoIterator<Item = Method>) -> Self {
        self.with(Attribute::Method, methods(list), false)
    }

    /// The twin of [`methods`](Self::methods): none of these.
    pub fn not_methods(self, list: impl IntoIterator<Item = Method>) -> Self {
        self.with(Attribute::Method, methods(list), true)
    }

    /// A header field. Blanks at the ends of its value do not count, and in its name `_` is `-`, as many upstreams read it.
    ///
    /// # Errors
    ///
    /// If one of the values can stand in no rule.
    pub fn header<T: AsRef<str>>(
        self,
        name: HeaderName,
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidValue> {
        Ok(self.with(Attribute::Header(name), values(list, pattern)?, false))
    }

    /// The twin of [`header`](Self::header): none of these.
    ///
    /// # Errors
    ///
    /// If one of the values can stand in no rule.
    pub fn not_header<T: AsRef<str>>(
        self,
        name: HeaderName,
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidValue> {
        Ok(self.with(Attribute::Header(name), values(list, pattern)?, true))
    }

    /// A parameter of the query, decoded.
    ///
    /// # Errors
    ///
    /// If one of the values can stand in no rule.
    pub fn query<T: AsRef<str>>(
        self,
        name: &str,
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidValue> {
        Ok(self.with(Attribute::Query(name.into()), values(list, pattern)?, false))
    }

    /// The twin of [`query`](Self::query): none of these.
    ///
    /// # Errors
    ///
    /// If one of the values can stand in no rule.
    pub fn not_query<T: AsRef<str>>(
        self,
        name: &str,
        list: impl IntoIterator<Item = T>,
    ) -> Result<Self, InvalidValue> {
        Ok(self.with(Attribute::Query(name.into()), values(list, pattern)?, true))
    }
}

fn methods(list: impl IntoIterator<Item = Method>) -> Box<[Value]> {
    list.into_iter().map(|method| Value::Text(Pattern::exact(method.as_str()))).collect()
}
