//! The normal form of a path: one spelling for each resource, decided before anything is matched.

use std::borrow::Cow;

use crate::hex;

/// Something about a path that servers read in different ways, and that is therefore refused unless it is
/// allowed by name with [`PathPolicy::allow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathQuirk {
    /// `\` or `%5C`: some servers take it for `/`. Allowed, it is kept as `%5C`.
    Backslash,
    /// More `..` than there are segments. Allowed, the root is where it ends (RFC 3986, 5.2.4).
    ///
    /// Nothing of it is left in the normal form, so it cannot be allowed for one rule only.
    Climbing,
    /// A control byte, raw or escaped (`%00` to `%1F`, `%7F`). Allowed, it is kept escaped.
    ControlBytes,
    /// A dot segment with parameters: `..;`, `.;x=1`. Some servers cut the parameters off and then climb.
    /// Allowed, it is kept as it is.
    DotParameters,
    /// `%2F`: some servers take it for `/`. Allowed, it is kept as `%2F` and separates nothing.
    EncodedSlash,
}

impl PathQuirk {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPath {
    /// The path has an empty segment (`//`), which was kept for others and is not taken here.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `%` is not followed by two hexadecimal digits.
    #[error("the path has a malformed percent-escape")]
    Escape,
    /// The path does not begin with `/`.
    #[error("the path is not absolute")]
    NotAbsolute,
    /// The path has a quirk that its policy does not allow.
    #[error("the path has a part that servers read in different ways ({0:?})")]
    Quirk(PathQuirk),
    /// The normal form is longer than a URI can be (65,534 bytes).
    #[error("the path is too long")]
    TooLong,
}

/// How paths are normalised, and which quirks are let through. The default is [`strict`](Self::strict).
///
/// The normal form of a path: escapes of unreserved characters are decoded, once; other escapes are in upper
/// case; bytes that RFC 3986 does not allow in a path are escaped; dot segments are resolved; and runs of
/// `/` are merged, because the match values of the Gateway API cannot contain them while most servers
/// ignore them, so that `//admin` would pass beside a rule for `/admin`.
///
/// ```
/// use portcullis::matching::{BadPath, PathPolicy, PathQuirk};
///
/// let strict = PathPolicy::strict();
/// assert_eq!(strict.normalize("/%7euser//a/./b/../c%3a")?, "/~user/a/c%3A");
/// assert_eq!(strict.normalize("/a/..%2fadmin"), Err(BadPath::Quirk(PathQuirk::EncodedSlash)));
/// assert_eq!(strict.allow(PathQuirk::EncodedSlash).normalize("/a%2fb")?, "/a%2Fb");
/// # Ok::<(), BadPath>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPolicy {
    allowed: u8,
    merge: bool,
}

impl PathPolicy {
    /// Merges `//`, allows no quirk.
    #[must_use]
    pub const fn strict() -> Self {
        Self { allowed: 0, merge: true }
    }

    /// Lets `quirk` through.
    #[must_use]
    pub const fn allow(self, quirk: PathQuirk) -> Self {
        Self { allowed: self.allowed | quirk.bit(), ..self }
    }

    /// Keeps empty segments (`//`) as they are.
    ///
    /// Needed where they name something, as in the keys of an object store. No match value can contain them.
    #[must_use]
    pub const fn keep_empty_segments(self) -> Self {
        Self { merge: false, ..self }
    }

