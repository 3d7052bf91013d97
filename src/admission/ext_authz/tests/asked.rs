//! What an authorizer is asked.

use super::*;

#[tokio::test]
async fn what_is_sent_is_what_was_chosen_and_where_it_came_from() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let gate = auth(fetch).request_headers(names(["authorization", "x-device"])).unwrap();
    let mut request = Request::post("http://shop.example/orders/7?dry=1")
        .header("authorization", "Bearer a")
        .header("x-device", "1")
        .header("x-device", "2")
        .header("cookie", "session=secret")
        .header("x-forwarded-uri", "/public")
        .header("x-forwarded-for", "1.1.1.1")
        .body(Body::from("order"))
        .unwrap();
    request.extensions_mut().insert(ClientAddr::new([192, 0, 2, 7].into(), None));
    let seen = call(&gate, request).await;
    assert_eq!((seen.status, &*seen.text), (200, "order"));

    let asked = log.lock().unwrap();
    assert_eq!(
        (asked[0].method(), asked[0].uri().to_string().as_str()),
        (&Method::GET, "http://iam.internal/check")
    );
    let sent: Vec<_> = asked[0]
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(
        sent,
        [
            "authorization: Bearer a",
            "x-device: 1",
            "x-device: 2",
            "x-forwarded-method: POST",
            "x-forwarded-proto: http",
            "x-forwarded-host: shop.example",
            "x-forwarded-uri: /orders/7?dry=1",
            "x-forwarded-for: 192.0.2.7",
        ]
    );
    assert!(asked[0].body().is_empty());
}

#[tokio::test]
async fn cookies_that_came_apart_are_joined() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let mut request = get("/");
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    call(&auth(fetch), request).await;
    assert_eq!(log.lock().unwrap()[0].headers()["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn it_is_asked_only_about_what_rules_mean() {
    let (fetch, log) = authorizer(0, |_| says(403, &[]));
    let transfers = Rule::new().name("all").to(Operation::new().paths(["/transfers/{**}"]).unwrap());
    let gate = auth(fetch)
        .upstream_headers(names(["x-user"]))
        .unwrap()
        .only([Policy::custom("risk").rule(transfers)])
        .unwrap();
    let mut request = get("/orders");
    request.headers_mut().insert("x-user", "root".parse().unwrap());
    let seen = call(&gate, request).await;
    assert_eq!((seen.status, seen.upstream.unwrap().contains_key("x-user")), (200, false));
    assert!(log.lock().unwrap().is_empty());
    let mut request = get("//transfers/7");
    let slate = Trail::join(&mut crate::head::Head::of(&mut request));
    assert_eq!(call(&gate, request).await.status, 403);
    assert_eq!(slate.decision(), Some("risk/all"));
    assert_eq!(call(&gate, get("/transfers%2f7")).await.status, 400);
    assert!(auth(authorizer(0, |_| says(200, &[])).0).only([Policy::deny("d")]).is_err());
}

fn post(body: Body) -> Request<Body> {
    Request::post("/").header("host", "a").header("content-type", "text/plain").body(body).unwrap()
}

#[tokio::test]
async fn the_body_goes_along_whole_or_by_its_beginning() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    for (body, sent, status, text, partial) in [
        (AuthBody::Excluded, "", 200, "hello", false),
        (AuthBody::Whole(5), "hello", 200, "hello", false),
        (AuthBody::Whole(4), "", 413, "", false),
        (AuthBody::Beginning(4), "hell", 200, "hello", true),
        (AuthBody::Beginning(9), "hello", 200, "hello", false),
    ] {
        log.lock().unwrap().clear();
        let seen = call(&auth(fetch.clone()).body(body), post(Body::from("hello"))).await;
        assert_eq!(seen.status, status, "{body:?}");
        let asked = log.lock().unwrap();
        if status == 413 {
            assert!(asked.is_empty() && seen.upstream.is_none() && seen.reason == Some(Reason::BodyTooLarge));
            continue;
        }
        assert_eq!((&*seen.text, asked[0].body()), (text, &Bytes::from(sent)), "{body:?}");
        assert_eq!(asked[0].method(), if body == AuthBody::Excluded { Method::GET } else { Method::POST });
        assert_eq!(asked[0].headers().contains_key("x-forwarded-body"), partial, "{body:?}");
        assert_eq!(asked[0].headers().contains_key("content-type"), body != AuthBody::Excluded);
    }
    let seen = call(&auth(fetch).body(AuthBody::Whole(9)), get("/")).await;
    assert_eq!((seen.status, log.lock().unwrap().last().unwrap().body().len()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408_and_one_that_breaks_off_is_400() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let gate = auth(fetch.clone()).body(AuthBody::Whole(9));
    let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, Infallible>,
    >());
    assert_eq!(call(&gate, post(Body::new(never))).await.status, 408);
    let broken =
        futures_util::stream::iter([Err::<http_body::Frame<Bytes>, _>(std::io::Error::other("gone"))]);
    assert_eq!(call(&gate, post(Body::new(http_body_util::StreamBody::new(broken)))).await.status, 400);
    assert!(log.lock().unwrap().is_empty());

    // Without a tap nobody can say what the body is.
    let untapped = gate
        .layer()
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) }));
    let mut request = post(Body::from("hello"));
    request.headers_mut().insert("content-length", 5.into());
    assert_eq!(untapped.clone().oneshot(request).await.unwrap().status(), 500);
    // Over HTTP/2 a body may come without a word about it.
    assert_eq!(untapped.oneshot(post(Body::from("hello"))).await.unwrap().status(), 500);
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn different_bodies_are_different_questions() {
    let (fetch, log) = authorizer(0, |_| says(200, &[]));
    let gate = auth(fetch).body(AuthBody::Whole(9)).cache(Duration::from_secs(9), 9);
    for (body, questions) in [("a", 1), ("a", 1), ("b", 2), ("a", 2)] {
        assert_eq!(call(&gate, post(Body::from(body))).await.status, 200);
        assert_eq!(log.lock().unwrap().len(), questions);
    }
}

#[test]
fn what_cannot_be_asked_or_handed_on_is_refused() {
    let fetch = || {
        Fetch::new(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) }))
    };
    for url in ["", "/check", "iam.internal", "ftp://iam/", "http://", "http://user:pw@iam/", "http://a b/"] {
        assert_eq!(ExternalAuth::new("x", url, fetch()).unwrap_err(), InvalidAuthorizer::Url, "{url}");
    }
    for name in [
        "connection",
        "host",
        "content-length",
        "transfer-encoding",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-authorization",
    ] {
        let [name] = names([name]);
        let refused = Some(InvalidAuthorizer::Header(name.clone()));
        assert_eq!(auth(fetch()).request_headers([name.clone()]).err(), refused);
        assert_eq!(auth(fetch()).upstream_headers([name.clone()]).err(), refused);
        assert_eq!(auth(fetch()).client_headers([name.clone()]).err(), refused);
        assert_eq!(auth(fetch()).refusal_headers([name]).err(), refused);
    }
    assert!(auth(fetch()).request_headers(names(["x-forwarded-for"])).is_err());
}
