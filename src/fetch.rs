//! The seam through which anything asks over HTTP: key sets, metadata, introspection, external authorization.
//!
//! Rooms do not know each other, so whoever must ask is given a [`Fetch`] around any client that is a tower service.
//! What is bounded for every asker is bounded here: the time, the bytes of the answer, and where a redirect may lead.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use portcullis::{body::Body, fetch::Fetch};
//!
//! # tokio_test::block_on(async {
//! let client = tower::service_fn(|_: Request<Body>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::from("{\"keys\":[]}")))
//! });
//! let fetch = Fetch::new(client).max_body(64 * 1024);
//! let answer = fetch.send(Request::get("https://id.example/keys").body(Bytes::new()).unwrap()).await?;
//! assert_eq!(answer.body(), "{\"keys\":[]}");
//! # Ok::<(), portcullis::fetch::FetchError>(())
//! # }).unwrap();
//! ```
//!
//! # Redirects
//!
//! Without [`redirects`](Fetch::redirects) a redirect is an answer like others and is handed back. With it, `GET` and
//! `HEAD` follow, within the same origin only (RFC 6454: scheme, host and port): who may answer for a provider is
//! configured, and no answer extends it.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Uri, header, request, uri};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use thiserror::Error;
use tower_service::Service;

use crate::body::{Body, BoxError};

type Exchange = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// A client with its bounds. Clones share the client.
#[derive(Clone)]
pub struct Fetch {
    client: Arc<dyn Fn(Request<Body>) -> Exchange + Send + Sync>,
    timeout: Duration,
    max_body: usize,
    redirects: u32,
}

/// Why nothing came back that could be used. It never shows a path, a query or a header: these may hold secrets.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The answer had not ended in this time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer has more bytes than this.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer sends elsewhere, and it may not be followed.
    #[error("the answer redirects {0}")]
    Redirect(String),
    /// The client failed: no connection, or none that lasted.
    #[error("no answer came back")]
    Transport(#[source] BoxError),
}

impl Fetch {
    /// Asks through `client`, within 5 seconds, for answers of up to 1 MiB, and follows no redirect.
    ///
    /// Each request goes to a clone of it that was made ready.
    #[must_use]
    pub fn new<S, B>(client: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = move |request| -> Exchange {
            let mut client = client.clone();
            Box::pin(async move {
                std::future::poll_fn(|cx| client.poll_ready(cx)).await.map_err(Into::into)?;
                Ok(client.call(request).await.map_err(Into::into)?.map(Body::new))
            })
        };
        Self { client: Arc::new(client), timeout: Duration::from_secs(5), max_body: 1 << 20, redirects: 0 }
    }

    /// Sets how long an exchange may take until the last byte of its answer, redirects included.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many bytes an answer may have.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets how many redirects are followed within the origin of the request.
    #[must_use]
    pub fn redirects(mut self, redirects: u32) -> Self {
        self.redirects = redirects;
        self
    }

