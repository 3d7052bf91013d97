//! What is given, and for how long.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_good_is_given_while_the_server_fails() {
    let world = World::new(Stale::new());
    world.serves(|_| {
        good(&[("content-type", "text/plain"), ("age", "7"), ("x-a", "1"), ("x-a", "2")], "good")
    });
    assert!(!world.ask(get("/a?b=1")).await.old);
    world.fails();
    advance(Duration::from_secs(60)).await;
    let response = world.send(get("/a?b=1")).await;
    let headers = response.headers().clone();
    assert_eq!((response.status(), headers.get_all("x-a").iter().count()), (StatusCode::OK, 2));
    assert_eq!(
        (&headers["age"], &headers["content-type"]),
        (&"67".parse().unwrap(), &"text/plain".parse().unwrap())
    );
    assert_eq!(headers["cache-status"], "portcullis; fwd=stale; detail=stale-if-error");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "good");

    let head = world.send(Request::head("/a?b=1").body(Body::empty()).unwrap()).await;
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].as_bytes()), (200, &b"4"[..]));
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());

    for other in [
        get("/a"),
        get("/a?b=2"),
        with("/a?b=1", &[("accept", "text/html")]),
        with("/a?b=1", &[("accept-encoding", "br")]),
        with("/a?b=1", &[("accept-language", "de")]),
        with("/a?b=1", &[("origin", "https://other.example")]),
        with("/a?b=1", &[("host", "other.example")]),
        get("https://other.example/a?b=1"),
    ] {
        assert_eq!(world.ask(other).await.status, 503);
    }
    // Each good answer takes the place of the one before.
    world.serves(|_| good(&[], "better"));
    world.ask(get("/a?b=1")).await;
    world.fails();
    assert_eq!(world.ask(get("/a?b=1")).await, Told { status: 200, text: "better".into(), old: true });
    assert_eq!(world.stale.kept(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn its_server_says_for_how_long() {
    let plain = || get("/");
    for (headers, lasts) in [
        (&[][..], 3600_u64),
        (&[("cache-control", "max-age=60")], 3600),
        (&[("cache-control", "max-age=60, stale-if-error=30")], 90),
        (&[("cache-control", "max-age=60, stale-if-error=86400")], 3600),
        (&[("cache-control", "stale-if-error=30")], 30),
        (&[("cache-control", "stale-if-error=0")], 0),
        (&[("cache-control", "max-age=60, stale-if-error=30"), ("age", "80")], 10),
        (&[("cache-control", "max-age=60, must-revalidate")], 60),
        (&[("cache-control", "max-age=60, proxy-revalidate")], 60),
        (&[("cache-control", "max-age=60, s-maxage=10")], 10),
        (&[("cache-control", "max-age=60, s-maxage=10, stale-if-error=999")], 10),
        (&[("cache-control", "must-revalidate")], 0),
        (&[("age", "3000")], 600),
        (&[("age", "3600")], 0),
        (&[("cache-control", "no-store")], 0),
        (&[("cache-control", "no-cache")], 0),
        (&[("cache-control", "no-cache=\"x-a\"")], 0),
        (&[("cache-control", "private, max-age=60")], 0),
        (&[("set-cookie", "a=b")], 0),
        (&[("content-range", "bytes 0-3/9")], 0),
        (&[("vary", "Accept-Encoding, origin")], 3600),
        (&[("vary", "cookie")], 0),
        (&[("vary", "accept"), ("vary", "x-a")], 0),
        (&[("vary", "*")], 0),
    ] {
        let world = World::new(Stale::new());
        assert_eq!(world.keeps(headers, plain, lasts.saturating_sub(1)).await, lasts > 0, "{headers:?}");
        let world = World::new(Stale::new());
        assert!(!world.keeps(headers, plain, lasts).await, "{headers:?} after {lasts} s");
    }
}

#[tokio::test(start_paused = true)]
async fn some_requests_are_left_alone() {
    fn grpc() -> Request<Body> {
        with("/", &[("content-type", "application/grpc")])
    }
    fn no_store() -> Request<Body> {
        with("/", &[("cache-control", "no-store")])
    }
    fn with_body() -> Request<Body> {
        get("/").map(|_| Body::from("a query"))
    }
    fn post() -> Request<Body> {
        Request::post("/").body(Body::empty()).unwrap()
    }
    fn head() -> Request<Body> {
        Request::head("/").body(Body::empty()).unwrap()
    }
    for request in [grpc, no_store, with_body, post, head] {
        let world = World::new(Stale::new());
        assert!(!world.keeps(&[], request, 0).await, "{:?}", request());
        assert!(!world.ask(get("/")).await.old, "it was not kept either");
    }
    // These are kept, and given to others.
    for request in [
        with("/", &[("cache-control", "no-cache")]),
        with("/", &[("if-match", "\"a\"")]),
        with("/", &[("if-unmodified-since", "Sat, 21 Nov 2026 00:00:00 GMT")]),
    ] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/"), 0).await);
        assert_eq!(world.ask(request).await.status, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_without_end_is_one() {
    let world = World::new(Stale::new().max_age(Duration::MAX));
    assert!(world.keeps(&[], get_root, 60_000_000).await);
    let world = World::new(Stale::new().max_age(Duration::MAX));
    assert!(world.keeps(&[("cache-control", "stale-if-error=99999999999999999999")], get_root, 1).await);
}
