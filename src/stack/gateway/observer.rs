//! What is told of connections while they are accepted.
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    identity::PeerAddr,
    reject::Reason,
    telemetry::access_log,
    transport::{ConnectionObserver, Misuse},
};

/// Counts connections, and tells of heads that became no request.
pub(super) struct Connections {
    #[cfg(feature = "prometheus")]
    pub(super) metrics: Metrics,
}

impl ConnectionObserver for Connections {
    fn opened(&self) {
        #[cfg(feature = "prometheus")]
        self.metrics.process().connection_opened();
    }
    fn closed(&self) {
        #[cfg(feature = "prometheus")]
        self.metrics.process().connection_closed();
    }
    fn refused(&self) {
        #[cfg(feature = "prometheus")]
        self.metrics.process().connection_refused();
    }
    fn head_refused(&self, peer: PeerAddr, reason: Reason) {
        #[cfg(feature = "prometheus")]
        self.metrics.process().head_refused();
        access_log::refused_head(peer.ip(), reason);
    }
    fn cut(&self, peer: PeerAddr, how: Misuse) {
        #[cfg(feature = "prometheus")]
        self.metrics.process().connection_cut();
        access_log::cut_connection(peer.ip(), how.label());
    }
}
