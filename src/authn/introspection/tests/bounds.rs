//! How often a provider is asked, and by whom.

use super::*;

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_nobody_asks() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    ask(&opaque, "good").await.unwrap();
    stub.behave(Manner::Says(503, String::new()));
    for n in 0..20 {
        let refused = ask_from(&opaque, &format!("unknown-{n}"), n).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::ProviderUnavailable);
        assert!(refused.retry_delay().unwrap() > Duration::ZERO);
    }
    let handle = opaque.handle();
    assert_eq!((stub.calls(), handle.failed(), handle.unasked()), (6, 5, 15));
    assert!(ask(&opaque, "good").await.is_ok(), "who is known does not mind");
    stub.behave(Manner::Says(200, active().to_string()));
    advance(2 * SECOND).await;
    assert!(ask(&opaque, "unknown-1").await.is_ok());
    assert!(ask(&opaque, "unknown-2").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_strangers_odd_tokens_keep_nobody_from_asking() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    for status in [400, 403, 404, 413, 414, 422, 431, 500, 502, 503, 504] {
        stub.behave(Manner::Says(status, String::new()));
        for n in 0..100 {
            let refused = ask_from(&opaque, &format!("odd-{status}-{n}"), 66).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::ProviderUnavailable, "{status}");
        }
        stub.behave(Manner::Says(200, active().to_string()));
        assert!(ask(&opaque, &format!("good-{status}")).await.is_ok(), "{status}");
    }
    assert_eq!(opaque.handle().unasked(), 0);
    // One that cannot be told from all others' is remembered no longer than it has to be.
    stub.behave(Manner::Says(500, String::new()));
    let calls = stub.calls();
    for _ in 0..100 {
        assert!(ask(&opaque, "the-same").await.is_err());
    }
    assert_eq!(stub.calls(), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_everybody_is_left_alone() {
    for status in [403, 404, 500] {
        let stub = Stub::says("");
        stub.behave(Manner::Says(status, String::new()));
        let opaque = builder(&stub).build();
        for n in 0..50 {
            assert!(ask_from(&opaque, &format!("token-{n}"), n).await.is_err());
        }
        assert_eq!((stub.calls(), opaque.handle().unasked()), (5, 45), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_all_the_calls() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).max_calls(8).max_calls_each(3).build();
    let begin = |token: String, n: u8| {
        let opaque = opaque.clone();
        tokio::spawn(async move { ask_from(&opaque, &token, n).await })
    };
    let flood: Vec<_> = (0..100).map(|token| begin(format!("made-up-{token}"), 66)).collect();
    tokio::task::yield_now().await;
    let user = begin("users".into(), 7);
    // Who asks what is being asked makes no call.
    let same = begin("made-up-0".into(), 66);
    let mut refused = Vec::new();
    for call in flood {
        refused.extend(call.await.unwrap().err());
    }
    assert_eq!((refused.len(), stub.calls()), (97, 4));
    for refused in refused {
        assert_eq!(refused.reason(), Reason::RateLimited);
        let http = refused.clone().into_response(Protocol::Http);
        assert_eq!(
            (http.status().as_u16(), &http.headers()[header::RETRY_AFTER]),
            (429, &"1".parse().unwrap())
        );
        assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "8");
    }
    assert!(user.await.unwrap().is_ok() && same.await.unwrap().is_ok());
    // Places come back with the answers.
    stub.behave(Manner::Says(200, active().to_string()));
    for n in 0..10 {
        assert!(ask_from(&opaque, &format!("later-{n}"), 66).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_memory_are_bounded() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).max_calls(3).max_entries(64).memory(1 << 20).build();
    let flood: Vec<_> = (0..10)
        .map(|n| {
            let opaque = opaque.clone();
            tokio::spawn(async move { ask(&opaque, &format!("token-{n}")).await.map_err(|r| r.reason()) })
        })
        .collect();
    let mut served = 0;
    for call in flood {
        match call.await.unwrap() {
            Ok(_) => served += 1,
            Err(reason) => assert_eq!(reason, Reason::ProviderUnavailable),
        }
    }
    assert_eq!((served, stub.calls()), (3, 3));
    // Strangers' tokens do not drive out those that are good.
    stub.behave(Manner::Says(200, active().to_string()));
    ask(&opaque, "good").await.unwrap();
    stub.behave(Manner::Says(200, r#"{"active":false}"#.into()));
    for n in 0..500 {
        assert!(ask(&opaque, &format!("made-up-{n}")).await.is_err());
    }
    let calls = stub.calls();
    assert!(ask(&opaque, "good").await.is_ok());
    assert_eq!(stub.calls(), calls);
    // Nothing is done about a token that is too large.
    let refused = ask(&opaque, &"x".repeat(Introspection::MAX_SIZE + 1)).await.unwrap_err();
    assert_eq!((refused.detail_text(), stub.calls()), (Some("the token is too large"), calls));
}
