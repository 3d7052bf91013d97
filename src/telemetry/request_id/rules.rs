//! Which values may serve as an id, and how a new one is made.

use bytes::Bytes;
use http::HeaderValue;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::{NoContext, Timestamp, Uuid, fmt::Hyphenated};

/// The longest id that is taken from a peer, in bytes.
pub const MAX_LEN: usize = 128;

/// Visible ASCII that means something to a log, a template or a shell; see the module docs.
const REFUSED: &[u8] = b"\"'`\\,;<>{}$%";

const SAFE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        table[byte] = true;
        byte += 1;
    }
    let mut i = 0;
    while i < REFUSED.len() {
        table[REFUSED[i] as usize] = false;
        i += 1;
    }
    table
};

/// Whether `value` may be taken as a request id: 1 to [`MAX_LEN`] bytes of visible ASCII, none of which is
/// one of `` " ' ` \ , ; < > { } $ % ``.
#[must_use]
pub fn is_acceptable(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= MAX_LEN && value.iter().all(|&byte| SAFE[usize::from(byte)])
}

struct Text([u8; Hyphenated::LENGTH]);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A new UUIDv7 (RFC 9562, section 5.7) of the wall-clock time `now`.
///
/// Its 74 bits beside the time are random. One allocation holds the text together with its reference count,
/// so that the copies on the request, the response and the context cost none.
pub(super) fn make(now: SystemTime) -> HeaderValue {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // `NoContext`: uuid's own counter context is a mutex that all threads would share.
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos()));
    let mut text = Text([0; Hyphenated::LENGTH]);
    id.hyphenated().encode_lower(&mut text.0);
    #[expect(clippy::expect_used, reason = "a UUID's text is hexadecimal digits and hyphens")]
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).expect("visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_made_id_is_a_uuid_of_version_7_with_its_time() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab);
        let value = make(now);
        let id = Uuid::parse_str(value.to_str().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert!(value.to_str().unwrap().starts_with("01234567-89ab-7"));
        assert!(is_acceptable(value.as_bytes()));
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

    #[test]
    fn usual_ids_are_taken() {
        for id in [
            "0",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "018f4b9e-7c1e-7000-8000-000000000000",
            "01J9ZC6Z3V8Q7",
            "Root=1-67891233-abcdef012345678912345678",
            "svc/pod-1:42",
            "aGVsbG8+d29ybGQ/IQ==",
            "a.b_c~d@e#f!g&h*i(j)[k]^|",
        ] {
            assert!(is_acceptable(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn what_could_break_a_log_is_not() {
        for id in [
            &b""[..],
            b" ",
            b"a b",
            b"a\tb",
            b"a\r\nx-forged: 1",
            b"a\0b",
            b"a\x1b[31m",
            b"a\x7f",
            b"a\"b",
            b"a'b",
            b"a`id`",
            b"a\\nb",
            b"a,b",
            b"a;b",
            b"<script>",
            b"${jndi:ldap://x}",
            b"$(id)",
            b"%0a",
            "n\u{e4}her".as_bytes(),
            b"\xff\xfe",
        ] {
            assert!(!is_acceptable(id), "{id:?}");
        }
    }

    #[test]
    fn its_length_is_bounded() {
        assert!(is_acceptable(&[b'a'; 128]));
        assert!(!is_acceptable(&[b'a'; 129]));
        assert!(!is_acceptable(&[b'a'; 1 << 16]));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_a_header_value_and_one_printable_word(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            if is_acceptable(&bytes) {
                prop_assert!(HeaderValue::from_bytes(&bytes).is_ok());
                prop_assert!(bytes.iter().all(|b| b.is_ascii_graphic()));
                prop_assert!((1..=MAX_LEN).contains(&bytes.len()));
            }
        }
    }
}
