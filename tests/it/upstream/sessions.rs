//! Clients that come back to where they were, over real sockets.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header::SET_COOKIE};
use http_body_util::Full;
use hyper::body::Incoming;
use portcullis::{
    attempt::Attempt,
    body::Body,
    reject::Reason,
    resilience::retry::{Policy, RetryLayer},
    upstream::{Endpoint, Proxy, Session, SessionCookie, SessionKey, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceExt, service_fn};

use super::peers::{OK, Raw, call, get, serve, soon};

const KEY: SessionKey = SessionKey::new([9; 16]);

fn cookie() -> Session {
    Session::cookie(SessionCookie::new("s").unwrap())
}

fn upstream(peers: &[&Raw]) -> Upstream {
    let peers = peers.iter().map(|peer| peer.address);
    Upstream::builder("a").endpoints(peers).session_key(KEY).build().unwrap()
}

fn at(response: &Response<Body>) -> SocketAddr {
    response.extensions().get::<Attempt>().unwrap().endpoint.unwrap()
}

/// The cookie that a response sets, as a client sends it.
fn given<B>(response: &Response<B>) -> Option<HeaderValue> {
    let set = response.headers().get(SET_COOKIE)?.to_str().unwrap();
    Some(set.split(';').next().unwrap().parse().unwrap())
}

fn with(cookie: &HeaderValue) -> Request<Full<Bytes>> {
    let mut request = get("/");
    request.headers_mut().insert("cookie", cookie.clone());
    request
}

#[tokio::test]
async fn who_comes_back_is_where_he_was() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await, Raw::answering(OK).await];
    let proxy = Proxy::new(upstream(&[&peers[0], &peers[1], &peers[2]])).session(cookie());
    let mut clients = Vec::new();
    for _ in 0..6 {
        let response = call(&proxy, get("/")).await.unwrap();
        clients.push((at(&response), given(&response).unwrap()));
    }
    let places: std::collections::HashSet<_> = clients.iter().map(|(at, _)| *at).collect();
    assert_eq!(places.len(), 3, "those that are new are dealt as ever");
    for _ in 0..3 {
        for (place, cookie) in &clients {
            let response = call(&proxy, with(cookie)).await.unwrap();
            assert_eq!((at(&response), given(&response)), (*place, None));
        }
    }
    // Another instance with the same key, of other endpoints in another order, knows them.
    let other = Proxy::new(upstream(&[&peers[2], &peers[0]])).session(cookie());
    for (place, cookie) in clients.iter().filter(|(place, _)| *place != peers[1].address) {
        assert_eq!(at(&call(&other, with(cookie)).await.unwrap()), *place);
    }
}

#[tokio::test]
async fn what_is_made_up_is_as_if_it_were_not_there() {
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await];
    let group = upstream(&[&peers[0], &peers[1]]);
    let header = HeaderName::from_static("x-session");
    let proxy = Proxy::new(group.clone()).session(Session::header(header.clone()).strict(true));
    let told = call(&proxy, get("/")).await.unwrap().headers()[&header].to_str().unwrap().to_owned();
    let stranger = Upstream::builder("a").endpoint(peers[0].address).build().unwrap();
    let of_another = Proxy::new(stranger).session(Session::header(header.clone()));
    let of_another = call(&of_another, get("/")).await.unwrap().headers()[&header].clone();
    let mut forged: Vec<Vec<u8>> = vec![of_another.as_bytes().into(), b"127.0.0.1:80".into(), vec![0xff; 64]];
    forged.push(vec![b'a'; 60_000]);
    forged.push(told[1..].into());
    forged.push(format!("{}{}", &told[..63], if told.ends_with('0') { '1' } else { '0' }).into());
    for value in forged {
        let mut places = std::collections::HashSet::new();
        for _ in 0..2 {
            let mut request = get("/");
            request.headers_mut().insert(&header, HeaderValue::from_bytes(&value).unwrap());
            let response = call(&proxy, request).await.unwrap();
            assert_eq!(response.headers()[&header].len(), 64, "it begins anew");
            places.insert(at(&response));
        }
        assert_eq!(places.len(), 2, "anywhere");
    }
}

