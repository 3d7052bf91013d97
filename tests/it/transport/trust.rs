//! What is trusted changes while connections stand: HTTP/1, HTTP/2 and tunnels, of clients to us and of us to servers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use portcullis::{
    body::Body,
    identity::PeerAddr,
    reject::RescueLayer,
    tls::{ClientTls, Credentials, Material, OnTrustShrink, ServerTls},
    transport::{ConnectionObserver, Drain, Listener, Server},
    upstream::{Proxy, Upstream, Wire},
};
use rcgen::{CertificateParams, SanType};
use rustls::{
    CipherSuite, HandshakeKind, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tower::{Layer, ServiceExt};

use super::{
    Site, loopback,
    peer::Peer,
    serve, soon,
    tls::{ask, rustls_client, rustls_client_of},
    until,
};
use crate::support::certificates::{Authority, credentials, uri};

pub(super) const ORDERS: &str = "spiffe://shop.example/orders";
pub(super) const CARTS: &str = "spiffe://shop.example/carts";
pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
pub(super) const TUNNEL: &[u8] =
    b"GET /tunnel HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

/// A server of ours and its connections.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) site: Site,
    pub(super) ours: Credentials,
    pub(super) old: Authority,
    pub(super) connections: Arc<Connections>,
    _drain: Drain,
}

#[derive(Default)]
pub(super) struct Connections {
    pub(super) opened: AtomicUsize,
    closed: AtomicUsize,
}

impl Connections {
    pub(super) fn open(&self) -> usize {
        self.opened.load(Ordering::SeqCst) - self.closed.load(Ordering::SeqCst)
    }
}

struct Counting(Arc<Connections>);

impl ConnectionObserver for Counting {
    fn opened(&self) {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
    }
    fn closed(&self) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
    fn refused(&self) {}
}

impl Running {
    async fn start(change: impl FnOnce(ServerTls) -> ServerTls) -> Self {
        Self::with(Server::new(), change).await
    }

    pub(super) async fn with(server: Server, change: impl FnOnce(ServerTls) -> ServerTls) -> Self {
        let (site, old, drain) = (Site::default(), Authority::new("old"), Drain::new());
        let ours = credentials(old.workload(ORDERS), old.trust());
        let connections = Arc::<Connections>::default();
        let observer = Arc::new(Counting(Arc::clone(&connections)));
        let listener = Listener::builder().tls(change(ServerTls::mutual(&ours))).observer(observer);
        let address = serve(&site, server.drain(&drain), listener).await;
        Self { address, site, ours, old, connections, _drain: drain }
    }

    /// From now on nobody is believed whom the old root vouches for.
    fn forget(&self) {
        let trust = Authority::new("new").trust();
        self.ours.set(Material::new(self.old.workload(ORDERS), trust));
    }

    async fn connect(&self, protocol: Option<&[u8]>) -> TlsStream<TcpStream> {
        self.connect_as(protocol, |_| {}).await
    }

