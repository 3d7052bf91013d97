//! What is sent to the authorizer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, uri::Scheme};

use crate::{
    body::Peeked,
    cookie,
    head::Head,
    identity::{ClientAddr, PeerAddr},
    matching::ReceivedHost,
};

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const BODY: HeaderName = HeaderName::from_static("x-forwarded-body");

/// The head of the question, which is owned: the request waits meanwhile.
pub(super) fn head(url: &Uri, sent: &[HeaderName], head: &Head<'_>) -> Request<Bytes> {
    let mut question = Request::new(Bytes::new());
    *question.uri_mut() = url.clone();
    let headers = question.headers_mut();
    headers.reserve(sent.len() + 6);
    for name in sent {
        for line in head.headers().get_all(name) {
            headers.append(name, line.clone());
        }
    }
    // The authorizer may speak HTTP/1.
    cookie::join(headers);
    told(headers, head);
    question
}

/// Adds the body, or what of it is to be seen.
pub(super) fn with_body(
    mut question: Request<Bytes>,
    kind: Option<HeaderValue>,
    body: &Peeked,
) -> Request<Bytes> {
    *question.method_mut() = Method::POST;
    if let Some(kind) = kind {
        question.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    if !body.is_whole() {
        question.headers_mut().insert(BODY, HeaderValue::from_static("partial"));
    }
    *question.body_mut() = body.bytes().clone();
    question
}

/// What is asked, and by whom.
fn told(headers: &mut HeaderMap, head: &Head<'_>) {
    let extensions = head.extensions();
    let mut tell = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    tell(METHOD, HeaderValue::try_from(head.method().as_str()).ok());
    let secure = extensions.get::<Scheme>().is_some_and(|scheme| *scheme == Scheme::HTTPS);
    tell(PROTO, Some(HeaderValue::from_static(if secure { "https" } else { "http" })));
    let received = extensions.get::<ReceivedHost>().map(|host| host.0.clone());
    let target = || HeaderValue::try_from(head.uri().authority()?.as_str()).ok();
    tell(HOST, received.or_else(target).or_else(|| head.headers().get(header::HOST).cloned()));
    let uri = head.uri().path_and_query().map_or("/", |target| target.as_str());
    tell(URI, HeaderValue::try_from(uri).ok());
    let client = extensions.get::<ClientAddr>().map(|client| client.ip());
    let client = client.or_else(|| extensions.get::<PeerAddr>().map(|peer| peer.ip()));
    tell(FOR, client.and_then(|client| HeaderValue::try_from(client.to_string()).ok()));
}

/// Everything that is sent, so that no two different questions have the same key.
pub(super) fn key(question: &Request<Bytes>) -> Box<[u8]> {
    let mut key = Vec::with_capacity(256 + question.body().len());
    let mut part = |bytes: &[u8]| {
        key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        key.extend_from_slice(bytes);
    };
    part(question.method().as_str().as_bytes());
    part(question.uri().to_string().as_bytes());
    // The order of names is that of their insertion, which is the same each time.
    for (name, value) in question.headers() {
        part(name.as_str().as_bytes());
        part(value.as_bytes());
    }
    // An empty name ends the headers.
    part(b"");
    part(question.body());
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(headers: &[(String, String)], body: &str) -> Request<Bytes> {
        let mut question = Request::get("http://a/").body(Bytes::from(body.to_owned())).unwrap();
        for (name, value) in headers {
            question.headers_mut().append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        question
    }

    proptest! {
        #[test]
        fn different_questions_have_different_keys(
            a in prop::collection::vec(("[ab]{1,2}", "[ab:]{0,2}"), 0..4), b in "[ab]{0,3}",
            c in prop::collection::vec(("[ab]{1,2}", "[ab:]{0,2}"), 0..4), d in "[ab]{0,3}",
        ) {
            let (one, other) = (question(&a, &b), question(&c, &d));
            let listed = |q: &Request<Bytes>| -> Vec<(String, Vec<u8>)> {
                q.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
            };
            let same = listed(&one) == listed(&other) && one.body() == other.body();
            prop_assert_eq!(key(&one) == key(&other), same);
        }
    }
}
