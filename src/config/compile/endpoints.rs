//! How endpoints are watched and connected to: `healthCheck`, `outlierDetection` and the pool of an upstream.
use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use http::uri::PathAndQuery;

use super::{retry::within, subsets::check_labels};
use crate::{
    config::{
        at::At,
        schema::{Endpoint, HealthCheck, HttpHealthCheck, OutlierDetection, Upstream},
    },
    ratio::Ratio,
    upstream::{BuildError, UpstreamBuilder, health, outlier},
};

/// What is asked more often is a flood.
const OFTEN: Duration = Duration::from_millis(10);
/// A connection that is younger is hardly used.
const SHORT: Duration = Duration::from_secs(1);

/// Reports each that is no endpoint, or must not be one, where it stands. Whether all are good.
pub(in crate::config) fn are_endpoints(
    at: At<'_>,
    endpoints: &[Endpoint],
    builder: impl Fn() -> UpstreamBuilder,
) -> bool {
    let is_bad = |(at, endpoint): &(At<'_>, &Endpoint)| {
        if let Some(labels) = endpoint.labels() {
            check_labels(at.field("labels"), labels);
        }
        let at = if matches!(endpoint, Endpoint::Told(_)) { at.field("address") } else { *at };
        match builder().endpoint(*endpoint).build() {
            Ok(_) => return false,
            Err(BuildError::RefusedEndpoint(_)) => at.error("this is the admin address"),
            Err(_) => at.error(
                "expected an endpoint such as `10.0.0.1:8080`, `[::1]:8080` or `orders.internal:8080`",
            ),
        }
        true
    };
    // Not only up to the first.
    at.items(endpoints).filter(is_bad).count() == 0
}

/// What endpoints are asked, and how they are judged.
pub(super) fn watched(at: At<'_>, said: &Upstream, mut builder: UpstreamBuilder) -> Option<UpstreamBuilder> {
    if let Some(said) = &said.health_check {
        builder = builder.health_check(health_check(at.field("healthCheck"), said)?);
    }
    if let Some(said) = &said.outlier_detection {
        builder = builder.outlier_detection(outlier_detection(at.field("outlierDetection"), said));
    }
    Some(builder)
}

/// How endpoints are asked whether they are well.
fn health_check(at: At<'_>, said: &HealthCheck) -> Option<health::Policy> {
    let mut policy = match (&said.http, &said.grpc, &said.tcp) {
        (Some(http), None, None) => over_http(at.field("http"), http)?,
        (None, Some(grpc), None) => {
            let policy = health::Policy::grpc(grpc.service_name.as_str());
            grpc.authority.iter().fold(policy, |policy, host| policy.host(host.0.clone()))
        }
        (None, None, Some(_)) => health::Policy::tcp(),
        _ if at.is_broken() => return None,
        _ => return at.refuse("expected exactly one of `http`, `grpc` and `tcp`"),
    };
    let time = |name| move |time: Duration| within(at.field(name), time, OFTEN);
    if let Some(interval) = &said.interval {
        time("interval")(interval.0);
        policy = policy.interval(interval.0);
    }
    if let Some(jitter) = &said.interval_jitter {
        within(at.field("intervalJitter"), jitter.0, Duration::ZERO);
        policy = policy.jitter(jitter.0);
    }
    if let Some(interval) = &said.no_traffic_interval {
        time("noTrafficInterval")(interval.0);
        policy = policy.no_traffic_interval(interval.0);
    }
    if let Some(timeout) = &said.timeout {
        within(at.field("timeout"), timeout.0, Duration::from_millis(1));
        policy = policy.timeout(timeout.0);
    }
    policy = said.unhealthy_threshold.into_iter().fold(policy, health::Policy::unhealthy_threshold);
    policy = said.healthy_threshold.into_iter().fold(policy, health::Policy::healthy_threshold);
    Some(policy.wait_for_first(said.wait_for_first))
}

fn over_http(at: At<'_>, said: &HttpHealthCheck) -> Option<health::Policy> {
    let path = PathAndQuery::try_from(said.path.as_str()).ok().filter(|path| path.as_str().starts_with('/'));
    let Some(path) = path else { return at.field("path").refuse("expected a path such as `/healthz`") };
    let policy = said
        .expected_statuses
        .iter()
        .fold(health::Policy::http(path), |policy, status| policy.expect(*status..=*status));
    Some(said.host.iter().fold(policy, |policy, host| policy.host(host.0.clone())))
}

