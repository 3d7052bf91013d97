//! Peers that end what they have begun in every way there is, and what an observer is told of it: of clients, hyper's and ours, and
//! of servers, hyper's and ours.

use std::{future::poll_fn, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::{
    body::Body,
    gate::GateLayer,
    outcome::{End, Verdict},
    reject::GrpcCode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower::{Layer, ServiceExt};

use crate::outcome::{
    BROKEN, OK, RESET, SILENT, Told, UNAVAILABLE, Watch, asked, is, our_server, request, server, told,
};
use crate::upstream::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, STATUS_200,
};

const PATIENCE: Duration = Duration::from_secs(20);
const CANCELLED: Told = (End::Cancelled, None, Verdict::Cancelled);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// What a connection becomes once all was said.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It ends (FIN).
    Ends,
    /// It is broken off (RST).
    Breaks,
    /// It stays.
    Stays,
}

/// Says this to each request of HTTP/1.
async fn says(text: &'static str, then: Then) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut line, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(line.read_u8().await.unwrap());
            }
            let _ = line.write_all(text.as_bytes()).await;
            match then {
                Then::Ends => {}
                Then::Breaks => line.set_zero_linger().unwrap(),
                Then::Stays => drop(tokio::spawn(async move { line.read_u8().await })),
            }
        }
    });
    address
}

#[tokio::test]
async fn a_client_is_told_how_an_answer_over_http1_ended() {
    use Then::{Breaks, Ends, Stays};
    const GRPC: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
                        5\r\nhello\r\n0\r\ngrpc-status: 14\r\n\r\n";
    const MUTE: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for (method, text, then, expected) in [
        // Until the connection ends.
        ("GET", "HTTP/1.1 200 OK\r\n\r\nhello", Ends, OK),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nhello", Ends, OK),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nhello", Breaks, RESET),
        // As long as was said.
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", Stays, OK),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello world", Stays, OK),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Stays, OK),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", Ends, RESET),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", Breaks, RESET),
        // In chunks.
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Stays, OK),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Ends, RESET),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", Ends, RESET),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Breaks, RESET),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", Stays, BROKEN),
        ("GET", GRPC, Stays, UNAVAILABLE),
        ("GET", MUTE, Stays, SILENT),
        // Without a body, whatever is said of one.
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Stays, OK),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Stays, OK),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", Stays, OK),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", Stays, OK),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", Stays, OK),
        // After another head.
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            Stays,
            OK,
        ),
        // Of no head.
        ("GET", "", Ends, RESET),
        ("GET", "", Breaks, RESET),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-le", Ends, RESET),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-le", Breaks, RESET),
        ("GET", "how are you?\r\n\r\n", Stays, BROKEN),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", Stays, BROKEN),
    ] {
        let address = says(text, then).await;
        for ours in [false, true] {
            let outcome = asked(address, false, ours, method, "/").await;
            is(outcome, expected, &format!("{method} {text:?} {then:?}, ours {ours}"));
        }
    }
}

/// How a stream of HTTP/2 is answered.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// A head with this length, and this body, to its end.
    Whole(u16, Option<u64>, &'static str),
    /// This reset, and no head.
    Refused(Reason),
    /// A body, and then these trailers, in an answer of gRPC.
    Grpc(Option<&'static str>),
    /// Half of a body, and then the connection is gone.
    Gone,
    /// Half of a body, and then a farewell in anger.
    Angry,
    /// Frame by frame: a head with this length, and then these; on the request's stream but for a farewell.
    Frames(Option<u8>, &'static [(u8, u8, &'static [u8])]),
}

/// Answers each stream so.
async fn answers(how: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            if let Answer::Frames(length, said) = how {
                let mut frames = Frames::accept(&listener).await;
                tokio::spawn(async move {
                    // `content-length` is the 28th of HPACK's table.
                    let length = length.map(|digit| [0x0f, 28 - 15, 1, b'0' + digit]);
                    let head = [STATUS_200, length.as_ref().map_or(&[], |field| field)].concat();
                    while let Some(stream) = frames.request().await {
                        frames.write(HEADERS, END_HEADERS, stream, &head).await;
                        for &(kind, flags, payload) in said {
                            let stream = if kind == GOAWAY { 0 } else { stream };
                            frames.write(kind, flags, stream, payload).await;
                        }
                    }
                });
                continue;
            }
            let (line, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut streams = h2::server::handshake(line).await.unwrap();
                let Some(Ok((_, respond))) = streams.accept().await else { return };
                let rest = answer(how, respond, &mut streams);
                // What was said goes out; then the connection is over, unless it is to stay.
                let said = async {
                    let _ = poll_fn(|cx| streams.poll_closed(cx)).await;
                };
                match rest {
                    Some(stays) => {
                        let _ = tokio::time::timeout(Duration::from_secs(5), said).await;
                        drop(stays);
                    }
                    None => drop(tokio::time::timeout(Duration::from_millis(100), said).await),
                }
            });
        }
    });
    address
}

