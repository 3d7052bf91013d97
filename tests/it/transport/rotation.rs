//! A rotation a second for a minute under load, a thousand that leave nothing behind, and a flood of handshakes: nobody who is served notices.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use portcullis::{
    body::Body,
    identity::{PeerAddr, PeerIdentity},
    reject::RescueLayer,
    tls::{ClientTls, Credentials, Identity, Material, OnTrustShrink, ServerTls, Trust},
    transport::{ConnectionObserver, Drain, Listener, Misuse, Server},
    upstream::{Proxy, Upstream, Wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use tower::{Layer, ServiceExt, service_fn};

use super::{loopback, soon, until};
use crate::support::certificates::{Authority, credentials, uri};

const ROTATIONS: usize = 60;
const EACH: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] =
    ["spiffe://shop.example/web", "spiffe://shop.example/gateway", "spiffe://shop.example/orders"];

/// Which certificates were seen.
type Seen = Arc<Mutex<BTreeSet<[u8; 32]>>>;

fn proxy(address: SocketAddr, tls: &ClientTls, wire: Wire, age: Duration) -> Proxy {
    let endpoint = format!("localhost:{}", address.port());
    let upstream = Upstream::builder("next").endpoint(&*endpoint).tls(tls).wire(wire).max_connection_age(age);
    Proxy::new(upstream.build().unwrap())
}

/// A server that takes `ours` only, and what it answers with.
fn serve<S>(ours: &Credentials, drain: &Drain, service: S) -> SocketAddr
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let listener = Listener::builder().tls(ServerTls::mutual(ours)).bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    // Over HTTP/1 what is sent as a connection closes is lost, and may not be sent again: there is time enough for it, however busy
    // this machine is.
    let server = Server::new().drain(drain).drain_idle_timeout(Duration::from_secs(5));
    tokio::spawn(server.serve(listener, service));
    address
}

async fn asked(proxy: &Proxy) -> Result<(), String> {
    answered(proxy, Request::get("http://localhost/").body(Body::empty()).unwrap(), b"served").await
}

/// What is sent comes back, in pieces, and is not to be sent twice.
async fn echoed(proxy: &Proxy) -> Result<(), String> {
    static SENT: [u8; 64 << 10] = [7; 64 << 10];
    let pieces = SENT
        .chunks(4 << 10)
        .map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(piece))));
    let pieces = Body::new(StreamBody::new(tokio_stream::iter(pieces)));
    answered(proxy, Request::post("http://localhost/").body(pieces).unwrap(), &SENT).await
}

async fn answered(proxy: &Proxy, mut request: Request<Body>, expected: &[u8]) -> Result<(), String> {
    request.extensions_mut().insert(PeerAddr::new(loopback()));
    let answer = soon(proxy.clone().oneshot(request)).await.map_err(|error| format!("{error:?}"))?;
    let (head, body) = answer.into_parts();
    let body = soon(body.collect()).await.map_err(|error| format!("{error:?}"))?.to_bytes();
    let is_right = head.status == 200 && body == expected;
    let beginning = || String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    if is_right { Ok(()) } else { Err(format!("{head:?}, {} bytes: {:?}", body.len(), beginning())) }
}

