//! The event itself.

use super::{
    gate::Entry,
    text::{Redacted, Safe, without_userinfo},
};
use crate::{
    outcome::{End, Outcome},
    reject::{GrpcCode, Reason},
    telemetry::findings::name_of,
    trail::Trail,
};
use std::{fmt, time::Duration};
use tracing::{
    Level,
    field::{DisplayValue, display},
};

/// The target of all events; filter by it.
pub const TARGET: &str = "portcullis::access";

/// The longest host and principal that are written, in bytes.
const MAX_NAME: usize = 255;

pub(super) fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO)
}

/// Writes one event. What is not known is left out.
pub(super) fn emit(entry: &Entry, outcome: &Outcome) {
    let findings = &entry.findings;
    let told = || findings.trail()?.attempt();
    let attempt = entry.attempt.clone().or_else(told);
    let principal = findings.trail().and_then(Trail::principal);
    let principal = principal.filter(|principal| !principal.is_anonymous());
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        target: TARGET,
        request_id = entry.request_id.as_ref().map(display),
        method = name_of(&entry.method),
        host = host(entry).map(name),
        path = %Safe { bytes: entry.uri.path().as_bytes(), max: entry.style.max_path },
        query = query(entry).map(display),
        protocol = ?entry.version,
        status = outcome.status.map_or(0, |status| status.as_u16()),
        grpc_status = outcome.grpc.map(GrpcCode::number),
        verdict = outcome.verdict().label(),
        reason = outcome.reason.map(Reason::label),
        flag = flag(outcome),
        route = findings.route(),
        variant = findings.variant(),
        upstream = attempt.as_ref().map(|attempt| &*attempt.upstream),
        endpoint = attempt.as_ref().and_then(|attempt| attempt.endpoint).map(display),
        attempts = attempt.as_ref().map(|attempt| attempt.attempts),
        connect_us = attempt.as_ref().and_then(|attempt| attempt.connect).map(micros),
        bytes = outcome.bytes,
        head_us = entry.to_head.map(micros),
        duration_us = micros(entry.since.elapsed()),
        client = entry.client.map(|client| display(client.ip())),
        decision = findings.trail().and_then(Trail::decision),
        provider = principal.map(|principal| name(principal.provider().as_bytes())),
        subject = principal.map(|principal| name(principal.subject().as_bytes())),
    );
}

fn name(bytes: &[u8]) -> DisplayValue<Safe<'_>> {
    display(Safe { bytes, max: MAX_NAME })
}

/// The target's authority as HTTP/2 has it, else the `Host` field.
fn host(entry: &Entry) -> Option<&[u8]> {
    let authority = entry.uri.authority().map(|authority| authority.as_str().as_bytes());
    authority.or_else(|| entry.host.as_ref().map(|host| host.as_bytes())).map(without_userinfo)
}

fn query(entry: &Entry) -> Option<impl fmt::Display> {
    let query = entry.uri.query().filter(|_| entry.style.query)?;
    Some(Redacted { query, also: &entry.style.secrets, max: entry.style.max_path })
}

/// The refusal's flag, or what befell the exchange, by Envoy's names where it has one.
fn flag(outcome: &Outcome) -> Option<&'static str> {
    match (outcome.reason, outcome.end) {
        (Some(reason), _) => Some(reason.flag()),
        (None, End::Cancelled) => Some("DC"),
        (None, End::Failed(failure)) => Some(failure.reason().flag()),
        (None, End::Complete) => None,
    }
}
