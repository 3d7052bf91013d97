use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, Uri, header};

use super::{
    ExternalAuthHandle,
    ask::{Asker, Memory},
};
use crate::{
    admission::authz::{Guard, InvalidPolicies, Policy},
    fetch::Fetch,
    gate::AsyncGateLayer,
    identity::AssertedHeaders,
    matching::PathPolicy,
    reject::Reason,
    trip::{self, Trip},
};

/// An authorizer, asked by HTTP, as a gate that waits. Clones share its state.
///
/// See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct ExternalAuth {
    pub(super) name: Arc<str>,
    pub(super) guard: Option<Arc<Guard>>,
    pub(super) asker: Arc<Asker>,
    pub(super) sent: Arc<[HeaderName]>,
    pub(super) asserted: AssertedHeaders,
    pub(super) body: AuthBody,
    pub(super) body_timeout: Duration,
    pub(super) failure: Reason,
    pub(super) fails_open: bool,
    pub(super) paths: PathPolicy,
    pub(super) told_in: Option<HeaderName>,
}

/// What of a request's body an authorizer gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthBody {
    /// Nothing.
    #[default]
    Excluded,
    /// All of it. A request with more bytes than this, or than [`MOST`](Self::MOST), is answered with 413.
    Whole(usize),
    /// Up to so many bytes, the first, and at most [`MOST`](Self::MOST).
    Beginning(usize),
}

impl AuthBody {
    /// The most bytes of one request that are read ahead, whatever is chosen: they wait in memory for the verdict.
    pub const MOST: usize = 1 << 20;

    /// How many bytes are read ahead.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Excluded => 0,
            Self::Whole(most) | Self::Beginning(most) => most.min(Self::MOST),
        }
    }
}

/// Why there can be no such authorizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAuthorizer {
    /// It is not at an absolute URL of HTTP.
    #[error("an authorizer is at an absolute URL with http or https")]
    Url,
    /// A field of the connection or of the message's framing, or one that says how the request came.
    #[error("the header {0} is not to be handed on")]
    Header(HeaderName),
}

/// What an answer may tell the caller who is refused.
const REFUSAL: [HeaderName; 8] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::LOCATION,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
];

