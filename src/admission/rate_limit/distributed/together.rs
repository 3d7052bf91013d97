//! Requests that come together are asked about together: one call of the script decides as many as there are, one after the
//! other. To begin a script takes as long as to decide.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, task::yield_now, time::Instant};

use super::{
    ask::{Answer, Ask, call, give_back},
    fleet::Fleet,
};
use crate::{
    admission::beside::{self, LINGERING},
    redis::Patience,
};

/// The most limits in a call of several requests. These take about a fifth of a millisecond, in which Redis serves nobody else.
const MOST: usize = 64;

/// What is asked about one request.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) asks: Arc<[Ask]>,
    pub(super) deadline: Duration,
    /// Who waits.
    pub(super) tell: oneshot::Sender<Vec<Answer>>,
}

/// What is to be asked as soon as all have come that come now, each with its place among those that are on their way.
#[derive(Default)]
pub(super) struct Questions(Mutex<Vec<(Question, beside::Place)>>);

impl Questions {
    fn waiting(&self) -> MutexGuard<'_, Vec<(Question, beside::Place)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    /// Asks, unless too much is asked already.
    pub(super) fn ask(self: &Arc<Self>, question: Question) -> bool {
        let (Some(place), Ok(runtime)) = (self.asking.place(), Handle::try_current()) else { return false };
        let mut waiting = self.questions.waiting();
        waiting.push((question, place));
        if waiting.len() == 1 {
            let turn = Turn(Some(Arc::clone(self)));
            runtime.spawn(async move {
                yield_now().await;
                turn.come();
            });
        }
        true
    }
}

/// Whoever came first asks for all. If its runtime ends before, nobody is asked, and whoever comes then is the first.
struct Turn(Option<Arc<Fleet>>);

impl Turn {
    fn come(mut self) {
        let Some(fleet) = self.0.take() else { return };
        let mut waiting = mem::take(&mut *fleet.questions.waiting());
        waiting.sort_by_key(|(question, _)| question.deadline);
        // In a Cluster hardly two are in one slot.
        let most = if fleet.redis.is_one() { MOST } else { 0 };
        while !waiting.is_empty() {
            let rest = waiting.split_off(together(&waiting, most));
            tokio::spawn(decide(mem::replace(&mut waiting, rest)));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(fleet) = self.0.take() {
            drop(mem::take(&mut *fleet.questions.waiting()));
        }
    }
}

/// How many of these, which are not none, go into one call: of one deadline, since by that a server is judged.
fn together(waiting: &[(Question, beside::Place)], most: usize) -> usize {
    let (first, mut limits) = (waiting[0].0.deadline, 0);
    let fits = |(question, _): &&(Question, beside::Place)| {
        limits += question.asks.len();
        question.deadline == first && limits <= most
    };
    waiting.iter().take_while(fits).count().max(1)
}

/// One call. What is heard is kept for those who come next, whatever becomes of who asked; what was charged in vain is given
/// back.
async fn decide(questions: Vec<(Question, beside::Place)>) {
    let Some((first, _)) = questions.first() else { return };
    let patience = Patience::from(first.deadline).lingering(LINGERING).of(questions.len());
    let at = Instant::now();
    let asked: Vec<_> = questions.iter().map(|(question, _)| &*question.asks).collect();
    let all = call(&asked, patience).await;
    for ((Question { asks, tell, .. }, _), answers) in questions.into_iter().zip(all) {
        for (ask, answer) in asks.iter().zip(&answers) {
            ask.shared.hear(ask, answer, at);
        }
        if let Err(answers) = tell.send(answers) {
            give_back(&asks, &answers);
        }
    }
}
