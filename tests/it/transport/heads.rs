//! Heads that become no request: what is answered to them, and who hears of it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use portcullis::{
    body::Body,
    identity::PeerAddr,
    transport::{Listener, Server},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpSocket, TcpStream},
};
use tower::service_fn;

use super::{
    SHORT, Site, loopback,
    peer::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, Peer, RST_STREAM, fields, frame, literal,
        request,
    },
    proxy_protocol::Told,
    serve, soon, until,
};

const BAD: &str = "GET / HTTP/1.1\r\nno field\r\n\r\n";
const GOOD: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

async fn site(server: Server) -> (Site, SocketAddr, Told) {
    let (site, told) = (Site::default(), Told::default());
    let address = serve(&site, server, Listener::builder().observer(Arc::new(told.clone()))).await;
    (site, address, told)
}

/// Until so many heads were told; what was.
async fn heads(told: &Told, count: usize) -> Vec<String> {
    until(|| told.all().len() >= count).await;
    told.all().iter().map(|line| line.strip_prefix("127.0.0.1 ").unwrap_or(line).to_owned()).collect()
}

/// The last answer is that of the table, and the one before it is whole.
fn ends_with(answer: &str, before: &str, status: &str, reason: &str) {
    let Some((first, last)) = answer.rsplit_once("HTTP/1.1 ") else { panic!("{answer:?}") };
    assert!(first.ends_with(before) && first.is_empty() == before.is_empty(), "{answer:?}");
    let (head, body) = last.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(status), "{answer:?}");
    for line in ["connection: close", "content-type: application/problem+json"] {
        assert_eq!(head.split("\r\n").filter(|known| *known == line).count(), 1, "{answer:?}");
    }
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{answer:?}");
    assert!(head.contains("\r\ndate: "), "{answer:?}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((problem["status"].to_string(), &problem["reason"]), (status.to_owned(), &reason.into()));
}

#[tokio::test]
async fn bad_heads_get_the_answer_of_the_table() {
    let (site, address, told) = site(Server::new().head_timeout(SHORT)).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(101));
    let preface = format!("{GOOD}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for (n, (head, before, status, reason)) in [
        (BAD, "", "400", "bad_request"),
        ("\u{16}\u{3}\u{1} no HTTP at all\r\n\r\n", "", "400", "bad_request"),
        (&large, "", "431", "head_too_large"),
        (&fields, "", "431", "head_too_large"),
        ("GET / HTTP/1.1\r\nhos", "", "408", "request_timeout"),
        // After good ones, whose answers are whole.
        (&[GOOD, BAD].concat(), "hello", "400", "bad_request"),
        (&[GOOD, GOOD, &large].concat(), "hello", "431", "head_too_large"),
        (&preface, "hello", "400", "bad_request"),
        // After an upgrade that came to nothing.
        (
            &["GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n", BAD].concat(),
            "hello",
            "400",
            "bad_request",
        ),
        // After a body that nobody has read, and one that somebody has.
        (
            &["POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", BAD].concat(),
            "hello",
            "400",
            "bad_request",
        ),
        (
            &["POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", BAD].concat(),
            "\r\n\r\n3",
            "400",
            "bad_request",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut peer = Peer::connect(address).await;
        peer.flood(head.as_bytes()).await;
        ends_with(&peer.rest_as_text().await, before, status, reason);
        let told = heads(&told, n + 1).await;
        assert_eq!((told.len(), &*told[n]), (n + 1, reason), "told once: {head}");
    }
    assert_eq!(site.begun(), 7);
}

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let (site, address, told) = site(Server::new()).await;
    // The second kind hyper has taken off its buffer when it refuses it.
    for (n, fault) in (1..).zip(["no field", "content-length: x"]) {
        let mut peer = Peer::connect(address).await;
        peer.get("/").await;
        peer.response().await;
        peer.send(format!("HEAD / HTTP/1.1\r\n{fault}\r\n\r\n")).await;
        let answer = peer.rest_as_text().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(heads(&told, n).await, vec!["bad_request"; n]);
    }
    // What was asked before is another matter.
    let mut peer = Peer::connect(address).await;
    peer.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    while soon(peer.0.read_u8()).await.unwrap() != b'\n' {}
    peer.send("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n").await;
    let answer = peer.rest_as_text().await;
    ends_with(&answer, "\r\n\r\n", "400", "bad_request");
    // And so is what a body begins with.
    for after in ["", "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"] {
        let mut peer = Peer::connect(address).await;
        peer.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").await;
        until(|| site.alive() == 1).await;
        peer.send(["HEAD ", after].concat()).await;
        if after.is_empty() {
            assert!(peer.response().await.ends_with("\r\n\r\n5"));
            peer.send("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n").await;
        }
        let before = if after.is_empty() { "" } else { "\r\n\r\n5" };
        ends_with(&peer.rest_as_text().await, before, "400", "bad_request");
    }
}

