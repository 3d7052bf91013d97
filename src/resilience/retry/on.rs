use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderName, StatusCode};
use thiserror::Error;

use crate::reject::GrpcCode;

macro_rules! conditions {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// In which cases an attempt counts as failed in a way that another may mend. The names are Envoy's and the Gateway
        /// API's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RetryOn {
            $($(#[doc = $doc])+ $name,)*
        }

        impl RetryOn {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

conditions! {
    /// `cancelled`: gRPC status 1.
    Cancelled = "cancelled",
    /// `connect-failure`: no connection could be made. Nothing was sent.
    ConnectFailure = "connect-failure",
    /// `deadline-exceeded`: gRPC status 4.
    DeadlineExceeded = "deadline-exceeded",
    /// `gateway-error`: 502, 503 or 504, or no response: a reset, a timeout of the attempt, no connection.
    GatewayError = "gateway-error",
    /// `internal`: gRPC status 13.
    Internal = "internal",
    /// `refused-stream`: the server has said that it did not look at the request (RFC 9113 section 8.7).
    RefusedStream = "refused-stream",
    /// `reset`: no response.
    Reset = "reset",
    /// `resource-exhausted`: gRPC status 8.
    ResourceExhausted = "resource-exhausted",
    /// `retriable-4xx`: 409.
    Retriable4xx = "retriable-4xx",
    /// `5xx`: any status of 500 and above, or no response.
    ServerError = "5xx",
    /// `unavailable`: gRPC status 14.
    Unavailable = "unavailable",
}

/// It is the name of no condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no such condition")]
pub struct UnknownCondition;

impl FromStr for RetryOn {
    type Err = UnknownCondition;

    fn from_str(text: &str) -> Result<Self, UnknownCondition> {
        Self::ALL.iter().find(|on| on.name() == text).copied().ok_or(UnknownCondition)
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How no response came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum Lost {
    Connect,
    Refused,
    Other,
}

/// Some of the cases, one bit for each.
#[derive(Clone, Copy)]
pub(in crate::resilience) struct Cases(u16);

impl Cases {
    /// Those of gRPC statuses.
    const OF_GRPC: Self = Self::of(&[
        RetryOn::Cancelled,
        RetryOn::DeadlineExceeded,
        RetryOn::Internal,
        RetryOn::ResourceExhausted,
        RetryOn::Unavailable,
    ]);

    pub(in crate::resilience) const fn of(cases: &[RetryOn]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < cases.len() {
            bits |= 1 << cases[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    const fn has(self, on: RetryOn) -> bool {
        self.has_any(Self(1 << on as u16))
    }

    const fn has_any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

impl FromIterator<RetryOn> for Cases {
    fn from_iter<I: IntoIterator<Item = RetryOn>>(cases: I) -> Self {
        cases.into_iter().fold(Self(0), |all, on| Self(all.0 | 1 << on as u16))
    }
}

impl fmt::Debug for Cases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(RetryOn::ALL.iter().filter(|on| self.has(**on))).finish()
    }
}

/// Which ends of an attempt are failures.
#[derive(Debug, Clone)]
pub(in crate::resilience) struct Conditions {
    pub(in crate::resilience) on: Cases,
    pub(in crate::resilience) codes: Vec<StatusCode>,
    pub(in crate::resilience) headers: Vec<HeaderName>,
}

impl Conditions {
    fn has(&self, on: RetryOn) -> bool {
        self.on.has(on)
    }

    pub(in crate::resilience) fn lost(&self, how: Lost) -> bool {
        const ANY: Cases = Cases::of(&[RetryOn::GatewayError, RetryOn::Reset, RetryOn::ServerError]);
        self.on.has_any(ANY)
            || match how {
                Lost::Connect => self.has(RetryOn::ConnectFailure),
                Lost::Refused => self.has(RetryOn::RefusedStream),
                Lost::Other => false,
            }
    }

    pub(in crate::resilience) fn head(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let named = match status.as_u16() {
            409 => self.has(RetryOn::Retriable4xx),
            502..=504 => self.has(RetryOn::GatewayError) || self.has(RetryOn::ServerError),
            500.. => self.has(RetryOn::ServerError),
            _ => false,
        };
        named
            || self.codes.contains(&status)
            || self.headers.iter().any(|name| headers.contains_key(name))
            || GrpcCode::of(headers).is_some_and(|code| self.grpc(code))
    }

    pub(in crate::resilience) fn grpc(&self, code: GrpcCode) -> bool {
        match code {
            GrpcCode::CANCELLED => self.has(RetryOn::Cancelled),
            GrpcCode::DEADLINE_EXCEEDED => self.has(RetryOn::DeadlineExceeded),
            GrpcCode::INTERNAL => self.has(RetryOn::Internal),
            GrpcCode::RESOURCE_EXHAUSTED => self.has(RetryOn::ResourceExhausted),
            GrpcCode::UNAVAILABLE => self.has(RetryOn::Unavailable),
            _ => false,
        }
    }

    /// Whether the trailers of a gRPC answer matter.
    pub(super) fn ask_trailers(&self) -> bool {
        self.on.has_any(Cases::OF_GRPC)
    }
}
