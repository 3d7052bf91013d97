//! Secrets in files, as whoever makes or mounts them writes them.

/// A secret without the line ends behind it: `openssl rand -base64 32 > pepper` and editors write one, and it is no part
/// of any.
pub(crate) fn bare(secret: &[u8]) -> &[u8] {
    let ends = secret.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &secret[..secret.len() - ends]
}

/// The secret in a file of at most so many bytes.
///
/// # Errors
///
/// It cannot be read, or is larger.
#[cfg(any(feature = "jwt", feature = "redis"))]
pub(crate) fn read(path: &std::path::Path, most: usize) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read as _};

    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(Error::new(ErrorKind::FileTooLarge, "larger than a secret can be"));
    }
    bytes.truncate(bare(&bytes).len());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_behind_it_are_no_part_of_it() {
        for (text, secret) in
            [("a", "a"), ("a\n", "a"), ("a\r\n\n", "a"), ("\na b \n", "\na b "), ("\n", ""), ("", "")]
        {
            assert_eq!(bare(text.as_bytes()), secret.as_bytes(), "{text:?}");
        }
    }

    #[cfg(any(feature = "jwt", feature = "redis"))]
    #[test]
    fn no_more_is_read_than_it_may_have() {
        let path = std::env::temp_dir().join(format!("portcullis-secret-{}", std::process::id()));
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"abc");
        assert_eq!(read(&path, 3).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(&path, 3).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}
