//! Single flight: who asks for what somebody is already asking for waits for the same answer.
//!
//! The work runs in a task of its own. A caller that goes away takes nothing with it, and the work ends as its own
//! deadline says; give it one.
//!
//! # Example
//!
//! ```
//! use portcullis::flight::Flights;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let flights = Flights::new(1_000);
//! let first = flights.join("key", || async { 7 }).unwrap();
//! let second = flights.join("key", || async { unreachable!("somebody is on the way") }).unwrap();
//! assert_eq!((first.await, second.await), (Ok(7), Ok(7)));
//! # }
//! ```
//!
//! # Shared state
//!
//! Clones share the flights. A key is known only while its work runs: what is to be remembered goes into a cache, by
//! the work itself, before it returns. As many keys as stated can be under way at once; another one is refused.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use thiserror::Error;
use tokio::sync::oneshot;

/// Works under way, by key.
pub struct Flights<K, T> {
    aloft: Arc<Mutex<Aloft<K, T>>>,
    most: usize,
}

/// Who waits for what.
type Aloft<K, T> = HashMap<K, Vec<oneshot::Sender<T>>>;

/// As many different works are under way as may be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("too many are asked at once")]
pub struct Full;

/// The work ended without an answer: it panicked, or its runtime was shut down.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("what was awaited ended without an answer")]
pub struct Lost;

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + 'static,
{
    /// Room for `most` different works at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { aloft: Arc::default(), most }
    }

    /// Waits for the work of this key that is under way, or else begins `work` on the current runtime.
    ///
    /// # Errors
    ///
    /// [`Full`] if the work would have to begin and there is no room.
    pub fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<Joined<T>, Full>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (waiter, joined) = oneshot::channel();
        {
            let mut aloft = lock(&self.aloft);
            let room = aloft.len() < self.most;
            match aloft.entry(key.clone()) {
                Entry::Occupied(mut waiting) => {
                    join_waiting(waiting.get_mut(), waiter);
                    return Ok(Joined(joined));
                }
                Entry::Vacant(_) if !room => return Err(Full),
                Entry::Vacant(vacant) => _ = vacant.insert(vec![waiter]),
            }
        }
        let mut landing = Landing { aloft: self.aloft.clone(), key: Some(key) };
        let work = work();
        tokio::spawn(async move {
            let answer = work.await;
            for waiter in landing.waiting() {
                // One that went away needs nothing.
                _ = waiter.send(answer.clone());
            }
        });
        Ok(Joined(joined))
    }

    /// Whether the work of this key is under way.
    #[cfg(feature = "jwt")]
    pub(crate) fn is_aloft(&self, key: &K) -> bool {
        lock(&self.aloft).contains_key(key)
    }
}

/// Before the list grows, those who went away leave it: it is bounded by twice those who wait.
fn join_waiting<T>(waiting: &mut Vec<oneshot::Sender<T>>, waiter: oneshot::Sender<T>) {
    if waiting.len() == waiting.capacity() {
        waiting.retain(|waiter| !waiter.is_closed());
    }
    waiting.push(waiter);
}

fn lock<K, T>(aloft: &Mutex<Aloft<K, T>>) -> MutexGuard<'_, Aloft<K, T>> {
    aloft.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the key off once, also when the work panics: after that it may be another's.
struct Landing<K: Eq + Hash, T> {
    aloft: Arc<Mutex<Aloft<K, T>>>,
    key: Option<K>,
}

impl<K: Eq + Hash, T> Landing<K, T> {
    fn waiting(&mut self) -> Vec<oneshot::Sender<T>> {
        self.key.take().and_then(|key| lock(&self.aloft).remove(&key)).unwrap_or_default()
    }
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        drop(self.waiting());
    }
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self { aloft: self.aloft.clone(), most: self.most }
    }
}

impl<K, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aloft = lock(&self.aloft).len();
        f.debug_struct("Flights").field("aloft", &aloft).field("most", &self.most).finish()
    }
}

/// Resolves to the answer. It borrows nothing and may be dropped at any time.
pub struct Joined<T>(oneshot::Receiver<T>);

impl<T> Future for Joined<T> {
    type Output = Result<T, Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Lost>> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Lost)
    }
}

impl<T> fmt::Debug for Joined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    /// A second of work that counts how often it began.
    fn work(begun: &Arc<AtomicU32>) -> impl Future<Output = u32> + Send + use<> {
        let nth = begun.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            nth
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_meanwhile_get_one_answer() {
        let (flights, begun) = (Flights::new(10), Arc::default());
        let joined: Vec<_> = (0..1_000).map(|_| flights.join("a", || work(&begun)).unwrap()).collect();
        for joined in joined {
            assert_eq!(joined.await, Ok(1));
        }
        assert_eq!(flights.join("a", || work(&begun)).unwrap().await, Ok(2), "the next one asks anew");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_takes_nothing_with_them() {
        let (flights, begun) = (Flights::new(10), Arc::default());
        let first = flights.join("a", || work(&begun)).unwrap();
        let second = flights.join("a", || work(&begun)).unwrap();
        drop(first);
        assert_eq!(second.await, Ok(1));

        drop(flights.join("a", || work(&begun)).unwrap());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(begun.load(Ordering::Relaxed), 2, "it ran to its end");
        assert!(lock(&flights.aloft).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_who_left_are_forgotten() {
        let (flights, begun) = (Flights::new(10), Arc::default());
        let stays = flights.join("a", || work(&begun)).unwrap();
        for _ in 0..10_000 {
            drop(flights.join("a", || work(&begun)).unwrap());
        }
        assert!(lock(&flights.aloft)["a"].capacity() <= 8);
        assert_eq!(stays.await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_so_many() {
        let (flights, begun) = (Flights::new(2), Arc::default());
        let a = flights.join("a", || work(&begun)).unwrap();
        let b = flights.join("b", || work(&begun)).unwrap();
        assert_eq!(flights.join("c", || work(&begun)).unwrap_err(), Full);
        assert!(flights.join("a", || work(&begun)).is_ok(), "no new work");
        assert_eq!((a.await, b.await), (Ok(1), Ok(2)));
        assert_eq!(flights.join("c", || work(&begun)).unwrap().await, Ok(3));
    }

    #[tokio::test]
    async fn a_work_that_panics_is_lost_and_frees_its_key() {
        let flights = Flights::new(1);
        let panics = flights.join("a", || async { panic!("planted") }).unwrap();
        assert_eq!(panics.await, Err(Lost));
        assert_eq!(flights.join("a", || async { 1 }).unwrap().await, Ok(1));
    }
}
