use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::Stale;
#[cfg(feature = "stack")]
use crate::key::Key;
use crate::{
    body::{Body, BoxError},
    outcome::{Failure, is_connect, rejection_in},
    ready::ReadyCall,
    reject::{GrpcCode, Reason, Rejection},
    resilience::retry::{Cases, Conditions, Lost, RetryOn},
    trail::{Failed, Given},
};

/// When something is answered in the place of a failure, and what. See the [module docs](super). Clones share the numbers.
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(super) conditions: Conditions,
    pub(super) stale: Option<Stale>,
    pub(super) instead: Instead,
    pub(super) most_body: usize,
    pub(super) any_method: bool,
    counts: Arc<Counts>,
}

/// What is answered.
#[derive(Clone)]
pub(super) enum Instead {
    Answer(Arc<Response<Bytes>>),
    Made(Arc<Make>),
    Server(Arc<Server>),
}

type Make = dyn Fn(&Request<()>) -> Option<Response<Bytes>> + Send + Sync;
type Server = dyn Fn(Request<Body>) -> Asked + Send + Sync;
/// Another server's answer.
pub(super) type Asked = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

#[derive(Debug, Default)]
struct Counts {
    given: [AtomicU64; Given::ALL.len()],
    not_given: AtomicU64,
}

impl Policy {
    fn new(instead: Instead) -> Self {
        let on = Cases::of(&[
            RetryOn::ConnectFailure,
            RetryOn::DeadlineExceeded,
            RetryOn::Internal,
            RetryOn::RefusedStream,
            RetryOn::Reset,
            RetryOn::ServerError,
            RetryOn::Unavailable,
        ]);
        Self {
            conditions: Conditions { on, codes: Vec::new(), headers: Vec::new() },
            stale: None,
            instead,
            most_body: 64 * 1024,
            any_method: false,
            counts: Arc::default(),
        }
    }

    /// This answer, as it stands.
    ///
    /// To a gRPC caller it means something only if its `Content-Type` is that of the caller's gRPC; else the failure stands.
    pub fn answer(response: Response<Bytes>) -> Self {
        Self::new(Instead::Answer(Arc::new(response)))
    }

    /// What `make` makes of the request's head; the failure stands where it has nothing, as where a gRPC caller is told
    /// nothing in gRPC. It must not block.
    pub fn answer_with(
        make: impl Fn(&Request<()>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Instead::Made(Arc::new(make)))
    }

    /// The answer of another server, whatever that is; the failure stands where it has none. It is asked only if the request
    /// may be done twice: nobody has looked at it, its method is idempotent (RFC 9110 section 9.2.2), or it has an
    /// `Idempotency-Key`.
    pub fn ask<S, B>(server: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError> + Send, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self::new(Instead::Server(Arc::new(move |request| {
            let call = ReadyCall::new(server.clone(), request);
            Box::pin(async move { call.await.map(|response| response.map(Body::new)).map_err(Into::into) })
        })))
    }

    /// The cases alone: nothing is given, and every failure stands, until somebody knows [what](Self::asking).
    pub fn cases() -> Self {
        Self::answer_with(|_| None)
    }

    /// As [`ask`](Self::ask), in the cases of this policy, with its numbers, and in the place of what it gave.
    pub fn asking<S, B>(self, server: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError> + Send, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self { instead: Self::ask(server).instead, ..self }
    }

    /// What was good before goes before anything else. See the [module docs](super#old-answers).
    pub fn stale(self, stale: Stale) -> Self {
        Self { stale: Some(stale), ..self }
    }

    /// What old answers [depend on](Stale::varies_by), too.
    #[cfg(feature = "stack")]
    pub(crate) fn varies_by(self, keys: Vec<Key>) -> Self {
        Self { stale: self.stale.map(|stale| stale.varies_by(keys)), ..self }
    }

    /// In which cases, in the place of `5xx`, `connect-failure`, `refused-stream`, `reset`, and of gRPC
    /// `deadline-exceeded`, `internal` and `unavailable`. What a layer of ours has refused is a case by its status: that of
    /// an open breaker is 503.
    pub fn on(mut self, on: impl IntoIterator<Item = RetryOn>) -> Self {
        self.conditions.on = on.into_iter().collect();
        self
    }

    /// And with these statuses.
    pub fn codes(mut self, codes: impl IntoIterator<Item = StatusCode>) -> Self {
        self.conditions.codes.extend(codes);
        self
    }

