//! Asking Redis: limits whose accounts can be named in one command are one call of the script, which is all or nothing.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use redis::{Cmd, Script};
use tokio::task::JoinSet;

use super::{held::Place, shared::Shared};
use crate::{
    admission::rate_limit::judge::Verdict,
    redis::{Redis, RedisError},
};

static DECIDE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("script.lua")));

/// What is asked about one limit.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Arc<Place>,
    /// What is charged; given back if it is negative.
    pub(super) cost: i64,
    pub(super) ahead: u64,
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

/// Asks about all of them at once, and answers in their order.
pub(super) async fn ask(asks: &[Ask]) -> Vec<Answer> {
    let groups = groups(asks);
    if let [_] = groups.as_slice() {
        return call(asks).await;
    }
    let mut calls = JoinSet::new();
    for group in groups {
        let asks: Vec<_> = group.iter().map(|&at| asks[at].clone()).collect();
        calls.spawn(async move { (group, call(&asks).await) });
    }
    let mut answers: Vec<Answer> = asks.iter().map(|_| Err(RedisError::Lost)).collect();
    while let Some(called) = calls.join_next().await {
        let Ok((group, told)) = called else { continue };
        for (at, answer) in group.into_iter().zip(told) {
            answers[at] = answer;
        }
    }
    answers
}

/// Those that one call can decide: on one server, and in a Cluster in one slot.
fn groups(asks: &[Ask]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        let is_near = |group: &&mut Vec<usize>| {
            let other = &asks[group[0]];
            other.shared.is_with(&ask.shared)
                && ask.shared.redis().are_together(&other.place.key, &ask.place.key)
        };
        match groups.iter_mut().find(is_near) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

/// One call. Its deadline is the shortest of its limits'.
async fn call(asks: &[Ask]) -> Vec<Answer> {
    let Some(first) = asks.first() else { return Vec::new() };
    let deadline = asks.iter().map(|ask| ask.shared.deadline()).min().unwrap_or_default();
    match decide(first.shared.redis(), deadline, &command(asks)).await {
        Ok(told) if told.len() == 1 + 6 * asks.len() => {
            told[1..].chunks_exact(6).map(|said| Ok(read(told[0], said))).collect()
        }
        Ok(_) => asks.iter().map(|_| Err(RedisError::Unexpected)).collect(),
        Err(error) => asks.iter().map(|_| Err(error.clone())).collect(),
    }
}

async fn decide(redis: &Redis, deadline: Duration, command: &Cmd) -> Result<Vec<i64>, RedisError> {
    redis.call(deadline, &DECIDE, command).await
}

fn command(asks: &[Ask]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(DECIDE.get_hash()).arg(asks.len());
    for ask in asks {
        command.arg(&ask.place.key);
    }
    // Only which months are near is taken from it.
    let now = SystemTime::now();
    for ask in asks {
        for word in ask.place.params.words(now) {
            command.arg(word);
        }
        command.arg(ask.cost).arg(ask.ahead).arg(ask.flags);
    }
    command
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
