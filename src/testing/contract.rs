use std::{fmt, time::Duration};

use http::Request;

use super::{Law, Report, Subject, laws};
use crate::{body::Body, identity::ClientAddr};

/// A layer under test, and what the kit must know about it.
pub struct Contract<L> {
    pub(super) name: &'static str,
    pub(super) make: Box<dyn Fn() -> L>,
    pub(super) request: Callers,
    pub(super) refuses: Option<Refuses>,
    pub(super) told: Option<Deed<L>>,
    pub(super) probes: Option<u32>,
    pub(super) in_flight: Option<Gauge<L>>,
    pub(super) ends: Option<Gauge<L>>,
    pub(super) keys: Option<(usize, Gauge<L>)>,
    pub(super) recovers_after: Option<Duration>,
    pub(super) answers_after: Option<Duration>,
    pub(super) notices_after: Duration,
    pub(super) waits: Option<Waits>,
    pub(super) tells: Option<Tells<L>>,
    pub(super) shares: Option<Shares<L>>,
    pub(super) wall_clock: Option<(Duration, Advance)>,
    pub(super) filled_by: Option<u32>,
    pub(super) measure: Option<Measure>,
    pub(super) other_error: Option<&'static str>,
    pub(super) inexact_bodies: bool,
    pub(super) exempt: Vec<(Law, &'static str)>,
}

/// When a fresh layer refuses one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuses {
    /// After so many requests have passed.
    After(u32),
    /// Beside so many that are in flight.
    Beside(u32),
    /// After so many have failed.
    Failed(u32),
    /// Once something was done to it.
    Told,
}

/// What a layer waits for by itself, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// While there is no answer, before it asks once more.
    Silent(Duration),
    /// When the inner service has failed, before it tries once more; at most.
    Failed(Duration),
    /// Before it asks for this caller.
    Held(u32, Duration),
}

/// What a layer tells that goes by time.
pub(super) enum Tells<L> {
    /// A number that is another one after this time.
    Turns(Duration, Gauge<L>),
    /// How long calls took.
    Took(Box<dyn Fn(&L) -> Duration>),
}

/// What all services of a layer share, beside what they refuse.
pub(super) enum Shares<L> {
    /// So many second attempts.
    Attempts(u32),
    /// What it counts of calls.
    Counts(Gauge<L>),
    /// What it counts of calls that fail.
    Failures(Gauge<L>),
    /// Answers that are given again for this time.
    Answers(Duration),
}

/// What a closure has allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    /// How many it made.
    pub made: u64,
    /// How many more there are after it than before, frees taken off.
    pub kept: i64,
}

type Callers = Box<dyn Fn(u32) -> Request<Body>>;
/// Moves a wall clock.
type Advance = Box<dyn Fn(Duration)>;
type Gauge<L> = Box<dyn Fn(&L) -> usize>;
/// Does something to a layer.
type Deed<L> = Box<dyn Fn(&L)>;
/// Runs a closure and says how many allocations it made, and how many are allowed.
type Measure = (Count, u64);
pub(super) type Count = fn(&mut dyn FnMut()) -> Allocations;

impl<L: Subject> Contract<L> {
    /// A contract for the layers that `make` makes; each is fresh.
    #[must_use]
    pub fn new(name: &'static str, make: impl Fn() -> L + 'static) -> Self {
        Self {
            name,
            make: Box::new(make),
            request: Box::new(plain),
            refuses: None,
            told: None,
            probes: None,
            in_flight: None,
            ends: None,
            keys: None,
            recovers_after: None,
            answers_after: None,
            notices_after: Duration::ZERO,
            waits: None,
            tells: None,
            shares: None,
            wall_clock: None,
            filled_by: None,
            measure: None,
            other_error: None,
            inexact_bodies: false,
            exempt: Vec::new(),
        }
    }

