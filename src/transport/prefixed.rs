use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use crate::io::write_through;

/// An IO with bytes that were read ahead and come first again.
#[derive(Debug)]
pub(super) struct Prefixed<I> {
    prefix: Bytes,
    io: I,
}

impl<I> Prefixed<I> {
    pub(super) const fn new(prefix: Bytes, io: I) -> Self {
        Self { prefix, io }
    }

    /// This byte comes again.
    #[cfg(feature = "tls")]
    pub(super) fn put_back(&mut self, byte: u8) {
        self.prefix = [&[byte][..], &self.prefix].concat().into();
    }

    #[cfg(feature = "tls")]
    pub(super) fn has_prefix(&self) -> bool {
        !self.prefix.is_empty()
    }

    pub(super) const fn inner(&self) -> &I {
        &self.io
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..length]);
        self.prefix.advance(length);
        if self.prefix.is_empty() {
            self.prefix = Bytes::new(); // an empty slice would keep its buffer
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Prefixed<I>, io);
