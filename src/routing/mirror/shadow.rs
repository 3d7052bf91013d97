//! A mirrored request on its way.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tower_service::Service;

use super::{
    Policy,
    compare::Look,
    handle::{Counts, Dropped},
};
use crate::{
    body::{Body, Fate, Lost},
    outcome::Completion,
    ready::ReadyCall,
};

/// What a shadow holds while it lives.
pub(super) struct Shadow {
    pub(super) request: Request<Body>,
    pub(super) fate: Fate,
    pub(super) look: Completion<Look>,
    pub(super) held: Held,
    timeout: Duration,
    most: u64,
}

/// A place, which is given back however the shadow ends, and what that was.
pub(super) struct Held {
    _place: OwnedSemaphorePermit,
    counts: Arc<Counts>,
    ended: Result<(), Dropped>,
}

impl Shadow {
    pub(super) fn new(
        policy: &Policy,
        request: Request<Body>,
        fate: Fate,
        look: Completion<Look>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        // Whoever panics, or is dropped with the runtime, has failed.
        let held = Held { _place: place, counts: Arc::clone(&policy.counts), ended: Err(Dropped::Failed) };
        Self { request, fate, look, held, timeout: policy.timeout, most: policy.most_response }
    }

    /// Sends the request, reads the response, and forgets both.
    pub(super) async fn run<M, B>(self, service: M)
    where
        M: Service<Request<Body>, Response = Response<B>>,
        M::Error: 'static,
        B: HttpBody<Data = Bytes>,
        B::Error: 'static,
    {
        let Self { request, fate, look, mut held, timeout, most } = self;
        let mut exchange = pin!(exchange(service, request, look, most));
        let mut late = pin!(sleep(timeout));
        held.ended = poll_fn(|cx| {
            // First, since a request whose body breaks off has failed as well.
            if let Poll::Ready(lost) = fate.poll_lost(cx) {
                return Poll::Ready(Err(lost.into()));
            }
            if let Poll::Ready(ended) = exchange.as_mut().poll(cx) {
                return Poll::Ready(match fate.poll_lost(cx) {
                    Poll::Ready(lost) if ended.is_err() => Err(lost.into()),
                    _ => ended,
                });
            }
            late.as_mut().poll(cx).map(|()| Err(Dropped::Deadline))
        })
        .await;
    }
}

async fn exchange<M, B>(
    service: M,
    request: Request<Body>,
    mut look: Completion<Look>,
    most: u64,
) -> Result<(), Dropped>
where
    M: Service<Request<Body>, Response = Response<B>>,
    M::Error: 'static,
    B: HttpBody<Data = Bytes>,
    B::Error: 'static,
{
    let is_head = request.method() == Method::HEAD;
    let response = match ReadyCall::new(service, request).await {
        Ok(response) => response,
        Err(error) => {
            look.fail(&error);
            return Err(Dropped::Failed);
        }
    };
    let (mut head, body) = response.into_parts();
    look.head(&mut head, is_head || body.is_end_stream());
    drain(pin!(body), look, most).await
}

/// Reads a body to its end, or as far as is allowed.
async fn drain<B>(mut body: Pin<&mut B>, mut look: Completion<Look>, most: u64) -> Result<(), Dropped>
where
    B: HttpBody<Data = Bytes>,
    B::Error: 'static,
{
    let mut read = 0;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame {
            Ok(frame) => {
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
                if read > most {
                    look.pass_mut().into_iter().for_each(Look::cut);
                    return Ok(());
                }
                observe(&mut look, Some(&Ok::<_, B::Error>(frame)), false);
            }
            Err(error) => {
                look.fail(&error);
                return Err(Dropped::Failed);
            }
        }
    }
    observe::<B::Error>(&mut look, None, true);
    Ok(())
}

/// Shows what a body has given.
pub(super) fn observe<E: 'static>(
    look: &mut Completion<Look>,
    frame: Option<&Result<http_body::Frame<Bytes>, E>>,
    ended: bool,
) {
    let trailers = match frame {
        Some(Err(error)) => return look.fail(error),
        Some(Ok(frame)) => {
            if let Some(data) = frame.data_ref() {
                look.pass_mut().into_iter().for_each(|look| look.data(data));
                look.data(data.len());
            }
            frame.trailers_ref()
        }
        None => None,
    };
    if ended || trailers.is_some() {
        look.pass_mut().into_iter().for_each(Look::whole);
    }
    match trailers {
        Some(trailers) => look.trailers(trailers),
        None if ended => look.complete(),
        None => {}
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.ended {
            Ok(()) => self.counts.complete(),
            Err(why) => self.counts.lose(why),
        }
    }
}

impl From<Lost> for Dropped {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Behind => Self::Behind,
            Lost::Cut => Self::Cut,
        }
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").finish_non_exhaustive()
    }
}
