//! One question to one endpoint.
use std::{future::poll_fn, net::SocketAddr, pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, HOST, TE, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    policy::{Policy, Probe},
    wire,
};
use crate::{
    reject::GrpcCode,
    upstream::{
        connect::{ConnectError, Connections},
        link::{Line, line},
        member::{MAX_BUFFER, MAX_HEAD},
        options::{Options, Wire},
    },
};

/// Why an endpoint is taken for ill.
#[derive(Debug, Error)]
pub(super) enum Sick {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("it did not answer within {0:?}")]
    Late(Duration),
    #[error("it did not answer to the end")]
    Broke(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it answered with the gRPC status {0}")]
    Grpc(GrpcCode),
    #[error("its answer is not what a health service says")]
    Malformed,
    #[error("it does not serve")]
    NotServing,
}

type Ask = Full<Bytes>;

/// Asks once, over a connection that is made for it and closed with it: whether one can be made is part of the question.
pub(super) async fn probe(
    policy: &Policy,
    (address, name): (SocketAddr, &str),
    options: &Options,
    connections: &Connections,
) -> Result<(), Sick> {
    let asked = async {
        let http2 = match &policy.probe {
            Probe::Tcp => false,
            Probe::Http { .. } => options.wire == Wire::Http2,
            Probe::Grpc { .. } => true,
        };
        let (io, ..) = line((address, name), http2, connections, options).await?;
        match &policy.probe {
            Probe::Tcp => Ok(()),
            Probe::Http { path, expected } => {
                let request = request(policy, (address, options), path.clone(), http2, Bytes::new());
                let response = match http2 {
                    true => over_http2(io, request, hear_nothing).await?,
                    false => over_http1(io, request).await?,
                };
                match Probe::expects(expected, response) {
                    true => Ok(()),
                    false => Err(Sick::Status(response)),
                }
            }
            Probe::Grpc { service } => {
                let path = PathAndQuery::from_static(wire::PATH);
                let mut request = request(policy, (address, options), path, true, wire::request(service));
                *request.method_mut() = Method::POST;
                let headers = request.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(TE, HeaderValue::from_static("trailers"));
                over_http2(io, request, hear_grpc).await
            }
        }
    };
    timeout(policy.timeout, asked).await.unwrap_or(Err(Sick::Late(policy.timeout)))
}

fn request(
    policy: &Policy,
    (address, options): (SocketAddr, &Options),
    path: PathAndQuery,
    http2: bool,
    body: Bytes,
) -> Request<Ask> {
    let mut request = Request::new(Full::new(body));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("portcullis-health"));
    let host = policy.host.clone().or_else(|| HeaderValue::from_str(&address.to_string()).ok());
    let authority = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut target = http::uri::Parts::default();
    target.path_and_query = Some(path);
    if let (true, Some(authority)) = (http2, authority) {
        let scheme = if options.is_secure() { Scheme::HTTPS } else { Scheme::HTTP };
        (target.scheme, target.authority) = (Some(scheme), Some(authority));
        *request.version_mut() = Version::HTTP_2;
    } else if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    request
}

/// The status is all that is asked for: the rest of the answer is closed upon.
async fn over_http1(
    io: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Ask>,
) -> Result<StatusCode, Sick> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_HEAD as usize)
        .handshake(TokioIo::new(io))
        .await?;
    let answer = async move { Ok(sender.send_request(request).await?.status()) };
    beside(answer, connection).await
}

async fn over_http2<T, H: Future<Output = Result<T, Sick>>>(
    io: Line,
    request: Request<Ask>,
    hear: impl FnOnce(Response<Incoming>) -> H,
) -> Result<T, Sick> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await?;
    let answer = async move { hear(sender.send_request(request).await?).await };
    beside(answer, connection).await
}

/// Waits for the answer while the connection goes on. That may end first, with the answer in its last words.
async fn beside<T>(
    answer: impl Future<Output = Result<T, Sick>>,
    connection: impl Future,
) -> Result<T, Sick> {
    let (mut answer, mut connection) = (pin!(answer), pin!(Some(connection)));
    poll_fn(|cx| {
        let ended = connection.as_mut().as_pin_mut().is_some_and(|going| going.poll(cx).is_ready());
        if ended {
            connection.set(None);
        }
        answer.as_mut().poll(cx)
    })
    .await
}

async fn hear_nothing(response: Response<Incoming>) -> Result<StatusCode, Sick> {
    Ok(response.status())
}

/// The answer of a health service: one frame, and a status behind it, or a status alone.
async fn hear_grpc(response: Response<Incoming>) -> Result<(), Sick> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Sick::Status(head.status));
    }
    let mut status = GrpcCode::of(&head.headers);
    let mut frame = BytesMut::new();
    while let Some(part) = body.frame().await {
        match part?.into_data() {
            Ok(data) if frame.len() + data.len() > wire::MOST => return Err(Sick::Malformed),
            Ok(data) => frame.extend_from_slice(&data),
            Err(other) => status = other.trailers_ref().and_then(GrpcCode::of).or(status),
        }
    }
    judged(status, &frame)
}

/// What a health service has said of itself.
fn judged(status: Option<GrpcCode>, frame: &[u8]) -> Result<(), Sick> {
    match (status, wire::serves(frame)) {
        (Some(GrpcCode::OK), Some(true)) => Ok(()),
        (Some(GrpcCode::OK), Some(false)) => Err(Sick::NotServing),
        (Some(code), _) if code != GrpcCode::OK => Err(Sick::Grpc(code)),
        _ => Err(Sick::Malformed),
    }
}

/// What the fuzzer reaches: what endpoints have said, without their sockets.
#[cfg(fuzzing)]
pub mod fuzzing {
    use http::HeaderMap;

    use super::{AsyncRead, AsyncWrite, Full, GrpcCode, Request, StatusCode, judged, over_http1};

    /// The status of the answer that comes back, if one does.
    pub async fn http(io: impl AsyncRead + AsyncWrite + Unpin) -> Option<StatusCode> {
        over_http1(io, Request::new(Full::default())).await.ok()
    }

    /// Whether a service serves that answers with this.
    pub fn grpc(head: &HeaderMap, frame: &[u8], trailers: &HeaderMap) -> bool {
        judged(GrpcCode::of(trailers).or(GrpcCode::of(head)), frame).is_ok()
    }
}
