//! Hexadecimal digits.

/// What a digit stands for, in either case.
pub(crate) fn digit(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => return None,
    })
}

/// The byte that two digits stand for.
pub(crate) fn byte(digits: &[u8]) -> Option<u8> {
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_two_digits_in_either_case() {
        for value in 0..=u8::MAX {
            assert_eq!(byte(format!("{value:02x}").as_bytes()), Some(value));
            assert_eq!(byte(format!("{value:02X}").as_bytes()), Some(value));
            assert_eq!(digit(value).is_some(), value.is_ascii_hexdigit());
        }
        for digits in ["", "a", "+1", "abc", "0g", "\u{ff10}"] {
            assert_eq!(byte(digits.as_bytes()), None, "{digits}");
        }
    }
}
