//! Asking Redis: limits whose accounts can be named in one command are one call of the script, which is all or nothing.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use redis::Script;
use tokio::{
    sync::oneshot::{self, Receiver},
    time::Instant,
};

use super::{
    held::{Place, Rest},
    shared::Shared,
};
use crate::{
    admission::{beside::LINGERING, rate_limit::judge::Verdict},
    redis::{Patience, RedisError},
};

static DECIDE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("limits.lua"), include_str!("decide.lua"))));

/// What is asked about one limit.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Arc<Place>,
    /// By which the account is known here.
    pub(super) key: u64,
    pub(super) cost: u32,
    pub(super) ahead: u32,
    pub(super) flags: u8,
}

/// It lets pass, whatever it finds.
pub(super) const IN_SHADOW: u8 = 1;
/// Who is refused is charged.
pub(super) const PENALTY: u8 = 2;

impl Ask {
    /// Whether nobody would answer, as far as is known.
    pub(super) fn is_in_vain(&self) -> bool {
        self.shared.redis().is_shut(&self.place.key)
    }

    /// What was charged for the request alone, and would not be if it had been refused.
    pub(super) fn charged(&self, answer: &Answer) -> Option<Rest> {
        let said = answer.as_ref().ok()?;
        let is_charged = said.passes && matches!(said.verdict, Verdict::Spend(_)) && self.cost > 0;
        (is_charged && self.flags & PENALTY == 0).then(|| self.rest(said.window))
    }

    pub(super) fn rest(&self, window: u64) -> Rest {
        Rest { place: Arc::clone(&self.place), units: self.cost, window }
    }
}

/// What Redis says about one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether all limits of its call let the request pass, and were charged.
    pub(super) passes: bool,
    /// Its own verdict; what is spent leaves no state here.
    pub(super) verdict: Verdict,
    pub(super) remaining: u32,
    /// Nanoseconds after which there is more, and after which the account is whole.
    pub(super) more: u64,
    pub(super) whole: u64,
    pub(super) ahead: u32,
    pub(super) window: u64,
}

pub(super) type Answer = Result<Said, RedisError>;

/// A call on its way. What is heard is kept for those who come next, whatever becomes of who asked; what was charged in
/// vain is given back.
#[derive(Debug)]
pub(super) struct Inquiry {
    asks: Arc<[Ask]>,
    /// Which of those that were asked about these are.
    pub(super) at: Vec<usize>,
    until: Instant,
    told: Receiver<Vec<Answer>>,
}

/// Asks about all of them, for a request that has `waited` so long before, with a call for each server and slot. Whom nobody would answer is not asked: that somebody does
/// again, is found out beside, by a decision of which nobody waits for the answer, and which is given back. Where too many are
/// asked about already, nobody is either.
pub(super) fn inquire(asks: &[Ask], waited: Duration) -> Vec<Inquiry> {
    let near = |one: &Ask, other: &Ask| {
        one.shared.is_with(&other.shared) && one.shared.redis().are_together(&one.place.key, &other.place.key)
    };
    groups(asks, near).into_iter().filter_map(|at| Inquiry::new(asks, at, waited)).collect()
}

