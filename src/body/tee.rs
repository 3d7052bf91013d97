use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use thiserror::Error;

use super::{Body, BoxError, ahead::Ahead};

/// Lets others read what the reader of `body` reads: a copy for each of `most`, which may be so many bytes behind.
///
/// The first sees nothing of it: it reads as fast as it likes, and what it does not read nobody reads. A copy whose reader
/// falls further behind is lost, and so is one of a body that the first does not read to its end.
pub(crate) fn tee(body: Body, most: impl IntoIterator<Item = usize>) -> (Body, Vec<Copied>) {
    let mut lines = Vec::new();
    let copy = |most| {
        if let Some(copy) = body.try_clone() {
            return Copied { body: copy, fate: Fate(None) };
        }
        let line = Arc::new(Mutex::new(Line { most, hint: body.size_hint(), ..Line::default() }));
        lines.push(Arc::clone(&line));
        Copied { body: Body::new(Reader(Arc::clone(&line))), fate: Fate(Some(line)) }
    };
    let copies = most.into_iter().map(copy).collect();
    let first = if lines.is_empty() { body } else { Body::new(Tee { source: body, lines }) };
    (first, copies)
}

/// A copy of a body that somebody else reads.
pub(crate) struct Copied {
    pub(crate) body: Body,
    pub(crate) fate: Fate,
}

/// Tells when a copy is lost.
pub(crate) struct Fate(Option<Arc<Mutex<Line>>>);

/// Why a copy is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Lost {
    /// Its reader was too slow.
    #[error("the copy of a body fell behind")]
    Behind,
    /// The body broke off, or its reader did not want all of it.
    #[error("the body that this is a copy of was not read to its end")]
    Cut,
}

