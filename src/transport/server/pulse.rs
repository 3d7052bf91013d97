use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};

use super::{builder::Limits, rate::MinimumRate, vitals::Vitals};
use crate::{time::after, transport::tenure::Tenure};

/// How long a peer may take to agree that no more requests begin: more than any way there and back.
const AGREE: Duration = Duration::from_secs(5);

/// The time limits of one connection, on one timer that is moved as rarely as possible.
pub(super) struct Pulse {
    limits: Arc<Limits>,
    vitals: Arc<Vitals>,
    timer: Pin<Box<Sleep>>,
    /// The timer wakes the task.
    is_armed: bool,
    state: State,
    since: Instant,
    /// Bytes read when the state began.
    read: usize,
    stall: Stall,
    age_limit: Option<Instant>,
    /// When the peer's certificate expires.
    ends: Option<Instant>,
    /// When nothing may be left of it.
    over: Option<Instant>,
    /// When it was told to close, and the requests that had begun.
    told: Option<(Instant, usize)>,
    draining: bool,
    /// Since when its peer is not believed.
    left: Option<Instant>,
    closing: bool,
}

/// What the connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been read yet.
    Fresh,
    /// A part of a head has come.
    Head,
    /// Requests are in flight, or what was answered is still being written.
    Busy,
    /// Between requests; after so many of them.
    Idle(usize),
    /// It was told to close, and nothing is in flight.
    Closing,
    /// Our end is closed.
    Lingering,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Verdict {
    /// Close it when what is in flight has ended.
    Close,
    /// Drop it.
    Cut,
    /// Drop it: its peer does not read.
    Stalled,
    /// The head did not come in time.
    HeadLate,
    /// Our end is closed, and the peer's is not waited for any longer.
    Lingered,
}

impl Pulse {
    pub(super) fn new(limits: Arc<Limits>, vitals: Arc<Vitals>, born: Instant, tenure: &Tenure) -> Self {
        let timer = Box::pin(sleep_until(after(born, limits.head_timeout)));
        let age_limit = limits.max_age.map(|age| after(born, age));
        // An HTTP/2 connection has shown its preface, and may wait for its first request.
        let state = if vitals.is_h2 { State::Idle(0) } else { State::Fresh };
        Self {
            limits,
            vitals,
            timer,
            is_armed: false,
            state,
            since: born,
            read: 0,
            stall: Stall::default(),
            age_limit,
            ends: tenure.ends,
            over: tenure.over(),
            told: None,
            draining: false,
            left: None,
            closing: false,
        }
    }

    /// The connection is to end: whether it should close as soon as it can.
    ///
    /// HTTP/2 can say so without losing anything. On an HTTP/1 connection the next head that is given says so; one that
    /// has given its last, or waits for a request, waits a little for one that may be on its way.
    pub(super) fn drain(&mut self) -> bool {
        if !self.draining && matches!(self.state, State::Fresh | State::Idle(_)) {
            self.since = Instant::now();
        }
        self.draining = true;
        self.vitals.leaving.store(true, Relaxed);
        !self.closing && self.vitals.is_h2
    }

    /// The same, since its peer is not believed any more: a request that may be on its way is waited for from now on, not from the
    /// end of one that takes long.
    pub(super) fn leave(&mut self) -> bool {
        self.left.get_or_insert_with(Instant::now);
        self.drain()
    }

