//! One entry of an `HTTPRoute` rule's `matches`: conditions that must all hold.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{PathPolicy, Target, Text, query};

/// Why a match value is not one of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMatch {
    /// A path does not begin with `/`, or has `//`, a dot segment, `%2F`, a query or another byte that no
    /// normal path has, so that it could never match.
    #[error("the path {0:?} can match no request: {1}")]
    Path(Box<str>, &'static str),
    /// A regular expression is malformed, or needs more than 1 MiB.
    #[error("the regular expression is not valid: {0}")]
    Pattern(Box<str>),
    /// A regular expression is longer than [`Text::MAX_PATTERN`].
    #[error("the regular expression is longer than {max} bytes", max = Text::MAX_PATTERN)]
    PatternTooLong,
}

/// How a path is matched. Match values are brought into the normal form in which paths arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMatch(pub(crate) PathKind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    Exact(Box<str>),
    /// Without a slash at its end; so it is empty for `/`.
    Prefix(Box<str>),
    #[cfg_attr(not(feature = "routing"), expect(dead_code, reason = "patterns come with routing"))]
    Regex(Text),
}

impl PathMatch {
    /// This path only: `/foo` is not for `/foo/`.
    ///
    /// # Errors
    ///
    /// If no request can have this path.
    pub fn exact(path: &str) -> Result<Self, InvalidMatch> {
        normal(path).map(|path| Self(PathKind::Exact(path.into())))
    }

    /// This path and those below it, by whole segments: `/foo` and `/foo/` are both for `/foo`, `/foo/` and
    /// `/foo/bar`, and not for `/foobar`.
    ///
    /// `/` is for every request, also for `OPTIONS *`, but for a plain CONNECT only together with that method.
    ///
    /// # Errors
    ///
    /// If no request can have such a path.
    pub fn prefix(path: &str) -> Result<Self, InvalidMatch> {
        normal(path).map(|path| Self(PathKind::Prefix(path.strip_suffix('/').unwrap_or(&path).into())))
    }

    /// Paths that match the whole of `pattern`, a regular expression: see [`Text::regex`].
    ///
    /// # Errors
    ///
    /// If `pattern` is malformed or too large.
    #[cfg(feature = "routing")]
    pub fn regex(pattern: &str) -> Result<Self, InvalidMatch> {
        Text::regex(pattern).map(|text| Self(PathKind::Regex(text)))
    }

    /// Whether `path` is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match &self.0 {
            PathKind::Exact(exact) => **exact == *path,
            PathKind::Prefix(prefix) if prefix.is_empty() => true,
            PathKind::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathKind::Regex(text) => text.matches(path.as_bytes()),
        }
    }
}

/// `path` as it arrives. What the Gateway API forbids in a match value is what no normal path contains.
fn normal(path: &str) -> Result<String, InvalidMatch> {
    let invalid = |why| InvalidMatch::Path(path.into(), why);
    if !path.starts_with('/') {
        return Err(invalid("it does not begin with \"/\""));
    }
    if path.contains("//") {
        return Err(invalid("\"//\" is merged before it is matched"));
    }
    if path.contains(['?', '#']) {
        return Err(invalid("a query or fragment is no part of a path"));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(invalid("dot segments are resolved before it is matched"));
    }
    let normal = PathPolicy::strict().normalize(path);
    normal.map(String::from).map_err(|_| invalid("it is malformed, or has a part that is refused"))
}

/// Which requests are meant: all that is said must hold. An `HTTPRouteMatch` of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMatch {
    pub(crate) path: PathMatch,
    pub(crate) method: Option<Method>,
    pub(crate) headers: Vec<(HeaderName, Text)>,
    pub(crate) query: Vec<(Box<str>, Text)>,
}

impl RequestMatch {
    /// Every request, but for a plain CONNECT.
    #[must_use]
    pub fn any() -> Self {
        PathMatch(PathKind::Prefix("".into())).into()
    }

    /// Requests for this path only: see [`PathMatch::exact`].
    ///
    /// # Errors
    ///
    /// If no request can have this path.
    pub fn exact(path: &str) -> Result<Self, InvalidMatch> {
        PathMatch::exact(path).map(Self::from)
    }

    /// Requests for this path and those below it: see [`PathMatch::prefix`].
    ///
    /// # Errors
    ///
    /// If no request can have such a path.
    pub fn prefix(path: &str) -> Result<Self, InvalidMatch> {
        PathMatch::prefix(path).map(Self::from)
    }

    /// Requests with a path that matches `pattern`: see [`PathMatch::regex`].
    ///
    /// # Errors
    ///
    /// If `pattern` is malformed or too large.
    #[cfg(feature = "routing")]
    pub fn regex(pattern: &str) -> Result<Self, InvalidMatch> {
        PathMatch::regex(pattern).map(Self::from)
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Only requests in which the header `name` has such a value. The lines of a repeated header are joined
    /// with a comma. Of several conditions on one name the first counts.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: Text) -> Self {
        if self.headers.iter().all(|(known, _)| *known != name) {
            self.headers.push((name, value));
        }
        self
    }

    /// Only requests in which the first query parameter `name` has such a value, both decoded. Of several
    /// conditions on one name the first counts.
    #[must_use]
    pub fn query(mut self, name: impl Into<Box<str>>, value: Text) -> Self {
        let name = name.into();
        if self.query.iter().all(|(known, _)| *known != name) {
            self.query.push((name, value));
        }
        self
    }

