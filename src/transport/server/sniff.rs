use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, sleep_until},
};

use super::{
    builder::Limits,
    speech::{ENOUGH, Speech, told_of_any, told_of_http},
};
use crate::{
    time::after,
    transport::drain::{Alarm, Phase},
};

/// What was read ahead; most heads fit in.
pub(super) struct Sniffed {
    pub(super) speech: Speech,
    pub(super) ahead: Bytes,
}

/// Reads as much as it takes to tell whether the peer speaks HTTP/2. `None`: the connection is over.
pub(super) async fn sniff<I: AsyncRead + Unpin>(
    io: &mut I,
    limits: &Limits,
    alarm: &mut Alarm,
) -> Option<Sniffed> {
    let (mut ahead, told) = read_ahead(io, limits.head_timeout, limits, alarm, told_of_http).await?;
    let speech = match told {
        Told::Speech(speech) => speech,
        // A head that has broken off gets its answer.
        Told::Ended if !ahead.is_empty() => Speech::Http1,
        Told::Ended | Told::Late => return None,
    };
    Some(Sniffed { speech, ahead: ahead.split().freeze() })
}

/// Reads as much as it takes to tell what the peer speaks. Who says too little for so long waits for the other side to speak,
/// which is not HTTP. `None`: the connection is over.
pub(super) async fn detect<I: AsyncRead + Unpin>(
    io: &mut I,
    patience: Duration,
    limits: &Limits,
    alarm: &mut Alarm,
) -> Option<Sniffed> {
    let (mut ahead, told) = read_ahead(io, patience, limits, alarm, told_of_any).await?;
    let speech = match told {
        Told::Speech(speech) => speech,
        Told::Ended if ahead.is_empty() => return None,
        Told::Ended | Told::Late => Speech::Other,
    };
    Some(Sniffed { speech, ahead: ahead.split().freeze() })
}

enum Told {
    Speech(Speech),
    /// The peer says nothing more.
    Ended,
    /// It says it too slowly.
    Late,
}

async fn read_ahead<I: AsyncRead + Unpin>(
    io: &mut I,
    patience: Duration,
    limits: &Limits,
    alarm: &mut Alarm,
    tell: fn(&[u8]) -> Option<Speech>,
) -> Option<(BytesMut, Told)> {
    let mut ahead = BytesMut::with_capacity(ENOUGH);
    let mut deadline = after(Instant::now(), patience);
    let mut timer = pin!(sleep_until(deadline));
    let mut draining = false;
    let told = poll_fn(|cx| {
        loop {
            // It holds nothing from one poll to the next.
            match pin!(io.read_buf(&mut ahead)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Some(Told::Ended)),
                Poll::Ready(Ok(_)) => {
                    if let Some(speech) = tell(&ahead) {
                        return Poll::Ready(Some(Told::Speech(speech)));
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        match alarm.poll(cx) {
            Phase::Draining if !draining => {
                draining = true;
                deadline = deadline.min(after(Instant::now(), limits.drain_idle));
                timer.as_mut().reset(deadline);
            }
            Phase::Draining | Phase::Serving => {}
            Phase::Cut => return Poll::Ready(None),
        }
        // Nobody begins to be served by what goes down.
        let is_wanted = !(draining && ahead.is_empty());
        timer.as_mut().poll(cx).map(|()| is_wanted.then_some(Told::Late))
    })
    .await?;
    Some((ahead, told))
}
