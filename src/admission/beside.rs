//! What is done on Redis while nobody waits for it: in tasks of their own, so many and no more, tried again for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep},
};

use crate::redis::RedisError;

/// The most that is done beside the requests at once.
const MOST: usize = 10_000;
/// How long a correction is kept that cannot be made.
const KEPT: Duration = Duration::from_secs(30);
/// When a server that cannot be reached is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// An answer that is late is waited for so much longer: what was charged with it is then given back, and what was taken
/// ahead is of use to others.
pub(super) const LINGERING: Duration = Duration::from_secs(3);

/// Asks a server that does not serve whether it does again, until it does or nobody wants to know. Whether it was asked.
pub(super) async fn until_served<F>(is_shut: impl Fn() -> bool, ask: impl Fn() -> F) -> bool
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut was_asked = false;
    while is_shut() {
        // Nobody waits for it: one that gets no answer keeps no other from being told that it serves again.
        tokio::spawn(ask());
        was_asked = true;
        sleep(AGAIN).await;
    }
    was_asked
}

/// Tasks for which nobody waits. Its clones count together.
#[derive(Clone, Default)]
pub(super) struct Beside(Arc<Tasks>);

#[derive(Default)]
struct Tasks {
    count: AtomicUsize,
    ended: Notify,
}

/// The place of one of them, which is counted until it is dropped.
pub(super) struct Place(Beside);

impl Beside {
    /// Does this in a task of its own, if there is room for one more.
    pub(super) fn run(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let (Some(place), Ok(runtime)) = (self.place(), Handle::try_current()) else { return false };
        runtime.spawn(async move {
            work.await;
            drop(place);
        });
        true
    }

    /// Waits for what is done.
    pub(super) async fn settled(&self) {
        loop {
            let ended = self.0.ended.notified();
            if self.0.count.load(SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// A place for one more, if there is room.
    pub(super) fn place(&self) -> Option<Place> {
        let place = Place(self.clone());
        (self.0.count.fetch_add(1, SeqCst) < MOST).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let tasks = &*self.0.0;
        if tasks.count.fetch_sub(1, SeqCst) == 1 {
            tasks.ended.notify_waiters();
        }
    }
}

/// Tries it again while it is sure that nothing was done: a month's account is not to lose by an outage of seconds.
pub(super) async fn patiently<T, F>(work: impl Fn() -> F) -> Result<T, RedisError>
where
    F: Future<Output = Result<T, RedisError>>,
{
    let until = Instant::now() + KEPT;
    loop {
        let error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let pause = match &error {
            RedisError::Open(open) => open.retry_after(),
            RedisError::Connect(_) => AGAIN,
            _ => return Err(error),
        };
        if Instant::now() + pause >= until {
            return Err(error);
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_so_many_and_again_when_one_has_ended() {
        let beside = Beside::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        assert!(beside.run(async move { drop(ended.await) }));
        assert!((1..MOST).all(|_| beside.run(pending())));
        assert!(!beside.run(pending()), "one more");
        end.send(()).unwrap();
        sleep(AGAIN).await;
        assert!(beside.run(pending()));
        assert!(!beside.run(pending()));
    }

    #[tokio::test(start_paused = true)]
    async fn all_of_it_is_waited_for() {
        let beside = Beside::default();
        beside.settled().await;
        let began = Instant::now();
        assert!([1, 3, 2].into_iter().all(|seconds| beside.run(sleep(Duration::from_secs(seconds)))));
        beside.settled().await;
        assert!(began.elapsed() >= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_surely_not_done_is_tried_again() {
        let (calls, began) = (AtomicUsize::new(0), Instant::now());
        let never = patiently(|| async {
            calls.fetch_add(1, SeqCst);
            Err::<(), _>(RedisError::Connect("nobody".into()))
        });
        assert!(never.await.is_err());
        assert_eq!(calls.load(SeqCst), 300);
        assert!(began.elapsed() < KEPT);
        let lost = patiently(|| async {
            calls.fetch_add(1, SeqCst);
            Err::<(), _>(RedisError::Lost)
        });
        assert!(lost.await.is_err());
        assert_eq!(calls.load(SeqCst), 301);
    }
}
