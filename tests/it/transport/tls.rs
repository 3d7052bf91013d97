//! TLS on a listener, over real sockets: who is let in, who is told why not, and what changes while it runs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use portcullis::{
    body::Body,
    identity::{PeerIdentity, TlsSession},
    tls::{
        ClientCertificates, ClientTls, Credentials, Identity, Material, OnTrustShrink, ServerId, ServerTls,
        Trust,
    },
    transport::{ConnectionObserver, Drain, Listener, Misuse, Server},
};
use rcgen::{CertificateParams, SanType, SerialNumber, date_time_ymd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::service_fn;

use super::{loopback, pass, soon, until};
use crate::support::certificates::{Authority, credentials, uri};

#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<Misuse>>);

struct Observer(Arc<Seen>);

impl ConnectionObserver for Observer {
    fn opened(&self) {}
    fn closed(&self) {}
    fn refused(&self) {}
    fn cut(&self, _: portcullis::identity::PeerAddr, how: Misuse) {
        self.0.0.lock().unwrap().push(how);
    }
}

pub(super) struct Running {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
    drain: Drain,
}

/// Says who asks: `name of the peer, name that it asked for`.
pub(super) async fn serve(tls: ServerTls) -> Running {
    let who = service_fn(async |request: Request<Body>| {
        let extensions = request.extensions();
        let peer = extensions.get::<PeerIdentity>().and_then(|peer| peer.name()).unwrap_or("nobody");
        let asked =
            extensions.get::<TlsSession>().map_or("plain", |tls| tls.server_name().unwrap_or("no name"));
        Ok::<_, std::convert::Infallible>(Response::new(Body::from(format!("{peer}, {asked}"))))
    });
    let (seen, drain) = (Arc::<Seen>::default(), Drain::new());
    let observer = Arc::new(Observer(Arc::clone(&seen)));
    let listener = Listener::builder().tls(tls).observer(observer).bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new().drain(&drain).serve(listener, who));
    Running { address, seen, drain }
}

