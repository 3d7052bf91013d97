//! Requests that come together are asked about together: one call of the script decides as many as there are, one after the
//! other. To begin a script takes as long as to decide.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, task::yield_now, time::Instant};

use super::{
    ask::{Answer, Ask, call, give_back},
    fleet::Fleet,
};
use crate::{
    admission::beside::{self, LINGERING},
    redis::{Patience, RedisError},
};

/// How long who came first may be kept from asking, before somebody else does.
pub(super) const LATE: Duration = Duration::from_millis(2);
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

/// A question, its place among those that are on their way, and since when it waits.
struct Waiting(Question, beside::Place, Instant);

/// What is to be asked as soon as all have come that come now.
#[derive(Default)]
pub(super) struct Questions {
    waiting: Mutex<Vec<Waiting>>,
    /// The server decides of no two keys at once: it is one of a Cluster, or not all keys are ours to name.
    are_apart: AtomicBool,
}

impl Questions {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the first.
    fn add(&self, one: Waiting) -> bool {
        let mut waiting = self.waiting();
        waiting.push(one);
        waiting.len() == 1
    }

    fn take(&self) -> Vec<Waiting> {
        mem::take(&mut *self.waiting())
    }
}

impl Fleet {
    /// Asks, unless too much is asked already.
    pub(super) fn ask(self: &Arc<Self>, question: Question) -> bool {
        let (Some(place), Ok(runtime)) = (self.asking.place(), Handle::try_current()) else { return false };
        if self.questions.add(Waiting(question, place, Instant::now())) {
            let turn = Turn(Some(Arc::clone(self)));
            runtime.spawn(async move {
                yield_now().await;
                turn.come();
            });
        }
        true
    }

    /// Asks in the place of who came first, if that has been kept from it: by work that gives way to nobody, or since its runtime
    /// stands still.
    pub(super) fn ask_if_late(self: &Arc<Self>) {
        let is_late =
            self.questions.waiting().first().is_some_and(|Waiting(.., since)| since.elapsed() >= LATE);
        if is_late {
            Turn(Some(Arc::clone(self))).come();
        }
    }
}

/// Whoever came first asks for all. If its runtime ends before, nobody is asked, and whoever comes then is the first.
struct Turn(Option<Arc<Fleet>>);

impl Turn {
    fn come(mut self) {
        let Some(fleet) = self.0.take() else { return };
        let mut waiting = fleet.questions.take();
        waiting.sort_by_key(|Waiting(question, ..)| question.deadline);
        // In a Cluster hardly two are in one slot.
        let is_one = fleet.redis.is_one() && !fleet.questions.are_apart.load(Relaxed);
        let most = if is_one { MOST } else { 0 };
        while !waiting.is_empty() {
            let rest = waiting.split_off(together(&waiting, most));
            tokio::spawn(decide(Arc::clone(&fleet), mem::replace(&mut waiting, rest)));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(fleet) = self.0.take() {
            drop(fleet.questions.take());
        }
    }
}

/// How many of these, which are not none, go into one call: of one deadline, since by that a server is judged.
fn together(waiting: &[Waiting], most: usize) -> usize {
    let (first, mut limits) = (waiting[0].0.deadline, 0);
    let fits = |Waiting(question, ..): &&Waiting| {
        limits += question.asks.len();
        question.deadline == first && limits <= most
    };
    waiting.iter().take_while(fits).count().max(1)
}

/// One call; one for each, if the server will not decide of them in one.
async fn decide(fleet: Arc<Fleet>, questions: Vec<Waiting>) {
    let Some(Waiting(first, ..)) = questions.first() else { return };
    let patience = Patience::from(first.deadline).lingering(LINGERING).of(questions.len());
    let at = Instant::now();
    let asked: Vec<_> = questions.iter().map(|Waiting(question, ..)| &*question.asks).collect();
    let all = call(&asked, patience).await;
    if questions.len() > 1 && all.iter().flatten().next().is_some_and(is_of_several) {
        fleet.questions.are_apart.store(true, Relaxed);
        questions.into_iter().for_each(|one| _ = tokio::spawn(alone(one)));
        return;
    }
    for (Waiting(question, ..), answers) in questions.into_iter().zip(all) {
        question.answered(answers, at);
    }
}

async fn alone(Waiting(question, _place, _): Waiting) {
    let at = Instant::now();
    let patience = Patience::from(question.deadline).lingering(LINGERING);
    let answers = call(&[&question.asks], patience).await.pop().unwrap_or_default();
    question.answered(answers, at);
}

/// Whether nothing was decided, since it was about several keys.
fn is_of_several(answer: &Answer) -> bool {
    matches!(answer, Err(RedisError::Refused(code)) if matches!(&**code, "CROSSSLOT" | "NOPERM"))
}

impl Question {
    /// What is heard is kept for those who come next, whatever becomes of who asked; what was charged in vain is given back.
    fn answered(self, answers: Vec<Answer>, at: Instant) {
        let Self { asks, tell, .. } = self;
        for (ask, answer) in asks.iter().zip(&answers) {
            ask.shared.hear(ask, answer, at);
        }
        if let Err(answers) = tell.send(answers) {
            give_back(&asks, &answers);
        }
    }
}
