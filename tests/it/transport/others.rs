//! The listener, the connection layer and the drain handle in axum, tonic and hyper.

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, extract::Extension, routing::get};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use portcullis::{
    body::Body,
    identity::{ClientAddr, PeerAddr},
    transport::{Connection, Drain, Listener, ProxyProtocol, Watch},
    tunnel::Tunnel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{ServiceBuilder, ServiceExt};

use super::{SHORT, Site, loopback, peer::Peer, soon, until};

fn app(site: &Site, drain: &Drain) -> Router {
    let site = site.clone();
    Router::new()
        .route("/", get(|Extension(client): Extension<ClientAddr>| async move { client.to_string() }))
        .fallback_service(site.service().map_request(|request: Request<_>| request.map(Body::new)))
        .layer(Connection::new().trusted_proxies("127.0.0.0/8".parse().unwrap()).layer())
        .layer(drain.layer())
}

/// While an answer streams so many are in flight; the end waits for that answer, and for nothing else.
async fn ends_after_its_answer(mut peer: Peer, site: &Site, drain: &Drain, in_flight: usize) {
    peer.get("/stream").await;
    until(|| site.begun() == 1 && drain.in_flight() == in_flight).await;
    drain.start();
    let waiting = tokio::spawn({
        let drain = drain.clone();
        async move { drain.wait(Duration::from_secs(10)).await }
    });
    site.open();
    assert!(peer.rest_as_text().await.ends_with("3\r\ntwo\r\n0\r\n\r\n"));
    assert_eq!(soon(waiting).await.unwrap(), 0);
}

#[tokio::test]
async fn axum_on_our_listener() {
    let (site, drain) = (Site::default(), Drain::new());
    let policy = ProxyProtocol::from_trusted(["127.0.0.0/8".parse().unwrap()]);
    let listener = Listener::builder().proxy_protocol(policy).bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let service = app(&site, &drain).into_make_service_with_connect_info::<PeerAddr>();
    let server =
        tokio::spawn(axum::serve(listener, service).with_graceful_shutdown(drain.signalled()).into_future());

    let mut peer = Peer::connect(address).await;
    peer.send("PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n").await;
    peer.get("/").await;
    assert!(peer.response().await.ends_with("192.0.2.7:1234"));
    ends_after_its_answer(peer, &site, &drain, 1).await;
    soon(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn axum_on_its_own_listener() {
    let (site, drain) = (Site::default(), Drain::new());
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app(&site, &drain).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());
    let mut peer = Peer::connect(address).await;
    peer.send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 1.1.1.1, 192.0.2.8\r\n\r\n").await;
    assert!(peer.response().await.ends_with("\r\n\r\n192.0.2.8"));

    peer.get("/wait").await;
    until(|| drain.in_flight() == 1).await;
    drain.start();
    assert_eq!(soon(drain.wait(SHORT)).await, 1);
    site.open();
    assert!(peer.response().await.ends_with("waited"));
    peer.get("/").await;
    assert!(peer.response().await.starts_with("HTTP/1.1 503"), "cut");
}

/// Whoever serves a connection tells its requests who the peer is, and the connection when it is to end.
async fn served<I>(io: I, peer: PeerAddr, watch: Watch, app: Router)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let told = ServiceBuilder::new().map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let http = auto::Builder::new(TokioExecutor::new());
    let mut connection =
        pin!(http.serve_connection(TokioIo::new(io), TowerToHyperService::new(told.service(app))));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = watch.drain().signalled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[tokio::test]
async fn hyper_on_our_listener_and_its_own() {
    for is_ours in [true, false] {
        let (site, drain) = (Site::default(), Drain::new());
        let (app, counted) = (app(&site, &drain), drain.clone());
        let address = if is_ours {
            let policy = ProxyProtocol::from_trusted(["127.0.0.0/8".parse().unwrap()]);
            let mut listener = Listener::builder().proxy_protocol(policy).bind(loopback()).unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Some(io) = listener.next().await {
                    let peer = io.peer();
                    tokio::spawn(served(io, peer, counted.watch(), app.clone()));
                }
            });
            address
        } else {
            let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                loop {
                    let (io, peer) = listener.accept().await.unwrap();
                    tokio::spawn(served(io, PeerAddr::new(peer), counted.watch(), app.clone()));
                }
            });
            address
        };
        let mut peer = Peer::connect(address).await;
        if is_ours {
            peer.send("PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n").await;
            peer.get("/").await;
            assert!(peer.response().await.ends_with("192.0.2.7:1234"));
        } else {
            peer.send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 1.1.1.1, 192.0.2.8\r\n\r\n").await;
            assert!(peer.response().await.ends_with("\r\n\r\n192.0.2.8"));
        }
        // The connection, and its request.
        ends_after_its_answer(peer, &site, &drain, 2).await;
    }
}

