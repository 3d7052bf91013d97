//! Where keys come from, and one way there and back.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use tokio::time::Instant;

use super::{fault::Fault, metadata};
use crate::{authn::jwt::KeySet, fetch::Fetch, freshness, time::WallClock};

/// How long a provider's word on where its keys are is believed.
const DISCOVERED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The URL of a key set.
    Keys(Uri),
    /// An issuer, whose metadata may be at these URLs and says where the keys are.
    Issuer { issuer: Box<str>, metadata: [Uri; 2] },
}

/// How it is asked.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) source: Source,
    /// Whether the keys may come over plain HTTP.
    pub(super) plain: bool,
    pub(super) fetch: Fetch,
    pub(super) clock: WallClock,
}

/// Where the keys are, and until when that is believed.
#[derive(Debug, Clone)]
pub(super) struct Discovered {
    keys: Uri,
    until: Instant,
}

/// A key set, and how long it is fresh if its provider says so.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) lifetime: Option<Duration>,
    pub(super) discovered: Option<Discovered>,
}

impl Source {
    /// The issuer, or the URL.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Keys(url) => url.to_string(),
            Self::Issuer { issuer, .. } => issuer.to_string(),
        }
    }
}

impl Asking {
    /// Fetches the keys; where they are is asked for first, unless that is known.
    pub(super) async fn fetch(&self, known: Option<Discovered>) -> Result<Fetched, Fault> {
        let (url, discovered) = match &self.source {
            Source::Keys(url) => (url.clone(), None),
            Source::Issuer { issuer, metadata } => {
                let discovered = match known.filter(|known| known.until > Instant::now()) {
                    Some(known) => known,
                    None => self.discover(issuer, metadata).await?,
                };
                (discovered.keys.clone(), Some(discovered))
            }
        };
        let answer = self.get(url).await?;
        if answer.status() != StatusCode::OK {
            return Err(Fault::Status(answer.status()));
        }
        let lifetime = freshness::lifetime(answer.headers(), self.clock.now());
        let text = std::str::from_utf8(answer.body()).unwrap_or_default();
        Ok(Fetched { keys: KeySet::published(text)?, lifetime, discovered })
    }

    async fn discover(&self, issuer: &str, places: &[Uri; 2]) -> Result<Discovered, Fault> {
        let mut answer = self.get(places[0].clone()).await?;
        // It is not there, or not for us: the other standard has another place.
        if answer.status().is_client_error() {
            let other = self.get(places[1].clone()).await?;
            answer = if other.status() == StatusCode::OK { other } else { answer };
        }
        if answer.status() != StatusCode::OK {
            return Err(Fault::Status(answer.status()));
        }
        let keys = metadata::keys_url(answer.body(), issuer, self.plain)?;
        Ok(Discovered { keys, until: Instant::now() + DISCOVERED })
    }

    async fn get(&self, url: Uri) -> Result<Response<Bytes>, Fault> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url;
        let json = HeaderValue::from_static("application/json, application/jwk-set+json");
        request.headers_mut().insert(header::ACCEPT, json);
        Ok(self.fetch.send(request).await?)
    }
}
