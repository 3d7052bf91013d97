//! The event itself.

use super::{
    gate::Entry,
    text::{Redacted, safe, safe_bytes, safe_words, without_userinfo},
};
use crate::{
    attempt::RetryStop,
    context::RequestId,
    identity::{AddressText, PeerIdentity},
    outcome::{End, Outcome},
    reject::{GrpcCode, Reason, Rejection},
    telemetry::findings::name_of,
    trail::{Fault, Trail},
};
use http::Version;
use std::{borrow::Cow, error::Error, time::Duration};
use tracing::Level;

/// The target of all events; filter by it.
pub const TARGET: &str = "portcullis::access";

/// The longest host and principal that are written, in bytes.
const MAX_NAME: usize = 255;
/// The longest cause.
const MAX_WHY: usize = 512;

pub(super) fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO)
}

/// Writes one event. What is not known is left out. Every value is a text or a number by then: what a subscriber has to
/// format itself costs it many times that.
pub(super) fn emit(entry: &Entry, outcome: &Outcome) {
    let findings = &entry.findings;
    let told = || findings.trail()?.attempt();
    let attempt = entry.attempt.clone().or_else(told);
    let endpoint = attempt.as_ref().and_then(|attempt| attempt.endpoint).map(AddressText::of_socket);
    let stopped = findings.trail().and_then(Trail::retry_stop);
    let fell_back = findings.trail().and_then(Trail::fell_back);
    let principal = findings.trail().and_then(Trail::principal);
    let principal = principal.filter(|principal| !principal.is_anonymous());
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        target: TARGET,
        request_id = entry.request_id.as_ref().map(RequestId::as_str),
        method = name_of(&entry.method),
        host = host(entry).as_deref(),
        path = &*safe(entry.uri.path(), entry.style.max_path),
        query = query(entry).as_deref(),
        protocol = protocol(entry.version),
        status = outcome.status.map_or(0, |status| status.as_u16()),
        grpc_status = outcome.grpc.map(GrpcCode::number),
        verdict = outcome.verdict().label(),
        reason = outcome.reason.map(Reason::label),
        flag = flag(outcome, stopped),
        error = entry.refusal.as_ref().and_then(why).as_deref(),
        route = findings.route(),
        variant = findings.variant(),
        upstream = attempt.as_ref().map(|attempt| &*attempt.upstream),
        endpoint = endpoint.as_ref().map(AddressText::as_str),
        attempts = attempt.as_ref().map(|attempt| attempt.attempts),
        retry_stop = stopped.map(RetryStop::label),
        fallback = fell_back.map(|fell_back| fell_back.given.label()),
        failed = fell_back.map(|fell_back| fell_back.failed.to_string()).as_deref(),
        fault = findings.fault().map(Fault::label),
        connect_us = attempt.as_ref().and_then(|attempt| attempt.connect).map(micros),
        bytes = outcome.bytes,
        head_us = entry.to_head.map(micros),
        duration_us = micros(entry.since.elapsed()),
        client = entry.client.map(|client| AddressText::of_ip(client.ip())).as_ref().map(AddressText::as_str),
        peer = entry.peer.as_ref().and_then(PeerIdentity::name).map(|name| safe(name, MAX_NAME)).as_deref(),
        decision = findings.trail().and_then(Trail::decision),
        provider = principal.map(|principal| safe(principal.provider(), MAX_NAME)).as_deref(),
        subject = principal.map(|principal| safe(principal.subject(), MAX_NAME)).as_deref(),
    );
}

/// What is known of a refusal beside its reason: what was told of it, and what has caused that.
pub(super) fn why(refusal: &Rejection) -> Option<String> {
    let mut all: Vec<String> = refusal.detail_text().map(str::to_owned).into_iter().collect();
    let mut cause = refusal.source();
    while let Some(next) = cause {
        let told = next.downcast_ref().and_then(Rejection::detail_text);
        let said = told.map_or_else(|| next.to_string(), str::to_owned);
        // Causes often say no more than what was told of them.
        if !all.contains(&said) {
            all.push(said);
        }
        cause = next.source();
    }
    (!all.is_empty()).then(|| safe_words(&all.join(": "), MAX_WHY))
}

/// The target's authority as HTTP/2 has it, else the `Host` field.
fn host(entry: &Entry) -> Option<Cow<'_, str>> {
    let authority = entry.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or_else(|| entry.host.as_ref().map(|host| host.as_bytes()))?;
    Some(safe_bytes(without_userinfo(host), MAX_NAME))
}

fn query(entry: &Entry) -> Option<String> {
    let query = entry.uri.query().filter(|_| entry.style.query)?;
    Some(Redacted { query, also: &entry.style.secrets, max: entry.style.max_path }.to_string())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP",
    }
}

/// The refusal's flag, or what befell the exchange, by Envoy's names where it has one.
fn flag(outcome: &Outcome, stopped: Option<RetryStop>) -> Option<&'static str> {
    match (outcome.reason, outcome.end) {
        (Some(reason), _) => Some(reason.flag()),
        (None, End::Cancelled) => Some("DC"),
        (None, End::Failed(failure)) => Some(failure.reason().flag()),
        (None, End::Complete) => stopped.filter(|why| *why == RetryStop::Attempts).map(|_| "URX"),
    }
}
