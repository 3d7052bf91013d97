//! What the agent tells, spoken in plain HTTP/2: a question of gRPC and a stream of answers.

use std::{io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use percent_encoding::percent_decode;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use crate::{
    protobuf::{PREFIX, message_length},
    reject::GrpcCode,
};

/// The most bytes of an answer: what gRPC's own libraries take.
const MOST: usize = 4 << 20;
/// The most bytes of the fields of a head.
const MAX_HEAD: u32 = 16 << 10;
/// The most letters of what the agent says of a failure.
const LONGEST: usize = 200;
/// How often an agent that says nothing is asked whether it is there, and how long it has to say so. More often than every
/// five minutes gRPC's servers take for an attack.
const ALIVE: (Duration, Duration) = (Duration::from_secs(360), Duration::from_secs(20));

/// What the agent tells, until it ends. What was begun to be read is kept if nobody waits for it any more.
pub(super) struct Updates {
    body: Incoming,
    read: BytesMut,
    /// Goes on beside, and ends with this.
    _connection: JoinSet<()>,
}

/// Why the agent tells nothing.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("the agent of SPIFFE cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("the connection to the agent of SPIFFE broke: {0}")]
    Broke(#[from] hyper::Error),
    #[error("the agent of SPIFFE answered {0}")]
    Answered(StatusCode),
    #[error("the agent of SPIFFE has issued no identity to this process: {0:?}")]
    NoIdentity(String),
    #[error("the agent of SPIFFE answered with the gRPC status {0}: {1:?}")]
    Status(GrpcCode, String),
    #[error("the agent of SPIFFE has ended its answer")]
    Ended,
    #[error("what the agent of SPIFFE says is compressed, or longer than {} MiB", MOST >> 20)]
    Message,
}

impl Updates {
    /// Asks over a new connection.
    pub(super) async fn ask<S>(io: S, method: &'static str) -> Result<Self, Broken>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(ALIVE.0)
            .keep_alive_timeout(ALIVE.1)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(io))
            .await?;
        let mut beside = JoinSet::new();
        beside.spawn(async {
            // Its end is that of the answer.
            let _ = connection.await;
        });
        let (head, body) = sender.send_request(request(method)).await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Broken::Answered(head.status));
        }
        match GrpcCode::of(&head.headers) {
            Some(_) => Err(Broken::by(&head.headers)),
            None => Ok(Self { body, read: BytesMut::new(), _connection: beside }),
        }
    }

    /// The next message, as soon as it is there.
    pub(super) async fn next(&mut self) -> Result<Bytes, Broken> {
        loop {
            if let Some(message) = take(&mut self.read)? {
                return Ok(message);
            }
            match self.body.frame().await.ok_or(Broken::Ended)??.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(other) => return Err(other.trailers_ref().map_or(Broken::Ended, Broken::by)),
            }
        }
    }
}

impl Broken {
    /// What a head without an answer, or the trailers behind the last one say.
    fn by(headers: &HeaderMap) -> Self {
        let message = headers.get("grpc-message").map_or(&[][..], HeaderValue::as_bytes);
        let message = percent_decode(message).decode_utf8_lossy().chars().take(LONGEST).collect();
        match GrpcCode::of(headers) {
            None | Some(GrpcCode::OK) => Self::Ended,
            // SPIFFE Workload Endpoint, section 6.
            Some(GrpcCode::PERMISSION_DENIED) => Self::NoIdentity(message),
            Some(code) => Self::Status(code, message),
        }
    }
}

/// A question that says nothing, since none of them does.
fn request(method: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_static(&[0; PREFIX])));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(method);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("portcullis"));
    // So that no page in a browser can ask: SPIFFE Workload Endpoint, section 3.
    headers.insert(HeaderName::from_static("workload.spiffe.io"), HeaderValue::from_static("true"));
    request
}

/// Takes a message off the front, if it is there to its end.
fn take(read: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
    let Some(prefix) = read.first_chunk() else { return Ok(None) };
    let length = message_length(*prefix).filter(|length| *length <= MOST).ok_or(Broken::Message)?;
    if read.len() < PREFIX + length {
        return Ok(None);
    }
    read.advance(PREFIX);
    Ok(Some(read.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_however_they_come() {
        let sent = b"\0\0\0\0\x02hi\0\0\0\0\0\0\0\0\0\x05there\0\0\0";
        for step in 1..=sent.len() {
            let (mut read, mut taken) = (BytesMut::new(), Vec::new());
            for part in sent.chunks(step) {
                read.extend_from_slice(part);
                while let Some(message) = take(&mut read).unwrap() {
                    taken.push(message);
                }
            }
            assert_eq!(taken, ["hi", "", "there"], "{step}");
            assert_eq!(&read[..], b"\0\0\0");
        }
    }

    #[test]
    fn what_is_too_long_is_not_waited_for() {
        let begin = |length: usize| BytesMut::from(&[&[0], &(length as u32).to_be_bytes()[..]].concat()[..]);
        assert!(take(&mut begin(MOST)).unwrap().is_none());
        assert!(matches!(take(&mut begin(MOST + 1)), Err(Broken::Message)));
        assert!(matches!(take(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])), Err(Broken::Message)));
    }

    #[test]
    fn a_status_is_told_in_words() {
        let by = |status: &'static str, message: &'static str| {
            let fields = [("grpc-status", status), ("grpc-message", message)];
            let fields = fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            Broken::by(&fields.into_iter().collect()).to_string()
        };
        assert_eq!(
            by("7", "no%20identity"),
            "the agent of SPIFFE has issued no identity to this process: \"no identity\""
        );
        assert!(by("14", "a%0ab").ends_with(": \"a\\nb\""), "a log keeps its lines");
        assert_eq!(by("0", ""), "the agent of SPIFFE has ended its answer");
        assert!(by("7", "%e4%ff".repeat(4_000).leak()).len() < 1_000);
    }
}
