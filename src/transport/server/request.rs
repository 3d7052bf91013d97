use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header,
    uri::{Authority, PathAndQuery},
};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::{ServedBody, incoming},
    builder::Limits,
    vitals::{InFlight, Vitals},
};
use crate::{
    body::{Body, BoxError, ResponseBody},
    race::race,
    ready::ReadyCall,
    reject::{Protocol, Reason, Rejection},
    transport::{listener::Observer, peer::Peer, tenure::Tenure},
    tunnel::TunnelCut,
};

/// A tower service as the service of one connection.
pub(super) struct Requests<S> {
    pub(super) service: S,
    pub(super) peer: Peer,
    pub(super) tenure: Tenure,
    pub(super) vitals: Arc<Vitals>,
    pub(super) limits: Arc<Limits>,
    pub(super) observer: Observer,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone,
    B: HttpBody<Data = Bytes, Error: 'static>,
{
    type Response = Response<ServedBody<B>>;
    type Error = BoxError;
    type Future = Exchange<S>;

    fn call(&self, request: Request<Incoming>) -> Exchange<S> {
        let in_flight = Some(self.vitals.begin());
        let asked = Asked { method: request.method().clone(), version: request.version() };
        if let Some(reason) = self.fault(&request) {
            let rejection = self.observer.answering(self.peer.address(), Rejection::new(reason));
            let protocol = Protocol::of(request.headers());
            return Exchange { state: State::Refused { rejection, protocol }, in_flight, asked };
        }
        let (mut head, body) = request.into_parts();
        if self.vitals.is_h2 {
            take_blanks_off(&mut head.headers);
        }
        let rate = self.limits.rates.body.filter(|_| !may_be_silent(&head.headers, self.vitals.is_h2));
        let (body, upload) = incoming(body, self.limits.body_idle, rate, self.vitals.is_h2);
        let mut request = Request::from_parts(head, body);
        let extensions = request.extensions_mut();
        self.peer.tell(extensions);
        if let Some(upload) = upload {
            extensions.insert(upload);
        }
        if !self.vitals.is_h2 && extensions.get::<OnUpgrade>().is_some() {
            extensions.insert(self.vitals.open_tunnel());
            let (drain, tenure) = (self.vitals.drain.cut_off(), self.tenure.cut());
            extensions.insert(TunnelCut::when(race(drain, tenure)));
        }
        // Of HTTP/2 the task of the connection is for all its streams, each of which has one of its own.
        let call = match self.vitals.is_h2 {
            true => ReadyCall::later(self.service.clone(), request),
            false => ReadyCall::failing_as(self.service.clone(), request),
        };
        Exchange { state: State::Called { call }, in_flight, asked }
    }
}

impl<S> Requests<S> {
    /// What is wrong with a head, of what hyper and h2 let pass.
    fn fault<B>(&self, request: &Request<B>) -> Option<Reason> {
        let Limits { head_fields, head_bytes, .. } = *self.limits;
        let (uri, headers) = (request.uri(), request.headers());
        if !self.vitals.is_h2 {
            // With a whole URI for a target, too, it is to have a `Host` (RFC 9112 section 3.2).
            let lacks_host = request.version() == Version::HTTP_11
                && uri.authority().is_some()
                && !headers.contains_key(header::HOST);
            return lacks_host.then_some(Reason::BadRequest);
        }
        let is_large = headers.len() > head_fields || list_size(request) > head_bytes as usize;
        is_large.then_some(Reason::HeadTooLarge)
    }
}

/// Takes off values the blanks around them, which ought not to be there (RFC 9113 section 8.2.1), as is done over HTTP/1: what
/// follows would else not see the same as who gets it so.
fn take_blanks_off(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let bytes = value.as_bytes();
        if !is_blank(bytes.first()) && !is_blank(bytes.last()) {
            continue;
        }
        let start = bytes.iter().position(|byte| !is_blank(Some(byte))).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(|byte| !is_blank(Some(byte))).map_or(start, |last| last + 1);
        // A part of a value is one.
        if let Ok(mut bare) = HeaderValue::from_bytes(&bytes[start..end]) {
            bare.set_sensitive(value.is_sensitive());
            *value = bare;
        }
    }
}

const fn is_blank(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b' ' | b'\t'))
}

