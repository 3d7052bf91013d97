//! Endpoints: which one, where it is, and whether it may be one.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis::{
    attempt::Attempt,
    chance::Chance,
    reject::Reason,
    upstream::{Addresses, Balance, BuildError, Proxy, Resolve, Resolving, Upstream, Wire},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::peers::{OK, PATIENCE, Raw, call, fill, get, short, soon, text, until, upstream};

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn served_by(proxy: &Proxy) -> (SocketAddr, u8) {
    let response = call(proxy, get("/")).await.unwrap();
    let attempt = response.extensions().get::<Attempt>().unwrap().clone();
    text(response).await;
    (attempt.endpoint.unwrap(), attempt.attempts)
}

#[tokio::test]
async fn round_robin_goes_round() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await, Raw::answering(OK).await];
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    let proxy = Proxy::new(upstream(addresses.clone()));
    for _ in 0..5 {
        for address in &addresses {
            assert_eq!(served_by(&proxy).await, (*address, 1));
        }
    }
}

#[tokio::test]
async fn the_least_busy_endpoint_gets_the_request() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
    let group = Upstream::builder("a")
        .endpoints(peers.iter().map(|peer| peer.address.to_string()))
        .balance(Balance::LeastRequest)
        .chance(Chance::seeded(1))
        .build()
        .unwrap();
    let proxy = Proxy::new(group.clone());
    // Heads are not enough: this answer is in flight until its body has ended.
    let held = call(&proxy, get("/")).await.unwrap();
    let busy = held.extensions().get::<Attempt>().unwrap().endpoint.unwrap();
    for _ in 0..10 {
        assert_ne!(served_by(&proxy).await.0, busy);
    }
    text(held).await;
    assert!(group.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    let (good, bad) = (Raw::answering(OK).await, nobody().await);
    for wire in [Wire::Http1, Wire::Http2] {
        let group =
            Upstream::builder("a").endpoint(bad.to_string()).endpoint(good.address.to_string()).wire(wire);
        let proxy = Proxy::new(group.build().unwrap());
        if wire == Wire::Http1 {
            assert_eq!(served_by(&proxy).await, (good.address, 2));
            // Now it rests, and nobody waits for it.
            for _ in 0..4 {
                assert_eq!(served_by(&proxy).await, (good.address, 1));
            }
        }
    }
}

#[tokio::test]
async fn no_more_than_three_endpoints_are_tried() {
    let bad = [nobody().await, nobody().await, nobody().await, nobody().await];
    let proxy = Proxy::new(upstream(bad));
    let trail = portcullis::trail::Trail::default();
    let mut request = get("/");
    request.extensions_mut().insert(trail.clone());
    let refused = call(&proxy, request).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::ConnectFailed);
    assert_eq!(trail.attempt().unwrap().attempts, 3);
}

#[tokio::test]
async fn a_connect_that_hangs_is_504() {
    // A listener whose queue is full lets nobody in and refuses nobody.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    for wire in [Wire::Http1, Wire::Http2] {
        let group = Upstream::builder("a")
            .endpoint(address.to_string())
            .connect_timeout(Duration::from_millis(50))
            .wire(wire)
            .build()
            .unwrap();
        let refused = call(&Proxy::new(group), get("/")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::UpstreamTimeout);
    }
}

#[tokio::test]
async fn requests_that_wait_for_one_http2_connection_fail_with_it() {
    let proxy = Proxy::new(
        Upstream::builder("a").endpoint(nobody().await.to_string()).wire(Wire::Http2).build().unwrap(),
    );
    let answers = futures_util::future::join_all((0..20).map(|_| call(&proxy, get("/")))).await;
    for answer in answers {
        assert_eq!(answer.unwrap_err().reason(), Reason::ConnectFailed);
    }
}

/// Who makes the connection for others may go: whoever is next makes it, and nobody fails for that.
#[tokio::test]
async fn those_that_wait_for_one_http2_connection_outlive_the_first_of_them() {
    let listener = short();
    let address = listener.local_addr().unwrap();
    let queued = fill(address).await;
    let upstream = Upstream::builder("a").endpoint(address.to_string()).wire(Wire::Http2);
    let upstream = upstream.connect_timeout(PATIENCE).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    let calls = (0..20).map(|_| {
        let proxy = proxy.clone();
        tokio::spawn(async move { call(&proxy, get("/")).await.map(|answer| answer.status()) })
    });
    let mut calls: Vec<_> = calls.collect();
    until(|| upstream.endpoints()[0].in_flight == 20).await;
    assert_eq!(upstream.endpoints()[0].connections, 1, "one of them connects, and nobody lets it in");
    let first = calls.remove(0);
    first.abort();
    assert!(soon(first).await.unwrap_err().is_cancelled());
    // It is not the first who was let in meanwhile.
    until(|| upstream.endpoints()[0].in_flight == 19).await;
    drop(queued);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let answer = hyper::service::service_fn(async |_: http::Request<hyper::body::Incoming>| {
                Ok::<_, std::convert::Infallible>(http::Response::new(
                    http_body_util::Full::<bytes::Bytes>::default(),
                ))
            });
            let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            tokio::spawn(builder.serve_connection(hyper_util::rt::TokioIo::new(socket), answer));
        }
    });
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap(), 200);
    }
    assert_eq!(upstream.endpoints()[0].connections, 1, "one for all of them");
}

