//! What HTTP/2 peers may spend on frames that carry nothing.
//!
//! `h2` bounds memory under floods of PING, SETTINGS, RST_STREAM and empty DATA, by answering at the pace at which
//! the peer reads. It does not bound the work: a peer may open and reset streams, or ping, as fast as its line
//! allows (CVE-2023-44487 and its like). [`Allowance`] follows the frames as they come in and says when it is enough.

use std::time::Duration;

use tokio::time::Instant;

/// Lengths of the preface and of a frame's head, and what is read of it (RFC 9113 sections 3.4, 4.1 and 6).
const PREFACE: usize = 24;
const HEAD: usize = 9;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const CONTINUATION: u8 = 0x9;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a connection may have saved up.
const SAVED: u32 = 1_000;
/// What it is given each second.
const INCOME: u32 = 100;
/// A frame that carries nothing.
const CONTROL: u32 = 1;
/// A stream taken back.
const RESET: u32 = 4;
/// Earned by a new stream.
const STREAM: u32 = 2;
/// Bytes of answers that earn 1.
const ANSWER: usize = 32;

/// The peer spent more than it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many HTTP/2 control frames")]
pub(super) struct Flood;

/// The account of one connection.
///
/// It starts with 1,000 and never holds more. A control frame (PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
/// CONTINUATION, unknown, empty DATA) costs 1, a reset costs 4. A new stream earns 2, 32 bytes of answers earn 1,
/// a second earns 100. So an honest peer, however busy, never runs out, and 500 streams opened and reset in a row do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    balance: u32,
    settled: Instant,
    /// Bytes of the preface or of a frame's payload that are still to come.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    /// The last frame was of a request's head, and its end was not announced.
    block_open: bool,
    /// The highest stream of which a head has begun.
    stream: u32,
    /// The last block is of the head of a new stream, and of so many bytes.
    opening: Option<usize>,
    opened: usize,
    largest: usize,
    /// Bytes that HTTP/2 itself owes for what the peer sent, and that answer no request.
    owed: usize,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            balance: SAVED,
            settled: now,
            skip: PREFACE,
            head: [0; HEAD],
            filled: 0,
            block_open: false,
            stream: 0,
            opening: None,
            opened: 0,
            largest: 0,
            owed: 0,
        }
    }

    /// Whether a part of a request's head has come.
    pub(super) const fn has_partial_head(&self) -> bool {
        self.block_open || (self.skip > 0 && matches!(self.head[3], HEADERS | CONTINUATION))
    }

    /// How many streams have been opened by a whole head, and the bytes of the largest head since they were forgotten.
    pub(super) const fn heads(&self) -> (usize, usize) {
        (self.opened, self.largest)
    }

    pub(super) const fn forget_heads(&mut self) {
        self.largest = 0;
    }

    /// Follows what the peer sent. `now` is asked for only when the account is used up.
    ///
    /// # Errors
    /// [`Flood`] when the account is overdrawn.
    pub(super) fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            self.head_ended();
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                self.filled = 0;
                self.frame(&now)?;
                self.head_ended();
            }
        }
        Ok(())
    }

    /// Counts the head of a new stream, once all of it has come.
    fn head_ended(&mut self) {
        if self.skip == 0
            && !self.block_open
            && let Some(bytes) = self.opening.take()
        {
            self.opened = self.opened.wrapping_add(1);
            self.largest = self.largest.max(bytes);
        }
    }

    /// Counts what was sent to the peer, and tells how much of it was not merely owed.
    pub(super) fn sent(&mut self, bytes: usize) -> usize {
        self.earn(u32::try_from(bytes / ANSWER).unwrap_or(SAVED));
        let owed = self.owed.min(bytes);
        self.owed -= owed;
        bytes - owed
    }

    fn frame(&mut self, now: &impl Fn() -> Instant) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.block_open = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        if matches!(kind, PING | SETTINGS) && flags & ACK == 0 {
            self.owed = self.owed.saturating_add(HEAD + if kind == PING { self.skip } else { 0 });
        }
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => Ok(()),
            HEADERS => {
                self.opens();
                self.earn(STREAM);
                Ok(())
            }
            RST_STREAM => self.spend(RESET, now),
            CONTINUATION => {
                self.opening = self.opening.map(|bytes| bytes.saturating_add(self.skip));
                self.spend(CONTROL, now)
            }
            _ => self.spend(CONTROL, now),
        }
    }

    /// A block of fields has begun: of a new stream, or the trailers of one that is open.
    fn opens(&mut self) {
        let [.., a, b, c, d] = self.head;
        let stream = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        self.opening = (stream > self.stream).then_some(self.skip);
        self.stream = self.stream.max(stream);
    }

    fn earn(&mut self, amount: u32) {
        self.balance = self.balance.saturating_add(amount).min(SAVED);
    }

    fn spend(&mut self, amount: u32, now: &impl Fn() -> Instant) -> Result<(), Flood> {
        if self.balance < amount {
            self.settle(now());
        }
        self.balance = self.balance.checked_sub(amount).ok_or(Flood)?;
        Ok(())
    }

    fn settle(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.settled).min(Duration::from_secs(60));
        let income = since.as_millis() as u32 * INCOME / 1_000;
        if income > 0 {
            self.settled = now;
            self.earn(income);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0xff; payload]].concat()
    }

    fn opened(now: Instant) -> Allowance {
        let mut allowance = Allowance::new(now);
        allowance.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now).unwrap();
        allowance
    }

    fn endured(frames: &[Vec<u8>], answer: usize) -> usize {
        let now = Instant::now();
        let mut allowance = opened(now);
        (0..1_000_000)
            .find(|_| {
                let flood = frames.iter().any(|frame| allowance.received(frame, || now).is_err());
                allowance.sent(answer);
                flood
            })
            .unwrap_or(usize::MAX)
    }

    #[test]
    fn floods_are_cut_off() {
        assert_eq!(endured(&[frame(0x6, 0, 8)], 0), 1_000, "PING");
        assert_eq!(endured(&[frame(0x4, 0, 0)], 9), 1_000, "SETTINGS and its answer");
        assert_eq!(endured(&[frame(0x0, 0, 0)], 0), 1_000, "empty DATA");
        assert_eq!(endured(&[frame(0x9, 0, 0)], 0), 1_000, "CONTINUATION");
        assert_eq!(endured(&[frame(0x1, 5, 20), frame(0x3, 0, 4)], 0), 499, "rapid reset");
    }

    #[test]
    fn honest_peers_are_not() {
        assert_eq!(endured(&[frame(0x1, 5, 20), frame(0x6, 0, 8)], 60), usize::MAX, "pings beside requests");
        assert_eq!(endured(&[frame(0x8, 0, 4)], 1_024), usize::MAX, "windows for what was sent");
        assert_eq!(endured(&[frame(0x0, 0, 1)], 0), usize::MAX, "small data is the business of h2");
        let resets = [frame(0x1, 5, 20), frame(0x1, 5, 20), frame(0x3, 0, 4)];
        assert_eq!(endured(&resets, 0), usize::MAX, "every second stream taken back");
    }

    #[test]
    fn heads_are_followed() {
        let now = Instant::now();
        let mut allowance = opened(now);
        let mut after = |bytes: &[u8]| {
            allowance.received(bytes, || now).unwrap();
            allowance.has_partial_head()
        };
        let whole = frame(HEADERS, END_HEADERS, 20);
        assert!(after(&whole[..10]) && !after(&whole[10..]));
        assert!(after(&frame(HEADERS, 0, 20)) && after(&frame(CONTINUATION, 0, 20)));
        assert!(!after(&frame(CONTINUATION, END_HEADERS, 0)));
        assert!(!after(&frame(DATA, 0, 20)[..10]));
    }

    #[test]
    fn heads_of_new_streams_are_counted_once_they_are_whole() {
        let now = Instant::now();
        let mut allowance = opened(now);
        let mut after = |stream: u8, bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[8] = stream;
            allowance.received(&bytes, || now).unwrap();
            allowance.heads()
        };
        assert_eq!(after(1, &frame(HEADERS, END_HEADERS, 20)), (1, 20));
        assert_eq!(after(1, &frame(HEADERS, END_HEADERS | END_STREAM, 30)), (1, 20), "trailers");
        assert_eq!(after(3, &frame(HEADERS, 0, 40)), (1, 20), "not whole");
        assert_eq!(after(3, &frame(CONTINUATION, 0, 5)), (1, 20));
        assert_eq!(after(3, &frame(CONTINUATION, END_HEADERS, 5)), (2, 50));
        assert_eq!(after(5, &frame(HEADERS, END_HEADERS, 0)), (3, 50), "an empty one");
        assert_eq!(after(1, &frame(HEADERS, END_HEADERS, 9)), (3, 50), "of before");
        assert_eq!(after(7, &frame(DATA, 0, 9)), (3, 50));
        allowance.forget_heads();
        assert_eq!(allowance.heads(), (3, 0));
    }

    #[test]
    fn time_earns() {
        let start = Instant::now();
        let mut allowance = opened(start);
        let ping = frame(0x6, 0, 8);
        for second in 0..1_000 {
            for _ in 0..100 {
                allowance.received(&ping, || start + Duration::from_secs(second)).unwrap();
            }
        }
        let late = start + Duration::from_secs(1_000_000);
        let endured = (0..10_000).take_while(|_| allowance.received(&ping, || late).is_ok()).count();
        assert_eq!(endured, 1_000, "what is saved up is bounded");
    }

    proptest! {
        #[test]
        fn segments_do_not_matter(
            frames in proptest::collection::vec((0_u8..12, any::<u8>(), 0_usize..300), 1..400),
            cuts in proptest::collection::vec(1_usize..700, 1..50),
        ) {
            let now = Instant::now();
            let stream: Vec<u8> = frames.iter().flat_map(|&(kind, flags, payload)| frame(kind, flags, payload)).collect();
            let mut whole = opened(now);
            let at_once = whole.received(&stream, || now);
            let mut pieces = opened(now);
            let (mut rest, mut cuts, mut in_pieces) = (&stream[..], cuts.iter().cycle(), Ok(()));
            while !rest.is_empty() && in_pieces.is_ok() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                in_pieces = pieces.received(piece, || now);
                rest = later;
            }
            prop_assert_eq!(at_once, in_pieces);
            prop_assert_eq!(whole.balance, pieces.balance);
            prop_assert_eq!(whole.heads(), pieces.heads());
        }
    }
}
