//! Heads that become no request: what is answered, and who hears of it.

use std::{
    error::Error,
    fmt::Write as _,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Response;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    builder::Limits,
    connection::Ended,
    guard::{Guard, is_head},
    vitals::Vitals,
};
use crate::{
    identity::PeerAddr,
    reject::{Protocol, Reason, Rejection},
    transport::{Misuse, listener::Observer},
};

/// A head of HTTP/2 that h2 refuses is too large if it takes this part of the limit on the wire: compression makes it smaller, and
/// those that are malformed are seldom as large.
const LARGE: usize = 8;

/// The heads of one connection.
pub(super) struct Heads {
    observer: Observer,
    peer: PeerAddr,
    vitals: Arc<Vitals>,
    limits: Arc<Limits>,
    /// Requests that had begun, when it was last looked at.
    begun: usize,
    /// Heads of HTTP/2 that became no request, and of which that was told.
    told: usize,
}

impl Heads {
    pub(super) const fn new(
        observer: Observer,
        peer: PeerAddr,
        vitals: Arc<Vitals>,
        limits: Arc<Limits>,
    ) -> Self {
        Self { observer, peer, vitals, limits, begun: 0, told: 0 }
    }

    /// After hyper has done what it could: tells of heads that h2 has refused by itself, and does not tell of.
    ///
    /// Once there is nothing more to read, each stream that was opened has become a request, or was refused. Who was told to
    /// go (`leaving`) may not have heard of it yet: what it opens is ignored, and it knows that it may open it elsewhere.
    pub(super) fn look(&mut self, leaving: bool) {
        if !self.vitals.is_h2 {
            return;
        }
        self.vitals.heard_out.store(self.vitals.read_all.load(Relaxed), Relaxed);
        let begun = self.vitals.begun.load(Relaxed);
        let refused = self.refused(begun);
        if refused == 0 || !self.vitals.read_all.load(Relaxed) {
            return;
        }
        self.told = self.told.wrapping_add(refused);
        let fresh = begun.wrapping_sub(std::mem::replace(&mut self.begun, begun));
        if leaving {
            return;
        }
        // Those that have ended by now were among the streams that were open.
        let open = self.vitals.in_flight.load(Relaxed).saturating_add(fresh);
        let reason = match open >= self.limits.streams as usize {
            true => Reason::Overloaded,
            false => self.why_refused(),
        };
        for _ in 0..refused {
            self.observer.tell(|observer| observer.head_refused(self.peer, reason));
        }
    }

    /// Heads that have come and became no request, beside those that were told.
    fn refused(&self, begun: usize) -> usize {
        let refused = self.vitals.opened.load(Relaxed).wrapping_sub(begun).wrapping_sub(self.told);
        // Should they ever be counted otherwise than h2 does, it is a line too few.
        refused.cast_signed().max(0).cast_unsigned()
    }

    fn why_refused(&self) -> Reason {
        let is_large = self.vitals.largest_head.load(Relaxed) >= self.limits.head_bytes as usize / LARGE;
        if is_large { Reason::HeadTooLarge } else { Reason::BadRequest }
    }

    /// The connection has ended: tells of it if its peer has misused it. What is to be answered to a head of HTTP/1 that it ended
    /// with, if anything.
    pub(super) fn end(&self, ended: &Ended) -> Option<Response<Bytes>> {
        match self.fault(ended)? {
            Fault::Misuse(how) => {
                self.observer.tell(|observer| observer.cut(self.peer, how));
                None
            }
            Fault::Head { reason, is_answered: false } => {
                self.observer.tell(|observer| observer.head_refused(self.peer, reason));
                None
            }
            Fault::Head { reason, is_answered: true } => {
                Some(self.observer.answering(self.peer, Rejection::new(reason)).into_response(Protocol::Http))
            }
        }
    }

