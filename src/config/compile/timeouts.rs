//! `timeouts`: how long requests of a rule may take.
use std::time::Duration;

use crate::{
    config::{
        at::At,
        scalar::Text,
        schema::{Rule, Timeouts},
    },
    resilience::timeout::TimeoutLayer,
    stack::gateway,
};

/// How long a request may take where a file does not say it.
const REQUEST: Duration = Duration::from_secs(15);

/// How long the whole request may take. `None`: without end.
pub(super) fn whole(timeouts: &Timeouts) -> Option<Duration> {
    let request = timeouts.request.as_ref().map_or(REQUEST, |request| request.0);
    (!request.is_zero()).then_some(request)
}

/// How long each attempt may take. `None`: as long as the whole.
pub(super) fn attempt(timeouts: &Timeouts) -> Option<Duration> {
    timeouts.backend_request.as_ref().map(|attempt| attempt.0).filter(|attempt| !attempt.is_zero())
}

pub(super) fn timeouts(at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
    let (request, attempt) = (whole(&rule.timeouts), attempt(&rule.timeouts));
    let mut layer = match (&rule.timeouts.request, request) {
        (None, _) => TimeoutLayer::default().grpc_streams(true),
        (Some(_), Some(request)) => TimeoutLayer::new(request),
        // A caller's deadline is kept nevertheless.
        (Some(_), None) => TimeoutLayer::unlimited(),
    };
    let silences = &rule.policies.timeouts;
    let said = at.field("policies").field("timeouts");
    if let Some(idle) = some(said.field("bodyIdle"), silences.body_idle.as_ref()) {
        if request.is_some_and(|request| idle >= request) {
            said.field("bodyIdle").warn("as long as `timeouts.request`, which ends the response first");
        }
        layer = layer.body_idle(idle);
    }
    let age = some(said.field("streamMaxAge"), silences.stream_max_age.as_ref());
    if let Some(idle) = some(said.field("streamIdle"), silences.stream_idle.as_ref()) {
        if age.is_some_and(|age| idle >= age) {
            said.field("streamIdle").warn("as long as `streamMaxAge`, which ends the stream first");
        }
        layer = layer.stream_idle(idle);
    }
    let made = made.timeout(age.into_iter().fold(layer, TimeoutLayer::stream_max_age));
    let Some(attempt) = attempt else { return made };
    if request.is_some_and(|request| attempt > request) {
        let problem = "longer than `request`, which bounds all attempts together";
        at.field("timeouts").field("backendRequest").error(problem);
    }
    made.attempt_timeout(attempt)
}

/// A time that is not zero.
fn some(at: At<'_>, time: Option<&Text<Duration>>) -> Option<Duration> {
    let time = time?.0;
    if time.is_zero() {
        at.error("nothing could keep silent or last for so short a time");
    }
    Some(time)
}