#[tokio::test]
async fn host_names_are_resolved() {
    let listener = Raw::answering(OK).await;
    let group =
        Upstream::builder("a").endpoint(format!("localhost:{}", listener.address.port())).build().unwrap();
    assert!(group.endpoints().is_empty(), "nothing is asked before it is needed");
    let proxy = Proxy::new(group.clone());
    for _ in 0..3 {
        assert_eq!(served_by(&proxy).await.0, listener.address);
    }
    group.warm().await.unwrap();
    assert!(!group.endpoints().is_empty());
}

/// A name server that says what it is told to, and counts.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<SocketAddr>>>, Arc<AtomicUsize>);

impl Resolve for Names {
    fn resolve(&self, _: &str, _: u16) -> Resolving {
        self.1.fetch_add(1, Ordering::SeqCst);
        let found = self.0.lock().unwrap().clone();
        Box::pin(async move {
            if found.is_empty() { Err(io::Error::other("no such name")) } else { Ok(Addresses::new(found)) }
        })
    }
}

impl Names {
    fn say(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = addresses.to_vec();
    }

    fn asked(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }
}

async fn later() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn names_are_asked_for_again_and_the_last_good_answer_stays() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
    let names = Names::default();
    let group = Upstream::builder("a").endpoint("orders:80").resolver(names.clone()).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let addresses = || group.endpoints().iter().map(|endpoint| endpoint.address).collect::<Vec<_>>();

    let refused = call(&proxy, get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::NoEndpoint);
    names.say(&[peers[0].address]);
    until(|| addresses() == [peers[0].address]).await;
    let asked = names.asked();
    let all = futures_util::future::join_all((0..10).map(|_| call(&proxy, get("/")))).await;
    assert!(all.iter().all(Result::is_ok));
    drop(all);
    assert_eq!(names.asked(), asked, "no request asks");

    names.say(&[peers[0].address, peers[1].address]);
    later().await;
    until(|| addresses().len() == 2).await;

    call(&proxy, get("/")).await.unwrap();
    names.say(&[]);
    let asked = names.asked();
    later().await;
    until(|| names.asked() > asked).await;
    call(&proxy, get("/")).await.unwrap();
    assert_eq!(addresses().len(), 2);

    // A reload begins with what is known, and keeps it as long as nobody answers.
    let again = Upstream::builder("a").endpoint("orders:80").resolver(Names::default()).inherit(&group);
    let again = again.build().unwrap();
    assert_eq!(again.endpoints().len(), 2);
    call(&Proxy::new(again.clone()), get("/")).await.unwrap();
    until(|| again.discovery().unwrap().failures > 0).await;
    assert_eq!(again.endpoints().len(), 2);

    names.say(&[peers[1].address]);
    later().await;
    until(|| addresses() == [peers[1].address]).await;
    assert_eq!(group.discovery().unwrap().stale, None);

    // Asked for as long as the upstream is there.
    drop((group, proxy));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let asked = names.asked();
    for _ in 0..3 {
        later().await;
    }
    assert_eq!(names.asked(), asked);
}

#[tokio::test]
async fn the_admin_address_is_no_endpoint() {
    let admin = Raw::answering(OK).await;
    let build = |endpoint: String| Upstream::builder("a").endpoint(endpoint).refuse(admin.address).build();
    let refused = build(admin.address.to_string()).unwrap_err();
    assert_eq!(refused, BuildError::RefusedEndpoint(admin.address));
    assert!(matches!(
        build(format!("0.0.0.0:{}", admin.address.port())),
        Err(BuildError::RefusedEndpoint(_))
    ));

    // Nor through a name.
    let other = Raw::answering(OK).await;
    let names = Names::default();
    names.say(&[admin.address, other.address]);
    let group =
        Upstream::builder("a").endpoint("a:1").refuse(admin.address).resolver(names.clone()).build().unwrap();
    let proxy = Proxy::new(group.clone());
    for _ in 0..4 {
        assert_eq!(served_by(&proxy).await.0, other.address);
    }
    names.say(&[admin.address]);
    let group = Upstream::builder("a").endpoint("a:1").refuse(admin.address).resolver(names).build().unwrap();
    assert_eq!(soon(group.warm()).await.unwrap_err().reason(), Reason::NoEndpoint);
    assert_eq!(admin.connections(), 0);
}

#[tokio::test]
async fn a_reload_keeps_connections_and_load() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
    let before = upstream([peers[0].address]);
    text(call(&Proxy::new(before.clone()), get("/")).await.unwrap()).await;
    let held = call(&Proxy::new(before.clone()), get("/")).await.unwrap();

    let build = || Upstream::builder("test").endpoints(peers.iter().map(|peer| peer.address.to_string()));
    let after = build().inherit(&before).build().unwrap();
    assert_eq!(after.endpoints()[0], before.endpoints()[0]);
    assert_eq!(after.endpoints()[0].in_flight, 1);
    text(held).await;
    assert_eq!(after.endpoints()[0].idle, 1);
    drop(before);
    assert_eq!(served_by(&Proxy::new(after.clone())).await.0, peers[0].address);
    assert_eq!(peers[0].connections(), 1);

    let other = build().max_idle(1).inherit(&after).build().unwrap();
    assert_eq!(other.endpoints()[0].connections, 0, "configured otherwise, nothing is taken over");
}

#[test]
fn what_is_no_endpoint_is_refused() {
    assert_eq!(Upstream::builder("a").build().unwrap_err(), BuildError::NoEndpoints);
    let refused = Upstream::builder("a").endpoint("nowhere").build().unwrap_err();
    assert_eq!(refused, BuildError::InvalidEndpoint("nowhere".into()));
}
