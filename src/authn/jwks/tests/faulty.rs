//! Providers that are gone, or say something else.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_gone_for_an_hour_is_not_noticed() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    provider.dies();
    let before = provider.asked();
    for _ in 0..120 {
        pass(MINUTE).await;
        assert_eq!(error(&jwt, &signer.token()), None);
    }
    let tries = provider.asked() - before;
    assert!((100..=240).contains(&tries), "the waits grow to a minute: {tries}");
    assert_eq!(keys.status().state, RemoteState::Stale);
    assert_eq!(count(&keys, FetchResult::Unreachable), tries as u64);
    assert_eq!(error(&jwt, &signer.token_as("new")), Some(TokenError::KeysUnknown));
    // And it is back.
    provider.has(&[&signer]);
    pass(MINUTE).await;
    let status = keys.status();
    assert_eq!((status.state, status.last_error), (RemoteState::Fresh, None));
    pass(HOUR).await;
    assert_eq!(count(&keys, FetchResult::Unreachable), tries as u64);
}

#[tokio::test(start_paused = true)]
async fn a_set_is_used_for_a_day_after_its_lifetime_and_no_longer() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    provider.dies();
    pass(24 * HOUR + 10 * MINUTE - SECOND).await;
    assert_eq!(error(&jwt, &signer.token()), None);
    pass(2 * SECOND).await;
    assert_eq!(error(&jwt, &signer.token()), Some(TokenError::KeysUnknown));
    let status = keys.status();
    assert_eq!((status.state, status.keys, status.age), (RemoteState::Unknown, 0, None));
    provider.has(&[&signer]);
    pass(MINUTE).await;
    assert_eq!(error(&jwt, &signer.token()), None);
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_left_out_and_the_others_live() {
    let (good, left) = (Signer::new("good"), Signer::new("left"));
    let mut for_encryption = left.jwk();
    for_encryption["use"] = json!("enc");
    let strange = [
        json!({ "kty": "quantum", "kid": "q" }),
        json!(null),
        json!("text"),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
        json!({ "kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode([7; 64]) }),
        for_encryption,
    ];
    let all: Vec<_> = strange.into_iter().chain([good.jwk()]).collect();
    let provider = Provider::new(move |_| Ok(ok(json!({ "keys": all }).to_string())));
    let keys = provider.keys().build().unwrap();
    keys.ready().await.unwrap();
    assert_eq!(error(&jwt(&keys), &good.token()), None);
    assert_eq!(error(&jwt(&keys), &left.token()), Some(TokenError::UnknownKey));
    let status = keys.status();
    assert_eq!((status.keys, status.skipped), (1, 6));
    let set = keys.keys().current().unwrap();
    assert!(set.skipped().iter().any(|skipped| skipped.error == crate::authn::jwt::KeyError::Published));
}

#[tokio::test(start_paused = true)]
async fn whatever_a_provider_does_the_last_good_set_stays() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    let with = |status: u16| Response::builder().status(status);
    let to = move |place: &str| with(302).header(header::LOCATION, place).body(Body::empty()).unwrap();
    let many = json!({ "keys": (0..257).map(|_| signer.jwk()).collect::<Vec<_>>() }).to_string();
    let good = set(&[&signer]);
    let answers: Vec<(Box<Answering>, FetchResult)> = vec![
        (Box::new(|_| Err("reset".into())), FetchResult::Unreachable),
        (Box::new(|_| panic!("a client that panics")), FetchResult::Unreachable),
        (Box::new(move |_| Ok(with(500).body(Body::empty()).unwrap())), FetchResult::Refused),
        (Box::new(move |_| Ok(with(404).body(good.clone().into()).unwrap())), FetchResult::Refused),
        (Box::new(move |_| Ok(to("https://evil.example/keys"))), FetchResult::Redirected),
        (Box::new(move |_| Ok(to("http://id.example/keys"))), FetchResult::Redirected),
        (Box::new(move |_| Ok(to("/keys"))), FetchResult::Redirected),
        (Box::new(|_| Ok(ok("x".repeat(600 * 1024)))), FetchResult::TooLarge),
        (Box::new(|_| Ok(ok("<html>Sign in"))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok(""))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok(vec![0xff, 0xfe]))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok("{\"keys\":[]}"))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"))), FetchResult::Unusable),
        (Box::new(move |_| Ok(ok(many.clone()))), FetchResult::Unusable),
    ];
    for (answer, result) in answers {
        let before = count(&keys, result);
        provider.becomes(answer);
        pass(11 * MINUTE).await;
        assert!(count(&keys, result) > before, "{result}");
        assert_eq!(error(&jwt, &signer.token()), None);
        assert!(keys.status().last_error.is_some());
        provider.answer.clear_poison();
        provider.has(&[&signer]);
        pass(2 * MINUTE).await;
        assert_eq!(keys.status().state, RemoteState::Fresh);
    }
    provider.takes(6 * SECOND);
    pass(11 * MINUTE).await;
    assert!(count(&keys, FetchResult::Timeout) > 0);
    assert_eq!(error(&jwt, &signer.token()), None);
}
