//! One request and its response: which endpoint, which connection, and what is tried again.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    Upstream,
    balance::Tried,
    body::{Downlink, Ticket},
    connect::ConnectError,
    endpoint::{Connection, Endpoint, Lease, Load},
    error,
    group::Live,
    request::Outgoing,
    response,
    tunnel::{self, Limits},
};
use crate::{
    attempt::Attempt,
    body::Body,
    reject::{Reason, Rejection},
    trail::Trail,
};

/// Sends a request and gives the head of its response.
pub(super) async fn exchange(
    upstream: Upstream,
    outgoing: Outgoing,
    tunnels: Limits,
) -> Result<Response<Body>, Rejection> {
    let live = upstream.live().await?;
    let Outgoing { request, http2, bodiless, fault, hold, upgrade, trail } = outgoing;
    let (load, lease, attempt) = reach(&upstream, &live, http2, trail.as_ref()).await?;
    let sent = send(load.endpoint(), lease, request, http2, bodiless).await;
    let (response, connection) = sent
        .map_err(|error| fault.and_then(|fault| fault.get()).unwrap_or_else(|| error::of_upstream(error)))?;

    if let Some(hold) = &hold {
        hold.answered();
    }
    let (mut parts, body) = response.into_parts();
    let keep = response::keep(&parts.headers, load.endpoint().options().idle_timeout);
    let switched = response::incoming(&mut parts, upgrade.as_ref()).inspect_err(|_| {
        if let Some(hold) = &hold {
            hold.ended();
        }
    })?;
    parts.extensions.insert(attempt);
    if let (Some(upgrade), Some(upstream)) = (upgrade, switched) {
        let tunnels = tunnels.narrowed(upgrade.limits);
        parts.extensions.insert(tunnel::open(upgrade.client, upstream, tunnels, upgrade.cut, load));
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let body = Body::new(Downlink::new(body, Ticket { connection, load, keep, hold }));
    Ok(Response::from_parts(parts, body))
}

/// Chooses an endpoint and gets a connection to it; if that fails, to others. Nothing has been sent by then, so that
/// this is always safe.
async fn reach(
    upstream: &Upstream,
    live: &Live,
    http2: bool,
    trail: Option<&Trail>,
) -> Result<(Load, Lease, Attempt), Rejection> {
    let mut tried = Tried::default();
    let mut failed: Option<ConnectError> = None;
    while let Some((place, endpoint)) = upstream.pick(live, tried) {
        tried.add(place);
        let load = endpoint.begin();
        let lease = endpoint.lease(http2).await;
        let mut attempt = Attempt::new(Arc::clone(&upstream.group().name)).endpoint(endpoint.address());
        attempt.attempts = tried.count();
        attempt.connect = lease.as_ref().ok().and_then(|lease| lease.connect);
        if let Some(trail) = trail {
            trail.set_attempt(attempt.clone());
        }
        match lease {
            Ok(lease) => return Ok((load, lease, attempt)),
            Err(error) => {
                tracing::debug!(upstream = upstream.name(), endpoint = %endpoint.address(), %error, "no connection");
                failed = Some(error);
            }
        }
        if tried.is_full() {
            break;
        }
    }
    Err(failed.map_or_else(|| Reason::NoEndpoint.into(), Rejection::from))
}

/// Sends on this connection. If it turns out to have closed meanwhile, and the request can be sent again safely, it is
/// sent once more on a new one.
async fn send(
    endpoint: &Arc<Endpoint>,
    lease: Lease,
    request: Request<Body>,
    http2: bool,
    bodiless: bool,
) -> Result<(Response<Incoming>, Connection), hyper::Error> {
    let Lease { mut connection, connect } = lease;
    let reused = connect.is_none();
    // Who has not said a word in the time in which a connection could be made is perhaps no longer there.
    let patience = endpoint.options().connect_timeout;
    let copy = (reused && bodiless).then(|| Copy::of(&request));
    let mut error = match connection.send(request, patience).await {
        Ok(response) => return Ok((response, connection)),
        Err(error) => error,
    };
    let unsent = error.take_message();
    let error = error.into_error();
    let again =
        unsent.or_else(|| copy.filter(|copy| copy.is_safe(&connection, &error)).map(Copy::into_request));
    let Some(again) = again else { return Err(error) };
    connection.retire();
    drop(connection);
    let Ok(lease) = endpoint.reconnect(http2).await else { return Err(error) };
    let mut connection = lease.connection;
    let response = connection.send(again, patience).await.map_err(TrySendError::into_error)?;
    Ok((response, connection))
}

/// A request without a body, as it was sent.
struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl Copy {
    fn of(request: &Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
        }
    }

    /// Whether the request can be sent again after it was sent on a connection from the pool: nothing came back, and
    /// it either was not looked at or may be done twice (RFC 9110 section 9.2.2).
    fn is_safe(&self, connection: &Connection, error: &hyper::Error) -> bool {
        let lost = match connection {
            Connection::Http1(connection) => connection.heard.so_far() == connection.before,
            Connection::Http2(_) => !error::is_stream_error(error),
        };
        error::is_refused(error) || lost && self.method.is_idempotent()
    }

    fn into_request(self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request
    }
}
