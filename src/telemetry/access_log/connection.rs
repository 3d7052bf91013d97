//! The event of a connection that carried something else than HTTP.

use super::{
    event::{TARGET, why},
    text::safe,
};
use crate::{
    identity::AddressText,
    outcome::Verdict,
    reject::{Reason, Rejection},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The longest name of a peer that is written, in bytes.
const MAX_NAME: usize = 255;

/// What became of a connection that carried something else than HTTP.
pub(crate) struct Connection<'a> {
    pub(crate) listener: &'a str,
    pub(crate) client: IpAddr,
    /// By its certificate.
    pub(crate) peer: Option<&'a str>,
    /// Where it was meant to go, if it was redirected.
    pub(crate) meant_for: Option<SocketAddr>,
    pub(crate) route: Option<&'a str>,
    pub(crate) upstream: Option<&'a str>,
    pub(crate) made: Option<Made>,
    /// Why it came to nothing.
    pub(crate) refused: Option<&'a Rejection>,
    pub(crate) verdict: Verdict,
    /// A word for how it ended.
    pub(crate) ended: &'static str,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) took: Duration,
}

/// The connection to the upstream.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) endpoint: SocketAddr,
    pub(crate) attempts: u8,
    pub(crate) connect: Duration,
}

impl Connection<'_> {
    /// Writes one event. What is not known is left out.
    pub(crate) fn log(&self) {
        let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let endpoint = self.made.map(|made| AddressText::of_socket(made.endpoint));
        let meant_for = self.meant_for.map(AddressText::of_socket);
        let reason = self.refused.map(Rejection::reason);
        tracing::info!(
            target: TARGET,
            protocol = "TCP",
            listener = self.listener,
            verdict = self.verdict.label(),
            ended = self.ended,
            reason = reason.map(Reason::label),
            error = self.refused.and_then(why).as_deref(),
            flag = reason.map(Reason::flag),
            route = self.route,
            upstream = self.upstream,
            endpoint = endpoint.as_ref().map(AddressText::as_str),
            attempts = self.made.map(|made| made.attempts),
            connect_us = self.made.map(|made| micros(made.connect)),
            received = self.received,
            sent = self.sent,
            duration_us = micros(self.took),
            client = AddressText::of_ip(self.client).as_str(),
            peer = self.peer.map(|peer| safe(peer, MAX_NAME)).as_deref(),
            destination = meant_for.as_ref().map(AddressText::as_str),
        );
    }
}
