use std::{fmt, num::NonZeroU32, time::Duration};

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    admission::{
        Priorities, Priority,
        authz::{Authorization, Authorize},
        concurrency::{Concurrency, Order, Queue},
        rate_limit::Limit,
        shed::{Overload, SuccessRate},
    },
    authn::{
        Providers,
        api_key::{ApiKey, KeyTable},
    },
    body::{Body, BoxError},
    context::{Context, Deadline},
    identity::PeerAddr,
    ratio::Ratio,
    resilience::{retry::Policy, timeout::TimeoutLayer},
};

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(PeerAddr::new("192.0.2.1:4000".parse().unwrap()));
    request
}

#[tokio::test(start_paused = true)]
async fn requests_wait_before_a_leaky_bucket() {
    let max_wait = Duration::from_secs(9);
    let shape = Limit::builder("shape", "1/s".parse().unwrap())
        .algorithm(crate::admission::rate_limit::Algorithm::LeakyBucket { max_wait })
        .build()
        .unwrap();
    let service = ServerLayer::new()
        .limit(shape)
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
    let begin = tokio::time::Instant::now();
    for seconds in 0..3 {
        assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 200);
        assert_eq!(begin.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn a_call_carries_the_id_of_the_request_it_is_made_for() {
    let stock = ClientLayer::new().layer(service_fn(|call: Request<Body>| async move {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert("x-called-as", call.headers()["x-request-id"].clone());
        Ok::<_, BoxError>(response)
    }));
    let handler = service_fn(move |_: Request<Body>| {
        assert!(Context::current().and_then(|context| context.request_id().cloned()).is_some());
        stock.clone().oneshot(Request::new(Body::empty()))
    });
    let response = ServerLayer::new().layer(handler).oneshot(request()).await.unwrap();
    assert_eq!(response.headers()["x-called-as"], response.headers()["x-request-id"]);
}

/// Refusals and failures alike come back as answers, with the id of the request.
#[tokio::test(start_paused = true)]
async fn what_fails_is_an_answer_with_its_id() {
    let once = Limit::builder("once", "1/h".parse().unwrap()).build().unwrap();
    let layer = ServerLayer::new().timeout(Duration::from_secs(2)).limit(once);
    let service = layer.layer(service_fn(|request: Request<Body>| async move {
        match request.uri().path() {
            "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
            _ => return Err(BoxError::from("broken")),
        }
        Ok(Response::new(Body::empty()))
    }));
    for (path, status) in [("/slow", 504), ("/slow", 429)] {
        let mut request = request();
        *request.uri_mut() = path.parse().unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key("x-request-id"));
    }
    let broken = ServerLayer::new()
        .layer(service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(BoxError::from("broken")) }));
    let response = broken.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(response.headers().contains_key("x-request-id"));
    let nobody = ServerLayer::new()
        .authorize(Authorize::new())
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
    assert_eq!(nobody.oneshot(request()).await.unwrap().status(), 401);
    let keys = ApiKey::new(KeyTable::new("keys", []).unwrap());
    let guest = ServerLayer::new()
        .authenticate(Providers::new().with(keys).optional())
        .authorize(Authorize::new())
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
    let asked = guest.oneshot(request()).await.unwrap().headers()["www-authenticate"].clone();
    assert_eq!(asked, "ApiKey realm=\"api\"");
    let nothing = Authorization::new([crate::admission::authz::Policy::allow("nothing")]).unwrap();
    let denied = ServerLayer::new()
        .policies(nothing)
        .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
    assert_eq!(denied.oneshot(request()).await.unwrap().status(), 403);
}

async fn status<S>(service: S, request: Request<Body>) -> u16
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error: fmt::Debug>,
{
    service.oneshot(request).await.unwrap().status().as_u16()
}

fn hello(_: Request<Body>) -> std::future::Ready<Result<Response<Body>, BoxError>> {
    std::future::ready(Ok(Response::new(Body::from("hello"))))
}

/// Each side has no more in flight than it may, until the answer's body has ended.
#[tokio::test(start_paused = true)]
async fn both_sides_bound_what_is_in_flight() {
    let one = |name| Concurrency::fixed(name, NonZeroU32::MIN).build().unwrap();
    let (server, client) = (one("server"), one("client"));
    let handlers = ServerLayer::new().concurrency(server.clone()).layer(service_fn(hello));
    let calls = ClientLayer::new().concurrency(client.clone()).layer(service_fn(hello));
    let first = handlers.clone().oneshot(request()).await.unwrap();
    let refused = handlers.clone().oneshot(request()).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(refused.headers().contains_key("x-request-id"));
    drop(first);
    let grpc = |mut request: Request<Body>| {
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request
    };
    let _first = calls.clone().oneshot(request()).await.unwrap();
    let refused = calls.clone().oneshot(grpc(request())).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!((server.handle().in_flight(), client.handle().in_flight()), (0, 1));
    assert_eq!(status(handlers.map_response(|answer| answer.map(Body::new)), request()).await, 200);
}

