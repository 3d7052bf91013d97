//! The bounds of connections: how old, how shared, how idle, how silent they may be; and of what comes on them before there is
//! an answer, byte by byte.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::pending;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use portcullis::{
    body::{Body, BoxError},
    reject::{Reason, Rejection},
    upstream::{Proxy, Upstream, UpstreamBuilder, Wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, STATUS_200,
    },
    peers::{OK, Raw, call, get, soon, text, until, upstream},
};

fn to(address: SocketAddr, wire: Wire) -> UpstreamBuilder {
    Upstream::builder("a").endpoint(address).wire(wire)
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// An HTTP/2 server of which each answer says on which connection it came, and that of `/held` ends when it is told.
async fn numbered(streams: u32) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let end = Arc::new(Notify::new());
    tokio::spawn({
        let end = end.clone();
        async move {
            for number in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let end = end.clone();
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    let mut served = builder.max_concurrent_streams(streams).handshake(socket).await.unwrap();
                    while let Some(Ok((request, mut respond))) = served.accept().await {
                        let head = http::Response::builder().header("x-connection", number).body(()).unwrap();
                        let mut body: h2::SendStream<Bytes> = respond.send_response(head, false).unwrap();
                        let (end, held) = (end.clone(), request.uri().path() == "/held");
                        tokio::spawn(async move {
                            if held {
                                end.notified().await;
                            }
                            let _ = body.send_data("ok".into(), true);
                        });
                    }
                });
            }
        }
    });
    (address, end)
}

fn number(response: &http::Response<Body>) -> &str {
    response.headers()["x-connection"].to_str().unwrap()
}

/// An HTTP/1 server that has all the time of the world, and counts its connections.
async fn patient() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                // A request is one piece, small as it is.
                while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn a_connection_that_is_too_old_takes_no_further_request() {
    let (address, made) = patient().await;
    let group = to(address, Wire::Http1).max_connection_age(Duration::from_secs(60));
    let group = group.idle_timeout(Duration::from_secs(600)).build().unwrap();
    let proxy = Proxy::new(group.clone());
    for (connections, passes) in [(1, 0), (1, 50), (2, 15), (2, 50), (3, 15)] {
        pass(Duration::from_secs(passes)).await;
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
        assert_eq!(made.load(Ordering::SeqCst), connections);
        until(|| group.endpoints()[0].connections == 1).await;
    }
}

#[tokio::test]
async fn what_is_under_way_ends_on_the_old_connection() {
    let (address, end) = numbered(100).await;
    let group = to(address, Wire::Http2).max_connection_age(Duration::from_secs(60));
    let group = group.http2_idle_timeout(Duration::from_secs(600)).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let held = call(&proxy, get("/held")).await.unwrap();
    assert_eq!(number(&held), "0");
    for (on, passes) in [("0", 0), ("0", 50), ("1", 15), ("1", 0)] {
        pass(Duration::from_secs(passes)).await;
        let response = call(&proxy, get("/")).await.unwrap();
        assert_eq!(number(&response), on);
        text(response).await;
    }
    assert_eq!(group.endpoints()[0].connections, 2);
    end.notify_one();
    assert_eq!(text(held).await, "ok");
    until(|| group.endpoints()[0].connections == 1).await;
}

#[tokio::test]
async fn a_connection_carries_no_more_streams_than_told() {
    let (address, end) = numbered(100).await;
    let group = to(address, Wire::Http2).max_streams(NonZeroUsize::new(2).unwrap()).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(call(&proxy, get("/held")).await.unwrap());
    }
    assert_eq!(held.iter().map(number).collect::<Vec<_>>(), ["0", "0", "1", "1", "2"]);
    for response in held {
        end.notify_one();
        drop(response);
    }
    until(|| group.endpoints()[0].in_flight == 0).await;
    assert_eq!(number(&call(&proxy, get("/")).await.unwrap()), "0", "there is room again");
}

#[tokio::test]
async fn an_http2_connection_without_streams_closes() {
    let (address, end) = numbered(100).await;
    let group = to(address, Wire::Http2).http2_idle_timeout(Duration::from_secs(20)).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let held = call(&proxy, get("/held")).await.unwrap();
    pass(Duration::from_secs(70)).await;
    let response = call(&proxy, get("/")).await.unwrap();
    assert_eq!(number(&response), "0", "it was not idle");
    text(response).await;
    end.notify_one();
    text(held).await;
    pass(Duration::from_secs(15)).await;
    let response = call(&proxy, get("/")).await.unwrap();
    assert_eq!(number(&response), "0", "not for long enough");
    text(response).await;
    pass(Duration::from_secs(21)).await;
    until(|| group.endpoints()[0].connections == 0).await;
    assert_eq!(number(&call(&proxy, get("/")).await.unwrap()), "1");
}