    /// The longest body that is kept for another server, in bytes; with a longer one it is not asked. 64 KiB unless told.
    pub fn most_body(self, bytes: usize) -> Self {
        Self { most_body: bytes, ..self }
    }

    /// Asks another server whatever the method is, and without an idempotency key. Then two servers may do what was asked
    /// once.
    pub fn danger_any_method(self) -> Self {
        Self { any_method: true, ..self }
    }

    /// Goes on with the numbers of another policy, in whose place it is put.
    pub fn counted_by(self, handle: &FallbackHandle) -> Self {
        Self { counts: Arc::clone(&handle.counts), ..self }
    }

    /// What it has come to.
    #[must_use]
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle { counts: Arc::clone(&self.counts), stale: self.stale.clone() }
    }

    pub(super) fn count(&self, given: Option<Given>) {
        let count = given.map_or(&self.counts.not_given, |given| &self.counts.given[given as usize]);
        count.fetch_add(1, Relaxed);
    }

    /// Whether a response is a failure, and if so which.
    pub(super) fn of_response<B>(&self, response: &Response<B>) -> Option<Case> {
        let of_head = || self.conditions.head(response.status(), response.headers());
        match response.extensions().get::<Rejection>() {
            Some(rejection) if rejection.reason().blames_caller() => None,
            // An error that became an answer further inside is the case that it was.
            Some(rejection) => {
                self.of_rejection(rejection).or_else(|| of_head().then(|| Case::of(rejection)))
            }
            None => of_head().then(|| {
                let grpc = GrpcCode::of(response.headers()).filter(|code| *code != GrpcCode::OK);
                let failed = grpc.map_or(Failed::Status(response.status()), Failed::Grpc);
                Case { failed, unsent: false }
            }),
        }
    }

    /// The same of an error.
    pub(super) fn of_error<E: 'static>(&self, error: &E) -> Option<Case> {
        if let Some(rejection) = rejection_in(error) {
            return self.of_rejection(rejection);
        }
        let (failure, unsent) = (Failure::of(error), is_connect(error));
        let how = match failure {
            _ if unsent => Lost::Connect,
            Failure::CallerDeadline => return None,
            Failure::Connect => Lost::Connect,
            Failure::Refused => Lost::Refused,
            _ => Lost::Other,
        };
        self.conditions.lost(how).then_some(Case { failed: Failed::Reason(failure.reason()), unsent })
    }

    fn of_rejection(&self, rejection: &Rejection) -> Option<Case> {
        let (reason, conditions) = (rejection.reason(), &self.conditions);
        let failed = match reason {
            _ if reason.blames_caller() => false,
            Reason::ConnectFailed => conditions.lost(Lost::Connect),
            Reason::UpstreamProtocol | Reason::UpstreamReset | Reason::UpstreamTimeout => {
                conditions.lost(if rejection.is_unsent() { Lost::Refused } else { Lost::Other })
            }
            _ => conditions.head(reason.status(), &HeaderMap::new()) || conditions.grpc(reason.grpc()),
        };
        failed.then(|| Case::of(rejection))
    }
}

/// A failure in whose place something else may be given.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) failed: Failed,
    /// Nobody has looked at the request.
    pub(super) unsent: bool,
}

impl Case {
    fn of(rejection: &Rejection) -> Self {
        Self { failed: Failed::Reason(rejection.reason()), unsent: rejection.is_unsent() }
    }
}

/// What falling back has come to. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct FallbackHandle {
    counts: Arc<Counts>,
    stale: Option<Stale>,
}

impl FallbackHandle {
    /// Failures in whose place something else was given.
    #[must_use]
    pub fn given(&self) -> u64 {
        Given::ALL.into_iter().map(|given| self.given_as(given)).sum()
    }

    /// Those in whose place this was given.
    #[must_use]
    pub fn given_as(&self, given: Given) -> u64 {
        self.counts.given[given as usize].load(Relaxed)
    }

    /// The old answers that may be given.
    #[must_use]
    pub fn stale(&self) -> Option<&Stale> {
        self.stale.as_ref()
    }

    /// Failures that stood: there was nothing to give, or the request could not be sent again.
    #[must_use]
    pub fn not_given(&self) -> u64 {
        self.counts.not_given.load(Relaxed)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead = match &self.instead {
            Instead::Answer(_) => "an answer",
            Instead::Made(_) => "what is made",
            Instead::Server(_) => "another server",
        };
        f.debug_struct("Policy")
            .field("conditions", &self.conditions)
            .field("stale", &self.stale)
            .field("instead", &instead)
            .finish_non_exhaustive()
    }
}