#[tokio::test]
async fn a_session_outlives_its_endpoint_unless_it_is_strict() {
    let (gone, stays) = (Raw::answering(OK).await, Raw::answering(OK).await);
    let before = upstream(&[&gone, &stays]);
    let proxy = Proxy::new(before.clone()).session(cookie());
    let cookie_of = async |place| loop {
        let response = call(&proxy, get("/")).await.unwrap();
        if at(&response) == place {
            return given(&response).unwrap();
        }
    };
    let (gone_cookie, stays_cookie) = (cookie_of(gone.address).await, cookie_of(stays.address).await);
    // A reload takes the key along.
    let after = Upstream::builder("a").endpoint(stays.address).inherit(&before).build().unwrap();
    let strict = Proxy::new(after.clone()).session(cookie().strict(true));
    let refused = call(&strict, with(&gone_cookie)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::NoEndpoint);
    assert_eq!(refused.headers()[SET_COOKIE], "s=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    assert_eq!(at(&call(&strict, with(&stays_cookie)).await.unwrap()), stays.address);
    assert_eq!(at(&call(&strict, get("/")).await.unwrap()), stays.address, "who is new is served");

    let lenient = Proxy::new(after).session(cookie());
    let moved = call(&lenient, with(&gone_cookie)).await.unwrap();
    assert_eq!(at(&moved), stays.address);
    let again = call(&lenient, with(&given(&moved).unwrap())).await.unwrap();
    assert_eq!((at(&again), given(&again)), (stays.address, None), "its session goes on there");
}

/// A peer that can be closed.
async fn mortal() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, task)
}

#[tokio::test]
async fn who_cannot_be_reached_loses_its_sessions() {
    let ((dies, task), stays) = (mortal().await, Raw::answering(OK).await);
    let group = || {
        let builder = Upstream::builder("a").endpoints([dies, stays.address]).session_key(KEY);
        builder.connect_timeout(Duration::from_secs(5)).build().unwrap()
    };
    let proxy = Proxy::new(group()).session(cookie());
    let at_dies = loop {
        let response = call(&proxy, get("/")).await.unwrap();
        if at(&response) == dies {
            break given(&response).unwrap();
        }
    };
    task.abort();
    let _ = task.await;
    let strict = Proxy::new(group()).session(cookie().strict(true));
    let refused = call(&strict, with(&at_dies)).await.unwrap_err();
    assert_eq!((refused.reason(), refused.headers().len()), (Reason::ConnectFailed, 0), "it may come back");
    for _ in 0..2 {
        let moved = call(&proxy, with(&at_dies)).await.unwrap();
        assert_eq!(at(&moved), stays.address);
        assert!(given(&moved).is_some());
    }
}

/// What fails where the client was is tried again elsewhere, and the client stays there.
#[tokio::test]
async fn a_retry_beats_a_session() {
    static FAILS: AtomicBool = AtomicBool::new(false);
    let failing = serve(service_fn(|_: Request<Incoming>| async {
        let status = if FAILS.load(Ordering::Relaxed) { 503 } else { 200 };
        let answer = Response::builder().status(status).body(Full::<Bytes>::default());
        Ok::<_, std::convert::Infallible>(answer.unwrap())
    }))
    .await;
    let works = Raw::answering(OK).await;
    let proxy = Proxy::new(Upstream::builder("a").endpoints([failing, works.address]).build().unwrap());
    let proxy = proxy.session(cookie());
    let at_failing = loop {
        let response = call(&proxy, get("/")).await.unwrap();
        if at(&response) == failing {
            break given(&response).unwrap();
        }
    };
    FAILS.store(true, Ordering::Relaxed);
    let failed = call(&proxy, with(&at_failing)).await.unwrap();
    assert_eq!((at(&failed), failed.status().as_u16()), (failing, 503), "without a retry it stays");
    let retrying = RetryLayer::new(Policy::new(2)).layer(proxy.clone());
    let answer = soon(retrying.oneshot(with(&at_failing).map(Body::new))).await.unwrap();
    assert_eq!(answer.status(), 200);
    let moved = given(&answer).unwrap();
    assert_eq!(at(&call(&proxy, with(&moved)).await.unwrap()), works.address);
    let new: Vec<_> = [call(&proxy, get("/")).await.unwrap(), call(&proxy, get("/")).await.unwrap()].into();
    for response in new {
        assert_eq!(given(&response).is_some(), response.status() == 200, "who fails begins no session");
    }
}

#[tokio::test]
async fn a_session_is_of_its_subset() {
    let (one, two) = (Raw::answering(OK).await, Raw::answering(OK).await);
    let of = |peer: &Raw, version| Endpoint::from(peer.address).label("version", version);
    let group = Upstream::builder("a").endpoints([of(&one, "1"), of(&two, "2")]).build().unwrap();
    let [first, second] =
        ["1", "2"].map(|version| Proxy::new(group.subset([("version", version)])).session(cookie()));
    let at_one = given(&call(&first, get("/")).await.unwrap()).unwrap();
    for _ in 0..3 {
        assert_eq!(at(&call(&first, with(&at_one)).await.unwrap()), one.address);
        let moved = call(&second, with(&at_one)).await.unwrap();
        assert_eq!(at(&moved), two.address);
        assert!(given(&moved).is_some());
    }
}