/// What the server says to who comes so; an error if there is none.
pub(super) async fn ask(address: SocketAddr, tls: &ClientTls) -> Result<String, String> {
    let client = portcullis::upstream::Client::builder().tls(tls.clone()).build();
    let request = Request::get(format!("https://localhost:{}/", address.port())).body(Body::empty()).unwrap();
    let answer = soon(tower::ServiceExt::oneshot(client, request)).await.map_err(|error| {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(error) = next {
            text += &format!(": {error}");
            next = error.source();
        }
        text
    })?;
    let body = soon(answer.into_body().collect()).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn a_workload_knows_who_asks() {
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let theirs = credentials(authority.workload("spiffe://shop.example/carts"), authority.trust());
    let running = serve(ServerTls::mutual(&ours)).await;
    let asked = ask(running.address, &ClientTls::mutual(&theirs)).await;
    assert_eq!(asked.unwrap(), "spiffe://shop.example/carts, localhost");
    for (server, is_right) in [
        (ServerId::Spiffe("spiffe://shop.example/orders".parse().unwrap()), true),
        (ServerId::Spiffe("spiffe://shop.example/carts".parse().unwrap()), false),
        (ServerId::TrustDomain("shop.example".parse().unwrap()), true),
        (ServerId::TrustDomain("example".parse().unwrap()), false),
    ] {
        let asked = ask(running.address, &ClientTls::mutual(&theirs).server(server.clone())).await;
        assert_eq!(asked.is_ok(), is_right, "{server:?}: {asked:?}");
    }
}

/// Who has begun a handshake is waited for.
#[tokio::test]
async fn who_begins_no_handshake_holds_nobody_up() {
    let authority = Authority::new("public");
    let ours = credentials(authority.issue(|_| {}), authority.trust());
    let running = serve(ServerTls::new(&ours).handshake_timeout(Duration::from_secs(600))).await;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(rustls_client(&authority, None), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut begun = TcpStream::connect(running.address).await.unwrap();
    begun.write_all(&hello[..1]).await.unwrap();
    running.drain.start();
    assert_eq!(soon(silent.read(&mut [0])).await.unwrap(), 0);
    begun.write_all(&hello[1..]).await.unwrap();
    assert_eq!(soon(begun.read_u8()).await.unwrap(), hello[0], "the server shakes hands");
    drop(begun);
    assert_eq!(soon(running.drain.wait(Duration::from_secs(15))).await, 0);
    assert_eq!(running.seen.0.lock().unwrap().len(), 1, "of who was silent nothing is told");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn who_is_not_believed_is_not_let_in() {
    let (authority, other) = (Authority::new("shop"), Authority::new("shop"));
    let ours = authority.workload("spiffe://shop.example/orders");
    let trust = authority.revoking(7, 2100);
    let running = serve(ServerTls::mutual(&credentials(ours.clone(), trust))).await;
    let server = authority.trust();
    let named =
        |params: &mut CertificateParams| params.subject_alt_names = vec![uri("spiffe://shop.example/carts")];
    let come = |identity: Option<Identity>| {
        let tls = ClientTls::mutual(&Credentials::new(Material::new(identity, server.clone())));
        async move { ask(running.address, &tls).await }
    };
    assert_eq!(come(Some(authority.issue(named))).await.unwrap(), "spiffe://shop.example/carts, localhost");
    let bad = [
        ("no certificate", None),
        ("another root", Some(other.issue(named))),
        (
            "expired",
            Some(authority.issue(|params| {
                named(params);
                (params.not_before, params.not_after) =
                    (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
            })),
        ),
        (
            "not yet valid",
            Some(authority.issue(|params| {
                named(params);
                (params.not_before, params.not_after) =
                    (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
            })),
        ),
        (
            "revoked",
            Some(authority.issue(|params| {
                named(params);
                params.serial_number = Some(SerialNumber::from(7));
            })),
        ),
        (
            "for servers only",
            Some(authority.issue(|params| {
                named(params);
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
    ];
    let count = bad.len();
    for (what, identity) in bad {
        let asked = come(identity).await;
        assert!(asked.is_err(), "{what}: {asked:?}");
    }
    until(|| running.seen.0.lock().unwrap().len() == count).await;
    assert!(running.seen.0.lock().unwrap().iter().all(|how| *how == Misuse::Handshake));

    // Of several lists of one issuer one that names the certificate decides, and one that is over says nothing.
    let of = |lists: &[(u64, i32)]| {
        lists.iter().fold(authority.trust(), |trust, (serial, until)| {
            trust.revocation_lists(authority.revoked(*serial, *until).pem().unwrap().as_bytes()).unwrap()
        })
    };
    for lists in [[(8, 2100), (7, 2100)], [(7, 2100), (8, 2100)], [(8, 2026), (7, 2100)]] {
        let running = serve(ServerTls::mutual(&credentials(ours.clone(), of(&lists)))).await;
        for (serial, is_let_in) in [(7, false), (9, true)] {
            let theirs = authority.issue(|params| {
                named(params);
                params.serial_number = Some(SerialNumber::from(serial));
            });
            let asked =
                ask(running.address, &ClientTls::mutual(&credentials(theirs, authority.trust()))).await;
            assert_eq!(asked.is_ok(), is_let_in, "{lists:?} {serial}: {asked:?}");
        }
    }

    // A list that is over lets nobody in.
    let running = serve(ServerTls::mutual(&credentials(ours, authority.revoking(7, 2026)))).await;
    let tls = ClientTls::mutual(&credentials(authority.issue(named), authority.trust()));
    ask(running.address, &tls).await.unwrap_err();
}

#[tokio::test]
async fn a_domain_speaks_for_itself_alone() {
    let (shop, partner) = (Authority::new("shop"), Authority::new("partner"));
    let of = |name: &str| name.parse().unwrap();
    let trust = Trust::none()
        .trust_domain(of("shop.example"), shop.0.pem().as_bytes())
        .unwrap()
        .trust_domain(of("partner.example"), partner.0.pem().as_bytes())
        .unwrap();
    let running =
        serve(ServerTls::mutual(&credentials(shop.workload("spiffe://shop.example/orders"), trust))).await;
    for (authority, id, is_let_in) in [
        (&shop, "spiffe://shop.example/carts", true),
        (&partner, "spiffe://partner.example/carts", true),
        (&partner, "spiffe://shop.example/carts", false),
        (&shop, "spiffe://partner.example/carts", false),
        (&shop, "spiffe://other.example/carts", false),
    ] {
        let tls = ClientTls::mutual(&credentials(authority.workload(id), shop.trust()));
        let asked = ask(running.address, &tls).await;
        assert_eq!(asked.is_ok(), is_let_in, "{id}: {asked:?}");
    }
}

/// Another domain's roots vouch for its SPIFFE IDs, and for no host names.
#[tokio::test]
async fn a_federated_domain_is_no_server_of_ours_by_name() {
    let (shop, partner) = (Authority::new("shop"), Authority::new("partner"));
    let trust = Trust::none()
        .trust_domain("shop.example".parse().unwrap(), shop.0.pem().as_bytes())
        .unwrap()
        .trust_domain("partner.example".parse().unwrap(), partner.0.pem().as_bytes())
        .unwrap();
    let ours = credentials(shop.workload("spiffe://shop.example/web"), trust.clone());
    let of = |authority: &Authority, id| credentials(authority.workload(id), trust.clone());
    for (theirs, server, is_believed) in [
        (of(&shop, "spiffe://shop.example/orders"), ServerId::Host, true),
        (of(&partner, "spiffe://partner.example/orders"), ServerId::Host, false),
        (of(&partner, "spiffe://partner.example/orders"), ServerId::Name("localhost".into()), false),
        (
            of(&partner, "spiffe://partner.example/orders"),
            ServerId::Spiffe("spiffe://partner.example/orders".parse().unwrap()),
            true,
        ),
    ] {
        let running = serve(ServerTls::mutual(&theirs)).await;
        let asked = ask(running.address, &ClientTls::mutual(&ours).server(server.clone())).await;
        assert_eq!(asked.is_ok(), is_believed, "{server:?}: {asked:?}");
    }
}

#[tokio::test]
async fn what_is_told_is_in_force_at_once() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let ours = credentials(old.workload("spiffe://shop.example/orders"), old.trust());
    let running = serve(ServerTls::mutual(&ours)).await;
    let theirs = credentials(old.workload("spiffe://shop.example/carts"), old.trust());
    let tls = ClientTls::mutual(&theirs);
    ask(running.address, &tls).await.unwrap();
    // The root of before is believed no longer, and that is so for sessions of before as well.
    ours.set(Material::new(new.workload("spiffe://shop.example/orders"), new.trust()));
    ask(running.address, &tls).await.unwrap_err();
    theirs.set(Material::new(new.workload("spiffe://shop.example/carts"), new.trust()));
    ask(running.address, &tls).await.unwrap();
    let status = ours.status();
    assert_eq!((status.rotations, status.failures), (2, 0));
}

#[tokio::test]
async fn certificates_are_shown_by_name() {
    let authority = Authority::new("public");
    let of = |name: &'static str| {
        let dns = move |params: &mut CertificateParams| {
            params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        };
        credentials(authority.issue(dns), authority.trust())
    };
    let (local, shop) = (of("localhost"), of("*.shop.example"));
    let leaf = |of: &Credentials| {
        let material = of.current().unwrap();
        material.identity.as_ref().unwrap().names().chain().next().unwrap().to_vec()
    };
    let running = serve(ServerTls::new(&local).certificate(&shop)).await;
    for (name, shown) in
        [("localhost", Some(&local)), ("www.shop.example", Some(&shop)), ("other.example", None)]
    {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let config = rustls_client(&authority, None);
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        let connected = tokio_rustls::TlsConnector::from(config).connect(name.clone(), stream).await;
        match (connected, shown) {
            (Ok(stream), Some(shown)) => {
                assert_eq!(
                    stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(),
                    leaf(shown),
                    "{name:?}"
                );
            }
            // Who asks for a name that nobody has is shown the first, and sees that it is another's.
            (Err(error), None) => assert!(error.to_string().contains(r#"DnsName("localhost")"#), "{error}"),
            (connected, _) => panic!("{name:?}: {:?}", connected.map(drop)),
        }
    }
}

pub(super) fn rustls_client(
    authority: &Authority,
    identity: Option<&(String, String)>,
) -> Arc<rustls::ClientConfig> {
    rustls_client_of(authority, identity, rustls::ALL_VERSIONS)
}

pub(super) fn rustls_client_of(
    authority: &Authority,
    identity: Option<&(String, String)>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = config.with_root_certificates(roots);
    Arc::new(match identity {
        Some((chain, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
        None => config.with_no_client_auth(),
    })
}

#[tokio::test]
async fn plain_text_and_tls_are_told_apart_where_both_may_come() {
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let tls = ServerTls::new(&ours).client_certificates(ClientCertificates::Optional);
    let plain = async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.map(|_| String::from_utf8_lossy(&answer).into_owned())
    };
    let strict = serve(tls.clone()).await;
    assert!(!plain(strict.address).await.unwrap_or_default().contains("HTTP/1.1 200"));
    let both = serve(tls.permissive(true)).await;
    assert!(plain(both.address).await.unwrap().ends_with("nobody, plain"));
    let nobody = ClientTls::trusting(authority.trust());
    assert_eq!(ask(both.address, &nobody).await.unwrap(), "nobody, localhost");
    let theirs = credentials(authority.workload("spiffe://shop.example/carts"), authority.trust());
    let asked = ask(both.address, &ClientTls::mutual(&theirs)).await.unwrap();
    assert_eq!(asked, "spiffe://shop.example/carts, localhost");
}

/// Hundreds that say a handshake a byte at a time are no better off: it is late as a whole, however lively it is.
#[tokio::test]
async fn handshakes_that_drip_are_cut_like_those_that_stop() {
    const ALL: usize = 200;
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let client = ClientTls::trusting(authority.trust());
    let recorded = recorded(&client).await;
    for permissive in [false, true] {
        let tls = ServerTls::new(&ours).handshake_timeout(Duration::from_secs(60)).permissive(permissive);
        let running = serve(tls).await;
        let (mut dripping, said) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..ALL {
            let (recorded, said) = (recorded.clone(), Arc::clone(&said));
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            dripping.spawn(async move {
                // The last byte is never said: all the time there is a next one.
                for byte in recorded.iter().cycle() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    said.fetch_add(1, SeqCst);
                }
            });
        }
        until(|| said.load(SeqCst) >= 2 * ALL).await;
        assert_eq!(ask(running.address, &client).await.unwrap(), "nobody, localhost");
        let cut = || running.seen.0.lock().unwrap().len();
        // Half of the time and a bit, which leaves as much as a busy machine needs.
        pass(Duration::from_secs(35)).await;
        let before = said.load(SeqCst);
        until(|| said.load(SeqCst) >= before + 2 * ALL).await;
        assert_eq!(cut(), 0, "they have time yet");
        pass(Duration::from_secs(35)).await;
        until(|| cut() == ALL).await;
        while soon(dripping.join_next()).await.is_some() {}
        assert!(said.load(SeqCst) < ALL * recorded.len(), "nobody has said all of it");
    }
}

/// What this client says first.
async fn recorded(client: &ClientTls) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hearing = async {
        let mut stream = listener.accept().await.unwrap().0;
        let mut heard = vec![0; 4_096];
        let read = stream.read(&mut heard).await.unwrap();
        heard.truncate(read);
        heard
    };
    let (heard, asked) = soon(async { tokio::join!(hearing, ask(address, client)) }).await;
    assert!(asked.is_err() && heard.len() > 100, "{}", heard.len());
    heard
}

/// Hundreds that begin a handshake and say no more keep nobody waiting, and are cut.
#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_out() {
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let running = serve(ServerTls::new(&ours).handshake_timeout(Duration::from_secs(60))).await;
    let mut silent = Vec::new();
    for n in 0..600 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        if n % 2 == 0 {
            // A record that is announced and does not come.
            stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
        }
        silent.push(stream);
    }
    let client = ClientTls::trusting(authority.trust());
    assert_eq!(ask(running.address, &client).await.unwrap(), "nobody, localhost");
    let cut = || running.seen.0.lock().unwrap().len();
    assert_eq!(cut(), 0, "they have time yet");
    pass(Duration::from_secs(61)).await;
    until(|| cut() == 600).await;
}

/// Who would be refused today: as it was told.
#[tokio::test]
async fn whom_the_roots_of_today_refuse_is_kept_or_let_go() {
    for (then, is_kept) in
        [(OnTrustShrink::Keep, true), (OnTrustShrink::Drain, false), (OnTrustShrink::Close, false)]
    {
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        let ours = credentials(old.workload("spiffe://shop.example/orders"), old.trust());
        let running = serve(ServerTls::mutual(&ours).on_trust_shrink(then)).await;
        let stream = TcpStream::connect(running.address).await.unwrap();
        let theirs = old.sign(|params| params.subject_alt_names = vec![uri("spiffe://shop.example/carts")]);
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(rustls_client(&old, Some(&theirs)));
        let mut stream = connector.connect(name, stream).await.unwrap();
        let mut ask = async || {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
            let mut answer = [0; 1024];
            let length = soon(stream.read(&mut answer)).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
        };
        assert!(ask().await.unwrap().ends_with("spiffe://shop.example/carts, localhost"));
        // Another identity of ours, and the same roots: nothing is lost.
        ours.set(Material::new(old.workload("spiffe://shop.example/orders"), old.trust()));
        assert!(ask().await.unwrap().ends_with("spiffe://shop.example/carts, localhost"), "{then:?}");
        let mut silent = {
            let stream = TcpStream::connect(running.address).await.unwrap();
            let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
            let connector = tokio_rustls::TlsConnector::from(rustls_client(&old, Some(&theirs)));
            connector.connect(name, stream).await.unwrap()
        };
        ours.set(Material::new(old.workload("spiffe://shop.example/orders"), new.trust()));
        // One that has shaken hands, and says the first word only now.
        let _ = silent.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let mut answer = [0; 1024];
        let length = soon(silent.read(&mut answer)).await.unwrap_or(0);
        if then == OnTrustShrink::Close {
            assert!(!answer[..length].starts_with(b"HTTP/1.1 200"), "{then:?}");
        }
        if is_kept {
            assert!(ask().await.unwrap().contains("200 OK"));
        } else {
            soon(async { while ask().await.is_ok_and(|answer| answer.contains("200 OK")) {} }).await;
        }
    }
}

/// Whoever is not known any more does not resume what was agreed before.
#[tokio::test]
async fn nobody_resumes_a_session_where_clients_are_asked_who_they_are() {
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let running = serve(ServerTls::mutual(&ours)).await;
    let theirs = authority.sign(|params| params.subject_alt_names = vec![uri("spiffe://shop.example/carts")]);
    let config = rustls_client(&authority, Some(&theirs));
    for _ in 0..3 {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream =
            tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
        assert!(String::from_utf8_lossy(&answer).contains("200 OK"));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

/// `openssl s_client` with these arguments: what it says.
async fn openssl(address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string()]).args(arguments);
    let output = soon(command.stdin(std::process::Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn old_versions_of_tls_and_plain_text_are_refused() {
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload("spiffe://shop.example/orders"), authority.trust());
    let running = serve(ServerTls::new(&ours)).await;
    for (version, agreed) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let told = openssl(running.address, &[version]).await;
        assert!(told.contains(&format!("New, {agreed}, Cipher is")), "{told}");
    }
    // A client of today is told to go that low before it may.
    let told = openssl(running.address, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]).await;
    assert!(told.contains("New, (NONE), Cipher is (NONE)"), "{told}");
    let told = openssl(running.address, &["-alpn", "h2,http/1.1"]).await;
    assert!(told.contains("ALPN protocol: h2"), "{told}");

    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    until(|| running.seen.0.lock().unwrap().len() == 2).await;
}

/// A client in TLS at a port that speaks plain text.
#[tokio::test]
async fn tls_to_a_plain_port_is_told_apart() {
    let plain = Listener::builder().bind(loopback()).unwrap();
    let address = plain.local_addr().unwrap();
    let hello =
        service_fn(async |_: Request<Body>| Ok::<_, std::convert::Infallible>(Response::new(Body::empty())));
    let drain = Drain::new();
    tokio::spawn(Server::new().drain(&drain).serve(plain, hello));
    let asked = ask(address, &ClientTls::trusting(Authority::new("shop").trust())).await;
    assert!(asked.unwrap_err().contains("the handshake of TLS failed"));
}