impl Fate {
    /// Ready when the copy is lost. It knows of one who waits.
    pub(crate) fn poll_lost(&self, cx: &Context<'_>) -> Poll<Lost> {
        let Some(line) = &self.0 else { return Poll::Pending };
        let mut line = lock(line);
        match line.lost {
            Some(lost) => Poll::Ready(lost),
            None => {
                line.watcher = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What one reader is ahead of the other.
#[derive(Default)]
struct Line {
    ahead: Ahead,
    /// How much is in there.
    bytes: usize,
    most: usize,
    /// How long the body was said to be.
    hint: SizeHint,
    /// How many bytes the copy has given.
    given: u64,
    ended: bool,
    /// Nobody reads the copy any more.
    gone: bool,
    lost: Option<Lost>,
    reader: Option<Waker>,
    watcher: Option<Waker>,
}

impl Line {
    /// `false`: nobody will read it.
    fn push(&mut self, frame: Frame<Bytes>) -> bool {
        if self.gone || self.lost.is_some() {
            return false;
        }
        self.bytes += size(&frame);
        if self.bytes > self.most {
            self.lose(Lost::Behind);
            return false;
        }
        self.ahead.push(frame);
        true
    }

    fn lose(&mut self, why: Lost) {
        self.lost = Some(why);
        self.let_go();
    }

    fn let_go(&mut self) {
        (self.ahead, self.bytes) = (Ahead::default(), 0);
    }

    /// Those who are to look again.
    fn wakers(&mut self) -> [Option<Waker>; 2] {
        let watcher = if self.lost.is_some() { self.watcher.take() } else { None };
        [self.reader.take(), watcher]
    }
}

fn size(frame: &Frame<Bytes>) -> usize {
    let of_fields =
        |fields: &HeaderMap| fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    frame.data_ref().map(Bytes::len).or_else(|| frame.trailers_ref().map(of_fields)).unwrap_or_default()
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with a line, and wakes who waits for that; not under the lock, since they may look at once.
fn change<T>(line: &Mutex<Line>, how: impl FnOnce(&mut Line) -> T) -> T {
    let mut line = lock(line);
    let done = how(&mut line);
    let wakers = line.wakers();
    drop(line);
    wakers.into_iter().flatten().for_each(Waker::wake);
    done
}

/// The body of the first reader.
struct Tee {
    source: Body,
    lines: Vec<Arc<Mutex<Line>>>,
}

impl Tee {
    fn end(&mut self) {
        for line in self.lines.drain(..) {
            change(&line, |line| line.ended = true);
        }
    }

    fn cut(&mut self) {
        for line in self.lines.drain(..) {
            change(&line, |line| line.lose(Lost::Cut));
        }
    }

    fn is_read(&self) -> bool {
        self.source.is_end_stream() || self.source.size_hint().exact() == Some(0)
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        match &frame {
            None => self.end(),
            Some(Err(_)) => self.cut(),
            Some(Ok(frame)) => {
                self.lines
                    .retain(|line| copy(frame).is_none_or(|frame| change(line, |line| line.push(frame))));
                if frame.is_trailers() || self.source.is_end_stream() {
                    self.end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Drop for Tee {
    /// Who knows a body's length does not ask for its end.
    fn drop(&mut self) {
        if self.is_read() { self.end() } else { self.cut() }
    }
}

fn copy(frame: &Frame<Bytes>) -> Option<Frame<Bytes>> {
    let data = || frame.data_ref().cloned().map(Frame::data);
    data().or_else(|| frame.trailers_ref().cloned().map(Frame::trailers))
}

/// The body of another.
struct Reader(Arc<Mutex<Line>>);

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut line = lock(&self.0);
        if let Some(lost) = line.lost {
            return Poll::Ready(Some(Err(lost.into())));
        }
        if let Some(frame) = line.ahead.pop() {
            line.bytes = line.bytes.saturating_sub(size(&frame));
            line.given += frame.data_ref().map_or(0, |data| data.len() as u64);
            return Poll::Ready(Some(Ok(frame)));
        }
        if line.ended {
            return Poll::Ready(None);
        }
        line.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let line = lock(&self.0);
        line.ended && line.lost.is_none() && line.ahead.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let line = lock(&self.0);
        let mut hint = SizeHint::new();
        // The upper bound first: it may not be below the other.
        if let Some(upper) = line.hint.upper() {
            hint.set_upper(upper.saturating_sub(line.given));
        }
        hint.set_lower(line.hint.lower().saturating_sub(line.given));
        hint
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        line.gone = true;
        line.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::script::{Channel, Script, Step};
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use tokio_test::{assert_pending, assert_ready, task};

    const TEXTS: [&str; 4] = ["a", "bcd", "efghijk", "lmnopqrstuvwxyz"];

    fn one(body: Body, most: usize) -> (Body, Copied) {
        let (first, mut copies) = tee(body, [most]);
        (first, copies.remove(0))
    }

    fn lost(fate: &Fate) -> Option<Lost> {
        match fate.poll_lost(&Context::from_waker(Waker::noop())) {
            Poll::Ready(lost) => Some(lost),
            Poll::Pending => None,
        }
    }

    /// Polls `body` once; what of it came.
    fn poll(body: &mut Body) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn bytes_at_hand_are_there_for_both_at_once() {
        let (first, copied) = one(Body::from("text"), 0);
        assert_eq!(copied.body.collect().await.unwrap().to_bytes(), "text");
        assert_eq!(first.collect().await.unwrap().to_bytes(), "text");
        assert_eq!(lost(&copied.fate), None);
    }

    #[tokio::test]
    async fn the_copy_has_trailers_too() {
        let script = Script::new([Step::Data("text"), Step::Pending, Step::Trailers("0")]);
        let (first, copied) = one(Body::new(script), 100);
        assert_eq!(first.size_hint().exact(), copied.body.size_hint().exact());
        let first = first.collect().await.unwrap();
        let second = copied.body.collect().await.unwrap();
        for read in [first, second] {
            assert_eq!(read.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(read.to_bytes(), "text");
        }
    }

    #[test]
    fn a_copy_that_falls_behind_is_lost_and_the_first_goes_on() {
        let script = Script::new([Step::Data("bcd"), Step::Data("bcd"), Step::Data("a")]);
        let (mut first, copied) = one(Body::new(script), 5);
        let mut watch = task::spawn(std::future::poll_fn(|cx| copied.fate.poll_lost(cx)));
        assert_pending!(watch.poll());
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Ok(_)))));
        assert!(!watch.is_woken());
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Ok(_)))));
        assert!(watch.is_woken());
        assert_eq!(assert_ready!(watch.poll()), Lost::Behind);
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Ok(_)))));
        let mut body = copied.body;
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
        assert!(!body.is_end_stream());
    }

    #[test]
    fn what_the_first_does_not_read_nobody_reads() {
        let (first, copied) = one(Body::new(Script::new([Step::Data("a"), Step::Data("a")]).untold()), 5);
        drop(first);
        assert_eq!(lost(&copied.fate), Some(Lost::Cut));
        let (mut first, copied) = one(Body::new(Script::new([Step::Data("a"), Step::Fail])), 5);
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Ok(_)))));
        assert_eq!(lost(&copied.fate), None);
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Err(_)))));
        assert_eq!(lost(&copied.fate), Some(Lost::Cut));
    }

    /// As a server does that has read as much as `Content-Length` says.
    #[test]
    fn who_knows_the_length_need_not_ask_for_the_end() {
        let (mut first, copied) = one(Body::new(Script::new([Step::Data("a"), Step::End])), 5);
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Ok(_)))));
        drop(first);
        assert_eq!(lost(&copied.fate), None);
        let mut body = copied.body;
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
    }

    #[test]
    fn a_copy_that_nobody_reads_holds_nothing() {
        let (send, receive) = tokio::sync::mpsc::unbounded_channel();
        let (mut first, copied) = one(Body::new(Channel(receive)), 1_000);
        let line = Arc::clone(copied.fate.0.as_ref().unwrap());
        send.send("text").unwrap();
        assert!(poll(&mut first).is_ready());
        assert_eq!(lock(&line).bytes, 4);
        drop(copied.body);
        assert_eq!(lock(&line).bytes, 0);
        send.send("text").unwrap();
        assert!(poll(&mut first).is_ready());
        assert_eq!(lock(&line).bytes, 0);
    }

    proptest! {
        /// However the two take turns: the first has every byte, and so has the copy, unless it is lost.
        #[test]
        fn both_have_all_bytes_in_order(
            texts in prop::collection::vec(prop::sample::select(&TEXTS[..]), 0..20),
            turns in prop::collection::vec(any::<bool>(), 0..60),
            most in 0_usize..60,
        ) {
            let whole = texts.concat();
            let script = Script::new(texts.into_iter().map(Step::Data).chain([Step::Trailers("0")]));
            let (mut first, mut copied) = one(Body::new(script), most);
            let (mut ours, mut theirs) = (Read::default(), Read::default());
            let rest = std::iter::repeat_n(true, 30).chain(std::iter::repeat_n(false, 60));
            for of_first in turns.into_iter().chain(rest) {
                if of_first { ours.poll(&mut first) } else { theirs.poll(&mut copied.body) }
                let line = copied.fate.0.as_ref().map(|line| lock(line).bytes).unwrap_or_default();
                prop_assert!(line <= most);
            }
            prop_assert_eq!((&ours.text, ours.trailers, ours.failed), (&whole, true, false));
            match lost(&copied.fate) {
                None => prop_assert_eq!((&theirs.text, theirs.trailers, theirs.failed), (&whole, true, false)),
                Some(lost) => {
                    prop_assert_eq!(lost, Lost::Behind);
                    prop_assert!(whole.starts_with(&theirs.text) && theirs.failed && !theirs.trailers);
                }
            }
        }
    }

    #[derive(Default)]
    struct Read {
        text: String,
        trailers: bool,
        failed: bool,
    }

    impl Read {
        fn poll(&mut self, body: &mut Body) {
            match poll(body) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.text.push_str(std::str::from_utf8(&data).unwrap()),
                    Err(_) => self.trailers = true,
                },
                Poll::Ready(Some(Err(_))) => self.failed = true,
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
    }
}
