//! The events of what came to no request.

use super::event::TARGET;
use crate::{context::RequestId, identity::AddressText, outcome::Verdict, reject::Reason};
use std::net::IpAddr;

/// A head that became no request, and what is known of it.
pub(crate) struct RefusedHead<'a> {
    pub(crate) client: IpAddr,
    pub(crate) reason: Reason,
    pub(crate) listener: Option<&'a str>,
    /// That of the answer, if its server has answered it itself.
    pub(crate) request_id: Option<&'a RequestId>,
    /// Such heads of which nothing was written before.
    pub(crate) left_out: Option<u64>,
}

impl RefusedHead<'_> {
    /// Writes one event. What is not known is left out.
    pub(crate) fn log(&self) {
        tracing::info!(
            target: TARGET,
            request_id = self.request_id.map(RequestId::as_str),
            listener = self.listener,
            status = self.reason.status().as_u16(),
            verdict = Verdict::CallerFault.label(),
            reason = self.reason.label(),
            flag = self.reason.flag(),
            client = AddressText::of_ip(self.client).as_str(),
            left_out = self.left_out,
        );
    }
}

/// Writes the line of a head that became no request, because the server of its connection has refused it. Nothing is
/// known but who sent it.
pub fn refused_head(client: IpAddr, reason: Reason) {
    RefusedHead { client, reason, listener: None, request_id: None, left_out: None }.log();
}

/// A connection that was cut for what its peer did with it, and what is known of it.
pub(crate) struct CutConnection<'a> {
    pub(crate) client: IpAddr,
    /// A word for what the peer did.
    pub(crate) how: &'static str,
    pub(crate) listener: Option<&'a str>,
    /// Such connections of which nothing was written before.
    pub(crate) left_out: Option<u64>,
}

impl CutConnection<'_> {
    /// Writes one event. What is not known is left out.
    pub(crate) fn log(&self) {
        tracing::info!(
            target: TARGET,
            listener = self.listener,
            verdict = Verdict::CallerFault.label(),
            cut = self.how,
            client = AddressText::of_ip(self.client).as_str(),
            left_out = self.left_out,
        );
    }
}

/// Writes the line of a connection that was cut for what its peer did with it. `how` is a word for that.
pub fn cut_connection(client: IpAddr, how: &'static str) {
    CutConnection { client, how, listener: None, left_out: None }.log();
}