/// A whole URI for a target says the host, and does not stand for the field.
#[tokio::test]
async fn a_whole_uri_needs_a_host_too() {
    let (site, address, told) = site(Server::new()).await;
    for (head, status) in [
        ("GET http://a/ HTTP/1.1\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\nhost: a\r\n", "200"),
        ("GET http://a/ HTTP/1.0\r\n", "200"),
    ] {
        let mut peer = Peer::connect(address).await;
        peer.send([head, "\r\n"].concat()).await;
        let answer = peer.response().await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
    }
    assert_eq!((heads(&told, 1).await, site.begun()), (vec!["bad_request".to_owned()], 2));
}

/// A head that has come in the middle of a response waits for its end.
#[tokio::test]
async fn a_response_that_streams_is_not_broken() {
    let (site, address, told) = site(Server::new()).await;
    let mut peer = Peer::connect(address).await;
    peer.send(["GET /stream HTTP/1.1\r\nhost: a\r\n\r\n", BAD].concat()).await;
    let mut heard = Vec::new();
    while !heard.ends_with(b"3\r\none\r\n") {
        heard.push(soon(peer.0.read_u8()).await.unwrap());
    }
    assert!(told.all().is_empty());
    site.open();
    ends_with(&peer.rest_as_text().await, "3\r\ntwo\r\n0\r\n\r\n", "400", "bad_request");
    assert_eq!(heads(&told, 1).await, ["bad_request"]);
}

/// Text that looks like an answer of hyper's own is an answer of nobody's, in a body or in a tunnel.
#[tokio::test]
async fn what_looks_like_an_answer_stays() {
    const LOOKS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let listener = Listener::builder().bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let looks = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from(LOOKS))));
    tokio::spawn(Server::new().serve(listener, looks));
    let mut peer = Peer::connect(address).await;
    peer.send([GOOD, GOOD, BAD].concat()).await;
    let answer = peer.rest_as_text().await;
    assert_eq!(answer.matches(LOOKS).count(), 2, "{answer}");
    ends_with(&answer, LOOKS, "400", "bad_request");

    let (_, address, told) = site(Server::new()).await;
    let mut peer = Peer::connect(address).await;
    peer.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(peer.response().await.starts_with("HTTP/1.1 101 "));
    for text in [LOOKS, BAD, LOOKS] {
        peer.send(text).await;
        let mut echo = vec![0; text.len()];
        soon(peer.0.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, text.as_bytes());
    }
    drop(peer);
    assert!(told.all().is_empty());
}

