//! What an identity costs a request, and what it costs a handshake: `cargo bench --features gateway --bench tls`.
//!
//! `told` is what a connection does for each of its requests, `read` what a handler does, `told_and_read` both; `allowed` is
//! one policy that names a SPIFFE ID among others. `certificate_headers` is the look at all names of a request's headers for those
//! that say something of certificates, `connection` the whole gate of which it is a part.
//!
//! A handshake is both sides of it on loopback, one request and the end, on one thread: the rows differ by what the server does.

#![allow(clippy::unwrap_used, reason = "a bench that may stop")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use http::{HeaderName, HeaderValue, Request, Response};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use portcullis::{
    admission::authz::{Authorization, Policy, Rule, Source},
    body::Body,
    gate::Gate,
    head::Head,
    identity::{AssertedHeaders, PeerAddr, PeerIdentity, TlsSession},
    tls::{ClientCertificates, Credentials, Identity, Material, ServerTls, Trust},
    transport::{Connection, Listener, Server},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower::service_fn;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A single call is too short for the clock.
const BATCH: u32 = 1000;

const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";

/// A request as it comes from a server, with so many headers.
fn request(headers: usize) -> Request<()> {
    const USUAL: [&str; 4] = ["host", "user-agent", "accept", "authorization"];
    let mut request = Request::get("/api/v1/items?page=2").body(()).unwrap();
    let more = (USUAL.len()..headers).map(|n| HeaderName::try_from(format!("x-more-{n}")).unwrap());
    let names = USUAL.map(HeaderName::from_static).into_iter().take(headers).chain(more);
    for name in names {
        request.headers_mut().insert(name, HeaderValue::from_static("localhost"));
    }
    request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
    request
}

/// What a workload's certificate says, in the full.
static PEER: LazyLock<PeerIdentity> = LazyLock::new(|| {
    PeerIdentity::new([7; 32])
        .with_spiffe_id(WEB)
        .with_uris([WEB])
        .with_dns_names(["web", "web.mesh.local", "localhost"])
        .with_serial("0123456789abcdef")
        .with_chain([vec![7; 600]])
});

fn told(request: &mut Request<()>) {
    request.extensions_mut().insert(PEER.clone());
}

fn read(request: &mut Request<()>) {
    let peer = request.extensions().get::<PeerIdentity>();
    black_box(peer.and_then(PeerIdentity::spiffe_id).is_some_and(|id| id == black_box(WEB)));
}

/// A thousand requests; they are made, and dropped, outside of what is measured.
fn each(bencher: Bencher<'_, '_>, made: impl Fn() -> Request<()>, serve: impl Fn(&mut Request<()>)) {
    let requests = || (0..BATCH).map(|_| made()).collect::<Vec<_>>();
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(requests).bench_local_values(|mut requests| {
        requests.iter_mut().for_each(&serve);
        requests
    });
}

fn known() -> Request<()> {
    let mut request = request(4);
    told(&mut request);
    request
}

#[divan::bench]
fn identity_told(bencher: Bencher<'_, '_>) {
    each(bencher, || request(4), told);
}

#[divan::bench]
fn identity_read(bencher: Bencher<'_, '_>) {
    each(bencher, known, read);
}

#[divan::bench]
fn identity_told_and_read(bencher: Bencher<'_, '_>) {
    let serve = |request: &mut Request<()>| {
        told(request);
        read(request);
    };
    each(bencher, || request(4), serve);
}

/// One of ten that may.
#[divan::bench]
fn identity_allowed(bencher: Bencher<'_, '_>) {
    let others = (0..9).map(|n| format!("spiffe://mesh.local/ns/shop/sa/other-{n}"));
    let source = Source::new().peers(others.chain([WEB.to_owned()])).unwrap();
    let policy = Policy::allow("callers").rule(Rule::new().from(source));
    let policies = Authorization::new([policy]).unwrap();
    each(bencher, known, |request| drop(policies.check(&mut Head::of(request)).unwrap()));
}

