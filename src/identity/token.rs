use std::{fmt, sync::Arc};

/// The token with which the caller of a request was authenticated, for calls that are made on its behalf.
///
/// It is in a request's extensions only where somebody asked for it, and it is never printed. A clone is a pointer.
///
/// ```
/// use portcullis::identity::CallerToken;
///
/// let token = CallerToken::new("hush");
/// assert_eq!(format!("{token:?}"), "CallerToken");
/// assert_eq!(token.reveal(), "hush");
/// ```
#[derive(Clone)]
pub struct CallerToken(Arc<str>);

impl CallerToken {
    /// This token.
    #[must_use]
    pub fn new(token: impl Into<Arc<str>>) -> Self {
        Self(token.into())
    }

    /// The token itself. It is as good as the caller's password: keep it out of logs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerToken")
    }
}
