use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use thiserror::Error;

use crate::body::{Body, BoxError};

/// Makes several bodies of one: each has all bytes, once and in order, and the trailers.
///
/// Nothing is read ahead. What one of the bodies reads is recorded, up to a cap, and the next begins with that and goes
/// on with what nobody has read yet, whether the first was read not at all, in part or to its end. Beyond the cap the
/// body that is being read goes on, what was recorded is let go, and there are no more bodies.
///
/// The memory that it takes is in proportion to the bytes that were read, into however many frames the peer has cut
/// them. A body that has all its bytes at hand is not recorded.
///
/// ```
/// use http_body_util::BodyExt;
/// use portcullis::body::{Body, Replay};
///
/// # tokio_test::block_on(async {
/// let replay = Replay::new(Body::from("hello"), 64 * 1024).unwrap();
/// for _ in 0..2 {
///     let body = replay.body().unwrap();
///     assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
/// }
/// # });
/// ```
pub struct Replay(Kind);

enum Kind {
    /// A body whose bytes are at hand.
    Whole(Body),
    Taped(Arc<Mutex<Tape>>),
}

/// What was read of a body, and the rest of it.
struct Tape {
    /// `None`: it has ended.
    source: Option<Body>,
    /// How many bytes have come.
    came: usize,
    /// All of them, unless they were let go.
    recorded: Vec<u8>,
    trailers: Option<HeaderMap>,
    most: usize,
    recording: Recording,
    readers: u32,
    /// Readers with a smaller number were given up.
    live: u32,
    /// Who waits for the source. It knows of the last one only.
    waiting: Vec<(u32, Waker)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    On,
    /// Nobody will read again: what is recorded is for the one reader that is left.
    Last,
    /// There was too much of it.
    Over,
    /// The body broke off.
    Broken,
}

impl Replay {
    /// Records up to `most` bytes of `body`.
    ///
    /// # Errors
    ///
    /// The body itself, if it says that it is longer.
    pub fn new(body: Body, most: usize) -> Result<Self, Body> {
        if let Some(copy) = body.try_clone() {
            return Ok(Self(Kind::Whole(copy)));
        }
        if usize::try_from(body.size_hint().lower()).map_or(true, |least| least > most) {
            return Err(body);
        }
        let tape = Tape {
            source: Some(body),
            came: 0,
            recorded: Vec::new(),
            trailers: None,
            most,
            recording: Recording::On,
            readers: 0,
            live: 0,
            waiting: Vec::new(),
        };
        Ok(Self(Kind::Taped(Arc::new(Mutex::new(tape)))))
    }

    /// Records a request's body and puts the first reader in its place. `None`, and the body is left as it is, if it says that
    /// it is longer than `most` bytes.
    #[must_use]
    pub fn of(body: &mut Body, most: usize) -> Option<Self> {
        match Self::new(mem::take(body), most) {
            Ok(replay) => {
                *body = replay.body()?;
                Some(replay)
            }
            Err(long) => {
                *body = long;
                None
            }
        }
    }

    /// The body from its beginning. `None`: it turned out to be too long, or it broke off.
    #[must_use]
    pub fn body(&self) -> Option<Body> {
        match &self.0 {
            Kind::Whole(body) => body.try_clone(),
            Kind::Taped(tape) => {
                let id = lock(tape).enter()?;
                Some(Body::new(Reader { tape: Arc::clone(tape), id, at: 0, told: false }))
            }
        }
    }

    /// Whether there is another [`body`](Self::body) to be had.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Kind::Whole(_) => true,
            Kind::Taped(tape) => lock(tape).recording == Recording::On,
        }
    }

    /// Whether all of it has come and is there, so that another [`body`](Self::body) waits for nobody.
    #[must_use]
    pub fn has_come(&self) -> bool {
        match &self.0 {
            Kind::Whole(_) => true,
            Kind::Taped(tape) => {
                let tape = lock(tape);
                tape.recording == Recording::On
                    && tape.source.as_ref().is_none_or(|source| source.is_end_stream())
            }
        }
    }

    /// Ends all bodies but the one that was made last with an error, so that whoever still sends one stops. `false`: it
    /// would have none of its bytes any more, and the others go on.
    #[must_use]
    pub fn give_up_older(&self) -> bool {
        let Kind::Taped(tape) = &self.0 else { return true };
        let mut tape = lock(tape);
        if tape.recording != Recording::On {
            return false;
        }
        tape.live = tape.readers.saturating_sub(1);
        let waiting = mem::take(&mut tape.waiting);
        drop(tape);
        wake(waiting, None);
        true
    }
}

impl Drop for Replay {
    /// Nothing more is recorded. At most one body is read to its end from here on.
    fn drop(&mut self) {
        if let Kind::Taped(tape) = &self.0 {
            let mut tape = lock(tape);
            if tape.recording == Recording::On {
                tape.recording = Recording::Last;
                // One alone has had all that has come, and may wait long for more.
                if tape.readers == 1 {
                    tape.recorded = Vec::new();
                }
            }
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("is_whole", &self.is_whole()).finish_non_exhaustive()
    }
}

/// Why a body ended that others read as well.
#[derive(Debug, Error)]
enum Gone {
    #[error("the request's body broke off")]
    BrokenOff,
    #[error("this attempt was given up")]
    GivenUp,
    #[error("the request's body is too long to be sent again")]
    TooLong,
}

impl Tape {
    /// The number of a further reader.
    fn enter(&mut self) -> Option<u32> {
        if self.recording != Recording::On {
            return None;
        }
        let id = self.readers;
        self.readers += 1;
        Some(id)
    }

