//! The head of a mirrored request.

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{
        CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
    uri::{Authority, Scheme},
};
use tokio::time::Instant;

use super::Policy;
use crate::{
    body::Body,
    context::{Deadline, RequestId, TraceContext},
    identity::{CallerToken, ClientAddr, PeerAddr, PeerIdentity, Principal},
    key::RouteName,
    matching::ReceivedHost,
};

/// Fields that are about a connection, or about a wait that is not the shadow's.
static OWN_TO_THE_PRIMARY: [HeaderName; 10] = [
    CONNECTION,
    EXPECT,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Whether there can be a shadow of this request: not of a tunnel.
pub(super) fn is_for<B>(request: &Request<B>) -> bool {
    request.method() != Method::CONNECT && !request.headers().contains_key(UPGRADE)
}

/// A copy of the head, as the mirror of this policy is to see it.
pub(super) fn shadow_of<B>(request: &Request<B>, policy: &Policy, now: Instant) -> Request<()> {
    let mut shadow = Request::new(());
    *shadow.method_mut() = request.method().clone();
    *shadow.uri_mut() = suffixed_uri(request.uri(), policy).unwrap_or_else(|| request.uri().clone());
    *shadow.version_mut() = request.version();
    *shadow.headers_mut() = request.headers().clone();
    told(request.extensions(), shadow.extensions_mut());
    shadow.extensions_mut().insert(Deadline::after(now, policy.timeout).imposed());

    let headers = shadow.headers_mut();
    strip(headers);
    for name in &*policy.without {
        headers.remove(name);
    }
    let suffixed = headers.get(HOST).and_then(|host| policy.suffixed(host.to_str().ok()?));
    let suffixed = suffixed.and_then(|host| HeaderValue::try_from(host).ok());
    let asked = suffixed.and_then(|host| headers.insert(HOST, host));
    if let Ok(name) = HeaderValue::from_str(&policy.name) {
        headers.insert(policy.mark.clone(), name);
    }
    if let Some(host) = asked {
        // As for a rewrite: what the client has asked for is told.
        shadow.extensions_mut().get_or_insert_with(|| ReceivedHost(host));
    }
    shadow
}

/// With a body.
pub(super) fn with_body(shadow: Request<()>, body: Body) -> Request<Body> {
    shadow.map(|()| body)
}

/// What of the request's extensions is about the caller and the request. Whatever else stands there, deadlines, tunnels,
/// slates for watchers, is the primary's own.
fn told(from: &Extensions, into: &mut Extensions) {
    fn copy<T: Clone + Send + Sync + 'static>(from: &Extensions, into: &mut Extensions) {
        if let Some(told) = from.get::<T>() {
            into.insert(told.clone());
        }
    }
    copy::<CallerToken>(from, into);
    copy::<ClientAddr>(from, into);
    copy::<PeerAddr>(from, into);
    copy::<PeerIdentity>(from, into);
    copy::<Principal>(from, into);
    copy::<ReceivedHost>(from, into);
    copy::<RequestId>(from, into);
    copy::<RouteName>(from, into);
    copy::<Scheme>(from, into);
    copy::<TraceContext>(from, into);
}

/// Takes away what is for one hop only, also what `Connection` names of the sender's own.
fn strip(headers: &mut HeaderMap) {
    let options = headers.get_all(CONNECTION).iter().filter_map(|options| options.to_str().ok());
    let named = options.flat_map(|options| options.split(',')).map(str::trim);
    let named: Vec<HeaderName> = named
        .filter(|name| name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-")))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&OWN_TO_THE_PRIMARY) {
        headers.remove(name);
    }
    // Whether trailers are taken is for each hop to say; gRPC asks for it on each.
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

fn suffixed_uri(uri: &Uri, policy: &Policy) -> Option<Uri> {
    let authority = policy.suffixed(uri.authority()?.as_str())?;
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(authority).ok()?);
    Uri::from_parts(parts).ok()
}
