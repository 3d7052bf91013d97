use std::{
    convert::Infallible,
    future::pending,
    io,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    body::{
        Body,
        script::{Channel, Script, Step},
    },
    chance::Chance,
    context::{Deadline, RequestId},
    ratio::Ratio,
    trail::Trail,
    upload::Upload,
};

type Read = (http::request::Parts, Bytes, Option<HeaderMap>);
type Reads = Arc<Mutex<Vec<Read>>>;

async fn read(reads: Reads, request: Request<Body>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?;
    let trailers = body.trailers().cloned();
    reads.lock().unwrap().push((head, body.to_bytes(), trailers));
    Ok(Response::new(Body::from("read")))
}

/// A service that remembers what it has read.
macro_rules! reader {
    ($reads:expr) => {{
        let reads = Arc::clone(&$reads);
        service_fn(move |request: Request<Body>| read(Arc::clone(&reads), request))
    }};
}

/// A service that says this.
macro_rules! says {
    ($response:expr) => {
        service_fn(move |_: Request<Body>| async move { Ok::<_, io::Error>($response) })
    };
}

mod compared;

fn script(steps: impl IntoIterator<Item = Step>) -> Body {
    Body::new(Script::new(steps))
}

/// So that all shadows are through that are not stuck.
async fn a_second() {
    sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_mirror_gets_what_the_primary_got() {
    let (ours, theirs) = (Reads::default(), Reads::default());
    let policy = Policy::new("rewrite").host_suffix("-Shadow").unwrap();
    let handle = policy.handle();
    let service = MirrorLayer::new(policy, reader!(theirs)).layer(reader!(ours));
    let body = script([Step::Data("a"), Step::Pending, Step::Data("bc"), Step::Trailers("0")]);
    let mut request = Request::post("http://shop.example:8080/orders?a=b")
        .header("host", "shop.example:8080")
        .header("x-tenant", "acme")
        .header("connection", "x-own, close")
        .header("x-own", "1")
        .header("te", "trailers")
        .header("expect", "100-continue")
        .header("grpc-timeout", "1S")
        .header("x-mirror", "forged")
        .body(body)
        .unwrap();
    let id = RequestId::new("r-1".parse().unwrap()).unwrap();
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(Trail::default());
    request.extensions_mut().insert(Upload::new());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "read");
    a_second().await;

    let (ours, theirs) = (ours.lock().unwrap().remove(0), theirs.lock().unwrap().remove(0));
    assert_eq!((&ours.1, &ours.2), (&theirs.1, &theirs.2));
    assert_eq!((&*theirs.1, theirs.2.unwrap()["grpc-status"].as_bytes()), (&b"abc"[..], &b"0"[..]));
    assert_eq!((&ours.0.method, ours.0.version), (&theirs.0.method, theirs.0.version));
    assert_eq!(theirs.0.uri, "http://shop.example-shadow:8080/orders?a=b");
    let mut names: Vec<_> = theirs.0.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    names.sort_unstable();
    let expected = [
        ("host", "shop.example-shadow:8080"),
        ("te", "trailers"),
        ("x-mirror", "rewrite"),
        ("x-tenant", "acme"),
    ];
    assert_eq!(names, expected);
    assert_eq!((ours.0.headers.len(), &ours.0.headers["x-mirror"]), (8, &"forged".parse().unwrap()));
    let extensions = &theirs.0.extensions;
    assert_eq!(extensions.get::<RequestId>().map(RequestId::as_str), Some("r-1"));
    assert!(extensions.get::<Deadline>().unwrap().is_imposed());
    assert!(extensions.get::<Trail>().is_none() && extensions.get::<Upload>().is_none());
    assert!(ours.0.extensions.get::<Deadline>().is_none());
    assert_eq!((handle.begun(), handle.completed(), handle.in_flight()), (1, 1, 0));
}

