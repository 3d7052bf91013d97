//! Whose an answer is, and to whom it is given.

use super::*;

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
