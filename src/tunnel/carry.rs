//! Bytes between two connections, both ways.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::time::after;

/// The most that is read at a time, and so the most that waits for a peer that does not read.
const CHUNK: usize = 16 << 10;

/// How long one that takes nothing more may be heard to its end while the other takes nothing of that.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long bytes are carried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long nothing may go through, in either direction.
    pub(crate) idle: Duration,
    pub(crate) age: Duration,
}

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the first to the second: from the client to the server.
    There,
    /// From the second to the first.
    Back,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both have said all that they had to say, or one has gone after it had.
    Closed,
    /// Nothing went through for too long.
    Idle,
    /// It took too long.
    Old,
    /// It was told to end.
    Cut,
    /// The first has broken off.
    First(io::Error),
    /// The second has.
    Second(io::Error),
}

/// What is told of the bytes that have gone through.
pub(crate) trait Carried {
    /// So many were given to whom they were for.
    fn carried(&mut self, way: Way, bytes: usize);
}

impl Carried for () {
    fn carried(&mut self, _: Way, _: usize) {}
}

/// Carries bytes between `first` and `second` until both have ended, one has broken off, or time is up. An end is passed on, and
/// the other way goes on. Nothing is held while nothing waits to be written. A `second` that takes nothing more is heard to its
/// end first: it may have answered before it had heard all.
pub(crate) async fn carry<A, B>(
    first: &mut A,
    second: &mut B,
    limits: Limits,
    cut: impl Future<Output = ()>,
    told: &mut impl Carried,
) -> End
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Instant::now();
    let over = after(begun, limits.age);
    let mut last = begun;
    let mut timer = pin!(sleep_until(after(begun, limits.idle).min(over)));
    let mut cut = pin!(cut);
    let (mut there, mut back) = (Half::default(), Half::default());
    let mut deaf = None;
    poll_fn(|cx| {
        let before = (there.moved, back.moved);
        let went = match deaf.is_some() {
            true => Poll::Pending,
            false => there.poll(cx, first, second),
        };
        let came = back.poll(cx, second, first);
        for (way, moved, before) in [(Way::There, there.moved, before.0), (Way::Back, back.moved, before.1)] {
            if moved != before {
                told.carried(way, moved.wrapping_sub(before));
            }
        }
        let went = match went {
            Poll::Ready(Err(Broken::Writer(error))) if came.is_pending() => {
                deaf = Some(error);
                last = Instant::now();
                timer.as_mut().reset(after(last, LAST_WORDS.min(limits.idle)).min(over));
                Poll::Pending
            }
            Poll::Pending if came.is_ready() => {
                deaf.take().map_or(Poll::Pending, |error| Poll::Ready(Err(Broken::Writer(error))))
            }
            went => went,
        };
        if let Some(end) = ended(went, came) {
            return Poll::Ready(end);
        }
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        if (there.moved, back.moved) != before {
            last = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let patience = if deaf.is_some() { LAST_WORDS.min(limits.idle) } else { limits.idle };
            let silent = after(last, patience);
            if now >= over {
                return Poll::Ready(End::Old);
            }
            if now >= silent {
                return Poll::Ready(deaf.take().map_or(End::Idle, End::Second));
            }
            timer.as_mut().reset(silent.min(over));
        }
        Poll::Pending
    })
    .await
}

type Passed = Poll<Result<(), Broken>>;

/// `None`: it goes on. Who takes nothing more after all that it had to say has come is not broken: it has gone.
fn ended(there: Passed, back: Passed) -> Option<End> {
    match (there, back) {
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()) | Err(Broken::Writer(_))))
        | (Poll::Ready(Err(Broken::Writer(_))), Poll::Ready(Ok(()))) => Some(End::Closed),
        (Poll::Ready(Err(Broken::Reader(error))), _) | (_, Poll::Ready(Err(Broken::Writer(error)))) => {
            Some(End::First(error))
        }
        (Poll::Ready(Err(Broken::Writer(error))), _) | (_, Poll::Ready(Err(Broken::Reader(error)))) => {
            Some(End::Second(error))
        }
        _ => None,
    }
}

/// Who has failed.
#[derive(Debug)]
enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

/// One way.
#[derive(Debug, Default)]
struct Half {
    /// What was read and is not written yet.
    rest: Vec<u8>,
    written: usize,
    moved: usize,
    unflushed: bool,
    ended: bool,
    passed: bool,
}

