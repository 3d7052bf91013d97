//! A layer around a probe, and how to look at it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use http::Response;
use http_body::Body as HttpBody;
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;

use crate::testing::{Contract, Probe, Subject, probe::Shared};

pub(super) type Found = Result<(), String>;
pub(super) type Answer<L> = Result<Response<<L as Subject>::ResB>, ErrorOf<L>>;
pub(super) type ServiceOf<L> = <L as tower_layer::Layer<Probe>>::Service;
pub(super) type ErrorOf<L> = <ServiceOf<L> as Service<http::Request<crate::body::Body>>>::Error;

pub(super) fn runtime() -> Result<Runtime, String> {
    let paused = Builder::new_current_thread().enable_time().start_paused(true).build();
    paused.map_err(|e| format!("no runtime: {e}"))
}

pub(super) fn run(check: impl Future<Output = Found>) -> Found {
    runtime()?.block_on(check)
}

pub(super) fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(broken()) }
}

/// A layer around a probe.
pub(super) struct Stage<'c, L: Subject> {
    pub(super) contract: &'c Contract<L>,
    pub(super) layer: L,
    pub(super) shared: Arc<Shared>,
}

impl<'c, L: Subject> Stage<'c, L> {
    pub(super) fn new(contract: &'c Contract<L>) -> Self {
        Self { contract, layer: (contract.make)(), shared: Arc::default() }
    }

    pub(super) fn service(&self) -> ServiceOf<L> {
        self.layer.layer(self.shared.probe())
    }

    pub(super) async fn send(&self, service: &mut ServiceOf<L>, caller: u32) -> Answer<L> {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call((self.contract.request)(caller)).await
    }

    /// Whether one more request of the caller reaches the inner service.
    pub(super) async fn passes(&self, service: &mut ServiceOf<L>, caller: u32) -> bool {
        let before = self.shared.calls.load(Ordering::SeqCst);
        let answer = self.send(service, caller).await;
        if let Ok(response) = answer {
            let _ = frames(response.into_body()).await;
        }
        self.shared.calls.load(Ordering::SeqCst) > before
    }

    /// Whether its caller gets a good answer while the inner service fails.
    pub(super) async fn answers_again(&self, service: &mut ServiceOf<L>) -> bool {
        self.shared.act(|script| script.fails = true);
        let answer = self.send(service, 1).await;
        self.shared.act(|script| script.fails = false);
        answer.is_ok_and(|response| response.status().is_success())
    }

    pub(super) fn live(&self) -> usize {
        self.shared.live.load(Ordering::SeqCst)
    }
}

/// Lets spawned tasks and woken ones run.
pub(super) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// The frames of a body: data as text, trailers as the value of the probe's field.
pub(super) async fn frames<B: HttpBody<Data = bytes::Bytes>>(body: B) -> Result<Vec<String>, String> {
    let mut body = pin!(body);
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| "the body failed".to_owned())?;
        match frame.into_data() {
            Ok(data) => all.push(format!("data {}", String::from_utf8_lossy(&data))),
            Err(frame) => {
                let trailers = frame.into_trailers().map_err(|_| "an unknown frame".to_owned())?;
                let value = trailers.get("probe-trailer").and_then(|v| v.to_str().ok());
                all.push(format!("trailer {}", value.unwrap_or("missing")));
            }
        }
    }
    Ok(all)
}
