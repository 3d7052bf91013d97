//! What clients are told of rate limits.

use http::HeaderValue;

use super::judge::Verdict;
pub(super) use crate::admission::fields::{Line, Policy, policies, tell};
use crate::{
    admission::fields::{self, Fields},
    reject::{Reason, Rejection},
};

/// What a limit says to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) name: &'a str,
    pub(super) verdict: Verdict,
    pub(super) line: Line<'a>,
}

/// How a request is refused of which this was said.
pub(super) fn refusal(told: &[Told<'_>], policies: &HeaderValue, fields: Fields, legacy: bool) -> Rejection {
    let said = told.iter().map(|limit| (limit.name, limit.verdict));
    let lines = told.iter().map(|limit| limit.line);
    fields::refusal((Reason::RateLimited, "reached"), said, lines, policies, (fields, legacy))
}
