//! What becomes of its answer, or of none.

use super::*;

#[tokio::test]
async fn headers_of_a_pass_reach_the_upstream_and_the_caller_and_nobody_else_sets_them() {
    let (fetch, _) = authorizer(0, |question| match question.headers()["x-forwarded-uri"].as_bytes() {
        b"/known" => says(
            200,
            &[("x-user", "alice"), ("x-role", "a"), ("x-role", "b"), ("set-cookie", "s=1"), ("x-other", "1")],
        ),
        _ => says(200, &[]),
    });
    let gate = auth(fetch)
        .upstream_headers(names(["x-user", "x-role"]))
        .unwrap()
        .client_headers(names(["set-cookie"]))
        .unwrap();
    assert_eq!(gate.asserted_headers().cloned().collect::<Vec<_>>(), names(["x-user", "x-role"]));
    for path in ["/known", "/unknown"] {
        let mut request = get(path);
        for lie in ["x-user", "X-User", "x_user", "x-role", "X_Role"] {
            request
                .headers_mut()
                .append(HeaderName::from_bytes(lie.as_bytes()).unwrap(), "root".parse().unwrap());
        }
        let seen = call(&gate, request).await;
        let upstream = seen.upstream.unwrap();
        let of = |name: &str| {
            upstream.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (users, roles): (&[&str], &[&str]) =
            if path == "/known" { (&["alice"], &["a", "b"]) } else { (&[], &[]) };
        assert_eq!(
            (of("x-user"), of("x-role"), of("x_user"), of("x-other")),
            (
                users.iter().map(ToString::to_string).collect(),
                roles.iter().map(ToString::to_string).collect(),
                vec![],
                vec![]
            )
        );
        assert_eq!(seen.headers.contains_key("set-cookie"), path == "/known");
        assert!(!seen.headers.contains_key("x-user"));
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_as_the_authorizer_made_it() {
    let fields = [
        ("location", "https://login.example/?back=1"),
        ("set-cookie", "state=1"),
        ("set-cookie", "nonce=2"),
        ("www-authenticate", "Bearer realm=\"iam\""),
        ("content-type", "text/html"),
        ("x-internal", "secret"),
        ("connection", "close, x-user"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=1"),
        ("trailer", "x-user"),
        ("content-length", "21"),
        ("server", "iam/1.0"),
        ("retry-after", "7"),
    ];
    for (status, reason) in [
        (302, Reason::Forbidden),
        (401, Reason::InvalidCredentials),
        (403, Reason::Forbidden),
        (400, Reason::BadRequest),
        (418, Reason::Forbidden),
        (429, Reason::RateLimited),
    ] {
        let (fetch, _) = authorizer(0, move |_| says(status, &fields));
        let gate = auth(fetch);
        let mut request = get("/");
        let slate = Trail::join(&mut crate::head::Head::of(&mut request));
        let seen = call(&gate, request).await;
        assert_eq!((seen.status, &*seen.text, seen.reason), (status, "the authorizer's word", Some(reason)));
        assert!(seen.upstream.is_none());
        let mut told: Vec<_> = seen.headers.keys().map(HeaderName::as_str).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            ["cache-control", "content-type", "location", "retry-after", "set-cookie", "www-authenticate"]
        );
        assert_eq!(seen.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(seen.headers["cache-control"], "no-store");
        assert_eq!(slate.decision(), Some("iam"));

        let seen = call(&gate, grpc()).await;
        let code = match status {
            400 => "13",
            401 => "16",
            429 => "8",
            _ => "7",
        };
        assert_eq!(
            (seen.status, &seen.headers["grpc-status"], &*seen.text),
            (200, &code.parse().unwrap(), "")
        );
        assert!(!seen.headers.contains_key("set-cookie"));
        let after = seen.headers.get("grpc-retry-pushback-ms");
        assert_eq!(after.is_some_and(|after| after == "7000"), status == 429);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_closed_and_blames_nobody_who_asks() {
    let silent = |_: &Request<Bytes>| says(200, &[]);
    let broken = Fetch::new(service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(std::io::Error::other("down"))
    }));
    let huge = |_: &Request<Bytes>| {
        let (mut parts, _) = says(403, &[]).into_parts();
        parts.headers.clear();
        Response::from_parts(parts, Body::from("x".repeat(70_000)))
    };
    let wide = |_: &Request<Bytes>| says(200, &[("x-user", &"x".repeat(17_000))]);
    for (name, fetch) in [
        ("an error", authorizer(0, |_| says(500, &[])).0),
        ("unavailable", authorizer(0, |_| says(503, &[])).0),
        ("a switch of protocols", authorizer(0, |_| says(101, &[])).0),
        ("a status that is none", authorizer(0, |_| says(777, &[])).0),
        ("too late", authorizer(60_000, silent).0),
        ("no connection", broken),
        ("too much", authorizer(0, huge).0.max_body(64 * 1024)),
        ("too many headers", authorizer(0, wide).0),
    ] {
        let gate = auth(fetch).upstream_headers(names(["x-user"])).unwrap();
        let seen = call(&gate, get("/")).await;
        assert_eq!((seen.status, seen.reason), (503, Some(Reason::AuthorizerUnavailable)), "{name}");
        assert_eq!(seen.headers["retry-after"], "1");
        assert!(seen.upstream.is_none(), "{name}");
        let seen = call(&gate, grpc()).await;
        assert_eq!(seen.headers["grpc-status"], "14", "{name}");
        assert_eq!(gate.handle().failed(), 2);

        let told = call(&gate.clone().on_failure(Reason::Forbidden), get("/")).await;
        assert_eq!((told.status, told.headers.contains_key("retry-after")), (403, false), "{name}");
        let mut lying = get("/");
        lying.headers_mut().insert("x-user", "root".parse().unwrap());
        let open = call(&gate.danger_fail_open(), lying).await;
        assert_eq!((open.status, open.upstream.unwrap().contains_key("x-user")), (200, false), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_keeps_failing_is_spared() {
    let (fetch, log) = authorizer(0, |_| says(500, &[]));
    let gate = auth(fetch.clone());
    for n in 0..20 {
        assert_eq!(call(&gate, from(n, "/")).await.status, 503);
    }
    let asked = log.lock().unwrap().len();
    assert_eq!(asked, 5);
    let unspared = auth(fetch).breaker(None::<trip::Policy>);
    for _ in 0..20 {
        assert_eq!(call(&unspared, get("/")).await.status, 503);
    }
    assert_eq!(log.lock().unwrap().len(), asked + 20);
}

#[tokio::test(start_paused = true)]
async fn who_makes_it_fail_keeps_nobody_from_being_asked_about() {
    let answer = |question: &Request<Bytes>| match question.headers()["x-forwarded-uri"].as_bytes() {
        b"/wide" => says(200, &[("x-user", &"x".repeat(17_000))]),
        b"/fails" => says(500, &[]),
        b"/huge" => Response::builder().status(403).body(Body::from("x".repeat(70_000))).unwrap(),
        _ => says(403, &[]),
    };
    for odd in ["/wide", "/huge", "/fails"] {
        let (fetch, log) = authorizer(0, answer);
        let gate = auth(fetch.max_body(64 * 1024)).upstream_headers(names(["x-user"])).unwrap();
        let gate = gate.danger_fail_open();
        for _ in 0..30 {
            assert_eq!(call(&gate, from(66, odd)).await.status, 200, "{odd}");
        }
        // The others are asked about still, and refused.
        assert_eq!(call(&gate, from(7, "/")).await.status, 403, "{odd}");
        assert_eq!(log.lock().unwrap().len(), 31);
    }
}

/// The answer to a call with policies inside, what the caller is told of who decided, and what the log is.
async fn decided(gate: &ExternalAuth, request: Request<Body>) -> (u16, Option<String>, Option<String>) {
    let to = |path: &str| Rule::new().to(Operation::new().paths([path]).unwrap());
    let inside = Authorization::new([Policy::deny("no-exports").rule(to("/transfers/export"))]).unwrap();
    let told_in = HeaderName::from_static("x-decision");
    // An upstream does not say who decided here.
    let upstream = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(
            Response::builder().header("x-decision", "allow all").body(Body::empty()).unwrap(),
        )
    });
    let mut request = request;
    let slate = Trail::join(&mut crate::head::Head::of(&mut request));
    let is_in = request.uri().path().ends_with("export");
    let gate = gate.clone().told_in(told_in.clone()).layer();
    let response = if is_in {
        let answer =
            gate.layer(inside.told_in(told_in).layer().layer(upstream)).oneshot(request).await.unwrap();
        answer.map(|_| ())
    } else {
        gate.layer(upstream).oneshot(request).await.unwrap().map(|_| ())
    };
    let lines: Vec<_> = response.headers().get_all("x-decision").iter().collect();
    assert!(lines.len() < 2, "{lines:?}");
    let told = lines.first().map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), told, slate.decision().map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn who_decided_is_told_logged_and_counted() {
    let (fetch, _) =
        authorizer(0, |question| match question.headers()["x-forwarded-uri"].to_str().unwrap() {
            "/transfers/no" | "/orders.v1.Orders/Get" => says(403, &[]),
            "/transfers/lost" => says(500, &[]),
            _ => says(200, &[]),
        });
    let rule = Rule::new().name("some").to(Operation::new().not_paths(["/free"]).unwrap());
    let tally = Tally::new();
    let guard = Guard::new([Policy::custom("risk").rule(rule)], &tally).unwrap();
    let (always, gate) = (auth(fetch.clone()), auth(fetch).guarded(guard));
    let some = |text: &str| Some(text.to_owned());
    for (request, status, told, log) in [
        (get("/transfers/7"), 200, "allow risk/some", "risk/some"),
        (get("/transfers/no"), 403, "deny risk/some", "risk/some"),
        (grpc(), 200, "deny risk/some", "risk/some"),
        (get("/transfers/lost"), 503, "deny risk/some", "risk/some"),
        // The one that decides in the end is named.
        (get("/transfers/export"), 403, "deny no-exports/0", "no-exports/0"),
    ] {
        let path = request.uri().path().to_owned();
        assert_eq!(decided(&gate, request).await, (status, some(told), some(log)), "{path}");
    }
    // Nobody decided but the upstream.
    assert_eq!(decided(&gate, get("/free")).await, (200, some("allow all"), None));
    assert_eq!(decided(&always, get("/transfers/no")).await, (403, some("deny iam"), some("iam")));
    let open = gate.clone().danger_fail_open();
    assert_eq!(
        decided(&open, get("/transfers/lost")).await,
        (200, some("allow risk/some"), some("risk/some"))
    );

    let counts: Vec<_> = tally.read().iter().map(|count| (count.action, count.decisions)).collect();
    assert_eq!(counts, [("allow", 3), ("custom", 6), ("deny", 3)]);
}
