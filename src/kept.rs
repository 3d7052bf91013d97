//! A copy of a request's head, for whoever may have to send it again and hardly ever has to: in one piece, since a map of
//! fields takes work for each of them to be copied and dropped.

use std::mem;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// What a head is made of but for its extensions.
pub(crate) struct Kept {
    method: Method,
    version: Version,
    target: Target,
    /// The target, and the fields: the lengths of name and value, then these.
    text: Text,
}

/// What was asked for.
enum Target {
    /// So many bytes at the beginning of the text.
    Text(usize),
    /// One that would be read as another.
    Odd(Box<Uri>),
}

/// What is longer is not read as a target.
const LONGEST: usize = 1 << 15;

/// How many bytes need no memory of their own.
const ROOM: usize = 47;

/// What there is room for beyond its end is zero.
enum Text {
    Here([u8; ROOM]),
    Elsewhere(Vec<u8>),
}

/// The length of a name, and twice that of its value: one more if that is sensitive.
type Lengths = (u16, u64);
const LENGTHS: usize = 2 + 8;

impl Kept {
    #[inline]
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let (target, text) = match parts(uri) {
            (parts, len @ 1..LONGEST) => (Target::Text(len), Text::of(parts, len, headers)),
            _ => (Target::Odd(Box::new(uri.clone())), Text::of([""; 4], 0, headers)),
        };
        Self { method: request.method().clone(), version: request.version(), target, text }
    }

    pub(crate) const fn method(&self) -> &Method {
        &self.method
    }

    /// The head once more, without extensions.
    pub(crate) fn to_request(&self) -> Request<()> {
        let mut request = Request::new(());
        let mut text = match &self.text {
            Text::Here(text) => &text[..],
            Text::Elsewhere(text) => text,
        };
        *request.uri_mut() = match &self.target {
            Target::Odd(uri) => (**uri).clone(),
            // It was one.
            Target::Text(len) => Uri::try_from(take(&mut text, *len)).unwrap_or_default(),
        };
        while let Some((name, value)) = read(&mut text) {
            request.headers_mut().append(name, value);
        }
        debug_assert!(text.iter().all(|byte| *byte == 0), "a field is lost");
        *request.method_mut() = self.method.clone();
        *request.version_mut() = self.version;
        request
    }
}

impl Text {
    fn of(target: [&str; 4], asked: usize, headers: &HeaderMap) -> Self {
        let len = asked + length(headers);
        if len <= ROOM {
            let mut here = [0; ROOM];
            let mut left = &mut here[..];
            pieces(target, headers, |piece| put(&mut left, piece));
            return Self::Here(here);
        }
        let mut elsewhere = Vec::with_capacity(len);
        pieces(target, headers, |piece| elsewhere.extend_from_slice(piece));
        Self::Elsewhere(elsewhere)
    }
}

/// What makes a target when it is written and read again, and its length; nothing if that makes another.
fn parts(uri: &Uri) -> ([&str; 4], usize) {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let parts = match (uri.scheme_str(), uri.authority()) {
        _ if !path.starts_with('/') => [""; 4],
        (Some(scheme), Some(authority)) => [scheme, "://", authority.as_str(), path],
        (None, None) => ["", "", "", path],
        _ => [""; 4],
    };
    (parts, parts.iter().map(|part| part.len()).sum())
}

fn length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| LENGTHS + name.as_str().len() + value.len()).sum()
}

/// What is written down, one after the other.
#[inline]
fn pieces(target: [&str; 4], headers: &HeaderMap, mut put: impl FnMut(&[u8])) {
    target.iter().for_each(|part| put(part.as_bytes()));
    for (name, value) in headers {
        let lengths: Lengths =
            (name.as_str().len() as u16, (value.len() as u64) << 1 | u64::from(value.is_sensitive()));
        let mut both = [0; LENGTHS];
        both[..2].copy_from_slice(&lengths.0.to_ne_bytes());
        both[2..].copy_from_slice(&lengths.1.to_ne_bytes());
        put(&both);
        put(name.as_str().as_bytes());
        put(value.as_bytes());
    }
}

fn put(text: &mut &mut [u8], bytes: &[u8]) {
    let (here, rest) = mem::take(text).split_at_mut(bytes.len());
    here.copy_from_slice(bytes);
    *text = rest;
}

/// The next field; `None` if there are no more. None is lost: each was a field before it was written, with a name that is not
/// empty and not longer than 64 KiB, so that only the zeros beyond the end are none.
fn read(text: &mut &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = u16::from_ne_bytes(text.split_off(..2)?.try_into().ok()?);
    let value = u64::from_ne_bytes(text.split_off(..8)?.try_into().ok()?);
    let name = HeaderName::from_bytes(take(text, name.into())).ok()?;
    let mut field = HeaderValue::from_bytes(take(text, (value >> 1) as usize)).ok()?;
    field.set_sensitive(value & 1 == 1);
    Some((name, field))
}

fn take<'t>(text: &mut &'t [u8], len: usize) -> &'t [u8] {
    text.split_off(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use proptest::prelude::*;

    use super::*;

    fn is_kept(request: &Request<()>) {
        let again = Kept::of(request).to_request();
        assert_eq!(
            (again.method(), again.uri(), again.version()),
            (request.method(), request.uri(), request.version())
        );
        assert_eq!(again.headers(), request.headers());
        let secrets = |request: &Request<()>| {
            request.headers().values().map(HeaderValue::is_sensitive).collect::<Vec<_>>()
        };
        assert_eq!(secrets(&again), secrets(request));
    }

    #[test]
    fn a_copy_is_the_head() {
        let request = Request::put("/a?b").version(Version::HTTP_2);
        is_kept(&request.body(()).unwrap());
        let request = Request::put("/a?b").header("x", "a:b").header("x", "").header("y", &b"\xff;\t"[..]);
        let mut secret = HeaderValue::from_static("hush");
        secret.set_sensitive(true);
        is_kept(&request.header(AUTHORIZATION, secret).header("x", "c").body(()).unwrap());
        for target in
            ["/", "*", "a:80", "http://a", "http://a:80/b?c", "http://u@[::1]/", "/?", "//a/b", "urn://a/b"]
        {
            is_kept(&Request::get(target).body(()).unwrap());
        }
        is_kept(&Request::get(format!("/{}", "a".repeat(LONGEST))).body(()).unwrap());
    }

    #[test]
    fn a_short_head_takes_no_memory() {
        let request = Request::put("/orders/17").header("host", "orders").body(()).unwrap();
        let info = allocation_counter::measure(|| drop(Kept::of(&request)));
        assert_eq!(info.count_total, 0);
        is_kept(&request);
        for len in 0..2 * ROOM {
            is_kept(&Request::get("/").header("x", "v".repeat(len)).body(()).unwrap());
        }
        let long = Request::get("/").header("x", "v".repeat(ROOM)).header("y", "z").body(()).unwrap();
        assert_eq!(allocation_counter::measure(|| drop(Kept::of(&long))).count_total, 1);
    }

    proptest! {
        #[test]
        fn any_head_is_kept(
            path in "/[a-z0-9/?=&%+.-]{0,80}",
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,20}", "[ -~\u{80}-\u{ff}]{0,60}"), 0..12),
        ) {
            let mut request = Request::get(path).body(()).unwrap();
            for (name, value) in &fields {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            is_kept(&request);
        }
    }
}
