//! A request, made ready for an upstream.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;

use super::{
    body::{Fault, Uplink},
    expect::Hold,
    hop::{self, Kept},
    options::{Options, Wire},
    service::Settings,
    session::Held,
};
use crate::{
    attempt::Earlier,
    body::{Body, BoxError},
    context::Deadline,
    cookie,
    reject::{Protocol, Reason, Rejection},
    trail::Trail,
    tunnel::{TunnelCut, TunnelLimits},
};

/// A request in the form in which it is sent, and what must be known of it later.
pub(super) struct Outgoing {
    pub(super) request: Request<Body>,
    pub(super) call: Call,
    /// Without a body, so that the head is all of it.
    pub(super) bodiless: bool,
    pub(super) fault: Option<Fault>,
    pub(super) hold: Option<Hold>,
    pub(super) upgrade: Option<Box<Upgrade>>,
}

/// What is to be known of a request to find a connection for it.
pub(super) struct Call {
    pub(super) http2: bool,
    pub(super) trail: Option<Trail>,
    pub(super) earlier: Option<Earlier>,
    /// Of the key by which it is balanced, if it has that.
    pub(super) hash: Option<u64>,
    /// The mark of the subset that it is for, if it is for one.
    pub(super) subset: Option<u64>,
    pub(super) session: Option<Box<Held>>,
    /// Until when somebody waits for it.
    pub(super) until: Option<Deadline>,
}

/// The client would switch to one of these protocols.
pub(super) struct Upgrade {
    pub(super) protocols: HeaderValue,
    pub(super) client: OnUpgrade,
    /// What a timeout outside of us allows.
    pub(super) limits: Option<TunnelLimits>,
    pub(super) cut: Option<TunnelCut>,
}

/// Takes a request as it came, and makes of it the one to be sent.
pub(super) fn outgoing<B>(
    request: Request<B>,
    options: &Options,
    settings: &Settings,
) -> Result<Outgoing, Rejection>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    let fields = Fields::of(&parts.headers);
    check_framing(&parts, fields)?;
    let bodiless = body.is_end_stream();
    let caller = parts.version;
    let kept = hop::strip(&mut parts.headers)?;
    let upgrade = upgrade(&mut parts, &kept, bodiless);
    let http2 = speaks_http2(options.wire, &parts, upgrade.is_some())?;

    host(&mut parts)?;
    if !settings.direct {
        settings.forwarding.tell(&mut parts.headers, &parts.extensions);
    }
    if let Some(host) = &settings.host {
        parts.headers.insert(HOST, host.clone());
    }
    if fields.repeated {
        cookie::join(&mut parts.headers);
    }
    if kept.trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let hold = match fields.expect {
        true => expectation(&mut parts.headers, caller, http2 || bodiless),
        false => None,
    };
    frame(&mut parts, &body, http2);
    if http2 {
        target_http2(&mut parts, options.is_secure())?;
    } else {
        target_http1(&mut parts);
        connection(&mut parts.headers, kept.trailers, upgrade.as_deref());
    }

    let fault = (!bodiless).then(Fault::default);
    let body = match fault.clone() {
        None => Body::empty(),
        Some(fault) => Body::new(Uplink::new(body, fault, hold.clone(), Arc::clone(&settings.asserted))),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers;
    if let Some(hold) = hold.clone() {
        hyper::ext::on_informational(&mut request, move |response| {
            if response.status() == http::StatusCode::CONTINUE {
                hold.open();
            }
        });
    }
    let (trail, earlier) = (parts.extensions.remove(), parts.extensions.remove());
    let call = Call {
        http2,
        trail,
        earlier,
        hash: None,
        subset: None,
        session: None,
        until: parts.extensions.get().copied(),
    };
    Ok(Outgoing { request, call, bodiless, fault, hold, upgrade })
}

/// What is to be looked at closely in a head. One look over the names there are costs less than a search for each of
/// those that seldom are.
#[derive(Default, Clone, Copy)]
struct Fields {
    transfer_encoding: bool,
    content_length: bool,
    expect: bool,
    /// Some field has several lines.
    repeated: bool,
}

impl Fields {
    fn of(headers: &HeaderMap) -> Self {
        let mut fields = Self { repeated: headers.keys_len() < headers.len(), ..Self::default() };
        for name in headers.keys() {
            match name.as_str() {
                "content-length" => fields.content_length = true,
                "expect" => fields.expect = true,
                "transfer-encoding" => fields.transfer_encoding = true,
                _ => {}
            }
        }
        fields
    }
}

/// Refuses what two parties could read as two different messages (RFC 9112 section 6), even if the server in front of
/// us let it through.
fn check_framing(parts: &Parts, fields: Fields) -> Result<(), Rejection> {
    let bad = |detail: &'static str| Rejection::new(Reason::BadRequest).detail(detail);
    let not_offered = |detail: &'static str| Rejection::new(Reason::NotImplemented).detail(detail);
    if parts.method == Method::CONNECT {
        return Err(not_offered("CONNECT is not offered"));
    }
    if fields.transfer_encoding {
        if fields.content_length {
            return Err(bad("both Content-Length and Transfer-Encoding"));
        }
        hop::check_coding(&parts.headers)?;
    }
    if fields.content_length {
        let mut lengths = hop::list(&parts.headers, &CONTENT_LENGTH);
        if let Some(first) = lengths.next()
            && (!first.iter().all(u8::is_ascii_digit) || lengths.any(|length| length != first))
        {
            return Err(bad("malformed Content-Length"));
        }
    }
    if fields.repeated && parts.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(bad("more than one Host"));
    }
    Ok(())
}

