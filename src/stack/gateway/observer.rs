//! What is told of connections while they are accepted.
use std::{sync::Arc, time::SystemTime};

#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    context::RequestId,
    identity::PeerAddr,
    lines::Lines,
    reject::{Reason, Rejection},
    telemetry::{access_log, request_id},
    transport::{ConnectionObserver, Misuse},
};

/// Counts connections, and tells of heads that became no request.
#[derive(Clone, Default)]
pub(super) struct Connections {
    #[cfg(feature = "prometheus")]
    pub(super) metrics: Metrics,
}

impl Connections {
    /// Those of a listener.
    pub(super) fn of(&self, listener: &Arc<str>) -> impl ConnectionObserver + use<> {
        Told {
            connections: self.clone(),
            listener: Arc::clone(listener),
            heads: Default::default(),
            cuts: Default::default(),
        }
    }
}

/// The connections of a listener.
struct Told {
    #[cfg_attr(not(feature = "prometheus"), expect(dead_code, reason = "it counts"))]
    connections: Connections,
    listener: Arc<str>,
    /// Of heads, for each reason. Strangers send them as often as they like.
    heads: [Lines; Reason::OF_HEADS.len()],
    /// Of connections that were cut, for each misuse. Nor do these cost a stranger anything.
    cuts: [Lines; Misuse::COUNT],
}

impl Told {
    fn head(&self, peer: PeerAddr, reason: Reason, request_id: Option<&RequestId>) {
        #[cfg(feature = "prometheus")]
        self.connections.metrics.process().head_refused(reason);
        if let Some(left_out) = next(&self.heads[reason.of_head()]) {
            let (client, listener) = (peer.ip(), Some(&*self.listener));
            access_log::RefusedHead { client, reason, listener, request_id, left_out }.log();
        }
    }
}

/// If a line may be written now: how many were left out before it, if any were.
fn next(lines: &Lines) -> Option<Option<u64>> {
    lines.next().map(|left_out| Some(left_out).filter(|left_out| *left_out > 0))
}

impl ConnectionObserver for Told {
    fn opened(&self) {
        #[cfg(feature = "prometheus")]
        self.connections.metrics.process().connection_opened();
    }
    fn closed(&self) {
        #[cfg(feature = "prometheus")]
        self.connections.metrics.process().connection_closed();
    }
    fn refused(&self) {
        #[cfg(feature = "prometheus")]
        self.connections.metrics.process().connection_refused();
    }
    fn head_refused(&self, peer: PeerAddr, reason: Reason) {
        self.head(peer, reason, None);
    }
    fn answering(&self, peer: PeerAddr, rejection: Rejection) -> Rejection {
        let id = request_id::make(SystemTime::now());
        self.head(peer, rejection.reason(), Some(&id));
        rejection.header(request_id::X_REQUEST_ID, id.into())
    }
    fn cut(&self, peer: PeerAddr, how: Misuse) {
        #[cfg(feature = "prometheus")]
        self.connections.metrics.process().connection_cut();
        if let Some(left_out) = next(&self.cuts[how as usize]) {
            let (client, how, listener) = (peer.ip(), how.label(), Some(&*self.listener));
            access_log::CutConnection { client, how, listener, left_out }.log();
        }
    }
}