    /// With a certificate that is changed so.
    pub(super) async fn connect_as(
        &self,
        protocol: Option<&[u8]>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> TlsStream<TcpStream> {
        let theirs = self.old.sign(|params| {
            params.subject_alt_names = vec![uri(CARTS)];
            change(params);
        });
        let mut config = (*rustls_client(&self.old, Some(&theirs))).clone();
        config.alpn_protocols = protocol.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }

    async fn http2(&self) -> h2::client::SendRequest<Bytes> {
        let (client, connection) = h2::client::handshake(self.connect(Some(b"h2")).await).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

pub(super) async fn said(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    let mut answer = [0; 1024];
    let length = soon(stream.read(&mut answer)).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

pub(super) async fn asked(client: &mut h2::client::SendRequest<Bytes>) -> Result<StatusCode, h2::Error> {
    let mut ready = soon(client.clone().ready()).await?;
    let request = Request::get("https://localhost/").body(()).unwrap();
    let (answer, _) = ready.send_request(request, true)?;
    Ok(soon(answer).await?.status())
}

#[tokio::test]
async fn where_certificates_are_asked_for_our_order_of_suites_decides() {
    let running = Running::start(|tls| tls).await;
    let theirs = rustls_client(&running.old, None);
    let first = theirs.crypto_provider().cipher_suites[0].suite();
    let agreed = running.connect(None).await.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(
        (first, agreed),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_AES_128_GCM_SHA256)
    );
}

/// A tunnel is nobody's request: it stays until it is to be cut.
#[tokio::test]
async fn tunnels_stay_or_are_cut() {
    for (then, is_cut) in
        [(OnTrustShrink::Keep, false), (OnTrustShrink::Drain, false), (OnTrustShrink::Close, true)]
    {
        let running = Running::start(|tls| tls.on_trust_shrink(then)).await;
        let mut tunnel = running.connect(None).await;
        let answer = said(&mut tunnel, TUNNEL).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert_eq!(said(&mut tunnel, b"one").await, "one");
        // One that is seen to be let go, so that it is known that all have been looked at.
        let mut plain = running.connect(None).await;
        assert!(said(&mut plain, GET).await.ends_with("hello"));
        // The same roots: nothing is lost.
        running.ours.set(Material::new(running.old.workload(ORDERS), running.old.trust()));
        assert_eq!(said(&mut tunnel, b"two").await, "two");
        running.forget();
        if then != OnTrustShrink::Keep {
            soon(async { while said(&mut plain, GET).await.contains("200 OK") {} }).await;
        }
        if is_cut {
            let mut rest = Vec::new();
            // It is not closed as TLS has it, and need not be.
            let _ = soon(tunnel.read_to_end(&mut rest)).await;
            assert!(rest.is_empty(), "{rest:?}");
        } else {
            assert_eq!(said(&mut tunnel, b"three").await, "three", "{then:?}");
        }
    }
}

#[tokio::test]
async fn http2_is_kept_or_told_to_go_or_cut() {
    for then in [OnTrustShrink::Keep, OnTrustShrink::Drain, OnTrustShrink::Close] {
        let running = Running::start(|tls| tls.on_trust_shrink(then)).await;
        let mut client = running.http2().await;
        assert_eq!(asked(&mut client).await.unwrap(), 200);
        running.forget();
        if then == OnTrustShrink::Keep {
            for _ in 0..3 {
                assert_eq!(asked(&mut client).await.unwrap(), 200);
            }
            continue;
        }
        let why = soon(async {
            loop {
                match asked(&mut client).await {
                    Ok(status) => assert_eq!(status, 200, "whoever is answered is answered well"),
                    Err(why) => return why,
                }
            }
        })
        .await;
        // The one is told, and the other is not.
        assert_eq!(why.is_go_away(), then == OnTrustShrink::Drain, "{why:?}");
    }
}

/// A request may be on its way at any moment, and one that is not to be sent twice would be lost.
#[tokio::test]
async fn an_http1_connection_is_told_with_its_next_answer() {
    let server = Server::new().drain_idle_timeout(Duration::from_secs(600));
    let running = Running::with(server, |tls| tls.on_trust_shrink(OnTrustShrink::Drain)).await;
    let (mut idle, mut other) = (running.connect(None).await, running.http2().await);
    assert!(said(&mut idle, GET).await.ends_with("hello"));
    assert_eq!(asked(&mut other).await.unwrap(), 200);
    running.forget();
    // Until connections have been looked at.
    soon(async { while asked(&mut other).await.is_ok() {} }).await;
    soon(async {
        loop {
            let answer = said(&mut idle, GET).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
            if answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
                break;
            }
        }
    })
    .await;
    assert_eq!(said(&mut idle, b"").await, "", "it is closed then");
}

/// Who is told to go and goes on asking is cut, once it has had the time to hear of it. Written by hand: no library does this.
#[tokio::test]
async fn who_does_not_hear_that_it_is_to_go_is_cut() {
    let running = Running::start(|tls| tls.on_trust_shrink(OnTrustShrink::Drain)).await;
    let mut stream = running.connect(Some(b"h2")).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (mut told_to_go, mut number) = (None, 1);
    let (mut forgotten, mut answered) = (false, 0);
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    let cut_after = soon(async {
        loop {
            if stream.write_all(&super::peer::request(number, "/")).await.is_err() {
                return told_to_go;
            }
            number += 2;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut buffer)).await;
            match read {
                Ok(Ok(0) | Err(_)) => return told_to_go,
                Ok(Ok(length)) => pending.extend_from_slice(&buffer[..length]),
                Err(_) => {}
            }
            // Frames: HEADERS are 1, GOAWAY is 7; the answer to a PING, by which we would agree, is never given.
            while pending.len() >= 9 {
                let length = u32::from_be_bytes([0, pending[0], pending[1], pending[2]]) as usize;
                if pending.len() < 9 + length {
                    break;
                }
                match pending[3] {
                    1 if told_to_go.is_some() => answered += 1,
                    1 if !forgotten => {
                        forgotten = true;
                        running.forget();
                    }
                    7 => _ = told_to_go.get_or_insert(number),
                    _ => {}
                }
                pending.drain(..9 + length);
            }
        }
    })
    .await;
    cut_after.expect("it is told to go before it is cut");
    assert!(answered > 10, "it has the time to hear of it");
}

