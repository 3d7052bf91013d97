//! Tokens that are refused, and the second try.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_had_anew_and_the_call_made_once_more() {
    let (provider, stock) = (Stub::says(token("one", 1_000)), Stock::default());
    let source = ours(&provider);
    let client = stock.behind(&source);
    assert_eq!(status(&client, get()).await, 200);
    stock.takes("two");
    provider.behave(Manner::After(SECOND, token("two", 1_000)));
    stock.seen();
    let mut request = Request::new(Body::from("twelve"));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert("x-order", HeaderValue::from_static("7"));
    request.extensions_mut().insert(7_u8);
    assert_eq!(status(&client, request).await, 200);
    assert_eq!(stock.seen(), ["Bearer one", "Bearer two"]);
    assert_eq!(stock.bodies.lock().unwrap()[1..], ["twelve", "twelve"]);
    assert_eq!((provider.calls(), source.handle().refused()), (2, 1));

    // A service that takes no token is told once, and the provider is not hammered for it.
    stock.takes("none");
    for _ in 0..5 {
        assert_eq!(status(&client, get()).await, 401);
    }
    assert_eq!(provider.calls(), 2, "one was had for a refusal a moment ago");
    advance(10 * SECOND).await;
    assert_eq!(status(&client, get()).await, 401);
    assert_eq!(status(&client, get()).await, 401);
    assert_eq!(provider.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_refusals_at_once_are_one_question() {
    let (provider, stock) = (Stub::says(token("one", 1_000)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    stock.takes("two");
    provider.behave(Manner::After(SECOND, token("two", 1_000)));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { status(&client, get()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_made_again_leaves_the_new_token_to_the_next() {
    for grpc in [false, true] {
        let (provider, stock) = (Stub::says(token("one", 1_000)), Stock { grpc, ..Stock::default() });
        let client = stock.behind(&ours(&provider));
        assert_eq!(status(&client, get()).await, 200);
        stock.takes("two");
        provider.behave(Manner::Says(200, token("two", 1_000)));
        let body = if grpc { Body::empty() } else { Body::new(Script::new([Step::Data("a"), Step::End])) };
        let response = client.clone().oneshot(Request::new(body)).await.unwrap();
        let refused = if grpc { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(response.status(), refused);
        assert_eq!(stock.seen(), ["Bearer one"; 2], "once");
        sleep(SECOND).await;
        assert_eq!(provider.calls(), 2, "the next need not even ask");
        let response = client.clone().oneshot(get()).await.unwrap();
        assert!(!response.headers().contains_key("grpc-status"));
        assert_eq!((stock.seen(), provider.calls()), (vec!["Bearer two".to_owned()], 2));
    }
}

#[tokio::test(start_paused = true)]
async fn if_no_new_token_can_be_had_that_is_said() {
    let (provider, stock) = (Stub::says(token("one", 1_000)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    stock.takes("two");
    provider.behave(Manner::Fails);
    assert_eq!(status(&client, get()).await, 503);
    assert_eq!(stock.seen(), ["Bearer one", "Bearer one"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_serves_the_others_until_another_is_had() {
    let (provider, stock) = (Stub::says(token("one", 3_000)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    provider.behave(Manner::Fails);
    for _ in 0..8 {
        // One path is refused for a reason of its own, again and again.
        stock.takes("two");
        assert!(matches!(status(&client, get()).await, 401 | 503));
        *stock.takes.lock().unwrap() = None;
        stock.seen();
        assert_eq!(status(&client, get()).await, 200);
        assert_eq!(stock.seen(), ["Bearer one"]);
        advance(10 * SECOND).await;
    }
    // Nor does anybody wait for the next one while a token is there.
    provider.behave(Manner::Never);
    advance(31 * SECOND).await;
    stock.takes("two");
    let refused = tokio::spawn({
        let client = client.clone();
        async move { status(&client, get()).await }
    });
    tokio::task::yield_now().await;
    *stock.takes.lock().unwrap() = None;
    let asked = tokio::time::Instant::now();
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!(asked.elapsed(), Duration::ZERO);
    refused.abort();
}

/// The second try goes to an instance that was made ready, as the first does.
#[tokio::test(start_paused = true)]
async fn both_tries_go_to_an_instance_that_was_made_ready() {
    struct Strict {
        ready: bool,
        calls: Arc<AtomicUsize>,
    }
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self { ready: false, calls: Arc::clone(&self.calls) }
        }
    }
    impl Service<Request<Body>> for Strict {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            self.ready = true;
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready));
            self.calls.fetch_add(1, Relaxed);
            let response = Response::builder().status(401).body(Body::empty()).unwrap();
            std::future::ready(Ok(response))
        }
    }
    let calls = Arc::<AtomicUsize>::default();
    let provider = Stub::says(token("one", 1_000));
    let strict = Strict { ready: false, calls: Arc::clone(&calls) };
    let client = OutboundLayer::new(ours(&provider)).layer(strict);
    assert_eq!(status(&client, get()).await, 401);
    assert_eq!((calls.load(Relaxed), provider.calls()), (2, 2));
    let off = OutboundLayer::disabled().layer(Strict { ready: false, calls: Arc::clone(&calls) });
    assert_eq!(status(&off, get()).await, 401);
    assert_eq!(calls.load(Relaxed), 3);
}
