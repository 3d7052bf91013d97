use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    HedgeBody, Policy,
    call::{Call, Grade, Next, graded},
    handle::HedgeStop,
};
use crate::{body::Body, ready::ReadyCall, resilience::timeout::Alarm, time::after, trail::Trail};

/// One attempt: by a service, when it is ready.
pub(super) type Sending<S> = ReadyCall<S, Request<Body>>;

pin_project! {
    /// The future of a [`Hedge`](super::Hedge). Dropping it drops all attempts.
    pub struct ResponseFuture<S: Service<Request<Body>>, B: HttpBody> {
        #[pin]
        first: Option<Sending<S>>,
        #[pin]
        alarm: Alarm,
        learning: Option<Learning>,
        once: Option<Once>,
        race: Option<Box<Race<S, B>>>,
    }
}

/// When the first attempt began, for whoever has to know how long attempts take.
struct Learning {
    policy: Arc<Policy>,
    started: Instant,
}

/// A call that is sent once, whatever becomes of it. It is counted if it is late by its end.
struct Once {
    policy: Arc<Policy>,
    late: Instant,
}

/// What is needed where there may be other attempts.
struct Race<S: Service<Request<Body>>, B: HttpBody> {
    service: S,
    call: Call,
    /// When somebody looks at it again, unless there is nothing to be done but to wait.
    look: Option<Instant>,
    rivals: Vec<Rival<S>>,
    /// The best of what has ended so far, and whose it is.
    held: Option<(Grade, Ended<S, B>, Option<Trail>)>,
}

/// An attempt beside the first, and the trail that it is told to.
struct Rival<S: Service<Request<Body>>> {
    sending: Pin<Box<Sending<S>>>,
    trail: Trail,
}

type Ended<S, B> = Result<Response<HedgeBody<B>>, <S as Service<Request<Body>>>::Error>;

impl<S: Service<Request<Body>>, B: HttpBody> ResponseFuture<S, B> {
    /// The only attempt.
    pub(super) fn alone(first: Sending<S>) -> Self {
        Self { first: Some(first), alarm: Alarm::default(), learning: None, once: None, race: None }
    }

    /// The only attempt, of what may not be sent twice.
    pub(super) fn once(first: Sending<S>, policy: Arc<Policy>, started: Instant) -> Self {
        let late = policy.late(started);
        Self { once: Some(Once { policy, late }), ..Self::alone(first) }
    }

    /// The only attempt, from which is learnt how long attempts take.
    pub(super) fn learning(first: Sending<S>, policy: Arc<Policy>, started: Instant) -> Self {
        Self { learning: Some(Learning { policy, started }), ..Self::alone(first) }
    }

    /// An attempt that may get rivals, from this service.
    pub(super) fn racing(
        first: Sending<S>,
        policy: Arc<Policy>,
        started: Instant,
        call: Call,
        service: S,
    ) -> Self {
        let this = Self::learning(first, policy, started);
        let look = Some(after(started, call.delay()));
        let race = Race { service, call, look, rivals: Vec::new(), held: None };
        Self { race: Some(Box::new(race)), ..this }
    }
}

impl<S, ResB> Future for ResponseFuture<S, ResB>
where
    S: Service<Request<Body>, Response = Response<ResB>, Error: 'static> + Clone,
    ResB: HttpBody<Data = Bytes>,
{
    type Output = Ended<S, ResB>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<S, ResB>> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(ended) = first.poll(cx)
        {
            this.first.set(None);
            let among = this.race.as_ref().is_some_and(|race| !race.rivals.is_empty());
            let (grade, ended) = graded(ended, among, cx);
            if let Some(learning) = this.learning.take() {
                learning.first(grade);
            }
            *this.once = None;
            let Some(race) = this.race else { return Poll::Ready(ended) };
            if let Some(given) = race.end(grade, ended, None, 0) {
                return Poll::Ready(given);
            }
        }
        let Some(race) = this.race else { return Poll::Pending };
        let waits = usize::from(this.first.is_some());
        let given = ready!(race.poll(waits, this.alarm, cx));
        if let Some(learning) = this.learning.take() {
            // It would have taken so long at least.
            learning.first(Grade::Good);
        }
        this.first.set(None);
        Poll::Ready(given)
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if Instant::now() >= self.late {
            self.policy.counts.stop(HedgeStop::Unsafe);
        }
    }
}

