//! The lines in front of the accounts of a leaky bucket: first come, first served.
//!
//! Whoever is first in a line has a timer, and goes when it is its turn; the others have none. Who leaves the line gives
//! back what it was charged, so that all behind it come earlier.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::time::Sleep;

use super::{
    Charge,
    charge::Bill,
    judge::{Judge, Shift},
    store::Fingerprint,
};

/// All lines of a limit.
#[derive(Default)]
pub(super) struct Queues {
    lines: Mutex<HashMap<Fingerprint, Queue>>,
    waiting: AtomicUsize,
}

/// Those who wait for one account.
struct Queue {
    /// When the first may go, by the limit's clock.
    turn: u64,
    people: VecDeque<Person>,
}

struct Person {
    number: u64,
    /// How long after it the next may go.
    price: u64,
    waker: Waker,
}

impl Queues {
    /// Takes a place, if there are fewer than `most`. It is to be [joined](Self::join) or [released](Self::release).
    pub(super) fn reserve(&self, most: usize) -> bool {
        let one_more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    pub(super) fn release(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Whether somebody waits for this account.
    pub(super) fn is_waited_for(&self, key: Fingerprint) -> bool {
        self.waiting() > 0 && self.lock().contains_key(&key)
    }

    /// Goes to the end of the line. Its number there is told.
    pub(super) fn join(&self, key: Fingerprint, turn: u64, price: u64) -> u64 {
        let mut lines = self.lock();
        let line = lines.entry(key).or_insert_with(|| Queue { turn, people: VecDeque::new() });
        let number = line.people.back().map_or(0, |last| last.number + 1);
        line.people.push_back(Person { number, price, waker: Waker::noop().clone() });
        number
    }

    /// Leaves the line. Whose turn is next by that, is to be woken.
    fn leave(&self, key: Fingerprint, number: u64) -> Option<Waker> {
        let next = {
            let mut lines = self.lock();
            let Entry::Occupied(mut line) = lines.entry(key) else { return None };
            let people = &mut line.get_mut().people;
            let place = people.binary_search_by_key(&number, |person| person.number).ok()?;
            people.remove(place);
            match people.front() {
                Some(first) if place == 0 => Some(first.waker.clone()),
                Some(_) => None,
                None => {
                    line.remove();
                    None
                }
            }
        };
        self.release();
        next
    }

    /// Goes, if it is its turn by `now`; else says when that may be, if it is the first.
    fn go(&self, key: Fingerprint, number: u64, now: u64, waker: &Waker) -> Poll<Option<u64>> {
        let next = {
            let mut lines = self.lock();
            let Entry::Occupied(mut entry) = lines.entry(key) else { return Poll::Ready(None) };
            let line = entry.get_mut();
            let Ok(place) = line.people.binary_search_by_key(&number, |person| person.number) else {
                return Poll::Ready(None);
            };
            let person = &mut line.people[place];
            if place > 0 || now < line.turn {
                person.waker.clone_from(waker);
                return if place > 0 { Poll::Pending } else { Poll::Ready(Some(line.turn)) };
            }
            line.turn += person.price;
            line.people.pop_front();
            let next = line.people.front().map(|next| next.waker.clone());
            if next.is_none() {
                entry.remove();
            }
            next
        };
        self.release();
        next.iter().for_each(Waker::wake_by_ref);
        Poll::Ready(None)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, Queue>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a line. Whoever drops it gives back what it was charged, unless it was served.
pub(super) struct Turn {
    charge: Charge,
    bill: Bill,
    number: u64,
    timer: Option<Pin<Box<Sleep>>>,
    /// It is in the line no more.
    gone: bool,
    /// What was charged stays so.
    keeps: bool,
}

impl Turn {
    pub(super) fn new(charge: Charge, bill: Bill, number: u64) -> Self {
        Self { charge, bill, number, timer: None, gone: false, keeps: false }
    }

    pub(super) fn has_come(&self) -> bool {
        self.gone
    }

    pub(super) fn serve(mut self) {
        self.keeps = true;
    }

    /// Another refuses.
    #[cfg(feature = "redis")]
    pub(super) fn refuse(mut self) {
        self.keeps = self.charge.spends_on_denial;
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let inner = &*this.charge.limit.0;
        loop {
            let now = inner.ledger.now_anyway();
            let Some(turn) = ready!(inner.ledger.queues.go(this.bill.key, this.number, now, cx.waker()))
            else {
                this.gone = true;
                return Poll::Ready(());
            };
            let turn = inner.ledger.instant(turn);
            let timer = match &mut this.timer {
                Some(timer) => {
                    if timer.deadline() != turn {
                        timer.as_mut().reset(turn);
                    }
                    timer
                }
                none => none.insert(Box::pin(tokio::time::sleep_until(turn))),
            };
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match (self.keeps, self.gone) {
            (true, true) => {}
            (true, false) => {
                let queues = &self.charge.limit.0.ledger.queues;
                queues.leave(self.bill.key, self.number).iter().for_each(Waker::wake_by_ref);
            }
            (false, gone) => self.charge.give_back(&self.bill, (!gone).then_some(self.number)),
        }
    }
}

impl Charge {
    /// Gives back what a bill was paid with, by who is in the line with this number or in none.
    ///
    /// Who is in no line has had its turn. Where others wait behind it that has gone by, and so it is kept: they have been told
    /// when they go, and nobody is to go sooner after another than the rate says.
    pub(super) fn give_back(&self, bill: &Bill, number: Option<u64>) {
        let inner = &*self.limit.0;
        let now = inner.ledger.now_anyway();
        let shift = Shift { units: -i64::from(bill.cost), beyond: inner.terms.max_debt };
        // Accounts are locked before lines, as where they are joined.
        let mut account = inner.ledger.store().open(bill.key);
        let next = match number {
            Some(number) => inner.ledger.queues.leave(bill.key, number),
            None if inner.ledger.queues.is_waited_for(bill.key) => return,
            None => None,
        };
        let judge: &Judge = bill.judge.as_ref().unwrap_or(&inner.judge);
        let at = inner.at(now, bill.judge.as_ref());
        let state = judge.shift(account.state(at), bill.now, now, shift);
        let is_new = account.set(state, at);
        drop(account);
        if is_new {
            inner.ledger.store().tend(at);
        }
        next.iter().for_each(Waker::wake_by_ref);
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("number", &self.number).finish_non_exhaustive()
    }
}
