//! Where keys are, by what the issuer says.

use super::*;

fn metadata(issuer: &str, keys: &str) -> String {
    json!({ "issuer": issuer, "jwks_uri": keys, "response_types_supported": ["code"] }).to_string()
}

#[tokio::test(start_paused = true)]
async fn an_issuer_is_asked_where_its_keys_are() {
    let signer = Signer::new("a");
    let set = set(&[&signer]);
    let provider = Provider::new(move |url| {
        Ok(if url.ends_with("/keys") {
            ok(set.clone())
        } else {
            ok(metadata(ISSUER, "https://keys.example/keys"))
        })
    });
    let keys = RemoteKeys::discover(ISSUER, provider.fetch()).build().unwrap();
    assert_eq!(keys.source(), ISSUER);
    keys.ready().await.unwrap();
    assert_eq!(error(&jwt(&keys), &signer.token()), None);
    let openid = "https://id.example/.well-known/openid-configuration";
    assert_eq!(provider.urls(), [openid, "https://keys.example/keys"]);
    // It is believed for a day.
    pass(20 * MINUTE).await;
    assert!(provider.urls().iter().all(|url| url == "https://keys.example/keys"));
    pass(24 * HOUR).await;
    assert_eq!(provider.urls().iter().filter(|url| *url == openid).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_have_moved_are_found() {
    let signer = Signer::new("a");
    let at = |place: &'static str, signer: &Signer| {
        let set = set(&[signer]);
        move |url: &str| {
            Ok(match url {
                _ if url == place => ok(set.clone()),
                _ if url.contains("well-known") => ok(metadata(ISSUER, place)),
                _ => Response::builder().status(404).body(Body::empty()).unwrap(),
            })
        }
    };
    let provider = Provider::new(at("https://id.example/1", &signer));
    let keys = RemoteKeys::discover(ISSUER, provider.fetch()).build().unwrap();
    keys.ready().await.unwrap();
    provider.becomes(at("https://id.example/2", &signer));
    pass(11 * MINUTE).await;
    assert_eq!((count(&keys, FetchResult::Refused), keys.status().state), (1, RemoteState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn the_standard_for_oauth_is_asked_where_the_other_has_nothing() {
    const REALM: &str = "https://id.example/realms/shop";
    let signer = Signer::new("a");
    let (set, document) = (set(&[&signer]), metadata(REALM, KEYS));
    let oauth = "https://id.example/.well-known/oauth-authorization-server/realms/shop";
    let provider = Provider::new(move |url| {
        Ok(match url {
            KEYS => ok(set.clone()),
            _ if url == oauth => ok(document.clone()),
            _ => Response::builder().status(404).body(Body::empty()).unwrap(),
        })
    });
    let keys = RemoteKeys::discover(REALM, provider.fetch()).build().unwrap();
    keys.ready().await.unwrap();
    let openid = "https://id.example/realms/shop/.well-known/openid-configuration";
    assert_eq!(provider.urls(), [openid, oauth, KEYS]);
    // Where neither has anything, the first one's answer is told.
    provider.becomes(|_| Ok(Response::builder().status(403).body(Body::empty()).unwrap()));
    let keys = RemoteKeys::discover(ISSUER, provider.fetch()).wait(SECOND).build().unwrap();
    let error = keys.ready().await.unwrap_err();
    assert_eq!(error.to_string(), "the keys are not known yet: the answer's status is 403");
}

#[tokio::test(start_paused = true)]
async fn metadata_of_another_issuer_is_not_believed() {
    let signer = Signer::new("a");
    for (document, result, told) in [
        (metadata("https://evil.example", KEYS), FetchResult::WrongIssuer, "another issuer"),
        (metadata("https://id.example/", KEYS), FetchResult::WrongIssuer, "another issuer"),
        (metadata(ISSUER, "http://id.example/keys"), FetchResult::Unusable, "jwks_uri: expected https"),
        ("{}".to_owned(), FetchResult::Unusable, "not a provider's metadata"),
    ] {
        let set = set(&[&signer]);
        let provider =
            Provider::new(move |url| Ok(ok(if url == KEYS { set.clone() } else { document.clone() })));
        let keys = RemoteKeys::discover(ISSUER, provider.fetch()).wait(SECOND).build().unwrap();
        let error = keys.ready().await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(count(&keys, result) > 0);
        assert!(provider.urls().iter().all(|url| url.contains("openid-configuration")), "no second opinion");
    }
}

#[tokio::test(start_paused = true)]
async fn plain_http_is_a_danger_that_is_chosen() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let at = |url: &str| RemoteKeys::at(url, provider.fetch());
    assert_eq!(at("http://127.0.0.1:9000/keys").build().unwrap_err(), InvalidUrl::Insecure);
    assert_eq!(
        RemoteKeys::discover("http://127.0.0.1:9000", provider.fetch()).build().unwrap_err(),
        InvalidUrl::Insecure
    );
    at("http://127.0.0.1:9000/keys").danger_plain_http().build().unwrap().ready().await.unwrap();
}