    /// The connection was told to close.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.told = Some((Instant::now(), self.vitals.begun.load(Relaxed)));
    }

    /// Whether the peer was told to open no more streams.
    pub(super) const fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether requests begin long after the peer was told to end the connection. HTTP/2 takes them until the peer has agreed,
    /// which may be never.
    fn goes_on(&mut self) -> bool {
        let Some((at, before)) = &mut self.told else { return false };
        let begun = self.vitals.begun.load(Relaxed);
        std::mem::replace(before, begun) != begun && at.elapsed() >= AGREE
    }

    /// Looks at the connection after it has done what it can, and wakes its task when a limit may be over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, same_task: bool) -> Poll<Verdict> {
        if self.goes_on() {
            return Poll::Ready(Verdict::Cut);
        }
        let state = self.look();
        if state != self.state {
            self.state = state;
            self.since = Instant::now();
            self.read = self.vitals.read.load(Relaxed);
            self.stall = Stall::begin(self.since, self.vitals.wrote.load(Relaxed));
        }
        let mut deadline = self.deadline();
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        } else if same_task && self.is_armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while self.poll_timer(cx).is_ready() {
            let now = Instant::now();
            if now >= deadline {
                if let Some(verdict) = self.judge(now) {
                    return Poll::Ready(verdict);
                }
                deadline = self.deadline();
            }
            self.timer.as_mut().reset(deadline.max(now + Duration::from_millis(1)));
        }
        Poll::Pending
    }

    /// One that may not be polled now, since the task has done as much as tokio lets it at once, is polled the next time.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_armed = has_budget_remaining();
        self.timer.as_mut().poll(cx)
    }

    fn look(&self) -> State {
        let vitals = &*self.vitals;
        if vitals.lingering.load(Relaxed) {
            State::Lingering
        } else if vitals.is_h2 && vitals.has_partial_head() {
            State::Head
        } else if vitals.in_flight.load(Relaxed) > 0 || vitals.blocked.load(Relaxed) {
            State::Busy
        } else if self.closing {
            State::Closing
        } else if vitals.has_partial_head() {
            State::Head
        } else if !vitals.is_h2 && vitals.read.load(Relaxed) == 0 {
            State::Fresh
        } else {
            State::Idle(vitals.begun.load(Relaxed))
        }
    }

    fn deadline(&self) -> Instant {
        let limits = &*self.limits;
        let limit = match self.state {
            State::Fresh | State::Idle(_) if self.draining => {
                return self.aged(after(self.left.unwrap_or(self.since), limits.drain_idle));
            }
            State::Fresh => limits.head_timeout,
            State::Head => self.head_time().min(limits.head_timeout),
            State::Busy => return self.aged(after(self.stall.looked, limits.busy_look())),
            State::Idle(_) => limits.idle_timeout,
            // What it has sent before it heard of the end is still to be answered.
            State::Closing if self.vitals.is_h2 => limits.close_timeout.max(AGREE),
            State::Closing | State::Lingering => limits.close_timeout,
        };
        self.aged(after(self.since, limit))
    }

    /// How long the head may take by the bytes that have come of it.
    fn head_time(&self) -> Duration {
        let bytes = match self.vitals.is_h2 {
            true => self.vitals.read.load(Relaxed).wrapping_sub(self.read),
            false => self.vitals.head_bytes(),
        };
        self.limits.rates.head.map_or(Duration::MAX, |rate| rate.time_for(bytes as u64))
    }

    fn aged(&self, deadline: Instant) -> Instant {
        let [age_limit, ends] = [self.age_limit, self.ends].map(|limit| limit.filter(|_| self.may_age()));
        [Some(deadline), age_limit, ends, self.over].into_iter().flatten().min().unwrap_or(deadline)
    }

    /// A head that has begun to come is waited for, whatever the age.
    fn may_age(&self) -> bool {
        !self.closing && self.state != State::Head
    }

    /// The deadline is over.
    fn judge(&mut self, now: Instant) -> Option<Verdict> {
        if self.over.is_some_and(|over| now >= over) {
            return Some(Verdict::Cut);
        }
        if self.may_age() && self.ends.take_if(|ends| now >= *ends).is_some() {
            return self.leave().then_some(Verdict::Close);
        }
        if self.may_age() && self.age_limit.take_if(|limit| now >= *limit).is_some() {
            return self.drain().then_some(Verdict::Close);
        }
        match self.state {
            State::Fresh | State::Idle(_) => Some(Verdict::Close),
            State::Head => Some(Verdict::HeadLate),
            State::Lingering if !self.vitals.lingered.swap(true, Relaxed) => Some(Verdict::Lingered),
            State::Closing | State::Lingering => Some(Verdict::Cut),
            State::Busy => {
                let wrote = self.vitals.wrote.load(Relaxed);
                let wants_to_write =
                    self.vitals.blocked.load(Relaxed) || self.vitals.waiting.load(Relaxed) > 0;
                self.stall.look(now, wrote, wants_to_write);
                self.stall.is_too_long(&self.limits).then_some(Verdict::Stalled)
            }
        }
    }
}

