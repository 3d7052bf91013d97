use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Gate, Pass, Stopped};
use crate::{body::ResponseBody, head::Head, outcome::Completion, reject::Style, tunnel::Tunnel};

/// Puts a [`Gate`] before a service. It owns the gate; its clones and all their services share it.
pub struct GateLayer<G>(Option<Arc<G>>);

impl<G> GateLayer<G> {
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

impl<G> Clone for GateLayer<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<G> fmt::Debug for GateLayer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug::<G>(f, "GateLayer", self.0.is_some())
    }
}

impl<S, G> Layer<S> for GateLayer<G> {
    type Service = Gated<S, G>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { inner, gate: self.0.clone() }
    }
}

/// A service behind a [`Gate`].
pub struct Gated<S, G> {
    inner: S,
    gate: Option<Arc<G>>,
}

impl<S: Clone, G> Clone for Gated<S, G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: self.gate.clone() }
    }
}

impl<S, G> fmt::Debug for Gated<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug::<G>(f, "Gated", self.gate.is_some())
    }
}

pub(super) fn debug<G>(f: &mut fmt::Formatter<'_>, name: &str, enabled: bool) -> fmt::Result {
    f.debug_struct(name).field("gate", &std::any::type_name::<G>()).field("enabled", &enabled).finish()
}

impl<S, G, ReqB, ResB> Service<Request<ReqB>> for Gated<S, G>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: 'static,
    G: Gate,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Response = Response<ResponseBody<ResB, G::Pass>>;
    type Error = S::Error;
    type Future = GatedFuture<S::Future, G::Pass>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let exchange = Exchange::of(&request);
        let Some(gate) = &self.gate else {
            return GatedFuture::forward(self.inner.call(request), Completion::spent(), exchange);
        };
        let mut head = Head::of(&mut request);
        match gate.admit(&mut head) {
            Ok(pass) => {
                let mut completion = Completion::new(pass);
                GatedFuture::forward(completion.in_scope(|| self.inner.call(request)), completion, exchange)
            }
            Err(stopped) => GatedFuture::answer(stopped, Style::of(&head), exchange),
        }
    }
}

/// What of a request decides whether its response has a body, and what lives until the exchange has ended.
#[derive(Debug)]
pub(super) struct Exchange {
    is_head: bool,
    is_connect: bool,
    /// Of the server, if the request asks for one. Who runs it elsewhere tells its own with the response.
    tunnel: Option<Tunnel>,
}

impl Exchange {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            is_head: request.method() == Method::HEAD,
            is_connect: request.method() == Method::CONNECT,
            tunnel: request.extensions().get().cloned(),
        }
    }

    fn is_tunnel(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || (self.is_connect && status.is_success())
    }
}

pin_project! {
    /// The future of a [`Gated`] service.
    pub struct GatedFuture<F, P: Pass> {
        #[pin]
        state: State<F>,
        completion: Completion<P>,
        exchange: Exchange,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Forward { #[pin] future: F },
        Answer { response: Option<Box<Response<Bytes>>> },
    }
}

impl<F, P: Pass> GatedFuture<F, P> {
    pub(super) fn forward(future: F, completion: Completion<P>, exchange: Exchange) -> Self {
        Self { state: State::Forward { future }, completion, exchange }
    }

    pub(super) fn answer(stopped: Stopped<P>, style: Style, exchange: Exchange) -> Self {
        let completion = stopped.given.map_or_else(Completion::spent, Completion::new);
        let response = Some(Box::new(style.render(stopped.answer)));
        Self { state: State::Answer { response }, completion, exchange }
    }
}

impl<F, P, ResB, E> Future for GatedFuture<F, P>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    P: Pass,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
    E: 'static,
{
    type Output = Result<Response<ResponseBody<ResB, P>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match this.state.project() {
            StateProjection::Forward { future } => match ready!(this.completion.in_scope(|| future.poll(cx)))
            {
                Ok(response) => {
                    let ended = response.body().is_end_stream();
                    Ok(finish(response, this.completion, this.exchange, ended, ResponseBody::watched))
                }
                Err(error) => {
                    this.completion.fail(&error);
                    Err(error)
                }
            },
            StateProjection::Answer { response } => {
                #[expect(clippy::expect_used, reason = "the contract of Future")]
                let response = *response.take().expect("polled after completion");
                let ended = response.body().is_empty();
                Ok(finish(response, this.completion, this.exchange, ended, ResponseBody::full_watched))
            }
        })
    }
}

/// Shows the head to the pass, and gives the pass to whatever lives until the exchange has ended.
#[inline]
fn finish<B, P: Pass, Out>(
    response: Response<B>,
    completion: &mut Completion<P>,
    exchange: &Exchange,
    ended: bool,
    wrap: impl FnOnce(B, Completion<P>) -> Out,
) -> Response<Out> {
    let (mut head, body) = response.into_parts();
    if completion.watches() {
        let bodiless = ended || exchange.is_head || exchange.is_tunnel(head.status);
        completion.head(&mut head, bodiless);
    }
    if exchange.is_tunnel(head.status)
        && completion.is_open()
        && let Some(tunnel) = head.extensions.get().or(exchange.tunnel.as_ref())
    {
        tunnel.hold(completion.take());
    }
    Response::from_parts(head, wrap(body, completion.take()))
}

impl<F, P: Pass> fmt::Debug for GatedFuture<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedFuture").field("completion", &self.completion).finish_non_exhaustive()
    }
}
