//! The bounded sets that labels are drawn from, and a request's labels packed into one number.

use crate::{
    outcome::{Outcome, Verdict},
    reject::{GrpcCode, Reason},
};
use http::Method;
use std::borrow::Cow;

/// The route of requests that none matched.
pub(super) const UNMATCHED: &str = "_unmatched";
/// What stands for all that is beyond a bound.
pub(super) const OTHER: &str = "_other";

const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", OTHER];

/// The method's place in the list of those that get a label of their own (RFC 9110, section 9, and PATCH).
pub(super) fn method(method: &Method) -> u8 {
    match *method {
        Method::CONNECT => 0,
        Method::DELETE => 1,
        Method::GET => 2,
        Method::HEAD => 3,
        Method::OPTIONS => 4,
        Method::PATCH => 5,
        Method::POST => 6,
        Method::PUT => 7,
        Method::TRACE => 8,
        _ => 9,
    }
}

/// How a request ended, as labels: method, status, gRPC status, reason and verdict in one number, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Labels(u64);

/// The fields from the lowest bits up. 255 stands for "none".
const METHOD: u32 = 0;
const GRPC: u32 = 8;
const REASON: u32 = 16;
const VERDICT: u32 = 24;
const STATUS: u32 = 32;
const PRESENT: u64 = 1 << 63;
const NONE: u8 = u8::MAX;

impl Labels {
    pub(super) fn of(method: u8, outcome: &Outcome) -> Self {
        let grpc = outcome.grpc.map_or(NONE, GrpcCode::number);
        let reason = outcome.reason.map_or(NONE, |reason| reason as u8);
        let status = outcome.status.map_or(0, |status| status.as_u16());
        Self(
            PRESENT
                | u64::from(method) << METHOD
                | u64::from(grpc) << GRPC
                | u64::from(reason) << REASON
                | u64::from(outcome.verdict() as u8) << VERDICT
                | u64::from(status) << STATUS,
        )
    }

    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    fn byte(self, at: u32) -> u8 {
        (self.0 >> at) as u8
    }

    /// Names and values. A label that does not apply is left out; to Prometheus that is the empty value.
    pub(super) fn pairs(self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> {
        let method = METHODS.get(usize::from(self.byte(METHOD))).copied().unwrap_or(OTHER);
        let status = (self.0 >> STATUS) as u16;
        let grpc = self.byte(GRPC);
        let grpc = (grpc != NONE).then(|| ("grpc_status", grpc.to_string().into()));
        let reason = Reason::ALL.get(usize::from(self.byte(REASON)));
        let reason = reason.map(|reason| ("reason", reason.label().into()));
        let verdict = VERDICTS.get(usize::from(self.byte(VERDICT))).map_or(OTHER, |verdict| verdict.label());
        [
            Some(("method", method.into())),
            // 0, as in access logs: the caller left, or there was an error, before any status.
            Some(("status", status.to_string().into())),
            grpc,
            reason,
            Some(("verdict", verdict.into())),
        ]
        .into_iter()
        .flatten()
    }
}

/// In the order of their numbers.
pub(super) const VERDICTS: [Verdict; 4] =
    [Verdict::Success, Verdict::CallerFault, Verdict::ServerFault, Verdict::Cancelled];
