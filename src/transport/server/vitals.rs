use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    transport::Drain,
    tunnel::{Tunnel, TunnelGuard},
};

/// What goes on on one connection: kept by its IO, its requests and their bodies, read by its [`Pulse`].
///
/// Everything is a hint for time limits, so `Relaxed` is enough. What only the connection's task writes is stored
/// without a read-modify-write.
///
/// [`Pulse`]: super::pulse::Pulse
#[derive(Debug)]
pub(super) struct Vitals {
    pub(super) drain: Drain,
    pub(super) is_h2: bool,
    /// Requests whose response body has not ended.
    pub(super) in_flight: AtomicUsize,
    /// Requests begun.
    pub(super) begun: AtomicUsize,
    /// Bytes read and written, counted around. What HTTP/2 itself owes the peer (the answers to PING and SETTINGS) does
    /// not count as written.
    pub(super) read: AtomicUsize,
    pub(super) wrote: AtomicUsize,
    /// `read`, when a request last began or ended: what is beyond it belongs to the next head.
    mark: AtomicUsize,
    /// A part of an HTTP/2 head has come, and nothing else can come before its rest.
    pub(super) block_open: AtomicBool,
    /// HTTP/2 streams of which the whole head has come.
    pub(super) opened: AtomicUsize,
    /// The largest of their heads on the wire, of those that came since there was last nothing to read.
    pub(super) largest_head: AtomicUsize,
    /// There was nothing more to read.
    pub(super) read_all: AtomicBool,
    /// And what was read until then has been looked at.
    pub(super) heard_out: AtomicBool,
    /// No request is to come after the next one.
    pub(super) leaving: AtomicBool,
    /// The peer has sent more control frames than it may.
    pub(super) flooded: AtomicBool,
    /// The last write found the socket full.
    pub(super) blocked: AtomicBool,
    /// Response bodies that gave a frame and were not asked for the next.
    pub(super) waiting: AtomicUsize,
    /// The connection may have become a tunnel.
    pub(super) upgraded: AtomicBool,
    /// Our end is closed, and we wait for the peer's.
    pub(super) lingering: AtomicBool,
    /// We have waited long enough for that.
    pub(super) lingered: AtomicBool,
    /// Something of an answer may not have been written yet.
    spoke: AtomicBool,
    /// It speaks HTTP/2, or has become a tunnel.
    beyond: AtomicBool,
    /// The head that is on its way began with a read of its own, and asks for no body.
    pub(super) asks_head: AtomicBool,
    /// hyper has answered a head by itself, which is not written.
    pub(super) held_back: AtomicBool,
    tunnel: Mutex<Option<TunnelGuard>>,
}

impl Vitals {
    pub(super) fn new(drain: Drain, is_h2: bool) -> Arc<Self> {
        Arc::new(Self {
            drain,
            is_h2,
            in_flight: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            wrote: AtomicUsize::new(0),
            mark: AtomicUsize::new(0),
            block_open: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            largest_head: AtomicUsize::new(0),
            read_all: AtomicBool::new(false),
            heard_out: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            upgraded: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            lingered: AtomicBool::new(false),
            spoke: AtomicBool::new(is_h2),
            beyond: AtomicBool::new(is_h2),
            asks_head: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            tunnel: Mutex::new(None),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.begun.store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.mark.store(self.read.load(Relaxed), Relaxed);
        self.asks_head.store(false, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Whether a part of a head has come. For HTTP/1, while nothing is in flight.
    pub(super) fn has_partial_head(&self) -> bool {
        if self.is_h2 {
            self.block_open.load(Relaxed)
        } else {
            self.read.load(Relaxed) != self.mark.load(Relaxed)
        }
    }

    /// The bytes of a head of which a part has come: no fewer than there are.
    pub(super) fn head_bytes(&self) -> usize {
        self.read.load(Relaxed).wrapping_sub(self.mark.load(Relaxed))
    }

    /// Whether nothing but hyper itself can have something to write: HTTP/1, and all of what the service has answered is written.
    pub(super) fn is_quiet(&self) -> bool {
        !self.spoke.load(Relaxed) && self.in_flight.load(Relaxed) == 0
    }

    /// All is written that was given to hyper.
    pub(super) fn flushed(&self) {
        if self.spoke.load(Relaxed) && self.in_flight.load(Relaxed) == 0 && !self.beyond.load(Relaxed) {
            self.spoke.store(false, Relaxed);
        }
    }

    /// Nothing is held back any more.
    pub(super) fn speak(&self) {
        self.spoke.store(true, Relaxed);
        self.beyond.store(true, Relaxed);
        self.held_back.store(false, Relaxed);
    }

    /// A tunnel that is open until the connection's IO is dropped.
    pub(super) fn open_tunnel(&self) -> Tunnel {
        let (tunnel, guard) = Tunnel::new();
        self.upgraded.store(true, Relaxed);
        let before = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).replace(guard);
        drop(before);
        tunnel
    }

    /// The IO is gone.
    pub(super) fn close_tunnel(&self) {
        let guard = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
    }
}

/// A request in flight, until it is dropped.
pub(super) struct InFlight(Arc<Vitals>);

impl InFlight {
    pub(super) fn vitals(&self) -> &Vitals {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.mark.store(self.0.read.load(Relaxed), Relaxed);
        self.0.spoke.store(true, Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}
