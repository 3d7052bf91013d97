//! The gate that takes notes, and the pass that keeps them until the end.

use super::{event::emit, text::squeeze};
use crate::{
    attempt::Attempt,
    context::RequestId,
    gate::{Gate, GateLayer, Pass},
    head::Head,
    identity::{ClientAddr, PeerIdentity},
    outcome::Outcome,
    reject::{Answer, Rejection},
    telemetry::findings::Findings,
};
use http::{HeaderValue, Method, Uri, Version, header, response};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The gate that logs each request when it has ended; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Style>);

/// What is written of a request's target.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) max_path: usize,
    pub(super) query: bool,
    pub(super) secrets: Vec<Box<str>>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self::new()
    }
}

impl AccessLog {
    /// Logs paths of up to 1,024 bytes, without queries.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Style { max_path: 1024, query: false, secrets: Vec::new() }))
    }

    /// Writes at most so many bytes of a path, and of a query. Default: 1,024.
    #[must_use]
    pub fn max_path(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.0).max_path = bytes;
        self
    }

    /// Writes the query as well. Values of parameters whose names are known to hold secrets (`access_token`,
    /// `api_key`, `code`, `password`, `signature` and the like) are written as `***`. Default: no query.
    #[must_use]
    pub fn query(mut self, write: bool) -> Self {
        Arc::make_mut(&mut self.0).query = write;
        self
    }

    /// Hides the values of this parameter too. Case, `-` and `_` make no difference.
    #[must_use]
    pub fn redact(mut self, parameter: &str) -> Self {
        Arc::make_mut(&mut self.0).secrets.push(squeeze(parameter.bytes()).into());
        self
    }

    /// The layer of this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for AccessLog {
    type Pass = Option<Box<Entry>>;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        if !super::event::is_wanted() {
            return Ok(None);
        }
        let since = head.now();
        let host = head.headers().get(header::HOST).cloned();
        let findings = Findings::start(head);
        let told = head.extensions();
        Ok(Some(Box::new(Entry {
            style: Arc::clone(&self.0),
            since,
            to_head: None,
            attempt: None,
            method: head.method().clone(),
            uri: head.uri().clone(),
            version: head.version(),
            host,
            client: told.get::<ClientAddr>().copied(),
            peer: told.get::<PeerIdentity>().cloned(),
            request_id: told.get::<RequestId>().cloned(),
            findings,
            refusal: None,
        })))
    }
}

/// The notes on one request.
pub struct Entry {
    pub(super) style: Arc<Style>,
    pub(super) since: Instant,
    pub(super) to_head: Option<Duration>,
    pub(super) attempt: Option<Attempt>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) host: Option<HeaderValue>,
    pub(super) client: Option<ClientAddr>,
    pub(super) peer: Option<PeerIdentity>,
    pub(super) request_id: Option<RequestId>,
    pub(super) findings: Findings,
    pub(super) refusal: Option<Rejection>,
}

impl Pass for Entry {
    fn on_head(&mut self, head: &mut response::Parts) {
        self.to_head = Some(self.since.elapsed());
        self.findings.see(head);
        self.refusal = head.extensions.get::<Rejection>().cloned();
        self.attempt = head.extensions.get::<Attempt>().cloned();
    }

    fn on_end(&mut self, outcome: &Outcome) {
        emit(self, outcome);
    }
}

impl fmt::Debug for Entry {
    /// The target may hold secrets and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("method", &self.method).finish_non_exhaustive()
    }
}