/// axum does not tell when a WebSocket closes; who serves it does, and the request is in flight until then.
#[tokio::test]
async fn a_websocket_of_axums_is_in_flight_while_its_guard_lives() {
    use axum::extract::ws::{WebSocket, WebSocketUpgrade};

    let drain = Drain::new();
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let upgrade = async |asked: WebSocketUpgrade| {
        let (tunnel, guard) = Tunnel::new();
        let answer = asked.on_upgrade(move |mut socket: WebSocket| async move {
            while socket.recv().await.is_some_and(|message| message.is_ok()) {}
            drop(guard);
        });
        (Extension(tunnel), answer)
    };
    let app = Router::new().route("/", get(upgrade)).layer(drain.layer());
    tokio::spawn(axum::serve(listener, app).into_future());
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/")).await.unwrap();
    drain.start();
    assert_eq!(drain.in_flight(), 1);
    socket.close(None).await.unwrap();
    assert_eq!(soon(drain.wait(Duration::from_secs(10))).await, 0);
}

#[tokio::test]
async fn tonic_on_our_listener_and_its_own() {
    let drain = Drain::new();
    let ours = Listener::bind(loopback()).unwrap();
    let theirs = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let addresses = [ours.local_addr().unwrap(), theirs.local_addr().unwrap()];
    let router = || {
        let (_, health) = tonic_health::server::health_reporter();
        tonic::transport::Server::builder()
            .layer(drain.layer())
            .layer(Connection::new().layer())
            .add_service(health)
    };
    let servers = [
        tokio::spawn(router().serve_with_incoming_shutdown(ours.into_incoming(), drain.signalled())),
        tokio::spawn(router().serve_with_incoming_shutdown(
            tokio_stream::wrappers::TcpListenerStream::new(theirs),
            drain.signalled(),
        )),
    ];
    for address in addresses {
        let channel = tonic::transport::Endpoint::try_from(format!("http://{address}")).unwrap();
        let mut client = HealthClient::new(soon(channel.connect()).await.unwrap());
        let answer = soon(client.check(HealthCheckRequest { service: String::new() })).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "the connection layer has found the peer");
    }
    drain.start();
    assert_eq!(soon(drain.wait(Duration::from_secs(10))).await, 0);
    for server in servers {
        soon(server).await.unwrap().unwrap();
    }
}

/// The caller's identity reaches handlers of both, and a handshake that never ends keeps nobody waiting, although both accept
/// one connection after the other.
#[cfg(all(feature = "stack", feature = "tls"))]
#[tokio::test]
async fn axum_and_tonic_within_tls() {
    use portcullis::{
        identity::PeerIdentity,
        stack::mesh::Client,
        tls::{ClientTls, ServerTls},
        transport::Peer as Who,
        upstream::Upstream,
    };
    use tonic::{Status, service::interceptor::InterceptedService};

    use super::tls::ask;
    use crate::support::certificates::{Authority, credentials};

    const CARTS: &str = "spiffe://shop.example/carts";
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let listen = || Listener::builder().tls(ServerTls::mutual(&ours)).bind(loopback()).unwrap();
    let listeners = [listen(), listen()];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let mut silent = Vec::new();
    for address in addresses.iter().flat_map(|address| [address; 20]) {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let [of_axum, of_tonic] = listeners;

    let who = get(|peer: PeerIdentity| async move { peer.name().unwrap().to_owned() });
    let app = Router::new().route("/", who).layer(Connection::new().layer());
    tokio::spawn(axum::serve(of_axum, app.into_make_service_with_connect_info::<Who>()).into_future());
    let (_, health) = tonic_health::server::health_reporter();
    let health = InterceptedService::new(health, |request: tonic::Request<()>| {
        let peer = request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::spiffe_id);
        if peer == Some(CARTS) { Ok(request) } else { Err(Status::permission_denied("who?")) }
    });
    let server = tonic::transport::Server::builder().layer(Connection::new().layer()).add_service(health);
    tokio::spawn(server.serve_with_incoming(of_tonic.into_incoming()));

    for (id, is_let_in) in [(CARTS, true), ("spiffe://shop.example/stock", false)] {
        let tls = ClientTls::mutual(&credentials(authority.workload(id), authority.trust()));
        assert_eq!(ask(addresses[0], &tls).await.unwrap(), id);
        let upstream = Upstream::builder("health").endpoint(format!("localhost:{}", addresses[1].port()));
        let mut client = HealthClient::new(Client::new(upstream.tls(&tls).build().unwrap()).unwrap());
        let answer = soon(client.check(HealthCheckRequest { service: String::new() })).await;
        assert_eq!(answer.is_ok(), is_let_in, "{id}: {answer:?}");
    }
    let nobody = ClientTls::trusting(authority.trust());
    ask(addresses[0], &nobody).await.unwrap_err();
}

