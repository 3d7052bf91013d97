//! How a new id is made.

use crate::{chance::distinct, context::RequestId};
use bytes::Bytes;
use http::HeaderValue;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::{Builder, fmt::Hyphenated};

struct Text([u8; Hyphenated::LENGTH]);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A new UUIDv7 (RFC 9562, section 5.7) of the wall-clock time `now`.
///
/// Its 74 bits beside the time are random, though no secret. One allocation holds the text together with its
/// reference count, so that the copies on the request, the response and the context cost none.
pub(crate) fn make(now: SystemTime) -> RequestId {
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let [_, _, _, _, _, _, random @ ..] = distinct().to_ne_bytes();
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let mut text = Text([0; Hyphenated::LENGTH]);
    id.hyphenated().encode_lower(&mut text.0);
    let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
    #[expect(clippy::expect_used, reason = "a UUID's text is hexadecimal digits and hyphens")]
    RequestId::made(value.expect("visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn it_is_a_uuid_of_version_7_with_its_time() {
        let id = make(UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab));
        let uuid = Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert!(id.as_str().starts_with("01234567-89ab-7"));
    }

    #[test]
    fn a_clock_before_the_epoch_still_makes_distinct_ids() {
        let before = UNIX_EPOCH - Duration::from_secs(5);
        assert_ne!(make(before), make(before));
    }

    #[test]
    fn ids_do_not_repeat_within_one_instant() {
        let now = UNIX_EPOCH + Duration::from_secs(1);
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| make(now)).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
