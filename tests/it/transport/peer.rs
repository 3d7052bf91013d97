//! Peers that write what they like.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use hyper_util::rt::TokioIo;
use portcullis::body::Body;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use super::{Alive, soon};

pub(super) struct Peer(pub(super) TcpStream);

impl Peer {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.0.write_all(bytes.as_ref())).await.unwrap();
    }

    /// As much as the other end takes.
    pub(super) async fn flood(&mut self, bytes: &[u8]) {
        let _ = soon(self.0.write_all(bytes)).await;
    }

    pub(super) async fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
    }

    /// Up to the end of the connection, however it ends.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = soon(self.0.read_to_end(&mut bytes)).await;
        bytes
    }

    pub(super) async fn rest_as_text(&mut self) -> String {
        String::from_utf8(self.rest().await).unwrap()
    }

    /// One response with a `content-length`.
    pub(super) async fn response(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            text.push(char::from(
                soon(self.0.read_u8()).await.unwrap_or_else(|e| panic!("{e} after {text:?}")),
            ));
        }
        let length = text.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(|l| l.parse::<usize>())
        });
        let mut body = vec![0; length.map_or(0, Result::unwrap)];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        text + std::str::from_utf8(&body).unwrap()
    }

    // HTTP/2

    pub(super) async fn http2(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address).await;
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        peer.send(frame(SETTINGS, 0, 0, &[])).await;
        peer
    }

    /// The next frame: kind, flags, stream, payload. `None` at the end.
    pub(super) async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// The next frame of this kind.
    pub(super) async fn frame_of(&mut self, kind: u8) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let (seen, flags, stream, payload) = self.frame().await?;
            if seen == kind {
                return Some((flags, stream, payload));
            }
        }
    }

    /// A GET on this stream.
    pub(super) async fn request(&mut self, stream: u32, path: &str) {
        self.send(request(stream, path)).await;
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(path, []))
}

/// A header block without compression.
pub(super) fn fields<const N: usize>(path: &str, more: [(&str, &str); N]) -> Vec<u8> {
    let mut block = Vec::new();
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", path)];
    for (name, value) in pseudo.into_iter().chain(more) {
        literal(&mut block, name, value);
    }
    block
}

pub(super) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        let mut length = text.len();
        if length < 127 {
            block.push(u8::try_from(length).unwrap());
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push((length % 128) as u8 | 128);
                length /= 128;
            }
            block.push(u8::try_from(length).unwrap());
        }
        block.extend(text.as_bytes());
    }
}

/// `one`, a wait, `two`, the end.
pub(super) struct Stepped {
    gate: Pin<Box<dyn Future<Output = ()> + Send>>,
    step: usize,
    _alive: Alive,
}

impl Stepped {
    pub(super) fn new(gate: Arc<Notify>, alive: Alive) -> Self {
        Self { gate: Box::pin(async move { gate.notified().await }), step: 0, _alive: alive }
    }
}

impl http_body::Body for Stepped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.step == 1 {
            std::task::ready!(self.gate.as_mut().poll(cx));
        }
        self.step += 1;
        Poll::Ready(match self.step {
            1 => Some(Ok(Frame::data(Bytes::from("one")))),
            2 => Some(Ok(Frame::data(Bytes::from("two")))),
            _ => None,
        })
    }
}

/// Switches to a protocol that gives every byte back.
pub(super) fn tunnel(request: Request<Body>) -> Response<Body> {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "echo")
        .body(Body::empty())
        .unwrap()
}
