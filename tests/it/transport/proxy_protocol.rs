use std::sync::{Arc, Mutex};

use portcullis::{
    identity::PeerAddr,
    reject::Reason,
    transport::{ConnectionObserver, Listener, ListenerBuilder, Misuse, ProxyProtocol, Server},
};

use super::{SHORT, Site, peer::Peer, serve, until};

/// What became of connections that were not served to their end.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl ConnectionObserver for Told {
    fn opened(&self) {}
    fn closed(&self) {}
    fn refused(&self) {
        self.note("refused");
    }
    fn head_refused(&self, peer: PeerAddr, reason: Reason) {
        self.note(format!("{} {reason}", peer.ip()));
    }
    fn cut(&self, peer: PeerAddr, how: Misuse) {
        self.note(format!("{} {}", peer.ip(), how.label()));
    }
}

fn trusting(networks: &str) -> ListenerBuilder {
    let policy = ProxyProtocol::from_trusted([networks.parse().unwrap()]).timeout(SHORT);
    Listener::builder().proxy_protocol(policy)
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const GET: &[u8] = b"GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn clients_are_told() {
    let site = Site::default();
    let address = serve(&site, Server::new(), trusting("127.0.0.0/8")).await;
    let v4 = [V2, &[0x21, 0x11, 0, 15, 192, 0, 2, 9, 127, 0, 0, 1, 0, 99, 0, 80, 0x42, 0, 0]].concat();
    let local = [V2, &[0x20, 0, 0, 0]].concat();
    for (header, client) in [
        (&b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n"[..], "192.0.2.7:1234"),
        (b"PROXY TCP6 2001:db8::7 ::1 1234 80\r\n", "[2001:db8::7]:1234"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1234 80\r\n", "192.0.2.7:1234"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1:"),
        (&v4, "192.0.2.9:99"),
        (&local, "127.0.0.1:"),
    ] {
        let mut at_once = Peer::connect(address).await;
        at_once.send([header, GET].concat()).await;
        let answer = at_once.rest_as_text().await;
        assert!(answer.contains(&format!("\r\n\r\n{client}")), "{answer}");

        let mut in_pieces = Peer::connect(address).await;
        let (first, second) = header.split_at(header.len() / 2);
        in_pieces.send(first).await;
        tokio::task::yield_now().await;
        in_pieces.send([second, GET].concat()).await;
        assert!(in_pieces.rest_as_text().await.contains(client));
    }
    let mut http2 = Peer::connect(address).await;
    http2.send([&v4, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await;
    http2.request(1, "/peer").await;
    assert_eq!(http2.frame_of(super::peer::DATA).await.unwrap().2, b"192.0.2.9:99");
}

#[tokio::test]
async fn trusted_peers_must_tell() {
    let (site, told) = (Site::default(), Told::default());
    let listener = trusting("127.0.0.0/8").observer(Arc::new(told.clone()));
    let address = serve(&site, Server::new(), listener).await;
    let mut slow = Peer::connect(address).await;
    slow.send("PROXY TCP4 192.0.2.7").await;
    let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    for bytes in
        [GET, b"PROXY TCP4 junk\r\n", &too_long, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", b"\x16\x03\x01"]
    {
        let mut peer = Peer::connect(address).await;
        peer.flood(&[bytes, GET].concat()).await;
        assert_eq!(peer.rest_as_text().await, "", "closed without an answer, beside a slow one");
    }
    assert_eq!(slow.rest_as_text().await, "", "closed when its time is over");
    assert_eq!(site.begun(), 0);
    // Five that were malformed, and one that was late.
    until(|| told.all().len() >= 6).await;
    assert_eq!(told.all(), ["127.0.0.1 proxy_protocol"; 6]);
}

#[tokio::test]
async fn who_speaks_for_too_many_of_one_address_is_told_of() {
    let (site, told) = (Site::default(), Told::default());
    let listener = trusting("127.0.0.0/8").max_connections_per_address(1).observer(Arc::new(told.clone()));
    let address = serve(&site, Server::new(), listener).await;
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n";
    let mut first = Peer::connect(address).await;
    first.send([header, &b"GET /peer HTTP/1.1\r\nhost: a\r\n\r\n"[..]].concat()).await;
    assert!(first.response().await.ends_with("192.0.2.7:1234"));
    let mut second = Peer::connect(address).await;
    second.flood(&[header, GET].concat()).await;
    assert_eq!(second.rest_as_text().await, "");
    until(|| !told.all().is_empty()).await;
    assert_eq!(told.all(), ["refused"]);
}

#[tokio::test]
async fn a_slow_peer_blocks_nobody() {
    let site = Site::default();
    let policy = ProxyProtocol::from_trusted(["127.0.0.0/8".parse().unwrap()]);
    let address = serve(&site, Server::new(), Listener::builder().proxy_protocol(policy)).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(Peer::connect(address).await);
    }
    let mut peer = Peer::connect(address).await;
    peer.send([b"PROXY UNKNOWN\r\n", GET].concat()).await;
    assert!(peer.rest_as_text().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn others_may_not_tell() {
    let site = Site::default();
    let address = serve(&site, Server::new(), trusting("192.0.2.0/24")).await;
    let v2 = [V2, &[0x21, 0x11, 0, 12, 192, 0, 2, 9, 127, 0, 0, 1, 0, 99, 0, 80]].concat();
    for header in [&b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n"[..], &v2] {
        let mut peer = Peer::connect(address).await;
        peer.flood(&[header, GET].concat()).await;
        let answer = peer.rest_as_text().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    }
    assert_eq!(site.begun(), 0);
    let mut honest = Peer::connect(address).await;
    honest.send(GET).await;
    assert!(honest.rest_as_text().await.contains("127.0.0.1:"));
}
