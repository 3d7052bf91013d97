//! A view of a request's head that does not know the type of its body.
//!
//! Policies look at heads. A [`Head`] borrows the request in place: nothing is taken apart, copied or boxed,
//! and a policy written against it works in axum, tonic and hyper alike.
//!
//! ```
//! use http::Request;
//! use portcullis::head::Head;
//!
//! let mut request = Request::get("https://shop.example/orders?page=2").body(()).unwrap();
//! let head = Head::of(&mut request);
//! assert_eq!(head.uri().path(), "/orders");
//! ```

use std::fmt;

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};
use tokio::time::Instant;

use crate::{reject::Protocol, trail::Trail};

/// A mutable view of a request's method, target, headers and extensions.
pub struct Head<'a> {
    request: &'a mut (dyn Parts + 'a),
    now: Option<Instant>,
}

/// What a [`Head`] needs of a request, whatever its body.
trait Parts {
    fn method(&self) -> &Method;
    fn uri(&self) -> &Uri;
    fn uri_mut(&mut self) -> &mut Uri;
    fn version(&self) -> Version;
    fn headers(&self) -> &HeaderMap;
    fn headers_mut(&mut self) -> &mut HeaderMap;
    fn extensions(&self) -> &Extensions;
    fn extensions_mut(&mut self) -> &mut Extensions;
}

impl<'a> Head<'a> {
    /// The head of `request`.
    pub fn of<B>(request: &'a mut Request<B>) -> Self {
        Self { request, now: None }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// The request target.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        self.request.uri()
    }

    /// The request target, to be rewritten.
    pub fn uri_mut(&mut self) -> &mut Uri {
        self.request.uri_mut()
    }

    /// The version of HTTP spoken on this hop.
    #[must_use]
    pub fn version(&self) -> Version {
        self.request.version()
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The header fields, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.request.headers_mut()
    }

    /// What other layers have told about this request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.request.extensions()
    }

    /// What other layers will be told about this request.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        self.request.extensions_mut()
    }

    /// The protocol in which this caller must be answered.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        Protocol::of(self.headers())
    }

    /// The time of this decision. The clock is read once, by the first gate that asks.
    pub fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// A request without a body that has a copy of this head, to be sent once more.
    #[must_use]
    pub fn to_request(&self) -> Request<()> {
        let mut copy = Request::new(());
        *copy.method_mut() = self.method().clone();
        *copy.uri_mut() = self.uri().clone();
        *copy.version_mut() = self.version();
        *copy.headers_mut() = self.headers().clone();
        *copy.extensions_mut() = self.extensions().clone();
        copy
    }

    /// The same for a decision that must leave no trace: its [`Trail`] is left out.
    #[must_use]
    pub fn to_scratch(&self) -> Request<()> {
        let mut scratch = self.to_request();
        scratch.extensions_mut().remove::<Trail>();
        scratch
    }
}

impl fmt::Debug for Head<'_> {
    /// Header values, the query and extensions may hold secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", self.method())
            .field("path", &self.uri().path())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl<B> Parts for Request<B> {
    fn method(&self) -> &Method {
        self.method()
    }
    fn uri(&self) -> &Uri {
        self.uri()
    }
    fn uri_mut(&mut self) -> &mut Uri {
        self.uri_mut()
    }
    fn version(&self) -> Version {
        self.version()
    }
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
    fn extensions(&self) -> &Extensions {
        self.extensions()
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_read_once() {
        let mut request = Request::new(());
        let mut head = Head::of(&mut request);
        let first = head.now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(head.now(), first);
    }

    #[test]
    fn a_scratch_copy_changes_nothing() {
        let mut request = Request::get("/a").header("x", "1").body("body").unwrap();
        let mut head = Head::of(&mut request);
        let trail = Trail::join(&mut head);
        let mut scratch = head.to_scratch();
        assert_eq!(scratch.headers()["x"], "1");
        Trail::join(&mut Head::of(&mut scratch)).set_decision("try/0".into());
        assert_eq!(trail.decision(), None);
        scratch.headers_mut().remove("x");
        scratch.extensions_mut().insert(7_u8);
        assert_eq!(request.headers()["x"], "1");
        assert!(request.extensions().get::<u8>().is_none());
    }

    #[test]
    fn debug_hides_what_may_be_secret() {
        let mut request = Request::get("/a?token=hush").header("authorization", "hush").body(()).unwrap();
        let shown = format!("{:?}", Head::of(&mut request));
        assert!(shown.contains("/a") && !shown.contains("hush"), "{shown}");
    }
}
