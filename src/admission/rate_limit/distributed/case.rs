//! A request that is decided on Redis, and what it waits for.

use std::{future::poll_fn, mem, pin::pin, time::Duration};

use tokio::time::Instant;

use super::{
    ask::Inquiry,
    gate::{DistributedRateLimit, Undone},
    stand::{By, Stand},
};
use crate::admission::rate_limit::{Notice, charge::Bill, turns::Turns};

/// What became of the request so far. Whoever drops it gives back what was paid.
#[derive(Debug)]
pub(in crate::admission::rate_limit) struct Case {
    pub(super) stands: Vec<Stand>,
    /// What was paid on the limits of this process.
    pub(super) paid: Vec<Bill>,
    /// Those for which it waits there.
    pub(super) turns: Turns,
    /// Of the limits on Redis, those of which this instance has paid its share; once it is decided.
    pub(super) alone: Option<Box<[usize]>>,
    pub(super) notice: Notice,
    /// How long it was waited for.
    pub(super) waited: Duration,
    /// Who gives it back, until it is concluded.
    pub(super) open: Option<DistributedRateLimit>,
}

impl Case {
    pub(super) fn new(stands: Vec<Stand>, paid: Vec<Bill>, turns: Turns, notice: Notice) -> Self {
        Self { stands, paid, turns, alone: None, notice, waited: Duration::ZERO, open: None }
    }

    /// The request goes on.
    pub(super) fn serve(mut self) -> Notice {
        self.open = None;
        self.turns.serve();
        mem::take(&mut self.notice)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if let Some(limits) = self.open.take() {
            let alone = self.alone.as_deref().unwrap_or_default();
            limits.undo(&self.stands, (&self.paid, alone), Undone::GivenUp);
        }
    }
}

/// Waits for its turn.
pub(super) async fn turn(mut case: Case) -> Case {
    poll_fn(|cx| case.turns.poll(cx)).await;
    case
}

/// Waits for what is heard in time. Whoever is in a line meanwhile goes on there: others wait behind it.
pub(super) async fn hear(mut case: Case, inquiries: Vec<Inquiry>) -> Case {
    let mut turns = mem::take(&mut case.turns);
    let mut heard = pin!(listen(case, inquiries));
    let going_on = poll_fn(|cx| {
        let _ = turns.poll(cx);
        heard.as_mut().poll(cx)
    });
    let mut case = going_on.await;
    case.turns = turns;
    case
}

async fn listen(mut case: Case, inquiries: Vec<Inquiry>) -> Case {
    let began = Instant::now();
    for mut inquiry in inquiries {
        let mut heard = inquiry.answers().await.map(Vec::into_iter);
        let waited = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut asked = case.stands.iter_mut().filter_map(|stand| match &mut stand.by {
            By::Redis(asked, answer) => Some((asked, answer)),
            _ => None,
        });
        // Positions ascend.
        let mut next = 0;
        for &at in &inquiry.at {
            let Some((asked, answer)) = asked.nth(at - next) else { break };
            next = at + 1;
            *answer = heard.as_mut().and_then(Iterator::next);
            asked.shared.counts.asked(waited, answer.as_ref());
        }
    }
    case.waited = began.elapsed();
    case
}
