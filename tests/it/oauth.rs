//! Tokens that their provider is asked about, and tokens of our own, with a real authorization server.
#![cfg(all(feature = "axum", feature = "gateway", feature = "tls", feature = "tonic"))]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::{Router, extract::Request, routing::any};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use portcullis::{
    authn::{
        introspection::Introspection,
        oauth::{Client, Endpoint, SigningKey},
        outbound::{OutboundLayer, TokenRequest, TokenSource},
    },
    body::Body,
    config::Config,
    fetch::Fetch,
    identity::{ClientAddr, Principal},
    upstream::Client as Http,
};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, Service, ServiceExt};
use tracing::Level;

use crate::{
    gateway::world::{Client as Caller, Directory, Gateway, PATIENCE, file, upstream, yaml_of},
    support::{
        authority::{Authority, ID, INTROSPECT, Manner, Proof, SECRET, TOKEN},
        log::Log,
    },
};

fn fetch() -> Fetch {
    Fetch::new(Http::builder().build())
}

fn client(authority: &Authority, proof: Proof) -> Client {
    match proof {
        Proof::Basic => Client::secret_basic(ID, SECRET),
        Proof::Post => Client::secret_post(ID, SECRET),
        Proof::Key => Client::private_key_jwt(ID, SigningKey::pem(authority.key.as_bytes()).unwrap()),
    }
}

fn endpoint(authority: &Authority, path: &str, proof: Proof) -> Endpoint {
    Endpoint::danger_plain(&authority.url(path), client(authority, proof), fetch()).unwrap()
}

fn introspection(authority: &Authority) -> Introspection {
    let endpoint = endpoint(authority, INTROSPECT, Proof::Basic);
    Introspection::builder(endpoint).issuer(&authority.issuer()).audiences(["shop"]).build()
}