/// An upstream of that server alone, and what it is believed by.
fn upstream(running: &Running, then: OnTrustShrink, wire: Wire) -> (Proxy, Credentials) {
    let theirs = credentials(running.old.workload(CARTS), running.old.trust());
    let tls = ClientTls::mutual(&theirs).on_trust_shrink(then);
    let endpoint = format!("localhost:{}", running.address.port());
    let upstream = Upstream::builder("orders").endpoint(&*endpoint).tls(&tls).wire(wire).build().unwrap();
    (Proxy::new(upstream), theirs)
}

pub(super) async fn through(proxy: &Proxy, path: &str) -> Result<String, String> {
    let mut request = Request::get(format!("http://localhost{path}")).body(Body::empty()).unwrap();
    request.extensions_mut().insert(PeerAddr::new(loopback()));
    let answer = soon(proxy.clone().oneshot(request)).await.map_err(|error| format!("{error:?}"))?;
    let (head, body) = answer.into_parts();
    let body = soon(body.collect()).await.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if head.status == StatusCode::OK { Ok(text) } else { Err(format!("{} {text}", head.status)) }
}

/// What is in flight to a server that is not believed any more is finished, unless it is to be cut; nothing new is sent there.
#[tokio::test]
async fn connections_to_servers_that_are_not_believed_any_more_are_kept_or_let_go() {
    for wire in [Wire::Http1, Wire::Http2] {
        for then in [OnTrustShrink::Keep, OnTrustShrink::Drain, OnTrustShrink::Close] {
            let running = Running::start(|tls| tls).await;
            let (proxy, theirs) = upstream(&running, then, wire);
            assert_eq!(through(&proxy, "/").await.unwrap(), "hello");
            let waiting = tokio::spawn({
                let proxy = proxy.clone();
                async move { through(&proxy, "/wait").await }
            });
            until(|| running.site.begun() == 2).await;
            // Another identity, and the same roots: all as before.
            theirs.set(Material::new(running.old.workload(CARTS), running.old.trust()));
            assert_eq!(through(&proxy, "/").await.unwrap(), "hello");
            let opened = running.connections.opened.load(Ordering::SeqCst);
            theirs.set(Material::new(running.old.workload(CARTS), Authority::new("new").trust()));
            if then == OnTrustShrink::Keep {
                assert_eq!(through(&proxy, "/").await.unwrap(), "hello");
                assert_eq!(running.connections.opened.load(Ordering::SeqCst), opened, "{wire:?}");
            } else {
                soon(async { while through(&proxy, "/").await.is_ok() {} }).await;
                let begun = running.site.begun();
                through(&proxy, "/").await.unwrap_err();
                assert_eq!(running.site.begun(), begun, "nothing new gets there");
            }
            if then != OnTrustShrink::Close {
                running.site.open();
            }
            let waited = soon(waiting).await.unwrap();
            assert_eq!(waited.is_ok(), then != OnTrustShrink::Close, "{wire:?} {then:?}: {waited:?}");
            if then != OnTrustShrink::Keep {
                until(|| running.connections.open() == 0).await;
                until(|| running.site.alive() == 0).await;
            }
        }
    }
}

/// A WebSocket, as far as that is a tunnel, from a client in plain text.
#[tokio::test]
async fn tunnels_to_servers_that_are_not_believed_any_more_stay_or_are_cut() {
    for (then, is_cut) in [(OnTrustShrink::Drain, false), (OnTrustShrink::Close, true)] {
        let running = Running::start(|tls| tls).await;
        let (proxy, theirs) = upstream(&running, then, Wire::Http1);
        let (edge, drain) = (Listener::bind(loopback()).unwrap(), Drain::new());
        let address = edge.local_addr().unwrap();
        tokio::spawn(Server::new().drain(&drain).serve(edge, RescueLayer::new().layer(proxy.clone())));
        let mut client = Peer::connect(address).await;
        client.send(TUNNEL).await;
        let head = client.response().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let mut echo = async |said: &[u8; 3]| {
            client.flood(said).await;
            let mut heard = [0; 3];
            soon(client.0.read_exact(&mut heard)).await.map(|_| heard == *said)
        };
        assert!(echo(b"one").await.unwrap());
        theirs.set(Material::new(running.old.workload(CARTS), Authority::new("new").trust()));
        soon(async { while through(&proxy, "/").await.is_ok() {} }).await;
        if is_cut {
            soon(async { while echo(b"two").await.is_ok() {} }).await;
        } else {
            assert!(echo(b"two").await.unwrap());
        }
    }
}

