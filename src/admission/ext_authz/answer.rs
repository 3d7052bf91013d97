//! What is made of the authorizer's answer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::freshness;

/// How many bytes the headers may have that are taken from an answer.
const MAX_TAKEN: usize = 16 * 1024;

/// Which headers of an answer are taken.
#[derive(Clone, Debug)]
pub(super) struct Keeps {
    pub(super) upstream: Arc<[HeaderName]>,
    pub(super) client: Arc<[HeaderName]>,
    pub(super) refusal: Arc<[HeaderName]>,
}

/// What the authorizer has decided.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Pass(Arc<Granted>),
    Refuse(Arc<Refused>),
}

/// What comes along with a pass.
#[derive(Debug, Default)]
pub(super) struct Granted {
    pub(super) upstream: Lines,
    pub(super) client: Lines,
}

/// What a caller gets who is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) headers: Lines,
    pub(super) body: Bytes,
}

impl Refused {
    /// After how many seconds the authorizer wants to see the caller again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let (_, after) = self.headers.iter().find(|(name, _)| *name == header::RETRY_AFTER)?;
        Some(Duration::from_secs(after.to_str().ok()?.parse::<u32>().ok()?.into()))
    }
}

pub(super) type Lines = Vec<(HeaderName, HeaderValue)>;

impl Verdict {
    /// What this answer says; nothing if it says nothing.
    pub(super) fn of(answer: Response<Bytes>, keeps: &Keeps) -> Option<Self> {
        let status = answer.status();
        let (parts, body) = answer.into_parts();
        if status.is_success() {
            let upstream = taken(&parts.headers, &keeps.upstream)?;
            let client = taken(&parts.headers, &keeps.client)?;
            return Some(Self::Pass(Arc::new(Granted { upstream, client })));
        }
        if status.is_redirection() || status.is_client_error() {
            let headers = taken(&parts.headers, &keeps.refusal)?;
            return Some(Self::Refuse(Arc::new(Refused { status, headers, body })));
        }
        None
    }

    /// How much memory it takes.
    pub(super) fn weight(&self) -> usize {
        let (lines, body) = match self {
            Self::Pass(granted) => ([&granted.upstream[..], &granted.client], 0),
            Self::Refuse(refused) => ([&refused.headers[..], &[]], refused.body.len()),
        };
        let of_line = |(name, value): &(HeaderName, HeaderValue)| name.as_str().len() + value.len() + 64;
        lines.into_iter().flatten().map(of_line).sum::<usize>() + body
    }
}

/// All lines of these headers, unless they are too many.
fn taken(headers: &HeaderMap, names: &[HeaderName]) -> Option<Lines> {
    let mut bytes = 0;
    let mut lines = Lines::new();
    for name in names {
        for value in headers.get_all(name) {
            bytes += name.as_str().len() + value.len();
            if bytes > MAX_TAKEN {
                return None;
            }
            lines.push((name.clone(), value.clone()));
        }
    }
    Some(lines)
}

/// For how long an answer may be remembered, of at most `ttl`: not at all if it is for one caller, or says so.
pub(super) fn memorable(answer: &Response<Bytes>, ttl: Duration, now: SystemTime) -> Option<Duration> {
    let headers = answer.headers();
    if headers.contains_key(header::SET_COOKIE) || freshness::says(headers, "private") {
        return None;
    }
    let ttl = freshness::lifetime(headers, now).map_or(ttl, |told| told.min(ttl));
    (!ttl.is_zero()).then_some(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps() -> Keeps {
        let names = |list: &[&'static str]| list.iter().map(|name| HeaderName::from_static(name)).collect();
        Keeps { upstream: names(&["x-user"]), client: names(&["set-cookie"]), refusal: names(&["location"]) }
    }

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response<Bytes> {
        let made = headers
            .iter()
            .fold(Response::builder().status(status), |made, (name, value)| made.header(*name, *value));
        made.body(Bytes::from("body")).unwrap()
    }

    #[test]
    fn an_answer_passes_refuses_or_says_nothing() {
        for (status, expected) in [
            (200, Some(true)),
            (204, Some(true)),
            (299, Some(true)),
            (301, Some(false)),
            (302, Some(false)),
            (400, Some(false)),
            (401, Some(false)),
            (403, Some(false)),
            (429, Some(false)),
            (500, None),
            (503, None),
            (101, None),
            (600, None),
            (999, None),
        ] {
            let verdict = Verdict::of(answer(status, &[]), &keeps());
            assert_eq!(verdict.map(|verdict| matches!(verdict, Verdict::Pass(_))), expected, "{status}");
        }
    }

    #[test]
    fn only_what_was_chosen_is_taken_and_all_its_lines() {
        let fields = [
            ("x-user", "a"),
            ("x-user", "b"),
            ("x-other", "c"),
            ("set-cookie", "d"),
            ("location", "/e"),
            ("connection", "x-user"),
        ];
        let Some(Verdict::Pass(granted)) = Verdict::of(answer(200, &fields), &keeps()) else { panic!() };
        assert_eq!((granted.upstream.len(), granted.client.len()), (2, 1));
        let Some(Verdict::Refuse(refused)) = Verdict::of(answer(302, &fields), &keeps()) else { panic!() };
        assert_eq!(refused.headers, [(header::LOCATION, HeaderValue::from_static("/e"))]);
        let huge = "x".repeat(MAX_TAKEN);
        assert!(Verdict::of(answer(200, &[("x-user", &huge)]), &keeps()).is_none());
        assert!(Verdict::of(answer(200, &[("x-other", &huge)]), &keeps()).is_some());
    }

    #[test]
    fn what_is_for_one_caller_is_not_remembered() {
        let ttl = Duration::from_secs(60);
        for (fields, kept) in [
            (&[][..], Some(60)),
            (&[("cache-control", "max-age=5")], Some(5)),
            (&[("cache-control", "public, Max-Age=600")], Some(60)),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "max-age=x")], None),
            (&[("cache-control", "public"), ("cache-control", "No-Store")], None),
            (&[("cache-control", "private=\"x\"")], None),
            (&[("cache-control", "no-cache")], None),
            (&[("set-cookie", "a=b")], None),
        ] {
            assert_eq!(
                memorable(&answer(200, fields), ttl, SystemTime::now()).map(|ttl| ttl.as_secs()),
                kept,
                "{fields:?}"
            );
        }
    }
}
