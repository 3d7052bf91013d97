use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;

use super::{
    TimedBody,
    alarm::Alarm,
    policy::{BodyLimits, Idle, Watch},
};
use crate::{body::ResponseBody, upload::Upload};

pin_project! {
    /// The future of a [`Timeout`](super::Timeout). Dropping it, or letting its time pass, drops the inner future.
    pub struct ResponseFuture<F> {
        #[pin]
        call: Option<F>,
        #[pin]
        alarm: Alarm,
        watch: Option<Watch>,
        upload: Option<Upload>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn call(call: F, watch: Option<Watch>, upload: Option<Upload>) -> Self {
        Self { call: Some(call), alarm: Alarm::default(), watch, upload }
    }

    /// The caller's time was over before.
    pub(super) fn over(watch: Watch) -> Self {
        Self { call: None, alarm: Alarm::default(), watch: Some(watch), upload: None }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<TimedBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(call) = this.call.as_mut().as_pin_mut() {
            // Responses are large, and are moved as seldom as can be.
            match call.poll(cx) {
                Poll::Ready(Ok(response)) => {
                    let (limits, idle) = limits(&response, this.watch.as_ref());
                    let (head, body) = response.into_parts();
                    let body = ResponseBody::inner(TimedBody::new(body, limits, idle));
                    return Poll::Ready(Ok(Response::from_parts(head, body)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            let Some(watch) = this.watch else { return Poll::Pending };
            ready!(this.alarm.poll_at(watch.head.at, cx));
            this.call.set(None);
        }
        #[expect(clippy::expect_used, reason = "without a watch there is a call")]
        let watch = this.watch.as_ref().expect("a watch");
        let of_caller = this.upload.as_ref().is_some_and(Upload::is_awaited);
        Poll::Ready(Ok(watch.answer(of_caller).map(ResponseBody::full)))
    }
}

fn limits<B: HttpBody>(response: &Response<B>, watch: Option<&Watch>) -> (Option<BodyLimits>, Option<Idle>) {
    let watch = watch.filter(|_| !response.body().is_end_stream());
    let limits = watch.and_then(|watch| watch.body_limits(response.status(), response.headers()));
    let (limits, idle) = limits.unzip();
    (limits, idle.flatten())
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("watch", &self.watch).finish_non_exhaustive()
    }
}
