//! One request and its response: which endpoint, which connection, and what is tried again.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    Upstream,
    balance::Tried,
    body::{Downlink, Fault, Ticket},
    connect::ConnectError,
    endpoint::{Connection, Endpoint, Lease, Load},
    error,
    expect::Hold,
    group::Live,
    request::{Outgoing, Upgrade},
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
///
/// No `async fn`, as those keep what they are given twice; and what is seldom done has boxes of its own, as a future is as
/// large as the largest thing that it may do. So the memory that each request takes is small enough to be found fast.
#[expect(clippy::manual_async_fn, reason = "see above")]
pub(super) fn exchange(
    upstream: Upstream,
    outgoing: Outgoing,
    tunnels: Limits,
) -> impl Future<Output = Result<Response<Body>, Rejection>> + Send {
    async move {
        let live = upstream.live().await?;
        let Reached { load, lease, untold } =
            reach(&upstream, &live, outgoing.http2, outgoing.trail.as_ref()).await?;
        let Lease { mut connection, connect } = lease;
        let reused = connect.is_none();
        let copy = (reused && outgoing.bodiless).then(|| Copy::of(&outgoing.request));
        // Who has not said a word in the time in which a connection could be made is perhaps no longer there.
        let patience = load.endpoint().options().connect_timeout;
        let response = match connection.send(outgoing.request, patience).await {
            Ok(response) => response,
            Err(error) => {
                let again = send_again(load.endpoint(), connection, outgoing.http2, copy, error);
                let sent = Box::pin(again).await;
                let answered = sent.map_err(|error| {
                    let fault = outgoing.fault.as_ref().and_then(Fault::get);
                    fault.unwrap_or_else(|| error::of_upstream(error))
                });
                let (response, anew) = answered?;
                connection = anew;
                response
            }
        };
        answered(response, connection, load, untold, (outgoing.hold, outgoing.upgrade), tunnels)
    }
}

/// Makes of the upstream's response the one that the client gets, and lets the connection go when its body has ended.
fn answered(
    response: Response<Incoming>,
    connection: Connection,
    load: Load,
    untold: Option<Attempt>,
    (hold, upgrade): (Option<Hold>, Option<Box<Upgrade>>),
    tunnels: Limits,
) -> Result<Response<Body>, Rejection> {
    if let Some(hold) = &hold {
        hold.answered();
    }
    let (mut parts, body) = response.into_parts();
    let keep = response::keep(&parts.headers, load.endpoint().options().idle_timeout);
    let switched = response::incoming(&mut parts, upgrade.as_deref()).inspect_err(|_| {
        if let Some(hold) = &hold {
            hold.ended();
        }
    })?;
    if let Some(attempt) = untold {
        parts.extensions.insert(attempt);
    }
    if let (Some(upgrade), Some(upstream)) = (upgrade, switched) {
        let tunnels = tunnels.narrowed(upgrade.limits);
        parts.extensions.insert(tunnel::open(upgrade.client, upstream, tunnels, upgrade.cut, load));
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let body = Body::new(Downlink::new(body, Ticket { connection, load, keep, hold }));
    Ok(Response::from_parts(parts, body))
}

/// An endpoint, and a connection to it.
struct Reached {
    load: Load,
    lease: Lease,
    /// For the response, where the request has no trail to tell it to.
    untold: Option<Attempt>,
}

/// Chooses an endpoint and gets a connection to it; if that fails, to others. Nothing has been sent by then, so that
/// this is always safe.
async fn reach(
    upstream: &Upstream,
    live: &Live,
    http2: bool,
    trail: Option<&Trail>,
) -> Result<Reached, Rejection> {
    let mut tried = Tried::default();
    let mut failed: Option<ConnectError> = None;
    while let Some((place, endpoint)) = upstream.pick(live, tried) {
        tried.add(place);
        let load = endpoint.begin();
        let lease = endpoint.lease(http2).await;
        let mut attempt = Attempt::new(Arc::clone(&upstream.group().name)).endpoint(endpoint.address());
        attempt.attempts = tried.count();
        attempt.connect = lease.as_ref().ok().and_then(|lease| lease.connect);
        let untold = match trail {
            Some(trail) => {
                trail.set_attempt(attempt);
                None
            }
            None => Some(attempt),
        };
        match lease {
            Ok(lease) => return Ok(Reached { load, lease, untold }),
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

/// Sends once more, on a new connection, what failed on one from the pool, if that is safe: it turned out to have closed
/// meanwhile.
async fn send_again(
    endpoint: &Arc<Endpoint>,
    connection: Connection,
    http2: bool,
    copy: Option<Copy>,
    mut error: TrySendError<Request<Body>>,
) -> Result<(Response<Incoming>, Connection), hyper::Error> {
    let unsent = error.take_message();
    let error = error.into_error();
    let again =
        unsent.or_else(|| copy.filter(|copy| copy.is_safe(&connection, &error)).map(Copy::into_request));
    let Some(again) = again else { return Err(error) };
    connection.retire();
    drop(connection);
    let Ok(lease) = endpoint.reconnect(http2).await else { return Err(error) };
    let mut connection = lease.connection;
    let sent = connection.send(again, endpoint.options().connect_timeout).await;
    Ok((sent.map_err(TrySendError::into_error)?, connection))
}

/// A request without a body, as it was sent. Its fields are in one piece: hardly ever is one sent again, and a map of
/// them costs some work for each to copy and to drop.
struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    /// `name:value` and a line feed, which neither can have; a zero instead of the colon if the value is sensitive.
    fields: Vec<u8>,
}

impl Copy {
    fn of(request: &Request<Body>) -> Self {
        let length =
            request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
        let mut fields = Vec::with_capacity(length);
        for (name, value) in request.headers() {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(if value.is_sensitive() { 0 } else { b':' });
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            fields,
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
        for field in self.fields.split(|byte| *byte == b'\n') {
            let Some(end) = field.iter().position(|byte| matches!(byte, 0 | b':')) else { continue };
            let (name, value) =
                (HeaderName::from_bytes(&field[..end]), HeaderValue::from_bytes(&field[end + 1..]));
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(field[end] == 0);
                request.headers_mut().append(name, value);
            }
        }
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_request() {
        let mut sent = Request::put("/a?b").header("x", "a:b").header("x", "").header("y", &b"\xff;\t"[..]);
        let mut secret = HeaderValue::from_static("hush");
        secret.set_sensitive(true);
        sent = sent.header("authorization", secret);
        let sent = sent.body(Body::empty()).unwrap();
        let again = Copy::of(&sent).into_request();
        assert_eq!(
            (again.method(), again.uri(), again.version()),
            (sent.method(), sent.uri(), sent.version())
        );
        assert_eq!(again.headers(), sent.headers());
        assert!(again.headers()["authorization"].is_sensitive() && !again.headers()["y"].is_sensitive());
    }
}
