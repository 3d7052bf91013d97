use std::time::Duration;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use crate::{
    context::Deadline,
    head::Head,
    outcome::is_events,
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

    pub(super) const fn unlimited() -> Self {
        let (stream_idle, stream_max_age) = (Duration::MAX, Duration::MAX);
        Self { stream_idle, stream_max_age, ..Self::new(Duration::MAX) }
    }

    /// Whether it has a time of its own, or the request has one.
    pub(super) fn bounds<B>(&self, request: &Request<B>) -> bool {
        let silences = [self.body_idle.unwrap_or(Duration::MAX), self.stream_idle, self.stream_max_age];
        self.total < Duration::MAX
            || silences.iter().any(|time| *time < Duration::MAX)
            || request.extensions().get::<Deadline>().is_some()
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
        let may_last = is_stream || is_tunnel || wants_events(request.headers());
        let end = if may_last { aged } else { own };
        let tell = self.tell_deadline && self.total < Duration::MAX;
        if let Some(given) = given {
            set(request, given.or_sooner(end.instant()));
        } else if tell && !may_last {
            set(request, own.imposed());
        }
        if tell && may_last {
            HeadDeadline::narrow(request.extensions_mut(), own.imposed());
        }
        if is_tunnel {
            let known = request.extensions().get::<TunnelLimits>().map(|limits| limits.until);
            let until = given.map_or(end, |given| given.or_sooner(end.instant())).instant();
            let until = known.map_or(until, |known| known.min(until));
            request.extensions_mut().insert(TunnelLimits { idle: self.stream_idle, until });
        }
        let bound = |end: Deadline, given: Option<Deadline>| {
            Bound { at: end.instant(), reason: self.reason }.or_sooner(given.map(Bound::of))
        };
        // Whoever imposed a deadline bounds the stream itself, from the response's head on.
        let of_caller = given.filter(|given| !given.is_imposed());
        Watch {
            head: bound(own, given),
            aged: bound(aged, of_caller),
            body_idle: self.body_idle,
            stream_idle: self.stream_idle,
            reason: self.reason,
            style,
            grpc_streams: self.grpc_streams,
            is_connect,
            is_over: given.is_some_and(|given| given.instant() <= started),
        }
    }
}

/// Until when the head of a response must have come that may then last: that is no time for a server to be told, for it
/// would cut its stream then.
#[derive(Debug, Clone, Copy)]
pub(in crate::resilience) struct HeadDeadline(Deadline);

impl HeadDeadline {
    fn narrow(extensions: &mut Extensions, deadline: Deadline) {
        let known = extensions.get::<Self>().map(|known| known.0);
        extensions.insert(Self(known.map_or(deadline, |known| known.sooner(deadline))));
    }
}

/// Until when the head of the response to this request is of use.
pub(in crate::resilience) fn head_deadline(extensions: &Extensions) -> Option<Deadline> {
    let whole = extensions.get::<Deadline>().copied();
    let head = extensions.get::<HeadDeadline>().map(|head| head.0);
    head.map(|head| whole.map_or(head, |whole| whole.sooner(head))).or(whole)
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

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| is_events(value.as_bytes()))
}

/// Whether the answer may be an event stream. Browsers say so.
fn wants_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|value| value.as_bytes().split(|&b| b == b',').any(is_events))
}

impl Idle {
    /// What has to happen by when, if it has kept silent since then.
    pub(super) fn bound(self, since: Instant) -> Bound {
        Bound { at: Deadline::after(since, self.time).instant(), reason: self.reason }
    }
}
