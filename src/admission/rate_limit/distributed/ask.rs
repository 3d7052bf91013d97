//! Asking Redis: limits of a request whose accounts can be named in one command are decided at once, all or none.

use std::{
    mem, slice,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use redis::Script;
use tokio::{
    sync::oneshot::{self, Receiver},
    time::{Instant, timeout_at},
};

use super::{
    held::{Place, Rest},
    shared::Shared,
    together::{LATE, Question},
};
use crate::{
    admission::rate_limit::judge::Verdict,
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
/// Who passes is told where the account stands, too.
pub(super) const STANDING: u8 = 4;
/// It is the first of its key.
const NEXT: u8 = 8;
/// It is the last of its request.
const LAST: u8 = 16;

impl Ask {
    /// Whether nobody would answer, as far as is known.
    pub(super) fn is_in_vain(&self) -> bool {
        self.shared.redis().is_shut(&self.place.key)
    }

    /// Whether a refusal holds for all who ask for as much.
    pub(super) fn is_plain(&self) -> bool {
        self.flags & (IN_SHADOW | PENALTY) == 0
    }

    /// What was charged for a request that was let pass.
    pub(super) fn charged(&self, answer: &Answer) -> Option<Rest> {
        let said = answer.as_ref().ok()?;
        let is_charged = said.passes && matches!(said.verdict, Verdict::Spend(_)) && self.cost > 0;
        is_charged.then(|| self.rest(said.window))
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
    pub(super) ahead: u32,
    pub(super) window: u64,
    /// What remains, and the nanoseconds after which there is more and after which the account is whole: zero, if the request
    /// passed and that was not asked for.
    pub(super) remaining: u32,
    pub(super) more: u64,
    pub(super) whole: u64,
}

pub(super) type Answer = Result<Said, RedisError>;

/// A call on its way. What is heard is kept for those who come next, whatever becomes of who asked; what was charged in
/// vain is given back.
#[derive(Debug)]
pub(super) struct Inquiry {
    asks: Arc<[Ask]>,
    /// Which of those that were asked about these are.
    pub(super) at: Vec<usize>,
    begun: Instant,
    until: Instant,
    told: Receiver<Vec<Answer>>,
}

/// Asks about all of them, for a request that has `waited` so long before, with a call for each server and slot. Whom nobody
/// would answer is not asked: that somebody does again, is found out beside, by a decision of which nobody waits for the
/// answer, and which is given back. Where too many are asked about already, nobody is either.
pub(super) fn inquire(asks: &[Ask], waited: Duration) -> Vec<Inquiry> {
    let near = |one: &Ask, other: &Ask| {
        one.shared.is_with(&other.shared) && one.shared.redis().are_together(&one.place.key, &other.place.key)
    };
    let groups = groups(asks, near);
    // Who is refused by one call is told of the limits of the others, too.
    let told = if groups.len() > 1 { STANDING } else { 0 };
    groups.into_iter().filter_map(|at| Inquiry::new(asks, at, told, waited)).collect()
}

impl Inquiry {
    fn new(asks: &[Ask], at: Vec<usize>, told: u8, waited: Duration) -> Option<Self> {
        let asks: Arc<[Ask]> =
            at.iter().map(|&at| Ask { flags: asks[at].flags | told, ..asks[at].clone() }).collect();
        let first = asks.first()?;
        // The shortest deadline of its limits.
        let deadline = asks.iter().map(|ask| ask.shared.deadline()).min().unwrap_or_default();
        if first.is_in_vain() {
            if first.shared.redis().is_tried(&first.place.key) {
                // It charges, since a server that cannot write does not serve.
                let alone =
                    asks.iter().map(|ask| Ask { ahead: 0, flags: ask.flags & IN_SHADOW, ..ask.clone() });
                let (asks, (tell, _)) = (alone.collect(), oneshot::channel());
                first.shared.ask(Question { asks, deadline, tell });
            }
            return None;
        }
        // The server has the whole deadline; what comes too late for the request is given back.
        let left = deadline.checked_sub(waited).filter(|left| !left.is_zero())?;
        let (tell, told) = oneshot::channel();
        let now = Instant::now();
        let until = crate::time::after(now, left);
        let is_asked = first.shared.ask(Question { asks: Arc::clone(&asks), deadline, tell });
        is_asked.then_some(Self { asks, at, begun: now, until, told })
    }

    /// The answers in time, in the order of [`at`](Self::at). Without any, they are given back when they come.
    pub(super) async fn answers(&mut self) -> Option<Vec<Answer>> {
        let soon = self.until.min(self.begun + LATE);
        if let Ok(told) = timeout_at(soon, &mut self.told).await {
            return told.ok();
        }
        self.asks.first()?.shared.ask_if_late();
        match timeout_at(self.until, &mut self.told).await {
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

pub(super) fn give_back(asks: &[Ask], answers: &[Answer]) {
    for (ask, answer) in asks.iter().zip(answers) {
        if let Some(rest) = ask.charged(answer) {
            ask.shared.give_back(vec![rest]);
        }
    }
}

/// Asks about one, and waits for no more than its deadline.
pub(super) async fn ask(one: &Ask) -> Answer {
    let told = call(&[slice::from_ref(one)], one.shared.deadline().into()).await;
    told.into_iter().flatten().next().unwrap_or(Err(RedisError::Unexpected))
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

/// One call, about some requests.
pub(super) async fn call(requests: &[&[Ask]], patience: Patience) -> Vec<Vec<Answer>> {
    let Some(first) = requests.iter().copied().flatten().next() else { return Vec::new() };
    let firsts =
        |asks| in_order(asks).filter(|(_, is_first)| *is_first).map(|(ask, _)| &*asks[ask].place.key);
    let keys: Vec<_> = requests.iter().copied().flat_map(firsts).collect();
    let answer = first.shared.redis().run::<Vec<u8>>(patience, &DECIDE, &keys, &told(requests)).await;
    let answer = answer.and_then(|told| read(requests, &told).ok_or(RedisError::Unexpected));
    let failed = |error: RedisError| {
        requests.iter().map(|asks| asks.iter().map(|_| Err(error.clone())).collect()).collect()
    };
    answer.unwrap_or_else(failed)
}

/// The limits of a request in the order in which the script is told of them, those of one key beside each other; and whether
/// each is the first of its key.
fn in_order(asks: &[Ask]) -> impl Iterator<Item = (usize, bool)> {
    let is_same = |one: usize, other: usize| asks[one].place.key == asks[other].place.key;
    let firsts = (0..asks.len()).filter(move |&at| !(0..at).any(|before| is_same(before, at)));
    firsts.flat_map(move |first| {
        let same = (first..asks.len()).filter(move |&at| is_same(first, at));
        same.map(move |at| (at, at == first))
    })
}

/// What the script is told: which limits there are, and what each request asks of which.
fn told(requests: &[&[Ask]]) -> [Vec<u8>; 2] {
    // Each with the last request that names it: one may name two that say the same, by different things.
    let mut limits: Vec<(&Place, usize)> = Vec::new();
    let mut asked = Vec::new();
    for (at, asks) in requests.iter().enumerate() {
        for (told, (ask, is_first)) in in_order(asks).enumerate() {
            let (ask, is_last) = (&asks[ask], told + 1 == asks.len());
            let is_known = |known: &Place| (known.name, known.params) == (ask.place.name, ask.place.params);
            let known =
                limits.iter_mut().position(|(known, by)| is_known(known) && mem::replace(by, at) != at);
            let which = known.unwrap_or_else(|| {
                limits.push((&ask.place, at));
                limits.len() - 1
            });
            asked.extend(short(which + 1));
            asked.extend(ask.cost.to_le_bytes());
            asked.extend(ask.ahead.to_le_bytes());
            asked.push(ask.flags | if is_first { NEXT } else { 0 } | if is_last { LAST } else { 0 });
        }
    }
    // Only which months are near is taken from it.
    let now = SystemTime::now();
    [limits.into_iter().flat_map(|(place, _)| place.params.tell(place.name, now)).collect(), asked]
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes()
}

/// What it answers, if it is what was asked for.
fn read(requests: &[&[Ask]], mut told: &[u8]) -> Option<Vec<Vec<Answer>>> {
    let mut one = |ask: &Ask| {
        let (passes, rest) = told.split_first()?;
        let numbers = match passes {
            0 => 6,
            1 if ask.ahead > 0 || ask.flags & STANDING != 0 => 6,
            1 => 3,
            _ => 0,
        };
        let (said, rest) = rest.split_at_checked(8 * numbers)?;
        told = rest;
        let is_ours = *passes != 2;
        Some(
            is_ours
                .then(|| Said::read(*passes != 0, said))
                .ok_or_else(|| RedisError::Refused("WRONGTYPE".into())),
        )
    };
    let mut all = |asks: &[Ask]| {
        let mut answers = vec![Err(RedisError::Unexpected); asks.len()];
        for (at, _) in in_order(asks) {
            answers[at] = one(&asks[at])?;
        }
        Some(answers)
    };
    let answers: Option<_> = requests.iter().map(|asks| all(asks)).collect();
    answers.filter(|_| told.is_empty())
}

impl Said {
    fn read(passes: bool, said: &[u8]) -> Self {
        let mut numbers = [0.0; 6];
        for (number, told) in numbers.iter_mut().zip(said.chunks_exact(8)) {
            *number = told.try_into().map_or(0.0, f64::from_le_bytes);
        }
        let [waits, ahead, window, remaining, more, whole] = numbers;
        let nanos = |micros: f64| (micros as u64).saturating_mul(1000);
        let verdict = match waits {
            0.0 => Verdict::Spend(0),
            never if never < 0.0 => Verdict::Never,
            wait => Verdict::Wait(nanos(wait)),
        };
        Self {
            passes,
            verdict,
            ahead: ahead as u32,
            window: window as u64,
            remaining: remaining as u32,
            more: nanos(more),
            whole: nanos(whole),
        }
    }
}