    /// What either policy lets through.
    ///
    /// Paths are normalised before a rule is known. So a listener normalises by the union of its rules'
    /// policies, and a rule that allows less [accepts](Self::accept) only what its own has for a normal form.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self { allowed: self.allowed | other.allowed, merge: self.merge && other.merge }
    }

    /// Whether `quirk` is let through.
    #[must_use]
    pub const fn allows(self, quirk: PathQuirk) -> bool {
        self.allowed & quirk.bit() != 0
    }

    /// The normal form of `path`, which is borrowed if `path` is in it already.
    ///
    /// Linear in the length of `path`; the result is at most three times as long.
    ///
    /// # Errors
    ///
    /// If `path` is malformed, or has a quirk that this policy does not allow.
    pub fn normalize(self, path: &str) -> Result<Cow<'_, str>, BadPath> {
        if self.is_plainly_normal(path.as_bytes()) {
            return Ok(Cow::Borrowed(path));
        }
        let normal = self.rewrite(path)?;
        Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
    }

    /// Whether `path`, by which a rule was matched, is what this policy would have made of it.
    ///
    /// It is not changed any more: a rule that was found for `//admin` must not serve `/admin`.
    ///
    /// # Errors
    ///
    /// If `path` is malformed, or has a quirk or an empty segment that this policy does not keep.
    pub fn accept(self, path: &str) -> Result<(), BadPath> {
        match self.normalize(path)? {
            Cow::Borrowed(_) => Ok(()),
            Cow::Owned(_) => Err(BadPath::EmptySegment),
        }
    }

    /// `true` only for a normal path; `false` means that a closer look is needed.
    fn is_plainly_normal(self, path: &[u8]) -> bool {
        if path.first() != Some(&b'/') {
            return false;
        }
        if is_simple(path) {
            return true;
        }
        let mut at = 0;
        while let Some(&byte) = path.get(at) {
            at += match byte {
                b'/' => match path.get(at + 1) {
                    Some(b'/') if self.merge => return false,
                    Some(b'.') if may_be_dot_segment(&path[at + 1..]) => return false,
                    _ => 1,
                },
                b'%' => match path.get(at + 1..at + 3).and_then(upper_hex) {
                    Some(byte) if !is_unreserved(byte) && quirk_of(byte).is_none() => 3,
                    _ => return false,
                },
                byte if is_path_byte(byte) => 1,
                _ => return false,
            }
        }
        true
    }

    fn rewrite(self, path: &str) -> Result<String, BadPath> {
        let mut rest = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        let mut out = String::with_capacity(path.len());
        loop {
            let (segment, tail) = match rest.split_once('/') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (rest, None),
            };
            self.push_segment(&mut out, segment, tail.is_none())?;
            match tail {
                Some(tail) => rest = tail,
                None => return Ok(out),
            }
        }
    }

    /// Appends `/segment` to `out`, or does what a dot or an empty segment says.
    fn push_segment(self, out: &mut String, segment: &str, is_last: bool) -> Result<(), BadPath> {
        let start = out.len();
        out.push('/');
        self.decode_into(out, segment)?;
        match &out[start + 1..] {
            "." => out.truncate(start),
            ".." => {
                out.truncate(start);
                match out.rfind('/') {
                    Some(parent) => out.truncate(parent),
                    None => self.require(PathQuirk::Climbing)?,
                }
            }
            "" if self.merge && !is_last => {
                out.truncate(start);
                return Ok(());
            }
            decoded => {
                if has_dot_parameters(decoded) {
                    self.require(PathQuirk::DotParameters)?;
                }
                return Ok(());
            }
        }
        if is_last {
            out.push('/');
        }
        Ok(())
    }

    fn decode_into(self, out: &mut String, segment: &str) -> Result<(), BadPath> {
        let bytes = segment.as_bytes();
        let mut at = 0;
        while let Some(&raw) = bytes.get(at) {
            let is_escape = raw == b'%';
            let byte = if is_escape {
                bytes.get(at + 1..at + 3).and_then(hex::byte).ok_or(BadPath::Escape)?
            } else {
                raw
            };
            at += if is_escape { 3 } else { 1 };
            if let Some(quirk) = quirk_of(byte) {
                self.require(quirk)?;
            }
            if is_unreserved(byte) || (!is_escape && is_path_byte(byte)) {
                out.push(char::from(byte));
            } else {
                push_escape(out, byte);
            }
        }
        Ok(())
    }

    const fn require(self, quirk: PathQuirk) -> Result<(), BadPath> {
        if self.allows(quirk) { Ok(()) } else { Err(BadPath::Quirk(quirk)) }
    }
}

impl Default for PathPolicy {
    fn default() -> Self {
        Self::strict()
    }
}

/// The quirk of a single byte. A raw `/` never gets here: it separates segments.
const fn quirk_of(byte: u8) -> Option<PathQuirk> {
    match byte {
        b'/' => Some(PathQuirk::EncodedSlash),
        b'\\' => Some(PathQuirk::Backslash),
        0..=0x1f | 0x7f => Some(PathQuirk::ControlBytes),
        _ => None,
    }
}

/// RFC 3986, 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986, 3.3, without escapes.
const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

/// Whether a path has only segments that neither are empty nor begin with a dot, and no escapes: most have.
fn is_simple(path: &[u8]) -> bool {
    // Without an early end and without a branch, so that no byte waits for the one before.
    let (mut found, mut before) = (0, KINDS[usize::from(b'a')]);
    for byte in path {
        let kind = KINDS[usize::from(*byte)];
        found |= kind & before >> 4;
        before = kind;
    }
    found == 0
}

