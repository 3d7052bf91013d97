//! The members of an upstream, and the plan by which they are picked.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use tokio::{runtime::Handle, sync::Mutex as Turn, task::spawn_blocking, time::Instant};

use super::{
    Balance, SlowStart,
    plan::{Ask, Plan, Seat},
    pool::Dice,
    wants::Wants,
};
use crate::{
    chance::Chance,
    ratio::Ratio,
    upstream::{
        availability::Withheld,
        common::Common,
        load::Interest,
        member::Member,
        session::SessionKey,
        subset::{Fallback, Keys, Subsets},
    },
};

/// So many places in all orders together are put in order by whoever is at it, in a tenth of a millisecond; more of them, and
/// every table of hashes, by a thread on which no requests wait.
const QUICK: usize = 1_000;

/// How it is picked.
#[derive(Debug, Clone)]
pub(in super::super) struct Rules {
    pub(in super::super) balance: Balance,
    /// Where we stand.
    pub(in super::super) zone: Option<Arc<str>>,
    pub(in super::super) panic_threshold: Ratio,
    pub(in super::super) slow_start: Option<SlowStart>,
    pub(in super::super) subsets: Subsets,
    pub(in super::super) session_key: SessionKey,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            zone: None,
            panic_threshold: Ratio::percent(50),
            slow_start: None,
            subsets: Subsets::new(),
            session_key: SessionKey::random(),
        }
    }
}

/// Who is in the set, and who of them is picked. Read without a lock.
pub(in super::super) struct Roster {
    rules: Rules,
    interest: Interest,
    chance: Chance,
    common: Arc<Common>,
    plan: ArcSwap<Plan>,
    /// Whoever changes the plan holds it.
    turn: Mutex<()>,
    renews: AtomicBool,
    /// Of the requests that wait for a new plan one has it made.
    renewing: Turn<()>,
    owner: Arc<()>,
}

impl Roster {
    pub(in super::super) fn new(
        rules: Rules,
        chance: Chance,
        common: Arc<Common>,
        seats: Box<[Seat]>,
    ) -> Self {
        let mut wants = Wants::of(&rules.subsets.selectors);
        if let Fallback::Default(subset) = &rules.subsets.fallback {
            wants.select(subset.keys());
        }
        let plan = Plan::new(seats, &rules, Arc::new(wants), common.rung());
        let balance = &rules.balance;
        let roster = Self {
            interest: Interest { listens: *balance == Balance::PeakEwma, counts: balance.bound().is_some() },
            rules,
            chance,
            common,
            plan: ArcSwap::default(),
            turn: Mutex::new(()),
            owner: Arc::default(),
            renews: AtomicBool::new(false),
            renewing: Turn::default(),
        };
        roster.put(plan);
        roster
    }

    pub(in super::super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is to be counted for its rules.
    pub(in super::super) fn interest(&self) -> Interest {
        self.interest
    }

    pub(in super::super) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// The plan that is in force. If it is no longer right a new one is made, off the path of requests; until then whoever
    /// takes no requests is passed over one by one.
    pub(in super::super) fn plan(self: &Arc<Self>) -> Guard<Arc<Plan>> {
        let plan = self.plan.load();
        if plan.rung != self.common.rung() && !self.renews.swap(true, Ordering::Acquire) {
            let renewal = Renewal(Arc::clone(self));
            match Handle::try_current() {
                Ok(runtime) if self.is_quick(plan.seats.len()) => {
                    drop(runtime.spawn(async { renewal.run() }));
                }
                Ok(runtime) => drop(runtime.spawn_blocking(|| renewal.run())),
                Err(_) => {
                    renewal.run();
                    return self.plan.load();
                }
            }
        }
        plan
    }

    /// Whether a plan for so many is made in no time. A table of hashes may take milliseconds.
    pub(in super::super) fn is_quick(&self, seats: usize) -> bool {
        let orders = 1 + self.plan.load().wants.divisions();
        self.rules.balance.key().is_none() && seats.saturating_mul(orders) <= QUICK
    }

    /// The set is this from now on. Whoever is no longer there gets no more requests, and ends those it has.
    pub(in super::super) fn set(&self, seats: Box<[Seat]>) {
        self.change(Some(seats));
    }

    /// Makes subsets by these keys ready, unless they are.
    pub(in super::super) fn divide(&self, keys: Keys) {
        self.want(|wants| wants.select(keys));
    }

    /// Makes endpoints ready to be named by sessions, unless they are.
    pub(in super::super) fn keep_sessions(&self) {
        self.want(|wants| wants.keep_sessions(self.rules.session_key));
    }

    /// Makes something more ready, unless it is.
    fn want(&self, more: impl FnOnce(&mut Wants) -> bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.plan.load_full();
        let mut wants = Wants::clone(&before.wants);
        if more(&mut wants) {
            self.put(Plan::new(before.seats.clone(), &self.rules, Arc::new(wants), self.common.rung()));
        }
    }

    /// What tells the subset with these labels from others.
    pub(in super::super) fn mark<'l>(&self, labels: impl Iterator<Item = (&'l str, &'l [u8])>) -> u64 {
        self.plan.load().wants.mark(labels)
    }

