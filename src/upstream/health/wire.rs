//! `grpc.health.v1.Health/Check`, which is so small that it needs no library: a name goes, a number comes.
use bytes::{BufMut, Bytes, BytesMut};

use crate::protobuf::{Fields, PREFIX, Value, message_length};

/// Where it is asked.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// The most bytes of an answer that are read: the frame's five, and many times what a status needs.
pub(super) const MOST: usize = 1024;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// The frame with `HealthCheckRequest { service }`.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2); // field 1, length-delimited
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0); // not compressed
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// Whether the frame with a `HealthCheckResponse` says that it serves; `None` if it is no such frame.
pub(super) fn serves(answer: &[u8]) -> Option<bool> {
    let (prefix, message) = answer.split_first_chunk()?;
    if message_length(*prefix) != Some(message.len()) {
        return None;
    }
    let mut status = 0;
    for field in Fields::of(message) {
        if let (1, Value::Number(number)) = field.ok()? {
            status = number;
        }
    }
    Some(status == SERVING)
}

fn put_varint(into: &mut BytesMut, mut number: u64) {
    while number > 0x7f {
        into.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    into.put_u8(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    /// As protoc's own tools write them; `tests/it/upstream/watched.rs` asks a real server.
    #[test]
    fn it_is_what_others_write() {
        assert_eq!(request(""), frame(&[]));
        assert_eq!(request("orders"), frame(b"\x0a\x06orders"));
        let long = "x".repeat(300);
        assert_eq!(request(&long), frame(&[b"\x0a\xac\x02", long.as_bytes()].concat()));
        assert_eq!(serves(&frame(&[])), Some(false), "UNKNOWN, which is 0, is not written");
        assert_eq!(serves(&frame(&[0x08, 0x01])), Some(true));
        assert_eq!(serves(&frame(&[0x08, 0x02])), Some(false));
        assert_eq!(serves(&frame(&[0x08, 0x03])), Some(false));
    }

    #[test]
    fn what_is_no_answer() {
        assert_eq!(serves(b""), None);
        assert_eq!(serves(&[0, 0, 0, 0]), None);
        assert_eq!(serves(&frame(&[0x08])), None, "a number that does not end");
        assert_eq!(serves(&[0, 0, 0, 0, 3, 0x08, 1]), None, "shorter than it says");
        assert_eq!(serves(&[1, 0, 0, 0, 2, 0x08, 1]), None, "compressed");
        assert_eq!(serves(&frame(&[0x08, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02])), None);
        assert_eq!(serves(&frame(&[0x12, 0x7f, 1])), None, "a field that reaches beyond the end");
        assert_eq!(serves(&frame(&[0x0b])), None, "groups are gone");
        assert_eq!(serves(&frame(&[0x12, 1, b'x', 0x1d, 1, 2, 3, 4, 0x08, 1])), Some(true), "fields to come");
    }

    proptest! {
        #[test]
        fn it_panics_on_nothing(answer in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = serves(&answer);
            let _ = serves(&frame(&answer));
        }
    }
}
