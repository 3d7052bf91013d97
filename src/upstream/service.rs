use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Upstream,
    exchange::{Answered, exchange},
    forward::Forwarding,
    request::outgoing,
    session::{Held, Session},
    tunnel::Limits,
};
use crate::{
    body::{Body, BoxError},
    head::Head,
    identity::{AssertedHeaders, TrustedProxies},
    reject::Rejection,
};

/// Sends requests to an [`Upstream`]: the innermost service of a gateway. Clones share all state.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Proxy {
    upstream: Upstream,
    settings: Arc<Settings>,
}

/// What a [`Proxy`] does with each request.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) host: Option<HeaderValue>,
    pub(super) forwarding: Forwarding,
    /// It is our own request: nobody else is spoken for.
    pub(super) direct: bool,
    pub(super) asserted: Arc<AssertedHeaders>,
    pub(super) tunnels: Limits,
    pub(super) session: Option<Arc<Session>>,
    resends: Option<Resends>,
}

/// Whether one more may be sent.
#[derive(Clone)]
struct Resends(Arc<dyn Fn() -> bool + Send + Sync>);

impl Settings {
    pub(super) fn may_resend(&self) -> bool {
        self.resends.as_ref().is_none_or(|Resends(may)| may())
    }
}

impl fmt::Debug for Resends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resends")
    }
}

impl Proxy {
    /// A proxy to this upstream. It keeps the host of the request and trusts no proxy before it.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        let settings = Settings {
            host: None,
            forwarding: Forwarding::default(),
            direct: false,
            asserted: Arc::default(),
            tunnels: Limits { idle: Duration::from_secs(300), age: Duration::from_secs(24 * 3600) },
            session: None,
            resends: None,
        };
        Self { upstream, settings: Arc::new(settings) }
    }

    /// Sends this host to the upstream, in place of the one that the client asked for. That one is in
    /// `X-Forwarded-Host` then.
    #[must_use]
    pub fn host(self, host: HeaderValue) -> Self {
        self.with(|settings| settings.host = Some(host))
    }

    /// Keeps and continues what these proxies say in `X-Forwarded-*` and `Forwarded`. What others say is replaced.
    #[must_use]
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Self {
        self.with(|settings| settings.forwarding.trusted = trusted)
    }

    /// Whether `Forwarded` (RFC 7239) is sent besides `X-Forwarded-*`, also where the request had none. By default
    /// it is not.
    #[must_use]
    pub fn forwarded(self, on: bool) -> Self {
        self.with(|settings| settings.forwarding.standard = on)
    }

    /// What is said of the client's certificate in `X-Forwarded-Client-Cert`. Nothing unless told.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn client_certificate(self, told: super::ForwardedClientCert) -> Self {
        self.with(|settings| settings.forwarding.certificate = told)
    }

    /// Sends requests as our own, and not as those of a client behind us: nothing is told of one in `X-Forwarded-*` and
    /// `Forwarded`, and what stands there is left.
    #[must_use]
    pub fn direct(self) -> Self {
        self.with(|settings| settings.direct = true)
    }

    /// Removes these names from the trailers of requests, as a gateway removes them from their headers.
    #[must_use]
    pub fn asserted(self, names: AssertedHeaders) -> Self {
        self.with(|settings| settings.asserted = Arc::new(names))
    }

    /// Keeps each client at one endpoint, by a cookie or a header.
    #[must_use]
    pub fn session(self, session: Session) -> Self {
        self.upstream.group().roster.keep_sessions();
        self.with(|settings| settings.session = Some(Arc::new(session)))
    }

    /// Asks `may` before a request is sent a second time by the pool itself, and leaves it at a failure if not: where a pooled
    /// connection has closed without a word, a server that has looked at the request may see it twice, if its method is
    /// idempotent. What was never sent is not asked about. By default it is sent.
    ///
    /// A gateway and a mesh client ask the budget of their retries; whoever puts layers of their own around a proxy binds it to
    /// theirs: `proxy.bind_resends(move || budget.spend(Instant::now()))`.
    #[must_use]
    pub fn bind_resends(self, may: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.resends = Some(Resends(Arc::new(may))))
    }

    /// How long an upgraded connection may be silent. By default 5 minutes.
    #[must_use]
    pub fn tunnel_idle_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.tunnels.idle = timeout)
    }

    /// How long an upgraded connection may live. By default one day.
    #[must_use]
    pub fn tunnel_max_age(self, age: Duration) -> Self {
        self.with(|settings| settings.tunnels.age = age)
    }

    /// Where it sends to.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The session of a request, if there are sessions.
    fn held(&self, head: &Head<'_>) -> Option<Box<Held>> {
        let session = self.settings.session.as_ref()?;
        let https = self.settings.forwarding.is_https(head.headers(), head.extensions());
        Some(Box::new(Held::new(session, self.upstream.session_key(), head.headers(), https)))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl<B> Service<Request<B>> for Proxy
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = ResponseFuture;

    /// Always ready: which endpoint has room is known once a request is there.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture {
        let head = Head::of(&mut request);
        let elsewhere = match self.upstream.elsewhere(&head).transpose() {
            Ok(elsewhere) => elsewhere,
            Err(rejection) => return ResponseFuture { kind: Kind::Refused { rejection: Some(rejection) } },
        };
        let upstream = elsewhere.as_ref().unwrap_or(&self.upstream);
        let (hash, subset, session) = (upstream.hash(&head), upstream.marked(&head), self.held(&head));
        ResponseFuture {
            kind: match outgoing(request, &upstream.group().options, &self.settings) {
                Ok(mut outgoing) => {
                    (outgoing.call.hash, outgoing.call.subset, outgoing.call.session) =
                        (hash, subset, session);
                    Kind::Sent { exchange: exchange(upstream, outgoing, &self.settings) }
                }
                Err(rejection) => Kind::Refused { rejection: Some(rejection) },
            },
        }
    }
}

pin_project! {
    /// The future of a [`Proxy`]. Dropping it takes the request back: the upstream's connection or stream ends.
    pub struct ResponseFuture {
        #[pin]
        kind: Kind,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind {
        Sent { exchange: Pin<Box<dyn Future<Output = Answered> + Send>> },
        Refused { rejection: Option<Rejection> },
    }
}

impl Future for ResponseFuture {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        match self.project().kind.project() {
            KindProjection::Sent { exchange } => exchange.as_mut().poll(cx),
            KindProjection::Refused { rejection } =>
            {
                #[expect(clippy::expect_used, reason = "the contract of Future")]
                Poll::Ready(Err(rejection.take().expect("polled after completion")))
            }
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
