use std::{
    convert::Infallible,
    task::{Context, Waker},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN},
};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;

use super::*;
use crate::{
    head::Head,
    key::RouteName,
    matching::{HostPattern, PathMatch, RequestMatch, Target, Text},
};

fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn prefix(path: &str) -> RequestMatch {
    RequestMatch::prefix(path).unwrap()
}

fn exact(path: &str) -> RequestMatch {
    RequestMatch::exact(path).unwrap()
}

fn regex(pattern: &str) -> RequestMatch {
    RequestMatch::regex(pattern).unwrap()
}

/// A rule that is named as what it is for.
fn rule(name: &'static str) -> Rule<()> {
    Rule::new(name, ())
}

fn router(rules: impl IntoIterator<Item = Rule<()>>) -> Router<()> {
    Router::builder().rules(rules).build().unwrap()
}

fn find_with(router: &Router<()>, method: Method, uri: &str, lines: &[(HeaderName, &'static str)]) -> String {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in lines {
        request = request.header(name, *value);
    }
    let mut request = request.body(()).unwrap();
    router.find(&Head::of(&mut request)).map_or_else(String::new, |matched| matched.name().to_owned())
}

fn find(router: &Router<()>, uri: &str) -> String {
    find_with(router, Method::GET, uri, &[])
}

#[test]
fn the_more_specific_host_goes_first_and_falls_through() {
    let router = router([
        rule("any").when(prefix("/")),
        rule("*.example").host(host("*.example")).when(prefix("/")),
        rule("*.shop.example").host(host("*.shop.example")).when(prefix("/a")),
        rule("shop.example").host(host("shop.example")).when(prefix("/b")),
        rule("x.shop.example").host(host("x.shop.example")).when(prefix("/x")),
    ]);
    for (uri, name) in [
        ("http://x.shop.example/x", "x.shop.example"),
        ("http://x.shop.example/a", "*.shop.example"),
        ("http://x.shop.example/c", "*.example"),
        ("http://y.x.shop.example/a", "*.shop.example"),
        ("http://shop.example/b", "shop.example"),
        ("http://SHOP.example.:8080/b", "shop.example"),
        ("http://shop.example/a", "*.example"),
        ("http://example/b", "any"),
        ("http://other.test/b", "any"),
        ("http://[::1]/b", "any"),
        ("/b", "any"),
    ] {
        assert_eq!(find(&router, uri), name, "{uri}");
    }
}

#[test]
fn a_bad_host_has_no_rule() {
    let router = router([rule("any")]);
    assert_eq!(find_with(&router, Method::GET, "/", &[(HOST, "a b")]), "");
    assert_eq!(find_with(&router, Method::GET, "http://a/", &[(HOST, "b")]), "");
    assert_eq!(find_with(&router, Method::GET, "/", &[(HOST, "a"), (HOST, "a")]), "");
}

#[test]
fn exact_goes_before_regex_before_the_longest_prefix() {
    let router = router([
        rule("/").when(prefix("/")),
        rule("/a").when(prefix("/a")),
        rule("/a/b/").when(prefix("/a/b/")),
        rule("=/a/b/c").when(exact("/a/b/c")),
        rule("~/a/b/[cd]").when(regex("/a/b/[cd]")),
    ]);
    for (path, name) in [
        ("/a/b/c", "=/a/b/c"),
        ("/a/b/c/", "/a/b/"),
        ("/a/b/d", "~/a/b/[cd]"),
        ("/a/b/dd", "/a/b/"),
        ("/a/b", "/a/b/"),
        ("/a/bc", "/a"),
        ("/a/", "/a"),
        ("/ab", "/"),
        ("/", "/"),
    ] {
        assert_eq!(find(&router, path), name, "{path}");
    }
}

#[test]
fn equal_paths_are_told_apart_by_method_then_headers_then_query_then_order() {
    const A: HeaderName = HeaderName::from_static("a");
    const B: HeaderName = HeaderName::from_static("b");
    let one = || Text::exact("1");
    let router = router([
        rule("first").when(prefix("/p").query("x", one())),
        rule("second").when(prefix("/p").query("y", one())),
        rule("two queries").when(prefix("/p").query("x", one()).query("y", one())),
        rule("a").when(prefix("/p").header(A, one())),
        rule("a and b").when(prefix("/p").header(A, one()).header(B, one())),
        rule("post").when(prefix("/p").method(Method::POST)),
    ]);
    let find = |method, uri, lines: &[_]| find_with(&router, method, uri, lines);
    assert_eq!(find(Method::GET, "/p?x=1", &[]), "first");
    assert_eq!(find(Method::GET, "/p?y=1", &[]), "second");
    assert_eq!(find(Method::GET, "/p?y=1&x=1", &[]), "two queries");
    assert_eq!(find(Method::GET, "/p?y=1&x=1", &[(A, "1")]), "a");
    assert_eq!(find(Method::GET, "/p?y=1&x=1", &[(A, "1"), (B, "1")]), "a and b");
    assert_eq!(find(Method::POST, "/p?y=1&x=1", &[(A, "1"), (B, "1")]), "post");
    assert_eq!(find(Method::GET, "/p", &[]), "");
}

#[test]
fn a_preflight_is_matched_as_the_request_that_it_announces() {
    let router = router([
        rule("put").when(prefix("/a").method(Method::PUT)),
        rule("options").when(prefix("/").method(Method::OPTIONS)),
    ]);
    let asks = [(ORIGIN, "https://a.example"), (ACCESS_CONTROL_REQUEST_METHOD, "PUT")];
    assert_eq!(find_with(&router, Method::OPTIONS, "/a", &asks), "put");
    assert_eq!(find_with(&router, Method::OPTIONS, "/b", &asks), "options");
    assert_eq!(find_with(&router, Method::OPTIONS, "/a", &asks[..1]), "options");
    assert_eq!(find_with(&router, Method::GET, "/a", &asks), "");
}

#[test]
fn forms_without_a_path_have_their_place() {
    let router = router([rule("any"), rule("tunnel").when(RequestMatch::any().method(Method::CONNECT))]);
    assert_eq!(find_with(&router, Method::OPTIONS, "*", &[]), "any");
    assert_eq!(find_with(&router, Method::CONNECT, "a.example:443", &[]), "tunnel");
    let router = Router::builder().rule(rule("any")).build().unwrap();
    assert_eq!(find_with(&router, Method::CONNECT, "a.example:443", &[]), "");
}

#[test]
fn what_was_matched_tells_its_prefix() {
    let router =
        router([rule("exact").when(exact("/e")), rule("prefix").when(prefix("/a/b/")), rule("root")]);
    let (uri, headers) = (|path: &str| path.parse::<Uri>().unwrap(), HeaderMap::new());
    let length = |path: &str| {
        let uri = uri(path);
        router.find_target(&Target::new(&Method::GET, "", &uri, &headers)).unwrap().prefix()
    };
    assert_eq!((length("/e"), length("/a/b/c"), length("/x")), (None, Some(4), Some(0)));
}

#[test]
fn matches_that_can_never_be_reached_are_reported() {
    let (a, b) = (HeaderName::from_static("a"), HeaderName::from_static("b"));
    let one = || Text::exact("1");
    let error = Router::builder()
        .rule(rule("first").when(prefix("/x/").header(a.clone(), one()).header(b.clone(), one())))
        .rule(rule("second").when(prefix("/y")).when(prefix("/x").header(b, one()).header(a, one())))
        .rule(rule("third").host(host("a.example")).when(prefix("/y")))
        .rule(rule("fourth").host(host("a.example")).host(host("b.example")).when(prefix("/y")))
        .rule(rule("fifth").when(regex("/a+")))
        .rule(rule("sixth").when(regex("/a+")))
        .rule(rule("twice").when(exact("/z")).when(exact("/z")))
        .build()
        .unwrap_err();
    let found: Vec<_> =
        error.iter().map(|found| (found.rule, found.entry, &*found.name, &*found.by)).collect();
    assert_eq!(found, [(1, 1, "second", "first"), (5, 0, "sixth", "fifth")]);
    assert!(error.to_string().contains("match 1 of the rule \"second\""), "{error}");
}

#[test]
fn finding_costs_no_allocation_among_a_thousand_rules() {
    let mut builder = Router::builder();
    for host_number in 0..100 {
        for path in 0..10 {
            let when = prefix(&format!("/api/service-{path}")).header(HOST, Text::regex(".*").unwrap());
            let rule = Rule::new(format!("{host_number}/{path}"), ());
            builder = builder.rule(rule.host(host(&format!("*.h{host_number}.example"))).when(when));
        }
    }
    let router = builder.build().unwrap();
    let mut request =
        Request::get("/api/service-7/orders?x=1").header(HOST, "a.h42.example:80").body(()).unwrap();
    let head = Head::of(&mut request);
    assert_eq!(router.find(&head).unwrap().name(), "42/7");
    let info = allocation_counter::measure(|| assert!(router.find(&head).is_some()));
    assert_eq!(info.count_total, 0);
}

/// Looks at every rule, and sorts as the standard does.
fn find_slowly(rules: &[(Option<HostPattern>, RequestMatch)], target: &Target<'_>) -> Option<usize> {
    let rank = |(host, request): &(Option<HostPattern>, RequestMatch)| {
        let host = match host {
            Some(HostPattern::Exact(name)) => (2, name.len()),
            Some(HostPattern::Suffix(name)) => (1, name.len()),
            _ => (0, 0),
        };
        let path = match &request.path.0 {
            crate::matching::PathKind::Exact(_) => (2, 0),
            crate::matching::PathKind::Regex(_) => (1, 0),
            crate::matching::PathKind::Prefix(prefix) => (0, prefix.len()),
        };
        (host, path, request.method.is_some(), request.headers.len(), request.query.len())
    };
    let is_for = |(host, request): &(Option<HostPattern>, RequestMatch)| {
        host.as_ref().is_none_or(|host| host.matches(target.host())) && request.matches(target)
    };
    let matching = rules.iter().enumerate().filter(|(_, rule)| is_for(rule));
    matching.rev().max_by_key(|(_, rule)| rank(rule)).map(|(at, _)| at)
}

fn hosts() -> impl Strategy<Value = Option<HostPattern>> {
    prop_oneof![
        Just(None),
        "(\\*\\.)?[ab](\\.[ab]){0,2}".prop_map(|text| Some(HostPattern::parse(&text).unwrap())),
    ]
}

fn requests() -> impl Strategy<Value = RequestMatch> {
    let path = prop_oneof![
        3 => "(/[ab]){0,3}/?".prop_map(|path| PathMatch::prefix(&format!("/{}", path.trim_start_matches('/'))).unwrap()),
        2 => "(/[ab]){1,3}".prop_map(|path| PathMatch::exact(&path).unwrap()),
        1 => "/a\\*/?b\\+".prop_map(|pattern| PathMatch::regex(&pattern).unwrap()),
    ];
    let flag = any::<bool>;
    (path, flag(), flag(), flag(), flag(), flag()).prop_map(|(path, get, a, b, x, y)| {
        let one = || Text::exact("1");
        let mut request = RequestMatch::from(path);
        if get {
            request = request.method(Method::GET);
        }
        for (is_on, name) in [(a, "a"), (b, "b")] {
            if is_on {
                request = request.header(HeaderName::from_static(name), one());
            }
        }
        for (is_on, name) in [(x, "x"), (y, "y")] {
            if is_on {
                request = request.query(name, one());
            }
        }
        request
    })
}

proptest! {
    #[test]
    fn the_table_finds_what_looking_at_every_rule_finds(
        rules in prop::collection::vec((hosts(), requests()), 1..40),
        asked in prop::collection::vec(("[ab](\\.[ab]){0,3}", "(/[ab]){0,4}/?", any::<[bool; 5]>()), 1..20),
    ) {
        let mut distinct: Vec<(Option<HostPattern>, RequestMatch)> = Vec::new();
        for rule in rules {
            if !distinct.iter().any(|known| known.0 == rule.0 && known.1.is_same(&rule.1)) {
                distinct.push(rule);
            }
        }
        let rules = distinct.iter().map(|(host, request)| {
            let rule = Rule::new("", ()).when(request.clone());
            host.clone().into_iter().fold(rule, Rule::host)
        });
        let router = Router::builder().rules(rules).build().unwrap();
        for (host, path, [get, a, b, x, y]) in asked {
            let (x, y) = (if x { "x=1" } else { "x=2" }, if y { "y=1" } else { "" });
            let uri: Uri = format!("/{}?{x}&{y}", path.trim_start_matches('/')).parse().unwrap();
            let mut headers = HeaderMap::new();
            for (is_on, name) in [(a, "a"), (b, "b")] {
                headers.insert(name, HeaderValue::from_static(if is_on { "1" } else { "2" }));
            }
            let method = if get { Method::GET } else { Method::POST };
            let target = Target::new(&method, &host, &uri, &headers);
            let found = router.find_target(&target).map(|matched| matched.index());
            prop_assert_eq!(found, find_slowly(&distinct, &target), "{:?} {:?}", target, distinct);
        }
    }
}

type TestResponse = Response<Full<Bytes>>;

fn told(request: &Request<()>) -> TestResponse {
    let name = request.extensions().get::<RouteName>().map_or("none", |name| &*name.0).to_owned();
    Response::new(Full::new(Bytes::from(name)))
}

#[tokio::test(start_paused = true)]
async fn the_service_of_the_rule_is_told_its_name() {
    let echo = service_fn(|request: Request<()>| async move { Ok::<_, Infallible>(told(&request)) });
    let service = Router::builder()
        .rule(Rule::new("a", echo).when(prefix("/a")))
        .rule(Rule::new("b", echo).when(prefix("/b")))
        .build()
        .unwrap()
        .into_service();
    let response = service.oneshot(Request::get("/b/c").header(HOST, "x").body(()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "b");
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_the_answer_is_no_route_in_both_protocols() {
    let unused = service_fn(|_: Request<()>| async { Ok::<TestResponse, Infallible>(Response::default()) });
    let service =
        Router::builder().rule(Rule::new("a", unused).when(exact("/a"))).build().unwrap().into_service();
    let request = Request::get("/x").header(HOST, "x").body(()).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let request = Request::post("/x").header(HOST, "x").header("content-type", "application/grpc").body(());
    let response = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &HeaderValue::from_static("12"))
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_service_of_the_rule_must_be_ready() {
    let (first, mut first_handle) = mock::pair::<Request<()>, TestResponse>();
    let (second, mut second_handle) = mock::pair::<Request<()>, TestResponse>();
    first_handle.allow(0);
    second_handle.allow(0);
    let mut service = Router::builder()
        .rule(Rule::new("a", first).when(prefix("/a")))
        .rule(Rule::new("b", second).when(prefix("/b")))
        .build()
        .unwrap()
        .into_service();
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    let mut call =
        tokio_test::task::spawn(service.call(Request::get("/b").header(HOST, "x").body(()).unwrap()));
    assert!(call.poll().is_pending());
    second_handle.allow(1);
    assert!(call.is_woken() && call.poll().is_pending());
    second_handle.next_request().await.unwrap().1.send_response(Response::default());
    assert!(call.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_layer_for_each_rule_wraps_one_service() {
    let echo = service_fn(|request: Request<()>| async move {
        Ok::<TestResponse, Infallible>(Response::new(Full::new(Bytes::from(request.uri().path().to_owned()))))
    });
    let rewrite = |path| {
        let change = crate::routing::filter::PathChange::full(path).unwrap();
        crate::routing::filter::Rewrite::new().path(change).layer()
    };
    let router = Router::builder()
        .rule(Rule::new("a", rewrite("/one")).when(prefix("/a")))
        .rule(Rule::new("b", rewrite("/two")).when(prefix("/b")));
    let service = RouterLayer::new(router.build().unwrap()).layer(echo);
    for (path, body) in [("/a/x", "/one"), ("/b/x", "/two")] {
        let request = Request::get(path).header(HOST, "x").body(()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
}
