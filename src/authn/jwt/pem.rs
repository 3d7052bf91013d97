//! Keys in PEM (RFC 7468).

use super::KeyError;

/// The largest text that is read, in bytes.
const MAX: usize = 64 * 1024;

/// The label of the only block in a text, and the base64 in it. What stands around it explains it.
pub(in crate::authn) fn block(pem: &[u8]) -> Result<(&str, &str), KeyError> {
    if pem.len() > MAX {
        return Err(KeyError::Malformed("too large"));
    }
    let text = std::str::from_utf8(pem).map_err(|_| KeyError::Malformed("not text"))?;
    only(text).ok_or(KeyError::Malformed("not one key in PEM"))
}

fn only(text: &str) -> Option<(&str, &str)> {
    let (_, block) = text.split_once("-----BEGIN ")?;
    let (label, rest) = block.split_once("-----")?;
    let (content, end) = rest.split_once("-----END ")?;
    let is_whole = end.strip_prefix(label)?.starts_with("-----");
    (is_whole && !block.contains("-----BEGIN ")).then_some((label, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_block_and_it_ends_as_it_begins() {
        let block = |text: &str| block(text.as_bytes()).map(|(label, content)| format!("{label}:{content}"));
        let key = "-----BEGIN A KEY-----\nAAAA\n-----END A KEY-----\n";
        assert_eq!(block(key).unwrap(), "A KEY:\nAAAA\n");
        assert_eq!(block(&format!("of the test\n{key}made today")).unwrap(), "A KEY:\nAAAA\n");
        for bad in [
            "",
            "-----BEGIN A KEY-----",
            "-----BEGIN A KEY",
            "-----BEGIN A KEY-----\n-----END A KEY",
            "-----BEGIN A KEY-----\n-----END B KEY-----",
            "-----BEGIN A KEY-----\n-----BEGIN A KEY-----\n-----END A KEY-----",
            &key.repeat(2),
        ] {
            assert_eq!(block(bad), Err(KeyError::Malformed("not one key in PEM")), "{bad}");
        }
        assert_eq!(block(&format!("{}{key}", " ".repeat(MAX))), Err(KeyError::Malformed("too large")));
        assert_eq!(super::block(b"\xff"), Err(KeyError::Malformed("not text")));
    }
}
