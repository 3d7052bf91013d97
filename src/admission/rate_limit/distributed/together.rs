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
/// With so many limits no more requests come into a call, and nobody waits for more. These take Redis about a tenth of a
/// millisecond, in which it serves nobody else, and we gather the next.
const ENOUGH: usize = 32;

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

#[derive(Default)]
struct Gathered {
    questions: Vec<Waiting>,
    /// How many they ask about.
    limits: usize,
}

/// What is to be asked as soon as all have come that come now, or enough.
#[derive(Default)]
pub(super) struct Questions {
    waiting: Mutex<Gathered>,
    /// The server decides of no two keys at once: it is one of a Cluster, or not all keys are ours to name.
    are_apart: AtomicBool,
}

impl Questions {
    fn waiting(&self) -> MutexGuard<'_, Gathered> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the first, and whether there are enough.
    fn add(&self, one: Waiting) -> (bool, bool) {
        let mut waiting = self.waiting();
        waiting.limits += one.0.asks.len();
        waiting.questions.push(one);
        (waiting.questions.len() == 1, waiting.limits >= ENOUGH)
    }

    fn take(&self) -> Vec<Waiting> {
        mem::take(&mut *self.waiting()).questions
    }
}

impl Fleet {
    /// Asks, unless too much is asked already.
    pub(super) fn ask(self: &Arc<Self>, question: Question) -> bool {
        let (Some(place), Ok(runtime)) = (self.asking.place(), Handle::try_current()) else { return false };
        let (is_first, are_enough) = self.questions.add(Waiting(question, place, Instant::now()));
        if are_enough {
            Turn(Some(Arc::clone(self))).come();
        } else if is_first {
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
        let is_late = self
            .questions
            .waiting()
            .questions
            .first()
            .is_some_and(|Waiting(.., since)| since.elapsed() >= LATE);
        if is_late {
            Turn(Some(Arc::clone(self))).come();
        }
    }
}

/// Whoever came first asks for all, or the one with whom they are enough. If its runtime ends before, nobody is asked, and whoever comes then is the first.
struct Turn(Option<Arc<Fleet>>);

impl Turn {
    fn come(mut self) {
        let Some(fleet) = self.0.take() else { return };
        let mut waiting = fleet.questions.take();
        waiting.sort_by_key(|Waiting(question, ..)| question.deadline);
        // In a Cluster hardly two are in one slot.
        let is_one = fleet.redis.is_one() && !fleet.questions.are_apart.load(Relaxed);
        let enough = if is_one { ENOUGH } else { 0 };
        while !waiting.is_empty() {
            let rest = waiting.split_off(together(&waiting, enough));
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
fn together(waiting: &[Waiting], enough: usize) -> usize {
    let (first, mut limits) = (waiting[0].0.deadline, 0);
    let fits = |Waiting(question, ..): &&Waiting| {
        let fits = question.deadline == first && limits < enough;
        limits += question.asks.len();
        fits
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
