//! Tokens of our own.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_of_ours_is_had_once_and_renewed_ahead() {
    let (provider, stock) = (Stub::says(token("one", 100)), Stock::default());
    let source = ours(&provider);
    let client = stock.behind(&source);
    for _ in 0..3 {
        let mut request = get();
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Basic of-the-caller"));
        assert_eq!(status(&client, request).await, 200);
    }
    assert_eq!(stock.seen(), ["Bearer one"; 3]);
    let form = provider.last().form;
    assert_eq!(
        (form["grant_type"].as_str(), form["scope"].as_str()),
        ("client_credentials", "stock.read stock.write")
    );
    assert_eq!(provider.calls(), 1);

    // It lives 90 s for us; from 63 s to 70 s on a new one is had in the background.
    provider.behave(Manner::After(SECOND, token("two", 100)));
    advance(62 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen()), (1, vec!["Bearer one".to_owned()]));
    advance(8 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(status(&client, get()).await, 200);
    }
    assert_eq!(stock.seen(), ["Bearer one"; 3], "nobody waits for it");
    sleep(2 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen()), (2, vec!["Bearer two".to_owned()]));
    let handle = source.handle();
    assert_eq!((handle.fetched(), handle.kept(), handle.failed(), handle.refused()), (2, 7, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_is_not_noticed_while_a_token_lives() {
    let (provider, stock) = (Stub::says(token("one", 100)), Stock::default());
    let client = stock.behind(&ours(&provider));
    assert_eq!(status(&client, get()).await, 200);
    provider.behave(Manner::Fails);
    for _ in 0..89 {
        advance(SECOND).await;
        assert_eq!(status(&client, get()).await, 200);
        tokio::task::yield_now().await;
    }
    advance(2 * SECOND).await;
    let response = client.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(response.extensions().get::<Rejection>().unwrap().reason(), Reason::TokenUnavailable);
    let mut grpc = get();
    grpc.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = client.clone().oneshot(grpc).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &HeaderValue::from_static("14"))
    );
    assert!(provider.calls() < 20, "the breaker was open most of the time: {}", provider.calls());
    // It comes back.
    provider.behave(Manner::Says(200, token("two", 100)));
    advance(31 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_at_once_are_one_question() {
    let (provider, stock) = (Stub::says(""), Stock::default());
    provider.behave(Manner::After(SECOND, token("one", 100)));
    let client = stock.behind(&ours(&provider));
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { status(&client, get()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!((provider.calls(), stock.seen().len()), (1, 1_000));
}

#[tokio::test]
async fn a_file_is_read_again_as_it_is_renewed() {
    let path = std::env::temp_dir().join(format!("portcullis-outbound-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let stock = Stock::default();
    let source = TokenSource::file(&path);
    let client = stock.behind(&source);
    assert_eq!(status(&client, get()).await, 200);
    std::fs::write(&path, "two\n").unwrap();
    assert_eq!(status(&client, get()).await, 200);
    // Refused, it is read at once.
    stock.takes("two");
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!(stock.seen(), ["Bearer one", "Bearer one", "Bearer one", "Bearer two"]);
    let shown = format!("{source:?} {:?}", source.handle());
    assert!(shown.contains("portcullis-outbound") && !shown.contains("two"), "{shown}");

    for bad in ["", " \n", "two words", "\u{1}"] {
        std::fs::write(&path, bad).unwrap();
        let client = stock.behind(&TokenSource::file(&path));
        assert_eq!(status(&client, get()).await, 503, "{bad:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status(&stock.behind(&TokenSource::file(&path)), get()).await, 503);
    assert!(stock.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_no_token_with_it() {
    let (provider, stock) = (Stub::says(""), Stock::default());
    provider.behave(Manner::After(SECOND, token("one", 1_000)));
    let client = stock.behind(&ours(&provider));
    for polls in 1..4 {
        let mut leaves = tokio_test::task::spawn(client.clone().oneshot(get()));
        for _ in 0..polls {
            assert!(leaves.poll().is_pending());
            tokio::task::yield_now().await;
        }
    }
    sleep(2 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen().len()), (1, 1));
    // Also in the middle of the second try.
    stock.takes("two");
    provider.behave(Manner::After(SECOND, token("two", 1_000)));
    let mut leaves = tokio_test::task::spawn(client.clone().oneshot(get()));
    assert!(leaves.poll().is_pending());
    drop(leaves);
    sleep(2 * SECOND).await;
    assert_eq!(status(&client, get()).await, 200);
    assert_eq!((provider.calls(), stock.seen()), (2, vec!["Bearer one".to_owned(), "Bearer two".to_owned()]));
}