type Streams = h2::server::Connection<TcpStream, Bytes>;
type Respond = h2::server::SendResponse<Bytes>;
type Sending = h2::SendStream<Bytes>;

fn head(status: u16, length: Option<u64>) -> Response<()> {
    let head = Response::builder().status(status);
    let head = length.into_iter().fold(head, |head, length| head.header("content-length", length));
    head.body(()).unwrap()
}

/// A head and data, which go on.
fn begin(respond: &mut Respond, head: Response<()>, text: &'static str) -> Sending {
    let mut body = respond.send_response(head, false).unwrap();
    body.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
    body
}

/// What keeps a stream from being reset at once; `None`: the connection goes.
fn answer(how: Answer, mut respond: Respond, streams: &mut Streams) -> Option<Option<Sending>> {
    let respond = &mut respond;
    match how {
        Answer::Whole(status, length, text) => {
            let mut body = respond.send_response(head(status, length), text.is_empty()).unwrap();
            if !text.is_empty() {
                body.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
            }
        }
        Answer::Refused(reason) => respond.send_reset(reason),
        Answer::Grpc(status) => {
            let mut head = head(200, None);
            head.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            let mut body = begin(respond, head, "hello");
            match status {
                Some(status) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", status.parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
                None => body.send_data(Bytes::new(), true).unwrap(),
            }
        }
        Answer::Gone => {
            std::mem::forget(begin(respond, head(200, None), "hello"));
            return None;
        }
        Answer::Angry => {
            let body = begin(respond, head(200, None), "hello");
            streams.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            return Some(Some(body));
        }
        Answer::Frames(..) => unreachable!("written without h2"),
    }
    Some(None)
}

#[tokio::test]
async fn a_client_is_told_how_an_answer_over_http2_ended() {
    use portcullis::outcome::Failure;
    const HELLO: (u8, u8, &[u8]) = (DATA, 0, b"hello");
    const END: (u8, u8, &[u8]) = (DATA, END_STREAM, b"");
    const CANCEL: (u8, u8, &[u8]) = (RST_STREAM, 0, &[0, 0, 0, 8]);
    const NO_ERROR: (u8, u8, &[u8]) = (RST_STREAM, 0, &[0; 4]);
    const FAREWELL: (u8, u8, &[u8]) = (GOAWAY, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);

    let refused = (End::Failed(Failure::Refused), None, Verdict::ServerFault);
    let of_grpc = |code, verdict| (End::Complete, Some(code), verdict);
    for (method, how, expected) in [
        ("GET", Answer::Whole(200, None, "hello"), OK),
        ("GET", Answer::Whole(200, Some(5), "hello"), OK),
        ("GET", Answer::Whole(200, None, ""), OK),
        ("HEAD", Answer::Whole(200, Some(5), ""), OK),
        ("GET", Answer::Whole(204, None, ""), OK),
        ("GET", Answer::Whole(304, Some(5), ""), OK),
        ("GET", Answer::Whole(200, Some(9), "hello"), BROKEN),
        ("GET", Answer::Whole(200, Some(2), "hello"), BROKEN),
        ("GET", Answer::Frames(None, &[HELLO, CANCEL]), RESET),
        ("GET", Answer::Frames(None, &[HELLO, (RST_STREAM, 0, &[0, 0, 0, 2])]), RESET),
        ("GET", Answer::Frames(None, &[HELLO, (RST_STREAM, 0, &[0, 0, 0, 11])]), RESET),
        ("GET", Answer::Frames(Some(9), &[HELLO, CANCEL]), RESET),
        ("GET", Answer::Refused(Reason::CANCEL), RESET),
        ("GET", Answer::Refused(Reason::INTERNAL_ERROR), RESET),
        ("GET", Answer::Refused(Reason::NO_ERROR), RESET),
        ("GET", Answer::Refused(Reason::REFUSED_STREAM), refused),
        ("GET", Answer::Frames(None, &[HELLO, END, NO_ERROR]), OK),
        ("GET", Answer::Frames(None, &[HELLO, END, CANCEL]), OK),
        ("GET", Answer::Grpc(Some("0")), of_grpc(GrpcCode::OK, Verdict::Success)),
        ("GET", Answer::Grpc(Some("14")), UNAVAILABLE),
        ("GET", Answer::Grpc(None), SILENT),
        ("GET", Answer::Gone, RESET),
        ("GET", Answer::Frames(None, &[HELLO, FAREWELL, HELLO, END]), OK),
        ("GET", Answer::Angry, RESET),
    ] {
        let address = answers(how).await;
        for ours in [false, true] {
            // Ours says that nobody has looked at it, beside that.
            let expected = if ours && expected == refused { RESET } else { expected };
            let outcome = asked(address, true, ours, method, "/").await;
            is(outcome, expected, &format!("{method} {how:?}, ours {ours}"));
        }
    }
    // hyper takes this for an early end (RFC 9113 section 8.1), which it is only after a whole answer.
    for (length, expected) in [(None, Verdict::Success), (Some(9), Verdict::ServerFault)] {
        let early = answers(Answer::Frames(length, &[HELLO, NO_ERROR])).await;
        let outcome = asked(early, true, false, "GET", "/").await;
        assert_eq!(outcome.verdict(), expected, "an answer that is not whole, hyper's: {outcome:?}");
    }
}

