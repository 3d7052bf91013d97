mod bodies;
mod heads;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::TimeoutLayer;
use crate::{
    body::BoxError,
    reject::{Reason, Rejection},
};

const SECOND: Duration = Duration::from_secs(1);

/// A body that gives its frames after as many milliseconds each.
struct Slow {
    frames: VecDeque<(u64, Frame<Bytes>)>,
    wait: Option<Pin<Box<Sleep>>>,
    alive: Arc<()>,
}

impl Slow {
    fn of(frames: impl IntoIterator<Item = (u64, &'static str)>) -> Self {
        let frames = frames.into_iter().map(|(wait, text)| (wait, Frame::data(Bytes::from(text)))).collect();
        Self { frames, wait: None, alive: Arc::default() }
    }

    fn with_trailers(mut self, wait: u64) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        self.frames.push_back((wait, Frame::trailers(trailers)));
        self
    }
}

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(&(wait, _)) = self.frames.front() else { return Poll::Ready(None) };
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(wait))));
        std::task::ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(self.frames.pop_front().map(|(_, frame)| Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes =
            self.frames.iter().filter_map(|(_, frame)| frame.data_ref()).map(Bytes::len).sum::<usize>();
        SizeHint::with_exact(bytes as u64)
    }
}

fn request(content_type: &'static str) -> Request<()> {
    Request::get("/").header(header::CONTENT_TYPE, content_type).body(()).unwrap()
}

fn response<B>(content_type: &'static str, body: B) -> Response<B> {
    Response::builder().header(header::CONTENT_TYPE, content_type).body(body).unwrap()
}

/// Lets a body run through the layer.
async fn run(layer: TimeoutLayer, content_type: &'static str, body: Slow) -> Ran {
    let body = std::sync::Mutex::new(Some(body));
    let inner = service_fn(|_: Request<()>| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok::<_, Infallible>(response(content_type, body)) }
    });
    let start = Instant::now();
    let mut body = pin!(layer.layer(inner).oneshot(request(content_type)).await.unwrap().into_body());
    let mut ran = Ran::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) if frame.is_trailers() => ran.trailers = frame.into_trailers().ok(),
            Ok(_) => ran.frames += 1,
            Err(error) => ran.error = Some(error),
        }
    }
    assert!(ran.error.is_none() || body.is_end_stream());
    ran.took = start.elapsed();
    ran
}

#[derive(Default)]
struct Ran {
    frames: usize,
    trailers: Option<HeaderMap>,
    error: Option<BoxError>,
    took: Duration,
}

impl Ran {
    fn reason(&self) -> Option<Reason> {
        self.error.as_ref().and_then(|error| Rejection::find(&**error)).map(Rejection::reason)
    }
}
