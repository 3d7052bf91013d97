//! What a server says about when to come again.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What a server says about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// Not before this time has passed.
    After(Duration),
    Never,
}

/// Reads a head or trailers. Of several words the one that is meant for retries counts, else the next.
pub(super) fn told(fields: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Told {
    if let Some(value) = fields.get(PUSHBACK) {
        // gRFC A6: what is no number, or a negative one, means not to.
        return number(value.as_bytes()).map_or(Told::Never, |ms| Told::After(Duration::from_millis(ms)));
    }
    let after = match fields.get(header::RETRY_AFTER) {
        Some(value) => {
            number(value.as_bytes()).map(Duration::from_secs).or_else(|| until(value.to_str().ok()?, now()))
        }
        None => fields.get_all(RATE_LIMIT).iter().filter_map(|value| reset(value.to_str().ok()?)).max(),
    };
    after.map_or(Told::Nothing, Told::After)
}

/// `HTTP-date` (RFC 9110 section 10.2.3). What has passed is now.
fn until(date: &str, now: SystemTime) -> Option<Duration> {
    let at = httpdate::parse_http_date(date).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// `RateLimit: "name";r=0;t=30` (draft-ietf-httpapi-ratelimit-headers): the longest time until something is left, of the
/// limits that have nothing left.
fn reset(list: &str) -> Option<Duration> {
    let of = |item: &str| {
        let parameter = |name: &str| {
            item.split(';').skip(1).find_map(|parameter| {
                let (key, value) = parameter.split_once('=')?;
                (key.trim() == name).then(|| number(value.trim().as_bytes()))?
            })
        };
        (parameter("r") == Some(0)).then(|| parameter("t"))?
    };
    list.split(',').filter_map(of).max().map(Duration::from_secs)
}

/// Digits only. More than a `u64` can hold is as long as can be.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[(&'static str, &str)]) -> Told {
        let pairs =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        told(&pairs.collect(), || SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn every_form_is_read() {
        let after = |ms| Told::After(Duration::from_millis(ms));
        for (fields, expected) in [
            (&[("grpc-retry-pushback-ms", "250")][..], after(250)),
            (&[("grpc-retry-pushback-ms", "0")], after(0)),
            (&[("grpc-retry-pushback-ms", "-1")], Told::Never),
            (&[("grpc-retry-pushback-ms", "soon")], Told::Never),
            (&[("grpc-retry-pushback-ms", "")], Told::Never),
            (&[("grpc-retry-pushback-ms", "9"), ("retry-after", "5")], after(9)),
            (&[("retry-after", "5")], after(5_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")], after(3_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")], after(0)),
            (&[("retry-after", "-5")], Told::Nothing),
            (&[("retry-after", "5.5")], Told::Nothing),
            (&[("ratelimit", "\"a\";r=0;t=7, \"b\";t=9; r=0, \"c\";r=1;t=99")], after(9_000)),
            (&[("ratelimit", "\"a\";r=4;t=7")], Told::Nothing),
            (&[("ratelimit", "\"a\";r=0")], Told::Nothing),
            (&[("ratelimit", "\"a\";r=0;t=7"), ("retry-after", "2")], after(2_000)),
            (&[], Told::Nothing),
        ] {
            assert_eq!(read(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn an_absurd_time_is_long_and_nothing_else() {
        let nines = "9".repeat(40);
        for name in ["retry-after", "grpc-retry-pushback-ms"] {
            let Told::After(long) = read(&[(name, &nines)]) else { panic!("{name}") };
            assert!(long > Duration::from_secs(1 << 50));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(value in prop::collection::vec(any::<u8>(), 0..40)) {
            for name in [PUSHBACK, header::RETRY_AFTER, RATE_LIMIT] {
                if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                    let _ = told(&[(name, value)].into_iter().collect(), SystemTime::now);
                }
            }
        }
    }
}
