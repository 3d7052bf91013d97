//! What clients are told of limits and quotas: the IETF `RateLimit` and `RateLimit-Policy` fields
//! (draft-ietf-httpapi-ratelimit-headers), and the older `X-RateLimit-*`.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::rate_limit::Verdict;
use crate::reject::{Reason, Rejection};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const SECOND: u64 = 1_000_000_000;

/// When clients are told where they stand, in `RateLimit` and `RateLimit-Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fields {
    /// In every response. Costs two allocations a request.
    Always,
    /// In no response; `Retry-After` stays.
    Never,
    /// Where a limit refused.
    #[default]
    OnRefusal,
}

/// A limit, as clients are told of it.
#[derive(Debug)]
pub(super) struct Policy {
    /// The name as a string of RFC 9651, with its quotes.
    name: Box<str>,
    /// The units in a window.
    quota: u64,
    /// The window, in seconds.
    window: u64,
}

/// Where an account of a limit stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) policy: &'a Policy,
    /// The units that can be spent.
    pub(super) remaining: u64,
    /// Nanoseconds after which there are more.
    pub(super) more: u64,
    /// Nanoseconds after which the account is whole.
    pub(super) whole: u64,
}

/// How a request is refused of which limits said this. Who comes again is to wait for the slowest limit.
pub(super) fn refusal<'a>(
    (reason, what): (Reason, &str),
    said: impl Iterator<Item = (&'a str, Verdict)>,
    lines: impl Iterator<Item = Line<'a>> + Clone,
    policies: &HeaderValue,
    (fields, legacy): (Fields, bool),
) -> Rejection {
    let mut longest = Some(0);
    let mut detail = format!("{what}:");
    for (name, verdict) in said {
        longest = match verdict {
            Verdict::Spend(_) => continue,
            Verdict::Wait(time) => longest.map(|longest| time.max(longest)),
            Verdict::Never => None,
        };
        detail.push(' ');
        detail.push_str(name);
    }
    let mut rejection = Rejection::new(reason).detail(detail);
    if let Some(time) = longest {
        rejection = rejection.retry_after(Duration::from_nanos(time));
    }
    if fields != Fields::Never {
        let mut headers = HeaderMap::new();
        tell(&mut headers, policies, lines, legacy);
        for (name, value) in &headers {
            rejection = rejection.header(name.clone(), value.clone());
        }
    }
    rejection
}

impl Policy {
    /// So many units in a window of so many seconds.
    pub(super) fn new(name: &str, quota: u64, window: u64) -> Self {
        Self { name: quoted(name), quota, window }
    }
}

/// `sf-string` of RFC 9651 section 3.3.3. The name is printable ASCII already.
fn quoted(name: &str) -> Box<str> {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text.into()
}

/// `RateLimit-Policy` for these limits.
pub(super) fn policies<'a>(policies: impl Iterator<Item = &'a Policy>) -> HeaderValue {
    list(policies, |text, Policy { name, quota, window }| write!(text, "{name};q={quota};w={window}"))
}

/// Puts what is told into a response.
pub(super) fn put(told: HeaderMap, response: &mut HeaderMap) {
    for (name, value) in told {
        let Some(name) = name else { continue };
        if name.as_str().starts_with("x-") {
            response.insert(name, value);
        } else {
            response.append(name, value);
        }
    }
}

/// Tells where these accounts stand, if there are any.
pub(super) fn tell<'a>(
    headers: &mut HeaderMap,
    policies: &HeaderValue,
    lines: impl Iterator<Item = Line<'a>> + Clone,
    legacy: bool,
) {
    if policies.is_empty() {
        return;
    }
    headers.append(RATE_LIMIT_POLICY, policies.clone());
    headers.append(
        RATE_LIMIT,
        list(lines.clone(), |text, line| {
            write!(text, "{};r={};t={}", line.policy.name, line.shown(), seconds(line.more))
        }),
    );
    let tightest = || lines.min_by_key(|line| (line.remaining, u64::MAX - line.more));
    if let Some(line) = legacy.then(tightest).flatten() {
        headers.insert(LIMIT, line.policy.quota.into());
        headers.insert(REMAINING, line.shown().into());
        headers.insert(RESET, seconds(line.whole).into());
    }
}

impl Line<'_> {
    /// No more than the quota, though a burst may hold more: a client must not read it as what it has each window.
    fn shown(&self) -> u64 {
        self.remaining.min(self.policy.quota)
    }
}

/// Whole seconds, rounded up: who comes back after that is not too early.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(SECOND)
}

fn list<T>(
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut String, T) -> std::fmt::Result,
) -> HeaderValue {
    let mut text = String::with_capacity(64);
    for item in items {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let _ = write(&mut text, item); // a String takes everything
    }
    #[expect(clippy::expect_used, reason = "names are printable ASCII, and the rest is ours")]
    HeaderValue::try_from(text).expect("a header value of printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_told() {
        let all = [Policy::new("burst", 100, 60), Policy::new("a \"b\" \\", 1000, 86_400)];
        assert_eq!(policies(all.iter()), r#""burst";q=100;w=60, "a \"b\" \\";q=1000;w=86400"#);
    }

    #[test]
    fn standings_are_told() {
        let second = Policy::new("s", 10, 1);
        let minute = Policy::new("m", 100, 60);
        let lines = [
            Line { policy: &second, remaining: 400, more: 0, whole: 0 },
            Line { policy: &minute, remaining: 0, more: SECOND + 1, whole: 60 * SECOND },
        ];
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit", HeaderValue::from_static("\"inner\";r=1;t=1"));
        tell(&mut headers, &HeaderValue::from_static("p"), lines.into_iter(), true);
        let told: Vec<_> = headers.get_all("ratelimit").iter().collect();
        assert_eq!(told, ["\"inner\";r=1;t=1", "\"s\";r=10;t=0, \"m\";r=0;t=2"]);
        assert_eq!(headers["ratelimit-policy"], "p");
        assert_eq!(headers["x-ratelimit-limit"], "100");
        assert_eq!(headers["x-ratelimit-remaining"], "0");
        assert_eq!(headers["x-ratelimit-reset"], "60");
    }
}
