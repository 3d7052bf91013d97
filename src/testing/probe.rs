use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower_service::Service;

use crate::body::Body;

/// The service inside a layer under test. A clone is not ready until it is polled, and a call on an instance that
/// was not made ready is noticed.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    ready: bool,
}

/// The error with which a [`Probe`] fails.
#[derive(Debug, thiserror::Error)]
#[error("the probe failed")]
pub struct ProbeError(());

#[derive(Default)]
pub(super) struct Shared {
    script: Mutex<Script>,
    pub(super) unready_calls: AtomicUsize,
    pub(super) calls: AtomicUsize,
    /// Futures and bodies that live.
    pub(super) live: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

/// What a [`Probe`] does with its next calls.
#[derive(Clone, Default)]
pub(super) struct Script {
    /// `poll_ready` is pending.
    pub(super) busy: bool,
    /// Futures are pending.
    pub(super) silent: bool,
    /// Futures fail.
    pub(super) fails: bool,
    pub(super) response: Option<fn() -> Response<()>>,
    pub(super) frames: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Data(&'static str),
    Trailer(&'static str),
}

impl Piece {
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Data(text) => text.len() as u64,
            Self::Trailer(_) => 0,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn probe(self: &Arc<Self>) -> Probe {
        Probe { shared: Arc::clone(self), ready: false }
    }

    /// Changes what it does and wakes whoever waits for it.
    pub(super) fn act(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.script));
        for waker in lock(&self.wakers).drain(..) {
            waker.wake();
        }
    }

    fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        lock(&self.wakers).push(cx.waker().clone());
        Poll::Pending
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        self.shared.probe()
    }
}

impl Service<Request<Body>> for Probe {
    type Response = Response<ProbeBody>;
    type Error = ProbeError;
    type Future = ProbeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
        if lock(&self.shared.script).busy {
            return self.shared.wait(cx);
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ProbeFuture {
        if !std::mem::take(&mut self.ready) {
            self.shared.unready_calls.fetch_add(1, Ordering::SeqCst);
        }
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        ProbeFuture { alive: Alive::new(&self.shared), _request: request }
    }
}

/// Counts itself while it lives.
struct Alive(Arc<Shared>);

impl Alive {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.live.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The future of a [`Probe`].
pub struct ProbeFuture {
    alive: Alive,
    _request: Request<Body>,
}

impl Future for ProbeFuture {
    type Output = Result<Response<ProbeBody>, ProbeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = &self.alive.0;
        let script = lock(&shared.script).clone();
        if script.silent {
            return shared.wait(cx);
        }
        if script.fails {
            return Poll::Ready(Err(ProbeError(())));
        }
        let response = script.response.map_or_else(|| Response::new(()), |make| make());
        let body = ProbeBody { frames: script.frames.into(), _alive: Alive::new(shared) };
        Poll::Ready(Ok(response.map(|()| body)))
    }
}

impl fmt::Debug for ProbeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFuture").finish_non_exhaustive()
    }
}

/// The body of a [`Probe`]'s response.
pub struct ProbeBody {
    frames: VecDeque<Piece>,
    _alive: Alive,
}

impl HttpBody for ProbeBody {
    type Data = Bytes;
    type Error = ProbeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProbeError>>> {
        Poll::Ready(self.frames.pop_front().map(|piece| {
            Ok(match piece {
                Piece::Data(text) => Frame::data(Bytes::from_static(text.as_bytes())),
                Piece::Trailer(value) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("probe-trailer", HeaderValue::from_static(value));
                    Frame::trailers(trailers)
                }
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.frames.iter().map(|piece| piece.bytes()).sum())
    }
}

impl fmt::Debug for ProbeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeBody").field("frames", &self.frames).finish_non_exhaustive()
    }
}
