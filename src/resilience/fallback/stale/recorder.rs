use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use tokio::time::Instant;

use super::{
    Stale,
    ask::Read,
    recordings::Recording,
    store::{Kept, weight},
};
use crate::{freshness::age, time::after};

/// Header fields that were about that exchange.
const OF_ITS_TIME: [HeaderName; 4] =
    [header::AGE, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// What an answer takes while it is recorded, beside its head and body.
const OVERHEAD: usize = size_of::<Answer>() + 256;

/// Takes down a body as it streams, in one piece of memory that is no larger than it has to be: a frame that was kept would keep
/// the whole buffer that it was read into.
pub(in crate::resilience::fallback) struct Recorder {
    stale: Stale,
    recording: Option<Recording<Answer>>,
    len: usize,
    /// How long the body may become before there has to be more room.
    room: usize,
    /// By `Content-Length`. Where that is reached the body has ended: a server does not ask for more.
    told: Option<usize>,
    kept: bool,
}

/// What is recorded.
pub(super) struct Answer {
    read: Read,
    headers: HeaderMap,
    age: Duration,
    until: Instant,
    body: Vec<u8>,
}

impl Recorder {
    /// `None`: it says that it is too long.
    pub(super) fn begin(stale: &Stale, read: Read, headers: &HeaderMap, left: Duration) -> Option<Self> {
        let told = headers.get(header::CONTENT_LENGTH).map(|told| told.to_str().ok()?.parse::<usize>().ok());
        let told = told.map(Option::unwrap_or_default);
        let mut recorder = Self { stale: stale.clone(), recording: None, len: 0, room: 0, told, kept: false };
        if told.is_some_and(|told| told > recorder.most()) {
            return None;
        }
        let (bytes, now) = (OVERHEAD + weight(headers) + read.key.len(), Instant::now());
        let until = after(read.asked, left);
        let answer = Answer { read, headers: owned(headers), age: age(headers), until, body: Vec::new() };
        recorder.recording = Some(stale.store.recordings.begin(answer, bytes, now)?);
        Some(recorder)
    }

    fn most(&self) -> usize {
        self.stale.max_body.min(self.stale.store.recordings.most())
    }

    /// Sees the next frame, or that there is none, and whether it was the last. Gives itself back while there is more to come.
    pub(in crate::resilience::fallback) fn see<E>(
        mut self: Box<Self>,
        frame: Option<&Result<Frame<Bytes>, E>>,
        is_last: bool,
    ) -> Option<Box<Self>> {
        let is_last = match frame {
            None => true,
            Some(frame) => {
                self.push(frame.as_ref().ok()?.data_ref()?)?;
                is_last || self.told == Some(self.len)
            }
        };
        if is_last {
            self.keep();
            return None;
        }
        Some(self)
    }

    /// `None`: it is too long, or there is no room for it.
    fn push(&mut self, data: &[u8]) -> Option<()> {
        let (len, most) = (self.len.saturating_add(data.len()), self.told.unwrap_or_else(|| self.most()));
        if len > most {
            return None;
        }
        let recording = self.recording.as_ref()?;
        if len > self.room {
            let room = len.next_power_of_two().min(most);
            recording.grow(room - self.room, Instant::now()).then_some(())?;
            self.room = room;
        }
        self.len = len;
        recording.draft.change(|answer| {
            answer.body.reserve_exact(self.room - answer.body.len());
            answer.body.extend_from_slice(data);
        })
    }

    fn keep(&mut self) {
        let is_whole = self.told.is_none_or(|told| told == self.len);
        let recording = self.recording.as_ref().filter(|_| is_whole);
        let Some(answer) = recording.and_then(|recording| recording.draft.take()) else { return };
        let Answer { read, headers, age, until, body } = answer;
        let body = Bytes::from(body.into_boxed_slice());
        self.kept = self.stale.store.keep(&read, Kept { headers, body, age, asked: read.asked }, until);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stale.store.count(self.kept);
    }
}

/// A copy that shares no memory with what was read from the connection.
fn owned(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.keys_len() + 2);
    for (name, value) in headers.iter().filter(|(name, _)| !OF_ITS_TIME.contains(name)) {
        if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
            own.set_sensitive(value.is_sensitive());
            copy.append(name.clone(), own);
        }
    }
    copy
}
