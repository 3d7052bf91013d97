//! Asks the provider about a token, once for all who want to know, and remembers what it said.

use std::{future::Future, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    callers::{Callers, Place},
    counts::{Counts, count},
    verdict::{Expected, Refusal, Verdict},
};
use crate::{
    authn::oauth::{Endpoint, Form, Unavailable, Words},
    cache::{Cache, Domain, Item},
    flight::Flights,
    time::{WallClock, after},
};

/// Tokens stand nowhere in memory longer than it takes to ask about them.
type Print = [u8; 32];
type Told = Arc<Verdict>;

/// The calls under way at once, and what they found.
pub(super) struct Asking {
    pub(super) endpoint: Endpoint,
    pub(super) expected: Expected,
    pub(super) clock: WallClock,
    pub(super) times: Times,
    pub(super) counts: Arc<Counts>,
    good: Cache<Arc<Verdict>, Print>,
    bad: Cache<Arc<Verdict>, Print>,
    domain: Domain,
    flights: Flights<Print, Told>,
    pub(super) callers: Callers,
}

/// How long verdicts are remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) good: Duration,
    pub(super) bad: Duration,
}

/// How much is remembered, and how many calls may be under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) calls: usize,
    pub(super) calls_each: u32,
}

impl Asking {
    pub(super) fn new(
        endpoint: Endpoint,
        expected: Expected,
        clock: WallClock,
        times: Times,
        sizes: Sizes,
    ) -> Self {
        Self {
            endpoint,
            expected,
            clock,
            times,
            counts: Arc::default(),
            good: Cache::new(sizes.entries, sizes.bytes),
            // Of these strangers can make as many as they like: they do not drive out the others.
            bad: Cache::new(sizes.entries, sizes.bytes),
            domain: Domain::unique(),
            flights: Flights::new(sizes.calls),
            callers: Callers::new(sizes.calls_each),
        }
    }

    pub(super) fn print(token: &str) -> Print {
        Sha256::digest(token.as_bytes()).into()
    }

    /// What is remembered.
    pub(super) fn recall<T>(
        &self,
        print: &Print,
        now: Instant,
        read: impl Fn(&Arc<Verdict>) -> T,
    ) -> Option<T> {
        let good = self.good.read(self.domain, print, now, &read);
        good.or_else(|| self.bad.read(self.domain, print, now, &read))
    }

    /// Asks for `caller`, or waits with those who have asked.
    pub(super) fn ask(
        self: &Arc<Self>,
        print: Print,
        token: &str,
        caller: u64,
        now: Instant,
    ) -> Result<impl Future<Output = Told> + Send + use<>, Refusal> {
        let refused = |why: Refusal| {
            count(&self.counts.unasked);
            Err(why)
        };
        if let Err(open) = self.endpoint.may_ask(now) {
            return refused(open.into());
        }
        let place = self.callers.enter(caller);
        // Who joins others makes no call.
        if place.is_none() && !self.flights.is_aloft(&print) {
            return refused(Refusal::TooMany);
        }
        let joined = self.flights.join(print, || {
            let form = Form::default().with("token", token).with("token_type_hint", "access_token");
            Self::call(Arc::clone(self), print, form, caller, place)
        });
        let Ok(joined) = joined else {
            return refused(Unavailable::new("as many tokens are asked about as may be at once").into());
        };
        let lost = || Arc::new(Verdict::Unsaid(Unavailable::new("the call was lost")));
        Ok(async move { joined.await.unwrap_or_else(|_| lost()) })
    }

    async fn call(self: Arc<Self>, print: Print, form: Form, caller: u64, _place: Option<Place>) -> Told {
        // Whoever joined too late for the last call finds what it found.
        if let Some(known) = self.recall(&print, Instant::now(), Arc::clone) {
            return known;
        }
        let read = |status, body: &[u8]| Verdict::read(&self.expected, status, body);
        let answer = self.endpoint.ask(form, Words::Of(caller), read).await;
        let wall = self.clock.now();
        let verdict = answer.map_or_else(Verdict::Unsaid, |verdict| verdict.now(&self.expected, wall));
        let verdict = Arc::new(verdict);
        let (cache, counter) = match &*verdict {
            Verdict::Good { .. } => (&self.good, &self.counts.active),
            Verdict::Bad(_) => (&self.bad, &self.counts.inactive),
            Verdict::Unsaid(_) => (&self.bad, &self.counts.failed),
        };
        count(counter);
        let lives = verdict.lives(wall, self.times.good, self.times.bad);
        if !lives.is_zero() {
            let (now, value) = (Instant::now(), Arc::clone(&verdict));
            let (weight, expires) = (verdict.weight(), after(now, lives));
            cache.insert(Item { domain: self.domain, key: print, weight, value, expires }, now);
        }
        verdict
    }
}