#[test]
fn a_suffix_is_for_names() {
    let policy = Policy::new("m").host_suffix("-shadow").unwrap();
    for (host, suffixed) in [
        ("shop.example", Some("shop.example-shadow")),
        ("shop.example:80", Some("shop.example-shadow:80")),
        ("192.0.2.7:80", None),
        ("[2001:db8::1]:80", None),
        ("", None),
    ] {
        assert_eq!(policy.suffixed(host).as_deref(), suffixed, "{host}");
    }
    assert_eq!(Policy::new("m").suffixed("shop.example"), None);
    for bad in ["", "-shadow:80", "/x", "\u{e9}", "a b"] {
        assert!(Policy::new("m").host_suffix(bad).is_err(), "{bad:?}");
    }
}

/// Whatever the mirror does, the primary's answer is its own, and the place is given back.
#[tokio::test(start_paused = true)]
async fn no_mirror_harms_the_primary() {
    async fn mirrored<M, B>(mirror: M) -> (MirrorHandle, Bytes)
    where
        M: Service<Request<Body>, Response = Response<B>, Error: Send, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: http_body::Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let policy = Policy::new("m").timeout(Duration::from_secs(5)).most_response(1_000).most_behind(4);
        let handle = policy.handle();
        let service = MirrorLayer::new(policy, mirror).layer(reader!(Reads::default()));
        let body = script([Step::Data("abc"), Step::Pending, Step::Data("abc")]);
        let began = tokio::time::Instant::now();
        let response = service.oneshot(Request::post("/").body(body).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(began.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(10)).await;
        assert_eq!((handle.in_flight(), handle.begun()), (0, 1));
        (handle, body)
    }
    let consumed = |request: Request<Body>| async move { request.into_body().collect().await };
    let silent = service_fn(move |request| async move {
        let _ = consumed(request).await;
        pending::<Result<Response<Body>, io::Error>>().await
    });
    let stuck = service_fn(|request: Request<Body>| async move {
        let _kept = request;
        pending::<Result<Response<Body>, io::Error>>().await
    });
    let fails = service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(io::Error::other("down")) });
    let panics = service_fn(|_: Request<Body>| async {
        if true {
            panic!("on purpose");
        }
        Ok::<Response<Body>, io::Error>(Response::default())
    });
    let breaks = says!(Response::new(script([Step::Data("a"), Step::Fail])));
    let early = says!(Response::new(Body::from("early")));
    let endless = service_fn(|_: Request<Body>| async {
        let endless = http_body_util::StreamBody::new(futures_util::stream::repeat_with(|| {
            Ok::<_, io::Error>(http_body::Frame::data(Bytes::from_static(b"more")))
        }));
        Ok::<_, io::Error>(Response::new(endless))
    });
    for ((handle, body), expected) in [
        (mirrored(silent).await, Some(Dropped::Deadline)),
        (mirrored(stuck).await, Some(Dropped::Behind)),
        (mirrored(fails).await, Some(Dropped::Failed)),
        (mirrored(panics).await, Some(Dropped::Failed)),
        (mirrored(breaks).await, Some(Dropped::Failed)),
        (mirrored(early).await, None),
        (mirrored(endless).await, None),
    ] {
        assert_eq!(body, "read");
        for why in Dropped::ALL {
            assert_eq!(handle.dropped(*why), u64::from(Some(*why) == expected), "{why:?} for {expected:?}");
        }
        assert_eq!(handle.completed(), u64::from(expected.is_none()), "{expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_shadows_at_once() {
    let policy = Policy::new("m").most_in_flight(NonZeroU32::new(2).unwrap());
    let handle = policy.handle();
    let silent = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, io::Error>>());
    let service = MirrorLayer::new(policy, silent).layer(reader!(Reads::default()));
    for _ in 0..5 {
        service.clone().oneshot(Request::new(Body::empty())).await.unwrap();
    }
    assert_eq!((handle.begun(), handle.in_flight(), handle.dropped(Dropped::Busy)), (2, 2, 3));
    sleep(Duration::from_secs(16)).await;
    assert_eq!((handle.in_flight(), handle.dropped(Dropped::Deadline)), (0, 2));
    service.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(handle.begun(), 3);
}

