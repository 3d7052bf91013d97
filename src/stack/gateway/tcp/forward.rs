//! What is done with one connection that carries something else than HTTP.
use std::{
    io::ErrorKind,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::Request;
use tokio::time::Instant;

use super::{Numbers, TcpRoute, counts::Counted};
use crate::{
    gate::Gate,
    head::Head,
    identity::{ClientAddr, PeerIdentity},
    outcome::Verdict,
    race::race,
    reject::{Answer, Reason, Rejection},
    stack::gateway::service::{Door, InForce},
    telemetry::access_log::{Connection, Made},
    transport::{Peer, Stream},
    tunnel::{End, carry},
    upstream::{Opened, Upstream},
};

/// How long an endpoint may take to hear what a client has said that is gone.
const HEAR_OUT: Duration = Duration::from_secs(30);

/// Takes the connections of one listener to upstreams, by what is in force when they come.
#[derive(Clone)]
pub(in super::super) struct Forwarder {
    pub(in super::super) current: Arc<ArcSwapOption<InForce>>,
    pub(in super::super) door: Door,
    pub(in super::super) numbers: Arc<Numbers>,
}

/// How a connection ended that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Closed,
    Idle,
    Old,
    Cut,
    Client,
    Upstream,
}

impl Ended {
    pub(super) const ALL: [Self; 6] =
        [Self::Closed, Self::Idle, Self::Old, Self::Cut, Self::Client, Self::Upstream];

    /// A word for logs and metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Old => "max_age",
            Self::Cut => "cut",
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }

    const fn verdict(self) -> Verdict {
        match self {
            Self::Closed | Self::Idle | Self::Old => Verdict::Success,
            Self::Cut | Self::Client => Verdict::Cancelled,
            Self::Upstream => Verdict::ServerFault,
        }
    }
}

/// Where a connection is to go.
struct Chosen {
    route: Arc<TcpRoute>,
    upstream: Upstream,
}

/// Why it goes nowhere.
struct Refused {
    route: Option<Arc<TcpRoute>>,
    why: Rejection,
}

impl Forwarder {
    pub(in super::super) async fn forward(self, stream: Stream) {
        let begun = Instant::now();
        let who = stream.who().clone();
        let mut request = facts(&who);
        let chosen = match self.choose(&who, &mut Head::of(&mut request)) {
            Ok(chosen) => chosen,
            Err(Refused { route, why }) => {
                self.refuse(stream, (route.as_deref(), None), &why, begun);
                return;
            }
        };
        let (route, upstream) = (&chosen.route, &chosen.upstream);
        let mut cut = pin!(stream.cut().wait());
        let gone = async {
            cut.as_mut().await;
            Err(Rejection::new(Reason::Unavailable).detail("it was cut"))
        };
        let opening = upstream.open(&Head::of(&mut request));
        let opened = race(opening, gone).await;
        match opened {
            Ok(opened) => {
                let counted = self.numbers.begin(&route.name, upstream.name());
                self.carry(stream, opened, counted, &chosen, (cut, begun)).await;
            }
            Err(why) => self.refuse(stream, (Some(route), Some(upstream)), &why, begun),
        }
    }

