use std::borrow::Cow;
use std::cmp::Ordering;

use http::{HeaderMap, HeaderName};

/// Names removed in one pass over the headers.
const BATCH: usize = 8;

/// The header names that we assert to upstreams, and that no stranger may therefore bring along.
///
/// If a layer tells the upstream who the user is in `x-user`, every request that comes in with an `x-user` of
/// its own is a lie. And since many upstreams turn header names into variables (CGI, WSGI, Rack, PHP), where
/// `-` becomes `_`, an `x_user` is the same lie: names are compared with `_` equal to `-`, and without case.
///
/// ```
/// use http::{HeaderMap, HeaderName, header::HOST};
/// use portcullis::identity::AssertedHeaders;
///
/// let asserted = AssertedHeaders::new([HeaderName::from_static("x-user")]);
/// let mut headers = HeaderMap::new();
/// headers.insert(HOST, "shop.example".parse()?);
/// headers.insert("X-User", "root".parse()?);
/// headers.insert("x_user", "root".parse()?);
///
/// asserted.strip(&mut headers);
/// assert_eq!(headers.len(), 1);
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssertedHeaders {
    /// Sorted by [`compare`] and without repetition.
    names: Box<[HeaderName]>,
    /// A bit for each length that they have: most other names are told apart by their length alone.
    lengths: u64,
}

/// The bit for this length; the last one stands for all that are longer.
const fn length_bit(name: &str) -> u64 {
    1 << if name.len() < 63 { name.len() } else { 63 }
}

impl AssertedHeaders {
    /// A set of these names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by(compare);
        names.dedup_by(|a, b| compare(a, b).is_eq());
        let lengths = names.iter().fold(0, |bits, name| bits | length_bit(name.as_str()));
        Self { names: names.into(), lengths }
    }

    /// The names.
    #[cfg(feature = "stack")]
    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// Whether nothing is asserted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether this name, with `_` equal to `-`, is asserted.
    #[must_use]
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.find(name).is_some()
    }

    /// The asserted name, which may be spelled otherwise.
    fn find(&self, name: &HeaderName) -> Option<&HeaderName> {
        if self.lengths & length_bit(name.as_str()) == 0 {
            return None;
        }
        self.names.binary_search_by(|own| compare(own, name)).ok().map(|at| &self.names[at])
    }

    /// Removes every asserted header, all its lines and all its spellings, and tells how many names went.
    ///
    /// It takes one pass over the headers for each eight names found. It allocates nothing, but for spellings
    /// that are not the asserted one. Request trailers need it as well.
    pub fn strip(&self, headers: &mut HeaderMap) -> usize {
        let mut removed = 0;
        // As nearly always: it costs less to see that there is nothing than to make room for what there is.
        if !headers.keys().any(|name| self.contains(name)) {
            return removed;
        }
        loop {
            // The map cannot be changed while it is read.
            let mut batch = [const { None }; BATCH];
            let mut asserted = headers.keys().filter_map(|name| self.find(name).map(|own| (own, name)));
            for place in &mut batch {
                let Some((own, name)) = asserted.next() else { break };
                *place = Some(if own == name { Cow::Borrowed(own) } else { Cow::Owned(name.clone()) });
            }
            let found = batch.iter().flatten().count();
            for name in batch.iter().flatten() {
                headers.remove(name.as_ref());
            }
            removed += found;
            if found < BATCH {
                return removed;
            }
        }
    }
}

impl FromIterator<HeaderName> for AssertedHeaders {
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        Self::new(names)
    }
}

/// Orders names by length, so that most comparisons end there, and then by bytes with `_` as `-`.
fn compare(a: &HeaderName, b: &HeaderName) -> Ordering {
    // A `HeaderName` is lower-case already.
    let (a, b) = (a.as_str(), b.as_str());
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    a.len().cmp(&b.len()).then_with(|| a.bytes().map(dashed).cmp(b.bytes().map(dashed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn underscores_are_dashes_on_both_sides() {
        let asserted = AssertedHeaders::new([name("x-user-id"), name("x_tenant")]);
        for spelling in ["x-user-id", "x_user_id", "x-user_id", "X_USER-ID", "x-tenant", "x_tenant"] {
            assert!(asserted.contains(&name(spelling)), "{spelling}");
        }
        for other in ["x-user-i", "x-user-idd", "xuserid", "x--user-id", "x-user.id", "host"] {
            assert!(!asserted.contains(&name(other)), "{other}");
        }
    }

    #[test]
    fn strips_all_lines_of_all_spellings() {
        let asserted = AssertedHeaders::new([name("a-b-c-d-e-f")]);
        let mut headers = HeaderMap::new();
        for bits in 0..32u32 {
            let spelling: String = (0..11u32)
                .map(|at| match at {
                    _ if at % 2 == 0 => char::from(b'a' + u8::try_from(at / 2).unwrap()),
                    _ if bits >> (at / 2) & 1 == 1 => '_',
                    _ => '-',
                })
                .collect();
            for line in 0..3 {
                headers.append(name(&spelling), HeaderValue::from(line));
            }
        }
        headers.insert("kept", HeaderValue::from(1));
        assert_eq!(headers.len(), 97);
        assert_eq!(asserted.strip(&mut headers), 32);
        assert_eq!(headers.len(), 1);
        assert_eq!(asserted.strip(&mut headers), 0);
    }

    proptest! {
        #[test]
        fn strips_what_is_asserted_and_nothing_else(
            asserted in prop::collection::vec("[ab_-]{1,4}", 0..6),
            brought in prop::collection::vec("[ab_-]{1,4}", 0..40),
        ) {
            let dashed: Vec<_> = asserted.iter().map(|name| name.replace('_', "-")).collect();
            let set: AssertedHeaders = asserted.iter().map(|text| name(text)).collect();
            let mut headers = HeaderMap::new();
            let mut kept = HeaderMap::new();
            for text in &brought {
                headers.append(name(text), HeaderValue::from(1));
                if !dashed.contains(&text.replace('_', "-")) {
                    kept.append(name(text), HeaderValue::from(1));
                }
            }
            set.strip(&mut headers);
            prop_assert_eq!(headers, kept);
        }
    }
}