    /// Whether nobody's availability has changed since the plan was made that is in force.
    fn is_current(&self) -> bool {
        self.plan.load().rung == self.common.rung()
    }

    /// The plan after this one, if somebody takes requests, or does not, of whom it says otherwise.
    pub(in super::super) async fn renewed(self: &Arc<Self>, before: &Plan) -> Option<Arc<Plan>> {
        if before.rung == self.common.rung() {
            return None;
        }
        if !self.is_current() {
            let _one = self.renewing.lock().await;
            match self.is_quick(before.seats.len()) {
                _ if self.is_current() => {} // whoever was here before has had it made
                true => self.change(None),
                false => {
                    let roster = Arc::clone(self);
                    // A runtime that ends makes no more plans, and a request less.
                    let _ = spawn_blocking(move || roster.change(None)).await;
                }
            }
        }
        Some(self.plan.load_full())
    }

    /// The same at once, unless that takes long or somebody is at it.
    pub(in super::super) fn renewed_now(&self, before: &Plan) -> Option<Guard<Arc<Plan>>> {
        if before.rung == self.common.rung() {
            return None;
        }
        if !self.is_current() && self.is_quick(before.seats.len()) {
            let turn = match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            self.change_in(&turn, None);
        }
        Some(self.plan.load())
    }

    /// Whose the endpoints are.
    pub(in super::super) fn owner(&self) -> &Arc<()> {
        &self.owner
    }

    /// This endpoint is looked after here from now on. Whether somebody else did who lives.
    pub(in super::super) fn adopt(&self, member: &Member) -> bool {
        let shared = member.owner().becomes(&self.owner);
        member.withhold(Withheld::Draining, false);
        shared
    }

    fn change(&self, seats: Option<Box<[Seat]>>) {
        self.change_in(&self.turn.lock().unwrap_or_else(PoisonError::into_inner), seats);
    }

    fn change_in(&self, _turn: &MutexGuard<'_, ()>, seats: Option<Box<[Seat]>>) {
        if seats.is_none() && self.is_current() {
            return; // somebody else was at it
        }
        let before = self.plan.load_full();
        if let Some(seats) = &seats {
            let stay: HashSet<_> = seats.iter().map(|seat| Arc::as_ptr(&seat.member)).collect();
            let gone = before.seats.iter().map(|seat| &seat.member);
            // One that is a successor's now may be there to stay.
            let gone =
                gone.filter(|member| !stay.contains(&Arc::as_ptr(member)) && member.owner().is(&self.owner));
            gone.for_each(|member| member.withhold(Withheld::Draining, true));
        }
        let rung = self.common.rung();
        let (seats, wants) = (seats.unwrap_or_else(|| before.seats.clone()), Arc::clone(&before.wants));
        self.put(Plan::new(seats, &self.rules, wants, rung));
    }

    /// A change that comes to nothing.
    #[cfg(test)]
    pub(in super::super) fn fail(&self) {
        let _turn = self.turn.lock();
        panic!("on purpose");
    }

    fn put(&self, plan: Plan) {
        let before = self.plan.load();
        self.welcome(&before, &plan);
        plan.follow(&before);
        self.plan.store(Arc::new(plan));
    }

    /// Whoever is new begins with what is expected of the others; and slowly who could not be picked before. If all are
    /// new nobody is.
    fn welcome(&self, before: &Plan, plan: &Plan) {
        if self.rules.balance == Balance::PeakEwma {
            let seats =
                |plan: &Plan| plan.seats.iter().map(|seat| Arc::clone(&seat.member)).collect::<Vec<_>>();
            let now = Instant::now();
            let (known, new) = sorted(seats(before).iter(), seats(plan));
            let expected = known.iter().map(|member| member.ewma().at(member.age(now))).sum::<f32>();
            let mean = expected / known.len() as f32;
            new.iter()
                .filter(|_| mean.is_finite())
                .for_each(|member| member.ewma().start(mean, member.age(now)));
        }
        if self.rules.slow_start.is_some() {
            let (known, new) = sorted(before.usable(), plan.usable().cloned());
            new.iter().filter(|_| !known.is_empty()).for_each(|member| member.warm_up());
        }
    }

    /// The member for the next try.
    pub(in super::super) fn pick<'p>(&self, plan: &'p Plan, ask: &Ask<'_>) -> Option<&'p Arc<Member>> {
        let dice = Dice {
            chance: &self.chance,
            slow_start: self.rules.slow_start,
            hash: ask.hash,
            now: ask.now,
            in_flight: self.common.in_flight(),
        };
        plan.pick(ask, &dice)
    }
}

/// A new plan that is being made, or never will be: its runtime may end before.
struct Renewal(Arc<Roster>);

impl Renewal {
    fn run(self) {
        self.0.change(None);
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.renews.store(false, Ordering::Release);
    }
}

/// Those who are among `before`, and the others.
fn sorted<'m>(
    before: impl Iterator<Item = &'m Arc<Member>>,
    members: impl IntoIterator<Item = Arc<Member>>,
) -> (Vec<Arc<Member>>, Vec<Arc<Member>>) {
    let before: HashSet<_> = before.map(Arc::as_ptr).collect();
    members.into_iter().partition(|member| before.contains(&Arc::as_ptr(member)))
}
