use std::{fmt, sync::Arc};

use tokio::{sync::broadcast, time::Instant};

use super::circuit::{Circuit, Event, Machines};
use crate::trip::{Mode, State};

/// Looks at a breaker, and steers it. Clones are the same.
#[derive(Clone)]
pub struct BreakerHandle(pub(super) Arc<Circuit>);

impl BreakerHandle {
    /// The breaker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it stands. By key: open if one is, half open if one is that and none is open.
    #[must_use]
    pub fn state(&self) -> State {
        let now = Instant::now();
        match &self.0.machines {
            Machines::One(trip) => trip.state(now),
            Machines::Keyed(keyed) => {
                let some = |state: &State| keyed.count(*state, now) > 0;
                [State::Open, State::HalfOpen].into_iter().find(some).unwrap_or(State::Closed)
            }
        }
    }

    /// Who says where it stands.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match &self.0.machines {
            Machines::One(trip) => trip.mode(),
            Machines::Keyed(keyed) => keyed.mode(),
        }
    }

    /// Sets who says where it stands from now on, of each key. It begins anew: closed, or open if that is forced, with
    /// everything forgotten.
    pub fn set_mode(&self, mode: Mode) {
        match &self.0.machines {
            Machines::One(trip) => trip.set_mode(mode),
            Machines::Keyed(keyed) => keyed.set_mode(mode),
        }
    }

    /// Refuses everything until [another mode](Self::set_mode) is set.
    pub fn force_open(&self) {
        self.set_mode(Mode::ForcedOpen);
    }

    /// Lets everything pass until [another mode](Self::set_mode) is set.
    pub fn force_closed(&self) {
        self.set_mode(Mode::ForcedClosed);
    }

    /// Forgets everything, and is closed unless it is forced open.
    pub fn reset(&self) {
        match &self.0.machines {
            Machines::One(trip) => trip.reset(),
            Machines::Keyed(keyed) => keyed.reset(),
        }
    }

    /// What it does from now on. Nobody waits for a subscriber: of what one has not taken, the last 64 events are kept, and
    /// then it is told how many it has missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// How often it opened, again after a probe too.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.counts.opened()
    }

    /// Requests that it refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.counts.refused()
    }

    /// Requests that it would have refused, and did not: it was [observed](Mode::Observed).
    #[must_use]
    pub fn spared(&self) -> u64 {
        self.0.counts.spared()
    }

    /// By key, how many keys are told apart now, and how many of them are open or half open.
    #[must_use]
    pub fn keys(&self) -> Option<(usize, usize)> {
        let Machines::Keyed(keyed) = &self.0.machines else { return None };
        let now = Instant::now();
        let open = keyed.count(State::Open, now) + keyed.count(State::HalfOpen, now);
        Some((keyed.len(), open))
    }

    /// By key, requests for whose key there was no room.
    #[must_use]
    pub fn unguarded(&self) -> u64 {
        match &self.0.machines {
            Machines::One(_) => 0,
            Machines::Keyed(keyed) => keyed.unguarded(),
        }
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerHandle")
            .field("name", &self.name())
            .field("state", &self.state())
            .field("mode", &self.mode())
            .finish()
    }
}