/// All that comes, a few bytes at a time.
async fn slowly(mut io: impl AsyncRead + Unpin) -> String {
    let (mut heard, mut piece) = (Vec::new(), [0; 3]);
    while let Ok(length @ 1..) = soon(io.read(&mut piece)).await {
        heard.extend(&piece[..length]);
        tokio::task::yield_now().await;
    }
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn an_answer_may_be_taken_in_pieces() {
    for (sent, before) in [(BAD.to_owned(), ""), ([GOOD, GOOD, BAD].concat(), "hello")] {
        // There is room for 7 bytes only, both ways.
        let (site, (ours, theirs)) = (Site::default(), duplex(7));
        let peer = PeerAddr::new(loopback());
        let served = tokio::spawn(Server::new().serve_connection(theirs, peer, site.service()));
        let (reader, mut writer) = tokio::io::split(ours);
        let sending = tokio::spawn(async move {
            soon(writer.write_all(sent.as_bytes())).await.unwrap();
            writer
        });
        ends_with(&slowly(reader).await, before, "400", "bad_request");
        drop(sending.await.unwrap());
        soon(served).await.unwrap();
    }
}

/// Who is still busy with the answer before gets both.
#[tokio::test]
async fn a_large_answer_before_is_whole() {
    const LARGE: usize = 4 << 20;
    let listener = Listener::builder().bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let large = service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(Response::new(Body::from(vec![b'.'; LARGE])))
    });
    tokio::spawn(Server::new().serve(listener, large));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut peer = Peer(soon(socket.connect(address)).await.unwrap());
    peer.send([GOOD, BAD].concat()).await;
    // It has begun to answer, and can write no more than what we do not read has room for.
    soon(peer.0.peek(&mut [0])).await.unwrap();
    let answer = peer.rest_as_text().await;
    assert!(answer.contains(&format!("\r\n\r\n{}HTTP/1.1 400 ", ".".repeat(LARGE))));
    ends_with(&answer, "....", "400", "bad_request");
}

#[tokio::test]
async fn who_vanishes_harms_nobody() {
    let (site, address, told) = site(Server::new()).await;
    // It does not wait for the answer, or breaks off and may still read.
    let mut gone = Peer::connect(address).await;
    gone.send(BAD).await;
    drop(gone);
    let mut half = Peer::connect(address).await;
    half.send([GOOD, "GET / HTTP/1.1\r\nho"].concat()).await;
    soon(half.0.shutdown()).await.unwrap();
    ends_with(&half.rest_as_text().await, "hello", "400", "bad_request");
    assert_eq!(heads(&told, 2).await, ["bad_request", "bad_request"]);
    // It has not begun another, or it is gone with a bang, which is no head.
    for sent in [GOOD, "GET / HTTP/1.1\r\nho", ""] {
        let mut peer = Peer::connect(address).await;
        peer.send(sent).await;
        if sent == GOOD {
            soon(peer.0.shutdown()).await.unwrap();
            assert!(peer.rest_as_text().await.ends_with("hello"));
        } else {
            peer.0.set_zero_linger().unwrap();
        }
    }
    // Who goes away while it waits has a line of its own elsewhere.
    let mut waits = Peer::connect(address).await;
    waits.get("/wait").await;
    until(|| site.alive() == 1).await;
    drop(waits);
    until(|| site.alive() == 0).await;
    let mut last = Peer::connect(address).await;
    last.get("/").await;
    assert!(last.response().await.ends_with("hello"));
    assert_eq!(told.all().len(), 2, "{:?}", told.all());
}

/// A site within TLS, and how one comes to it.
#[cfg(all(feature = "tls", feature = "upstream"))]
async fn within_tls() -> (Site, Told, impl AsyncFn() -> tokio_rustls::client::TlsStream<TcpStream>) {
    use super::tls::rustls_client;
    use crate::support::certificates::{Authority, credentials};
    use portcullis::tls::ServerTls;

    let (site, told, authority) = (Site::default(), Told::default(), Authority::new("public"));
    let dns = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    };
    let ours = credentials(authority.issue(dns), authority.trust());
    let listener = Listener::builder().tls(ServerTls::new(&ours)).observer(Arc::new(told.clone()));
    let address = serve(&site, Server::new(), listener).await;
    let connect = async move || {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(rustls_client(&authority, None));
        soon(connector.connect(name, stream)).await.unwrap()
    };
    (site, told, connect)
}

