//! What a certificate's names look like, each kind of them as no other does: where a name stands alone, as a principal's or in a
//! log, nobody can tell any more of which kind it was.

/// Letters, digits, `-`, `_`, `.` and `*`: as RFC 5280 section 4.2.1.6 has them, and what people write.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
    (1..=253).contains(&name.len()) && name.bytes().all(plain)
}

/// A scheme and a colon come first (RFC 3986 section 3). A SPIFFE ID is another kind.
pub(super) fn is_uri(name: &str) -> bool {
    let Some((scheme, _)) = name.split_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(plain)
        && !scheme.eq_ignore_ascii_case("spiffe")
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Letters and signs that stand for themselves (RFC 5322 section 3.2.3), but for `=`, and an `@` between them and a host.
pub(super) fn is_mail(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/?^_`{|}~.".contains(&byte);
    name.split_once('@')
        .is_some_and(|(local, host)| !local.is_empty() && local.bytes().all(plain) && is_dns_name(host))
}

/// A type and a `=` come first, with a `/` before them if the oldest form was written.
pub(super) fn is_distinguished(name: &str) -> bool {
    let Some((kind, _)) = name.split_once('=') else { return false };
    let kind = kind.strip_prefix('/').unwrap_or(kind);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !kind.is_empty() && kind.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What it is, by all that say so.
    fn kinds(name: &str) -> Vec<&'static str> {
        let all = [
            ("spiffe", name.parse::<crate::identity::SpiffeId>().is_ok()),
            ("dns", is_dns_name(name)),
            ("uri", is_uri(name)),
            ("mail", is_mail(name)),
            ("distinguished", is_distinguished(name)),
        ];
        all.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect()
    }

    #[test]
    fn a_name_is_of_one_kind() {
        for (name, kind) in [
            ("spiffe://mesh.local/web", Some("spiffe")),
            ("orders.shop.svc", Some("dns")),
            ("*.shop.example", Some("dns")),
            ("https://shop.example/orders", Some("uri")),
            ("urn:uuid:1", Some("uri")),
            ("ops@shop.example", Some("mail")),
            ("ops+a.b/c@shop.example", Some("mail")),
            ("CN=orders", Some("distinguished")),
            ("CN=spiffe://mesh.local/web", Some("distinguished")),
            ("CN=a@b.example,O=Shop", Some("distinguished")),
            ("2.5.4.3=#0c01", Some("distinguished")),
            ("/C=US/CN=orders", Some("distinguished")),
            // What could be taken for something else is nothing.
            ("Spiffe://mesh.local/web", None),
            ("SPIFFE:x", None),
            ("spiffe:", None),
            ("spiffe://mesh.local/web@a.example", None),
            ("spiffe://mesh.local/web?a=b", None),
            ("spiffe=a:b@c", Some("distinguished")),
            ("CN=orders@shop.example", Some("distinguished")),
            ("a:b@c.example", Some("uri")),
            ("\"spiffe://d/w\"@a.example", None),
            ("a@b@c", None),
            ("a@spiffe://d/w", None),
            ("@a.example", None),
            ("=a", None),
            ("a b=c", None),
            ("https://a b", None),
            (" spiffe://mesh.local/web", None),
            ("", None),
            ("é.example", None),
        ] {
            assert_eq!(kinds(name), kind.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_is_of_two(name in "(spiffe://|CN=|urn:|[a-z@:=/.é \\\\\"?-]){0,12}") {
            prop_assert!(kinds(&name).len() <= 1, "{:?}", kinds(&name));
        }
    }
}
