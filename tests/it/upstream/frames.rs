//! An HTTP/2 server, frame by frame.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::peers::soon;
pub(crate) use crate::transport::peer::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame,
};

/// `:status: 200`, as HPACK has it.
pub(crate) const STATUS_200: &[u8] = &[0x88];

/// HTTP/2, frame by frame.
pub(crate) struct Frames(TcpStream);

impl Frames {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        let mut frames = Self(stream);
        assert!(frames.write(SETTINGS, 0, 0, &[]).await && frames.write(SETTINGS, ACK, 0, &[]).await);
        frames
    }

    /// The next one's kind, flags, stream and payload; `None`: the peer is gone.
    pub(crate) async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.ok()?;
        let [_, a, b, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([a, b]))];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// The stream of the next request.
    pub(crate) async fn request(&mut self) -> Option<u32> {
        loop {
            let (kind, _, stream, _) = self.read().await?;
            if kind == HEADERS {
                return Some(stream);
            }
        }
    }

    /// `false`: the peer is gone.
    pub(crate) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        soon(self.0.write_all(&frame(kind, flags, stream, payload))).await.is_ok()
    }

    /// Writes a field block in as many frames as it needs.
    pub(crate) async fn block(&mut self, stream: u32, flags: u8, block: &[u8]) -> bool {
        let mut parts = block.chunks(16_384).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let flags = if kind == HEADERS { flags | end } else { end };
            if !self.write(kind, flags, stream, part).await {
                return false;
            }
            kind = CONTINUATION;
        }
        true
    }
}