    /// What `reader` has not had of what has come; empty if that is all.
    fn missed(&mut self, reader: &Reader) -> Result<Bytes, Gone> {
        if reader.id < self.live {
            return Err(Gone::GivenUp);
        }
        let missed = match self.recorded.get(reader.at..) {
            _ if reader.at == self.came => Bytes::new(),
            Some(missed) if self.recorded.len() == self.came => Bytes::copy_from_slice(missed),
            _ => return Err(Gone::TooLong),
        };
        if self.recording == Recording::Last {
            self.recorded = Vec::new();
        }
        Ok(missed)
    }

    fn record(&mut self, data: &[u8]) {
        self.came += data.len();
        if self.recording == Recording::On {
            match self.came <= self.most {
                true => self.recorded.extend_from_slice(data),
                false => self.stop(Recording::Over),
            }
        }
    }

    fn stop(&mut self, why: Recording) {
        self.recording = why;
        self.recorded = Vec::new();
    }

    /// The next data of the source; `None`: it has ended, and its trailers are known.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        match ready!(Pin::new(&mut *source).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    if source.is_end_stream() {
                        self.source = None;
                    }
                    self.record(&data);
                    Poll::Ready(Some(Ok(data)))
                }
                Err(other) => {
                    self.source = None;
                    self.trailers = other.into_trailers().ok();
                    let trailers = self.trailers.as_ref().map_or(0, size);
                    if self.recording == Recording::On && self.came.saturating_add(trailers) > self.most {
                        self.stop(Recording::Over);
                    }
                    Poll::Ready(None)
                }
            },
            Some(Err(error)) => {
                self.source = None;
                self.stop(Recording::Broken);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.source = None;
                Poll::Ready(None)
            }
        }
    }

    /// Gives back the waker whose place it takes.
    fn wait(&mut self, id: u32, waker: &Waker) -> Option<Waker> {
        match self.waiting.iter_mut().find(|(other, _)| *other == id) {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(mem::replace(known, waker.clone())),
            None => {
                self.waiting.push((id, waker.clone()));
                None
            }
        }
    }
}

fn size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes those who wait, but for `id`, who does not wait any more. Not under the lock: who is woken may look at once, and with
/// a waker that is dropped a task may go that has a reader of the same tape.
fn wake(waiting: Vec<(u32, Waker)>, id: Option<u32>) {
    let others = waiting.into_iter().filter(|(other, _)| Some(*other) != id);
    others.for_each(|(_, waker)| waker.wake());
}

/// One of the bodies.
struct Reader {
    tape: Arc<Mutex<Tape>>,
    id: u32,
    /// How many bytes it has had.
    at: usize,
    /// Whether it has had the trailers.
    told: bool,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut tape = lock(&this.tape);
        let missed = tape.missed(this)?;
        if !missed.is_empty() {
            this.at += missed.len();
            return Poll::Ready(Some(Ok(Frame::data(missed))));
        }
        if tape.recording == Recording::Broken {
            return Poll::Ready(Some(Err(Gone::BrokenOff.into())));
        }
        let Poll::Ready(next) = tape.poll_source(cx) else {
            let replaced = tape.wait(this.id, cx.waker());
            drop(tape);
            drop(replaced);
            return Poll::Pending;
        };
        this.at = tape.came;
        let frame = match next {
            Some(data) => Some(data.map(Frame::data)),
            None if this.told => None,
            None => {
                this.told = true;
                tape.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers)))
            }
        };
        let waiting = mem::take(&mut tape.waiting);
        drop(tape);
        wake(waiting, Some(this.id));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let tape = lock(&self.tape);
        let ended = match &tape.source {
            Some(source) => source.is_end_stream(),
            None => tape.recording != Recording::Broken && (self.told || tape.trailers.is_none()),
        };
        ended && self.at == tape.came && self.id >= tape.live
    }

    fn size_hint(&self) -> SizeHint {
        let tape = lock(&self.tape);
        let missed = (tape.came - self.at) as u64;
        let rest = tape.source.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint);
        let mut hint = SizeHint::new();
        // Trailers that are known need a message whose length is not: HTTP/1.1 has a place for them in chunks only.
        let upper = rest.upper().filter(|_| self.told || tape.trailers.is_none());
        // The upper bound first: it may not be below the other.
        if let Some(upper) = upper {
            hint.set_upper(upper.saturating_add(missed));
        }
        hint.set_lower(rest.lower().saturating_add(missed));
        hint
    }
}

impl Drop for Reader {
    /// The source may have been about to wake this one: the others ask it anew.
    fn drop(&mut self) {
        let waiting = mem::take(&mut lock(&self.tape).waiting);
        wake(waiting, Some(self.id));
    }
}
