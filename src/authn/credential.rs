use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};

use crate::{
    cookie::{cookies, pair},
    head::Head,
    matching::form_decoded as decoded,
};

/// Where in a request a credential stands.
///
/// ```
/// use http::HeaderName;
/// use portcullis::authn::Location;
///
/// let usual = Location::bearer(); // Authorization: Bearer ...
/// let other = Location::header(HeaderName::from_static("x-api-key"));
/// let browser = Location::cookie("session");
/// let link = Location::query("access_token"); // ends up in histories and logs: prefer the others
/// # let _ = (usual, other, browser, link);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Cookie(Box<str>),
    Header(HeaderName),
    Query(Box<str>),
    Scheme(HeaderName, Box<str>),
}

/// A credential was presented in a way that nobody may guess about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the credential is empty or not visible ASCII")]
    Malformed,
    #[error("more than one credential of a kind")]
    Repeated,
    #[error("the credential is too large")]
    TooLarge,
}

impl Location {
    /// `Authorization: Bearer` (RFC 6750 section 2.1).
    #[must_use]
    pub fn bearer() -> Self {
        Self::scheme(header::AUTHORIZATION, "Bearer")
    }

    /// A cookie. Names have case (RFC 6265).
    #[must_use]
    pub fn cookie(name: impl Into<Box<str>>) -> Self {
        Self(Place::Cookie(name.into()))
    }

    /// A header field whose whole value is the credential.
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self(Place::Header(name))
    }

    /// A parameter of the query. Names have case.
    #[must_use]
    pub fn query(name: impl Into<Box<str>>) -> Self {
        Self(Place::Query(name.into()))
    }

    /// A header field whose value is a scheme, in any case, and the credential.
    #[must_use]
    pub fn scheme(name: HeaderName, scheme: impl Into<Box<str>>) -> Self {
        Self(Place::Scheme(name, scheme.into()))
    }

    /// The header field that holds the credential, for whoever redacts. A cookie is in `Cookie`.
    #[must_use]
    pub fn header_name(&self) -> Option<&HeaderName> {
        match &self.0 {
            Place::Cookie(_) => Some(&header::COOKIE),
            Place::Header(name) | Place::Scheme(name, _) => Some(name),
            Place::Query(_) => None,
        }
    }

    /// The parameter of the query that holds the credential, for whoever redacts.
    #[must_use]
    pub fn query_name(&self) -> Option<&str> {
        if let Place::Query(name) = &self.0 { Some(name) } else { None }
    }

    fn find<'h>(&self, head: &'h Head<'_>, found: &mut Found<'h>) -> Result<(), Fault> {
        match &self.0 {
            Place::Cookie(name) => cookies(head.headers()).try_for_each(|(key, value)| {
                if key == name.as_bytes() { found.add(unquoted(value).into()) } else { Ok(()) }
            }),
            Place::Header(name) => match only(head.headers(), name)? {
                Some(value) => found.add(value.into()),
                None => Ok(()),
            },
            Place::Query(name) => parameters(head.uri()).try_for_each(|(key, value)| {
                if *decoded(key) == *name.as_bytes() { found.add(decoded(value)) } else { Ok(()) }
            }),
            Place::Scheme(name, scheme) => match only(head.headers(), name)? {
                Some(value) => match after_scheme(value, scheme) {
                    Some(credential) => found.add(credential.into()),
                    None => Ok(()),
                },
                None => Ok(()),
            },
        }
    }

    /// Takes the credential out of the request, and nothing else.
    pub fn remove(&self, head: &mut Head<'_>) {
        match &self.0 {
            Place::Cookie(name) => remove_cookie(head.headers_mut(), name.as_bytes()),
            Place::Header(name) => drop(head.headers_mut().remove(name)),
            Place::Query(name) => remove_parameter(head, name.as_bytes()),
            Place::Scheme(name, scheme) => {
                if head.headers().get_all(name).iter().any(|v| after_scheme(v.as_bytes(), scheme).is_some()) {
                    head.headers_mut().remove(name);
                }
            }
        }
    }
}

/// The credential in `head`, of at most `max` bytes. Two are one too many, wherever they stand: somebody behind
/// this gate might look at the other one.
pub(super) fn find<'h>(
    head: &'h Head<'_>,
    locations: &[Location],
    max: usize,
) -> Result<Option<Cow<'h, str>>, Fault> {
    let mut found = Found { credential: None, max };
    locations.iter().try_for_each(|location| location.find(head, &mut found))?;
    Ok(found.credential)
}

struct Found<'h> {
    credential: Option<Cow<'h, str>>,
    max: usize,
}

impl<'h> Found<'h> {
    /// Nothing of a credential is looked at before its length.
    fn add(&mut self, credential: Cow<'h, [u8]>) -> Result<(), Fault> {
        if self.credential.is_some() {
            return Err(Fault::Repeated);
        }
        if credential.len() > self.max {
            return Err(Fault::TooLarge);
        }
        self.credential = Some(match credential {
            Cow::Borrowed(bytes) => text(bytes)?.into(),
            Cow::Owned(bytes) => text(&bytes)?.to_owned().into(),
        });
        Ok(())
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, Fault> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    if lines.next().is_some() { Err(Fault::Repeated) } else { Ok(first.map(HeaderValue::as_bytes)) }
}

/// What stands after the scheme and its spaces, if the value has this scheme. HTTP/2 brings blanks along that servers of
/// HTTP/1 do not see, and many take a tab for a space: what they would take for a credential must not pass for none.
fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (found, rest) = value.trim_ascii_start().split_at_checked(scheme.len())?;
    let ends = matches!(rest.first(), None | Some(b' ' | b'\t'));
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (ends && found.eq_ignore_ascii_case(scheme.as_bytes())).then(|| &rest[spaces..])
}

/// Nothing but visible ASCII can be a credential; a space would mean two.
fn text(bytes: &[u8]) -> Result<&str, Fault> {
    // Without a way out in the middle, many bytes are looked at at once.
    let visible = bytes.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    match std::str::from_utf8(bytes) {
        Ok(text) if visible && !text.is_empty() => Ok(text),
        _ => Err(Fault::Malformed),
    }
}

fn parameters(uri: &Uri) -> impl Iterator<Item = (&[u8], &[u8])> {
    uri.query().into_iter().flat_map(|query| query.as_bytes().split(|byte| *byte == b'&').map(pair))
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

fn remove_cookie(headers: &mut HeaderMap, name: &[u8]) {
    if !cookies(headers).any(|(key, _)| key == name) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| {
            let kept: Vec<&[u8]> =
                line.as_bytes().split(|b| *b == b';').filter(|part| pair(part).0 != name).collect();
            let line = kept.join(&b';');
            HeaderValue::from_bytes(line.trim_ascii()).ok().filter(|line| !line.is_empty())
        })
        .collect();
    headers.remove(header::COOKIE);
    for line in kept {
        headers.append(header::COOKIE, line);
    }
}

fn remove_parameter(head: &mut Head<'_>, name: &[u8]) {
    if !parameters(head.uri()).any(|(key, _)| *decoded(key) == *name) {
        return;
    }
    let uri = head.uri();
    let kept: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|part| *decoded(pair(part.as_bytes()).0) != *name)
        .collect();
    let mut target = uri.path().to_owned();
    if !kept.is_empty() {
        target.push('?');
        target.push_str(&kept.join("&"));
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *head.uri_mut() = uri;
    }
}