/// A caller of HTTP/1 that leaves.
async fn leaves(address: SocketAddr, path: &str, bytes: usize, breaks: bool) {
    let mut line = TcpStream::connect(address).await.unwrap();
    line.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let hellos = |heard: &[u8]| heard.windows(5).filter(|window| *window == b"hello").count() * 5;
    while !(heard.windows(4).any(|window| window == b"\r\n\r\n") && hellos(&heard) >= bytes) {
        soon(line.read_buf(&mut heard)).await.unwrap();
    }
    if breaks {
        line.set_zero_linger().unwrap();
    }
}

/// A caller of HTTP/2 that gives up one of its streams; the connection lives as long as what is returned.
async fn gives_up(
    address: SocketAddr,
    path: &str,
    bytes: usize,
    reason: Reason,
) -> h2::client::SendRequest<Bytes> {
    let line = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(line).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::get(format!("http://{address}{path}")).body(()).unwrap();
    let (response, mut sent) = client.send_request(request, true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    let mut heard = 0;
    while heard < bytes {
        heard += soon(body.data()).await.unwrap().unwrap().len();
    }
    sent.send_reset(reason);
    client
}

/// After the head and any number of frames of the body: what was given by then is known, and nobody is to blame.
#[tokio::test]
async fn a_server_is_told_of_a_caller_that_leaves_after_any_frame() {
    for (whose, (address, mut outcomes)) in [("ours", our_server()), ("hyper's", server().await)] {
        for chunks in 0..4 {
            let (path, bytes) = (format!("/chunks/{chunks}"), chunks * 5);
            let mut expect = async |how: &str| {
                let outcome = told(&mut outcomes).await;
                let what = format!("{whose}, {chunks} chunks, {how}");
                assert_eq!(
                    (outcome.status.map(|it| it.as_u16()), outcome.bytes),
                    (Some(200), bytes as u64),
                    "{what}"
                );
                is(outcome, CANCELLED, &what);
            };
            for breaks in [false, true] {
                leaves(address, &path, bytes, breaks).await;
                expect(if breaks { "broken off" } else { "ended" }).await;
            }
            for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
                let stays = gives_up(address, &path, bytes, reason).await;
                expect(&format!("{reason:?}")).await;
                drop(stays);
            }
        }
    }
}

/// Once all that was promised has come, who leaves gives nothing up, though nobody has said that it was the end.
#[tokio::test]
async fn who_leaves_with_all_that_was_promised_has_had_a_whole_answer() {
    for (whose, (address, mut outcomes)) in [("ours", our_server()), ("hyper's", server().await)] {
        leaves(address, "/length/hangs", 10, true).await;
        is(told(&mut outcomes).await, OK, whose);
        let stays = gives_up(address, "/length/hangs", 10, Reason::CANCEL).await;
        is(told(&mut outcomes).await, OK, &format!("{whose}, HTTP/2"));
        drop(stays);
    }
}

/// The same of clients that drop what they get: after the head, and after each frame.
#[tokio::test]
async fn a_client_is_told_what_it_had_when_it_left() {
    let (address, _outcomes) = our_server();
    for (http2, chunks) in
        [false, true].into_iter().flat_map(|http2| (0..4).map(move |chunks| (http2, chunks)))
    {
        let (tell, mut outcomes) = mpsc::unbounded_channel();
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
        let client = GateLayer::new(Watch(tell)).layer(client);
        let response = soon(client.oneshot(request(address, "GET", "/chunks/9"))).await.unwrap();
        let mut body = response.into_body();
        let mut heard = 0;
        for _ in 0..chunks {
            heard += soon(body.frame()).await.unwrap().unwrap().into_data().unwrap().len() as u64;
        }
        drop(body);
        let outcome = told(&mut outcomes).await;
        let what = format!("{chunks} frames, http2 {http2}");
        assert_eq!(outcome.bytes, heard, "{what}");
        is(outcome, CANCELLED, &what);
    }
}