impl Learning {
    /// What became of the first attempt. How long failures take says nothing about answers.
    fn first(self, grade: Grade) {
        self.policy.count(grade);
        if grade == Grade::Good {
            let now = Instant::now();
            self.policy.learn(now - self.started, now);
        }
    }
}

impl<S, ResB> Race<S, ResB>
where
    S: Service<Request<Body>, Response = Response<ResB>, Error: 'static> + Clone,
    ResB: HttpBody<Data = Bytes>,
{
    /// Ready with what is given, since a rival has ended or a failure has waited long enough. `others`: how many attempts are
    /// in flight beside the rivals.
    fn poll(
        &mut self,
        others: usize,
        mut alarm: Pin<&mut Alarm>,
        cx: &mut Context<'_>,
    ) -> Poll<Ended<S, ResB>> {
        loop {
            if let Poll::Ready(given) = self.poll_rivals(others, cx) {
                return Poll::Ready(given);
            }
            let Some(at) = self.look else { return Poll::Pending };
            ready!(alarm.as_mut().poll_at(at, cx));
            match self.held.take_if(|(grade, ..)| *grade > Grade::Refused) {
                Some((_, ended, trail)) => {
                    return Poll::Ready(self.give(ended, trail.as_ref(), false, others));
                }
                None => self.look_again(),
            }
        }
    }

    fn poll_rivals(&mut self, others: usize, cx: &mut Context<'_>) -> Poll<Ended<S, ResB>> {
        let mut at = 0;
        while let Some(rival) = self.rivals.get_mut(at) {
            let Poll::Ready(ended) = rival.sending.as_mut().poll(cx) else {
                at += 1;
                continue;
            };
            let Rival { trail, .. } = self.rivals.swap_remove(at);
            let (grade, ended) = graded(ended, others > 0 || !self.rivals.is_empty(), cx);
            if let Some(given) = self.end(grade, ended, Some(trail), others) {
                return Poll::Ready(given);
            }
        }
        Poll::Pending
    }

    /// An attempt has ended. Gives what the caller gets: at once if it is good, else the best of all when none is in flight
    /// any more. `others`: how many are beside the rivals.
    fn end(
        &mut self,
        grade: Grade,
        ended: Ended<S, ResB>,
        trail: Option<Trail>,
        others: usize,
    ) -> Option<Ended<S, ResB>> {
        if grade == Grade::Good {
            return Some(self.give(ended, trail.as_ref(), trail.is_some(), others));
        }
        if self.held.as_ref().is_none_or(|(held, ..)| *held <= grade) {
            self.held = Some((grade, ended, trail));
        }
        if self.rivals.is_empty() && others == 0 {
            let (_, ended, trail) = self.held.take()?;
            return Some(self.give(ended, trail.as_ref(), false, 0));
        }
        // There is no further attempt. A failure waits for the others as long as it was waited for: of a refusal of ours
        // nobody is told while another may answer.
        let is_told = self.held.as_ref().is_some_and(|(held, ..)| *held > Grade::Refused);
        self.look = is_told.then(|| after(Instant::now(), self.call.delay()));
        None
    }

    /// Cancels all others.
    fn give(
        &mut self,
        ended: Ended<S, ResB>,
        rival: Option<&Trail>,
        has_won: bool,
        others: usize,
    ) -> Ended<S, ResB> {
        self.call.ended(has_won, self.rivals.len() + others);
        self.rivals.clear();
        ended.map(|mut response| {
            self.call.tell(&mut response, rival);
            response
        })
    }

    /// The last attempt is late.
    fn look_again(&mut self) {
        let now = Instant::now();
        self.look = match self.call.late(now) {
            Next::Send(request, trail) => {
                let sending = Box::pin(Sending::new(self.service.clone(), request));
                self.rivals.push(Rival { sending, trail });
                Some(after(now, self.call.delay()))
            }
            Next::Look(at) => Some(at),
            Next::Wait => None,
        };
    }
}

impl<S: Service<Request<Body>>, B: HttpBody> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