#[cfg(all(feature = "tls", feature = "upstream"))]
#[tokio::test]
async fn within_tls_it_is_the_same() {
    let (_, told, connect) = within_tls().await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    for (n, (sent, before, status, reason)) in [
        (BAD, "", "400", "bad_request"),
        (&[GOOD, BAD].concat(), "hello", "400", "bad_request"),
        (&large, "", "431", "head_too_large"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = connect().await;
        soon(stream.write_all(sent.as_bytes())).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.expect("closed as TLS closes");
        ends_with(&answer, before, status, reason);
        assert_eq!(heads(&told, n + 1).await[n], reason);
    }
}

// HTTP/2

type Client = h2::client::SendRequest<Bytes>;

async fn client(address: SocketAddr) -> Client {
    let stream = soon(TcpStream::connect(address)).await.unwrap();
    let (client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The answer to a request with so many fields of so many bytes.
async fn asked(client: &Client, kind: &str, fields: usize, bytes: usize) -> Response<Bytes> {
    let mut request = Request::get("http://test/").header("content-type", kind);
    for field in 0..fields {
        request = request.header(format!("x-{field}"), "1".repeat(bytes));
    }
    let mut client = soon(client.clone().ready()).await.unwrap();
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let (head, mut body) = soon(response).await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = soon(body.data()).await {
        bytes.extend(data.unwrap());
    }
    Response::from_parts(head, bytes.into())
}

#[tokio::test]
async fn large_heads_over_http2_get_the_answer_of_the_table() {
    let (site, address, told) = site(Server::new()).await;
    let client = client(address).await;
    for (fields, bytes) in [(101, 1), (1, 66 << 10), (10, 7 << 10)] {
        let answer = asked(&client, "text/plain", fields, bytes).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (431, &"application/problem+json".parse().unwrap())
        );
        let problem: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem["reason"], "head_too_large");
        // To gRPC as gRPC.
        let answer = asked(&client, "application/grpc", fields, bytes).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &"8".parse().unwrap())
        );
        assert!(answer.body().is_empty());
    }
    // What is larger still h2 refuses itself, in a word; it is told all the same.
    let answer = asked(&client, "text/plain", 3, 60 << 10).await;
    assert_eq!((answer.status().as_u16(), answer.body().len()), (431, 0));
    assert_eq!(heads(&told, 7).await, ["head_too_large"; 7]);
    assert_eq!(asked(&client, "text/plain", 1, 60 << 10).await.status(), 200, "the connection goes on");
    // And with what is too large by far, the connection ends.
    let mut peer = Peer::http2(address).await;
    let mut block = fields("/", []);
    (0..60).for_each(|n| literal(&mut block, &format!("x-{n}"), &"1".repeat(10_000)));
    let mut frames = frame(HEADERS, END_STREAM, 1, &block[..16_000]);
    for piece in block[16_000..].chunks(16_000) {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    peer.flood(&frames).await;
    peer.rest().await;
    assert_eq!(heads(&told, 8).await, ["head_too_large"; 8]);
    assert_eq!((told.all().len(), site.begun()), (8, 1));
}

/// A head of HTTP/2 that is malformed.
fn malformed(stream: u32, field: (&str, &str)) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields("/", [field]))
}

