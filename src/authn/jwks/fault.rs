//! What can go wrong between us and a provider.

use std::{error::Error, fmt};

use http::StatusCode;
use thiserror::Error;

use super::{MetadataError, status::FetchResult};
use crate::{authn::jwt::KeySetError, fetch::FetchError};

/// Why no key set was had.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("nothing could be fetched")]
    Fetch(#[from] FetchError),
    #[error("the answer's status is {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the metadata cannot be used")]
    Metadata(#[from] MetadataError),
    #[error("the key set cannot be used")]
    Keys(#[from] KeySetError),
    #[error("the client panicked")]
    Panicked,
}

impl Fault {
    pub(super) fn result(&self) -> FetchResult {
        match self {
            Self::Fetch(FetchError::Timeout(_)) => FetchResult::Timeout,
            Self::Fetch(FetchError::TooLarge(_)) => FetchResult::TooLarge,
            Self::Fetch(FetchError::Redirect(_)) => FetchResult::Redirected,
            Self::Fetch(_) | Self::Panicked => FetchResult::Unreachable,
            Self::Status(_) => FetchResult::Refused,
            Self::Metadata(MetadataError::Issuer) => FetchResult::WrongIssuer,
            Self::Metadata(_) | Self::Keys(_) => FetchResult::Unusable,
        }
    }

    /// The error and its causes in one line, without what is said twice.
    pub(super) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !line.ends_with(&text) {
                line = format!("{line}: {text}");
            }
            next = error.source();
        }
        line
    }
}

/// No keys were had in the time in which they were waited for. It goes on trying.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysNotReady {
    pub(super) last: Option<Box<str>>,
}

impl fmt::Display for KeysNotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the keys are not known yet")?;
        self.last.as_ref().map_or(Ok(()), |last| write!(f, ": {last}"))
    }
}

impl Error for KeysNotReady {}