/// Once its request is whole, it is the shadow's own.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_the_shadow_its_time() {
    let reads = Reads::default();
    let policy = Policy::new("m");
    let handle = policy.handle();
    let slow = {
        let reads = Arc::clone(&reads);
        service_fn(move |request: Request<Body>| {
            let reads = Arc::clone(&reads);
            async move {
                a_second().await;
                read(reads, request).await
            }
        })
    };
    let reads_and_waits = service_fn(|request: Request<Body>| async {
        let _ = request.into_body().collect().await;
        pending::<Result<Response<Body>, io::Error>>().await
    });
    let service = MirrorLayer::new(policy, slow).layer(reads_and_waits);

    let mut call = tokio_test::task::spawn(service.clone().oneshot(Request::new(script([Step::Data("a")]))));
    assert!(call.poll().is_pending());
    drop(call);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((handle.completed(), reads.lock().unwrap().len()), (1, 1));

    // Its request will never be whole.
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    send.send("half").unwrap();
    let mut call = tokio_test::task::spawn(service.oneshot(Request::new(Body::new(Channel(receive)))));
    assert!(call.poll().is_pending());
    drop(call);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((handle.completed(), handle.dropped(Dropped::Cut), handle.in_flight()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_share_is_drawn_and_seeded() {
    let count = async |seed| {
        let policy = Policy::new("m").share(Ratio::percent(10)).chance(Chance::seeded(seed));
        let handle = policy.handle();
        let service = MirrorLayer::new(policy, reader!(Reads::default())).layer(reader!(Reads::default()));
        for _ in 0..1_000 {
            service.clone().oneshot(Request::new(Body::empty())).await.unwrap();
            tokio::task::yield_now().await;
        }
        handle.begun()
    };
    let drawn = count(1).await;
    assert!((50..150).contains(&drawn), "{drawn}");
    assert_eq!(count(1).await, drawn);
}

#[tokio::test(start_paused = true)]
async fn several_mirrors_have_their_own_numbers() {
    let (one, other) = (Reads::default(), Reads::default());
    let layer = MirrorLayer::new(Policy::new("one"), tower::util::BoxCloneSyncService::new(reader!(one)))
        .and(Policy::new("other"), tower::util::BoxCloneSyncService::new(reader!(other)))
        .and(
            Policy::new("none").share(Ratio::NEVER),
            tower::util::BoxCloneSyncService::new(reader!(Reads::default())),
        );
    let body = script([Step::Data("abc"), Step::Pending, Step::Data("d")]);
    layer.layer(reader!(Reads::default())).oneshot(Request::new(body)).await.unwrap();
    a_second().await;
    for reads in [one, other] {
        assert_eq!(reads.lock().unwrap()[0].1, "abcd");
    }
    let begun: Vec<_> = layer.handles().iter().map(MirrorHandle::begun).collect();
    assert_eq!(begun, [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn tunnels_have_no_shadow() {
    let policy = Policy::new("m");
    let handle = policy.handle();
    let service = MirrorLayer::new(policy, reader!(Reads::default())).layer(reader!(Reads::default()));
    let connect = Request::connect("shop.example:443").body(Body::empty()).unwrap();
    let upgrade = Request::get("/").header("upgrade", "websocket").body(Body::empty()).unwrap();
    for request in [connect, upgrade] {
        service.clone().oneshot(request).await.unwrap();
    }
    assert_eq!(handle.begun(), 0);
}

#[test]
fn a_runtime_that_ends_takes_its_shadows_with_it() {
    let policy = Policy::new("m");
    let handle = policy.handle();
    let silent = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, io::Error>>());
    let service = MirrorLayer::new(policy, silent).layer(reader!(Reads::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(service.clone().oneshot(Request::new(Body::empty()))).unwrap();
    assert_eq!(handle.in_flight(), 1);
    drop(runtime);
    assert_eq!((handle.in_flight(), handle.dropped(Dropped::Failed)), (0, 1));
    let answered = tokio_test::block_on(async { 1 });
    assert_eq!(answered, 1);
}
