use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use crate::{
    context::Deadline,
    head::Head,
    reject::{Protocol, Reason, Rejection, Style},
    tunnel::TunnelLimits,
};

/// How long things may take. See the [module docs](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) total: Duration,
    pub(super) reason: Reason,
    pub(super) body_idle: Option<Duration>,
    pub(super) stream_idle: Duration,
    pub(super) stream_max_age: Duration,
    pub(super) grpc_streams: bool,
    pub(super) tell_deadline: bool,
}

/// What can be said of a request's time before it is given away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// When the head must have come and, unless it is a stream, the rest.
    pub(super) head: Bound,
    /// When a stream must have ended.
    aged: Bound,
    body_idle: Option<Duration>,
    stream_idle: Duration,
    /// What it means that a stream is silent.
    reason: Reason,
    style: Style,
    grpc_streams: bool,
    is_connect: bool,
    is_over: bool,
}

/// A time, and what it means that it has passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) at: Instant,
    pub(super) reason: Reason,
}

/// How long the body of a response may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) until: Bound,
    pub(super) is_grpc: bool,
}

/// How long a stream may keep silent, and what it means that it did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    time: Duration,
    reason: Reason,
}

impl Policy {
    pub(super) const fn new(total: Duration) -> Self {
        Self {
            total,
            reason: Reason::DeadlineExceeded,
            body_idle: None,
            stream_idle: Duration::from_secs(5 * 60),
            stream_max_age: Duration::from_secs(2 * 3600),
            grpc_streams: false,
            tell_deadline: false,
        }
    }

    /// Starts the watch, and tells those inside how long they have.
    pub(super) fn watch<B>(&self, request: &mut Request<B>) -> Watch {
        let started = Instant::now();
        let style = Style::of(&Head::of(request));
        let given = request.extensions().get::<Deadline>().copied();
        let is_stream = self.grpc_streams && style.protocol().is_grpc();
        let is_connect = request.method() == Method::CONNECT;
        let is_tunnel = is_connect || request.headers().contains_key(header::UPGRADE);

        let own = Deadline::after(started, self.total);
        let aged = Deadline::after(started, self.stream_max_age);
        let end = if is_stream || is_tunnel { aged } else { own };
        if given.is_some() || self.tell_deadline {
            let told = given.map_or(end.imposed(), |given| given.or_sooner(end.instant()));
            set(request, told);
        }
        if is_tunnel {
            let until = given.map_or(end, |given| given.or_sooner(end.instant())).instant();
            request.extensions_mut().insert(TunnelLimits { idle: self.stream_idle, until });
        }
        let given = given.map(Bound::of);
        let bound = |end: Deadline| Bound { at: end.instant(), reason: self.reason }.or_sooner(given);
        Watch {
            head: bound(own),
            aged: bound(aged),
            body_idle: self.body_idle,
            stream_idle: self.stream_idle,
            reason: self.reason,
            style,
            grpc_streams: self.grpc_streams,
            is_connect,
            is_over: given.is_some_and(|given| given.at <= started),
        }
    }
}

/// Allocates nothing where a deadline is told already.
fn set<B>(request: &mut Request<B>, told: Deadline) {
    match request.extensions_mut().get_mut::<Deadline>() {
        Some(deadline) => *deadline = told,
        None => drop(request.extensions_mut().insert(told)),
    }
}

impl Bound {
    fn of(deadline: Deadline) -> Self {
        let reason = if deadline.is_imposed() { Reason::DeadlineExceeded } else { Reason::CallerDeadline };
        Self { at: deadline.instant(), reason }
    }

    pub(super) fn or_sooner(self, other: Option<Self>) -> Self {
        other.filter(|other| other.at < self.at).unwrap_or(self)
    }

    /// The refusal of what has not come by now.
    pub(super) fn rejection(self, what: &'static str) -> Rejection {
        Rejection::new(self.reason).detail(what)
    }
}

impl Watch {
    /// Whether the caller's time was over before anything was done.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The answer where no head has come in time. `of_caller`: the rest of the request was waited for.
    pub(super) fn answer(&self, of_caller: bool) -> Response<bytes::Bytes> {
        let rejection = match of_caller && self.head.reason != Reason::CallerDeadline {
            true => Rejection::new(Reason::RequestTimeout).detail("the request did not come in time"),
            false => self.head.rejection("no response came in time"),
        };
        rejection.render(self.style)
    }

    /// How long the rest of this response may take, and keep silent. `None`: as long as it likes, for what it has is
    /// no body.
    pub(super) fn body_limits(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<(BodyLimits, Option<Idle>)> {
        if status == StatusCode::SWITCHING_PROTOCOLS || (self.is_connect && status.is_success()) {
            return None;
        }
        let protocol = Protocol::of(headers);
        let is_stream = if protocol.is_grpc() { self.grpc_streams } else { is_event_stream(headers) };
        let idle = if is_stream { Some(self.stream_idle) } else { self.body_idle };
        let idle = idle.map(|time| Idle { time, reason: self.reason });
        let until = if is_stream { self.aged } else { self.head };
        Some((BodyLimits { until, is_grpc: protocol == Protocol::Grpc }, idle))
    }
}

/// `text/event-stream`, of the HTML standard's server-sent events.
fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let essence = value.as_bytes().split(|&b| b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(EVENTS)
    })
}

impl Idle {
    /// What has to happen by when, if it has kept silent since then.
    pub(super) fn bound(self, since: Instant) -> Bound {
        Bound { at: Deadline::after(since, self.time).instant(), reason: self.reason }
    }
}