#[tokio::test]
async fn malformed_heads_over_http2_are_told() {
    let (site, address, told) = site(Server::new()).await;
    let mut peer = Peer::http2(address).await;
    let bad = [("connection", "close"), ("te", "gzip"), (":status", "200"), ("content-length", "x")];
    // One after the other, all at once among good ones, and byte by byte.
    for (n, field) in (0..).zip(bad) {
        peer.send(malformed(2 * n + 1, field)).await;
        assert_eq!(peer.frame_of(RST_STREAM).await.unwrap().1, 2 * n + 1, "{field:?}");
        assert_eq!(heads(&told, n as usize + 1).await.last().unwrap(), "bad_request");
    }
    let mut all = Vec::new();
    for (n, field) in (0..).zip(bad) {
        all.extend([malformed(4 * n + 101, field), request(4 * n + 103, "/")].concat());
    }
    peer.send(all).await;
    assert_eq!(heads(&told, 8).await, ["bad_request"; 8]);
    for byte in malformed(201, bad[0]) {
        peer.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(heads(&told, 9).await, ["bad_request"; 9]);
    until(|| site.begun() == 4).await;
    peer.request(203, "/").await;
    while peer.frame_of(DATA).await.unwrap().1 != 203 {}
    assert_eq!((told.all().len(), site.begun()), (9, 5));
}

/// As over HTTP/1, the blanks around a value are no part of it: for the rules, and for an upstream.
#[cfg(feature = "upstream")]
#[tokio::test]
async fn padded_values_over_http2_are_taken_without_blanks() {
    use portcullis::upstream::{Proxy, Upstream};
    use std::sync::Mutex;

    let upstream = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let group = Upstream::builder("test").endpoint(upstream.local_addr().unwrap().to_string());
    let (proxy, seen) = (Proxy::new(group.build().unwrap()), Arc::<Mutex<Vec<String>>>::default());
    let rule = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: Request<Body>| {
            seen.lock().unwrap().push(request.headers()["x"].to_str().unwrap().to_owned());
            tower::ServiceExt::oneshot(proxy.clone(), request)
        })
    };
    let listener = Listener::bind(loopback()).unwrap();
    let mut peer = Peer::http2(listener.local_addr().unwrap()).await;
    tokio::spawn(Server::new().serve(listener, rule));
    let padded =
        [(" a", "a"), ("a ", "a"), ("\ta", "a"), ("a\t", "a"), (" a b ", "a b"), (" ", ""), ("a b", "a b")];
    for (n, (value, bare)) in (0..).zip(padded) {
        peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &fields("/", [("x", value)]))).await;
        let (mut line, mut heard) = (Peer(soon(upstream.accept()).await.unwrap().0), String::new());
        while !heard.ends_with("\r\n\r\n") {
            heard.push(char::from(soon(line.0.read_u8()).await.unwrap()));
        }
        line.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        assert!(heard.contains(&format!("\r\nx: {bare}\r\n")), "{value:?}: {heard:?}");
        assert_eq!(seen.lock().unwrap().last().unwrap(), bare, "{value:?}");
        let (_, stream, block) = peer.frame_of(HEADERS).await.unwrap();
        assert_eq!((stream, block[0]), (2 * n + 1, 0x88), "{value:?}: a status of 200");
    }
}

/// Two requests, and a head between them that is refused.
fn last_words() -> Vec<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    [preface, request(1, "/wait"), malformed(3, ("te", "gzip")), request(5, "/wait")].concat()
}

/// What comes with the end of its connection is looked at before that.
#[tokio::test]
async fn last_words_over_http2_are_heard() {
    let (site, address, told) = site(Server::new()).await;
    for n in 1..=10 {
        let mut peer = Peer::connect(address).await;
        peer.send(last_words()).await;
        soon(peer.0.shutdown()).await.unwrap();
        assert_eq!(heads(&told, n).await, vec!["bad_request"; n]);
        until(|| (site.begun(), site.alive()) == (2 * n, 0)).await;
    }
}

/// Within TLS the end is there as soon as what was said before it.
#[cfg(all(feature = "tls", feature = "upstream"))]
#[tokio::test]
async fn last_words_within_tls_are_heard() {
    let (site, told, connect) = within_tls().await;
    for n in 1..=10 {
        let mut stream = connect().await;
        stream.write_all(&last_words()).await.unwrap();
        soon(stream.shutdown()).await.unwrap();
        assert_eq!(heads(&told, n).await, vec!["bad_request"; n]);
        until(|| (site.begun(), site.alive()) == (2 * n, 0)).await;
    }
}