/// What a byte of a path is, in the low half, and in the high half what may not follow it.
static KINDS: [u8; 256] = {
    const NO_BEGIN: u8 = 1; // of a segment
    const OTHER: u8 = 2;
    let mut table = [OTHER | OTHER << 4; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] |= match byte as u8 {
            b'/' => NO_BEGIN | NO_BEGIN << 4,
            b'.' => NO_BEGIN,
            _ => 0,
        };
        if byte as u8 == b'/' || is_path_byte(byte as u8) {
            table[byte] &= !OTHER;
        }
        byte += 1;
    }
    table
};

/// `segment` begins with `.`, and what follows at most two dots ends a dot segment, or might once decoded.
fn may_be_dot_segment(segment: &[u8]) -> bool {
    let dots = segment.iter().take(2).take_while(|byte| **byte == b'.').count();
    matches!(segment.get(dots), None | Some(b'/' | b';' | b'%'))
}

fn has_dot_parameters(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('.') else { return false };
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    rest.starts_with(';') || rest.starts_with("%3B")
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

fn upper_hex(digits: &[u8]) -> Option<u8> {
    if digits.iter().any(u8::is_ascii_lowercase) { None } else { hex::byte(digits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRICT: PathPolicy = PathPolicy::strict();

    fn everything() -> PathPolicy {
        STRICT
            .allow(PathQuirk::Backslash)
            .allow(PathQuirk::Climbing)
            .allow(PathQuirk::ControlBytes)
            .allow(PathQuirk::DotParameters)
            .allow(PathQuirk::EncodedSlash)
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/d;v=1",
            "/.well-known/x",
            "/..a/.b/...",
            "/a%20b/%C3%A9",
            "/@:!$&'()*+,;=~-_",
            "/%252e%252e/x",
        ] {
            let normal = STRICT.normalize(path).unwrap();
            assert!(matches!(normal, Cow::Borrowed(_)), "{path} became {normal}");
        }
    }

    #[test]
    fn spellings_of_one_resource_become_one() {
        for (path, normal) in [
            ("/%61%2D%2e%5F%7e", "/a-._~"),
            ("/a%3ab%c3%a9", "/a%3Ab%C3%A9"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a//../b", "/b"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/\u{e9}", "/%C3%A9"),
            ("/a b{c}|^`\"<>[]", "/a%20b%7Bc%7D%7C%5E%60%22%3C%3E%5B%5D"),
            ("/%25%32%65", "/%252e"),
        ] {
            assert_eq!(STRICT.normalize(path).unwrap(), normal, "{path}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for (path, quirk) in [
            ("/a%2fb", PathQuirk::EncodedSlash),
            ("/a%2Fb", PathQuirk::EncodedSlash),
            ("/..%2fa", PathQuirk::EncodedSlash),
            ("/a%5cb", PathQuirk::Backslash),
            ("/a\\b", PathQuirk::Backslash),
            ("/a%00", PathQuirk::ControlBytes),
            ("/a%0d%0aX: y", PathQuirk::ControlBytes),
            ("/a\u{7f}", PathQuirk::ControlBytes),
            ("/a\tb", PathQuirk::ControlBytes),
            ("/a/..;/b", PathQuirk::DotParameters),
            ("/a/..;x=1", PathQuirk::DotParameters),
            ("/a/.;/b", PathQuirk::DotParameters),
            ("/a/%2e%2e;/b", PathQuirk::DotParameters),
            ("/a/..%3b/b", PathQuirk::DotParameters),
            ("/..", PathQuirk::Climbing),
            ("/../a", PathQuirk::Climbing),
            ("/a/../../b", PathQuirk::Climbing),
            ("/%2e%2e/a", PathQuirk::Climbing),
        ] {
            assert_eq!(STRICT.normalize(path), Err(BadPath::Quirk(quirk)), "{path}");
            let lenient = STRICT.allow(quirk);
            assert!(lenient.normalize(path).is_ok() || path.contains(' '), "{path}");
        }
    }

    #[test]
    fn an_allowed_quirk_is_kept_in_its_escaped_form() {
        for (path, normal) in [
            ("/a%2fb", "/a%2Fb"),
            ("/a\\b%5c", "/a%5Cb%5C"),
            ("/a%00", "/a%00"),
            ("/a/..;/b", "/a/..;/b"),
            ("/../../a", "/a"),
            ("/..", "/"),
        ] {
            assert_eq!(everything().normalize(path).unwrap(), normal, "{path}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for path in ["/%", "/%2", "/%zz", "/a%2/b", "/%+1", "/%1\u{e9}"] {
            assert_eq!(STRICT.normalize(path), Err(BadPath::Escape), "{path}");
        }
        for path in ["", "a", "*", "?", "http://x"] {
            assert_eq!(STRICT.normalize(path), Err(BadPath::NotAbsolute), "{path}");
        }
    }

    #[test]
    fn empty_segments_can_be_kept() {
        let keep = STRICT.keep_empty_segments();
        assert_eq!(keep.normalize("//a//b//").unwrap(), "//a//b//");
        assert_eq!(keep.normalize("/a//../b").unwrap(), "/a/b");
        assert_eq!(keep.union(STRICT), keep);
    }

    #[test]
    fn a_rule_that_allows_less_refuses_what_the_listener_let_through() {
        let rule = STRICT.allow(PathQuirk::EncodedSlash);
        let listener = rule.union(STRICT);
        let normal = listener.normalize("/a%2fb").unwrap();
        assert_eq!(rule.normalize(&normal).unwrap(), normal);
        assert_eq!(STRICT.normalize(&normal), Err(BadPath::Quirk(PathQuirk::EncodedSlash)));
        assert_eq!((rule.accept(&normal), STRICT.accept("/a/b/")), (Ok(()), Ok(())));
        assert_eq!(STRICT.accept(&normal), Err(BadPath::Quirk(PathQuirk::EncodedSlash)));
    }

    #[test]
    fn a_rule_that_merges_does_not_serve_what_was_matched_unmerged() {
        let keep = STRICT.keep_empty_segments();
        for path in ["//admin", "/a//b", "/a//"] {
            assert_eq!(
                (STRICT.accept(path), keep.accept(path)),
                (Err(BadPath::EmptySegment), Ok(())),
                "{path}"
            );
        }
    }

    /// Paths made of the pieces that matter.
    fn paths() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/".to_owned()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%5c".to_owned()),
            Just("\\".to_owned()),
            Just(";".to_owned()),
            Just("%25".to_owned()),
            Just("%".to_owned()),
            Just("%00".to_owned()),
            "[a-zA-Z0-9]{1,3}",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    fn policies() -> impl Strategy<Value = PathPolicy> {
        (0u8..32, any::<bool>()).prop_map(|(allowed, merge)| PathPolicy { allowed, merge })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_normal_form_is_stable_and_safe(path in paths(), policy in policies()) {
            if let Ok(normal) = policy.normalize(&path) {
                prop_assert_eq!(policy.normalize(&normal).unwrap(), normal.clone());
                prop_assert!(normal.starts_with('/') && normal.is_ascii());
                prop_assert!(normal.len() <= 3 * path.len());
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(normal.bytes().all(|byte| byte == b'/' || byte == b'%' || is_path_byte(byte)));
                prop_assert!(!policy.merge || !normal.contains("//"));
            }
        }

        #[test]
        fn only_an_empty_segment_has_another_normal_form(
            path in paths(), other in policies(), rule in policies(),
        ) {
            let listener = other.union(rule);
            if let Ok(normal) = listener.normalize(&path)
                && rule.accept(&normal) == Err(BadPath::EmptySegment)
            {
                prop_assert!(!listener.merge && rule.merge && normal.contains("//"));
            }
        }

        #[test]
        fn the_strict_form_has_no_quirk(path in paths()) {
            if let Ok(normal) = STRICT.normalize(&path) {
                for quirk in ["%2F", "%2f", "%5C", "%5c", "%00", "\\", "..;", "//"] {
                    let in_name = quirk == "..;" && !normal.contains("/..;");
                    prop_assert!(in_name || !normal.contains(quirk), "{}", normal);
                }
            }
        }

        #[test]
        fn the_quick_look_agrees_with_the_close_one(path in paths(), policy in policies()) {
            if policy.is_plainly_normal(path.as_bytes()) {
                prop_assert_eq!(policy.rewrite(&path).unwrap(), path);
            }
        }

        #[test]
        fn any_text_is_taken_without_a_panic(path in any::<String>(), policy in policies()) {
            let _ = policy.normalize(&path).is_ok();
        }
    }
}