    fn fault(&self, ended: &Ended) -> Option<Fault> {
        let vitals = &*self.vitals;
        let head = |reason, is_answered| Some(Fault::Head { reason, is_answered });
        match ended {
            Ended::Stalled => Some(Fault::Misuse(Misuse::SlowReader)),
            Ended::HeadLate => head(Reason::RequestTimeout, vitals.is_quiet()),
            Ended::Itself(Err(_)) if vitals.flooded.load(Relaxed) => Some(Fault::Misuse(Misuse::Flood)),
            Ended::Itself(Err(error)) if vitals.is_h2 => self.fault_of_h2(error),
            Ended::Itself(Err(error)) if error.is_parse_too_large() => {
                head(Reason::HeadTooLarge, vitals.held_back.load(Relaxed))
            }
            // To these hyper says nothing.
            Ended::Itself(Err(error)) if error.is_parse_version_h2() => {
                head(Reason::BadRequest, vitals.is_quiet())
            }
            Ended::Itself(Err(error)) if error.is_parse() => {
                head(Reason::BadRequest, vitals.held_back.load(Relaxed))
            }
            // It has broken off. Its peer may still read.
            Ended::Itself(Err(error)) if error.is_incomplete_message() && vitals.is_quiet() => {
                head(Reason::BadRequest, true)
            }
            Ended::Cut | Ended::Itself(_) => None,
        }
    }

    /// What h2 ends a connection for: a head that it cannot read, or frames that make no sense.
    fn fault_of_h2(&self, error: &hyper::Error) -> Option<Fault> {
        let error = error.source()?.downcast_ref::<h2::Error>()?;
        if !(error.is_go_away() && error.is_library()) {
            return None;
        }
        let is_open = self.vitals.block_open.load(Relaxed);
        let is_of_head = is_open || self.refused(self.vitals.begun.load(Relaxed)) > 0;
        let (is_calm, why) = (error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM), self.why_refused());
        Some(match why {
            // Too large by far, in one frame or in many; else too many streams were taken back.
            _ if is_calm && is_open => Fault::unanswered(Reason::HeadTooLarge),
            Reason::BadRequest if is_calm => Fault::Misuse(Misuse::Flood),
            _ if is_of_head => Fault::unanswered(why),
            _ if is_calm => Fault::Misuse(Misuse::Flood),
            _ => Fault::Misuse(Misuse::Protocol),
        })
    }

    /// Writes what is to be answered to the head that `came`, and closes.
    pub(super) async fn answer<I>(&self, io: &mut Guard<I>, came: &[u8], response: Response<Bytes>)
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        self.vitals.speak();
        // hyper may have taken it off its buffer before it refused it.
        let text = text(response, self.vitals.asks_head.load(Relaxed) || is_head(came));
        let write = async { io.write_all(&text).await.and(io.flush().await) };
        // It may not have read all of what was answered before.
        if let Ok(Ok(())) = timeout(self.limits.busy_look().max(self.limits.close_timeout), write).await {
            let _ = timeout(self.limits.close_timeout, io.shutdown()).await;
        }
    }
}

/// What a peer has done.
enum Fault {
    Head { reason: Reason, is_answered: bool },
    Misuse(Misuse),
}

impl Fault {
    const fn unanswered(reason: Reason) -> Self {
        Self::Head { reason, is_answered: false }
    }
}

/// An answer of HTTP/1 after which the connection is closed. To HEAD it has no body.
fn text(response: Response<Bytes>, is_head: bool) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let status = head.status;
    let mut text = String::with_capacity(512);
    // Writing into a string does not fail.
    let _ = write!(
        text,
        "HTTP/1.1 {} {}\r\nconnection: close\r\ncontent-length: {}\r\ndate: {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        httpdate::fmt_http_date(now()),
    );
    let mut text = text.into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    if !is_head {
        text.extend_from_slice(&body);
    }
    text
}

/// As hyper does for all other answers; what no date can say is none.
fn now() -> SystemTime {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    SystemTime::now().clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(came: &[u8]) -> String {
        let response = Rejection::new(Reason::BadRequest).into_response(Protocol::Http);
        String::from_utf8(text(response, is_head(came))).unwrap()
    }

    #[test]
    fn an_answer_is_the_tables_and_closes() {
        let answer = answer_to(b"GET / HTTP/1.1\r\nno field\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["status"], &body["reason"]), (&400.into(), &"bad_request".into()));
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 400 Bad Request");
        assert!(lines.contains(&"connection: close"), "{head}");
        assert!(lines.contains(&"content-type: application/problem+json"), "{head}");
        assert!(lines.iter().any(|line| line.starts_with("date: ") && line.ends_with(" GMT")), "{head}");
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        for came in [b"HEAD / HTTP/1.1\r\nno field\r\n\r\n".as_slice(), b"\r\nHEAD /"] {
            let answer = answer_to(came);
            assert!(answer.ends_with("\r\n\r\n") && answer.contains("content-length: "), "{answer}");
        }
        assert!(answer_to(b"HEADER / HTTP/1.1\r\n\r\n").ends_with('}'));
        assert!(answer_to(b"").ends_with('}'));
    }
}
