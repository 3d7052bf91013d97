//! How long an answer may be used, by its own account (RFC 9111 section 4.2): one reader for whatever is remembered.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// The largest number of seconds there is in these fields (RFC 9111 section 1.2.2).
const MOST: u64 = 1 << 31;

/// What is left of an answer's lifetime; `None`: it says nothing of it.
///
/// `s-maxage` is for caches that serve others, which this is not. What makes no sense counts as over (section 4.2.1).
#[cfg(any(feature = "admission", feature = "jwt", test))]
pub(crate) fn lifetime(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    Some(whole(headers, now)?.saturating_sub(age(headers)))
}

/// The same from when it was made.
pub(crate) fn whole(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    cache_control(headers).or_else(|| expires(headers, now))
}

/// How old it is when it comes.
pub(crate) fn age(headers: &HeaderMap) -> Duration {
    headers.get(header::AGE).and_then(|value| seconds(value.to_str().ok()?)).unwrap_or_default()
}

/// The time of `max-age`, nothing if it must not be kept; `None` if neither is said.
fn cache_control(headers: &HeaderMap) -> Option<Duration> {
    let told = directives(headers).filter_map(|(name, value)| {
        if name.eq_ignore_ascii_case("max-age") {
            Some(time(value))
        } else {
            let never = name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache");
            never.then_some(Duration::ZERO)
        }
    });
    // The strictest counts of those that stand there more than once.
    told.min()
}

/// The time that a directive gives, the strictest if it stands there more than once.
#[cfg(feature = "resilience")]
pub(crate) fn given(headers: &HeaderMap, directive: &str) -> Option<Duration> {
    let named = directives(headers).filter(|(name, _)| name.eq_ignore_ascii_case(directive));
    named.map(|(_, value)| time(value)).min()
}

/// Whether a directive stands there, whatever is said of it.
#[cfg(any(feature = "admission", feature = "resilience"))]
pub(crate) fn says(headers: &HeaderMap, directive: &str) -> bool {
    directives(headers).any(|(name, _)| name.eq_ignore_ascii_case(directive))
}

/// What makes no sense is no time at all.
fn time(value: &str) -> Duration {
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    seconds(bare).unwrap_or_default()
}

/// What stands in all lines of `Cache-Control`: names and what is said of them. A line that cannot be read says the
/// strictest.
fn directives(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    lines.flat_map(|line| Directives(line.to_str().unwrap_or("no-cache"))).map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        (name.trim(), value.trim())
    })
}

/// The time until `Expires`, on the sender's clock if it shows that.
fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    headers.get(header::EXPIRES)?;
    let until = date(headers, &header::EXPIRES).unwrap_or(SystemTime::UNIX_EPOCH);
    let from = date(headers, &header::DATE).unwrap_or(now);
    Some(until.duration_since(from).unwrap_or_default().min(Duration::from_secs(MOST)))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Digits and nothing else; more than there can be is the most there can be.
fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(MOST).min(MOST)))
}

/// The directives of one line, at the commas that do not stand in quotes.
struct Directives<'l>(&'l str);

impl<'l> Iterator for Directives<'l> {
    type Item = &'l str;

    fn next(&mut self) -> Option<&'l str> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.find(|c| {
            let bare = !escaped;
            escaped = quoted && bare && c == '\\';
            quoted ^= bare && c == '"';
            c == ',' && !quoted
        });
        let (directive, rest) = end.map_or((self.0, ""), |end| (&self.0[..end], &self.0[end + 1..]));
        self.0 = rest;
        Some(directive.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn told(fields: &[(&str, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        lifetime(&headers, now()).map(|time| time.as_secs())
    }

    fn at(seconds: u64) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn cache_control_says_how_long() {
        for (line, expected) in [
            ("max-age=300", Some(300)),
            ("public, max-age=300, must-revalidate", Some(300)),
            ("MAX-AGE = 300", Some(300)),
            ("max-age=\"300\"", Some(300)),
            ("max-age=300, max-age=20", Some(20)),
            ("max-age=300, no-cache", Some(0)),
            ("no-store", Some(0)),
            ("no-cache=\"set-cookie, max-age=9\"", Some(0)),
            ("max-age=0", Some(0)),
            ("private", None),
            ("s-maxage=300", None),
            ("s-maxage=300, max-age=20", Some(20)),
            ("ext=\"max-age=1\", max-age=20", Some(20)),
            ("ext=\"a\\\", max-age=1\", max-age=20", Some(20)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=1 2", Some(0)),
            ("max-age=99999999999999999999999999", Some(MOST)),
            ("", None),
            (",,", None),
        ] {
            assert_eq!(told(&[("cache-control", line)]), expected, "{line}");
        }
        assert_eq!(told(&[("cache-control", "public"), ("cache-control", "max-age=9")]), Some(9));
    }

    #[test]
    fn expires_is_believed_where_cache_control_says_nothing() {
        assert_eq!(told(&[("expires", &at(NOW + 60))]), Some(60));
        assert_eq!(told(&[("expires", &at(NOW + 60)), ("cache-control", "max-age=5")]), Some(5));
        assert_eq!(told(&[("expires", &at(NOW + 60)), ("cache-control", "public")]), Some(60));
        assert_eq!(told(&[("expires", &at(NOW - 60))]), Some(0));
        assert_eq!(told(&[("expires", "0")]), Some(0));
        assert_eq!(told(&[("expires", "tomorrow")]), Some(0));
        // The sender's clock is a day behind ours.
        let (date, expires) = (at(NOW - 86_400), at(NOW - 86_400 + 60));
        assert_eq!(told(&[("date", &date), ("expires", &expires)]), Some(60));
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn the_time_on_the_way_counts() {
        assert_eq!(told(&[("cache-control", "max-age=300"), ("age", "100")]), Some(200));
        assert_eq!(told(&[("cache-control", "max-age=300"), ("age", "400")]), Some(0));
        assert_eq!(told(&[("cache-control", "max-age=300"), ("age", "-5")]), Some(300));
        assert_eq!(told(&[("expires", &at(NOW + 60)), ("age", "10")]), Some(50));
        assert_eq!(told(&[("age", "10")]), None);
    }

    proptest! {
        #[test]
        fn strangers_say_what_they_like(
            control in proptest::collection::vec("[ -~]{0,40}", 0..3),
            expires in proptest::option::of("[ -~]{0,40}"),
            age in proptest::option::of("[ -~]{0,12}"),
        ) {
            let fields = control.iter().map(|line| ("cache-control", line.as_str()));
            let fields = fields.chain(expires.iter().map(|line| ("expires", line.as_str())));
            let fields: Vec<_> = fields.chain(age.iter().map(|line| ("age", line.as_str()))).collect();
            prop_assert!(told(&fields).is_none_or(|seconds| seconds <= MOST));
        }

        #[test]
        fn max_age_goes_both_ways(seconds in 0..MOST, age in 0..MOST) {
            let fields = [("cache-control", format!("max-age={seconds}")), ("age", age.to_string())];
            let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
            prop_assert_eq!(told(&fields), Some(seconds.saturating_sub(age)));
        }
    }
}
