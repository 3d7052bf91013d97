//! One request and its response: which endpoint, which connection, and what is tried again.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use pin_project_lite::pin_project;

use super::{
    Upstream,
    body::{Downlink, Fault, Ticket},
    error,
    expect::Hold,
    lease::{Connection, Lease, Sent},
    load::Load,
    reach::{Reached, reach, reach_now},
    request::{Call, Outgoing, Upgrade},
    response,
    service::Settings,
    session::Held,
    tunnel,
};
use crate::{
    attempt::Attempt,
    body::{Body, Replay},
    kept::Kept,
    reject::Rejection,
};

/// So much of a body is kept until there is an answer: as much as HTTP/2 lets anybody send unasked, unless told otherwise, so
/// that one which is refused unseen is whole.
const MOST_AGAIN: usize = 64 * 1024;

/// The head of a response, or why there is none.
pub(super) type Answered = Result<Response<Body>, Rejection>;

/// Sends a request and gives the head of its response.
///
/// Where a connection is there the request is on it before there is a future, which is small then: memory for it is found
/// fast.
pub(super) fn exchange(
    upstream: &Upstream,
    outgoing: Outgoing,
    settings: &Arc<Settings>,
) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
    let settings = Arc::clone(settings);
    match reach_now(upstream, &outgoing.call) {
        Ok(reached) => Box::pin(send(reached, outgoing, settings)),
        Err(picked) => {
            let upstream = upstream.clone();
            Box::pin(async move {
                let reached = reach(&upstream, picked, &outgoing.call).await?;
                send(reached, outgoing, settings).await
            })
        }
    }
}

fn send(
    reached: Reached,
    outgoing: Outgoing,
    settings: Arc<Settings>,
) -> impl Future<Output = Answered> + Send {
    let Reached { load, lease: Lease { mut connection, connect }, untold } = reached;
    let Outgoing { mut request, call: Call { http2, session, .. }, bodiless, fault, hold, upgrade } =
        outgoing;
    let reused = connect.is_none();
    let resend = if reused { Resend::of(&mut request, bodiless, http2) } else { None };
    // Who has not said a word in the time in which a connection could be made is perhaps no longer there.
    let answer = connection.send(request, load.member().options().connect_timeout);
    let rest = Rest { load, untold, session, http2, resend, fault, hold, upgrade, settings };
    Exchange { answer, held: Some((connection, rest)), again: None }
}

pin_project! {
    /// A request that is on its connection.
    struct Exchange<A> {
        #[pin]
        answer: A,
        held: Option<(Connection, Rest)>,
        // What is seldom done has a box of its own.
        again: Option<Pin<Box<dyn Future<Output = Answered> + Send>>>,
    }
}

/// What is needed once there is an answer.
struct Rest {
    load: Load,
    untold: Option<Attempt>,
    session: Option<Box<Held>>,
    http2: bool,
    resend: Option<Resend>,
    fault: Option<Fault>,
    hold: Option<Hold>,
    upgrade: Option<Box<Upgrade>>,
    settings: Arc<Settings>,
}

/// What a request on a connection from the pool may be made of once more.
struct Resend {
    head: Kept,
    /// `None`: it has none.
    body: Option<Replay>,
}

impl Resend {
    /// Only HTTP/2 says that it has not looked at what has a body.
    fn of(request: &mut Request<Body>, bodiless: bool, http2: bool) -> Option<Self> {
        let body = match (bodiless, http2) {
            (true, _) => None,
            (false, true) => Some(Replay::of(request.body_mut(), MOST_AGAIN)?),
            (false, false) => return None,
        };
        Some(Self { head: Kept::of(request), body })
    }

    fn into_request(self) -> Option<Request<Body>> {
        let body = match self.body {
            None => Body::empty(),
            Some(replay) => replay.body().filter(|_| replay.give_up_older())?,
        };
        Some(self.head.to_request().map(|()| body))
    }
}