    /// A request that passes; `n` tells callers apart. Without this: a GET from the address 10.x.x.x of that
    /// number, with it in the header `x-caller`.
    #[must_use]
    pub fn request(mut self, request: impl Fn(u32) -> Request<Body> + 'static) -> Self {
        self.request = Box::new(request);
        self
    }

    /// A fresh layer refuses one caller after it let `n` requests pass.
    #[must_use]
    pub fn limit(mut self, n: u32) -> Self {
        self.refuses = Some(Refuses::After(n));
        self
    }

    /// A fresh layer lets `n` requests of one caller be in flight; one more is refused, or waits.
    #[must_use]
    pub fn holds(mut self, n: u32) -> Self {
        self.refuses = Some(Refuses::Beside(n));
        self
    }

    /// A fresh layer refuses one caller after `n` requests failed, however many passed before.
    #[must_use]
    pub fn spoiled_after(mut self, n: u32) -> Self {
        self.refuses = Some(Refuses::Failed(n));
        self
    }

    /// A fresh layer refuses everybody once `deed` was done to it, and so do all its services.
    #[must_use]
    pub fn refuses_once(mut self, deed: impl Fn(&L) + 'static) -> Self {
        self.refuses = Some(Refuses::Told);
        self.told = Some(Box::new(deed));
        self
    }

    /// When it passes again after [`spoiled_after`](Self::spoiled_after) and [`recovers_after`](Self::recovers_after), no more than
    /// `n` requests are in flight until the body of one has ended.
    #[must_use]
    pub fn probes(mut self, n: u32) -> Self {
        self.probes = Some(n);
        self
    }

    /// How many requests the layer counts as in flight.
    #[must_use]
    pub fn in_flight(mut self, gauge: impl Fn(&L) -> usize + 'static) -> Self {
        self.in_flight = Some(Box::new(gauge));
        self
    }

    /// Of how many requests the layer has told the end.
    #[must_use]
    pub fn ends(mut self, gauge: impl Fn(&L) -> usize + 'static) -> Self {
        self.ends = Some(Box::new(gauge));
        self
    }

    /// How many callers the layer remembers, and how many it may.
    #[must_use]
    pub fn keys(mut self, cap: usize, gauge: impl Fn(&L) -> usize + 'static) -> Self {
        self.keys = Some((cap, Box::new(gauge)));
        self
    }

    /// A caller that was refused by [`limit`](Self::limit), as by [`spoiled_after`](Self::spoiled_after) or once
    /// [something was done](Self::refuses_once), passes again after this time.
    #[must_use]
    pub fn recovers_after(mut self, time: Duration) -> Self {
        self.recovers_after = Some(time);
        self
    }

    /// It answers by itself when the inner service has been silent for this time; one that [`holds`](Self::holds) does so
    /// when there was no place.
    #[must_use]
    pub fn answers_after(mut self, time: Duration) -> Self {
        self.answers_after = Some(time);
        self
    }

    /// It takes so long until what came before shows in what is refused.
    #[must_use]
    pub fn notices_after(mut self, time: Duration) -> Self {
        self.notices_after = time;
        self
    }

    /// It asks the inner service once more when that has been silent for exactly this time.
    #[must_use]
    pub fn asks_again_after(mut self, time: Duration) -> Self {
        self.waits = Some(Waits::Silent(time));
        self
    }

    /// It asks the inner service once more when that has failed, after a wait, and within this time.
    #[must_use]
    pub fn tries_again_within(mut self, time: Duration) -> Self {
        self.waits = Some(Waits::Failed(time));
        self
    }

    /// It lets this caller wait for exactly this time, and asks the inner service then.
    #[must_use]
    pub fn holds_back(mut self, caller: u32, time: Duration) -> Self {
        self.waits = Some(Waits::Held(caller, time));
        self
    }

    /// A number that the first call after this time makes another one, and no call before does.
    #[must_use]
    pub fn turns_after(mut self, time: Duration, gauge: impl Fn(&L) -> usize + 'static) -> Self {
        self.tells = Some(Tells::Turns(time, Box::new(gauge)));
        self
    }