/// Fields of so many bytes altogether, a hundred each.
fn fields(bytes: usize) -> Vec<u8> {
    let field = [b"\x00\x01x\x60".as_slice(), &[b'v'; 96]].concat();
    field.repeat(bytes / field.len() + 1)
}

/// What an HTTP/2 server does with the first stream of each connection.
async fn frames<F: Future<Output = ()> + Send>(
    script: impl Fn(Frames) -> F + Copy + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let frames = Frames::accept(&listener).await;
            tokio::spawn(async move { script(frames).await });
        }
    });
    address
}

#[tokio::test]
async fn a_silent_http2_peer_is_asked_whether_it_is_there() {
    // It answers the request when it was asked three times.
    let there = frames(|mut frames| async move {
        let (mut stream, mut pings) = (0, 0);
        while let Some((kind, flags, id, payload)) = frames.read().await {
            match kind {
                HEADERS => stream = id,
                PING if flags == 0 => {
                    pings += 1;
                    frames.write(PING, ACK, 0, &payload).await;
                }
                _ => {}
            }
            if pings == 3 {
                frames.write(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200).await;
            }
        }
    })
    .await;
    let group = to(there, Wire::Http2).http2_keep_alive(Duration::from_millis(30), Duration::from_secs(9));
    let proxy = Proxy::new(group.build().unwrap());
    assert_eq!(call(&proxy, get("/")).await.unwrap().status(), 200);

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let gone = frames(|mut frames| async move {
        while let Some((kind, ..)) = frames.read().await {
            ASKED.fetch_add(usize::from(kind == PING), Ordering::SeqCst);
        }
        ASKED.fetch_add(100, Ordering::SeqCst);
    })
    .await;
    let timeout = Duration::from_millis(50);
    let group = to(gone, Wire::Http2).http2_keep_alive(timeout, timeout).build().unwrap();
    let lost = call(&Proxy::new(group.clone()), get("/")).await.unwrap_err();
    assert_eq!(lost.reason(), Reason::UpstreamReset, "{lost:?}");
    until(|| ASKED.load(Ordering::SeqCst) == 101).await;
    until(|| group.endpoints()[0].connections == 0 && group.endpoints()[0].in_flight == 0).await;
}

/// Says these bytes until the peer has closed, and tells how many it took.
async fn without_end(stream: &mut TcpStream, bytes: &[u8], took: &AtomicUsize) {
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(5), stream.write(bytes)).await {
        took.fetch_add(n, Ordering::SeqCst);
    }
}

/// What fits in the buffers of two sockets, and more.
const MOST: usize = 32 << 20;

#[tokio::test]
async fn interim_answers_without_end_are_cut_off() {
    static TOOK: AtomicUsize = AtomicUsize::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let group = upstream([listener.local_addr().unwrap()]);
    tokio::spawn(async move {
        for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            without_end(&mut stream, interim.repeat(100).as_bytes(), &TOOK).await;
        }
    });
    let proxy = Proxy::new(group.clone());
    for _ in 0..2 {
        let refused = call(&proxy, get("/")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::UpstreamProtocol, "{refused:?}");
        until(|| group.endpoints()[0].connections == 0 && group.endpoints()[0].in_flight == 0).await;
    }
    assert!(TOOK.load(Ordering::SeqCst) < MOST);
}

