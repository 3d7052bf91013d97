//! `Expect: 100-continue` (RFC 9110 section 10.1.1): a request body that waits until the upstream wants it.
//!
//! The expectation is passed on to an HTTP/1.1 upstream, and the body is not asked for before the upstream has said
//! 100, or has said nothing for a second. The client's own 100 is sent by its server when the body is first asked
//! for. So a body that the upstream refuses by its head is never sent by anyone.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// How long an upstream may stay silent before the body is sent all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds a body back until the upstream has spoken.
#[derive(Clone, Default)]
pub(super) struct Hold(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    phase: Phase,
    waiting: Option<Waker>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open,
    /// The final response came first: nobody wants the body. It waits until the response has ended.
    Unwanted,
    /// It ends with an error, and the connection with it.
    Over,
}

impl Hold {
    /// The upstream wants the body.
    pub(super) fn open(&self) {
        self.pass(Phase::Closed, Phase::Open);
    }

    /// The final response has come.
    pub(super) fn answered(&self) {
        self.pass(Phase::Closed, Phase::Unwanted);
    }

    /// The final response has ended. Tells whether the body was sent; if not, its connection cannot be used again.
    pub(super) fn ended(&self) -> bool {
        self.pass(Phase::Unwanted, Phase::Over);
        self.state().phase == Phase::Open
    }

    fn pass(&self, from: Phase, to: Phase) {
        let mut state = self.state();
        if state.phase == from {
            state.phase = to;
            if let Some(waiting) = state.waiting.take_if(|_| to != Phase::Unwanted) {
                waiting.wake();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body's side of a [`Hold`].
pub(super) struct Held {
    hold: Hold,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Held {
    pub(super) fn new(hold: Hold) -> Self {
        Self { hold, patience: None }
    }

    /// Ready with whether the body is to be sent.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let phase = {
            let mut state = self.hold.state();
            state.waiting = Some(cx.waker().clone());
            state.phase
        };
        match phase {
            Phase::Open => Poll::Ready(true),
            Phase::Over => Poll::Ready(false),
            Phase::Unwanted => Poll::Pending,
            Phase::Closed => {
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(patience.as_mut().poll(cx));
                self.hold.open();
                Poll::Ready(true)
            }
        }
    }
}
