use std::{num::NonZeroU64, sync::Arc, time::Duration};

use http::StatusCode;

use super::{
    handle::{FaultHandle, State},
    header,
};
use crate::{
    chance::Chance,
    head::Head,
    identity::{ClientAddr, TrustedProxies},
    matching::{RequestMatch, Target},
    ratio::Ratio,
    reject::GrpcCode,
    trail::{Fault, FaultKind},
};

/// What is done to which requests, and to how many of them. See the [module docs](super). Clones share the numbers and the
/// switch.
#[derive(Debug, Clone)]
#[must_use]
pub struct Policy {
    delay: Option<(Duration, Ratio)>,
    abort: Option<(Abort, Ratio)>,
    reset: Option<Ratio>,
    throttle: Option<(NonZeroU64, Ratio)>,
    matches: Vec<RequestMatch>,
    tellers: TrustedProxies,
    chance: Chance,
    pub(super) state: Arc<State>,
}

/// How an aborted request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    pub(super) status: StatusCode,
    pub(super) code: GrpcCode,
}

/// What is to be done to a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) delay: Option<Duration>,
    pub(super) then: Option<Then>,
}

/// What comes instead of the answer, or of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Abort(Abort),
    Reset,
    /// Bytes in a second.
    Throttle(NonZeroU64),
}

impl Abort {
    /// With this status and, in gRPC, the code that clients make of it: 404 is `UNIMPLEMENTED`, 503 `UNAVAILABLE`.
    #[must_use]
    pub const fn status(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            400 => GrpcCode::INTERNAL,
            401 => GrpcCode::UNAUTHENTICATED,
            403 => GrpcCode::PERMISSION_DENIED,
            404 => GrpcCode::UNIMPLEMENTED,
            429 | 502..=504 => GrpcCode::UNAVAILABLE,
            _ => GrpcCode::UNKNOWN,
        };
        Self { status, code }
    }

    /// With this code in gRPC.
    #[must_use]
    pub const fn grpc(self, code: GrpcCode) -> Self {
        Self { code, ..self }
    }
}

impl Policy {
    /// Nothing, to no request.
    pub fn new() -> Self {
        Self {
            delay: None,
            abort: None,
            reset: None,
            throttle: None,
            matches: Vec::new(),
            tellers: TrustedProxies::none(),
            chance: Chance::new(),
            state: Arc::default(),
        }
    }

    /// Holds this share of the requests back for so long, and then goes on.
    pub fn delay(self, time: Duration, share: Ratio) -> Self {
        Self { delay: Some((time, share)), ..self }
    }

    /// Answers this share of the requests itself.
    pub fn abort(self, abort: Abort, share: Ratio) -> Self {
        Self { abort: Some((abort, share)), ..self }
    }

    /// Breaks off this share of the requests: see [what a reset is](super#what-a-reset-is).
    pub fn reset(self, share: Ratio) -> Self {
        Self { reset: Some(share), ..self }
    }

    /// Gives the bodies of this share of the responses at so many bytes a second.
    pub fn throttle(self, bytes_per_second: NonZeroU64, share: Ratio) -> Self {
        Self { throttle: Some((bytes_per_second, share)), ..self }
    }

    /// For these requests, too. Without any it is for all.
    pub fn when(mut self, request: RequestMatch) -> Self {
        self.matches.push(request);
        self
    }

    /// Does what these peers ask for in [headers](super#headers) of their requests, whatever it does otherwise. What others say
    /// there is not heard, nor what a client does whom such a peer speaks for. Nobody unless told.
    pub fn believing(self, tellers: TrustedProxies) -> Self {
        Self { tellers, ..self }
    }

    /// Where shares come from: seeded, the same requests are hit in each run.
    pub fn chance(self, chance: Chance) -> Self {
        Self { chance, ..self }
    }

    /// Goes on with the numbers and the switch of another policy, in whose place it is put.
    pub fn counted_by(self, handle: &FaultHandle) -> Self {
        Self { state: Arc::clone(&handle.0), ..self }
    }

    /// What was done, and the switch.
    #[must_use]
    pub fn handle(&self) -> FaultHandle {
        FaultHandle(Arc::clone(&self.state))
    }

    /// Takes the headers out of a request, and says what is to be done to it.
    pub(super) fn plan(&self, head: &mut Head<'_>) -> Plan {
        let is_told = !self.tellers.is_empty()
            && self.tellers.trusts(head.extensions())
            // Whom a trusted proxy speaks for is a stranger all the same.
            && head.extensions().get::<ClientAddr>().is_none_or(|client| self.tellers.contains(client.ip()));
        let told = if is_told { header::read(head.headers()) } else { Plan::default() };
        header::strip(head.headers_mut());
        if self.state.is_stopped() {
            return Plan::default();
        }
        let plan = if told == Plan::default() { self.by_chance(head) } else { told };
        self.state.count(plan);
        plan
    }

    fn by_chance(&self, head: &Head<'_>) -> Plan {
        let target = Target::new(head.method(), "", head.uri(), head.headers());
        if !self.matches.is_empty() && !self.matches.iter().any(|request| request.matches(&target)) {
            return Plan::default();
        }
        let hit = |share: Ratio| self.chance.ratio(share);
        let delay = self.delay.filter(|(_, share)| hit(*share)).map(|(time, _)| time);
        let abort = || self.abort.filter(|(_, share)| hit(*share)).map(|(abort, _)| Then::Abort(abort));
        let reset = || self.reset.filter(|share| hit(*share)).map(|_| Then::Reset);
        let throttle =
            || self.throttle.filter(|(_, share)| hit(*share)).map(|(rate, _)| Then::Throttle(rate));
        Plan { delay, then: abort().or_else(reset).or_else(throttle) }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// How it is called in logs. `None`: there is nothing to be done.
    pub(super) fn fault(self) -> Option<Fault> {
        let kind = self.then.map(Then::kind);
        (self.delay.is_some() || kind.is_some()).then(|| Fault::new(self.delay.is_some(), kind))
    }
}

impl Then {
    pub(super) const fn kind(self) -> FaultKind {
        match self {
            Self::Abort(_) => FaultKind::Abort,
            Self::Reset => FaultKind::Reset,
            Self::Throttle(_) => FaultKind::Throttle,
        }
    }
}
