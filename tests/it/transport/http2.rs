use std::{
    convert::Infallible,
    future::{pending, poll_fn},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use portcullis::{
    body::Body,
    transport::{Listener, Server},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tower::service_fn;

use super::{
    SHORT, Site, bare, loopback,
    peer::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SETTINGS,
        fields, frame, request,
    },
    site, soon, until,
};

/// Sends and sends, until the server has had enough.
async fn flood(peer: &mut Peer, mut next: impl FnMut() -> Vec<u8>) {
    let (mut reader, mut writer) = peer.0.split();
    let mut writing = std::pin::pin!(async {
        while writer.write_all(&next()).await.is_ok() {}
        pending::<()>().await;
    });
    let mut reading = std::pin::pin!(async {
        let mut scrap = vec![0; 4_096];
        while reader.read(&mut scrap).await.is_ok_and(|read| read > 0) {}
    });
    soon(poll_fn(|cx| {
        let _ = writing.as_mut().poll(cx);
        reading.as_mut().poll(cx)
    }))
    .await;
}

/// An opened connection whose settings are agreed upon.
async fn agreed(address: std::net::SocketAddr) -> (Peer, Vec<u8>) {
    let mut peer = Peer::http2(address).await;
    let (_, _, settings) = peer.frame_of(SETTINGS).await.unwrap();
    peer.send(frame(SETTINGS, ACK, 0, &[])).await;
    (peer, settings)
}

/// Whether a header block says 200, which h2 puts first, as an index.
fn is_ok(headers: &[u8]) -> bool {
    headers[0] == 0x88
}

#[tokio::test]
async fn requests() {
    let (site, address) = site(Server::new()).await;
    let (mut peer, _) = agreed(address).await;
    let me = peer.0.local_addr().unwrap().to_string();
    for stream in [1, 3, 5] {
        peer.request(stream, "/peer").await;
        let (_, on, headers) = peer.frame_of(HEADERS).await.unwrap();
        assert!(on == stream && is_ok(&headers));
        assert_eq!(peer.frame_of(DATA).await.unwrap().2, me.as_bytes());
    }
    assert_eq!(site.begun(), 3);
}

#[tokio::test]
async fn a_hundred_streams() {
    for (server, most) in [(Server::new(), 100_u8), (Server::new().max_streams(3), 3)] {
        let (site, address) = site(server).await;
        let (mut peer, settings) = agreed(address).await;
        let told = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
        assert_eq!(told[2..], [0, 0, 0, most]);
        for stream in 0..=u32::from(most) {
            peer.request(2 * stream + 1, "/wait").await;
        }
        let (_, stream, reason) = peer.frame_of(RST_STREAM).await.unwrap();
        assert_eq!((stream, &reason[..]), (2 * u32::from(most) + 1, &[0, 0, 0, 7][..]), "REFUSED_STREAM");
        until(|| site.alive() == usize::from(most)).await;
        assert_eq!(site.begun(), usize::from(most));
        drop(peer);
        until(|| site.alive() == 0).await;
    }
}

#[tokio::test]
async fn a_slow_head_is_closed() {
    let (site, address) = site(Server::new().head_timeout(SHORT)).await;
    let whole = frame(HEADERS, END_STREAM, 3, &fields("/", []));
    for part in [&whole[..], &whole[..20]] {
        let (mut peer, _) = agreed(address).await;
        peer.request(1, "/wait").await;
        peer.send(part).await;
        peer.rest().await;
    }
    until(|| site.alive() == 0).await;
    assert_eq!(site.begun(), 2);
}

/// The status of the answer to a request with so many fields of so many bytes.
async fn status_of(client: &h2::client::SendRequest<bytes::Bytes>, fields: usize, bytes: usize) -> u16 {
    let mut request = Request::get("http://test/");
    for field in 0..fields {
        request = request.header(format!("x-{field}"), "1".repeat(bytes));
    }
    let mut client = soon(client.clone().ready()).await.unwrap();
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    soon(response).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn big_heads() {
    let (site, address) = site(Server::new()).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(status_of(&client, 100, 1).await, 200, "the pseudo-fields do not count");
    assert_eq!(status_of(&client, 101, 1).await, 431);
    assert_eq!(status_of(&client, 1, 63 << 10).await, 200);
    assert_eq!(status_of(&client, 1, 65 << 10).await, 431);
    assert_eq!(status_of(&client, 10, 7 << 10).await, 431, "in several frames");
    assert_eq!(status_of(&client, 1, 1).await, 200, "the connection goes on");
    assert_eq!(site.begun(), 3);
}

/// hyper would send the body after all (RFC 9110 section 9.3.2), which ends the stream with an error.
#[tokio::test]
async fn a_head_has_no_body() {
    let (site, address) = site(Server::new()).await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    for path in ["/", "/endless"] {
        let request = Request::head(format!("http://test{path}")).body(()).unwrap();
        let mut client = soon(client.clone().ready()).await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut response = soon(response).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(soon(response.body_mut().data()).await.is_none(), "{path}");
    }
    until(|| site.alive() == 0).await;
    assert_eq!(site.begun(), 2);
}

#[tokio::test]
async fn floods_are_cut_off() {
    let (site, address) = site(Server::new()).await;
    for (kind, flags, stream, payload) in [
        (PING, 0, 0, &[0; 8][..]),
        (SETTINGS, 0, 0, &[]),
        (0x2, 0, 1, &[0; 5]),    // PRIORITY
        (0x42, 0, 1, &[0; 5]),   // unknown
        (PING, ACK, 0, &[0; 8]), // answers to nothing
    ] {
        let mut peer = Peer::http2(address).await;
        let unit = frame(kind, flags, stream, payload).repeat(16);
        flood(&mut peer, || unit.clone()).await;
    }
    assert_eq!(site.begun(), 0);
}

#[tokio::test]
async fn floods_on_a_stream_are_cut_off() {
    let (site, address) = site(Server::new()).await;
    let open = |flags| frame(HEADERS, flags, 1, &fields("/wait", []));
    for (flags, unit) in [
        (END_HEADERS, frame(DATA, 0, 1, &[])),
        (0, frame(CONTINUATION, 0, 1, &[])),
        (0, frame(CONTINUATION, 0, 1, b"\0\x01a\x01b")),
        (END_HEADERS, frame(0x8, 0, 1, &[0, 0, 0, 1])), // WINDOW_UPDATE
    ] {
        let mut peer = Peer::http2(address).await;
        peer.send(open(flags)).await;
        let unit = unit.repeat(16);
        flood(&mut peer, || unit.clone()).await;
    }
    until(|| site.alive() == 0).await;
}

#[tokio::test]
async fn rapid_resets_are_cut_off() {
    let (site, address) = site(Server::new()).await;
    let mut peer = Peer::http2(address).await;
    let mut stream = 1;
    flood(&mut peer, || {
        let pair = [request(stream, "/wait"), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
        stream += 2;
        pair
    })
    .await;
    until(|| site.alive() == 0).await;
    assert!(site.begun() < 600, "{}", site.begun());
}

#[tokio::test]
async fn pings_do_not_keep_a_connection() {
    let (_, address) = site(Server::new().idle_timeout(SHORT)).await;
    let (mut peer, _) = agreed(address).await;
    peer.request(1, "/").await;
    let mut told = false;
    loop {
        peer.flood(&frame(PING, 0, 0, &[1; 8])).await;
        match peer.frame().await {
            Some((GOAWAY, ..)) => told = true,
            Some(_) => {}
            None => break,
        }
        tokio::time::sleep(SHORT / 20).await;
    }
    assert!(told);
}

/// A peer who asks for more than it lets be sent, and the server that has begun to answer.
async fn without_a_window() -> (Site, Peer) {
    let (site, address) = site(Server::new().write_timeout(SHORT)).await;
    let mut peer = Peer::connect(address).await;
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    peer.send(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    peer.request(1, "/endless").await;
    until(|| site.begun() == 1).await;
    (site, peer)
}

#[tokio::test]
async fn a_peer_that_gives_no_window() {
    let (site, _peer) = without_a_window().await;
    until(|| site.alive() == 0).await;
}

#[tokio::test]
async fn a_peer_that_gives_no_window_and_pings() {
    let (site, mut peer) = without_a_window().await;
    soon(async {
        while site.alive() > 0 {
            peer.flood(&[frame(PING, 0, 0, &[1; 8]), frame(SETTINGS, 0, 0, &[])].concat()).await;
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_waits() {
    let (site, address) = site(Server::new().write_timeout(SHORT)).await;
    let (mut peer, _) = agreed(address).await;
    peer.request(1, "/stream").await;
    assert_eq!(peer.frame_of(DATA).await.unwrap().2, b"one");
    tokio::time::sleep(SHORT * 4).await;
    site.open();
    assert_eq!(peer.frame_of(DATA).await.unwrap().2, b"two");
}

#[tokio::test]
async fn a_body_that_stops_coming() {
    let (site, address) = site(Server::new().body_idle_timeout(SHORT)).await;
    let (mut peer, _) = agreed(address).await;
    peer.send(frame(HEADERS, END_HEADERS, 1, &fields("/length", []))).await;
    peer.send(frame(DATA, 0, 1, b"abc")).await;
    let (_, _, headers) = peer.frame_of(HEADERS).await.unwrap();
    assert!(!is_ok(&headers));
    assert_eq!((site.begun(), site.alive()), (1, 0));
}

/// hyper takes a stream that was reset without an error for a body that has ended.
#[tokio::test]
async fn a_body_whose_stream_is_reset_is_never_whole() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Body>| {
        let tell = tell.clone();
        // It goes on when its request is taken back.
        tokio::spawn(async move { tell.send(request.into_body().collect().await.is_ok()) });
        pending::<Result<Response<Body>, Infallible>>()
    });
    let listener = Listener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new().serve(listener, service));
    let reset = |code| frame(RST_STREAM, 0, 1, &[0, 0, 0, code]);
    for (end, is_whole) in [
        (frame(DATA, END_STREAM, 1, b"end"), true),
        ([frame(DATA, END_STREAM, 1, b"end"), reset(0)].concat(), true),
        (reset(0), false),
        (reset(8), false),
    ] {
        let (mut peer, _) = agreed(address).await;
        peer.send(frame(HEADERS, END_HEADERS, 1, &fields("/", []))).await;
        peer.send(frame(DATA, 0, 1, b"half")).await;
        peer.send(&end).await;
        assert_eq!(soon(told.recv()).await, Some(is_whole), "{end:?}");
    }
}

#[tokio::test]
async fn a_panic_ends_its_stream_only() {
    let address = bare(Server::new()).await;
    let (mut peer, _) = agreed(address).await;
    for (stream, path) in [(1, "/panic"), (3, "/panic-at-once")] {
        peer.request(stream, path).await;
        assert_eq!(peer.frame_of(RST_STREAM).await.unwrap().1, stream);
    }
    peer.request(5, "/").await;
    assert_eq!(peer.frame_of(HEADERS).await.unwrap().1, 5);
}