#[tokio::test]
async fn some_interim_answers_and_a_body_of_any_size_are_fine() {
    let peer = Raw::start(|_, mut line| async move {
        while line.head().await.is_some() {
            line.say("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1000)).await;
            line.say("HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n").await;
            line.say("x".repeat(3_000_000)).await;
        }
    })
    .await;
    let proxy = Proxy::new(upstream([peer.address]));
    for _ in 0..3 {
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await.len(), 3_000_000);
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_head_in_frames_without_end_is_cut_off() {
    static TOOK: AtomicUsize = AtomicUsize::new(0);
    let some = frames(|mut frames| async move {
        let stream = frames.request().await.unwrap();
        frames.write(HEADERS, 0, stream, STATUS_200).await;
        let field = fields(1);
        while frames.write(CONTINUATION, 0, stream, &field).await {
            TOOK.fetch_add(field.len(), Ordering::SeqCst);
        }
    })
    .await;
    let empty = frames(|mut frames| async move {
        let stream = frames.request().await.unwrap();
        frames.write(HEADERS, 0, stream, STATUS_200).await;
        while frames.write(CONTINUATION, 0, stream, &[]).await {
            TOOK.fetch_add(9, Ordering::SeqCst);
        }
    })
    .await;
    for address in [some, empty] {
        let group = to(address, Wire::Http2).build().unwrap();
        let refused = call(&Proxy::new(group.clone()), get("/")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::UpstreamProtocol, "{refused:?}");
        until(|| group.endpoints()[0].connections == 0 && group.endpoints()[0].in_flight == 0).await;
    }
    assert!(TOOK.load(Ordering::SeqCst) < MOST);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_cut_off_in_http2_too() {
    let address = frames(|mut frames| async move {
        while let Some(stream) = frames.request().await {
            let size = if stream == 1 { 70 * 1024 } else { 50 * 1024 };
            let block = [STATUS_200, &fields(size)].concat();
            if !frames.block(stream, END_STREAM, &block).await {
                return;
            }
        }
    })
    .await;
    let group = to(address, Wire::Http2).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let refused = call(&proxy, get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamProtocol, "{refused:?}");
    until(|| group.endpoints()[0].in_flight == 0).await;
}

/// Why the body of an answer broke off.
async fn broken(proxy: &Proxy) -> Reason {
    let body = call(proxy, get("/")).await.unwrap().into_body();
    let error = soon(body.collect()).await.unwrap_err();
    Rejection::find(&*error).unwrap_or_else(|| panic!("{error:?}")).reason()
}

#[tokio::test]
async fn trailers_that_are_too_long_are_cut_off() {
    let http2 = frames(|mut frames| async move {
        while let Some(stream) = frames.request().await {
            let _ = frames.write(HEADERS, END_HEADERS, stream, STATUS_200).await
                && frames.write(DATA, 0, stream, b"ok").await
                && frames.block(stream, END_STREAM, &fields(100 * 1024)).await;
        }
    })
    .await;
    let group = to(http2, Wire::Http2).build().unwrap();
    let body = call(&Proxy::new(group.clone()), get("/")).await.unwrap().into_body();
    // The h2 crate leaves away what is too much, without a word.
    let trailers = soon(body.collect()).await.unwrap().trailers().unwrap().clone();
    let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < 64 * 1024, "{size}");
    until(|| group.endpoints()[0].in_flight == 0).await;

    let http1 = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n").await;
        line.say(format!("x: {}\r\n", "v".repeat(96)).repeat(1000)).await;
        line.rest().await;
    })
    .await;
    let group = upstream([http1.address]);
    assert_eq!(broken(&Proxy::new(group.clone())).await, Reason::UpstreamProtocol);
    until(|| group.endpoints()[0].connections == 0 && group.endpoints()[0].in_flight == 0).await;
}

/// hyper takes it for one that has ended. A server may reset so what it has answered before it has read all (RFC 9113 section
/// 8.1).
#[tokio::test]
async fn a_stream_that_is_reset_without_an_error_never_looks_whole() {
    for end in [0, END_STREAM] {
        let address = frames(move |mut frames| async move {
            while let Some(stream) = frames.request().await {
                let _ = frames.write(HEADERS, END_HEADERS, stream, STATUS_200).await
                    && frames.write(DATA, end, stream, b"half").await
                    && frames.write(RST_STREAM, 0, stream, &[0; 4]).await;
            }
        })
        .await;
        let group = to(address, Wire::Http2).build().unwrap();
        let proxy = Proxy::new(group.clone());
        for endless in [false, true] {
            let body = if endless {
                Body::new(StreamBody::new(pending::<Result<Frame<Bytes>, BoxError>>()))
            } else {
                Body::empty()
            };
            let request = http::Request::post("/").header("host", "a").body(body).unwrap();
            let answer = soon(tower::ServiceExt::oneshot(proxy.clone(), request)).await.unwrap();
            match soon(answer.into_body().collect()).await {
                Ok(body) => assert_eq!((body.to_bytes(), end), ("half".into(), END_STREAM)),
                Err(broken) => {
                    assert_eq!(Rejection::find(&*broken).unwrap().reason(), Reason::UpstreamReset);
                    assert_eq!(end, 0);
                }
            }
        }
        until(|| group.endpoints()[0].in_flight == 0).await;
        assert_eq!(group.endpoints()[0].connections, 1, "the others go on");
    }
}

#[tokio::test]
async fn too_many_fields_are_too_many_in_http2_too() {
    let address = frames(|mut frames| async move {
        while let Some(stream) = frames.request().await {
            let fields = if stream == 1 { 101 } else { 100 };
            let block = [STATUS_200, &b"\0\x01x\x01y".repeat(fields)].concat();
            if !frames.block(stream, END_STREAM, &block).await {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::new(to(address, Wire::Http2).build().unwrap());
    let refused = call(&proxy, get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamProtocol, "{refused:?}");
    assert_eq!(call(&proxy, get("/")).await.unwrap().headers().len(), 100);
}