impl Half {
    /// Does what can be done. Ready once the end was passed on.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Passed
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.passed {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.write_rest(cx, to)).map_err(Broken::Writer)?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Broken::Writer)?;
                self.passed = true;
                return Poll::Ready(Ok(()));
            }
            let mut space = [const { MaybeUninit::uninit() }; CHUNK];
            let mut read = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Reader(error))),
                Poll::Pending => {
                    self.rest = Vec::new(); // who is silent holds nothing
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Broken::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let read = read.filled();
            self.ended = read.is_empty();
            let wrote = self.write(cx, to, read).map_err(Broken::Writer)?;
            self.rest.reserve_exact(read.len() - wrote);
            self.rest.extend_from_slice(&read[wrote..]);
        }
    }

    /// Writes as much as goes now.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
    ) -> io::Result<usize> {
        let mut wrote = 0;
        while wrote < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[wrote..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(more)) => wrote += more,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.moved = self.moved.wrapping_add(wrote);
        self.unflushed |= wrote > 0;
        Ok(wrote)
    }

    fn write_rest<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let rest = std::mem::take(&mut self.rest);
        let wrote = self.write(cx, to, &rest[self.written..]);
        self.rest = rest;
        self.written += wrote?;
        if self.written < self.rest.len() {
            return Poll::Pending;
        }
        self.rest.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const LIMITS: Limits = Limits { idle: MINUTE, age: Duration::MAX };

    #[derive(Default)]
    struct Tally {
        there: usize,
        back: usize,
    }

    impl Carried for Tally {
        fn carried(&mut self, way: Way, bytes: usize) {
            match way {
                Way::There => self.there += bytes,
                Way::Back => self.back += bytes,
            }
        }
    }

    /// A client, a server, and what carries between them.
    fn between(
        limits: Limits,
        cut: impl Future<Output = ()> + Send + 'static,
    ) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<(End, usize, usize)>) {
        let ((client, mut first), (server, mut second)) = (duplex(100), duplex(100));
        let carrying = tokio::spawn(async move {
            let mut tally = Tally::default();
            let end = carry(&mut first, &mut second, limits, cut, &mut tally).await;
            (end, tally.there, tally.back)
        });
        (client, server, carrying)
    }

    #[tokio::test]
    async fn bytes_are_carried_counted_and_an_end_is_passed_on() {
        let (mut client, mut server, carrying) = between(LIMITS, pending());
        let sent = vec![7; 100_000];
        let (sent_too, mut heard) = (sent.clone(), Vec::new());
        let sending = tokio::spawn(async move {
            client.write_all(&sent_too).await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            heard
        });
        server.read_to_end(&mut heard).await.unwrap();
        assert!(heard == sent);
        server.write_all(b"thanks").await.unwrap();
        drop(server);
        assert_eq!(sending.await.unwrap(), "thanks");
        let (end, there, back) = carrying.await.unwrap();
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!((there, back), (100_000, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nothing_goes_through() {
        let (mut client, mut server, carrying) = between(LIMITS, pending());
        for _ in 0..5 {
            tokio::time::advance(MINUTE / 2).await;
            client.write_all(b"a").await.unwrap();
            server.read_u8().await.unwrap();
        }
        // What one side says, and the other does not take, does not go through for ever.
        client.write_all(&[0; 100]).await.unwrap();
        let (begun, (end, there, _)) = (Instant::now(), carrying.await.unwrap());
        assert!(matches!(end, End::Idle), "{end:?}");
        assert_eq!((there, begun.elapsed().as_secs()), (105, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_its_age_and_when_it_is_told() {
        let (mut client, mut server, carrying) = between(Limits { age: 2 * MINUTE, ..LIMITS }, pending());
        tokio::task::yield_now().await; // it begins
        for _ in 0..3 {
            tokio::time::advance(MINUTE / 2).await;
            client.write_all(b"a").await.unwrap();
            server.read_u8().await.unwrap();
        }
        let begun = Instant::now();
        assert!(matches!(carrying.await.unwrap().0, End::Old));
        assert_eq!(begun.elapsed().as_secs(), 30);
        let (_client, _server, carrying) = between(LIMITS, tokio::time::sleep(Duration::from_secs(5)));
        assert!(matches!(carrying.await.unwrap().0, End::Cut));
    }

    #[tokio::test]
    async fn who_breaks_off_is_named() {
        for first in [true, false] {
            let reset = io::ErrorKind::ConnectionReset.into();
            let mut broken = tokio_test::io::Builder::new().read_error(reset).build();
            let (_kept, mut good) = duplex(100);
            let end = match first {
                true => carry(&mut broken, &mut good, LIMITS, pending(), &mut ()).await,
                false => carry(&mut good, &mut broken, LIMITS, pending(), &mut ()).await,
            };
            assert!(matches!((first, &end), (true, End::First(_)) | (false, End::Second(_))), "{end:?}");
        }
    }
}
