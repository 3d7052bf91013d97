//! What a peer speaks, by its first bytes.

/// What is told by no more than this is not HTTP.
pub(super) const ENOUGH: usize = 1_024;

/// What an HTTP/2 connection starts with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is looked at.
const LONGEST_METHOD: usize = 24;

/// Those of RFC 9110, and PATCH. By one of them a request is told before its first line has ended.
const METHODS: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"];

/// Whether these first bytes of a connection are HTTP's, of any version, as [`Streams::detected`](crate::transport::Streams::detected)
/// tells them. `None`: more are needed.
///
/// ```
/// use portcullis::transport::is_http;
///
/// assert_eq!(is_http(b"GET /orders"), Some(true));
/// assert_eq!(is_http(b"EHLO mail.example\r\n"), Some(false));
/// assert_eq!(is_http(b"PRI * HTTP/2"), None);
/// ```
#[must_use]
pub fn is_http(bytes: &[u8]) -> Option<bool> {
    told_of_any(bytes).map(|speech| speech != Speech::Other)
}

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Http1,
    Http2,
    Other,
}

/// Whether it is HTTP/2 or, if it is not, whatever else. `None`: more bytes are needed.
pub(super) fn told_of_http(bytes: &[u8]) -> Option<Speech> {
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] != PREFACE[..compared] {
        return Some(Speech::Http1);
    }
    (compared == PREFACE.len()).then_some(Speech::Http2)
}

/// Which of all it is. `None`: more bytes are needed. More bytes never make another of what was told.
///
/// HTTP/1 begins with a method, a space and a target of one of the usual forms, or else with a whole line that ends in the
/// version. So a command of a protocol in text is no request, though it begins with a word and a space.
pub(super) fn told_of_any(bytes: &[u8]) -> Option<Speech> {
    match told_of_http(bytes) {
        Some(Speech::Http1) => told_of_line(bytes),
        Some(other) => Some(other),
        None => None,
    }
}

fn told_of_line(bytes: &[u8]) -> Option<Speech> {
    let bytes = &bytes[..bytes.len().min(ENOUGH)];
    let unended = if bytes.len() == ENOUGH { Some(Speech::Other) } else { None };
    let method = bytes.iter().take(LONGEST_METHOD + 1).take_while(|byte| is_token(**byte)).count();
    if method > LONGEST_METHOD {
        return Some(Speech::Other);
    }
    let Some((space, target)) = bytes[method..].split_first() else {
        return if method == 0 { None } else { unended };
    };
    if method == 0 || *space != b' ' {
        return Some(Speech::Other);
    }
    if METHODS.contains(&&bytes[..method]) {
        match *target {
            [] => return None,
            [b'/' | b'*', ..] => return Some(Speech::Http1),
            _ if target.len() >= 4 && target[..4].eq_ignore_ascii_case(b"http") => {
                return Some(Speech::Http1);
            }
            _ => {}
        }
    }
    let line = target.iter().take_while(|byte| byte.is_ascii_graphic() || **byte == b' ').count();
    match target.get(line) {
        None => unended,
        Some(b'\r' | b'\n') if ends_in_version(&target[..line]) => Some(Speech::Http1),
        Some(_) => Some(Speech::Other),
    }
}

fn ends_in_version(line: &[u8]) -> bool {
    let Some((rest, version)) = line.split_last_chunk::<9>() else { return false };
    version.starts_with(b" HTTP/1.") && version[8].is_ascii_digit() && !rest.is_empty()
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is told, and after how many bytes.
    fn told(bytes: &[u8]) -> (Option<Speech>, usize) {
        let first = (0..=bytes.len()).find_map(|n| Some((Some(told_of_any(&bytes[..n])?), n)));
        first.unwrap_or((None, bytes.len()))
    }

    #[test]
    fn http_is_told_as_soon_as_it_can_be() {
        for (bytes, speech, after) in [
            (&b"GET / HTTP/1.1\r\n"[..], Speech::Http1, 5),
            (b"POST /orders HTTP/1.1\r\n", Speech::Http1, 6),
            (b"PATCH /orders", Speech::Http1, 7),
            (b"OPTIONS * HTTP/1.1\r\n", Speech::Http1, 9),
            (b"GET http://shop.example/ HTTP/1.1\r\n", Speech::Http1, 8),
            (b"CONNECT shop.example:443 HTTP/1.1\r\n", Speech::Http1, 34),
            (b"PROPFIND /files HTTP/1.1\r\n", Speech::Http1, 25),
            (b"get /files HTTP/1.0\n", Speech::Http1, 20),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Speech::Http2, 24),
            (b"PRI * HTTP/1.1\r\n", Speech::Http1, 15),
        ] {
            assert_eq!(told(bytes), (Some(speech), after), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn other_protocols_are_told() {
        for (bytes, after) in [
            (&b"\x16\x03\x01\x02\x00"[..], 1),        // TLS
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", 1), // PostgreSQL, Kafka
            (b"*1\r\n$4\r\nPING\r\n", 3),             // Redis
            (b"AMQP\x00\x00\x09\x01", 5),
            (b"SSH-2.0-OpenSSH_9.9\r\n", 20),
            (b"EHLO mail.example\r\n", 18),
            (b"GET key\r\n", 8), // memcached, Redis by hand
            (b"SET a b HTTP/2.0\r\n", 17),
            (b"PRI * HTTP/2.0\r\n\r\nSMTP", 21),
            (b" GET / HTTP/1.1\r\n", 1),
            (b"\r\n", 1),
            (b"GET\t/ HTTP/1.1\r\n", 4),
            (b"CONNECT  HTTP/1.1\r\n", 18),
            (b"thisisnomethodofanyrequest / HTTP/1.1\r\n", 25),
        ] {
            assert_eq!(told(bytes), (Some(Speech::Other), after), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_goes_on_for_ever_is_not_waited_for() {
        let endless = [b"PURGE /".as_slice(), &[b'a'; 2 * ENOUGH]].concat();
        assert_eq!(told(&endless), (Some(Speech::Other), ENOUGH));
        assert_eq!(told(b"GE"), (None, 2));
        assert_eq!(told(b""), (None, 0));
        assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\nSM\r\n"), (None, 22));
    }

    proptest! {
        #[test]
        fn what_was_told_stands(bytes in proptest::collection::vec(any::<u8>(), 0..64), rest in ".{0,64}") {
            let more = [&bytes[..], rest.as_bytes()].concat();
            if let Some(speech) = told_of_any(&bytes) {
                prop_assert_eq!(told_of_any(&more), Some(speech));
            }
        }

        #[test]
        fn what_was_told_of_text_stands(line in "[A-Z]{1,9} [/*a-zA-Z0-9:. ]{0,12}( HTTP/[12].[01])?\r?\n?", cut in any::<proptest::sample::Index>()) {
            let cut = cut.index(line.len() + 1);
            if let Some(speech) = told_of_any(&line.as_bytes()[..cut]) {
                prop_assert_eq!(told_of_any(line.as_bytes()), Some(speech));
            }
        }

        #[test]
        fn every_request_line_is_http(method in "[A-Z]{1,12}", target in "/[a-z0-9/?=&%]{0,200}", minor in 0..2) {
            let line = format!("{method} {target} HTTP/1.{minor}\r\n");
            prop_assert_eq!(told_of_any(line.as_bytes()), Some(Speech::Http1));
        }
    }
}
