//! A time left, as it is written in header fields.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Up to eight digits and a unit: gRPC over HTTP/2, "Requests".
pub(super) fn grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let count = number(digits).filter(|_| digits.len() <= 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Milliseconds, or what gRPC writes.
pub(super) fn plain(value: &[u8]) -> Option<Duration> {
    number(value).map(Duration::from_millis).or_else(|| grpc(value))
}

/// Digits, of which a `u64` holds so many.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// In the finest unit that has room in eight digits; what is less than that is left out.
pub(super) fn to_grpc(left: Duration) -> Option<HeaderValue> {
    const MOST: u128 = 99_999_999;
    let seconds = u128::from(left.as_secs());
    let units = [
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (seconds, 'S'),
        (seconds / 60, 'M'),
        ((seconds / 3600).min(MOST), 'H'),
    ];
    let (count, unit) = units.into_iter().find(|(count, _)| *count <= MOST)?;
    HeaderValue::try_from(format!("{count}{unit}")).ok()
}

/// Milliseconds.
pub(super) fn to_plain(left: Duration) -> HeaderValue {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into()
}
