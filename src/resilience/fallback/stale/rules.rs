//! Which answers may be kept, and for how long they may be given in the place of a failure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::Stale;
use crate::{
    freshness::{given, says, whole},
    key::Key,
};

impl Stale {
    /// For how long an answer may be given, from when it was made; `None`: it is not to be kept.
    ///
    /// | it says | it may be given |
    /// |---|---|
    /// | `no-store`, `no-cache`, `Set-Cookie`, `Content-Range`, `Vary` by what is not in the key | never |
    /// | `private`, or neither `public` nor `s-maxage` | to the one caller that a key tells |
    /// | `must-revalidate`, `proxy-revalidate`, `s-maxage` | while it is fresh (RFC 9111 section 4.2.4) |
    /// | `stale-if-error=N` | for N seconds longer than it is fresh (RFC 5861 section 4) |
    /// | none of these | for `max_age` |
    ///
    /// Never for longer than `max_age`.
    pub(super) fn lasts(&self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        let says = |name| says(headers, name);
        let is_shared = !says("private") && (says("public") || says("s-maxage"));
        let is_kept = status == StatusCode::OK
            && (is_shared || self.by.as_ref().is_some_and(Key::tells_callers))
            && !says("no-store")
            && !says("no-cache")
            && !headers.contains_key(header::SET_COOKIE)
            && !headers.contains_key(header::CONTENT_RANGE)
            && self.tells_apart(headers);
        if !is_kept {
            return None;
        }
        let now = self.clock.now();
        let fresh = || given(headers, "s-maxage").or_else(|| whole(headers, now)).unwrap_or_default();
        let stale = match ["must-revalidate", "proxy-revalidate", "s-maxage"].into_iter().any(says) {
            true => Some(Duration::ZERO),
            false => given(headers, "stale-if-error"),
        };
        Some(stale.map_or(self.max_age, |stale| fresh().saturating_add(stale).min(self.max_age)))
    }

    /// Whether all that the answer varies by is part of the key.
    fn tells_apart(&self, headers: &HeaderMap) -> bool {
        let names =
            headers.get_all(header::VARY).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let mut names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
        let keys = || self.by.iter().chain(&*self.varies);
        names
            .all(|name| HeaderName::from_bytes(name).is_ok_and(|name| keys().any(|key| key.has_field(&name))))
    }
}

/// Whether an answer that is not kept tells that what was kept is there no more, or no more for this caller.
pub(super) fn replaces(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 401..=404 | 410 | 451)
}
