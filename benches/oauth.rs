//! What a token costs that somebody has asked about, and one of our own that is at hand.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a bench that may stop")]

use std::{
    future::Future,
    task::{Context, Waker},
};

use divan::{AllocProfiler, Bencher};
use http::{Request, header};
use portcullis::{
    authn::{
        Authenticator, Credential, Providers,
        introspection::Introspection,
        oauth::{Client, Endpoint},
        outbound::{OutboundLayer, TokenRequest, TokenSource},
    },
    body::Body,
    fetch::Fetch,
    gate::{AsyncGate, Check},
    head::Head,
};
use tower::{Layer, Service, ServiceExt};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A provider that says that every token is good, or gives one.
fn endpoint(answer: &'static str) -> Endpoint {
    let http = tower::service_fn(move |_: Request<Body>| async move {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(answer)))
    });
    Endpoint::new("https://id.example/", Client::secret_basic("gateway", "s3cret"), Fetch::new(http)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[divan::bench(threads = [1, 2])]
fn introspection_hit(bencher: Bencher<'_, '_>) {
    let answer = r#"{"active":true,"iss":"https://id.example","sub":"248289761001","aud":"shop","exp":4102444800,
        "scope":"orders.read orders.write","client_id":"web","token_type":"Bearer","username":"ada"}"#;
    let gate = Introspection::builder(endpoint(answer)).audiences(["shop"]).build();
    let providers = Providers::new().with(gate.clone());
    let request =
        || Request::get("/orders").header(header::AUTHORIZATION, "Bearer 2YotnFZFEjr1zCsicMWpAA").body(());
    runtime().block_on(async {
        let mut request = request().unwrap();
        let Check::Wait(wait) = providers.check(&mut Head::of(&mut request)) else { panic!("known") };
        let told = wait.await;
        assert!(matches!(providers.resume(&mut Head::of(&mut request), told), Check::Now(Ok(()))));
    });
    bencher
        .with_inputs(|| {
            let mut request = request().unwrap();
            request.extensions_mut().insert(());
            request
        })
        .bench_refs(|request| matches!(gate.authenticate(&mut Head::of(request)), Credential::Valid(_)));
    assert_eq!(gate.handle().calls(), 1);
}

#[divan::bench]
fn outbound_token_at_hand(bencher: Bencher<'_, '_>) {
    let answer = r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"Bearer","expires_in":86400}"#;
    let source = TokenSource::client_credentials(TokenRequest::new(endpoint(answer)));
    let inner = tower::service_fn(|_: Request<Body>| {
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())))
    });
    let client = OutboundLayer::new(source.clone()).layer(inner);
    let runtime = runtime();
    runtime.block_on(client.clone().oneshot(Request::new(Body::empty()))).unwrap();
    let _entered = runtime.enter();
    bencher
        .with_inputs(|| (client.clone(), Request::get("/stock").body(Body::empty()).unwrap()))
        .bench_local_values(|(mut client, request)| {
            let mut call = std::pin::pin!(client.call(request));
            call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        });
    assert_eq!(source.handle().fetched(), 1);
}
