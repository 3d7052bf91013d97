use std::{fmt, sync::Arc};

use crate::{
    identity::PeerAddr,
    reject::{Reason, Rejection},
};

/// Hears of a listener's connections, for metrics. It is called while connections are accepted: it must be quick.
pub trait ConnectionObserver: Send + Sync + 'static {
    /// One was accepted.
    fn opened(&self);
    /// One that was accepted has closed.
    fn closed(&self);
    /// One was turned away: a cap is reached.
    fn refused(&self);
    /// A head of this peer's became no request: malformed or broken off ([`Reason::BadRequest`]), too large
    /// ([`Reason::HeadTooLarge`]), too slow ([`Reason::RequestTimeout`]), or of a stream of HTTP/2 beyond the most
    /// ([`Reason::Overloaded`]). If the server answers it itself, [`answering`](Self::answering) is called instead.
    ///
    /// Which of HTTP/2 are refused below the server is told by what comes and what becomes a request, so that the reason is a
    /// guess by the head's size and by how many streams are open.
    fn head_refused(&self, peer: PeerAddr, reason: Reason) {
        let _ = (peer, reason);
    }
    /// A head of this peer's became no request, and this is what the server answers itself. A header may be added to it.
    ///
    /// Unless told otherwise it is as given, and [`head_refused`](Self::head_refused) hears of it.
    fn answering(&self, peer: PeerAddr, rejection: Rejection) -> Rejection {
        self.head_refused(peer, rejection.reason());
        rejection
    }
    /// A connection of this peer's was cut, as it misused it.
    fn cut(&self, peer: PeerAddr, how: Misuse) {
        let _ = (peer, how);
    }
}

/// What a peer did with its connection, so that it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Misuse {
    /// More control frames of HTTP/2 than requests need.
    Flood,
    /// Its handshake of TLS failed or was late: it showed no certificate, or one that is not believed, or no TLS at all.
    Handshake,
    /// Frames of HTTP/2 that make no sense: of a wrong size, in a wrong order, or beyond its window.
    Protocol,
    /// It was speaking for others, and its PROXY protocol header was malformed or late.
    ProxyProtocol,
    /// It read its answers too slowly.
    SlowReader,
}

impl Misuse {
    /// How many kinds there are, by the last of them.
    #[cfg(feature = "stack")]
    pub(crate) const COUNT: usize = Self::SlowReader as usize + 1;

    /// A word for logs: `flood`, `handshake`, `protocol`, `proxy_protocol` or `slow_reader`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
            Self::ProxyProtocol => "proxy_protocol",
            Self::SlowReader => "slow_reader",
        }
    }
}

/// Somebody who hears, or nobody.
#[derive(Clone, Default)]
pub(in crate::transport) struct Observer(pub(super) Option<Arc<dyn ConnectionObserver>>);

impl Observer {
    pub(in crate::transport) fn tell(&self, event: impl FnOnce(&dyn ConnectionObserver)) {
        if let Some(observer) = &self.0 {
            event(&**observer);
        }
    }

    /// What is to be answered to a head that becomes no request.
    pub(in crate::transport) fn answering(&self, peer: PeerAddr, rejection: Rejection) -> Rejection {
        match &self.0 {
            Some(observer) => observer.answering(peer, rejection),
            None => rejection,
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