/// An upgrade is asked for over HTTP/1.1 and without a body; else the fields are as if they were not there.
fn upgrade(parts: &mut Parts, kept: &Kept, bodiless: bool) -> Option<Box<Upgrade>> {
    let client = parts.extensions.remove::<OnUpgrade>();
    if parts.version != Version::HTTP_11 || !bodiless {
        return None;
    }
    let (limits, cut) = (parts.extensions.get().copied(), parts.extensions.get().cloned());
    Some(Box::new(Upgrade { protocols: kept.upgrade.clone()?, client: client?, limits, cut }))
}

fn speaks_http2(wire: Wire, parts: &Parts, upgrade: bool) -> Result<bool, Rejection> {
    let grpc = || Protocol::of(&parts.headers) == Protocol::Grpc;
    match wire {
        Wire::Http2 if upgrade => {
            Err(Rejection::new(Reason::NotImplemented).detail("this upstream speaks HTTP/2 only: no upgrade"))
        }
        Wire::Http2 => Ok(true),
        Wire::Http1 => Ok(grpc()),
        Wire::Follow => Ok(!upgrade && (parts.version == Version::HTTP_2 || grpc())),
    }
}

/// One host in one place: that of the target, if it has one, goes to `Host` (RFC 9112 section 3.2.2).
fn host(parts: &mut Parts) -> Result<(), Rejection> {
    if let Some(authority) = parts.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Rejection::new(Reason::BadRequest).detail("a user in the request's target"));
        }
        let value = HeaderValue::from_str(authority.as_str())
            .map_err(|error| Rejection::new(Reason::BadRequest).detail("malformed host").source(error))?;
        parts.headers.insert(HOST, value);
    }
    Ok(())
}

/// Keeps `Expect: 100-continue` if the upstream can answer it, and then tells what to hold the body with.
fn expectation(headers: &mut HeaderMap, caller: Version, unanswerable: bool) -> Option<Hold> {
    let expects = headers.get(EXPECT)?.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !expects {
        return None;
    }
    if unanswerable || caller <= Version::HTTP_10 {
        headers.remove(EXPECT);
        return None;
    }
    Some(Hold::default())
}

/// Says how long the body is, from the body itself.
fn frame(parts: &mut Parts, body: &impl HttpBody, http2: bool) {
    let headers = &mut parts.headers;
    let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    match length {
        // Without content, and not of a method that always has some (RFC 9110 section 8.6).
        Some(0) if !matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.remove(CONTENT_LENGTH);
        }
        Some(length) => {
            // Written as we would: with zeros before it some read another number.
            let is_plain = |value: &HeaderValue| value.len() == 1 || value.as_bytes().first() != Some(&b'0');
            let said = headers.get(CONTENT_LENGTH).filter(|value| is_plain(value));
            let said = said.and_then(|value| value.to_str().ok()?.parse().ok());
            if said != Some(length) || headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        None => {
            headers.remove(CONTENT_LENGTH);
            if !http2 {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
    }
}

fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Origin form, or `*` (RFC 9112 section 3.2), and a `Host` in any case.
fn target_http1(parts: &mut Parts) {
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() || parts.uri.scheme().is_some() {
        parts.uri = Uri::from(path_of(&parts.uri));
    }
    if !parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, HeaderValue::from_static(""));
    }
}

/// `:authority` instead of `Host` (RFC 9113 section 8.3.1).
fn target_http2(parts: &mut Parts, secure: bool) -> Result<(), Rejection> {
    let malformed =
        |error: http::Error| Rejection::new(Reason::BadRequest).detail("malformed host").source(error);
    let path = path_of(&parts.uri);
    match parts.headers.remove(HOST).filter(|host| !host.is_empty()) {
        Some(host) => {
            let authority = Authority::try_from(host.as_bytes()).map_err(|error| malformed(error.into()))?;
            let mut uri = http::uri::Parts::default();
            (uri.scheme, uri.authority, uri.path_and_query) =
                (Some(if secure { Scheme::HTTPS } else { Scheme::HTTP }), Some(authority), Some(path));
            parts.uri = Uri::from_parts(uri).map_err(|error| malformed(error.into()))?;
            parts.version = Version::HTTP_2;
        }
        // A caller in HTTP/1.0 may have named none. The h2 crate takes that from a request in HTTP/1 form only.
        None => {
            parts.uri = Uri::from(path);
            parts.version = Version::HTTP_11;
        }
    }
    Ok(())
}

/// The fields of our own hop.
fn connection(headers: &mut HeaderMap, trailers: bool, upgrade: Option<&Upgrade>) {
    let options = match (upgrade, trailers) {
        (Some(upgrade), trailers) => {
            headers.insert(UPGRADE, upgrade.protocols.clone());
            if trailers { "upgrade, te" } else { "upgrade" }
        }
        (None, true) => "te",
        (None, false) => return,
    };
    headers.insert(CONNECTION, HeaderValue::from_static(options));
}
