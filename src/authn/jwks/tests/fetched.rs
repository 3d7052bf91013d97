//! When keys are fetched, and who waits.

use super::*;

#[tokio::test(start_paused = true)]
async fn keys_are_there_before_traffic_and_all_layers_share_them() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    pass(HOUR).await;
    assert_eq!(provider.asked(), 0, "nobody has used it");
    assert_eq!(keys.status().state, RemoteState::Unknown);
    let (one, other) = (jwt(&keys), jwt(keys.clone()));
    keys.ready().await.unwrap();
    keys.ready().await.unwrap();
    for jwt in [&one, &other] {
        assert_eq!(error(jwt, &signer.token()), None);
    }
    assert_eq!(provider.urls(), [KEYS]);
    let status = keys.status();
    assert_eq!((status.state, status.keys, status.age), (RemoteState::Fresh, 1, Some(Duration::ZERO)));
    assert_eq!(count(&keys, FetchResult::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn while_keys_are_unknown_nobody_is_told_that_a_token_is_bad() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    provider.dies();
    let keys = provider.keys().wait(2 * SECOND).build().unwrap();
    let layer = jwt(&keys).layer();
    let before = Instant::now();
    let error = keys.ready().await.unwrap_err();
    assert_eq!(before.elapsed(), 2 * SECOND, "waiting is bounded");
    let told =
        "the keys are not known yet: nothing could be fetched: no answer came back: connection refused";
    assert_eq!(error.to_string(), told);

    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let call = async |token: &str, kind: &str| {
        let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.header(header::CONTENT_TYPE, kind).body(Body::empty()).unwrap();
        layer.layer(inner).oneshot(request).await.unwrap()
    };
    for token in [signer.token(), Signer::new("a").token(), signer.token_as("made-up")] {
        let answer = call(&token, "text/plain").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        assert!(!answer.headers().contains_key(header::WWW_AUTHENTICATE));
        let answer = call(&token, "application/grpc").await;
        assert_eq!(answer.headers()["grpc-status"], "14");
    }
    provider.has(&[&signer]);
    pass(MINUTE).await;
    assert_eq!(call(&signer.token(), "text/plain").await.status(), StatusCode::OK);
    assert_eq!(call(&Signer::new("a").token(), "text/plain").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(call("", "text/plain").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn the_first_token_starts_it_where_nobody_waited() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let jwt = jwt(provider.keys().build().unwrap());
    for _ in 0..100 {
        assert_eq!(error(&jwt, &signer.token()), Some(TokenError::KeysUnknown));
    }
    pass(SECOND).await;
    assert_eq!(error(&jwt, &signer.token()), None);
    assert_eq!(provider.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_set_comes_ahead_of_the_end_and_nobody_waits_for_it() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let set = set(&[&old]);
    let provider = Provider::new(move |_| Ok(fresh_for(1000, set.clone())));
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    pass(799 * SECOND).await;
    assert_eq!(provider.asked(), 1);
    provider.has(&[&new]);
    provider.takes(4 * SECOND);
    pass(101 * SECOND - SECOND / 2).await;
    // It may be on its way.
    assert_eq!(provider.asked(), 2);
    assert!(error(&jwt, &old.token()).is_none() || error(&jwt, &new.token()).is_none());
    assert_eq!(keys.status().state, RemoteState::Fresh);
    pass(5 * SECOND).await;
    assert_eq!(error(&jwt, &new.token()), None);
    assert_eq!(error(&jwt, &old.token()), Some(TokenError::UnknownKey), "what has left verifies nothing");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_once_for_all_who_ask() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let provider = Provider::of(&[&old]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    // Right after a fetch its word counts.
    assert_eq!(error(&jwt, &new.token()), Some(TokenError::UnknownKey));
    pass(11 * SECOND).await;
    assert_eq!(provider.asked(), 2, "and it is looked again when the cool-down is over");

    provider.has(&[&old, &new]);
    provider.takes(3 * SECOND);
    pass(10 * SECOND).await;
    for _ in 0..1000 {
        assert_eq!(
            error(&jwt, &new.token()),
            Some(TokenError::KeysUnknown),
            "it may be one of the provider's"
        );
        assert_eq!(error(&jwt, &old.token()), None, "nobody else notices");
    }
    pass(SECOND).await;
    assert_eq!(error(&jwt, &new.token()), Some(TokenError::KeysUnknown), "on its way");
    pass(3 * SECOND).await;
    assert_eq!(error(&jwt, &new.token()), None);
    assert_eq!(provider.asked(), 3);
    pass(MINUTE).await;
    assert_eq!(provider.asked(), 3, "who asked has been answered");
    assert!(provider.urls().iter().all(|url| url == KEYS), "no name of a key leaves us");
}

#[tokio::test(start_paused = true)]
async fn a_name_with_a_new_key_is_fetched_anew() {
    let (old, new) = (Signer::new("key"), Signer::new("key"));
    let provider = Provider::of(&[&old]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    pass(11 * SECOND).await;
    provider.has(&[&new]);
    provider.takes(SECOND);
    for _ in 0..1000 {
        // The key of that name is here: by all that is known the token is bad.
        assert_eq!(error(&jwt, &new.token()), Some(TokenError::Signature));
    }
    assert_eq!(error(&jwt, &old.token()), None, "nobody else notices");
    pass(2 * SECOND).await;
    assert_eq!((error(&jwt, &new.token()), provider.asked()), (None, 2));
    // Strangers' signatures cause no more fetches than made-up names do.
    for _ in 0..100 {
        assert_eq!(error(&jwt, &old.token()), Some(TokenError::Signature));
        pass(SECOND).await;
    }
    assert!((11..=12).contains(&provider.asked()), "{}", provider.asked());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_names_no_keys_may_have_new_ones_too() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let nameless = |signer: &Signer| {
        let mut jwk = signer.jwk();
        jwk.as_object_mut().unwrap().remove("kid");
        json!({ "keys": [jwk] }).to_string()
    };
    let (before, after) = (nameless(&old), nameless(&new));
    let provider = Provider::new(move |_| Ok(ok(before.clone())));
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    assert_eq!(error(&jwt, &old.token()), None);
    provider.becomes(move |_| Ok(ok(after.clone())));
    pass(11 * SECOND).await;
    assert_eq!(error(&jwt, &new.token()), Some(TokenError::KeysUnknown));
    pass(SECOND).await;
    assert_eq!(error(&jwt, &new.token()), None);
    assert_eq!(error(&jwt, &old.token()), Some(TokenError::Signature));
}

#[tokio::test(start_paused = true)]
async fn strangers_with_made_up_names_cannot_make_us_hammer_the_provider() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    for second in 0..100 {
        for n in 0..50 {
            let made_up = signer.token_as(&format!("{second}-{n}"));
            assert!(matches!(error(&jwt, &made_up), Some(TokenError::UnknownKey | TokenError::KeysUnknown)));
        }
        pass(SECOND).await;
        assert_eq!(error(&jwt, &signer.token()), None);
    }
    assert!((10..=11).contains(&provider.asked()), "{}", provider.asked());
    // The same while it cannot be reached.
    provider.dies();
    let before = provider.asked();
    for second in 0..100 {
        let _ = error(&jwt, &signer.token_as(&format!("{second}")));
        pass(SECOND).await;
    }
    assert!(provider.asked() - before <= 14, "{}", provider.asked() - before);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_changes_nothing_keeps_every_key_the_same() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    keys.ready().await.unwrap();
    let held: Vec<_> = keys.keys().current().unwrap().shared().cloned().collect();
    pass(HOUR).await;
    assert!(provider.asked() > 5);
    let now = keys.keys().current().unwrap();
    assert!(held.iter().all(|key| now.has(key)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_without_a_wrong_answer() {
    let signers: Vec<_> = ["0", "1", "2", "3", "4", "5"].map(Signer::new).into();
    let provider = Provider::of(&[&signers[0], &signers[1]]);
    let keys = provider
        .keys()
        .lifetime(Duration::from_millis(4))
        .min_lifetime(Duration::from_millis(4))
        .cooldown(Duration::from_millis(1))
        .build()
        .unwrap();
    keys.ready().await.unwrap();
    let (jwt, at) = (jwt(&keys), AtomicUsize::new(0));
    let tokens: Vec<_> = signers.iter().map(Signer::token).collect();
    let stranger = Signer::new("0").token();
    std::thread::scope(|scope| {
        let (jwt, at, tokens, stranger) = (&jwt, &at, &tokens, &stranger);
        for _ in 0..2 {
            scope.spawn(move || {
                while at.load(Ordering::Acquire) < 60 {
                    // The provider signs with a key that it has published before, and withdraws it later.
                    let present = at.load(Ordering::Acquire);
                    let outcome = error(jwt, &tokens[present % 6]);
                    let overtaken = at.load(Ordering::Acquire) != present;
                    assert!(outcome.is_none() || overtaken, "{outcome:?}");
                    assert!(error(jwt, stranger).is_some());
                }
            });
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for step in 1..=60 {
                    let (now, next) = (&signers[step % 6], &signers[(step + 1) % 6]);
                    let fetched = provider.asked();
                    provider.has(&[&signers[(step - 1) % 6], now, next]);
                    while provider.asked() < fetched + 2 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    at.store(step, Ordering::Release);
                }
            });
        });
    });
    assert!(provider.asked() > 100);
}
