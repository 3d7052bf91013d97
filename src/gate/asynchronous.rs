use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    AsyncGate, Check, GatedFuture, Stopped,
    layer::{Exchange, debug},
};
use crate::{body::ResponseBody, head::Head, outcome::Completion, reject::Style};

/// Puts an [`AsyncGate`] before a service. It owns the gate; its clones and all their services share it.
pub struct AsyncGateLayer<G>(Option<Arc<G>>);

impl<G> AsyncGateLayer<G> {
    /// A layer with this gate.
    #[must_use]
    pub fn new(gate: G) -> Self {
        Self::shared(Arc::new(gate))
    }

    /// A layer with a gate that others use too.
    #[must_use]
    pub const fn shared(gate: Arc<G>) -> Self {
        Self(Some(gate))
    }

    /// A layer of the same type that lets everything pass.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// The gate, unless disabled.
    #[must_use]
    pub fn gate(&self) -> Option<&Arc<G>> {
        self.0.as_ref()
    }
}

impl<G> Clone for AsyncGateLayer<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<G> fmt::Debug for AsyncGateLayer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug::<G>(f, "AsyncGateLayer", self.0.is_some())
    }
}

impl<S, G> Layer<S> for AsyncGateLayer<G> {
    type Service = AsyncGated<S, G>;

    fn layer(&self, inner: S) -> Self::Service {
        AsyncGated { inner, gate: self.0.clone() }
    }
}

/// A service behind an [`AsyncGate`].
pub struct AsyncGated<S, G> {
    inner: S,
    gate: Option<Arc<G>>,
}

impl<S: Clone, G> Clone for AsyncGated<S, G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: self.gate.clone() }
    }
}

impl<S, G> fmt::Debug for AsyncGated<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug::<G>(f, "AsyncGated", self.gate.is_some())
    }
}

impl<S, G, ReqB, ResB> Service<Request<ReqB>> for AsyncGated<S, G>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    S::Error: 'static,
    G: AsyncGate,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Response = Response<ResponseBody<ResB, G::Pass>>;
    type Error = S::Error;
    type Future = AsyncGatedFuture<S, ReqB, S::Future, G>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let exchange = Exchange::of(&request);
        let Some(gate) = &self.gate else {
            let run = GatedFuture::forward(self.inner.call(request), Completion::spent(), exchange);
            return AsyncGatedFuture::decided(run);
        };
        let mut head = Head::of(&mut request);
        match gate.check(&mut head) {
            Check::Now(decision) => {
                AsyncGatedFuture::decided(decide(&mut self.inner, request, decision, exchange))
            }
            Check::Wait(wait) => {
                // The instance that was made ready waits with the request; a fresh clone takes its place.
                let fresh = self.inner.clone();
                let inner = mem::replace(&mut self.inner, fresh);
                let held = Some(Box::new(Held { inner, request, gate: Arc::clone(gate) }));
                AsyncGatedFuture { state: State::Waiting { wait, held } }
            }
        }
    }
}

fn decide<S, G, ReqB>(
    inner: &mut S,
    mut request: Request<ReqB>,
    decision: Result<G, Stopped<G>>,
    exchange: Exchange,
) -> GatedFuture<S::Future, G>
where
    S: Service<Request<ReqB>>,
    G: super::Pass,
{
    match decision {
        Ok(pass) => {
            let mut completion = Completion::new(pass);
            GatedFuture::forward(completion.in_scope(|| inner.call(request)), completion, exchange)
        }
        Err(stopped) => GatedFuture::answer(stopped, Style::of(&Head::of(&mut request)), exchange),
    }
}

struct Held<S, B, G> {
    inner: S,
    request: Request<B>,
    gate: Arc<G>,
}

pin_project! {
    /// The future of an [`AsyncGated`] service.
    pub struct AsyncGatedFuture<S, B, F, G: AsyncGate> {
        #[pin]
        state: State<S, B, F, G>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F, G: AsyncGate> {
        // What waits is large, and seldom: all futures around this one would be.
        Waiting { #[pin] wait: G::Wait, held: Option<Box<Held<S, B, G>>> },
        Decided { #[pin] run: GatedFuture<F, G::Pass> },
    }
}

impl<S, B, F, G: AsyncGate> AsyncGatedFuture<S, B, F, G> {
    fn decided(run: GatedFuture<F, G::Pass>) -> Self {
        Self { state: State::Decided { run } }
    }
}

impl<S, G, ReqB, ResB> Future for AsyncGatedFuture<S, ReqB, S::Future, G>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: 'static,
    G: AsyncGate,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Output = Result<Response<ResponseBody<ResB, G::Pass>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Decided { run } => return run.poll(cx),
                StateProjection::Waiting { wait, held } => {
                    let told = ready!(wait.poll(cx));
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let mut waited = held.take().expect("polled after completion");
                    let mut head = Head::of(&mut waited.request);
                    match waited.gate.resume(&mut head, told) {
                        Check::Wait(wait) => State::Waiting { wait, held: Some(waited) },
                        Check::Now(decision) => {
                            let Held { mut inner, request, .. } = *waited;
                            let exchange = Exchange::of(&request);
                            State::Decided { run: decide(&mut inner, request, decision, exchange) }
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S, B, F, G: AsyncGate> fmt::Debug for AsyncGatedFuture<S, B, F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncGatedFuture").finish_non_exhaustive()
    }
}
