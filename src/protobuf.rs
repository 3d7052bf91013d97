//! Messages of protobuf and frames of gRPC, as far as we read them ourselves: those of a few services that are so small
//! that they need no library.

/// A frame of gRPC begins with a flag and four bytes of length.
pub(crate) const PREFIX: usize = 5;

/// How long the message is behind this prefix; `None` if it is compressed.
pub(crate) fn message_length(prefix: [u8; PREFIX]) -> Option<usize> {
    let [0, length @ ..] = prefix else { return None };
    usize::try_from(u32::from_be_bytes(length)).ok()
}

/// What a field says. Whose field it is knows whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nobody asks for.
    Fixed,
}

/// It is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is no message of protobuf")]
pub(crate) struct Malformed;

/// The fields of a message in their order, each with its number. Of one that stands there several times the last counts,
/// unless it is a list. Nothing follows what is malformed.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return None, // groups are gone
        };
        Some((tag >> 3, value))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        Fields::of(message).collect()
    }

    #[test]
    fn a_prefix_says_how_long_a_message_is() {
        assert_eq!(message_length([0, 0, 0, 1, 2]), Some(258));
        assert_eq!(message_length([1, 0, 0, 1, 2]), None, "compressed");
        assert_eq!(message_length([0, 0xff, 0xff, 0xff, 0xff]), Some(u32::MAX as usize));
    }

    #[test]
    fn fields_come_in_their_order() {
        assert_eq!(read(b""), Ok(vec![]));
        let all =
            [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 0];
        let expected = [
            (1, Value::Number(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed),
            (4, Value::Fixed),
            (1, Value::Number(0)),
        ];
        assert_eq!(read(&all), Ok(expected.to_vec()));
        let largest = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&largest), Ok(vec![(1, Value::Number(u64::MAX))]));
    }

    #[test]
    fn what_is_no_message() {
        let too_large = [0x08, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
        let endless = [0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        for (what, message) in [
            ("a number that does not end", &[0x08][..]),
            ("a number of more than 64 bits", &too_large),
            ("a number of more than ten bytes", &endless),
            ("bytes that reach beyond the end", &[0x12, 0x7f, 1]),
            (
                "more bytes than there are addresses",
                &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            ("a fixed number that is cut", &[0x1d, 1, 2, 3]),
            ("a group", &[0x0b]),
        ] {
            assert_eq!(read(message), Err(Malformed), "{what}");
            assert_eq!(Fields::of(message).count(), 1, "{what}");
        }
    }

    proptest! {
        #[test]
        fn it_panics_on_nothing_and_ends(message in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Fields::of(&message).count() <= message.len());
        }
    }
}
