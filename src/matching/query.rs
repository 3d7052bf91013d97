//! Query parameters, read in place: `application/x-www-form-urlencoded`, the first of a name counts.

use std::borrow::Cow;

use super::Text;
use crate::hex;

/// Whether the first parameter called `name` has a value that `text` matches.
pub(super) fn matches(query: &str, name: &str, text: &Text) -> bool {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let Some((_, value)) = pairs.find(|(raw, _)| decode(raw.as_bytes()).eq(name.bytes())) else {
        return false;
    };
    match text.as_exact() {
        Some(exact) => decode(value.as_bytes()).eq(exact.bytes()),
        None => text.matches(&decoded(value.as_bytes())),
    }
}

/// The values of all parameters called `name`, decoded, in their order.
#[cfg(feature = "admission")]
pub(crate) fn values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Cow<'q, [u8]>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .filter(|(raw, _)| decode(raw.as_bytes()).eq(name.bytes()))
        .map(|(_, value)| decoded(value.as_bytes()))
}

/// The bytes that `raw` stands for. A malformed escape stands for itself.
fn decode(raw: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if first == b'%'
            && let Some(byte) = tail.get(..2).and_then(hex::byte)
        {
            rest = &tail[2..];
            return Some(byte);
        }
        rest = tail;
        Some(if first == b'+' { b' ' } else { first })
    })
}

/// A name or value as it is meant. Upstreams decode before they compare, and so must whoever looks for a name here.
pub(crate) fn decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        Cow::Owned(decode(raw).collect())
    } else {
        Cow::Borrowed(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let is = |query, name, value: &str| matches(query, name, &Text::exact(value));
        assert!(is("a=1&a=2", "a", "1") && !is("a=1&a=2", "a", "2"));
        assert!(is("b&a=", "a", "") && is("b&a=", "b", "") && !is("b&a=", "c", ""));
        assert!(is("a=x=y", "a", "x=y"));
        assert!(is("&&a=1", "a", "1"));
    }

    #[test]
    fn names_and_values_are_decoded() {
        let is = |query, name, value: &str| matches(query, name, &Text::exact(value));
        assert!(is("q%5B%5d=a+b%26c", "q[]", "a b&c"));
        assert!(is("a=100%&b=%zz%4", "a", "100%") && is("a=100%&b=%zz%4", "b", "%zz%4"));
        assert!(is("n=%C3%A9", "n", "\u{e9}"));
        assert!(!is("a%3D1", "a", "1"));
    }

    #[cfg(feature = "routing")]
    #[test]
    fn patterns_see_the_decoded_value() {
        let text = Text::regex("[a-z]+ [0-9]").unwrap();
        assert!(matches("v=abc+%31", "v", &text) && !matches("v=abc", "v", &text));
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(query in any::<String>(), name in any::<String>()) {
            let _ = matches(&query, &name, &Text::exact(""));
        }
    }
}
