//! In which of the 16,384 hash slots of a Cluster the keys of a command are.

use redis::{Arg, Cmd};

/// The slots of a Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key: of what stands between its first `{` and the next `}`, if that is anything, or of all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// The slot of the first key of a command, if it has one.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let word = |at| match command.args_iter().nth(at) {
        Some(Arg::Simple(word)) => Some(word),
        _ => None,
    };
    let is = |name: &str| word(0).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let at = match () {
        () if is("EVAL") || is("EVALSHA") || is("FCALL") => match word(2)? {
            b"0" => return None,
            _ => 3,
        },
        () if is("XGROUP") || is("XINFO") || is("OBJECT") || is("MEMORY") => 2,
        () if is("XREAD") || is("XREADGROUP") => {
            let streams =
                |arg: Arg<&[u8]>| matches!(arg, Arg::Simple(word) if word.eq_ignore_ascii_case(b"STREAMS"));
            command.args_iter().position(streams)? + 1
        }
        () if KEYLESS.iter().any(|name| is(name)) => return None,
        () => 1,
    };
    word(at).map(slot)
}

const KEYLESS: [&str; 10] =
    ["PING", "SCRIPT", "TIME", "INFO", "MULTI", "EXEC", "CLUSTER", "ROLE", "CONFIG", "WAIT"];

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8)
            .fold(crc ^ u16::from(byte) << 8, |crc, _| crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"{"), crc16(b"{") % SLOTS);
    }

    #[test]
    fn the_key_of_a_command_is_found() {
        let of = |words: &str| {
            let mut words = words.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            words.for_each(|word| _ = command.arg(word));
            slot_of(&command)
        };
        for words in [
            "GET k",
            "evalsha abc 1 k a",
            "EVAL abc 2 k l",
            "XREADGROUP GROUP g c COUNT 1 STREAMS k >",
            "XGROUP CREATE k g 0",
            "XADD k * a b",
        ] {
            assert_eq!(of(words), Some(slot(b"k")), "{words}");
        }
        for words in ["PING", "SCRIPT LOAD k", "EVALSHA abc 0 a", "EVALSHA"] {
            assert_eq!(of(words), None, "{words}");
        }
    }
}
