//! Answers that are remembered, and questions that are one.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_answer_is_remembered_no_longer_than_the_token_lives() {
    for (exp, remembered) in [
        (Some(300), Introspection::REMEMBERED),
        (None, Introspection::REMEMBERED),
        (Some(20), 20 * SECOND),
        (Some(0), Duration::ZERO),
        (Some(-30), Duration::ZERO),
    ] {
        let mut answer = active();
        match exp {
            Some(exp) => answer["exp"] = json!(now() as i64 + exp),
            None => drop(answer.as_object_mut().unwrap().remove("exp")),
        }
        let stub = Stub::says(answer.to_string());
        let opaque = builder(&stub).build();
        assert!(ask(&opaque, "abc").await.is_ok(), "{exp:?}");
        let mut calls = 1;
        if remembered > SECOND {
            advance(remembered - SECOND).await;
            assert!(ask(&opaque, "abc").await.is_ok());
            assert_eq!(stub.calls(), 1, "{exp:?}");
            advance(SECOND).await;
        }
        calls += 1;
        assert!(ask(&opaque, "abc").await.is_ok());
        assert_eq!(stub.calls(), calls, "{exp:?}");
    }
    // Who says that more be remembered is not heard.
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).remember(Duration::from_secs(3600)).build();
    ask(&opaque, "abc").await.unwrap();
    advance(Introspection::REMEMBERED).await;
    ask(&opaque, "abc").await.unwrap();
    assert_eq!(stub.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_held_to_the_time_of_each_request() {
    let hands = hands();
    let stub = Stub::says(with("exp", json!(now() + 30)));
    let opaque = builder(&stub).clock(hands.clock()).skew(Duration::ZERO).build();
    ask(&opaque, "abc").await.unwrap();
    // The wall clock steps, and the cache's does not.
    hands.advance(30 * SECOND);
    let refused = ask(&opaque, "abc").await.unwrap_err();
    assert_eq!(refused.detail_text(), Some("the token has expired"));
    assert_eq!((stub.calls(), opaque.handle().hits()), (1, 1));
    let stub = Stub::says(with("nbf", json!(now())));
    let opaque = builder(&stub).clock(hands.clock()).skew(Duration::ZERO).build();
    ask(&opaque, "abc").await.unwrap();
    hands.step_back(40 * SECOND);
    assert_eq!(ask(&opaque, "abc").await.unwrap_err().detail_text(), Some("the token is not valid yet"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_ask_the_same_are_one_call() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).build();
    let calls = (0..1_000).map(|_| {
        let opaque = opaque.clone();
        tokio::spawn(async move { ask(&opaque, "abc").await.is_ok() })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        assert!(call.await.unwrap());
    }
    assert_eq!((stub.calls(), opaque.handle().active()), (1, 1));
    assert!(ask(&opaque, "abd").await.is_ok());
    assert_eq!(stub.calls(), 2, "another token is another call");
}

/// Who leaves takes nobody's answer along: neither of those who wait with it, nor of the next.
#[tokio::test(start_paused = true)]
async fn who_leaves_takes_no_answer_with_it() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).build();
    // Every await before the answer: polled so often, and then dropped.
    for polls in 1..4 {
        let token = format!("token-{polls}");
        let mut first = tokio_test::task::spawn(ask(&opaque, &token));
        for _ in 0..polls {
            assert!(first.poll().is_pending());
            tokio::task::yield_now().await;
        }
        let mut second = tokio_test::task::spawn(ask(&opaque, &token));
        assert!(second.poll().is_pending());
        drop(first);
        let answer = tokio::time::timeout(2 * SECOND, second).await.unwrap();
        assert!(answer.is_ok());
        // The last to leave leaves the answer to the next.
        let alone = format!("alone-{polls}");
        let mut leaves = tokio_test::task::spawn(ask(&opaque, &alone));
        assert!(leaves.poll().is_pending());
        drop(leaves);
        tokio::time::sleep(2 * SECOND).await;
        let before = stub.calls();
        assert!(ask(&opaque, &alone).await.is_ok());
        assert_eq!(stub.calls(), before);
    }
    assert_eq!(stub.calls(), 6);
}

#[test]
fn a_token_is_known_by_its_print_alone() {
    let print = Asking::print("abc");
    assert_ne!(print, Asking::print("abd"));
    // FIPS 180-2, appendix B.1.
    assert_eq!(print[..4], [0xba, 0x78, 0x16, 0xbf]);
}
