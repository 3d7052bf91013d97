use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, sleep_until},
};

use super::builder::Limits;
use crate::{
    time::after,
    transport::drain::{Alarm, Phase},
};

/// What an HTTP/2 connection starts with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read ahead to tell the versions apart; most heads fit in.
const AHEAD: usize = 1_024;

/// What was read ahead.
pub(super) struct Sniffed {
    pub(super) is_h2: bool,
    pub(super) ahead: Bytes,
}

/// Reads as much as it takes to tell whether the peer speaks HTTP/2. `None`: the connection is over.
pub(super) async fn sniff<I: AsyncRead + Unpin>(
    io: &mut I,
    limits: &Limits,
    alarm: &mut Alarm,
) -> Option<Sniffed> {
    let mut deadline = after(Instant::now(), limits.head_timeout);
    let mut timer = pin!(sleep_until(deadline));
    let mut draining = false;
    let mut read = pin!(read_ahead(io));
    poll_fn(|cx| {
        if let Poll::Ready(read) = read.as_mut().poll(cx) {
            return Poll::Ready(read.ok());
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
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

async fn read_ahead<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Sniffed> {
    let mut ahead = BytesMut::with_capacity(AHEAD);
    loop {
        let read = io.read_buf(&mut ahead).await?;
        if ahead.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let compared = ahead.len().min(PREFACE.len());
        let agrees = ahead[..compared] == PREFACE[..compared];
        if read == 0 || !agrees || compared == PREFACE.len() {
            return Ok(Sniffed { is_h2: agrees && compared == PREFACE.len(), ahead: ahead.freeze() });
        }
    }
}
