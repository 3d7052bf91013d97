use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, time::Instant};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    MirrorBody, MirrorHandle, Policy,
    compare::{Look, looks},
    head::{is_for, shadow_of, with_body},
    shadow::Shadow,
};
use crate::{
    body::{Body, BoxError, Copied, tee},
    outcome::Completion,
};

/// Sends copies of requests to other services. See the [module docs](super).
#[must_use]
pub struct MirrorLayer<M>(Option<Arc<[Target<M>]>>);

/// A mirror, and what is sent there.
#[derive(Clone)]
struct Target<M> {
    policy: Policy,
    service: M,
}

impl<M> MirrorLayer<M> {
    /// A layer with one mirror, `service`, which is asked as `policy` says. It is cloned for each request, and waited for
    /// beside the request.
    pub fn new(policy: Policy, service: M) -> Self {
        Self(Some([Target { policy, service }].into()))
    }

    /// With one more mirror. Each has its own chance, places and numbers.
    pub fn and(self, policy: Policy, service: M) -> Self
    where
        M: Clone,
    {
        let targets = self.0.iter().flat_map(|targets| targets.iter().cloned());
        Self(Some(targets.chain([Target { policy, service }]).collect()))
    }

    /// A layer of the same type without a mirror.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// What the shadows of each mirror have come to, in their order.
    #[must_use]
    pub fn handles(&self) -> Vec<MirrorHandle> {
        self.0.iter().flat_map(|targets| targets.iter()).map(|target| target.policy.handle()).collect()
    }
}

impl<M> Clone for MirrorLayer<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for MirrorLayer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies = self.0.iter().flat_map(|targets| targets.iter()).map(|target| &target.policy);
        f.debug_tuple("MirrorLayer").field(&policies.collect::<Vec<_>>()).finish()
    }
}

impl<S, M> Layer<S> for MirrorLayer<M> {
    type Service = Mirror<S, M>;

    fn layer(&self, inner: S) -> Self::Service {
        Mirror { inner, targets: self.0.clone() }
    }
}

/// The service of a [`MirrorLayer`].
pub struct Mirror<S, M> {
    inner: S,
    targets: Option<Arc<[Target<M>]>>,
}

impl<S: Clone, M> Clone for Mirror<S, M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), targets: self.targets.clone() }
    }
}

impl<S: fmt::Debug, M> fmt::Debug for Mirror<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, M, B, ResB, MirrorB> Service<Request<B>> for Mirror<S, M>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    S::Error: 'static,
    M: Service<Request<Body>, Response = Response<MirrorB>> + Clone + Send + 'static,
    M::Error: Send + 'static,
    M::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
    MirrorB: HttpBody<Data = Bytes> + Send + 'static,
    MirrorB::Error: Send + 'static,
{
    type Response = Response<MirrorBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    /// As ready as the primary is; nobody waits for a mirror.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_head = request.method() == Method::HEAD;
        let request = request.map(Body::new);
        let targets = self.targets.as_ref().and_then(|targets| Some((targets, Handle::try_current().ok()?)));
        let Some((targets, runtime)) = targets else {
            return ResponseFuture { future: self.inner.call(request), looks: Vec::new(), is_head };
        };
        let drawn = draw(targets, &request);
        let (request, shadows, looks) = begin(drawn, request);
        // The primary goes first.
        let future = self.inner.call(request);
        for (shadow, service) in shadows {
            runtime.spawn(shadow.run(service));
        }
        ResponseFuture { future, looks, is_head }
    }
}

/// The mirrors that are to get a copy of this request.
fn draw<'t, M>(
    targets: &'t [Target<M>],
    request: &Request<Body>,
) -> Vec<(&'t Target<M>, OwnedSemaphorePermit)> {
    if !is_for(request) {
        return Vec::new();
    }
    targets.iter().filter_map(|target| Some((target, target.policy.begin()?))).collect()
}

type Begun<M> = (Request<Body>, Vec<(Shadow, M)>, Vec<Completion<Look>>);

/// The request for the primary, its copies, and who looks at the primary's answer.
fn begin<M: Clone>(drawn: Vec<(&Target<M>, OwnedSemaphorePermit)>, request: Request<Body>) -> Begun<M> {
    if drawn.is_empty() {
        return (request, Vec::new(), Vec::new());
    }
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let (body, copies) = tee(body, drawn.iter().map(|(target, _)| target.policy.most_behind));
    let (now, mut shadows, mut seen) = (Instant::now(), Vec::with_capacity(drawn.len()), Vec::new());
    for ((Target { policy, service }, place), Copied { body, fate }) in drawn.into_iter().zip(copies) {
        let look = match looks(policy, &request) {
            Some([ours, theirs]) => {
                seen.push(ours);
                theirs
            }
            None => Completion::spent(),
        };
        let copy = with_body(shadow_of(&request, policy, now), body);
        shadows.push((Shadow::new(policy, copy, fate, look, place), service.clone()));
    }
    (request.map(|()| body), shadows, seen)
}

pin_project! {
    /// The future of a [`Mirror`]. Dropping it leaves shadows whose request was read as a whole to their own time.
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        looks: Vec<Completion<Look>>,
        is_head: bool,
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ResB: HttpBody<Data = Bytes>,
    E: 'static,
{
    type Output = Result<Response<MirrorBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.future.poll(cx)) {
            Ok(response) => response,
            Err(error) => {
                this.looks.iter_mut().for_each(|look| look.fail(&error));
                return Poll::Ready(Err(error));
            }
        };
        let mut looks = std::mem::take(this.looks);
        if looks.is_empty() {
            return Poll::Ready(Ok(response.map(|body| MirrorBody::new(body, looks))));
        }
        let (mut head, body) = response.into_parts();
        let bodiless = *this.is_head || body.is_end_stream();
        for look in &mut looks {
            look.head(&mut head, bodiless);
            if bodiless {
                look.pass_mut().into_iter().for_each(Look::whole);
            }
        }
        Poll::Ready(Ok(Response::from_parts(head, MirrorBody::new(body, looks))))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