impl Inquiry {
    fn new(asks: &[Ask], at: Vec<usize>, waited: Duration) -> Option<Self> {
        let asks: Arc<[Ask]> = at.iter().map(|&at| asks[at].clone()).collect();
        let first = asks.first()?;
        // The shortest deadline of its limits.
        let deadline = asks.iter().map(|ask| ask.shared.deadline()).min().unwrap_or_default();
        if first.is_in_vain() {
            if first.shared.redis().is_tried(&first.place.key) {
                // It charges, since a server that cannot write does not serve.
                let alone =
                    asks.iter().map(|ask| Ask { ahead: 0, flags: ask.flags & IN_SHADOW, ..ask.clone() });
                let alone: Vec<_> = alone.collect();
                first.shared.asking(async move {
                    let answers = call(&alone, Patience::from(deadline).lingering(LINGERING)).await;
                    give_back(&alone, &answers);
                });
            }
            return None;
        }
        // The server has the whole deadline; what comes too late for the request is given back.
        let left = deadline.checked_sub(waited).filter(|left| !left.is_zero())?;
        let (tell, told) = oneshot::channel();
        let until = crate::time::after(Instant::now(), left);
        let asked = Arc::clone(&asks);
        let is_asked = first.shared.asking(async move {
            let at = Instant::now();
            let answers = call(&asked, Patience::from(deadline).lingering(LINGERING)).await;
            for (ask, answer) in asked.iter().zip(&answers) {
                ask.shared.hear(ask, answer, at);
            }
            if let Err(answers) = tell.send(answers) {
                give_back(&asked, &answers);
            }
        });
        is_asked.then_some(Self { asks, at, until, told })
    }

    /// The answers in time, in the order of [`at`](Self::at). Without any, they are given back when they come.
    pub(super) async fn answers(&mut self) -> Option<Vec<Answer>> {
        match tokio::time::timeout_at(self.until, &mut self.told).await {
            Ok(told) => told.ok(),
            Err(_) => {
                self.told.close();
                // It may have come at this moment.
                self.told.try_recv().ok()
            }
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.told.close();
        if let Ok(answers) = self.told.try_recv() {
            give_back(&self.asks, &answers);
        }
    }
}

fn give_back(asks: &[Ask], answers: &[Answer]) {
    for (ask, answer) in asks.iter().zip(answers) {
        if let Some(rest) = ask.charged(answer) {
            ask.shared.give_back(vec![rest]);
        }
    }
}

/// Asks about one, and waits for no more than its deadline.
pub(super) async fn ask(one: &Ask) -> Answer {
    let told = call(std::slice::from_ref(one), one.shared.deadline().into()).await;
    told.into_iter().next().unwrap_or(Err(RedisError::Unexpected))
}

/// The positions of those that one command can name together.
pub(super) fn groups<T>(all: &[T], near: impl Fn(&T, &T) -> bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        match groups.iter_mut().find(|group| near(&all[group[0]], one)) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

/// One call.
async fn call(asks: &[Ask], patience: Patience) -> Vec<Answer> {
    let Some(first) = asks.first() else { return Vec::new() };
    let keys: Vec<_> = asks.iter().map(|ask| &*ask.place.key).collect();
    // Only which months are near is taken from it.
    let now = SystemTime::now();
    let told = |ask: &Ask| ask.place.params.tell(now, [ask.cost.into(), ask.ahead.into(), ask.flags.into()]);
    let args: Vec<_> = asks.iter().map(told).collect();
    match first.shared.redis().run::<Vec<i64>>(patience, &DECIDE, &keys, args).await {
        Ok(told) if told.len() == 1 + 6 * asks.len() => {
            told[1..].chunks_exact(6).map(|said| Ok(read(told[0], said))).collect()
        }
        Ok(_) => asks.iter().map(|_| Err(RedisError::Unexpected)).collect(),
        Err(error) => asks.iter().map(|_| Err(error.clone())).collect(),
    }
}

fn read(passes: i64, said: &[i64]) -> Said {
    let number = |at: usize| said.get(at).map_or(0, |number| u64::try_from(*number).unwrap_or(0));
    let units = |at| u32::try_from(number(at)).unwrap_or(u32::MAX);
    let nanos = |at| number(at).saturating_mul(1000);
    let verdict = match said.first() {
        Some(0) => Verdict::Spend(0),
        Some(-1) | None => Verdict::Never,
        Some(_) => Verdict::Wait(nanos(0)),
    };
    Said {
        passes: passes == 1,
        verdict,
        remaining: units(1),
        more: nanos(2),
        whole: nanos(3),
        ahead: units(4),
        window: number(5),
    }
}
