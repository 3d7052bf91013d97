use std::{
    fmt, mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    OutboundFuture, TokenSource,
    future::{Attempt, Credentials},
    source::Supply,
};
use crate::{
    body::{ResponseBody, replica},
    head::Head,
    reject::Style,
};

/// Puts a token on each request that goes out.
///
/// See the [module docs](super).
#[derive(Debug, Clone)]
pub struct OutboundLayer(Option<TokenSource>);

impl OutboundLayer {
    /// A layer with tokens from this source.
    #[must_use]
    pub const fn new(source: TokenSource) -> Self {
        Self(Some(source))
    }

    /// A layer of the same type that adds nothing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Where the tokens come from, unless disabled.
    #[must_use]
    pub const fn source(&self) -> Option<&TokenSource> {
        self.0.as_ref()
    }
}

impl<S> Layer<S> for OutboundLayer {
    type Service = Outbound<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Outbound { inner, source: self.0.clone() }
    }
}

/// The service of an [`OutboundLayer`].
#[derive(Clone)]
pub struct Outbound<S> {
    inner: S,
    source: Option<TokenSource>,
}

impl<S, B, ResB> Service<Request<B>> for Outbound<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    B: HttpBody + 'static,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = OutboundFuture<S, Request<B>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(source) = &self.source else {
            return OutboundFuture::plain(self.inner.call(request));
        };
        let subject = source.subject(request.extensions());
        let credentials = |source: &TokenSource, request: &mut Request<B>| Credentials {
            source: source.clone(),
            subject: subject.clone(),
            style: Style::of(&Head::of(request)),
        };
        match source.supply(subject.as_ref(), None, Instant::now()) {
            Supply::Nothing => {
                request.headers_mut().remove(header::AUTHORIZATION);
                OutboundFuture::plain(self.inner.call(request))
            }
            Supply::Now(Err(refusal)) => {
                OutboundFuture::answer(Style::of(&Head::of(&mut request)).render(refusal.into()))
            }
            Supply::Now(Ok(line)) => {
                let credentials = source.renews().then(|| credentials(source, &mut request));
                let attempt = Attempt::prepare(&self.inner, &mut request, line, source.renews());
                OutboundFuture::calling(self.inner.call(request), credentials, attempt)
            }
            Supply::Wait(wait) => {
                let credentials = credentials(source, &mut request);
                // The instance that was made ready waits with the request; a fresh clone takes its place.
                let fresh = self.inner.clone();
                let inner = mem::replace(&mut self.inner, fresh);
                OutboundFuture::waiting(wait, credentials, inner, request)
            }
        }
    }
}

impl<S: Clone, B: HttpBody + 'static> Attempt<S, Request<B>> {
    /// Puts the token on the request, and keeps what is needed to make the call again.
    pub(super) fn prepare(inner: &S, request: &mut Request<B>, line: HeaderValue, again: bool) -> Self {
        let replay = again
            .then(|| {
                let mut copy = Request::new(replica(request.body())?);
                *copy.method_mut() = request.method().clone();
                *copy.uri_mut() = request.uri().clone();
                *copy.version_mut() = request.version();
                *copy.headers_mut() = request.headers().clone();
                *copy.extensions_mut() = request.extensions().clone();
                Some(Box::new((inner.clone(), copy)))
            })
            .flatten();
        request.headers_mut().insert(header::AUTHORIZATION, line.clone());
        Self { line, replay }
    }
}

impl<S> fmt::Debug for Outbound<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("source", &self.source).finish_non_exhaustive()
    }
}
