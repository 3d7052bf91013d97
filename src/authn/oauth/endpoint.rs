use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::time::Instant;

use super::{Client, Form};
use crate::{
    fetch::{Fetch, FetchError},
    reject::{Reason, Rejection},
    time::WallClock,
    trip::{self, Trip},
};

/// An endpoint of a provider, as whom we come there, and through what. Clones share its breaker.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Endpoint {
    uri: Uri,
    client: Client,
    fetch: Fetch,
    trip: Trip,
    clock: WallClock,
}

/// Why a URL is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// It is not `https`, so that whoever stands between would read tokens and secrets.
    #[error("the URL of an endpoint begins with `https://`")]
    Insecure,
    /// It is no absolute URL of HTTP, or has a fragment or a user.
    #[error("expected an absolute URL such as `https://id.example/token`")]
    NoUrl,
}

/// The provider cannot be asked, or did not answer in a way that can be used. It holds neither tokens nor secrets.
#[derive(Debug, Clone)]
pub(in crate::authn) struct Unavailable {
    why: &'static str,
    retry_after: Duration,
    /// Whether it may be so because of the words of one caller.
    is_doubtful: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// Whose words the provider is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) enum Words {
    /// Our own: whatever is wrong, it is so for every call.
    Ours,
    /// Those of the caller with this fingerprint, who can make them up: what the provider, or what stands before it,
    /// answers to them says little about the next.
    Of(u64),
}

/// An answer that cannot be understood, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) struct Odd(pub(in crate::authn) &'static str);

impl Endpoint {
    /// The largest answer, in bytes.
    pub const MAX_ANSWER: usize = 64 * 1024;

    /// The endpoint at this URL.
    ///
    /// # Errors
    /// It is not an absolute URL that begins with `https://`.
    pub fn new(url: &str, client: Client, fetch: Fetch) -> Result<Self, InvalidEndpoint> {
        let endpoint = Self::danger_plain(url, client, fetch)?;
        if endpoint.uri.scheme_str() == Some("https") { Ok(endpoint) } else { Err(InvalidEndpoint::Insecure) }
    }

    /// As [`new`](Self::new), also over plain HTTP: whoever stands between reads tokens and secrets, and can answer in
    /// the provider's place.
    ///
    /// # Errors
    /// It is not an absolute URL.
    pub fn danger_plain(url: &str, client: Client, fetch: Fetch) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = url.parse().map_err(|_| InvalidEndpoint::NoUrl)?;
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !matches!(uri.scheme_str(), Some("https" | "http")) || !plain || url.contains('#') {
            return Err(InvalidEndpoint::NoUrl);
        }
        let fetch = fetch.max_body(Self::MAX_ANSWER).redirects(0);
        let trip = Trip::new(trip::Policy::new());
        Ok(Self { uri, client, fetch, trip, clock: WallClock::default() })
    }

    /// When to stop asking for a while, and for how long; as [`trip::Policy`] says unless told otherwise.
    #[must_use]
    pub fn breaker(self, policy: trip::Policy) -> Self {
        Self { trip: Trip::new(policy), ..self }
    }

    /// The clock by which a client says until when its word counts.
    #[must_use]
    pub fn clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// Whether it makes sense to ask. To be looked at before anything is begun for a request.
    pub(in crate::authn) fn may_ask(&self, now: Instant) -> Result<(), Unavailable> {
        match self.trip.state(now) {
            // The time that is left is told by who is refused.
            trip::State::Open => match self.trip.enter(now) {
                Err(open) => Err(Unavailable::after("the provider has failed too often", open.retry_after())),
                Ok(_) => Ok(()),
            },
            trip::State::Closed | trip::State::HalfOpen => Ok(()),
        }
    }

    /// Sends `form`, with the words of whoever, and reads the answer.
    pub(in crate::authn) async fn ask<T>(
        &self,
        form: Form,
        words: Words,
        read: impl FnOnce(StatusCode, &[u8]) -> Result<T, Odd>,
    ) -> Result<T, Unavailable> {
        let entry = match words {
            Words::Ours => self.trip.enter(Instant::now()),
            Words::Of(caller) => self.trip.enter_for(caller, Instant::now()),
        };
        let entry = entry
            .map_err(|open| Unavailable::after("the provider has failed too often", open.retry_after()))?;
        let answer = self.exchange(form, read).await;
        match &answer {
            Ok(_) => entry.success(Instant::now()),
            Err(error) => {
                match error.is_doubtful {
                    // Else whoever knows words at which it fails would keep everybody from asking.
                    true => entry.doubt(Instant::now()),
                    false => entry.failure(Instant::now()),
                }
                let source = error.source.as_deref().map(tracing::field::display);
                tracing::warn!(endpoint = %self, why = error.why, source, "a provider could not be asked");
            }
        }
        answer
    }

    async fn exchange<T>(
        &self,
        mut form: Form,
        read: impl FnOnce(StatusCode, &[u8]) -> Result<T, Odd>,
    ) -> Result<T, Unavailable> {
        let mut headers = HeaderMap::with_capacity(4);
        let url = self.uri.to_string();
        self.client
            .prove(&url, &self.clock, &mut headers, &mut form)
            .map_err(|_| Unavailable::new("we could not prove who we are"))?;
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, content_type);
        let mut request = Request::new(form.into_bytes());
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, self.uri.clone());
        *request.headers_mut() = headers;
        let answer: http::Response<Bytes> = self.fetch.send(request).await.map_err(|error| {
            let unanswered = Unavailable::new("the provider did not answer");
            let is_doubtful = !matches!(error, FetchError::Transport(_));
            Unavailable { is_doubtful, source: Some(Arc::new(error)), ..unanswered }
        })?;
        let status = answer.status().as_u16();
        let why = match status {
            200..300 | 400 => match read(answer.status(), answer.body()) {
                Ok(read) => return Ok(read),
                Err(Odd(why)) => why,
            },
            300..400 => "the provider sends elsewhere",
            401 | 403 => "the provider does not take us for its client",
            429 => "the provider says that we ask too often",
            _ => "the provider answered with an error",
        };
        let is_doubtful = !matches!(status, 401 | 429);
        Err(Unavailable { is_doubtful, ..Unavailable::new(why) })
    }
}

impl Unavailable {
    /// When it may make sense to ask again, if nobody said.
    pub(in crate::authn) const RETRY_AFTER: Duration = Duration::from_secs(2);

    pub(in crate::authn) fn new(why: &'static str) -> Self {
        Self::after(why, Self::RETRY_AFTER)
    }

    pub(in crate::authn) fn after(why: &'static str, retry_after: Duration) -> Self {
        Self { why, retry_after, is_doubtful: false, source: None }
    }

    /// Whether it may be so because of the words of one caller.
    pub(in crate::authn) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// The refusal of a request for which the provider would have had to answer.
    pub(in crate::authn) fn reject(self, reason: Reason) -> Rejection {
        Rejection::new(reason).detail(self.why).retry_after(self.retry_after).source(self)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for Endpoint {
    /// Without its query, in which some have secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.uri.scheme_str().unwrap_or_default(), self.uri.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &format_args!("{self}"))
            .field("client", &self.client)
            .field("fetch", &self.fetch)
            .finish_non_exhaustive()
    }
}