#[divan::bench(args = [4, 12, 24])]
fn certificate_headers(bencher: Bencher<'_, '_>, headers: usize) {
    let names = ["x-forwarded-client-cert", "client-cert", "client-cert-chain"].map(HeaderName::from_static);
    let said = names.into_iter().collect::<AssertedHeaders>();
    each(bencher, || request(headers), |request| _ = said.strip(request.headers_mut()));
}

#[divan::bench(args = [4, 12, 24])]
fn connection(bencher: Bencher<'_, '_>, headers: usize) {
    let gate = Connection::new();
    each(bencher, || request(headers), |request| gate.check(&mut Head::of(request)).unwrap());
}

type Root = CertifiedIssuer<'static, KeyPair>;

static ROOT: LazyLock<Root> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "bench");
    Root::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

fn leaf(id: &str) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &*ROOT).unwrap(), key)
}

fn parts(id: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let (certificate, key) = leaf(id);
    (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn orders() -> Material {
    let (certificate, key) = leaf("spiffe://mesh.local/orders");
    let identity = Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    Material::new(identity, Trust::roots(ROOT.pem().as_bytes()).unwrap())
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ROOT.der().clone()).unwrap();
    roots
}

/// A client of whole handshakes.
fn connector() -> TlsConnector {
    let (chain, key) = parts(WEB);
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap().with_root_certificates(roots());
    let mut config = builder.with_client_auth_cert(chain, key).unwrap();
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

async fn ask(connector: &TlsConnector, address: SocketAddr) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    stream.shutdown().await.unwrap();
}

async fn answer<B>(_: Request<B>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("hello")))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Ten handshakes with whoever `serve` makes listen.
fn shake(bencher: Bencher<'_, '_>, runtime: &Runtime, address: SocketAddr) {
    const HANDSHAKES: u32 = 10;
    let connector = connector();
    bencher.counter(ItemsCount::new(HANDSHAKES)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..HANDSHAKES {
                ask(&connector, address).await;
            }
        });
    });
}

fn listen(runtime: &Runtime, tls: ServerTls) -> SocketAddr {
    let _within = runtime.enter();
    let listener = Listener::builder().tls(tls).bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(Server::new().serve(listener, service_fn(answer)));
    address
}

#[divan::bench]
fn handshake_without_client_certificate(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let tls = ServerTls::new(&Credentials::new(orders())).client_certificates(ClientCertificates::None);
    let address = listen(&runtime, tls);
    shake(bencher, &runtime, address);
}

#[divan::bench]
fn handshake_with_spiffe(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let address = listen(&runtime, ServerTls::mutual(&Credentials::new(orders())));
    shake(bencher, &runtime, address);
}

/// The same, while another thread gives the server another certificate every millisecond.
#[divan::bench]
fn handshake_with_spiffe_while_certificates_change(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let (credentials, stop) = (Credentials::new(orders()), Arc::new(AtomicBool::new(false)));
    let address = listen(&runtime, ServerTls::mutual(&credentials));
    let next: Vec<_> = (0..16).map(|_| orders()).collect();
    let rotating = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            for material in next.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                credentials.set(material.clone());
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    shake(bencher, &runtime, address);
    stop.store(true, Ordering::Relaxed);
    rotating.join().unwrap();
}

/// hyper on rustls with its own verifier, which knows no SPIFFE IDs and tells nobody who came.
#[divan::bench]
fn handshake_of_bare_rustls(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), Arc::clone(&provider));
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
    let (chain, key) = parts("spiffe://mesh.local/orders");
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(service_fn(answer));
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    shake(bencher, &runtime, address);
}

/// What the other benches have beside: the session as well, of which the host is looked at.
#[divan::bench]
fn host_is_of_the_certificate(bencher: Bencher<'_, '_>) {
    let session = TlsSession::new(Some("localhost".into()), PEER.clone());
    let made = || {
        let mut request = request(4);
        request.extensions_mut().insert(session.clone());
        request
    };
    each(bencher, made, |request| {
        let session = request.extensions().get::<TlsSession>();
        black_box(session.is_some_and(|session| session.is_for_host(black_box("localhost"))));
    });
}
