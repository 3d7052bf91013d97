//! Connecting to a host that has several addresses (RFC 8305).

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::connect::ConnectError;

/// How many addresses of a host are tried.
const TRIES: usize = 4;
/// How long an address is waited for before the next is tried beside it (RFC 8305 section 5).
const PATIENCE: Duration = Duration::from_millis(250);

/// The first connection that comes about. Each address is tried when the one before has failed, or has taken its time; the
/// families take turns. What is late is dropped.
pub(super) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let mut waiting = alternating(addresses).into_iter().take(TRIES);
    let mut going: Vec<Pin<Box<F>>> = Vec::new();
    let (mut failed, mut next_is_due) = (ConnectError::NoAddress, true);
    let mut patience = pin!(sleep(PATIENCE));
    poll_fn(|cx| {
        loop {
            let mut at = 0;
            while let Some(connecting) = going.get_mut(at) {
                match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(connected)) => return Poll::Ready(Ok(connected)),
                    Poll::Ready(Err(error)) => {
                        (failed, next_is_due) = (error, true);
                        drop(going.swap_remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if !next_is_due && patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match waiting.next() {
                Some(address) => going.push(Box::pin(connect(address))),
                None if going.is_empty() => {
                    return Poll::Ready(Err(std::mem::replace(&mut failed, ConnectError::NoAddress)));
                }
                None => return Poll::Pending,
            }
            next_is_due = false;
            patience.as_mut().reset(Instant::now() + PATIENCE);
        }
    })
    .await
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
        let connected = race(addresses(texts), |address| {
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