/// Who calls is told by what tonic has verified.
#[cfg(feature = "tls")]
#[tokio::test]
async fn tonic_within_tls_of_its_own() {
    use portcullis::identity::PeerIdentity;
    use rcgen::SanType;
    use tonic::{
        Status,
        service::interceptor::InterceptedService,
        transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig},
    };

    use crate::support::certificates::{Authority, uri};

    const CARTS: &str = "spiffe://shop.example/carts";
    let authority = Authority::new("shop");
    let workload = |id: &str| {
        let names = vec![uri(id), SanType::DnsName("localhost".try_into().unwrap())];
        let (chain, key) = authority.sign(|params| params.subject_alt_names = names);
        Identity::from_pem(chain, key)
    };
    let root = || Certificate::from_pem(authority.pem());
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_, health) = tonic_health::server::health_reporter();
    let health = InterceptedService::new(health, |request: tonic::Request<()>| {
        let peer = request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::spiffe_id);
        let client = request.extensions().get::<ClientAddr>().map(|client| client.ip().is_loopback());
        match (peer, client) {
            (Some(CARTS), Some(true)) => Ok(request),
            _ => Err(Status::permission_denied("who?")),
        }
    });
    let tls =
        ServerTlsConfig::new().identity(workload("spiffe://shop.example/orders")).client_ca_root(root());
    let mut server = Server::builder().tls_config(tls).unwrap().layer(Connection::new().layer());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(server.add_service(health).serve_with_incoming(incoming));

    for (id, is_let_in) in [(CARTS, true), ("spiffe://shop.example/stock", false)] {
        let tls =
            ClientTlsConfig::new().ca_certificate(root()).identity(workload(id)).domain_name("localhost");
        let endpoint =
            Endpoint::try_from(format!("https://localhost:{port}")).unwrap().tls_config(tls).unwrap();
        let mut client = HealthClient::new(soon(endpoint.connect()).await.unwrap());
        let answer = soon(client.check(HealthCheckRequest { service: String::new() })).await;
        assert_eq!(answer.is_ok(), is_let_in, "{id}: {answer:?}");
    }
}

#[cfg(all(feature = "tls", feature = "upstream"))]
mod within_tls {
    use std::sync::Arc;

    use bytes::Bytes;
    use portcullis::{
        tls::{Credentials, Material, OnTrustShrink, ServerTls},
        transport::{CertificateHosts, Peer as Who},
    };
    use rustls::pki_types::ServerName;
    use tokio::net::TcpStream;
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::{
        super::{
            pass,
            tls::rustls_client,
            trust::{GET, asked, said},
        },
        *,
    };
    use crate::support::certificates::{Authority, credentials, uri};

    const ORDERS: &str = "spiffe://shop.example/orders";
    const HOUR: Duration = Duration::from_secs(3_600);

    /// A client of one of those servers, and what it knows of the other end.
    enum Client {
        Http1(Box<TlsStream<TcpStream>>),
        Http2(h2::client::SendRequest<Bytes>),
    }