/// Whatever else peers do with their streams, all of these were requests.
#[tokio::test]
async fn good_requests_over_http2_are_none_of_these() {
    let (site, address, told) = site(Server::new()).await;
    let mut peer = Peer::http2(address).await;
    // In pieces, with a body and trailers, taken back at once, with a head of several frames.
    let mut block = fields("/", []);
    literal(&mut block, "x", &"1".repeat(20_000));
    let mut trailers = Vec::new();
    literal(&mut trailers, "x-trailer", "1");
    let all = [
        request(1, "/"),
        frame(HEADERS, END_HEADERS, 3, &fields("/length", [])),
        frame(DATA, 0, 3, b"abc"),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &trailers),
        request(5, "/wait"),
        frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]),
        frame(HEADERS, END_STREAM, 7, &block[..9_000]),
        frame(CONTINUATION, 0, 7, &block[9_000..10_000]),
        frame(CONTINUATION, END_HEADERS, 7, &block[10_000..]),
        frame(HEADERS, END_HEADERS, 9, &fields("/length", [])),
    ]
    .concat();
    for piece in all.chunks(777) {
        peer.send(piece).await;
        tokio::task::yield_now().await;
    }
    until(|| site.begun() == 5).await;
    peer.send(frame(DATA, END_STREAM, 9, b"")).await;
    peer.send((11..300).step_by(2).flat_map(|stream| request(stream, "/")).collect::<Vec<u8>>()).await;
    // Answered, or reset if there were more than a hundred at once.
    let last = |(kind, _, stream, _): (u8, u8, u32, Vec<u8>)| stream == 299 && kind != HEADERS;
    soon(async { while !last(peer.frame().await.unwrap()) {} }).await;
    drop(peer);
    let mut after = Peer::http2(address).await;
    after.request(1, "/").await;
    after.frame_of(DATA).await.unwrap();
    // There may be more than a hundred at once.
    assert!(told.all().iter().all(|line| line.ends_with("overloaded")), "{:?}", told.all());
}

#[tokio::test]
async fn streams_beyond_the_most_are_told() {
    let (site, address, told) = site(Server::new().max_streams(3)).await;
    let mut peer = Peer::http2(address).await;
    for stream in [1, 3, 5, 7] {
        peer.request(stream, "/wait").await;
    }
    assert_eq!(peer.frame_of(RST_STREAM).await.unwrap().1, 7);
    assert_eq!(heads(&told, 1).await, ["overloaded"]);
    assert_eq!(site.begun(), 3);
}

#[tokio::test]
async fn who_breaks_http2_is_told() {
    for (frames, how) in [
        (frame(PING, 0, 0, &[0; 7]), "protocol"),
        (frame(DATA, 0, 0, b"x"), "protocol"),
        (frame(CONTINUATION, END_HEADERS, 1, &[]), "protocol"),
        // An index of no table, a stream that only we may open, and a head that another frame interrupts.
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xfe]), "bad_request"),
        (frame(HEADERS, END_HEADERS | END_STREAM, 2, &fields("/", [])), "bad_request"),
        ([frame(HEADERS, 0, 1, &fields("/", [])), frame(CONTINUATION, 0, 3, b"")].concat(), "bad_request"),
    ] {
        let (site, address, told) = site(Server::new()).await;
        let mut peer = Peer::http2(address).await;
        peer.flood(&frames).await;
        peer.rest().await;
        assert_eq!(heads(&told, 1).await, [how], "{frames:?}");
        assert_eq!((told.all().len(), site.begun()), (1, 0));
    }
}

/// One connection may tell of many; none is told twice.
#[tokio::test]
async fn a_flood_of_malformed_heads_is_counted() {
    let (_, address, told) = site(Server::new()).await;
    let mut peer = Peer::http2(address).await;
    let all = (0..500).flat_map(|n| malformed(2 * n + 1, ("te", "gzip"))).collect::<Vec<u8>>();
    peer.send(all).await;
    assert_eq!(heads(&told, 500).await, vec!["bad_request"; 500]);
    peer.request(1_001, "/").await;
    soon(async { while peer.frame_of(DATA).await.unwrap().1 != 1_001 {} }).await;
    assert_eq!(told.all().len(), 500);
}
