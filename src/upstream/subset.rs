//! Parts of an upstream by the labels of its endpoints, and which one a request is for.

use std::{fmt, sync::Arc};

use http::HeaderName;

use super::Upstream;
use crate::head::Head;
#[cfg(feature = "stack")]
use crate::key::Key;

/// The endpoints that have all of these labels, `version=v2` say.
///
/// [`Upstream::subset`] is an upstream of them alone. As an extension of a request, put there by a gate of yours or by who
/// makes the call, it says of which this one is, whatever else does; by keys that [`Subsets::by`] names.
///
/// ```
/// use http::Request;
/// use portcullis::{head::Head, upstream::{Endpoint, Subset, Subsets, Upstream}};
///
/// let stock = Upstream::builder("stock")
///     .endpoint(Endpoint::new("192.0.2.1:9000").label("role", "primary"))
///     .endpoint(Endpoint::new("192.0.2.2:9000").label("role", "replica"))
///     .subsets(Subsets::new().by(["role"]))
///     .build()?;
/// let mut request = Request::get("/items/17").body(()).unwrap();
/// request.extensions_mut().insert(Subset::new([("role", "replica")]));
/// let picked = stock.pick(&Head::of(&mut request)).unwrap();
/// assert_eq!(picked.address().to_string(), "192.0.2.2:9000");
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subset(Arc<[Label]>);

type Label = (Arc<str>, Arc<str>);

impl Subset {
    /// Those with all of these labels: keys and values. Of a key that is said twice the last value counts.
    pub fn new<K: Into<Arc<str>>, V: Into<Arc<str>>>(labels: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut sorted = std::collections::BTreeMap::new();
        sorted.extend(labels.into_iter().map(|(key, value)| (key.into(), value.into())));
        Self(sorted.into_iter().collect())
    }

    /// The labels, by the order of their keys.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    pub(super) fn keys(&self) -> Keys {
        self.0.iter().map(|(key, _)| Arc::clone(key)).collect()
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.labels().map(|(key, value)| (key, value.as_bytes()))
    }
}

/// `{version=v2}`.
impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (key, value)) in self.labels().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { "," })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.labels()).finish()
    }
}

/// The keys of a subset's labels, sorted.
pub(super) type Keys = Box<[Arc<str>]>;

/// By what requests choose among the [`Subset`]s of an upstream, and what becomes of those for which there is none.
///
/// A request that names no subset can go to every endpoint. One names a subset if an extension of it is a [`Subset`], or
/// else if it is sent to an [`Upstream::subset`], or else by its [headers](Self::by_headers).
///
/// ```
/// use http::HeaderName;
/// use portcullis::upstream::{Endpoint, Fallback, Subset, Subsets, Upstream};
///
/// let orders = Upstream::builder("orders")
///     .endpoint(Endpoint::new("192.0.2.1:9000").label("version", "v1"))
///     .endpoint(Endpoint::new("192.0.2.2:9000").label("version", "v2"))
///     .subsets(
///         Subsets::new()
///             .by_headers([("version", HeaderName::from_static("x-version"))])
///             .fallback(Fallback::Default(Subset::new([("version", "v1")]))),
///     )
///     .build()?;
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Subsets {
    pub(super) selectors: Vec<Keys>,
    headers: Box<[(Arc<str>, HeaderName)]>,
    pub(super) fallback: Fallback,
}

/// What becomes of a request whose subset no endpoint is in. Whether those that are in it take requests does not matter: a
/// subset has its priorities, its zones and its panic of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fallback {
    /// It is refused.
    #[default]
    None,
    /// It can go to every endpoint.
    Any,
    /// It goes to these, and is refused if there are none either.
    Default(Subset),
}

impl Subsets {
    /// By no header, and without a fallback.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes subsets ready for requests that name them by all of these keys in an extension. What
    /// [`Upstream::subset`] and [`by_headers`](Self::by_headers) ask for is made ready in any case.
    pub fn by(mut self, keys: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().map(Into::into).collect();
        keys.sort();
        keys.dedup();
        self.selectors.push(keys.into());
        self
    }

