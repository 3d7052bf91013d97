//! What results say of endpoints. Pure.
use http::StatusCode;

use super::policy::{FailurePercentage, Policy, SuccessRate};
use crate::{
    outcome::{End, Failure, Outcome, Verdict},
    reject::GrpcCode,
};

/// Why an endpoint is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Failures in a row.
    Consecutive5xx,
    /// 502, 503, 504 and their like in a row.
    ConsecutiveGatewayFailure,
    /// No answer, several times in a row.
    ConsecutiveLocalOriginFailure,
    /// Fewer successes than the others have.
    SuccessRate,
    /// Too many failures.
    FailurePercentage,
}

impl Cause {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayFailure,
        Self::ConsecutiveLocalOriginFailure,
        Self::SuccessRate,
        Self::FailurePercentage,
    ];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// What one result says of the endpoint that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// It answered, be it that the caller erred.
    Good,
    /// It said that it failed.
    Failed,
    /// It, or who stands before it, said that it is not there.
    Gateway,
    /// It said nothing.
    Local,
}

/// `None`: nothing. Whoever goes away, stops waiting or sends half a body says nothing of who should have answered, and
/// neither do limits of our own.
pub(super) fn grade(outcome: &Outcome) -> Option<Grade> {
    match (outcome.verdict(), outcome.end) {
        (Verdict::Success, _) | (Verdict::CallerFault, End::Complete) => Some(Grade::Good),
        (Verdict::CallerFault | Verdict::Cancelled, _) | (_, End::Failed(Failure::Refused)) => None,
        // Who asks for what nobody offers could have any endpoint left out.
        (Verdict::ServerFault, _) if outcome.grpc == Some(GrpcCode::UNIMPLEMENTED) => None,
        (Verdict::ServerFault, End::Failed(_)) => Some(Grade::Local),
        (Verdict::ServerFault, _) => Some(if is_gateway(outcome) { Grade::Gateway } else { Grade::Failed }),
    }
}

fn is_gateway(outcome: &Outcome) -> bool {
    matches!(
        outcome.status,
        Some(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
    ) || matches!(outcome.grpc, Some(GrpcCode::UNAVAILABLE | GrpcCode::DEADLINE_EXCEEDED))
}

/// What became of one endpoint's requests within an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) good: u64,
    pub(super) failed: u64,
}

impl Results {
    const fn all(self) -> u64 {
        self.good + self.failed
    }

    fn rate(self) -> f64 {
        self.good as f64 / self.all() as f64
    }
}

/// The places of those who are to be left out for what became of their requests within an interval, the worst first.
pub(super) fn outliers(policy: &Policy, results: &[Results]) -> Vec<(usize, Cause)> {
    let mut causes = vec![None; results.len()];
    if let Some(rate) = policy.success_rate {
        below_others(rate, results).for_each(|place| causes[place] = Some(Cause::SuccessRate));
    }
    if let Some(share) = policy.failure_percentage {
        for place in above(share, results) {
            causes[place].get_or_insert(Cause::FailurePercentage);
        }
    }
    let found = causes.into_iter().enumerate();
    let mut found: Vec<_> = found.filter_map(|(place, cause)| Some((place, cause?))).collect();
    found.sort_by(|(one, _), (other, _)| results[*one].rate().total_cmp(&results[*other].rate()));
    found
}

/// Those with enough requests, if they are enough.
fn comparable(results: &[Results], endpoints: u32, requests: u32) -> Vec<usize> {
    let enough = |place: &usize| results[*place].all() >= u64::from(requests);
    let places: Vec<_> = (0..results.len()).filter(enough).collect();
    if places.len() >= endpoints as usize { places } else { Vec::new() }
}

fn below_others(rate: SuccessRate, results: &[Results]) -> impl Iterator<Item = usize> {
    let places = comparable(results, rate.endpoints.get(), rate.requests.get());
    let n = places.len() as f64;
    let rates = || places.iter().map(|place| results[*place].rate());
    let mean = rates().sum::<f64>() / n;
    let variance = rates().map(|rate| (rate - mean).powi(2)).sum::<f64>() / n;
    let least = mean - variance.sqrt() * f64::from(rate.thousandths) / 1000.0;
    places.into_iter().filter(move |place| results[*place].rate() < least)
}

fn above(share: FailurePercentage, results: &[Results]) -> impl Iterator<Item = usize> {
    let (n, d) = (u64::from(share.threshold.numerator()), u64::from(share.threshold.denominator()));
    let too_many = move |Results { good, failed }: Results| {
        failed > 0 && u128::from(failed) * u128::from(d) >= u128::from(good + failed) * u128::from(n)
    };
    let places = comparable(results, share.endpoints.get(), share.requests.get());
    places.into_iter().filter(move |place| too_many(results[*place]))
}
