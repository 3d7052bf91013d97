use std::fmt;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What forms leave as it is (RFC 6749 appendix B), and the space, which becomes a plus.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

/// The body of a request to an endpoint (`application/x-www-form-urlencoded`).
#[derive(Clone, Default)]
pub(in crate::authn) struct Form(String);

impl Form {
    pub(in crate::authn) fn with(mut self, name: &str, value: &str) -> Self {
        self.add(name, value);
        self
    }

    pub(in crate::authn) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        encode(name, &mut self.0);
        self.0.push('=');
        encode(value, &mut self.0);
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

pub(super) fn encode(text: &str, into: &mut String) {
    for piece in utf8_percent_encode(text, ENCODED) {
        into.extend(piece.chars().map(|c| if c == ' ' { '+' } else { c }));
    }
}

impl fmt::Debug for Form {
    /// Tokens and secrets stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}