    impl Client {
        async fn is_answered(&mut self) -> bool {
            match self {
                Self::Http1(stream) => said(stream, GET).await.starts_with("HTTP/1.1 200"),
                Self::Http2(client) => asked(client).await.is_ok_and(|status| status == 200),
            }
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum At {
        Axum(bool),
        Tonic,
    }

    const ALL: [At; 3] = [At::Axum(false), At::Axum(true), At::Tonic];

    struct Running {
        ours: Credentials,
        old: Authority,
        address: SocketAddr,
    }

    fn start(at: At, then: OnTrustShrink) -> Running {
        let old = Authority::new("old");
        let ours = credentials(old.workload(ORDERS), old.trust());
        let tls = ServerTls::mutual(&ours).on_trust_shrink(then);
        let listener = Listener::builder().tls(tls).bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        if at == At::Tonic {
            let (_, health) = tonic_health::server::health_reporter();
            let server = tonic::transport::Server::builder().layer(Connection::new().layer());
            let server = server.layer(CertificateHosts::new().layer()).add_service(health);
            tokio::spawn(server.serve_with_incoming(listener.into_incoming()));
        } else {
            let app = Router::new()
                .route("/", get(|| async { "hello" }))
                .layer(CertificateHosts::new().layer())
                .layer(Connection::new().layer());
            let app = app.into_make_service_with_connect_info::<Who>();
            tokio::spawn(axum::serve(listener, app).into_future());
        }
        Running { ours, old, address }
    }

    impl Running {
        async fn client(&self, at: At) -> Client {
            let theirs = self.old.sign(|params| {
                params.subject_alt_names = vec![uri("spiffe://shop.example/carts")];
                params.not_after = (std::time::SystemTime::now() + HOUR).into();
            });
            let is_http2 = at != At::Axum(false);
            let mut config = (*rustls_client(&self.old, Some(&theirs))).clone();
            config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
            let stream = TcpStream::connect(self.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap();
            if !is_http2 {
                return Client::Http1(Box::new(stream));
            }
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Client::Http2(client)
        }
    }

    /// Nobody can tell these servers that a connection is to take no more requests: what is in flight has its time, and then it is
    /// cut.
    #[tokio::test]
    async fn a_connection_ends_with_the_certificate() {
        for at in ALL {
            let running = start(at, OnTrustShrink::Keep);
            let mut client = running.client(at).await;
            assert!(client.is_answered().await, "{at:?}");
            pass(HOUR).await;
            assert!(client.is_answered().await, "{at:?}: what is on its way has its time");
            pass(Duration::from_secs(31)).await;
            assert!(!client.is_answered().await, "{at:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_whose_root_is_gone_is_kept_or_cut() {
        for (at, then) in ALL.into_iter().flat_map(|at| {
            [OnTrustShrink::Keep, OnTrustShrink::Drain, OnTrustShrink::Close].map(|then| (at, then))
        }) {
            let running = start(at, then);
            let mut client = running.client(at).await;
            assert!(client.is_answered().await, "{at:?}");
            let trust = Authority::new("new").trust();
            running.ours.set(Material::new(running.old.workload(ORDERS), trust));
            if then == OnTrustShrink::Close {
                soon(async { while client.is_answered().await {} }).await;
                continue;
            }
            // Of the 30 s that it has then: the clock goes on meanwhile.
            for _ in 0..2 {
                pass(Duration::from_secs(7)).await;
                assert!(client.is_answered().await, "{at:?} {then:?}");
            }
            let mut lasts = 0;
            while lasts < 20 && client.is_answered().await {
                pass(Duration::from_secs(14)).await;
                lasts += 1;
            }
            assert_eq!(lasts == 20, then == OnTrustShrink::Keep, "{at:?} {then:?}: {lasts}");
        }
    }

    #[tokio::test]
    async fn a_host_that_the_certificate_is_not_for_is_refused() {
        let running = start(At::Axum(false), OnTrustShrink::Keep);
        let Client::Http1(mut stream) = running.client(At::Axum(false)).await else { panic!("HTTP/1") };
        for (host, status) in [("localhost", 200), ("other.example", 421), ("localhost", 200)] {
            let answer =
                said(&mut stream, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        }
        for at in [At::Axum(true), At::Tonic] {
            let running = start(at, OnTrustShrink::Keep);
            let Client::Http2(client) = running.client(at).await else { panic!("HTTP/2") };
            for (host, status, code) in [("localhost", 200, None), ("other.example", 421, Some("14"))] {
                let mut request =
                    Request::post(format!("https://{host}/grpc.health.v1.Health/Check")).body(()).unwrap();
                if at == At::Tonic {
                    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                } else {
                    *request.method_mut() = http::Method::GET;
                    *request.uri_mut() = format!("https://{host}/").parse().unwrap();
                }
                let (answer, mut body) =
                    soon(client.clone().ready()).await.unwrap().send_request(request, false).unwrap();
                // An empty message.
                let message = if at == At::Tonic { Bytes::from_static(&[0; 5]) } else { Bytes::new() };
                let _ = body.send_data(message, true);
                let answer = soon(answer).await.unwrap();
                let told = answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
                match at {
                    At::Tonic => {
                        assert_eq!((answer.status().as_u16(), told.as_deref()), (200, code), "{host}");
                    }
                    At::Axum(_) => assert_eq!(answer.status(), status, "{host}"),
                }
            }
        }
    }
}
