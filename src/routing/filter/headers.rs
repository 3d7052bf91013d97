//! `RequestHeaderModifier` and `ResponseHeaderModifier`.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header, response};

use crate::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    reject::Answer,
};

/// Why a header cannot be changed like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChange {
    /// The header is named by another change already.
    #[error("the header {0} is changed twice")]
    Duplicate(HeaderName),
    /// The header says where a message ends or which connection it is for. To name another host there is the
    /// `URLRewrite` filter.
    #[error("the header {0} belongs to the connection and cannot be changed")]
    Reserved(HeaderName),
}

/// Changes to the headers of a message: at most one for each name, so that their order does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all lines of the header `name`, or adds it.
    ///
    /// # Errors
    ///
    /// If `name` is reserved, or changed already.
    pub fn set(mut self, name: HeaderName, value: HeaderValue) -> Result<Self, InvalidChange> {
        self.reserve(&name)?;
        self.set.push((name, value));
        Ok(self)
    }

    /// Adds a line of the header `name` after those that are there.
    ///
    /// # Errors
    ///
    /// If `name` is reserved, or changed already.
    pub fn add(mut self, name: HeaderName, value: HeaderValue) -> Result<Self, InvalidChange> {
        self.reserve(&name)?;
        self.add.push((name, value));
        Ok(self)
    }

    /// Removes all lines of the header `name`.
    ///
    /// # Errors
    ///
    /// If `name` is reserved, or changed already.
    pub fn remove(mut self, name: HeaderName) -> Result<Self, InvalidChange> {
        self.reserve(&name)?;
        self.remove.push(name);
        Ok(self)
    }

    /// The gate that makes these changes to requests.
    #[must_use]
    pub const fn for_requests(self) -> RequestHeaders {
        RequestHeaders(self)
    }

    /// The gate that makes these changes to responses.
    #[must_use]
    pub fn for_responses(self) -> ResponseHeaders {
        ResponseHeaders(Arc::new(self))
    }

    /// Makes these changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }

    fn reserve(&self, name: &HeaderName) -> Result<(), InvalidChange> {
        if RESERVED.contains(name) {
            return Err(InvalidChange::Reserved(name.clone()));
        }
        let mut changed = self.set.iter().chain(&self.add).map(|(name, _)| name).chain(&self.remove);
        if changed.any(|known| known == name) {
            return Err(InvalidChange::Duplicate(name.clone()));
        }
        Ok(())
    }
}

/// RFC 9110, 7.6.1, and what frames or addresses a message.
const RESERVED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Changes the headers of requests. See [`HeaderChanges`].
#[derive(Clone, Debug)]
pub struct RequestHeaders(HeaderChanges);

impl RequestHeaders {
    /// The layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for RequestHeaders {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.0.apply(head.headers_mut());
        Ok(())
    }
}

/// Changes the headers of responses, of refusals by inner layers too. See [`HeaderChanges`].
#[derive(Clone, Debug)]
pub struct ResponseHeaders(Arc<HeaderChanges>);

impl ResponseHeaders {
    /// The layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for ResponseHeaders {
    type Pass = ResponseHeadersPass;

    fn check(&self, _: &mut Head<'_>) -> Result<ResponseHeadersPass, Answer> {
        Ok(ResponseHeadersPass(Arc::clone(&self.0)))
    }
}

/// Waits for the response whose headers are to be changed.
#[derive(Debug)]
pub struct ResponseHeadersPass(Arc<HeaderChanges>);

impl Pass for ResponseHeadersPass {
    fn on_head(&mut self, head: &mut response::Parts) {
        self.0.apply(&mut head.headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HeaderName = HeaderName::from_static("a");
    const B: HeaderName = HeaderName::from_static("b");
    const C: HeaderName = HeaderName::from_static("c");

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn headers_are_set_added_and_removed() {
        let changes = HeaderChanges::new()
            .set(A, value("new"))
            .and_then(|changes| changes.add(B, value("2,3")))
            .and_then(|changes| changes.remove(C))
            .unwrap();
        let mut headers = HeaderMap::from_iter([(A, value("x")), (B, value("1")), (C, value("z"))]);
        headers.append(A, value("y"));
        changes.apply(&mut headers);
        assert_eq!(headers.get_all(A).iter().collect::<Vec<_>>(), ["new"]);
        assert_eq!(headers.get_all(B).iter().collect::<Vec<_>>(), ["1", "2,3"]);
        assert!(!headers.contains_key(C));
    }

    #[test]
    fn one_change_for_each_name() {
        let changes = HeaderChanges::new().set(A, value("1")).unwrap();
        assert_eq!(changes.clone().add(A, value("2")), Err(InvalidChange::Duplicate(A)));
        assert_eq!(changes.clone().set(A, value("2")), Err(InvalidChange::Duplicate(A)));
        assert_eq!(changes.remove(A), Err(InvalidChange::Duplicate(A)));
    }

    #[test]
    fn what_frames_a_message_is_left_alone() {
        for name in RESERVED {
            let refused = Err(InvalidChange::Reserved(name.clone()));
            assert_eq!(HeaderChanges::new().set(name.clone(), value("1")), refused);
            assert_eq!(HeaderChanges::new().remove(name), refused);
        }
    }
}
