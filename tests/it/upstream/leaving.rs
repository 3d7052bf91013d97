//! Upstreams that go away by the book, over HTTP/2: a GOAWAY for streams to come, and, when the client has seen it, one with the
//! last stream that was taken (RFC 9113 section 6.8).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use portcullis::{
    body::Body,
    reject::Reason,
    upstream::{Proxy, Upstream, Wire},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use tower::ServiceExt;

use super::{
    frames::{DATA, END_STREAM, Frames, GOAWAY, HEADERS, SETTINGS, STATUS_200, WINDOW_UPDATE},
    peers::{call, post, soon, text, until},
};

/// A server whose first connection leaves when it is told to.
#[derive(Clone)]
struct Server {
    /// The connection and the path of each request, in their order.
    served: Arc<Mutex<Vec<(usize, String)>>>,
    leave: Arc<Notify>,
    /// Whether requests for `/held` get their bodies.
    release: watch::Sender<bool>,
}

impl Server {
    fn served_on(&self, number: usize) -> usize {
        self.served.lock().unwrap().iter().filter(|(on, _)| *on == number).count()
    }

    async fn run(self, listener: TcpListener) {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(self.clone().connection(number, socket));
        }
    }

    async fn connection(self, number: usize, socket: TcpStream) {
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let mut leaves = number == 0;
        loop {
            let next = tokio::select! {
                () = self.leave.notified(), if leaves => {
                    leaves = false;
                    connection.graceful_shutdown();
                    continue;
                }
                next = connection.accept() => next,
            };
            let Some(Ok((request, respond))) = next else { return };
            self.served.lock().unwrap().push((number, request.uri().path().to_owned()));
            tokio::spawn(self.clone().answer(number, request, respond));
        }
    }

    async fn answer(
        self,
        number: usize,
        request: Request<h2::RecvStream>,
        mut respond: h2::server::SendResponse<Bytes>,
    ) {
        let head = Response::builder().header("x-connection", number).body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        let is_held = request.uri().path().starts_with("/held");
        let mut sent = request.into_body();
        while let Some(data) = sent.data().await {
            let _ = sent.flow_control().release_capacity(data.unwrap().len());
        }
        if is_held {
            self.release.subscribe().wait_for(|released| *released).await.unwrap();
        }
        body.send_data(Bytes::from_static(b"ok"), true).unwrap();
    }
}

/// What has begun ends where it began, what comes goes to another connection, and each request is served once, though none may
/// be sent twice.
#[tokio::test]
async fn nothing_is_lost_when_a_connection_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server { served: Arc::default(), leave: Arc::default(), release: watch::Sender::new(false) };
    tokio::spawn(server.clone().run(listener));
    let group = Upstream::builder("h2").endpoint(address.to_string()).wire(Wire::Http2).build().unwrap();
    let proxy = Proxy::new(group.clone());

    let held = (0..10).map(|n| format!("/held/{n}"));
    let held = join_all(held.map(async |path| call(&proxy, post(&path, "body")).await.unwrap())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..8).map(|caller| {
        let (proxy, stop) = (proxy.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = call(&proxy, post(&format!("/{caller}/{asked}"), "body")).await.unwrap();
                assert_eq!(text(answer).await, "ok");
                asked += 1;
            }
            asked
        })
    });
    let callers: Vec<_> = callers.collect();
    until(|| server.served_on(0) >= 100).await;
    server.leave.notify_one();
    until(|| server.served_on(1) >= 100).await;
    assert_eq!((group.endpoints()[0].connections, held.len()), (2, 10));

    server.release.send_replace(true);
    for response in held {
        assert_eq!(response.headers()["x-connection"], "0");
        assert_eq!(text(response).await, "ok");
    }
    until(|| group.endpoints()[0].connections == 1).await;
    stop.store(true, Ordering::Relaxed);
    let mut asked = 0;
    for caller in callers {
        asked += caller.await.unwrap();
    }
    let served = server.served.lock().unwrap();
    assert_eq!(served.len(), asked + 10, "none twice");
    let after = served.iter().rposition(|(on, _)| *on == 0).unwrap();
    assert!(served.len() - after >= 100, "none comes late to what is left");
    assert!(served.iter().all(|(on, _)| *on < 2), "one connection came in its place");
}

