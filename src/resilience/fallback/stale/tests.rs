use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    body::{
        Body,
        script::{Script, Step},
    },
    identity::{PeerIdentity, Principal},
    key::{Key, RouteName},
    resilience::fallback::{FallbackLayer, Policy},
    trail::{FellBack, Given},
};

type Server = Arc<Mutex<Box<dyn FnMut(&Request<Body>) -> Response<Body> + Send>>>;

/// A server that does as it is told, behind a fallback that gives old answers.
struct World {
    stale: Stale,
    server: Server,
    service: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>,
}

/// What was given.
#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    text: String,
    old: bool,
}

impl World {
    fn new(stale: Stale) -> Self {
        let server: Server = Arc::new(Mutex::new(Box::new(|_| failure())));
        let serve = Arc::clone(&server);
        let inner = service_fn(move |request: Request<Body>| {
            let response = serve.lock().unwrap()(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let service = FallbackLayer::new(Policy::cases().stale(stale.clone())).layer(inner);
        let service = ServiceExt::<Request<Body>>::map_response(service, |response: Response<_>| {
            response.map(Body::new)
        });
        Self { stale, server, service: BoxCloneSyncService::new(service) }
    }

    fn serves(&self, make: impl FnMut(&Request<Body>) -> Response<Body> + Send + 'static) {
        *self.server.lock().unwrap() = Box::new(make);
    }

    fn fails(&self) {
        self.serves(|_| failure());
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        advance(Duration::from_millis(2)).await;
        self.service.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, request: Request<Body>) -> Told {
        let response = self.send(request).await;
        let old = response.extensions().get::<FellBack>().is_some_and(|fell| fell.given == Given::Stale);
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Told { status, text: String::from_utf8(bytes.to_vec()).unwrap(), old }
    }

    /// Whether an answer for everybody with these headers to this is given after `later`.
    async fn keeps(
        &self,
        headers: &'static [(&str, &str)],
        request: fn() -> Request<Body>,
        later: u64,
    ) -> bool {
        self.keeps_as_said(move || good(headers, "good"), request, later).await
    }

    async fn keeps_as_said(
        &self,
        answer: impl Fn() -> Response<Body> + Send + 'static,
        request: fn() -> Request<Body>,
        later: u64,
    ) -> bool {
        self.serves(move |_| answer());
        assert_eq!(self.ask(request()).await.text, "good");
        self.fails();
        advance(Duration::from_secs(later)).await;
        self.ask(request()).await.old
    }
}

fn failure() -> Response<Body> {
    Response::builder().status(503).body(Body::from("failure")).unwrap()
}

/// For everybody.
fn public(body: Body) -> Response<Body> {
    Response::builder().header("cache-control", "public").body(body).unwrap()
}

/// The same, with these headers.
fn good(headers: &[(&'static str, &'static str)], body: &'static str) -> Response<Body> {
    said(public(Body::from(body)), headers)
}

fn said(mut response: Response<Body>, headers: &[(&'static str, &'static str)]) -> Response<Body> {
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

fn get(path: &str) -> Request<Body> {
    with(path, &[])
}

fn with(path: &str, headers: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

fn of(principal: &str, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Principal::new("idp", "https://idp.example", principal));
    request
}

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
async fn what_is_not_called_everybodys_is_kept_for_whom_a_key_tells() {
    fn by(keys: impl IntoIterator<Item = Key>) -> Stale {
        Stale::new().key(Key::tuple(keys))
    }
    fn session() -> Key {
        Key::Cookie("session".into())
    }
    fn alice() -> Request<Body> {
        of("alice", get("/"))
    }
    fn cookie() -> Request<Body> {
        with("/", &[("cookie", "session=a")])
    }
    fn token() -> Request<Body> {
        with("/", &[("authorization", "Bearer a")])
    }
    fn anybody() -> Request<Body> {
        get("/")
    }
    fn customer() -> Request<Body> {
        of("app", with("/", &[("x-session", "1")]))
    }
    let (nothing, private, public) = ("max-age=60", "private", "public");
    for (stale, control, request, kept) in [
        // Whose these are is not known: a principal may be an application, and a credential a header like others.
        (Stale::new(), nothing, anybody as fn() -> _, false),
        (Stale::new(), nothing, alice, false),
        (Stale::new(), nothing, cookie, false),
        (Stale::new(), nothing, token, false),
        (Stale::new(), private, alice, false),
        (Stale::new(), private, customer, false),
        (Stale::new(), "max-age=60, must-revalidate", token, false),
        (Stale::new(), "public, private", alice, false),
        (Stale::new(), public, anybody, true),
        (Stale::new(), public, cookie, true),
        (Stale::new(), public, customer, true),
        (Stale::new(), "s-maxage=60", token, true),
        // Who says whose they are.
        (by([session()]), private, cookie, true),
        (by([session()]), nothing, cookie, true),
        (by([Key::Principal]), private, alice, true),
        // Without all parts of the key nothing is kept.
        (by([session()]), public, token, false),
        (by([Key::Principal]), public, anybody, false),
        (by([Key::Principal, session()]), public, alice, false),
        (by([Key::Principal, session()]), public, cookie, false),
        // These tell nobody apart.
        (by([]), private, token, false),
        (by([Key::ClientAddr]), private, token, false),
        (by([Key::Route]), private, token, false),
    ] {
        let world = World::new(stale);
        let answer =
            move || Response::builder().header("cache-control", control).body(Body::from("good")).unwrap();
        assert_eq!(world.keeps_as_said(answer, request, 1).await, kept, "{control} {:?}", request());
    }
    let world = World::new(Stale::new());
    assert!(!world.keeps_as_said(|| Response::new(Body::from("good")), get_root, 0).await, "it says nothing");
}

fn get_root() -> Request<Body> {
    get("/")
}

#[tokio::test(start_paused = true)]
async fn what_is_one_callers_is_no_others() {
    fn alice() -> Request<Body> {
        of("alice", with("/", &[("cookie", "session=a")]))
    }
    let with_cookie = |cookie| of("alice", with("/", &[("cookie", cookie)]));
    let mut partner = alice();
    partner.extensions_mut().insert(Principal::new("partners", "https://idp.example", "alice"));
    let mut peer = alice();
    peer.extensions_mut().insert(PeerIdentity::new([7; 32]));
    let mut guest = alice();
    guest.extensions_mut().insert(Principal::new("anonymous", "", "guest").into_guest());
    let mut routed = alice();
    routed.extensions_mut().insert(RouteName("another".into()));
    // Those of everybody are apart too: servers may have been told who asks.
    for stale in [Stale::new(), Stale::new().key(Key::Cookie("session".into()))] {
        let world = World::new(stale);
        assert!(world.keeps(&[], alice, 0).await);
        let again = |request: &Request<Body>| {
            let mut copy = Request::new(Body::empty());
            (*copy.uri_mut(), *copy.headers_mut()) = (request.uri().clone(), request.headers().clone());
            *copy.extensions_mut() = request.extensions().clone();
            copy
        };
        for other in [&partner, &peer, &guest, &routed, &of("bob", alice())] {
            assert!(!world.ask(again(other)).await.old, "{:?}", other.extensions());
        }
        assert!(world.ask(alice()).await.old);
        let is_by_session = world.stale.by.is_some();
        assert_eq!(world.ask(with_cookie("session=b")).await.old, !is_by_session);
        assert_eq!(world.ask(of("alice", get("/"))).await.old, !is_by_session);
    }
}

/// What chooses the server, or tells it who asks.
#[tokio::test(start_paused = true)]
async fn what_it_varies_by_tells_requests_apart() {
    fn tenant() -> Request<Body> {
        with("/", &[("x-tenant", "a")])
    }
    let varies = || {
        let keys = [Key::Header("x-tenant".parse().unwrap()), Key::Cookie("version".into())];
        World::new(Stale::new().varies_by(keys))
    };
    let others = || {
        [
            with("/", &[("x-tenant", "b")]),
            with("/", &[("x-tenant", "")]),
            with("/", &[("x-tenant", "a"), ("x-tenant", "b")]),
            with("/", &[("x-tenant", "a"), ("cookie", "version=2")]),
            get("/"),
        ]
    };
    let world = varies();
    assert!(world.keeps(&[("vary", "x-tenant")], tenant, 0).await);
    for other in others() {
        assert!(!world.ask(other).await.old);
    }
    let world = varies();
    assert!(world.keeps(&[], get_root, 0).await, "who lacks them is apart, too");
    assert!(!world.ask(tenant()).await.old);
    // The same value is another's by another name.
    let world = varies();
    assert!(world.keeps(&[], tenant, 0).await);
    let renamed = world.stale.clone();
    let renamed = World::new(
        Stale { varies: Stale::new().varies, ..renamed }
            .varies_by([Key::Header("x-owner".parse().unwrap()), Key::Cookie("version".into())]),
    );
    assert!(!renamed.ask(with("/", &[("x-owner", "a")])).await.old);
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_is_no_longer_given() {
    for (method, status, forgotten) in [
        ("POST", 201, true),
        ("PUT", 204, true),
        ("DELETE", 303, true),
        ("POST", 409, false),
        ("POST", 500, false),
        ("OPTIONS", 200, false),
    ] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/a?page=2"), 0).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(Request::builder().method(method).uri("/a").body(Body::empty()).unwrap()).await;
        world.fails();
        assert_eq!(world.ask(get("/a?page=2")).await.old, !forgotten, "{method} {status}");
        assert!(world.keeps(&[], || get("/a?page=2"), 0).await, "what comes after is kept");
    }
    // What was asked for before, and comes after.
    let world = World::new(Stale::new());
    world.serves(|_| public(Body::new(Script::new([Step::Data("old"), Step::Pending, Step::Data("er")]))));
    let before = world.send(get("/a")).await;
    world.ask(Request::post("/a").body(Body::empty()).unwrap()).await;
    assert_eq!(before.into_body().collect().await.unwrap().to_bytes(), "older");
    world.fails();
    assert!(!world.ask(get("/a")).await.old);
    assert_eq!(world.stale.kept(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_no_longer_given() {
    for (status, forgotten) in [
        (204, true),
        (301, true),
        (401, true),
        (403, true),
        (404, true),
        (410, true),
        (304, false),
        (400, false),
        (408, false),
        (429, false),
        (500, false),
    ] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/a"), 0).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(get("/a")).await;
        world.fails();
        assert_eq!(world.ask(get("/a")).await.old, !forgotten, "{status}");
    }
    let world = World::new(Stale::new());
    assert!(world.keeps(&[], || get("/a"), 0).await);
    assert!(!world.keeps(&[("cache-control", "no-store")], || get("/a"), 0).await);
    // HEAD tells it, too, but not by what it says of good answers.
    for (status, forgotten) in [(410, true), (200, false), (500, false)] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/a"), 0).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(Request::head("/a").body(Body::empty()).unwrap()).await;
        world.fails();
        assert_eq!(world.ask(get("/a")).await.old, !forgotten, "HEAD {status}");
    }
}

/// Somebody is reading it still while it is taken down.
#[tokio::test(start_paused = true)]
async fn what_is_taken_down_while_it_is_read_does_not_come_back() {
    for status in [401, 403, 404, 410] {
        let world = World::new(Stale::new());
        let served = || public(Body::new(Script::new([Step::Data("se"), Step::Pending, Step::Data("cret")])));
        world.serves(move |_| served());
        let (slow, other) = (world.send(get("/a")).await, world.send(get("/b")).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(get("/a")).await;
        for response in [slow, other] {
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "secret");
        }
        world.fails();
        assert!(!world.ask(get("/a")).await.old, "{status}");
        assert!(world.ask(get("/b")).await.old, "{status}");
        // What is asked for after is another.
        assert!(world.keeps(&[], || get("/a"), 0).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_without_end_is_one() {
    let world = World::new(Stale::new().max_age(Duration::MAX));
    assert!(world.keeps(&[], get_root, 60_000_000).await);
    let world = World::new(Stale::new().max_age(Duration::MAX));
    assert!(world.keeps(&[("cache-control", "stale-if-error=99999999999999999999")], get_root, 1).await);
}

#[tokio::test(start_paused = true)]
async fn only_whole_bodies_are_kept() {
    use Step::{Data, Fail, LastData, Pending, Trailers};
    for (length, steps, kept) in [
        (None, &[Data("ab"), Pending, Data("cd")][..], Some("abcd")),
        (None, &[Data("ab"), LastData("cd")], Some("abcd")),
        (None, &[], Some("")),
        (Some("4"), &[Data("ab"), Data("cd")], Some("abcd")),
        (Some("5"), &[Data("ab"), Data("cd")], None),
        (Some("9"), &[Data("ab"), Data("cd")], None),
        (Some("many"), &[Data("ab")], None),
        (None, &[Data("ab"), Fail], None),
        (None, &[Data("ab"), Trailers("0")], None),
        (None, &[Data("abcd"), Data("efghi")], None),
        (None, &[Data("abcd"), Data("efgh")], Some("abcdefgh")),
    ] {
        let world = World::new(Stale::new().max_body(8));
        world.serves(move |_| {
            let mut response = public(Body::new(Script::new(steps.to_vec()).untold()));
            length.map(|length| response.headers_mut().insert("content-length", length.parse().unwrap()));
            response
        });
        world.ask(get("/")).await;
        world.fails();
        let told = world.ask(get("/")).await;
        assert_eq!(told.old.then_some(&*told.text), kept, "{length:?} {steps:?}");
        assert_eq!(world.stale.kept(), (u64::from(kept.is_some()), u64::from(kept.is_none())));
        assert_eq!(world.stale.store.recordings.taken(), 0);
    }
    // Nobody has read it to its end.
    let world = World::new(Stale::new());
    world.serves(|_| public(Body::new(Script::new([Data("ab"), Data("cd")]))));
    let mut body = world.send(get("/")).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    world.fails();
    assert!(!world.ask(get("/")).await.old);
    assert_eq!(world.stale.store.recordings.taken(), 0);
}

/// Servers stop to ask for frames when there were as many bytes as `Content-Length` has said.
#[tokio::test(start_paused = true)]
async fn a_body_ends_where_its_length_says() {
    let world = World::new(Stale::new());
    world.serves(|_| {
        let mut response = public(Body::new(Script::new([Step::Data("abcd"), Step::End]).untold()));
        response.headers_mut().insert("content-length", "4".parse().unwrap());
        response
    });
    let mut body = world.send(get("/")).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    world.fails();
    assert_eq!(world.ask(get("/")).await.text, "abcd");
}

#[tokio::test(start_paused = true)]
async fn it_stays_within_its_bounds() {
    const MOST: usize = 64 * 1024;
    let world = World::new(Stale::new().max_bytes(MOST).max_body(4096).max_entries(64));
    let mut open = Vec::new();
    for n in 0..2_000_usize {
        let (size, byte) = (n * 37 % 6_000, n as u8);
        world.serves(move |_| public(Body::new(Full::new(Bytes::from(vec![byte; size])))));
        let long = "k".repeat(n % 900);
        let mut response = world.send(get(&format!("/{n}?{long}"))).await;
        if n % 5 == 0 {
            // Read once, and left there.
            let frame = response.body_mut().frame().await;
            assert_eq!(frame.is_some(), size > 0);
            open.push(response);
            open.drain(..open.len().saturating_sub(50));
        } else {
            response.into_body().collect().await.unwrap();
        }
        assert!(world.stale.bytes() <= MOST, "{} bytes", world.stale.bytes());
        assert!(world.stale.entries() <= 64);
    }
    // Bodies that never end take no more than their share.
    world.serves(|_| public(Body::new(Script::new([Step::Data("abc"), Step::Data("d")]).untold())));
    for n in 0..20_000 {
        let mut response = world.send(get(&format!("/open/{n}"))).await;
        response.body_mut().frame().await.unwrap().unwrap();
        open.push(response);
    }
    assert!(world.stale.store.recordings.taken() <= MOST / 4);
    drop(open);
    assert_eq!(world.stale.store.recordings.taken(), 0);
    assert!(world.stale.kept().0 > 1_000 && world.stale.bytes() <= MOST);
}

/// Four who read large answers slowly, as much as there is room for: for two seconds nobody else's is kept, but no longer.
#[tokio::test(start_paused = true)]
async fn who_reads_slowly_gives_way() {
    const SIZE: usize = 1 << 16;
    let world = World::new(Stale::new().max_bytes(17 * SIZE).max_body(SIZE));
    let full = || Body::new(Full::new(Bytes::from(vec![7; SIZE])).map_err(|never| match never {}));
    world.serves(move |_| {
        let first = Script::new([Step::Data("x".repeat(SIZE - 8).leak()), Step::End]);
        public(Body::new(first.untold()))
    });
    let mut slow = Vec::new();
    for n in 0..4 {
        let mut response = world.send(get(&format!("/slow/{n}"))).await;
        response.body_mut().frame().await.unwrap().unwrap();
        slow.push(response);
    }
    let taken = world.stale.store.recordings.taken();
    assert!(taken > 4 * (SIZE - 8) && taken <= 17 * SIZE / 4, "{taken}");
    world.serves(move |_| public(full()));
    let keeps = async |path: &str| {
        let before = world.stale.kept().0;
        world.ask(get(path)).await;
        world.stale.kept().0 > before
    };
    assert!(!keeps("/early").await);
    advance(Duration::from_secs(2)).await;
    assert!(keeps("/late").await);
    // One has given way, and is read to its end for all that; what did not have to is kept.
    let mut kept = Vec::new();
    for response in slow {
        let before = world.stale.kept().0;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_empty());
        kept.push(world.stale.kept().0 > before);
    }
    assert_eq!(kept, [false, true, true, true]);
    assert_eq!(world.stale.store.recordings.taken(), 0);
    world.fails();
    assert_eq!(world.ask(get("/late")).await.text.len(), SIZE);
}

/// An empty body, a frame at a time, and a cap of nothing at all.
#[tokio::test(start_paused = true)]
async fn a_store_without_room_keeps_nothing() {
    let world = World::new(Stale::new().max_bytes(0));
    assert!(!world.keeps(&[], || get("/"), 0).await);
    assert_eq!(world.stale.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_as_long_as_a_clone_of_its_store() {
    let before = World::new(Stale::new());
    before.serves(|_| good(&[], "good"));
    before.ask(get("/")).await;
    let after = World::new(before.stale.clone());
    assert!(after.ask(get("/")).await.old);
    assert!(!World::new(before.stale.clone().max_bytes(1 << 20)).ask(get("/")).await.old, "it begins empty");
}

const CONTROL: [&str; 6] =
    ["", "public", "private", "max-age=60", "s-maxage=60", "private, stale-if-error=60"];

#[derive(Debug, Clone)]
struct Caller {
    principal: Option<u8>,
    session: Option<u8>,
    token: Option<u8>,
}

impl Caller {
    fn request(&self, path: u8) -> Request<Body> {
        let mut request = get(&format!("/{path}"));
        let header = |n: u8| format!("session={n}").parse().unwrap();
        self.session.map(|session| request.headers_mut().insert("cookie", header(session)));
        self.token.map(|token| request.headers_mut().insert("authorization", header(token)));
        match self.principal {
            Some(principal) => of(&principal.to_string(), request),
            None => request,
        }
    }
}

fn caller() -> impl Strategy<Value = Caller> {
    let few = || proptest::option::of(0..2_u8);
    (few(), few(), few()).prop_map(|(principal, session, token)| Caller { principal, session, token })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes in whatever order: what is given was made for the same principal and key, and called everybody's where there
    /// is no key.
    #[test]
    fn nothing_private_goes_from_one_to_another(
        calls in proptest::collection::vec((caller(), 0..2_u8, 0..CONTROL.len(), any::<bool>()), 1..40),
        by in 0..4_usize,
    ) {
        let stale = match by {
            0 => Stale::new(),
            1 => Stale::new().key(Key::Principal),
            2 => Stale::new().key(Key::Cookie("session".into())),
            _ => Stale::new().key(Key::tuple([Key::Cookie("session".into()), Key::Header(http::header::AUTHORIZATION)])),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let world = World::new(stale);
            for (n, (asks, path, control, works)) in calls.iter().enumerate() {
                let control = CONTROL[*control];
                world.serves(move |_| {
                    let mut response = Response::new(Body::from(n.to_string()));
                    if !control.is_empty() {
                        response.headers_mut().insert("cache-control", control.parse().unwrap());
                    }
                    response
                });
                if !works {
                    world.fails();
                }
                let told = world.ask(asks.request(*path)).await;
                if !told.old {
                    continue;
                }
                let (made_for, made_at, control, _) = &calls[told.text.parse::<usize>().unwrap()];
                let control = CONTROL[*control];
                prop_assert_eq!((made_for.principal, made_at), (asks.principal, path));
                let known = |caller: &Caller| match by {
                    0 | 1 => (None, None),
                    2 => (caller.session, None),
                    _ => (caller.session, caller.token),
                };
                prop_assert_eq!(known(made_for), known(asks));
                match by {
                    0 => prop_assert!(control.contains("public") || control.contains("s-maxage"), "{}", control),
                    1 => prop_assert!(asks.principal.is_some()),
                    2 => prop_assert!(asks.session.is_some()),
                    _ => prop_assert!(asks.session.is_some() && asks.token.is_some()),
                }
            }
            Ok(())
        })?;
    }

    /// Whatever strangers say, it is not given for longer than we have said, and never what is not to be kept.
    #[test]
    fn what_servers_say_only_shortens(
        lines in proptest::collection::vec("(no-store|no-cache|private|public|must-revalidate|s-maxage=[0-9]{1,9}|max-age=[0-9]{1,9}|stale-if-error=[0-9]{0,12}|[ -~]{0,12})(, ?[ -~]{0,9})?", 0..4),
        vary in proptest::option::of("[ -~]{0,12}"),
        most in 0..100_000_u64,
    ) {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| { headers.append("cache-control", line.parse().unwrap()); });
        vary.iter().for_each(|line| { headers.append("vary", line.parse().unwrap()); });
        let most = Duration::from_secs(most);
        let says = |name| crate::freshness::says(&headers, name);
        for (stale, is_own) in [(Stale::new(), false), (Stale::new().key(Key::Principal), true)] {
            let lasts = stale.max_age(most).lasts(StatusCode::OK, &headers);
            prop_assert!(lasts.is_none_or(|lasts| lasts <= most));
            let is_shared = !says("private") && (says("public") || says("s-maxage"));
            if says("no-store") || says("no-cache") || !(is_own || is_shared) {
                prop_assert_eq!(lasts, None);
            }
        }
    }
}