impl<A: Future<Output = Sent>> Future for Exchange<A> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        if let Some(again) = this.again {
            return again.as_mut().poll(cx);
        }
        let sent = ready!(this.answer.poll(cx));
        #[expect(clippy::expect_used, reason = "the contract of Future")]
        let (connection, rest) = this.held.take().expect("polled after completion");
        match sent {
            Ok(response) => Poll::Ready(answered(response, connection, rest)),
            Err(error) => this.again.insert(Box::pin(send_again(connection, rest, error))).as_mut().poll(cx),
        }
    }
}

/// Makes of the upstream's response the one that the client gets, and lets the connection go when its body has ended.
fn answered(response: Response<Incoming>, connection: Connection, rest: Rest) -> Answered {
    let Rest { mut load, untold, session, hold, upgrade, settings, .. } = rest;
    connection.has_head();
    if let Some(hold) = &hold {
        hold.answered();
    }
    let (mut parts, body) = response.into_parts();
    let keep = response::keep(&parts.headers, load.member().options().idle_timeout);
    let switched = response::incoming(&mut parts, upgrade.as_deref()).inspect_err(|why| {
        load.fail(why);
        if let Some(hold) = &hold {
            hold.ended();
        }
    })?;
    load.head(&parts, body.is_end_stream());
    if let Some(session) = session {
        session.tell(load.member().address(), &mut parts);
    }
    if let Some(attempt) = untold {
        parts.extensions.insert(attempt);
    }
    if let (Some(upgrade), Some(upstream)) = (upgrade, switched) {
        let tunnels = settings.tunnels.narrowed(upgrade.limits);
        let cut = connection.believed().tunnel(upgrade.cut);
        parts.extensions.insert(tunnel::open(upgrade.client, upstream, tunnels, cut, load));
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let body = Body::new(Downlink::new(body, Ticket { connection, load, keep, hold }));
    Ok(Response::from_parts(parts, body))
}

/// Sends once more what failed on a connection from the pool, if that is safe: on a new one, since that turned out to have closed
/// meanwhile, or on the same if it was one stream that was refused.
async fn send_again(
    connection: Connection,
    mut rest: Rest,
    mut error: TrySendError<Request<Body>>,
) -> Answered {
    let unsent = error.take_message();
    let is_unsent = unsent.is_some();
    let error = error.into_error();
    let may_resend = |resend: &Resend| {
        // Who leaves refuses what comes, once; who has too much to do may refuse again and again.
        let is_left = error::is_refused(&error) && !error::is_stream_error(&error);
        let may_be = error::is_refused(&error) || may_be_done_twice(resend, &connection, &error);
        is_left || may_be && rest.settings.may_resend()
    };
    let again = unsent.or_else(|| rest.resend.take().filter(may_resend)?.into_request());
    let failed = |error, rest: &mut Rest| {
        let of_client = rest.fault.as_ref().and_then(Fault::get);
        let why = of_client.unwrap_or_else(|| error::of_upstream(error));
        rest.load.fail(&why);
        Err(why)
    };
    let never_sent = |failed: Answered| failed.map_err(|why| if is_unsent { why.unsent() } else { why });
    let Some(again) = again else { return failed(error, &mut rest) };
    if !error::is_stream_error(&error) {
        connection.retire();
    }
    drop(connection);
    let member = Arc::clone(rest.load.member());
    let Ok(lease) = member.reconnect(rest.http2).await else { return never_sent(failed(error, &mut rest)) };
    let mut connection = lease.connection;
    match connection.send(again, member.options().connect_timeout).await {
        Ok(response) => answered(response, connection, rest),
        Err(error) => failed(error.into_error(), &mut rest),
    }
}

/// Whether a request can be sent again after it was sent on a connection from the pool that has closed: nothing came back, and
/// though it may have been looked at, it may be done twice (RFC 9110 section 9.2.2).
fn may_be_done_twice(resend: &Resend, connection: &Connection, error: &hyper::Error) -> bool {
    let lost = match connection {
        Connection::Http1(connection) => connection.heard.so_far() == connection.before,
        Connection::Http2(_) => !error::is_stream_error(error),
    };
    lost && resend.body.is_none() && resend.head.method().is_idempotent()
}
