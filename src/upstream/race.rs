//! Connecting where there are several to connect to (RFC 8305).

use std::{
    future::poll_fn,
    mem,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::connect::ConnectError;
use crate::time::after;

/// How many addresses of a host are tried.
const TRIES: usize = 4;
/// How long a connection is waited for before the next is tried beside it (RFC 8305 section 5).
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// The first that comes about, and those that are still going then; `None` if none does. `next` begins one, if there is one: when
/// one has failed, which it is told, and when none has come for as long as `patience`.
pub(super) async fn race<T, E, F>(
    patience: Duration,
    mut next: impl FnMut(Option<E>) -> Option<F>,
) -> Option<(T, Vec<F>)>
where
    F: Future<Output = Result<T, E>> + Unpin,
{
    let mut going: Vec<F> = next(None).into_iter().collect();
    let mut due = pin!(sleep(patience));
    poll_fn(|cx| {
        loop {
            let mut at = 0;
            while let Some(one) = going.get_mut(at) {
                match Pin::new(one).poll(cx) {
                    Poll::Ready(come) => {
                        drop(going.swap_remove(at));
                        match come {
                            Ok(first) => return Poll::Ready(Some((first, mem::take(&mut going)))),
                            Err(error) => {
                                going.extend(next(Some(error)));
                                due.as_mut().reset(after(Instant::now(), patience));
                            }
                        }
                    }
                    Poll::Pending => at += 1,
                }
            }
            if going.is_empty() {
                return Poll::Ready(None);
            }
            ready!(due.as_mut().poll(cx));
            going.extend(next(None));
            due.as_mut().reset(after(Instant::now(), patience));
        }
    })
    .await
}

/// A connection to a host that has these addresses: the first that comes about. The families take turns; what is late is dropped.
pub(super) async fn connect_to_any<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let mut addresses = alternating(addresses).into_iter().take(TRIES);
    let mut failed = ConnectError::NoAddress;
    let first = race(PATIENCE, |error| {
        if let Some(error) = error {
            failed = error;
        }
        Some(Box::pin(connect(addresses.next()?)))
    });
    first.await.map(|(first, _)| first).ok_or(failed)
}

/// The families in turns, beginning with that of the first (RFC 8305 section 4). Within each the order stays.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => return turns,
            (a, b) => turns.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let mixed = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternating(mixed), turns);
        let same = addresses(&["1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(alternating(same.clone()), same);
        assert!(alternating(Vec::new()).is_empty());
    }

    /// What was tried and when, in milliseconds, and what came of it. A port is what an address does: 1 connects at once,
    /// 2 fails at once, 3 hangs, 4 connects after 300 ms.
    async fn tried(texts: &[&str]) -> (Vec<(u16, u128)>, Result<u16, ConnectError>) {
        let (begun, tried) = (Instant::now(), RefCell::new(Vec::new()));
        let connected = connect_to_any(addresses(texts), |address| {
            tried.borrow_mut().push((address.port(), begun.elapsed().as_millis()));
            async move {
                match address.port() {
                    1 => Ok(1),
                    2 => Err(ConnectError::TimedOut),
                    3 => pending().await,
                    port => {
                        sleep(Duration::from_millis(300)).await;
                        Ok(port)
                    }
                }
            }
        });
        let connected = tokio::time::timeout(Duration::from_secs(9), connected).await.unwrap();
        (tried.into_inner(), connected)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_not_waited_for() {
        for (asked, tries, result) in [
            (&["1.1.1.1:1", "1.1.1.2:1"][..], &[(1, 0)][..], Some(1)),
            (&["1.1.1.1:3", "1.1.1.2:1"], &[(3, 0), (1, 250)], Some(1)),
            (&["1.1.1.1:2", "1.1.1.2:3", "1.1.1.3:1"], &[(2, 0), (3, 0), (1, 250)], Some(1)),
            (&["1.1.1.1:4", "1.1.1.2:3"], &[(4, 0), (3, 250)], Some(4)),
            (&["1.1.1.1:2", "1.1.1.2:2"], &[(2, 0), (2, 0)], None),
            (&["1.1.1.1:2", "1.1.1.2:2", "1.1.1.3:2", "1.1.1.4:2", "1.1.1.5:1"], &[(2, 0); 4], None),
            (&[], &[], None),
        ] {
            let (tried, connected) = tried(asked).await;
            assert_eq!((&*tried, connected.ok()), (tries, result), "{asked:?}");
        }
    }
}
