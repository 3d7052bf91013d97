//! Strangers' bytes as one safe, bounded word of a log line.

use percent_encoding::percent_decode;
use std::{borrow::Cow, fmt};

/// As [`Safe`] writes it; most are it already.
pub(super) fn safe(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(Safe { bytes: text.as_bytes(), max }.to_string())
}

/// As [`safe`], of bytes that may be no text.
pub(super) fn safe_bytes(bytes: &[u8], max: usize) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => safe(text, max),
        Err(_) => Cow::Owned(Safe { bytes, max }.to_string()),
    }
}

/// As [`safe`], each of these words.
pub(super) fn safe_words(text: &str, max: usize) -> String {
    let cut = text.len() > max;
    let text = &text.as_bytes()[..text.len().min(max)];
    let words = text.split(|byte| *byte == b' ').map(|word| safe_bytes(word, max));
    words.collect::<Vec<_>>().join(" ") + if cut { "..." } else { "" }
}

/// Writes bytes as visible ASCII: all else, and what quotes or escapes in a log, as `%XX`; at most `max`
/// bytes of the input, then `...`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Safe<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) max: usize,
}

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.bytes.len() > self.max;
        let bytes = if cut { &self.bytes[..self.max] } else { self.bytes };
        for run in bytes.chunk_by(|a, b| is_plain(*a) == is_plain(*b)) {
            match std::str::from_utf8(run) {
                Ok(text) if is_plain(run[0]) => f.write_str(text)?,
                _ => run.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?,
            }
        }
        if cut { f.write_str("...") } else { Ok(()) }
    }
}

fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = !matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b'<' | b'>');
        byte += 1;
    }
    table
};

/// The host of an authority or of a `Host` value: without credentials, which end at the last `@`.
pub(super) fn without_userinfo(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|&byte| byte == b'@') {
        Some(at) => &authority[at + 1..],
        None => authority,
    }
}

/// Parameter names whose values are never written, compared without regard to case, `-` or `_`.
pub(super) const SECRET_PARAMETERS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "assertion",
    "auth",
    "authorization",
    "clientassertion",
    "clientsecret",
    "code",
    "codeverifier",
    "credential",
    "credentials",
    "idtoken",
    "jwt",
    "key",
    "pass",
    "passwd",
    "password",
    "refreshtoken",
    "samlresponse",
    "secret",
    "session",
    "sessionid",
    "sig",
    "signature",
    "state",
    "ticket",
    "token",
    "xamzcredential",
    "xamzsecuritytoken",
    "xamzsignature",
    "xgoogcredential",
    "xgoogsignature",
];

/// A query with the values of secret parameters replaced by `***`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redacted<'a> {
    pub(super) query: &'a str,
    pub(super) also: &'a [Box<str>],
    pub(super) max: usize,
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.max;
        for (i, pair) in self.query.split('&').enumerate() {
            if left == 0 {
                return f.write_str("...");
            }
            if i > 0 {
                f.write_str("&")?;
            }
            let (name, value) = pair.split_once('=').map_or((pair, None), |(n, v)| (n, Some(v)));
            // A bare word has no name to judge it by.
            let text = if value.is_some() && self.is_secret(name) { name } else { pair };
            write!(f, "{}", Safe { bytes: text.as_bytes(), max: left })?;
            if text.len() < pair.len() {
                f.write_str("=***")?;
            }
            left = left.saturating_sub(text.len() + 1);
        }
        Ok(())
    }
}

impl Redacted<'_> {
    fn is_secret(&self, name: &str) -> bool {
        // Longer than any name that is looked for, even if each byte of it were escaped.
        if name.len() > 3 * MAX_NAME {
            return true;
        }
        let name = squeeze(percent_decode(name.as_bytes()));
        SECRET_PARAMETERS.contains(&name.as_str()) || self.also.iter().any(|also| **also == *name)
    }
}

const MAX_NAME: usize = 64;

/// A parameter's name in the form in which names are compared.
pub(super) fn squeeze(name: impl IntoIterator<Item = u8>) -> String {
    let kept = name.into_iter().filter(|byte| byte.is_ascii_alphanumeric());
    kept.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(query: &str) -> String {
        Redacted { query, also: &["tan".into()], max: 1024 }.to_string()
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(safe("/api/v1/items/42~a", 64), "/api/v1/items/42~a");
    }

    #[test]
    fn what_breaks_a_line_is_escaped() {
        assert_eq!(safe("/a\"b\\c\r\nd \x1b[0m", 64), "/a%22b%5Cc%0D%0Ad%20%1B[0m");
        assert_eq!(safe("/\u{e4}\u{2028}", 64), "/%C3%A4%E2%80%A8");
    }

    #[test]
    fn it_is_bounded() {
        assert_eq!(safe("abcdef", 6), "abcdef");
        assert_eq!(safe("abcdefg", 6), "abcdef...");
        assert_eq!(safe("", 0), "");
    }

    #[test]
    fn userinfo_is_never_shown() {
        assert_eq!(without_userinfo(b"user:pa@ss@shop.example:80"), b"shop.example:80");
        assert_eq!(without_userinfo(b"shop.example"), b"shop.example");
    }

    #[test]
    fn secret_values_are_hidden() {
        assert_eq!(redacted("a=1&access_token=abc&b=2"), "a=1&access_token=***&b=2");
        assert_eq!(redacted("API-Key=x"), "API-Key=***");
        assert_eq!(redacted("access%5Ftoken=x"), "access%5Ftoken=***");
        assert_eq!(redacted("X-Amz-Signature=abc=&q=%0a"), "X-Amz-Signature=***&q=%0a");
        assert_eq!(redacted("tan=123"), "tan=***");
        assert_eq!(redacted("plain"), "plain");
        assert_eq!(redacted(""), "");
    }

    #[test]
    fn a_name_too_long_to_judge_is_hidden() {
        let query = format!("{}=abc", "n".repeat(200));
        assert!(redacted(&query).ends_with("=***"));
    }

    #[test]
    fn a_long_query_is_cut() {
        let text = Redacted { query: "a=1&b=2&c=3&d=4", also: &[], max: 8 }.to_string();
        assert_eq!(text, "a=1&b=2...");
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_safe_word(bytes in proptest::collection::vec(any::<u8>(), 0..300), max in 0_usize..200) {
            let text = safe_bytes(&bytes, max);
            prop_assert_eq!(&text, &Safe { bytes: &bytes, max }.to_string());
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'));
            prop_assert!(text.len() <= 3 * max + 3);
        }

        #[test]
        fn no_secret_is_ever_written(secret in "[A-Z]{12,20}", before in "[a-z=]{0,10}", after in "[a-z=&%]{0,10}") {
            let query = format!("{before}&token={secret}&{after}");
            prop_assert!(!redacted(&query).contains(&secret));
        }
    }
}
