//! What a provider answers: its metadata, its key set, and the fields that say how long they are fresh.
#![no_main]

use std::{
    convert::Infallible,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use portcullis::{
    authn::jwks::{RemoteKeys, RemoteState},
    body::Body,
    fetch::Fetch,
};
use tokio::runtime::{Builder, Runtime};

const ISSUER: &str = "https://id.example/realms/shop";
const GOOD: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"good","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

static RUNTIME: LazyLock<Mutex<Runtime>> =
    LazyLock::new(|| Mutex::new(Builder::new_current_thread().enable_time().build().unwrap()));

/// Fields, one a line, then an empty line, then the document.
fn answer(data: &[u8]) -> Response<Body> {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (fields, document) = end.map_or((&[][..], data), |end| (&data[..end], &data[end + 2..]));
    let mut response = Response::new(Body::from(document.to_vec()));
    for line in fields.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fuzz_target!(|data: &[u8]| {
    let (data, asked) = (Arc::<[u8]>::from(data), Arc::new(AtomicBool::new(false)));
    // As metadata: what it says of another issuer is never followed.
    let (metadata, keys_asked) = (Arc::clone(&data), Arc::clone(&asked));
    let issuer = Fetch::new(tower::service_fn(move |request: Request<Body>| {
        let found = request.uri().path().contains("/.well-known/");
        keys_asked.fetch_or(!found, Ordering::Relaxed);
        assert_eq!(request.uri().scheme_str(), Some("https"));
        let response = if found { answer(&metadata) } else { Response::new(Body::from(GOOD)) };
        async move { Ok::<_, Infallible>(response) }
    }));
    // As a key set, with fields.
    let set = Arc::clone(&data);
    let keys = Fetch::new(tower::service_fn(move |_: Request<Body>| {
        let response = answer(&set);
        async move { Ok::<_, Infallible>(response) }
    }));
    let issuer = RemoteKeys::discover(ISSUER, issuer).wait(Duration::from_secs(9)).build().unwrap();
    let keys = RemoteKeys::at("https://id.example/keys", keys).wait(Duration::from_secs(9)).build().unwrap();
    RUNTIME.lock().unwrap().block_on(async {
        for remote in [&issuer, &keys] {
            // One fetch is enough to know.
            let ready = remote.ready();
            tokio::pin!(ready);
            while remote.status().fetches.iter().all(|fetch| fetch.1 == 0) {
                tokio::select! { biased; _ = &mut ready => break, () = tokio::task::yield_now() => {} }
            }
        }
    });
    for remote in [&issuer, &keys] {
        let status = remote.status();
        if status.state == RemoteState::Fresh {
            let next = status.next.unwrap();
            assert!(next >= Duration::from_secs(40) && next <= Duration::from_secs(3600), "{next:?}");
            assert!(status.keys > 0 && status.last_error.is_none());
        } else {
            assert!(status.last_error.is_some());
        }
    }
    let document = &data[data.windows(2).position(|two| two == b"\n\n").map_or(0, |end| end + 2)..];
    let said = serde_json::from_slice::<serde_json::Value>(document).ok();
    let own = said.as_ref().is_some_and(|said| said["issuer"] == ISSUER);
    assert!(own || !asked.load(Ordering::Relaxed), "another issuer was believed");
});