    /// Takes from these headers the values of these labels. A request that lacks one of them names no subset; of several
    /// lines the first counts. Whoever can send such a header can choose.
    pub fn by_headers(mut self, labels: impl IntoIterator<Item = (impl Into<Arc<str>>, HeaderName)>) -> Self {
        let mut labels: Vec<_> = labels.into_iter().map(|(key, header)| (key.into(), header)).collect();
        labels.sort_by(|(one, _), (other, _)| one.cmp(other));
        labels.dedup_by(|(one, _), (other, _)| one == other);
        let keys: Vec<_> = labels.iter().map(|(key, _)| Arc::clone(key)).collect();
        self.headers = labels.into();
        self.by(keys)
    }

    /// What becomes of a request whose subset no endpoint is in. By default it is refused.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }
}

/// The subset to which all requests go.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    mark: u64,
    subset: Subset,
}

impl Upstream {
    /// The same upstream for requests that are for endpoints with these labels alone: what a route picks of an upstream, as
    /// Istio's subsets. Endpoints, connections and load are those of the whole, of which [`endpoints`](Self::endpoints)
    /// still tells all.
    ///
    /// Who is in the subset is worked out now, and whenever the set changes, so that a pick in it costs what one in the whole
    /// does.
    ///
    /// ```
    /// use portcullis::{head::Head, upstream::{Endpoint, Upstream}};
    ///
    /// let orders = Upstream::builder("orders")
    ///     .endpoint(Endpoint::new("192.0.2.1:9000").label("version", "v1"))
    ///     .endpoint(Endpoint::new("192.0.2.2:9000").label("version", "v2"))
    ///     .build()?;
    /// let second = orders.subset([("version", "v2")]);
    /// let picked = second.pick(&Head::of(&mut http::Request::new(()))).unwrap();
    /// assert_eq!(picked.address().to_string(), "192.0.2.2:9000");
    /// assert_eq!(second.variant(), "orders{version=v2}");
    /// # Ok::<(), portcullis::upstream::BuildError>(())
    /// ```
    #[must_use]
    pub fn subset<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        &self,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let subset = Subset::new(labels);
        let roster = &self.group().roster;
        roster.divide(subset.keys());
        self.of(Chosen { mark: roster.mark(subset.pairs()), subset })
    }

    /// What it is called among several that a request can go to: its name, and the labels if it is a
    /// [`subset`](Self::subset).
    #[must_use]
    pub fn variant(&self) -> String {
        match self.chosen() {
            Some(chosen) => format!("{}{}", self.name(), chosen.subset),
            None => self.name().to_owned(),
        }
    }

    /// What of a request says to which endpoint it goes: the headers of its subset, and by what it is hashed.
    #[cfg(feature = "stack")]
    pub(crate) fn chooses_by(&self) -> impl Iterator<Item = Key> {
        let rules = self.group().roster.rules();
        let headers = rules.subsets.headers.iter().map(|(_, header)| Key::Header(header.clone()));
        headers.chain(rules.balance.key().cloned())
    }

    /// The subset that a request is for, if it is for one.
    pub(super) fn marked(&self, head: &Head<'_>) -> Option<u64> {
        let roster = &self.group().roster;
        if let Some(subset) = head.extensions().get::<Subset>() {
            return Some(roster.mark(subset.pairs()));
        }
        if let Some(chosen) = self.chosen() {
            return Some(chosen.mark);
        }
        let headers = &roster.rules().subsets.headers;
        if headers.is_empty() || headers.iter().any(|(_, header)| !head.headers().contains_key(header)) {
            return None;
        }
        let value = |header| head.headers().get(header).map_or(&[][..], |value| value.as_bytes());
        Some(roster.mark(headers.iter().map(|(key, header)| (&**key, value(header)))))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::upstream::Endpoint;

    fn orders(subsets: Subsets) -> Upstream {
        let of = |port: u16, version: &str| {
            Endpoint::new(format!("127.0.0.1:{port}")).label("version", version).label("stage", "live")
        };
        let two = [of(1, "v1"), of(2, "v2")];
        Upstream::builder("orders").endpoints(two).subsets(subsets).build().unwrap()
    }

    fn port(upstream: &Upstream, request: &mut Request<()>) -> Option<u16> {
        upstream.pick(&Head::of(request)).map(|picked| picked.address().port())
    }

    fn asks(fields: &[(&'static str, &'static str)]) -> Request<()> {
        let request =
            fields.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap()
    }

    const VERSION: HeaderName = HeaderName::from_static("x-version");
    const STAGE: HeaderName = HeaderName::from_static("x-stage");

    #[test]
    fn labels_are_a_set() {
        let one = Subset::new([("b", "2"), ("a", "1"), ("b", "3")]);
        assert_eq!(one, Subset::new([("a", "1"), ("b", "3")]));
        assert_eq!(one.to_string(), "{a=1,b=3}");
        assert_ne!(one, Subset::new([("a", "1b"), ("", "3")]));
        let orders = orders(Subsets::new());
        assert_eq!(orders.variant(), "orders");
        assert_eq!(
            orders.subset([("version", "v2"), ("stage", "live")]).variant(),
            "orders{stage=live,version=v2}"
        );
    }

    /// Two sets of labels that read alike when joined are two.
    #[test]
    fn marks_tell_labels_apart() {
        let roster = &orders(Subsets::new()).group().roster.clone();
        let mark = |labels: &[(&str, &str)]| roster.mark(Subset::new(labels.iter().copied()).pairs());
        let all = [mark(&[("a", "bc")]), mark(&[("ab", "c")]), mark(&[("a", "b"), ("c", "")]), mark(&[])];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one));
        }
        let other = orders(Subsets::new());
        assert_ne!(
            mark(&[("a", "b")]),
            other.group().roster.mark([("a", &b"b"[..])].into_iter()),
            "nobody can tell them"
        );
    }

    #[test]
    fn a_header_picks_where_it_is_asked() {
        let orders = orders(Subsets::new().by_headers([("version", VERSION), ("stage", STAGE)]));
        let live = |version| asks(&[("x-version", version), ("x-stage", "live")]);
        for _ in 0..4 {
            assert_eq!(port(&orders, &mut live("v2")), Some(2));
            assert_eq!(port(&orders, &mut live("v1")), Some(1));
            assert_eq!(port(&orders, &mut live("v3")), None);
        }
        let lacks: Vec<_> = (0..2).map(|_| port(&orders, &mut asks(&[("x-version", "v2")]))).collect();
        assert_eq!(lacks, [Some(1), Some(2)], "one without all of them names no subset");
        let hostile = orders_header(&orders, &[0xff; 8000]);
        assert_eq!(hostile, None);
        let first = orders.subset([("version", "v1")]);
        assert_eq!(
            port(&first, &mut live("v2")),
            Some(1),
            "what a rule says counts more than what a caller does"
        );
    }

    fn orders_header(orders: &Upstream, value: &[u8]) -> Option<u16> {
        let request = Request::get("/").header(VERSION, value).header(STAGE, "live");
        port(orders, &mut request.body(()).unwrap())
    }

    #[test]
    fn a_word_of_our_own_counts_most() {
        let orders = orders(Subsets::new().by(["version"]));
        let mut request = asks(&[]);
        request.extensions_mut().insert(Subset::new([("version", "v2")]));
        assert!((0..4).all(|_| port(&orders, &mut request) == Some(2)));
        assert_eq!(port(&orders.subset([("version", "v1")]), &mut request), Some(2));
        request.extensions_mut().insert(Subset::new([("stage", "live"), ("version", "v2")]));
        assert_eq!(port(&orders, &mut request), None, "by keys that nobody has named");
        let both = orders.subset([("stage", "live"), ("version", "v1")]);
        assert_eq!(port(&both, &mut request), Some(2), "and somebody has named them now");
    }

    #[test]
    fn a_successor_has_its_own_subsets() {
        let before = orders(Subsets::new());
        let second = before.subset([("version", "v2")]);
        let held = second.pick(&Head::of(&mut asks(&[]))).unwrap();
        let swapped = [Endpoint::new("127.0.0.1:2").label("version", "v1")];
        let after = Upstream::builder("orders").endpoints(swapped).inherit(&before).build().unwrap();
        assert_eq!(port(&after.subset([("version", "v1")]), &mut asks(&[])), Some(2));
        assert_eq!(port(&after.subset([("version", "v2")]), &mut asks(&[])), None);
        assert_eq!(after.endpoints()[0].in_flight, 1, "with what is in flight there");
        drop(held);
        assert_eq!(port(&second, &mut asks(&[])), Some(2), "who has the old one keeps it");
    }
}
