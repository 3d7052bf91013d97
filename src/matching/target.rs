//! What a request asks for, as matchers see it.

use std::borrow::Cow;

use http::{
    HeaderMap, Method, Uri,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

/// What a request asks for: method, host, path, headers and query.
///
/// The host and the path are taken as they are given: see [`Host`](super::Host) and
/// [`PathPolicy`](super::PathPolicy) for their normal forms.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    pub(super) method: Cow<'a, Method>,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

impl<'a> Target<'a> {
    /// A target of the parts of a request. `host` is empty if it is not known.
    #[must_use]
    pub fn new(method: &'a Method, host: &'a str, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Self { method: Cow::Borrowed(method), host, path: uri.path(), query: uri.query(), headers }
    }

    /// The same target, asked for with another method.
    #[must_use]
    pub fn with_method(self, method: Method) -> Self {
        Self { method: Cow::Owned(method), ..self }
    }

    /// The method that is matched.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The host that is matched, or an empty text.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The headers that are matched.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The path that is matched: empty for a plain CONNECT, `*` for `OPTIONS *`.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }
}

/// The method that a CORS preflight asks leave for: `OPTIONS` with `Origin` and
/// `Access-Control-Request-Method` (Fetch, 4.8). `None` if the request is no preflight.
///
/// A preflight is matched as if it were the request that it announces.
#[must_use]
pub fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_preflight_has_both_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
        headers.insert(ORIGIN, HeaderValue::from_static("https://a.example"));
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), Some(Method::PUT));
        assert_eq!(preflight_method(&Method::GET, &headers), None);
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("no method"));
        assert_eq!(preflight_method(&Method::OPTIONS, &headers), None);
    }
}