    /// The upstream of a connection, if it may be made.
    fn choose(&self, who: &Peer, head: &mut Head<'_>) -> Result<Chosen, Refused> {
        let nobody = |route, reason: Reason, why: &'static str| Refused {
            route,
            why: Rejection::new(reason).detail(why),
        };
        let current = self.current.load_full();
        let Some(way) = current.as_ref().and_then(|current| current.way(&self.door)) else {
            return Err(nobody(None, Reason::Unavailable, "its listener is gone"));
        };
        if let Some(list) = &way.streams.addresses
            && let Err(Answer::Refuse(why)) = list.check(head)
        {
            return Err(Refused { route: None, why: why.detail("the listener does not take its address") });
        }
        let meant_for = who.original_destination().map(|destination| destination.socket_addr());
        let Some(route) = way.streams.routes.find(&self.door.listener, meant_for) else {
            return Err(nobody(None, Reason::NoRoute, "no TCP route takes it"));
        };
        if let Some(policies) = &route.authorization {
            let asked = policies.check_connection(who.address(), who.identity());
            asked.map_err(|why| Refused { route: Some(Arc::clone(route)), why })?;
        }
        match route.pick() {
            Some(upstream) => Ok(Chosen { route: Arc::clone(route), upstream: upstream.clone() }),
            None => Err(nobody(Some(Arc::clone(route)), Reason::NoEndpoint, "the route has no upstream")),
        }
    }

    fn refuse(
        &self,
        stream: Stream,
        (route, upstream): (Option<&TcpRoute>, Option<&Upstream>),
        why: &Rejection,
        begun: Instant,
    ) {
        self.numbers.refused(&self.door.listener, route.map(|route| &route.name), why.reason());
        let verdict = match why.reason() {
            Reason::NoRoute | Reason::Forbidden | Reason::AddressDenied => Verdict::CallerFault,
            Reason::Unavailable => Verdict::Cancelled,
            _ => Verdict::ServerFault,
        };
        let line = Connection {
            route: route.map(TcpRoute::name),
            upstream: upstream.map(Upstream::name),
            refused: Some(why),
            verdict,
            ..self.line(stream.who(), "refused", begun)
        };
        line.log();
        stream.reset();
    }

    async fn carry(
        &self,
        mut stream: Stream,
        mut opened: Opened,
        mut counted: Counted,
        Chosen { route, upstream }: &Chosen,
        (cut, begun): (Pin<&mut impl Future<Output = ()>>, Instant),
    ) {
        let made =
            Made { endpoint: opened.endpoint(), attempts: opened.attempts(), connect: opened.connect_time() };
        let who = stream.who().clone();
        let mut cut = pin!(race(cut, opened.cut().wait()));
        let end = carry(&mut stream, &mut opened, route.limits, &mut cut, &mut counted).await;
        if let End::First(error) = &end
            && error.kind() == ErrorKind::UnexpectedEof
        {
            // A client that leaves without a goodbye of TLS, as many do: what it has said is delivered.
            let hung_up = async { _ = opened.hang_up(route.limits.idle.min(HEAR_OUT)).await };
            race(hung_up, &mut cut).await;
        }
        let ended = let_go(end, stream, opened);
        counted.ended(ended, begun.elapsed());
        let line = Connection {
            route: Some(&route.name),
            upstream: Some(upstream.name()),
            made: Some(made),
            verdict: ended.verdict(),
            received: counted.received,
            sent: counted.sent,
            ..self.line(&who, ended.label(), begun)
        };
        line.log();
    }

    /// What is known of any connection.
    fn line<'a>(&'a self, who: &'a Peer, ended: &'static str, begun: Instant) -> Connection<'a> {
        Connection {
            listener: &self.door.listener,
            client: who.address().ip(),
            peer: who.identity().and_then(PeerIdentity::name),
            meant_for: who.original_destination().map(|destination| destination.socket_addr()),
            route: None,
            upstream: None,
            made: None,
            refused: None,
            verdict: Verdict::Success,
            ended,
            received: 0,
            sent: 0,
            took: begun.elapsed(),
        }
    }
}

/// What a request on this connection would have told, for those who ask requests.
fn facts(who: &Peer) -> Request<()> {
    let mut request = Request::new(());
    let extensions = request.extensions_mut();
    extensions.insert(who.address());
    extensions.insert(ClientAddr::from(who.address()));
    if let Some(identity) = who.identity() {
        extensions.insert(identity.clone());
    }
    if let Some(destination) = who.original_destination() {
        extensions.insert(destination);
    }
    request
}

/// Closes both sides. Where one has broken off, or we have, the other is to see that it does not have all.
fn let_go(end: End, stream: Stream, opened: Opened) -> Ended {
    match end {
        End::Closed => {
            opened.succeeded();
            Ended::Closed
        }
        End::Idle => {
            opened.succeeded();
            Ended::Idle
        }
        End::Old | End::Cut => {
            stream.reset();
            opened.reset();
            if matches!(end, End::Old) { Ended::Old } else { Ended::Cut }
        }
        End::First(error) => {
            tracing::debug!(%error, endpoint = %opened.endpoint(), "a client has broken off");
            opened.reset();
            Ended::Client
        }
        End::Second(error) => {
            tracing::debug!(%error, endpoint = %opened.endpoint(), "an upstream has broken off");
            stream.reset();
            // It may have answered so to what was said: that it could be reached is all that is known of it.
            opened.succeeded();
            Ended::Upstream
        }
    }
}