/// When endpoints are left out.
fn outlier_detection(at: At<'_>, said: &OutlierDetection) -> outlier::Policy {
    let mut policy = outlier::Policy::new()
        .consecutive_gateway_failures(said.consecutive_gateway_failure.and_then(NonZeroU32::new))
        .consecutive_local_origin_failures(said.consecutive_local_origin_failure.and_then(NonZeroU32::new))
        .success_rate(success_rate(said))
        .failure_percentage(failure_percentage(said))
        .shadow(said.shadow);
    if let Some(failures) = said.consecutive_5xx {
        policy = policy.consecutive_5xx(NonZeroU32::new(failures));
    }
    if let Some(interval) = &said.interval {
        within(at.field("interval"), interval.0, OFTEN);
        policy = policy.interval(interval.0);
    }
    let base = said.base_ejection_time.as_ref().map_or(outlier::Policy::EJECTION, |time| time.0);
    let most = outlier::Policy::LONGEST_EJECTION.max(base);
    let most = said.max_ejection_time.as_ref().map_or(most, |time| time.0);
    within(at.field("baseEjectionTime"), base, OFTEN);
    within(at.field("maxEjectionTime"), most, OFTEN);
    if most < base {
        at.field("maxEjectionTime").error("shorter than `baseEjectionTime`, the first of them");
    }
    policy = policy.ejection_time(base, most);
    if let Some(jitter) = &said.max_ejection_time_jitter {
        within(at.field("maxEjectionTimeJitter"), jitter.0, Duration::ZERO);
        policy = policy.jitter(jitter.0);
    }
    if let Some(percent) = said.max_ejection_percent {
        policy = policy.max_ejected(Ratio::percent(percent));
    }
    if policy.judges_nothing() {
        at.error("judges by nothing: everything is 0");
    }
    policy
}

/// How connections are bounded.
pub(super) fn connections(at: At<'_>, said: &Upstream, mut builder: UpstreamBuilder) -> UpstreamBuilder {
    builder = builder.preconnect(said.preconnect);
    if let Some(most) = said.max_connections {
        builder = builder.max_connections(most.get() as usize);
    }
    if let Some(most) = said.max_streams.and_then(|most| NonZeroUsize::try_from(most).ok()) {
        builder = builder.max_streams(most);
    }
    if let Some(age) = &said.max_connection_age {
        if age.0 < SHORT {
            at.field("maxConnectionAge").error("expected 1s at least");
        }
        builder = builder.max_connection_age(age.0);
    }
    if let Some(said) = &said.http2_keep_alive {
        let at = at.field("http2KeepAlive");
        let timeout = said.timeout.as_ref().map_or(Duration::from_secs(20), |timeout| timeout.0);
        within(at.field("interval"), said.interval.0, SHORT);
        within(at.field("timeout"), timeout, OFTEN);
        builder = builder.http2_keep_alive(said.interval.0, timeout);
    }
    builder
}

fn success_rate(said: &OutlierDetection) -> Option<outlier::SuccessRate> {
    let mut rate = outlier::SuccessRate::new();
    if let Some(factor) = said.success_rate_stdev_factor {
        rate = rate.stdev_factor(factor);
    }
    let hosts = said.success_rate_minimum_hosts.unwrap_or(outlier::Policy::ENDPOINTS);
    let volume = said.success_rate_request_volume.unwrap_or(outlier::SuccessRate::REQUESTS);
    (said.success_rate_stdev_factor != Some(0)).then(|| rate.from(hosts, volume))
}

fn failure_percentage(said: &OutlierDetection) -> Option<outlier::FailurePercentage> {
    let mut share = outlier::FailurePercentage::new();
    if let Some(percent) = said.failure_percentage_threshold {
        share = share.threshold(Ratio::percent(percent));
    }
    let hosts = said.failure_percentage_minimum_hosts.unwrap_or(outlier::Policy::ENDPOINTS);
    let volume = said.failure_percentage_request_volume.unwrap_or(outlier::FailurePercentage::REQUESTS);
    (said.failure_percentage_threshold != Some(0)).then(|| share.from(hosts, volume))
}