/// How a peer reads what we have for it, looked at from time to time.
#[derive(Clone, Copy)]
struct Stall {
    looked: Instant,
    /// Bytes written when it was last looked at.
    wrote: usize,
    /// Bytes written since it last kept up, and how long that is.
    bytes: usize,
    lasts: Duration,
    /// How long nothing was written.
    silent: Duration,
}

impl Default for Stall {
    fn default() -> Self {
        Self::begin(Instant::now(), 0)
    }
}

impl Stall {
    const fn begin(now: Instant, wrote: usize) -> Self {
        let (lasts, silent) = (Duration::ZERO, Duration::ZERO);
        Self { looked: now, wrote, bytes: 0, lasts, silent }
    }

    /// What was written before it was first behind counts, for the system may still hold it.
    fn look(&mut self, now: Instant, wrote: usize, is_behind: bool) {
        let (time, bytes) = (now.saturating_duration_since(self.looked), wrote.wrapping_sub(self.wrote));
        self.looked = now;
        self.wrote = wrote;
        self.bytes = if self.lasts.is_zero() { bytes } else { self.bytes.saturating_add(bytes) };
        self.lasts = if is_behind { self.lasts + time } else { Duration::ZERO };
        self.silent = if is_behind && bytes == 0 { self.silent + time } else { Duration::ZERO };
    }

    fn is_too_long(&self, limits: &Limits) -> bool {
        let is_slow = |rate: MinimumRate| self.lasts > rate.time_for(self.bytes as u64);
        self.silent >= limits.write_timeout || limits.rates.response.is_some_and(is_slow)
    }
}

impl Limits {
    /// How often a busy connection is looked at.
    pub(super) fn busy_look(&self) -> Duration {
        // Not for each millisecond of a grace: this is a timer of each busy connection.
        const OFTEN: Duration = Duration::from_secs(1);
        let rate = self.rates.response.map_or(Duration::MAX, |rate| rate.grace_time().max(OFTEN));
        self.write_timeout.min(rate)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use tokio::{task::coop::consume_budget, time::timeout};

    use super::*;
    use crate::transport::{Drain, Server};

    #[tokio::test(start_paused = true)]
    async fn who_keeps_its_task_busy_from_the_start_is_timed_all_the_same() {
        let vitals = Vitals::new(Drain::new(), true);
        let mut pulse = Pulse::new(Server::new().limits, vitals, Instant::now(), &Tenure::default());
        let mut looks = 0;
        let verdict = poll_fn(|cx| {
            looks += 1;
            while looks == 1 && has_budget_remaining() {
                assert!(pin!(consume_budget()).poll(cx).is_ready());
            }
            pulse.poll(cx, looks > 1)
        });
        assert_eq!(timeout(Duration::from_secs(3_600), verdict).await, Ok(Verdict::Close));
    }

    /// Looks once a second at a peer to which so many bytes could be written.
    fn seconds_until_cut(limits: &Limits, wrote: impl Fn(u64) -> (usize, bool)) -> Option<u64> {
        let begin = Instant::now();
        let (mut stall, mut total) = (Stall::begin(begin, 0), 0);
        (1..1_000).find(|second| {
            let (bytes, is_behind) = wrote(*second);
            total += bytes;
            stall.look(begin + Duration::from_secs(*second), total, is_behind);
            stall.is_too_long(limits)
        })
    }

    #[test]
    fn a_reader_is_given_up_when_it_stalls_or_is_too_slow() {
        let limits = &*Server::new().limits;
        assert_eq!(seconds_until_cut(limits, |_| (0, false)), None, "nothing to read is no stall");
        assert_eq!(seconds_until_cut(limits, |_| (241, true)), None);
        assert_eq!(seconds_until_cut(limits, |_| (1, true)), Some(6), "once the grace is over");
        let buffered = |second| (if second == 1 { 240 * 30 } else { 1 }, true);
        assert_eq!(seconds_until_cut(limits, buffered), Some(31), "what the system holds is read first");
        let large = |second| (if second == 1 { 1 << 20 } else { 0 }, true);
        assert_eq!(seconds_until_cut(limits, large), Some(61), "nothing for as long as the timeout");
        let now_and_then = |second| (1, second % 5 != 0);
        assert_eq!(seconds_until_cut(limits, now_and_then), None, "one that catches up begins anew");
    }
}