/// What is least important is refused first: by the header of a trusted peer, or by the plan of who was authenticated.
#[tokio::test(start_paused = true)]
async fn the_least_important_is_shed() {
    use crate::authn::api_key::{ApiKey, KeyTable, mint};

    let half = || Overload::builder().source("test", 0.0..1.0, |_| Some(0.5)).build().unwrap();
    let (overload, name) = (half(), http::HeaderName::from_static("x-priority"));
    overload.start();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let trusted = "192.0.2.0/24".parse().unwrap();
    let priorities = Priorities::new(Priority::High).header(name, "0.0.0.0/0".parse().unwrap());
    let layer = ServerLayer::new().overload(&overload, priorities);
    let says = |priority: &str| {
        let mut request = request();
        request.headers_mut().insert("x-priority", priority.parse().unwrap());
        request
    };
    let strange = layer.clone().layer(service_fn(hello)).map_response(|answer| answer.map(Body::new));
    let known = layer.trusted_peers(trusted).layer(service_fn(hello));
    let known = known.map_response(|answer| answer.map(Body::new));
    assert_eq!(status(strange, says("low")).await, 200, "strangers are not heard");
    assert_eq!((status(known.clone(), says("low")).await, status(known, says("high")).await), (503, 200));

    let [gold, free] = ["gold", "free"].map(|plan| mint("t", plan).unwrap().with(|entry| entry.plan(plan)));
    let table = KeyTable::new("keys", [gold.entry().clone(), free.entry().clone()]).unwrap();
    let plans = Priorities::new(Priority::Low).plan("gold", Priority::High);
    let service = ServerLayer::new()
        .overload(&overload, plans)
        .authenticate(Providers::new().with(ApiKey::new(table)))
        .layer(service_fn(hello));
    let service = service.map_response(|answer| answer.map(Body::new));
    for (key, expected) in [(Some(gold.reveal()), 200), (Some(free.reveal()), 503), (None, 401)] {
        let mut request = request();
        if let Some(key) = key {
            request.headers_mut().insert("x-api-key", key.parse().unwrap());
        }
        assert_eq!(status(service.clone(), request).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn who_fails_is_asked_less_on_both_sides() {
    let fails =
        || service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(BoxError::from("broken")) });
    let rate = || SuccessRate::builder().fewest(10).max(Ratio::ALWAYS).build();
    let (handled, called) = (rate(), rate());
    let server = ServerLayer::new().success_rate(handled.clone()).layer(fails());
    let client = ClientLayer::new().success_rate(called.clone()).layer(fails());
    for _ in 0..100 {
        let answer = server.clone().oneshot(request()).await.unwrap();
        assert!([500, 503].contains(&answer.status().as_u16()));
        // Its error stays an error.
        match client.clone().oneshot(request()).await {
            Ok(answer) => assert_eq!(answer.status().as_u16(), 503),
            Err(error) => assert_eq!(error.to_string(), "broken"),
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(handled.refused() > 10 && called.refused() > 10);
}

/// The queue asks the priorities, and limits are taken in one order whichever is named first.
#[tokio::test(start_paused = true)]
async fn the_important_waits_less() {
    let limit = Concurrency::fixed("one", NonZeroU32::MIN)
        .queue(Queue::new(NonZeroU32::new(5).unwrap()).order(Order::Priority))
        .build()
        .unwrap();
    let slow = service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let service = ServerLayer::new()
        .overload(&Overload::builder().build().unwrap(), Priorities::new(Priority::Normal))
        .concurrency(limit)
        .layer(slow);
    let order = std::sync::Mutex::new(Vec::new());
    let call = async |priority: Priority| {
        let mut request = request();
        request.extensions_mut().insert(priority);
        let answer = service.clone().oneshot(request).await.unwrap();
        order.lock().unwrap().push((priority, answer.status().as_u16()));
    };
    tokio::join!(call(Priority::Normal), call(Priority::Low), call(Priority::High));
    let order = order.into_inner().unwrap();
    assert_eq!(order, [(Priority::Normal, 200), (Priority::High, 200), (Priority::Low, 200)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_tried_again_in_the_time_of_the_call() {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let stock = service_fn(move |call: Request<Body>| {
        let failed = count.fetch_add(1, Ordering::Relaxed) < 2;
        assert!(call.headers().contains_key("x-request-id") && call.extensions().get::<Deadline>().is_some());
        async move {
            if failed {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    let layer = ClientLayer::new()
        .retry(Policy::new(2))
        .timeout(Duration::from_secs(4))
        .attempt_timeout(Duration::from_secs(1));
    let mut call = Request::new(Body::empty());
    call.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
    let response = layer.layer(stock).oneshot(call).await.unwrap();
    assert_eq!((response.status().as_u16(), calls.load(Ordering::Relaxed)), (200, 3));
}

/// What a caller gave the first service bounds what that one asks of the second.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_request_is_that_of_the_calls_made_for_it() {
    let stock = ClientLayer::new().layer(service_fn(|call: Request<Body>| async move {
        let left = call.headers()["grpc-timeout"].to_str().unwrap().to_owned();
        Ok::<_, BoxError>(Response::builder().header("x-left", left).body(Body::empty()).unwrap())
    }));
    let handler = service_fn(move |_: Request<Body>| {
        let stock = stock.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let mut call = Request::post("/").body(Body::empty()).unwrap();
            call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            stock.oneshot(call).await
        }
    });
    let layer = ServerLayer::new().timeout(Duration::from_secs(2));
    let lasts = ServerLayer::new().timeout(TimeoutLayer::new(Duration::from_secs(2)).grpc_streams(true));
    for (layer, given, left) in [
        (&layer, Some("1S"), "795000u"),
        (&layer, Some("9S"), "1795000u"),
        (&layer, None, "1795000u"),
        // What may last has its caller's time only, and a call of it its own.
        (&lasts, Some("9S"), "8795000u"),
        (&lasts, None, "15000000u"),
        (&ServerLayer::new(), None, "15000000u"),
    ] {
        let mut request = request();
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let timeout = http::HeaderName::from_static("grpc-timeout");
        request.headers_mut().extend(given.map(|given| (timeout, given.parse().unwrap())));
        let response = layer.layer(handler.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["x-left"], left, "{given:?}");
    }
}