/// Who comes back with a session of before would not be verified: whole handshakes only, by TLS 1.2 as by TLS 1.3. Those whose
/// root was removed are not let in again.
#[tokio::test]
async fn sessions_of_before_are_worth_nothing() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let running = Running::start(|tls| tls).await;
        let theirs = running.old.sign(|params| params.subject_alt_names = vec![uri(CARTS)]);
        let config = rustls_client_of(&running.old, Some(&theirs), &[version]);
        let connect = async || {
            let stream = TcpStream::connect(running.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = soon(TlsConnector::from(Arc::clone(&config)).connect(name, stream)).await?;
            // By TLS 1.3 the client learns here that it was refused.
            let answer = said(&mut stream, GET).await;
            let kind = stream.get_ref().1.handshake_kind();
            Ok::<_, std::io::Error>((answer.ends_with("hello"), kind))
        };
        for _ in 0..3 {
            assert_eq!(connect().await.unwrap(), (true, Some(HandshakeKind::Full)), "{version:?}");
        }
        running.forget();
        let told = connect().await;
        assert!(told.as_ref().is_ok_and(|(is_served, _)| !is_served) || told.is_err(), "{told:?}");
    }
}

/// Each with each, of both sides; one process has both.
#[cfg(feature = "ring")]
#[tokio::test]
async fn ring_and_aws_lc_understand_each_other() {
    use portcullis::tls::Crypto::{AwsLc, Ring};

    for (of_server, of_client) in [(Ring, Ring), (Ring, AwsLc), (AwsLc, Ring), (AwsLc, AwsLc)] {
        let running = Running::start(|tls| tls.crypto(of_server)).await;
        let theirs = credentials(running.old.workload(CARTS), running.old.trust());
        let tls = ClientTls::mutual(&theirs).crypto(of_client);
        assert_eq!(ask(running.address, &tls).await.unwrap(), "hello", "{of_server:?} {of_client:?}");
        let stranger = credentials(Authority::new("old").workload(CARTS), running.old.trust());
        ask(running.address, &ClientTls::mutual(&stranger).crypto(of_client)).await.unwrap_err();
        let other = credentials(running.old.workload(CARTS), Authority::new("old").trust());
        ask(running.address, &ClientTls::mutual(&other).crypto(of_client)).await.unwrap_err();
        // Standing connections are looked at by it, too.
        let mut client = running.http2().await;
        assert_eq!(asked(&mut client).await.unwrap(), 200);
        running.forget();
        soon(async { while asked(&mut client).await.is_ok() {} }).await;
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "nothing is installed");
}

/// The same of us and servers that offer to resume: where roots can change we do not, and where they are fixed we do.
#[tokio::test]
async fn we_come_back_with_no_session_where_roots_can_change() {
    let authority = Authority::new("shop");
    let (chain, key) = authority.sign(|params| {
        params.subject_alt_names = vec![uri(ORDERS), SanType::DnsName("localhost".try_into().unwrap())];
    });
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let acceptor =
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let ours = Credentials::new(Material::new(None, authority.trust()));
    for (tls, second) in [
        (ClientTls::trusting(authority.trust()), HandshakeKind::Resumed),
        (ClientTls::trusting_in(&ours), HandshakeKind::Full),
        (ClientTls::mutual(&ours), HandshakeKind::Full),
        (ClientTls::trusting(authority.trust()).trust(&ours), HandshakeKind::Full),
    ] {
        let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = acceptor.clone();
        let server = tokio::spawn(async move {
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                kinds.push(stream.get_ref().1.handshake_kind().unwrap());
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                let _ = stream.shutdown().await;
            }
            kinds
        });
        for _ in 0..2 {
            assert_eq!(ask(address, &tls).await.unwrap(), "ok");
        }
        assert_eq!(soon(server).await.unwrap(), [HandshakeKind::Full, second], "{tls:?}");
    }
}
