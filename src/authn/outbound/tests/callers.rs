//! Tokens of callers.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_callers_token_is_exchanged_once_for_each_caller() {
    let (provider, stock) = (Stub::says(token("adas", 1_000)), Stock::default());
    let endpoint = provider.endpoint(Client::secret_post("orders", "hush"));
    let request =
        TokenRequest::new(endpoint).audience("stock").resource("https://stock.example/").scopes(["read"]);
    let source = TokenSource::exchange(request.parameter("requested_token_type", "x"));
    assert!(source.needs_caller());
    let client = stock.behind(&source);
    assert_eq!(status(&client, of("ada")).await, 200);
    let form = provider.last().form;
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "ada"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("audience", "stock"),
        ("resource", "https://stock.example/"),
        ("scope", "read"),
        ("requested_token_type", "x"),
    ] {
        assert_eq!(form[name], value);
    }
    provider.behave(Manner::Says(200, token("bobs", 1_000)));
    assert_eq!(status(&client, of("bob")).await, 200);
    assert_eq!(status(&client, of("ada")).await, 200);
    assert_eq!(stock.seen(), ["Bearer adas", "Bearer bobs", "Bearer adas"]);
    assert_eq!(provider.calls(), 2);

    // In a handler's context, too.
    let mut served = get();
    served.extensions_mut().insert(CallerToken::new("bob"));
    let context = Context::of(served.extensions());
    assert_eq!(context.scope(status(&client, get())).await, 200);
    assert_eq!((stock.seen(), provider.calls()), (vec!["Bearer bobs".to_owned()], 2));

    // Who came without a token is not served as somebody else.
    let response = client.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.extensions().get::<Rejection>().unwrap().reason(), Reason::MissingCredentials);
    assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    assert!(stock.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_whom_the_provider_refuses_is_401_and_others_do_not_mind() {
    let (provider, stock) = (Stub::says(""), Stock::default());
    provider.behave(Manner::Says(400, r#"{"error":"invalid_grant"}"#.into()));
    let endpoint = provider.endpoint(Client::secret_post("orders", "hush"));
    let client = stock.behind(&TokenSource::exchange(TokenRequest::new(endpoint)));
    for n in 0..20 {
        let response = client.clone().oneshot(of(&format!("mallory-{n}"))).await.unwrap();
        assert_eq!(response.status(), 401);
        let challenge = &response.headers()[header::WWW_AUTHENTICATE];
        assert_eq!(challenge, r#"Bearer realm="api", error="invalid_token""#);
    }
    assert_eq!(status(&client, of("mallory-0")).await, 401);
    assert_eq!(provider.calls(), 20, "it is remembered for a while");
    provider.behave(Manner::Says(200, token("adas", 1_000)));
    assert_eq!(status(&client, of("ada")).await, 200);
    advance(10 * SECOND).await;
    assert_eq!(status(&client, of("mallory-0")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_token_goes_on_if_told() {
    let stock = Stock::default();
    let source = TokenSource::danger_caller();
    let client = stock.behind(&source);
    assert_eq!(status(&client, of("ada")).await, 200);
    let mut anonymous = get();
    anonymous.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer smuggled"));
    assert_eq!(status(&client, anonymous).await, 200);
    stock.takes("other");
    assert_eq!(status(&client, of("ada")).await, 401);
    assert_eq!(stock.seen(), ["Bearer ada", "nothing", "Bearer ada"]);
    assert_eq!((source.needs_caller(), source.handle().kept()), (true, 0));
}