/// Reads requests that have bodies, and gives those.
async fn bodies(frames: &mut Frames) -> Option<(u32, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let (kind, flags, stream, payload) = frames.read().await?;
        if kind == DATA {
            body.extend(payload);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Some((stream, body));
        }
    }
}

/// A server that answers the first request, and takes the second for one that it will not look at, or will: it says so once that
/// has come whole, and closes. What came on later connections is counted, and answered.
async fn leaves(looks: bool) -> (Proxy, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let group = Upstream::builder("h2").endpoint(listener.local_addr().unwrap().to_string());
    let later = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    tokio::spawn({
        let later = Arc::clone(&later);
        async move {
            let mut first = Frames::accept(&listener).await;
            // Room for more than is kept: SETTINGS_INITIAL_WINDOW_SIZE, and the connection's.
            let room = 1_000_000_u32.to_be_bytes();
            assert!(first.write(SETTINGS, 0, 0, &[&[0, 4][..], &room].concat()).await);
            assert!(first.write(WINDOW_UPDATE, 0, 0, &room).await);
            let (stream, _) = bodies(&mut first).await.unwrap();
            assert!(first.block(stream, END_STREAM, STATUS_200).await);
            let (second, _) = bodies(&mut first).await.unwrap();
            let last = if looks { second } else { stream };
            // Without an error.
            assert!(first.write(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &[0; 4]].concat()).await);
            if looks {
                drop(first);
            }
            loop {
                let mut frames = Frames::accept(&listener).await;
                while let Some((stream, body)) = bodies(&mut frames).await {
                    later.lock().unwrap().push(body);
                    assert!(frames.block(stream, END_STREAM, STATUS_200).await);
                }
            }
        }
    });
    let proxy = Proxy::new(group.wire(Wire::Http2).build().unwrap());
    assert_eq!(call(&proxy, post("/", "first")).await.unwrap().status(), 200);
    (proxy, later)
}

/// In pieces that nobody has told the length of.
fn pieces(bytes: usize) -> Request<Body> {
    let frames = vec![b'x'; bytes].chunks(1_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let frames = frames.into_iter().map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(piece)));
    let body = Body::new(StreamBody::new(tokio_stream::iter(frames)));
    Request::post("/").header("host", "shop.example").body(body).unwrap()
}

/// It has said goodbye while a request was on its way, and has not looked at that: nobody may do it twice, and it is done.
#[tokio::test]
async fn what_a_server_that_leaves_has_not_looked_at_is_sent_again_with_its_body() {
    for bytes in [1, 10_000, 60_000] {
        let (proxy, later) = leaves(false).await;
        let answer = soon(proxy.oneshot(pieces(bytes))).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(*later.lock().unwrap(), [vec![b'x'; bytes]]);
    }
}

/// What was not kept, since it turned out to be too long or has said so, cannot be sent again; and it is known that nobody has
/// looked at it.
#[tokio::test]
async fn what_a_server_that_leaves_has_not_looked_at_is_not_sent_again_if_it_is_too_long() {
    let said = |bytes| {
        let body = Body::new(Full::<Bytes>::from(vec![b'x'; bytes]));
        Request::post("/").header("host", "shop.example").body(body).unwrap()
    };
    for request in [pieces(100_000), said(70_000)] {
        let (proxy, later) = leaves(false).await;
        let refused = soon(proxy.clone().oneshot(request)).await.unwrap_err();
        assert_eq!((refused.reason(), refused.is_unsent()), (Reason::UpstreamReset, true));
        assert_eq!(call(&proxy, post("/", "next")).await.unwrap().status(), 200);
        assert_eq!(*later.lock().unwrap(), [b"next"]);
    }
}

/// It may have done it before it was gone.
#[tokio::test]
async fn what_a_server_that_leaves_may_have_looked_at_is_not_sent_again() {
    let (proxy, later) = leaves(true).await;
    let refused = soon(proxy.clone().oneshot(pieces(10_000))).await.unwrap_err();
    assert_eq!((refused.reason(), refused.is_unsent()), (Reason::UpstreamReset, false));
    assert_eq!(call(&proxy, post("/", "next")).await.unwrap().status(), 200);
    assert_eq!(*later.lock().unwrap(), [b"next"]);
}