    /// Whether `target` is meant. The host is not looked at.
    #[must_use]
    pub fn matches(&self, target: &Target<'_>) -> bool {
        self.path.matches(target.path) && self.matches_beside_path(target)
    }

    /// Whether all but the path is right.
    pub(crate) fn matches_beside_path(&self, target: &Target<'_>) -> bool {
        // A plain CONNECT opens a tunnel: a rule for every request does not mean that.
        (self.method.as_ref().map_or(!target.path.is_empty(), |method| method == target.method()))
            && self.headers.iter().all(|(name, text)| header_matches(target.headers, name, text))
            && self.query.iter().all(|(name, text)| query::matches(target.query.unwrap_or(""), name, text))
    }

    #[cfg(feature = "routing")]
    /// Whether both mean the same requests, in whatever order their conditions were given.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_path = self.path == other.path && self.method == other.method;
        let same_sizes = self.headers.len() == other.headers.len() && self.query.len() == other.query.len();
        same_path
            && same_sizes
            && self.headers.iter().all(|condition| other.headers.contains(condition))
            && self.query.iter().all(|condition| other.query.contains(condition))
    }
}

/// [`any`](RequestMatch::any)
impl Default for RequestMatch {
    fn default() -> Self {
        Self::any()
    }
}

impl From<PathMatch> for RequestMatch {
    fn from(path: PathMatch) -> Self {
        Self { path, method: None, headers: Vec::new(), query: Vec::new() }
    }
}

fn header_matches(headers: &HeaderMap, name: &HeaderName, text: &Text) -> bool {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else { return false };
    if lines.next().is_none() {
        return text.matches(first.as_bytes());
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    text.matches(&lines.join(&b','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Uri;

    fn target<'a>(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Target<'a> {
        Target::new(method, "", uri, headers)
    }

    fn is_for(
        test: &RequestMatch,
        method: &Method,
        uri: &str,
        lines: &[(&'static str, &'static str)],
    ) -> bool {
        let headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        test.matches(&target(method, &uri.parse().unwrap(), &headers))
    }

    #[test]
    fn a_prefix_is_of_whole_segments() {
        for prefix in ["/foo", "/foo/"] {
            let path = PathMatch::prefix(prefix).unwrap();
            for (given, expected) in [
                ("/foo", true),
                ("/foo/", true),
                ("/foo/bar", true),
                ("/foobar", false),
                ("/", false),
                ("/Foo", false),
            ] {
                assert_eq!(path.matches(given), expected, "{prefix} {given}");
            }
        }
        let root = PathMatch::prefix("/").unwrap();
        assert!(root.matches("/") && root.matches("/x") && root.matches("*"));
    }

    #[test]
    fn an_exact_path_is_the_whole_path() {
        let path = PathMatch::exact("/a%7eb").unwrap();
        assert!(path.matches("/a~b") && !path.matches("/a~b/") && !path.matches("/a~bc"));
    }

    #[test]
    fn values_that_no_path_can_have_are_refused() {
        for value in [
            "", "foo", "/a//b", "/a/./b", "/a/..", "/a/.", "/a%2fb", "/a%2Fb", "/a#b", "/a?b", "/a%zz",
            "/..;/x", "/a\\b",
        ] {
            assert!(matches!(PathMatch::exact(value), Err(InvalidMatch::Path(..))), "{value}");
            assert!(matches!(PathMatch::prefix(value), Err(InvalidMatch::Path(..))), "{value}");
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        let (a, b) = (HeaderName::from_static("a"), HeaderName::from_static("b"));
        let test = RequestMatch::prefix("/x")
            .unwrap()
            .method(Method::PUT)
            .header(a.clone(), Text::exact("1"))
            .header(a, Text::exact("ignored"))
            .header(b, Text::exact("2,3"))
            .query("q", Text::exact("4"))
            .query("q", Text::exact("ignored"));
        let lines = [("a", "1"), ("b", "2"), ("b", "3")];
        assert!(is_for(&test, &Method::PUT, "/x/y?q=4", &lines));
        assert!(!is_for(&test, &Method::GET, "/x/y?q=4", &lines));
        assert!(!is_for(&test, &Method::PUT, "/y?q=4", &lines));
        assert!(!is_for(&test, &Method::PUT, "/x?q=5", &lines));
        assert!(!is_for(&test, &Method::PUT, "/x", &lines));
        assert!(!is_for(&test, &Method::PUT, "/x?q=4", &lines[..2]));
        assert!(!is_for(&test, &Method::PUT, "/x?q=4", &lines[1..]));
    }

    #[test]
    fn an_empty_line_of_a_repeated_header_is_kept() {
        let test = RequestMatch::any().header(HeaderName::from_static("a"), Text::exact(",1"));
        assert!(is_for(&test, &Method::GET, "/", &[("a", ""), ("a", "1")]));
    }

    #[test]
    fn a_tunnel_is_opened_only_by_name() {
        let (uri, headers) = (Uri::from_static("a.example:443"), HeaderMap::new());
        let target = target(&Method::CONNECT, &uri, &headers);
        assert!(!RequestMatch::any().matches(&target));
        assert!(RequestMatch::any().method(Method::CONNECT).matches(&target));
        assert!(RequestMatch::any().matches(&Target::new(
            &Method::OPTIONS,
            "",
            &Uri::from_static("*"),
            &headers
        )));
    }
}