/// The size of a head by RFC 9113 section 6.5.2.
fn list_size<B>(request: &Request<B>) -> usize {
    const FIELD: usize = 32;
    let uri = request.uri();
    let size = |name: &str, value: Option<&str>| value.map_or(0, |value| name.len() + value.len() + FIELD);
    let pseudo = size(":method", Some(request.method().as_str()))
        + size(":scheme", uri.scheme_str())
        + size(":authority", uri.authority().map(Authority::as_str))
        + size(":path", uri.path_and_query().map(PathAndQuery::as_str));
    let fields = request.headers().iter();
    fields.fold(pseudo, |sum, (name, value)| sum + name.as_str().len() + value.len() + FIELD)
}

/// Whether it may be a stream of gRPC, both ends of which may wait for the other. Over HTTP/1 there is none, whatever a
/// stranger's header says.
fn may_be_silent(headers: &HeaderMap, is_h2: bool) -> bool {
    is_h2 && Protocol::of(headers) == Protocol::Grpc
}

/// What an answer depends on.
struct Asked {
    method: Method,
    version: Version,
}

pin_project! {
    /// One request, from its head to its response's.
    pub(super) struct Exchange<S: Service<Request<Body>>> {
        #[pin]
        state: State<S>,
        in_flight: Option<InFlight>,
        asked: Asked,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Request<Body>>> {
        Called { #[pin] call: ReadyCall<S, Request<Body>, BoxError> },
        Refused { rejection: Rejection, protocol: Protocol },
    }
}

impl<S, B> Future for Exchange<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>>,
    B: HttpBody<Data = Bytes, Error: 'static>,
{
    type Output = Result<Response<ServedBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.state.project() {
            StateProjection::Called { call } => ready!(call.poll(cx))?.map(ResponseBody::inner),
            StateProjection::Refused { rejection, protocol } => {
                rejection.clone().into_response(*protocol).map(ResponseBody::full)
            }
        };
        #[expect(clippy::expect_used, reason = "the contract of Future")]
        let in_flight = this.in_flight.take().expect("polled after completion");
        let vitals = in_flight.vitals();
        let says_close = !vitals.is_h2 && (vitals.leaving.load(Relaxed) || vitals.drain.is_draining());
        let is_bodiless = this.asked.method == Method::HEAD
            || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // Of HTTP/1 hyper leaves it out itself.
        let response = match is_bodiless && in_flight.vitals().is_h2 {
            true => response.map(|_| ResponseBody::full(Bytes::new())),
            false => response,
        };
        let is_connected = this.asked.method == Method::CONNECT && response.status().is_success();
        let is_tunnel = is_connected || response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_tunnel {
            vitals.speak();
        }
        let mut response = response.map(|body| ServedBody::new(body, in_flight));
        if says_close && !response.status().is_informational() && !is_tunnel {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            // Or else hyper tells those of HTTP/1.0 that it is kept alive, too.
            if this.asked.version == Version::HTTP_10 {
                *response.version_mut() = Version::HTTP_10;
            }
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_the_blanks_around_them_and_no_more() {
        for (value, bare) in [
            (" a", "a"),
            ("a ", "a"),
            ("\ta\t ", "a"),
            (" a \tb ", "a \tb"),
            (" \t", ""),
            ("", ""),
            ("a", "a"),
        ] {
            let mut headers = HeaderMap::new();
            for is_sensitive in [false, true] {
                let mut value = HeaderValue::from_static(value);
                value.set_sensitive(is_sensitive);
                headers.append("x", value);
            }
            take_blanks_off(&mut headers);
            let left: Vec<_> =
                headers.get_all("x").iter().map(|it| (it.as_bytes(), it.is_sensitive())).collect();
            assert_eq!(left, [(bare.as_bytes(), false), (bare.as_bytes(), true)], "{value:?}");
        }
    }

    #[test]
    fn only_streams_of_grpc_may_be_silent() {
        for (content_type, is_h2, may) in [
            ("application/grpc", true, true),
            ("application/grpc+proto", true, true),
            ("application/grpc", false, false),
            ("application/grpc-web", true, false),
            ("application/json", true, false),
        ] {
            let headers =
                HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(may_be_silent(&headers, is_h2), may, "{content_type} {is_h2}");
        }
    }
}
