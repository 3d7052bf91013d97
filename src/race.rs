//! The first of two things that may come to pass.
use std::{future::poll_fn, pin::pin, task::Poll};

/// What the first of two futures says; the first one's, if both are there.
pub(crate) async fn race<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
    .await
}
