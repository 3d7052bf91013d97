//! Where tokens come from.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;

use super::answer::{Answer, MAX_TOKEN, bearer};
use crate::{
    authn::oauth::{Endpoint, Form, Unavailable, Words},
    identity::CallerToken,
    secret,
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// How long a file that can no longer be read is taken for what it was.
const STALE: Duration = Duration::from_secs(600);
/// How long it is remembered that the provider refused a caller's token.
const REFUSED: Duration = Duration::from_secs(10);

/// What is asked of a token endpoint: for whom the token is to be, and for what.
///
/// ```
/// # use portcullis::authn::{oauth::Endpoint, outbound::TokenRequest};
/// # fn example(endpoint: Endpoint) -> TokenRequest {
/// TokenRequest::new(endpoint).scopes(["stock.read"]).audience("stock").resource("https://stock.internal/")
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct TokenRequest {
    pub(super) endpoint: Endpoint,
    form: Form,
}

impl TokenRequest {
    /// For this endpoint, and whatever it gives to those who say no more.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, form: Form::default() }
    }

    /// Asks for these scopes (RFC 6749 section 3.3).
    pub fn scopes<T: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        let scopes: Vec<_> = scopes.into_iter().collect();
        let scopes: Vec<&str> = scopes.iter().map(AsRef::as_ref).collect();
        if !scopes.is_empty() {
            self.form.add("scope", &scopes.join(" "));
        }
        self
    }

    /// Names the service that the token is for, as the provider calls it (RFC 8693 section 2.1). It can be said more than
    /// once.
    pub fn audience(mut self, audience: &str) -> Self {
        self.form.add("audience", audience);
        self
    }

    /// Names the service that the token is for, by its URL (RFC 8707). It can be said more than once.
    pub fn resource(mut self, url: &str) -> Self {
        self.form.add("resource", url);
        self
    }

    /// Says something else that the provider wants to know.
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.form.add(name, value);
        self
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) enum Origin {
    ClientCredentials(TokenRequest),
    Exchange(TokenRequest),
    File { path: Arc<Path>, every: Duration },
}

/// A token that was just had, or why there is none for this caller.
pub(super) struct Fresh {
    pub(super) line: Option<HeaderValue>,
    /// From when on a new one should be had.
    pub(super) renew: Duration,
    /// From when on it must not be used.
    pub(super) lives: Duration,
}

impl Origin {
    pub(super) fn file(path: PathBuf, every: Duration) -> Self {
        Self::File { path: path.into(), every }
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::ClientCredentials(request) | Self::Exchange(request) => Some(&request.endpoint),
            Self::File { .. } => None,
        }
    }

    /// Asks for a token; on behalf of `subject`, if it is for one, whose fingerprint is `caller`.
    pub(super) async fn fetch(
        &self,
        subject: Option<&CallerToken>,
        caller: u64,
    ) -> Result<Fresh, Unavailable> {
        match self {
            Self::ClientCredentials(request) => {
                let form = request.form.clone().with("grant_type", "client_credentials");
                ask(&request.endpoint, form, Words::Ours).await
            }
            Self::Exchange(request) => {
                let form = request.form.clone().with("grant_type", EXCHANGE);
                let subject = subject.map_or("", CallerToken::reveal);
                let form = form.with("subject_token", subject).with("subject_token_type", ACCESS_TOKEN);
                ask(&request.endpoint, form, Words::Of(caller)).await
            }
            Self::File { path, every } => {
                let (path, every) = (Arc::clone(path), *every);
                let lost = || Unavailable::new("the file with our token could not be read");
                let read = tokio::task::spawn_blocking(move || secret::read(&path, 2 * MAX_TOKEN));
                let text = read.await.map_err(|_| lost())?.map_err(|error| {
                    tracing::warn!(%error, "the file with our token could not be read");
                    lost()
                })?;
                let token = std::str::from_utf8(text.trim_ascii()).unwrap_or_default();
                let line = bearer(token).ok_or(Unavailable::new("the file holds no token"))?;
                Ok(Fresh { line: Some(line), renew: every, lives: STALE.max(every) })
            }
        }
    }
}

async fn ask(endpoint: &Endpoint, form: Form, words: Words) -> Result<Fresh, Unavailable> {
    let exchanges = words != Words::Ours;
    let answer = endpoint.ask(form, words, |status, body| Answer::read(status, body, exchanges)).await?;
    Ok(match answer {
        Answer::CallerRefused => Fresh { line: None, renew: REFUSED, lives: REFUSED },
        Answer::Token { line, lives } => {
            // Calls take their time to arrive, and clocks differ.
            let lives = lives - (lives / 10).min(Duration::from_secs(10));
            Fresh { line: Some(line), renew: lives / 10 * 7, lives }
        }
    })
}
