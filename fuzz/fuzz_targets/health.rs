//! What endpoints answer when they are asked how they are: the head of an HTTP/1.1 response, and a message of gRPC's health
//! service with its status.
#![no_main]

use std::{
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::upstream::health::fuzzing;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

/// Answers when it is asked, and closes.
struct Peer<'a> {
    answer: &'a [u8],
    asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (now, later) = self.answer.split_at(into.remaining().min(self.answer.len()));
        into.put_slice(now);
        self.answer = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, sent: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        self.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(sent.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn status(text: &[u8]) -> HeaderMap {
    HeaderValue::from_bytes(text).ok().map(|value| (GRPC_STATUS, value)).into_iter().collect()
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

// The statuses of head and trailers end with a line each; the rest is the message, or the whole answer is that of HTTP.
fuzz_target!(|data: &[u8]| {
    let peer = Peer { answer: data, asked: false, waiting: None };
    if let Some(status) = RUNTIME.block_on(fuzzing::http(peer)) {
        assert!(data.windows(3).any(|part| part == status.as_str().as_bytes()));
    }

    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let [head, trailers, rest] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let _ = fuzzing::grpc(&status(head), rest, &status(trailers));
    let (ok, none) = (status(b"0"), HeaderMap::new());
    let says = |message: &[u8]| fuzzing::grpc(&none, &frame(message), &ok);
    assert!(!says(rest) || !fuzzing::grpc(&none, &frame(rest), &none), "a status must be told");
    assert!(!fuzzing::grpc(&ok, &frame(rest), &status(b"14")), "that of the trailers counts");
    if says(rest) {
        // The last word counts, and fields of others none.
        assert!(!says(&[rest, &[0x08, 2]].concat()));
        assert!(says(&[rest, &[0x08, 2, 0x08, 1, 0x12, 1, b'x']].concat()));
        let mut longer = frame(rest);
        longer.push(0);
        assert!(!fuzzing::grpc(&none, &longer, &ok), "the length is told");
    }
});