/// What belongs to the connection, frames a message, or routes it.
const OF_THE_HOP: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl ExternalAuth {
    /// Asks at this URL, through this client, which also bounds the time and the size of an answer.
    ///
    /// The name is what it is called in logs and metrics.
    ///
    /// # Errors
    ///
    /// If the URL is none.
    pub fn new(name: impl Into<Arc<str>>, url: &str, fetch: Fetch) -> Result<Self, InvalidAuthorizer> {
        let url: Uri = url.parse().map_err(|_| InvalidAuthorizer::Url)?;
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !is_http || url.host().is_none_or(str::is_empty) || has_user {
            return Err(InvalidAuthorizer::Url);
        }
        Ok(Self {
            name: name.into(),
            guard: None,
            asker: Arc::new(Asker::new(url, fetch.redirects(0), &REFUSAL)),
            sent: Arc::new([header::AUTHORIZATION, header::COOKIE]),
            asserted: AssertedHeaders::default(),
            body: AuthBody::Excluded,
            body_timeout: Duration::from_secs(10),
            failure: Reason::AuthorizerUnavailable,
            fails_open: false,
            paths: PathPolicy::strict(),
            told_in: None,
        })
    }

    /// Asks only about what a rule of these [custom](Policy::custom) policies means. About every request unless told.
    ///
    /// # Errors
    ///
    /// If one of them is not custom, names are not unique, or there are too many rules.
    pub fn only(self, policies: impl IntoIterator<Item = Policy>) -> Result<Self, InvalidPolicies> {
        let guard = Guard::new(policies, &crate::admission::authz::Tally::new())?;
        Ok(self.guarded(guard))
    }

    /// As [`only`](Self::only), of policies that are compiled already.
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(Arc::new(guard)), ..self }
    }

    /// Which headers of the request are sent along. `Authorization` and `Cookie` unless told.
    ///
    /// # Errors
    ///
    /// If one of them cannot be handed on.
    pub fn request_headers(
        self,
        names: impl IntoIterator<Item = HeaderName>,
    ) -> Result<Self, InvalidAuthorizer> {
        let sent = checked(names)?;
        match sent.iter().find(|name| name.as_str().starts_with("x-forwarded-")) {
            Some(ours) => Err(InvalidAuthorizer::Header(ours.clone())),
            None => Ok(Self { sent: sent.into(), ..self }),
        }
    }

    /// Which headers of its answer the upstream gets, where a request passes. None unless told.
    ///
    /// What callers send under these names is removed, whatever becomes of the request. Where this gate does not stand,
    /// somebody else has to remove it: see [`asserted_headers`](Self::asserted_headers).
    ///
    /// # Errors
    ///
    /// If one of them cannot be handed on.
    pub fn upstream_headers(
        self,
        names: impl IntoIterator<Item = HeaderName>,
    ) -> Result<Self, InvalidAuthorizer> {
        let names = checked(names)?;
        let asserted = AssertedHeaders::new(names.iter().cloned());
        Ok(Self { asserted, ..self.asking(|asker| asker.keeps.upstream = names.into()) })
    }

    /// Which headers of its answer are added to the response, where a request passes: a session that was renewed, say.
    /// None unless told.
    ///
    /// # Errors
    ///
    /// If one of them cannot be handed on.
    pub fn client_headers(
        self,
        names: impl IntoIterator<Item = HeaderName>,
    ) -> Result<Self, InvalidAuthorizer> {
        let names = checked(names)?;
        Ok(self.asking(|asker| asker.keeps.client = names.into()))
    }

    /// Which headers of its answer a caller gets who is refused. Unless told `Cache-Control`, `Content-Encoding`,
    /// `Content-Language`, `Content-Type`, `Location`, `Retry-After`, `Set-Cookie` and `WWW-Authenticate`.
    ///
    /// # Errors
    ///
    /// If one of them cannot be handed on.
    pub fn refusal_headers(
        self,
        names: impl IntoIterator<Item = HeaderName>,
    ) -> Result<Self, InvalidAuthorizer> {
        let names = checked(names)?;
        Ok(self.asking(|asker| asker.keeps.refusal = names.into()))
    }

    /// What of the body is sent along. Nothing unless told. A [`TapLayer`](crate::body::TapLayer) has to stand outside;
    /// without one the request is taken to have no body that can be shown, and is refused.
    pub fn body(self, body: AuthBody) -> Self {
        Self { body, ..self }
    }

    /// How long the caller may take to send what of the body is asked for. 10 s unless told.
    pub fn body_timeout(self, timeout: Duration) -> Self {
        Self { body_timeout: timeout, ..self }
    }

    /// Remembers passes and refusals for so long, and for so many different questions at most. Not unless told.
    pub fn cache(self, ttl: Duration, max_entries: usize) -> Self {
        self.asking(|asker| asker.memory = Some(Memory::new(ttl, max_entries)))
    }

    /// When it is not asked any more for a while, because it keeps failing. As [`trip::Policy`] says unless told;
    /// `None`: it is always asked.
    pub fn breaker(self, policy: impl Into<Option<trip::Policy>>) -> Self {
        let policy = policy.into();
        self.asking(|asker| asker.trip = policy.map(Trip::new))
    }

    /// As what a failure is answered: [`AuthorizerUnavailable`](Reason::AuthorizerUnavailable) (503) unless told, which
    /// blames nobody who asks; Envoy says [`Forbidden`](Reason::Forbidden).
    pub fn on_failure(self, reason: Reason) -> Self {
        Self { failure: reason, ..self }
    }

    /// Lets requests pass while the authorizer fails: who can overload it is let in everywhere, and so is everybody while
    /// it is [spared](Self::breaker) because it kept failing.
    pub fn danger_fail_open(self) -> Self {
        Self { fails_open: true, ..self }
    }

    /// In which form paths are compared with those of rules. Strict unless told.
    pub fn paths(self, paths: PathPolicy) -> Self {
        Self { paths, ..self }
    }

    /// Tells every caller who decided, in this header of the answer: `deny transfers/0`, or `deny` and the authorizer's
    /// name where it is asked about every request. Nobody unless told.
    ///
    /// Where it lets pass, a policy that then denies or allows is named, if there is one.
    pub fn told_in(self, header: HeaderName) -> Self {
        Self { told_in: Some(header), ..self }
    }

    /// Counts on in these numbers.
    pub fn counted(self, counts: ExternalAuthHandle) -> Self {
        self.asking(|asker| asker.counts = counts)
    }

    /// As a layer.
    pub fn layer(self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::new(self)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The headers that it tells the upstream, which nobody else may.
    pub fn asserted_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.asker.keeps.upstream.iter()
    }

    /// The headers of a request that it is sent.
    pub fn sent_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.sent.iter()
    }

    /// About what it is asked, unless about every request.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_deref()
    }

    /// Whether it wants to see bodies.
    #[must_use]
    pub fn wants_body(&self) -> bool {
        self.body != AuthBody::Excluded
    }

    /// What became of what it was asked.
    #[must_use]
    pub fn handle(&self) -> ExternalAuthHandle {
        self.asker.counts.clone()
    }

    fn asking(mut self, change: impl FnOnce(&mut Asker)) -> Self {
        // It is shared only once it is built.
        change(Arc::make_mut(&mut self.asker));
        self
    }
}

fn checked(names: impl IntoIterator<Item = HeaderName>) -> Result<Vec<HeaderName>, InvalidAuthorizer> {
    let mut list = Vec::new();
    for name in names {
        if OF_THE_HOP.contains(&name) {
            return Err(InvalidAuthorizer::Header(name));
        }
        if !list.contains(&name) {
            list.push(name);
        }
    }
    Ok(list)
}

impl fmt::Debug for ExternalAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAuth")
            .field("name", &self.name)
            .field("sent", &self.sent)
            .field("upstream", &self.asker.keeps.upstream)
            .field("body", &self.body)
            .field("fails_open", &self.fails_open)
            .finish_non_exhaustive()
    }
}
