//! What is told in the metrics: what policies, authorizers and limits count, and all the rest.
use super::snapshot::Snapshot;
use crate::telemetry::metrics::Samples;

/// The numbers of what is in force.
pub(super) fn of(snapshot: &Snapshot, samples: &mut Samples) {
    #[cfg(feature = "jwt")]
    super::key_sets::numbers(snapshot, samples);
    #[cfg(feature = "jwt")]
    super::tokens::numbers(snapshot, samples);
    #[cfg(feature = "tls")]
    snapshot.told_credentials.numbers(samples);
    super::api_keys::numbers(snapshot, samples);
    snapshot.canaries.numbers(samples);
    super::fallbacks::numbers(snapshot, samples);
    snapshot.mirrors.numbers(samples);
    snapshot.load.numbers(samples);
    snapshot.retries.numbers(samples);
    super::endpoints::numbers(&snapshot.upstreams, samples);
    snapshot.breakers.numbers(samples);
    of_admission(snapshot, samples);
    super::usage::numbers(snapshot, samples);
}

fn of_admission(snapshot: &Snapshot, samples: &mut Samples) {
    decisions(snapshot, samples);
    authorizers(snapshot, samples);
    limits(snapshot, samples);
    addresses(snapshot, samples);
}

fn decisions(snapshot: &Snapshot, samples: &mut Samples) {
    for count in snapshot.tallies.iter().flat_map(|tally| tally.read()) {
        let labels = [
            ("policy", &*count.policy),
            ("rule", &*count.rule),
            ("action", count.action),
            ("shadow", if count.shadow { "true" } else { "false" }),
        ];
        let help = "Decisions of policies, by the rule that made them; custom: an authorizer was asked";
        samples.counter("authorization_decisions", help, &labels, count.decisions);
    }
}

fn authorizers(snapshot: &Snapshot, samples: &mut Samples) {
    for (name, handle) in &snapshot.authorizers {
        let name = ("authorizer", &**name);
        for (result, count) in
            [("pass", handle.passed()), ("refuse", handle.refused()), ("fail", handle.failed())]
        {
            let help = "What authorizers have made of requests";
            samples.counter("external_authorization", help, &[name, ("result", result)], count);
        }
        let help = "Those of them that were decided by an answer from before";
        samples.counter("external_authorization_remembered", help, &[name], handle.remembered());
    }
}

/// By where the lists stand: at listeners, and at rules.
fn addresses(snapshot: &Snapshot, samples: &mut Samples) {
    for (position, name, list) in &snapshot.addresses {
        let labels = [("position", *position), ("name", name)];
        samples.counter("address_refusals", "Requests refused by address", &labels, list.refused());
    }
}

/// By the limits' names, of which there are as many as somebody wrote down.
fn limits(snapshot: &Snapshot, samples: &mut Samples) {
    for limit in &snapshot.limits {
        let (name, handle) = (("limit", limit.name()), limit.handle());
        let results =
            [("admitted", handle.admitted()), ("refused", handle.refused()), ("spared", handle.spared())];
        for (result, count) in results {
            let help =
                "Requests that limits counted; spared are those that a limit in shadow would have refused";
            samples.counter("rate_limit_requests", help, &[name, ("result", result)], count);
        }
        let help = "Accounts that were not whole and could not be held, since the limit was full";
        samples.counter("rate_limit_forgotten", help, &[name], handle.forgotten());
        samples.gauge("rate_limit_accounts", "Accounts that limits hold", &[name], handle.len());
        samples.gauge("rate_limit_waiting", "Requests that wait for their turn", &[name], handle.waiting());
        #[cfg(feature = "redis")]
        if let Some(handle) = limit.distribution() {
            distribution(name, &handle, samples);
        }
    }
}

#[cfg(feature = "redis")]
fn distribution(
    name: (&'static str, &str),
    handle: &crate::admission::rate_limit::DistributionHandle,
    samples: &mut Samples,
) {
    use crate::trip::State;

    for (source, count) in [
        ("redis", handle.by_redis()),
        ("lease", handle.by_lease()),
        ("deny_cache", handle.by_deny_cache()),
        ("fallback", handle.by_fallback()),
    ] {
        let help = "Who decided about requests where a limit is on Redis";
        samples.counter("rate_limit_decisions", help, &[name, ("source", source)], count);
    }
    let help = "How often Redis was asked and did not decide";
    samples.counter("rate_limit_redis_errors", help, &[name], handle.errors());
    let help = "How long requests have waited for Redis, all together";
    samples.counter("rate_limit_redis_wait_seconds", help, &[name], handle.waited());
    let help = "How often units were to be charged or given back afterwards, and were not";
    samples.counter("rate_limit_unsettled", help, &[name], handle.unsettled());
    let help = "Whether Redis is not asked, since it did not decide: 1 if so";
    samples.gauge("rate_limit_redis_open", help, &[name], handle.redis() != State::Closed);
    let help = "The instances that were seen last";
    samples.gauge("rate_limit_instances", help, &[name], handle.instances());
}