/// A client, a gateway between and a service behind it, each with an identity of its own, and each verified by the next: while
/// leaves and roots of all three change, the gateway is server and client at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn a_rotation_of_leaves_and_roots_each_second_for_a_minute_loses_no_request() {
    let mut root = Authority::new("root 0");
    let all = NAMES.map(|name| credentials(root.workload(name), root.trust()));
    let [web, gateway, orders] = &all;
    let (seen, drain) = (Seen::default(), Drain::new());
    let service = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<Body>| {
            let peer = request.extensions().get::<PeerIdentity>().unwrap();
            seen.lock().unwrap().insert(*peer.sha256());
            async move {
                let is_empty = request.body().is_end_stream();
                Ok(Response::new(if is_empty { Body::from("served") } else { request.into_body() }))
            }
        }
    });
    let behind = serve(orders, &drain, service);
    let orders_only =
        ClientTls::mutual(gateway).server(portcullis::tls::ServerId::Spiffe(NAMES[2].parse().unwrap()));
    // Some connections are younger than a rotation, and some outlive many.
    let ages = [Duration::from_millis(100), Duration::from_secs(90)];
    let (stop, served, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let state = Arc::new((stop, served, failed));
    let mut clients = JoinSet::new();
    for wire in [Wire::Http1, Wire::Http2] {
        for age in ages {
            let onward = RescueLayer::new().layer(proxy(behind, &orders_only, wire, age));
            let onward = ServiceExt::<Request<Body>>::map_response(onward, |answer: Response<_>| {
                answer.map(Body::new)
            });
            let between = serve(gateway, &drain, onward);
            let gateway_only =
                ClientTls::mutual(web).server(portcullis::tls::ServerId::Spiffe(NAMES[1].parse().unwrap()));
            let client = proxy(between, &gateway_only, wire, age);
            for _ in 0..2 {
                let (client, state) = (client.clone(), Arc::clone(&state));
                clients.spawn(async move {
                    for turn in 0.. {
                        if state.0.load(Ordering::Relaxed) {
                            break;
                        }
                        let answer = if turn % 2 == 0 { asked(&client).await } else { echoed(&client).await };
                        match answer {
                            Ok(()) => _ = state.1.fetch_add(1, Ordering::Relaxed),
                            Err(why) => state.2.lock().unwrap().push(format!("{wire:?} {age:?}: {why}")),
                        }
                        sleep(Duration::from_millis(10)).await;
                    }
                });
            }
        }
    }
    let mut next = Authority::new("root 1");
    for rotation in 0..ROTATIONS {
        sleep(EACH).await;
        // As roots are changed where nothing may be lost: both are believed, then all show the new one, then the old one goes.
        let both = root.pem() + &next.pem();
        let trusts_both = || Trust::roots(both.as_bytes()).unwrap();
        for (of, name) in all.iter().zip(NAMES) {
            of.set(match rotation % 3 {
                0 => Material::new(root.workload(name), trusts_both()),
                1 => Material::new(next.workload(name), trusts_both()),
                _ => Material::new(next.workload(name), next.trust()),
            });
        }
        if rotation % 3 == 2 {
            root = std::mem::replace(&mut next, Authority::new(&format!("root {}", 2 + rotation / 3)));
        }
    }
    sleep(EACH).await;
    state.0.store(true, Ordering::Relaxed);
    while let Some(ended) = soon(clients.join_next()).await {
        ended.unwrap();
    }
    let failed = state.2.lock().unwrap();
    let served = state.1.load(Ordering::Relaxed);
    assert!(failed.is_empty(), "{} of {served}: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    assert!(served > ROTATIONS * 8, "{served} under load");
    for of in &all {
        assert_eq!(of.status().rotations, 1 + ROTATIONS as u64);
    }
    // The gateway was known by nearly as many certificates as it had.
    let seen = seen.lock().unwrap().len();
    assert!(seen > ROTATIONS / 2, "{seen}");
}

/// Leaves and roots change a thousand times, and each time the connections that stand are looked at again. Memory is what it was: what
/// this thread has and has not given back, and it does all of the work.
#[test]
fn a_thousand_rotations_leave_memory_where_it_was() {
    const TIMES: usize = 1_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (root, next) = (Authority::new("root"), Authority::new("next"));
    let san = || vec![uri(NAMES[2]), rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    let leaves = [(); 2].map(|()| root.sign(|params| params.subject_alt_names = san()));
    let roots = [root.pem(), root.pem() + &next.pem()];
    // Read anew, as from a directory.
    let told = |turn: usize| {
        let (chain, key) = &leaves[turn % 2];
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        Material::new(identity, Trust::roots(roots[turn % 2].as_bytes()).unwrap())
    };
    let (ours, theirs) = (Credentials::new(told(0)), credentials(root.workload(NAMES[0]), root.trust()));
    let peak = Arc::<Peak>::default();
    let stands = runtime.block_on(async {
        let tls = ServerTls::mutual(&ours).on_trust_shrink(OnTrustShrink::Close);
        let listener = Listener::builder().tls(tls).observer(Arc::new(Counting(Arc::clone(&peak))));
        let listener = listener.bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = service_fn(async |_: Request<Body>| {
            Ok::<_, std::convert::Infallible>(Response::new(Body::from("served")))
        });
        tokio::spawn(Server::new().serve(listener, answer));
        proxy(address, &ClientTls::mutual(&theirs), Wire::Http1, Duration::from_secs(600))
    });
    let rotate = |times: usize| {
        runtime.block_on(async {
            for turn in 1..=times {
                ours.set(told(turn));
                asked(&stands).await.unwrap();
            }
        });
    };
    rotate(10);
    let counted = allocation_counter::measure(|| rotate(TIMES));
    assert_eq!(ours.status().rotations, 1 + 10 + TIMES as u64);
    assert_eq!(peak.most.load(Ordering::SeqCst), 1, "the first connection stands");
    assert!(counted.count_total > 10 * TIMES as u64);
    let left = (counted.count_current, counted.bytes_current);
    // A buffer of the connection may have grown; what a rotation leaves would be there a thousand times.
    assert!(left.0.abs() < 10 && left.1.abs() < 16 << 10, "{left:?} of {} allocations", counted.count_total);
}

/// How many there are, and how many there were at most.
#[derive(Default)]
struct Peak {
    now: AtomicUsize,
    most: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
}

struct Counting(Arc<Peak>);

impl ConnectionObserver for Counting {
    fn opened(&self) {
        let now = 1 + self.0.now.fetch_add(1, Ordering::SeqCst);
        self.0.most.fetch_max(now, Ordering::SeqCst);
    }
    fn closed(&self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
    fn refused(&self) {
        self.0.refused.fetch_add(1, Ordering::SeqCst);
    }
    fn cut(&self, _: PeerAddr, how: Misuse) {
        assert_eq!(how, Misuse::Handshake);
        self.0.cut.fetch_add(1, Ordering::SeqCst);
    }
}

/// Hundreds at a time say nothing, half of something, something else, or show what is not believed, while who was let in before goes
/// on. There are never more of them than connections are allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn a_flood_of_handshakes_stops_nobody_who_was_let_in() {
    const MOST: usize = 200;
    const FLOODS: usize = 900;
    let authority = Authority::new("shop");
    let ours = credentials(authority.workload(NAMES[2]), authority.trust());
    let theirs = credentials(authority.workload(NAMES[0]), authority.trust());
    let stranger = credentials(Authority::new("stranger").workload(NAMES[0]), authority.trust());
    let peak = Arc::<Peak>::default();
    let tls = ServerTls::mutual(&ours).handshake_timeout(Duration::from_millis(300));
    let listener =
        Listener::builder().tls(tls).max_connections(MOST).observer(Arc::new(Counting(peak.clone())));
    let listener = listener.bind(loopback()).unwrap();
    let (address, drain) = (listener.local_addr().unwrap(), Drain::new());
    let answer = service_fn(async |_: Request<Body>| {
        Ok::<_, std::convert::Infallible>(Response::new(Body::from("served")))
    });
    tokio::spawn(Server::new().drain(&drain).serve(listener, answer));

    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for wire in [Wire::Http1, Wire::Http2] {
        let client = proxy(address, &ClientTls::mutual(&theirs), wire, Duration::from_secs(600));
        asked(&client).await.unwrap();
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                asked(&client).await.unwrap();
                served.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    let mut flood = JoinSet::new();
    for n in 0..FLOODS {
        let stranger = stranger.clone();
        flood.spawn(async move {
            if n % 5 == 4 {
                let client =
                    proxy(address, &ClientTls::mutual(&stranger), Wire::Http1, Duration::from_secs(1));
                asked(&client).await.unwrap_err();
                return;
            }
            let Ok(mut stream) = TcpStream::connect(address).await else { return };
            let said: &[u8] = match n % 5 {
                0 => b"",
                1 => &[0x16, 3, 1, 2, 0],
                2 => b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
                _ => &[0xff; 64],
            };
            let _ = stream.write_all(said).await;
            // Until it is cut.
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            assert!(!heard.starts_with(b"HTTP"));
        });
        if n % 50 == 49 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    while let Some(ended) = soon(flood.join_next()).await {
        ended.unwrap();
    }
    let before = served.load(Ordering::Relaxed);
    assert!(before > 0);
    until(|| served.load(Ordering::Relaxed) > before + 20).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = soon(clients.join_next()).await {
        ended.expect("all who were let in are served");
    }
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    // That one has gone is told after its place was given back: by each of two threads.
    assert!(count(&peak.most) <= MOST + 2, "{}", count(&peak.most));
    assert!(count(&peak.cut) > FLOODS / 4 && count(&peak.cut) + count(&peak.refused) >= FLOODS);
}