    /// Sends `request`, whose URI is absolute, and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// When the client fails or one of the bounds is met. An answer with an error status is no error here.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        tokio::time::timeout(self.timeout, self.follow(request))
            .await
            .unwrap_or(Err(FetchError::Timeout(self.timeout)))
    }

    async fn follow(&self, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let (mut parts, body) = request.into_parts();
        if self.redirects == 0 || !matches!(parts.method, Method::GET | Method::HEAD) {
            return self.exchange(parts, body).await;
        }
        for _ in 0..=self.redirects {
            let answer = self.exchange(parts.clone(), body.clone()).await?;
            // The others of the class are no order to look elsewhere (RFC 9110, 15.4).
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            parts.uri = target(&parts.uri, answer.headers())?;
        }
        Err(FetchError::Redirect(format!("more than {} times", self.redirects)))
    }

    async fn exchange(&self, parts: request::Parts, body: Bytes) -> Result<Response<Bytes>, FetchError> {
        let request = Request::from_parts(parts, Body::from(body));
        let (parts, body) = (self.client)(request).await.map_err(FetchError::Transport)?.into_parts();
        Ok(Response::from_parts(parts, self.collect(body).await?))
    }

    async fn collect(&self, mut body: Body) -> Result<Bytes, FetchError> {
        let too_large = FetchError::TooLarge(self.max_body);
        if body.size_hint().lower() > self.max_body as u64 {
            return Err(too_large);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(FetchError::Transport)?.into_data() else { continue };
            if data.len() > self.max_body - whole.len() {
                return Err(too_large);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("timeout", &self.timeout)
            .field("max_body", &self.max_body)
            .field("redirects", &self.redirects)
            .finish_non_exhaustive()
    }
}

/// Where an answer with these headers sends, resolved against `from` (RFC 3986, 5.2), if that is in its origin.
fn target(from: &Uri, headers: &HeaderMap) -> Result<Uri, FetchError> {
    let refused = |why: &str| FetchError::Redirect(why.to_owned());
    let mut locations = headers.get_all(header::LOCATION).iter();
    let (Some(location), None) = (locations.next(), locations.next()) else {
        return Err(refused("without a Location, or with several"));
    };
    let unreadable = || refused("to what is no URI");
    // A fragment is the client's own (RFC 9110, 10.2.2).
    let location = location.to_str().map_err(|_| unreadable())?.split('#').next().unwrap_or_default();
    let scheme_ends = location.find(':').is_some_and(|colon| !location[..colon].contains(['/', '?']));
    if scheme_ends {
        let to: Uri = location.parse().map_err(|_| unreadable())?;
        return if origin(&to) == origin(from) { Ok(to) } else { Err(refused("to another origin")) };
    }
    if location.starts_with("//") {
        return Err(refused("to another origin"));
    }
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = match location.as_bytes().first() {
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{}{location}", from.path()),
        Some(_) => format!("{folder}/{location}"),
        None => from.path().to_owned(),
    };
    let mut parts = uri::Parts::from(from.clone());
    parts.path_and_query = Some(path.parse().map_err(|_| unreadable())?);
    Uri::from_parts(parts).map_err(|_| unreadable())
}

/// Scheme, host and port, in one spelling.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    fn answering<F>(answer: F) -> Fetch
    where
        F: Fn(&Uri) -> Response<Body> + Clone + Send + Sync + 'static,
    {
        Fetch::new(tower::service_fn(move |request: Request<Body>| {
            let answer = answer(request.uri());
            async move { Ok::<_, Infallible>(answer) }
        }))
    }

    fn get(uri: &str) -> Request<Bytes> {
        Request::get(uri).body(Bytes::new()).unwrap()
    }

    fn endless() -> Body {
        Body::new(StreamBody::new(stream::repeat_with(|| {
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"seven b")))
        })))
    }

    fn silent() -> Body {
        Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()))
    }

    fn to(location: &'static str) -> Response<Body> {
        Response::builder().status(302).header("location", location).body(Body::empty()).unwrap()
    }

    #[test]
    fn a_redirect_is_resolved_within_its_origin_only() {
        let from: Uri = "https://id.example/a/b?c=d".parse().unwrap();
        let resolved = |location: &str| {
            let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
            target(&from, &headers).map(|uri| uri.to_string())
        };
        for (location, expected) in [
            ("https://id.example/x", "https://id.example/x"),
            ("HTTPS://ID.example:443/x", "https://ID.example:443/x"),
            ("/x?y=z#f", "https://id.example/x?y=z"),
            ("x", "https://id.example/a/x"),
            ("?y", "https://id.example/a/b?y"),
            ("", "https://id.example/a/b"),
            ("/x:y", "https://id.example/x:y"),
            ("/x?to=http://other", "https://id.example/x?to=http://other"),
        ] {
            assert_eq!(resolved(location).unwrap(), expected, "{location}");
        }
        for location in [
            "http://id.example/x",
            "https://id.example:444/x",
            "https://other.example/x",
            "//other.example/x",
            "https://id.example@other.example/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "/\u{e9}",
        ] {
            assert!(resolved(location).is_err(), "{location}");
        }
        assert!(target(&from, &HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn redirects_are_followed_as_often_as_allowed() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let fetch = answering(move |uri| {
            counted.fetch_add(1, Ordering::Relaxed);
            if uri.path() == "/end" { Response::new(Body::from("found")) } else { to("/end") }
        });
        let start = || get("http://id.example/start");
        assert_eq!(fetch.send(start()).await.unwrap().status(), 302);
        assert_eq!(fetch.clone().redirects(1).send(start()).await.unwrap().body(), "found");
        let post = Request::post("http://id.example/start").body(Bytes::new()).unwrap();
        assert_eq!(fetch.redirects(1).send(post).await.unwrap().status(), 302);
        assert_eq!(calls.load(Ordering::Relaxed), 4);

        let around = answering(|_| to("/start")).redirects(3);
        let error = around.send(start()).await.unwrap_err();
        assert_eq!(error.to_string(), "the answer redirects more than 3 times");
        let away = answering(|_| to("http://other.example/secret")).redirects(3);
        let error = away.send(start()).await.unwrap_err();
        assert_eq!(error.to_string(), "the answer redirects to another origin");
    }

    #[tokio::test]
    async fn an_answer_over_the_bound_is_given_up() {
        let exact = answering(|_| Response::new(Body::from("12345"))).max_body(5);
        assert_eq!(exact.send(get("http://id.example/")).await.unwrap().body(), "12345");
        let error = exact.max_body(4).send(get("http://id.example/")).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge(4)), "{error}");
        let frames = answering(|_| Response::new(endless())).max_body(100);
        let error = frames.send(get("http://id.example/")).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge(100)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn heads_and_bodies_that_do_not_come_are_given_up() {
        let mute = Fetch::new(tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        }));
        let error = mute.send(get("http://id.example/")).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 5s");
        let stuck = answering(|_| Response::new(silent())).timeout(Duration::from_secs(1));
        let error = stuck.send(get("http://id.example/")).await.unwrap_err();
        assert!(matches!(error, FetchError::Timeout(_)), "{error}");
    }
}
