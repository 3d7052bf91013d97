//! What a request costs: allocations, counted.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use portcullis::{
    body::Body,
    head::Head,
    identity::PeerAddr,
    upstream::{Endpoint, Proxy, Session, SessionCookie, Subsets, Upstream, Wire},
};
use tower::ServiceExt;

use crate::support::least_allocations;

/// An upstream on a thread of its own, whose allocations are not counted.
fn elsewhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok")
                .unwrap();
        }
    });
    address
}

#[test]
fn a_request_on_a_pooled_connection_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = Upstream::builder("a").endpoint(elsewhere().to_string()).build().unwrap();
    let proxy = Proxy::new(group);
    let request = || {
        let mut request = Request::get("/a/b?c").header("host", "shop.example").header("accept", "*/*");
        for n in 0..6 {
            request = request.header(format!("x-{n}"), "value");
        }
        let mut request = request.body(Empty::<Bytes>::new()).unwrap();
        request.extensions_mut().insert(PeerAddr::new("192.0.2.7:1".parse().unwrap()));
        request
    };
    let round = |request| {
        runtime.block_on(async {
            let response = proxy.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        })
    };
    for _ in 0..10 {
        assert_eq!(round(request()), "ok");
    }
    let made = allocation_counter::measure(|| drop(request())).count_total;
    let count = least_allocations(|| drop(round(request()))) - made;
    println!("{count} allocations");
    assert!((1..=16).contains(&count), "{count} allocations");
}

/// The same over HTTP/2, which answers when a request has ended.
fn elsewhere_over_http2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(data) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.unwrap().len());
                    }
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
                });
            }
        });
    });
    address
}

/// What comes of a body over HTTP/2 is kept until there is an answer.
#[test]
fn a_body_on_a_pooled_connection_of_http2_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = Upstream::builder("a").endpoint(elsewhere_over_http2().to_string()).wire(Wire::Http2);
    let proxy = Proxy::new(group.build().unwrap());
    let streams = || {
        let piece = Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(&[b'x'; 1024])));
        Body::new(StreamBody::new(tokio_stream::iter([piece])))
    };
    let bodies: [fn() -> Body; 3] = [Body::empty, || Body::from("at hand"), streams];
    let [none, at_hand, streams] = bodies.map(|body| {
        let request = || Request::post("/").header("host", "shop.example").body(body()).unwrap();
        let round = || {
            runtime.block_on(async {
                let response = proxy.clone().oneshot(request()).await.unwrap();
                response.into_body().collect().await.unwrap().to_bytes()
            })
        };
        for _ in 0..10 {
            assert_eq!(round(), "ok");
        }
        let made = allocation_counter::measure(|| drop(request())).count_total;
        least_allocations(|| drop(round())) - made
    });
    println!(
        "{none} allocations without a body, {at_hand} with one at hand, {streams} with one that streams"
    );
    assert!((1..=19).contains(&none), "{none} allocations");
    assert!(at_hand <= none + 9, "{at_hand} and {none}");
    assert!(streams <= none + 8, "{streams} and {none}");
}

/// A connection has a task, and a call has none: not before its head, and not while its body comes.
#[test]
fn a_call_has_no_task() {
    fn during<S, B>(runtime: &tokio::runtime::Runtime, service: &S)
    where
        S: tower::Service<Request<Empty<Bytes>>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
        B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
    {
        let tasks = || runtime.metrics().num_alive_tasks();
        runtime.block_on(async {
            for round in 0..20 {
                let request = Request::get("/").header("host", "shop.example").body(Empty::new()).unwrap();
                let before = tasks();
                let mut calling = std::pin::pin!(service.clone().oneshot(request));
                let begun = std::future::poll_fn(|cx| {
                    assert!(calling.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(tasks())
                });
                let begun = begun.await;
                let response = calling.await.unwrap();
                let headed = tasks();
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
                if round > 0 {
                    assert_eq!((begun, headed, tasks()), (before, before, before));
                }
            }
        });
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = || Upstream::builder("a").endpoint(elsewhere().to_string()).build().unwrap();
    during(&runtime, &Proxy::new(group()));
    #[cfg(feature = "stack")]
    {
        use portcullis::{resilience::hedge, stack::mesh};
        use std::time::Duration;

        let policies = mesh::ClientLayer::new()
            .retry(Default::default())
            .attempt_timeout(Duration::from_secs(5))
            .hedge(hedge::Policy::after(Duration::from_secs(1)).idempotent_only());
        let destination = mesh::Destination::new(group()).policies(policies);
        during(&runtime, &mesh::Client::new(destination).unwrap());
    }
}

#[test]
fn a_pick_in_a_subset_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let of = |n: u16| Endpoint::new(format!("127.0.0.1:{n}")).label("version", format!("v{}", n % 7));
    let subsets = Subsets::new().by_headers([("version", http::HeaderName::from_static("x-version"))]);
    let orders = Upstream::builder("a").endpoints((1..100).map(of)).subsets(subsets).build().unwrap();
    let second = orders.subset([("version", "v2")]);
    let mut request = Request::get("/").header("x-version", "v3").body(()).unwrap();
    for (upstream, version) in [(&orders, 3), (&second, 2)] {
        let mut pick = || upstream.pick(&Head::of(&mut request)).unwrap().address().port() % 7;
        pick();
        let counted = allocation_counter::measure(|| assert_eq!(pick(), version));
        assert_eq!(counted.count_total, 0);
    }
}

/// A session costs the box that it is in, and what it tells the client a text and a field.
#[test]
fn a_session_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = Upstream::builder("a").endpoint(elsewhere().to_string()).build().unwrap();
    let session = Session::cookie(SessionCookie::new("s").unwrap());
    let [without, with] = [Proxy::new(group.clone()), Proxy::new(group).session(session)];
    let round = |proxy: &Proxy, cookie: &str| {
        let request = Request::get("/").header("host", "shop.example").header("cookie", cookie);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        runtime.block_on(async {
            let response = proxy.clone().oneshot(request).await.unwrap();
            let set = response.headers().get("set-cookie").cloned();
            response.into_body().collect().await.unwrap();
            set
        })
    };
    let told = round(&with, "a=1").unwrap();
    let cookie = told.to_str().unwrap().split(';').next().unwrap();
    for _ in 0..5 {
        round(&without, cookie);
        assert_eq!(round(&with, cookie), None);
    }
    let [plain, known, new] = [(&without, cookie), (&with, cookie), (&with, "a=1")]
        .map(|(proxy, cookie)| least_allocations(|| drop(round(proxy, cookie))));
    println!("{plain} allocations, {known} with a session, {new} with a new one");
    assert!(known <= plain + 1, "{known} and {plain}");
    assert!(new <= plain + 4, "{new} and {plain}");
}
