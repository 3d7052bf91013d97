//! A provider in a test's hands.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use tower::service_fn;

use super::{Client, Endpoint};
use crate::{body::Body, fetch::Fetch};

/// What it does with the next calls.
#[derive(Debug, Clone)]
pub(in crate::authn) enum Manner {
    Says(u16, String),
    After(Duration, String),
    Never,
    Fails,
    Floods,
}

/// It counts its calls and keeps the last one.
#[derive(Clone)]
pub(in crate::authn) struct Stub {
    manner: Arc<Mutex<Manner>>,
    calls: Arc<AtomicUsize>,
    last: Arc<Mutex<Call>>,
}

#[derive(Debug, Clone, Default)]
pub(in crate::authn) struct Call {
    pub(in crate::authn) uri: String,
    pub(in crate::authn) headers: HeaderMap,
    pub(in crate::authn) form: BTreeMap<String, String>,
}

impl Stub {
    pub(in crate::authn) fn says(text: impl Into<String>) -> Self {
        let manner = Arc::new(Mutex::new(Manner::Says(200, text.into())));
        Self { manner, calls: Arc::default(), last: Arc::default() }
    }

    pub(in crate::authn) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(in crate::authn) fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    pub(in crate::authn) fn last(&self) -> Call {
        self.last.lock().unwrap().clone()
    }

    pub(in crate::authn) fn fetch(&self) -> Fetch {
        let this = self.clone();
        Fetch::new(service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move { this.answer(request).await.map_err(|Failed| std::io::Error::other("hush")) }
        }))
    }

    pub(in crate::authn) fn endpoint(&self, client: Client) -> Endpoint {
        Endpoint::new("https://id.example/ask?hush=1", client, self.fetch()).unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Failed> {
        self.calls.fetch_add(1, Relaxed);
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let form = std::str::from_utf8(&body).unwrap().split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let decoded =
                |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned();
            (decoded(name), decoded(value))
        });
        *self.last.lock().unwrap() =
            Call { uri: head.uri.to_string(), headers: head.headers, form: form.collect() };
        let manner = self.manner.lock().unwrap().clone();
        let (status, text) = match manner {
            Manner::Says(status, text) => (status, text),
            Manner::After(time, text) => {
                tokio::time::sleep(time).await;
                (200, text)
            }
            Manner::Never => std::future::pending().await,
            Manner::Fails => return Err(Failed),
            Manner::Floods => (200, "x".repeat(Endpoint::MAX_ANSWER + 1)),
        };
        Ok(Response::builder().status(status).body(Body::from(text)).unwrap())
    }
}

struct Failed;