    /// How long all calls together took, as the layer tells it.
    #[must_use]
    pub fn tells_time(mut self, taken: impl Fn(&L) -> Duration + 'static) -> Self {
        self.tells = Some(Tells::Took(Box::new(taken)));
        self
    }

    /// Of all its second attempts there may be so many; with [`asks_again_after`](Self::asks_again_after) or
    /// [`tries_again_within`](Self::tries_again_within).
    #[must_use]
    pub fn second_attempts(mut self, n: u32) -> Self {
        self.shares = Some(Shares::Attempts(n));
        self
    }

    /// A number that each call after a caller's first makes larger by one, whichever service of the layer it comes to.
    #[must_use]
    pub fn counts(mut self, gauge: impl Fn(&L) -> usize + 'static) -> Self {
        self.shares = Some(Shares::Counts(Box::new(gauge)));
        self
    }

    /// A number that each call that fails inside makes larger by one, whichever service of the layer it comes to.
    #[must_use]
    pub fn counts_failures(mut self, gauge: impl Fn(&L) -> usize + 'static) -> Self {
        self.shares = Some(Shares::Failures(Box::new(gauge)));
        self
    }

    /// It gives a caller the answer of before when the inner service has failed, for exactly this time.
    #[must_use]
    pub fn answers_again_for(mut self, time: Duration) -> Self {
        self.shares = Some(Shares::Answers(time));
        self
    }

    /// Who passes is refused, and who was refused by [`limit`](Self::limit) passes, once the wall clock has moved on by this time,
    /// and not before, whatever tokio's time is. `advance` moves the clock of the newest layer.
    #[must_use]
    pub fn by_wall_clock(mut self, time: Duration, advance: impl Fn(Duration) + 'static) -> Self {
        self.wall_clock = Some((time, Box::new(advance)));
        self
    }

    /// The layer remembers callers, but no more than so many of them fill it with. For those who cannot tell its
    /// [`keys`](Self::keys); it goes by the [`allocations`](Self::allocations).
    #[must_use]
    pub fn filled_by(mut self, callers: u32) -> Self {
        self.filled_by = Some(callers);
        self
    }

    /// Counts allocations with `count`; one call may make `allowed` of them. A layer of which no [`keys`](Self::keys) are
    /// told may keep none of them, unless it is [filled](Self::filled_by) by some.
    #[must_use]
    pub fn allocations(mut self, allowed: u64, count: fn(&mut dyn FnMut()) -> Allocations) -> Self {
        self.measure = Some((count, allowed));
        self
    }

    /// The layer changes the error type, for this reason.
    #[must_use]
    pub fn other_error(mut self, why: &'static str) -> Self {
        self.other_error = Some(why);
        self
    }

    /// The layer may replace, delay or end bodies, so that only their data and trailers are compared.
    #[must_use]
    pub fn inexact_bodies(mut self) -> Self {
        self.inexact_bodies = true;
        self
    }

    /// A law that does not speak of this layer, by its type, and why.
    #[must_use]
    pub fn exempt(mut self, law: Law, why: &'static str) -> Self {
        self.exempt.push((law, why));
        self
    }

    pub(super) fn answers_again(&self) -> Option<Duration> {
        if let Some(Shares::Answers(time)) = self.shares { Some(time) } else { None }
    }

    /// Checks every law, on a paused clock, in a runtime of its own.
    #[must_use]
    pub fn check(self) -> Report {
        let globals = laws::globals();
        let found = Law::ALL.into_iter().map(|law| (law, laws::check(law, &self, globals))).collect();
        Report { name: self.name, found, allowed: self.measure.map(|(_, allowed)| allowed) }
    }
}

impl<L> fmt::Debug for Contract<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract").field("name", &self.name).finish_non_exhaustive()
    }
}

fn plain(n: u32) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("x-caller", n.into());
    let [_, b, c, d] = n.to_be_bytes();
    request.extensions_mut().insert(ClientAddr::new([10, b, c, d].into(), None));
    request
}
