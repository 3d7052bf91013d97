use std::{
    error::Error,
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use http_body::Body as HttpBody;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tower_service::Service;

use super::{
    connect::{ConnectError, Connections, Io, connect},
    error,
    link::Link,
    member::{MAX_BUFFER, MAX_HEAD},
    options::Options,
    race::connect_to_any,
    resolve::{Resolve, SystemResolver},
};
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::{
    body::{Body, BoxError},
    reject::{Reason, Rejection},
};

/// How many connections to one host wait for requests.
const MAX_IDLE: usize = 32;

/// A client for any origin: the request's URI says which. It is what this crate asks other servers with on its own
/// account, for keys, tokens or permissions; requests of callers go through a [`Proxy`](super::Proxy).
///
/// HTTP/1.1, and over TLS HTTP/2 where the server chooses it. Connections are pooled; clones share them. It follows no
/// redirects and waits for an answer as long as it is asked to: [`Fetch`](crate::fetch::Fetch) bounds both. It fails
/// with a [`Rejection`], as a `Proxy` does.
///
/// ```
/// use portcullis::{fetch::Fetch, upstream::Client};
///
/// let fetch = Fetch::new(Client::builder().build());
/// ```
#[derive(Clone)]
pub struct Client(legacy::Client<Dial, Body>);

/// Builds a [`Client`].
#[derive(Clone)]
#[must_use]
pub struct ClientBuilder {
    options: Options,
    resolver: Arc<dyn Resolve>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl Client {
    /// Without TLS, unless told.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            options: Options { max_connections: 128, ..Options::default() },
            resolver: Arc::new(SystemResolver),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ClientBuilder {
    /// How servers of `https` URIs are verified. Without it such URIs are refused.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long connecting may take, for each address that is tried, and as long again the handshake of TLS. By default
    /// 2 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long a connection waits for its next request. By default 4 seconds.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = timeout;
        self
    }

    /// How many connections are open, to all origins together. By default 128.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.options.max_connections = max;
        self
    }

    /// Who is asked for the addresses of host names. By default the operating system.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Builds it. Nothing is connected yet.
    #[must_use]
    pub fn build(self) -> Client {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.options.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_BUFFER)
            .http2_max_header_list_size(MAX_HEAD);
        Client(builder.build(Dial {
            options: Arc::new(self.options),
            resolver: self.resolver,
            connections: Connections::default(),
            #[cfg(feature = "tls")]
            tls: self.tls,
        }))
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>> + Send>>;

impl<B> Service<Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        let answer = self.0.request(request.map(Body::new));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => {
                    Ok(answer
                        .map(|body| Body::new(http_body_util::BodyExt::map_err(body, error::of_upstream))))
                }
                Err(error) => {
                    let (rejection, unsent) = (Rejection::new(reason(&error)), error.is_connect());
                    let rejection = rejection.source(error);
                    Err(if unsent { rejection.unsent() } else { rejection })
                }
            }
        })
    }
}

fn reason(error: &legacy::Error) -> Reason {
    let mut next = Some(error as &(dyn Error + 'static));
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return error.reason();
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            return Reason::UpstreamProtocol;
        }
        next = error.source();
    }
    if error.is_connect() { Reason::ConnectFailed } else { Reason::UpstreamReset }
}

/// Makes connections to where a URI leads.
#[derive(Clone)]
struct Dial {
    options: Arc<Options>,
    resolver: Arc<dyn Resolve>,
    connections: Connections,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl Dial {
    async fn link(self, uri: Uri) -> Result<Link, ConnectError> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        #[cfg(feature = "tls")]
        if secure {
            let tls = self.tls.as_ref().ok_or(ConnectError::NoTls)?;
            let io = self.reach(host, uri.port_u16().unwrap_or(443)).await?;
            let shaken = tokio::time::timeout(self.options.connect_timeout, tls.connect(host, io)).await;
            let stream = shaken.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Tls)?;
            return Ok(Link::Tls(Box::new(stream)));
        }
        if secure {
            return Err(ConnectError::NoTls);
        }
        self.reach(host, uri.port_u16().unwrap_or(80)).await.map(Link::Plain)
    }

    /// The first of the host's addresses that a connection comes about to.
    async fn reach(&self, host: &str, port: u16) -> Result<Io, ConnectError> {
        let addresses = self.addresses(host, port).await?;
        connect_to_any(addresses, |address| connect(address, &self.connections, &self.options)).await
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        match host.parse() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
            Err(_) => Ok(self.resolver.resolve(host, port).await.map_err(ConnectError::Lookup)?.all),
        }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Link>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.link(uri).await.map(TokioIo::new) })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