async fn bind(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// An axum application behind the gate, in this process.
fn guarded(introspection: &Introspection) -> Router {
    let who = async |principal: Principal| principal.subject().to_owned();
    Router::new().route("/", any(who)).layer(introspection.clone().layer())
}

async fn ask(app: &Router, token: &str) -> (u16, HeaderMap, String) {
    ask_from(app, token, 1).await
}

/// From the address 192.0.2.n.
async fn ask_from(app: &Router, token: &str, n: u8) -> (u16, HeaderMap, String) {
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    let request = request.extension(ClientAddr::new([192, 0, 2, n].into(), None));
    let response = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn every_kind_of_client_is_known_to_the_provider_and_no_other() {
    let authority = Authority::start().await;
    authority.issue("opaque", "ada");
    for wanted in [Proof::Basic, Proof::Post, Proof::Key] {
        authority.wants(wanted);
        for shown in [Proof::Basic, Proof::Post, Proof::Key] {
            let refused = authority.refused();
            let gate =
                Introspection::builder(endpoint(&authority, INTROSPECT, shown)).audiences(["shop"]).build();
            let tokens =
                TokenSource::client_credentials(TokenRequest::new(endpoint(&authority, TOKEN, shown)));
            let (status, headers, body) = ask(&guarded(&gate), "opaque").await;
            let sent = call_with(&tokens, &Shelf::default()).await;
            if wanted == shown {
                assert_eq!((status, body.as_str(), sent), (200, "ada", StatusCode::OK), "{wanted:?}");
                assert_eq!(authority.refused(), refused);
                // Whoever signs does so anew: the provider takes nothing twice.
                assert_eq!(ask(&guarded(&gate), "unknown").await.0, 401);
            } else {
                let none = StatusCode::SERVICE_UNAVAILABLE;
                assert_eq!((status, sent), (503, none), "{wanted:?} {shown:?}");
                assert!(headers.contains_key("retry-after") && !headers.contains_key("www-authenticate"));
                assert_eq!(authority.refused(), refused + 2);
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_active_is_401_and_what_is_revoked_soon_too() {
    let authority = Authority::start().await;
    authority.issue("opaque", "ada");
    let endpoint = endpoint(&authority, INTROSPECT, Proof::Basic);
    let gate = Introspection::builder(endpoint).audiences(["shop"]).remember(Duration::ZERO);
    let app = guarded(&gate.build());
    assert_eq!(ask(&app, "opaque").await.0, 200);
    authority.revoke("opaque");
    let (status, headers, _) = ask(&app, "opaque").await;
    assert_eq!(status, 401);
    assert_eq!(headers["www-authenticate"], r#"Bearer realm="api", error="invalid_token""#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_with_one_token_are_one_call() {
    let authority = Authority::start().await;
    authority.issue("opaque", "ada");
    authority.behave(Manner::Slow(Duration::from_millis(200)));
    let app = guarded(&introspection(&authority));
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { ask(&app, "opaque").await.0 })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(authority.hits(INTROSPECT), 1);
}

#[tokio::test]
async fn a_provider_that_misbehaves_is_503_and_those_who_are_known_do_not_mind() {
    let mut authority = Authority::start().await;
    authority.issue("known", "ada");
    authority.issue("other", "bob");
    let huge = Manner::Huge(Endpoint::MAX_ANSWER + 1);
    let active = r#"{"active":true,"active":false,"aud":"shop"}"#;
    for manner in [
        Manner::Slow(Duration::from_secs(60)),
        Manner::Stuck,
        Manner::Status(500),
        Manner::Status(204),
        Manner::Lies(r#"{"active":"true","aud":"shop","sub":"ada"}"#.into()),
        Manner::Lies(active.into()),
        Manner::Lies("<html>".into()),
        huge,
        Manner::Redirects,
    ] {
        let endpoint = Endpoint::danger_plain(
            &authority.url(INTROSPECT),
            client(&authority, Proof::Basic),
            fetch().timeout(Duration::from_millis(300)),
        );
        let gate = Introspection::builder(endpoint.unwrap()).audiences(["shop"]).build();
        let app = guarded(&gate);
        authority.behave(Manner::Honest);
        assert_eq!(ask(&app, "known").await.0, 200);
        authority.behave(manner.clone());
        let hits = authority.hits(INTROSPECT);
        // Once five callers have seen it, nobody is asked about any more.
        let asked: u8 = 5;
        for n in 0..10 {
            let (status, headers, body) = ask_from(&app, &format!("other-{n}"), n).await;
            assert_eq!(status, 503, "{manner:?}: {body}");
            assert!(headers.contains_key("retry-after") && !headers.contains_key("www-authenticate"));
        }
        assert_eq!(authority.hits(INTROSPECT), hits + usize::from(asked), "{manner:?}");
        assert_eq!(ask(&app, "known").await.0, 200, "{manner:?}");
        let counted = (gate.handle().failed(), gate.handle().unasked());
        assert_eq!(counted, (u64::from(asked), u64::from(10 - asked)), "{manner:?}");
    }
    // Dead, and back on its feet: it is noticed by itself.
    authority.behave(Manner::Honest);
    let gate = introspection(&authority);
    let app = guarded(&gate);
    assert_eq!(ask(&app, "known").await.0, 200);
    authority.kill().await;
    for _ in 0..10 {
        assert_eq!((ask(&app, "other").await.0, ask(&app, "known").await.0), (503, 200));
    }
    authority.revive().await;
    let back = async {
        while ask(&app, "other").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
}

#[tokio::test]
async fn one_caller_at_whose_tokens_it_fails_keeps_nobody_from_being_asked_about() {
    let authority = Authority::start().await;
    authority.issue("other", "bob");
    let gate = introspection(&authority);
    let app = guarded(&gate);
    authority.behave(Manner::Status(500));
    for n in 0..30 {
        assert_eq!(ask_from(&app, &format!("made-up-{n}"), 66).await.0, 503);
    }
    authority.behave(Manner::Honest);
    assert_eq!((ask_from(&app, "other", 7).await.0, gate.handle().unasked()), (200, 0));
}

#[tokio::test]
async fn a_flapping_provider_never_gives_a_wrong_answer() {
    let authority = Authority::start().await;
    authority.behave(Manner::Flaps);
    let app = guarded(&introspection(&authority));
    let mut answered = 0;
    for n in 0..40 {
        let (good, bad) = (format!("good-{n}"), format!("bad-{n}"));
        authority.issue(&good, "ada");
        let (good, bad) = (ask(&app, &good).await.0, ask(&app, &bad).await.0);
        assert!(matches!(good, 200 | 503) && matches!(bad, 401 | 503), "{good} {bad}");
        answered += usize::from(good == 200) + usize::from(bad == 401);
    }
    assert!(answered > 0);
}

/// The service that is called: it shows tokens to the authority, as it knows them.
#[derive(Clone, Default)]
struct Shelf {
    authority: Option<Arc<Authority>>,
}

impl Shelf {
    async fn serve(&self) -> SocketAddr {
        let this = self.clone();
        bind(Router::new().fallback(move |request: Request| {
            let this = this.clone();
            async move {
                let line =
                    request.headers().get("authorization").map(|line| line.to_str().unwrap().to_owned());
                let token = line.as_deref().and_then(|line| line.strip_prefix("Bearer ")).unwrap_or_default();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let fits = this.authority.as_ref().is_none_or(|authority| authority.knows(token));
                match fits && !token.is_empty() {
                    true => (StatusCode::OK, [b"ok ".as_slice(), &body].concat()),
                    false => (StatusCode::UNAUTHORIZED, Vec::new()),
                }
            }
        }))
        .await
    }
}

fn caller(
    source: &TokenSource,
) -> impl Service<
    http::Request<Body>,
    Response = http::Response<portcullis::body::ResponseBody<Body>>,
    Error = portcullis::reject::Rejection,
    Future: Send,
> + Clone
+ use<> {
    OutboundLayer::new(source.clone()).layer(Http::builder().build())
}

async fn call_with(source: &TokenSource, shelf: &Shelf) -> StatusCode {
    let at = shelf.serve().await;
    let request = http::Request::get(format!("http://{at}/")).body(Body::empty()).unwrap();
    caller(source).oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn a_token_that_was_revoked_is_had_anew_once_and_the_body_is_sent_again() {
    let authority = Arc::new(Authority::start().await);
    let tokens =
        TokenSource::client_credentials(TokenRequest::new(endpoint(&authority, TOKEN, Proof::Basic)));
    let at = Shelf { authority: Some(Arc::clone(&authority)) }.serve().await;
    let client = caller(&tokens);
    let post = async || {
        let request = http::Request::post(format!("http://{at}/")).body(Body::from("twelve")).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(post().await, (200, "ok twelve".into()));
    assert_eq!(post().await, (200, "ok twelve".into()));
    assert_eq!(authority.hits(TOKEN), 1);
    authority.revoke_all();
    assert_eq!(post().await, (200, "ok twelve".into()));
    assert_eq!(authority.hits(TOKEN), 2);
    // So soon after no other is had: the service refuses it for another reason.
    authority.revoke_all();
    assert_eq!(post().await.0, 401);
    assert_eq!((authority.hits(TOKEN), tokens.handle().refused()), (2, 2));
}

#[tokio::test]
async fn a_tonic_client_calls_with_a_token() {
    let authority = Authority::start().await;
    let tokens = TokenSource::client_credentials(
        TokenRequest::new(endpoint(&authority, TOKEN, Proof::Basic)).scopes(["health"]),
    );
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[allow(clippy::result_large_err, reason = "tonic's")]
    let check = |request: tonic::Request<()>| match request.metadata().get("authorization") {
        Some(line) if line.to_str().unwrap_or_default().starts_with("Bearer given-2") => Ok(request),
        _ => Err(tonic::Status::unauthenticated("no")),
    };
    let guarded = tonic::service::interceptor::InterceptedService::new(service, check);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(guarded).serve_with_incoming(incoming));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let mut client = HealthClient::new(OutboundLayer::new(tokens).layer(channel));
    let refused = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let again = async {
        // The new token is had in the background.
        while authority.hits(TOKEN) < 2 {
            tokio::task::yield_now().await;
        }
        while client.check(HealthCheckRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(authority.hits(TOKEN), 2);
    assert_eq!(authority.last()["scope"], "health");
}

/// Opaque tokens at the door, and the caller's in exchange for another behind it.
fn gateway_file(authority: &Authority, upstream: SocketAddr, more: &str) -> String {
    let client = "client: { id: gate way, secret: { file: secret.txt } }, fetch: { dangerPlainHttp: true }";
    file(&format!(
        "authentication:\n  customers:\n    introspection: {{ url: '{introspect}', audiences: [shop], \
         claimHeaders: {{ x-user: sub }}, {client} }}\n\
         upstreams:\n  \
           exchanged:\n    endpoints: ['{upstream}']\n    credentials:\n      \
             tokenExchange: {{ url: '{token}', audience: stock, {client} }}\n  \
           ours:\n    endpoints: ['{upstream}']\n    credentials:\n      \
             clientCredentials: {{ url: '{token}', scopes: [stock.read, stock.write], {client} }}\n  \
           mounted:\n    endpoints: ['{upstream}']\n    credentials: {{ token: {{ file: token }} }}\n  \
           theirs:\n    endpoints: ['{upstream}']\n    credentials: {{ dangerForwardToken: true }}\n  \
           plain: {{ endpoints: ['{upstream}'] }}\n\
         routes:\n- name: r\n  rules:\n\
         {rules}{more}",
        introspect = authority.url(INTROSPECT),
        token = authority.url(TOKEN),
        rules = ["exchanged", "ours", "mounted", "theirs", "plain"]
            .map(|name| format!(
                "  - matches: [{{ path: {{ type: PathPrefix, value: /{name} }} }}]\n    \
                 policies: {{ authenticate: [customers] }}\n    backendRefs: [{{ name: {name} }}]\n"
            ))
            .concat(),
    ))
}

fn secret(directory: &Directory) {
    use std::os::unix::fs::PermissionsExt as _;
    directory.write("secret.txt", &format!("{SECRET}\n"));
    std::fs::set_permissions(directory.path("secret.txt"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn tokens_are_counted(gateway: &Gateway) {
    let status = gateway.status().await;
    assert_eq!(status["introspections"][0]["provider"], "customers");
    assert_eq!(status["introspections"][0]["calls"]["active"], 1);
    let sources = status["tokenSources"].as_array().unwrap();
    let source = sources.iter().find(|source| source["upstream"] == "ours").unwrap();
    assert_eq!((&source["fetched"], &source["failed"]), (&1.into(), &0.into()));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for line in [
        r#"portcullis_introspections_total{provider="customers",result="active"} 1"#,
        r#"portcullis_introspections_total{provider="customers",result="inactive"} 1"#,
        r#"portcullis_outbound_tokens_total{upstream="exchanged",result="fetched"} 1"#,
        r#"portcullis_outbound_tokens_total{upstream="exchanged",result="kept"} 1"#,
        r#"portcullis_outbound_token_age_seconds{upstream="ours"} "#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    for secret in [SECRET, "opaque", "given-", "mounted-1"] {
        assert!(!metrics.contains(secret) && !status.to_string().contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_gateway_asks_about_tokens_and_puts_tokens_on_by_its_file() {
    let (log, _guard) = Log::start_at(Level::TRACE);
    let authority = Authority::start().await;
    let directory = Directory::new("oauth");
    secret(&directory);
    directory.write("token", "mounted-1\n");
    directory.write("gateway.yaml", &gateway_file(&authority, upstream("one").await, ""));
    authority.issue("opaque", "ada");
    let config = Config::file(directory.path("gateway.yaml"));
    assert!(config.check().is_accepted(), "{}", config.check());
    let gateway = Gateway::start(config).await;
    let sent = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("nothing").to_owned()
    };
    for (path, token) in [
        ("/exchanged", "Bearer given-1"),
        ("/ours", "Bearer given-2"),
        ("/mounted", "Bearer mounted-1"),
        ("/theirs", "Bearer opaque"),
        ("/plain", "nothing"),
    ] {
        for _ in 0..2 {
            let answer =
                gateway.get(path, &[("authorization", "Bearer opaque"), ("x-user", "mallory")]).await;
            assert_eq!((answer.status, sent(&answer.text).as_str()), (200, token), "{path}");
            assert!(answer.text.contains("x-user: ada\n"), "{}", answer.text);
        }
        let refused = gateway.get(path, &[("authorization", "Bearer unknown")]).await;
        assert_eq!((refused.status, refused.headers.contains_key("www-authenticate")), (401, true));
        assert_eq!(gateway.get(path, &[]).await.status, 401);
    }
    assert_eq!((authority.hits(INTROSPECT), authority.hits(TOKEN)), (2, 2));

    tokens_are_counted(&gateway).await;

    // What was remembered outlives a reload, as long as the same is asked in the same way.
    let text = std::fs::read_to_string(directory.path("gateway.yaml")).unwrap();
    directory.write("gateway.yaml", &format!("{text}shutdown: {{ delay: 1s }}\n"));
    gateway.until(|status| status["generation"] == 2).await;
    for path in ["/exchanged", "/ours"] {
        assert_eq!(gateway.get(path, &[("authorization", "Bearer opaque")]).await.status, 200);
    }
    assert_eq!((authority.hits(INTROSPECT), authority.hits(TOKEN)), (2, 2));

    // What fails is told, and no secret with it.
    authority.issue("opaque-2", "bob");
    authority.behave(Manner::Lies(format!(r#"{{"error":"{SECRET}"}}"#)));
    assert_eq!(gateway.get("/plain", &[("authorization", "Bearer opaque-2")]).await.status, 503);
    authority.behave(Manner::Status(500));
    assert_eq!(gateway.get("/plain", &[("authorization", "Bearer opaque-3")]).await.status, 503);
    let lines = log.ours();
    assert!(lines.len() > 20, "{lines:?}");
    for secret in [SECRET, "opaque", "given-", "mounted-1", "Bearer unknown"] {
        let told: Vec<_> = lines.iter().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:?}");
    }
}

#[tokio::test]
async fn the_file_says_of_introspection_what_rust_can() {
    let authority = Authority::start().await;
    let directory = Directory::new("introspection");
    secret(&directory);
    let text = file(&format!(
        "authentication:\n  customers:\n    introspection: {{ url: '{}', audiences: [shop], requiredClaims: [tier], \
         rolesClaim: /realm/roles, scopesClaim: perms, planClaim: /billing/plan, maxEntries: 8, memory: 65536, maxCalls: 8, maxCallsEach: 1, \
         maxSize: 20, client: {{ id: gate way, secret: {{ file: secret.txt }} }}, fetch: {{ dangerPlainHttp: true }} }}\n\
         callerHeaders: {{ x-plan: plan }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ authenticate: [customers], \
         authorize: {{ roles: {{ all: [buyer] }}, scopes: {{ all: [orders.read] }} }} }} }}] }}]\n",
        authority.url(INTROSPECT),
        upstream("one").await,
    ));
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let get =
        async |token: &str| gateway.get("/", &[("authorization", &format!("Bearer {token}"))]).await.status;
    let says = |tier: &str, role: &str, perms: &str| {
        Manner::Lies(format!(
            r#"{{"active":true,"aud":"shop","sub":"ada"{tier},"realm":{{"roles":["{role}"]}},"billing":{{"plan":"gold"}},"perms":"{perms}"}}"#
        ))
    };
    for (token, manner, status) in [
        ("good", says(r#","tier":1"#, "buyer", "orders.read"), 200),
        ("no-tier", says("", "buyer", "orders.read"), 401),
        ("no-role", says(r#","tier":1"#, "seller", "orders.read"), 403),
        ("no-scope", says(r#","tier":1"#, "buyer", "orders.write"), 403),
    ] {
        authority.behave(manner);
        assert_eq!(get(token).await, status, "{token}");
    }
    let told = gateway.get("/", &[("authorization", "Bearer good")]).await.text;
    assert!(told.contains("x-plan: gold\n"), "{told}");
    let hits = authority.hits(INTROSPECT);
    assert_eq!((get("twenty-one-characters").await, authority.hits(INTROSPECT)), (401, hits));
    // Of one address one token is asked about at once.
    authority.behave(Manner::Slow(Duration::from_secs(60)));
    let (first, at) = (Caller::new(), gateway.at("public"));
    let first = tokio::spawn(async move { first.get(at, "/", &[("authorization", "Bearer slow")]).await });
    let asked = async {
        while authority.hits(INTROSPECT) == hits {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    assert_eq!((get("other").await, get("good").await), (429, 200));
    first.abort();

    let bound = text.replace("maxSize: 20", "certificateBound: true");
    let check = Config::text("f", bound).check();
    let warned =
        check.faults().iter().map(ToString::to_string).find(|fault| fault.contains("certificateBound"));
    assert!(warned.is_some_and(|fault| fault.contains("no listener brings certificates")), "{check}");
}

#[tokio::test]
async fn a_dead_provider_blocks_only_the_rules_that_need_it() {
    let authority = Authority::start().await;
    let directory = Directory::new("oauth-dead");
    secret(&directory);
    directory.write("token", "mounted-1\n");
    let open = "  - matches: [{ path: { type: PathPrefix, value: /open } }]\n    \
                policies: { authenticate: none }\n    backendRefs: [{ name: ours }]\n  \
                - matches: [{ path: { type: PathPrefix, value: /free } }]\n    \
                policies: { authenticate: none }\n    backendRefs: [{ name: plain }]\n";
    directory.write("gateway.yaml", &gateway_file(&authority, upstream("one").await, open));
    authority.kill().await;
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    for (path, reason) in [("/plain", "provider_unavailable"), ("/open", "token_unavailable")] {
        let answer = gateway.get(path, &[("authorization", "Bearer opaque")]).await;
        assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{path}");
        assert!(answer.text.contains(reason), "{}", answer.text);
    }
    assert_eq!(gateway.get("/plain", &[]).await.status, 401, "who shows nothing is asked about nothing");
    assert_eq!(gateway.get("/free", &[]).await.status, 200);
    assert_eq!(gateway.client.get(gateway.at("admin"), "/readyz", &[]).await.status, 200);
}

fn faults(directory: &Directory, provider: &str, credentials: &str) -> Vec<String> {
    let text = file(&format!(
        "authentication: {{ p: {provider} }}\n\
         upstreams: {{ one: {{ endpoints: ['127.0.0.1:9001'], credentials: {credentials} }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ authenticate: [p] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    directory.write("gateway.yaml", &text);
    let check = Config::file(directory.path("gateway.yaml")).check();
    let faults = check.faults().iter().map(ToString::to_string);
    faults
        .map(|fault| fault.split_once("gateway.yaml:").map_or(fault.clone(), |(_, fault)| fault.to_owned()))
        .collect()
}

/// What is wrong with a client of the introspection endpoint, and what is said of it.
const FAULTY_CLIENTS: [(&str, &str); 8] = [
    (
        "{ id: g, secret: { file: none } }",
        "authentication.p.introspection.client.secret.file: cannot be read",
    ),
    ("{ id: g, secret: { file: empty } }", "is empty"),
    (
        "{ id: g, secret: { file: open } }",
        "warning: authentication.p.introspection.client.secret.file: this secret can be read by everybody on this machine",
    ),
    ("{ id: g, key: { file: secret.txt } }", "authentication.p.introspection.client.key.file: malformed key"),
    (
        "{ id: g, secret: { file: secret.txt }, key: { file: open } }",
        "expected only one of `secret` and `key`",
    ),
    (
        "{ id: g, secret: { file: secret.txt }, keyId: x }",
        "client.keyId: is for a client that signs with a `key`",
    ),
    ("{ id: g, secretIn: body }", "client.secretIn: is for a client with a `secret`"),
    ("{ id: g }", "warning: authentication.p.introspection.client: proves nothing"),
];

#[test]
fn what_is_wrong_in_the_file_is_told_at_its_place() {
    let directory = Directory::new("oauth-faults");
    secret(&directory);
    directory.write("empty", "");
    directory.write("open", "s3cret");
    directory.write("token", "t");
    let client = "{ id: g, secret: { file: secret.txt } }";
    let asks = |more: &str| format!("{{ introspection: {{ url: 'https://id.example/i', {more} }} }}");
    let gets = |more: &str| format!("{{ clientCredentials: {{ url: 'https://id.example/t', {more} }} }}");
    let (good, fine) = (asks(&format!("client: {client}")), gets(&format!("client: {client}")));
    assert!(faults(&directory, &good, &fine).is_empty(), "{:?}", faults(&directory, &good, &fine));
    let both = "{ token: { file: token }, dangerForwardToken: true }".to_owned();
    let said_of = |provider: &str, credentials: &str, said: &str| {
        let found = faults(&directory, provider, credentials);
        assert!(found.iter().any(|fault| fault.contains(said)), "{said}\n{found:#?}");
        assert!(found.iter().all(|fault| !fault.contains("s3cret")), "{found:?}");
    };
    for (client, said) in FAULTY_CLIENTS {
        said_of(&asks(&format!("client: {client}")), &fine, said);
    }
    for (provider, credentials, said) in [
        (
            &good.replace("https", "http"),
            &fine,
            "authentication.p.introspection.url: the URL of an endpoint begins with `https://`",
        ),
        (
            &good.replace("https://id.example/i", "id.example"),
            &fine,
            "authentication.p.introspection.url: expected an absolute URL",
        ),
        (
            &good,
            &fine.replace("https", "http"),
            "upstreams.one.credentials.clientCredentials.url: the URL of an endpoint begins",
        ),
        (&good, &both, "upstreams.one.credentials: expected exactly one of"),
        (&good, &"{}".to_owned(), "upstreams.one.credentials: expected exactly one of"),
        (
            &good,
            &"{ token: { file: later } }".to_owned(),
            "warning: upstreams.one.credentials.token.file: is not there yet",
        ),
    ] {
        said_of(provider, credentials, said);
    }
    let text = file(
        "upstreams: { one: { endpoints: ['127.0.0.1:9001'], credentials: { dangerForwardToken: true } } }\n\
         routes: [{ name: r, rules: [{ backendRefs: [{ name: one }] }] }]\n",
    );
    let check = Config::text("f", text).check().to_string();
    assert!(
        check.contains(
            "f:5:47: routes[0].rules[0].backendRefs[0].name: requests to it carry the caller's token"
        ),
        "{check}"
    );
}

/// What the guide shows of the file is understood, but for the files that it names.
#[test]
fn the_file_of_the_guide_is_understood() {
    let guide = include_str!("../../docs/guides/call_other_services.md");
    let yaml = yaml_of(guide)[0];
    let secrets = Directory::new("oauth-guide");
    secret(&secrets);
    let authority = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = STANDARD.encode(authority.to_pkcs8v1().unwrap().as_ref());
    secrets.write("orders.pem", &format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"));
    std::fs::copy(secrets.path("secret.txt"), secrets.path("orders.secret")).unwrap();
    secrets.write("gateway.yaml", &file(&format!("{yaml}routes: []\n")));
    let check = Config::file(secrets.path("gateway.yaml")).check();
    assert!(check.is_accepted(), "{check}");
}
