//! The `HTTPPathModifier` of rewrites and redirects.

use std::borrow::Cow;

use crate::matching::{PathPolicy, PathQuirk};

/// A text is no path, or no prefix of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path: it must begin with \"/\", and have no query, fragment or dot segments")]
pub struct InvalidPath(Box<str>);

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Full(Box<str>),
    /// Both without a slash at their end; so they are empty for `/`.
    Prefix {
        matched: Box<str>,
        replacement: Box<str>,
    },
}

impl PathChange {
    /// `ReplaceFullPath`: this path instead.
    ///
    /// # Errors
    ///
    /// If `path` is none.
    pub fn full(path: &str) -> Result<Self, InvalidPath> {
        normal(path).map(|path| Self(Kind::Full(path.into())))
    }

    /// `ReplacePrefixMatch`: `replacement` instead of the prefix `matched`, which is that of the rule's one
    /// `PathPrefix` match.
    ///
    /// Prefixes are whole segments, and a slash at their end does not matter. An empty replacement takes the
    /// prefix away. What does not have the prefix is left as it is.
    ///
    /// | path | matched | replacement | becomes |
    /// |---|---|---|---|
    /// | `/foo/bar` | `/foo` | `/xyz` | `/xyz/bar` |
    /// | `/foo` | `/foo` | `/xyz` | `/xyz` |
    /// | `/foo/` | `/foo` | `/xyz` | `/xyz/` |
    /// | `/foo/bar` | `/foo` | (empty) or `/` | `/bar` |
    /// | `/foo` or `/foo/` | `/foo` | (empty) or `/` | `/` |
    ///
    /// # Errors
    ///
    /// If `matched` is no path, or `replacement` is neither a path nor empty.
    pub fn prefix(matched: &str, replacement: &str) -> Result<Self, InvalidPath> {
        let trimmed = |path: &str| normal(path).map(|path| path.trim_end_matches('/').into());
        let replacement = if replacement.is_empty() { "".into() } else { trimmed(replacement)? };
        Ok(Self(Kind::Prefix { matched: trimmed(matched)?, replacement }))
    }

    /// `path` as it is to be. Borrowed, unless it is put together from two parts.
    #[must_use]
    pub fn apply<'p>(&'p self, path: &'p str) -> Cow<'p, str> {
        let (matched, replacement) = match &self.0 {
            Kind::Full(path) => return Cow::Borrowed(path),
            Kind::Prefix { matched, replacement } => (&**matched, &**replacement),
        };
        let rest = path.strip_prefix(matched).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (replacement, rest) {
            (_, None) => Cow::Borrowed(path),
            ("", Some("")) => Cow::Borrowed("/"),
            ("", Some(rest)) => Cow::Borrowed(rest),
            (replacement, Some("")) => Cow::Borrowed(replacement),
            (replacement, Some(rest)) => Cow::Owned([replacement, rest].concat()),
        }
    }
}

/// Who writes a configuration may well mean `//` or `%2F`.
fn normal(path: &str) -> Result<String, InvalidPath> {
    const POLICY: PathPolicy = PathPolicy::strict().keep_empty_segments().allow(PathQuirk::EncodedSlash);
    let invalid = || InvalidPath(path.into());
    if path.contains(['?', '#']) || path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(invalid());
    }
    POLICY.normalize(path).map(String::from).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table in the documentation of `HTTPPathModifier`, whole.
    #[test]
    fn prefixes_are_replaced_as_the_standard_says() {
        for (path, matched, replacement, modified) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
        ] {
            let change = PathChange::prefix(matched, replacement).unwrap();
            assert_eq!(change.apply(path), modified, "{path} {matched} {replacement}");
        }
    }

    #[test]
    fn beside_the_table() {
        let change = |matched, replacement| PathChange::prefix(matched, replacement).unwrap();
        assert_eq!(change("/foo", "/xyz").apply("/foobar"), "/foobar");
        assert_eq!(change("/", "/xyz").apply("/foo"), "/xyz/foo");
        assert_eq!(change("/", "/xyz").apply("/"), "/xyz/");
        assert_eq!(change("/", "/").apply("/foo"), "/foo");
        assert_eq!(change("/%66oo", "/%7exyz").apply("/foo/a"), "/~xyz/a");
        assert_eq!(PathChange::full("/a%2fb").unwrap().apply("/x/y"), "/a%2Fb");
    }

    #[test]
    fn texts_that_are_no_paths_are_refused() {
        for path in ["a", "/a?b", "/a#b", "/a/../b", "/.", "/a%zz", "/a\u{0}"] {
            assert!(PathChange::full(path).is_err(), "{path}");
            assert!(
                PathChange::prefix(path, "/x").is_err() && PathChange::prefix("/x", path).is_err(),
                "{path}"
            );
        }
        assert!(PathChange::full("").is_err() && PathChange::prefix("", "/x").is_err());
    }

    proptest! {
        #[test]
        fn what_comes_out_is_a_path(path in "/[a-c/]{0,8}", matched in "/[a-c/]{0,4}", replacement in "(/[a-c]{0,3}){0,2}") {
            let change = PathChange::prefix(&matched, &replacement).unwrap();
            prop_assert!(change.apply(&path).starts_with('/'));
        }
    }
}
