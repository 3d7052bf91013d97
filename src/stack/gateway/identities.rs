//! What is told of who we are on connections, and whom we believe.

#[cfg(feature = "prometheus")]
use std::time::Duration;
use std::{sync::Arc, time::SystemTime};

use serde_json::{Value, json};

use crate::tls::{Credentials, CredentialsStatus};
#[cfg(feature = "prometheus")]
use crate::{stack::gateway::snapshot::Snapshot, telemetry::metrics::Samples};

/// What is told of, by name.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) identities: Vec<(Arc<str>, Credentials)>,
    /// Those that say whom to believe, and not who we are.
    pub(super) roots: Vec<(Arc<str>, Credentials)>,
}

/// For the status.
pub(super) fn tell(into: &mut Value, told: Option<&Told>) {
    into["identities"] = told.iter().flat_map(|told| &told.identities).map(status).collect();
    into["roots"] = told.iter().flat_map(|told| &told.roots).map(roots).collect();
}

fn status((name, credentials): &(Arc<str>, Credentials)) -> Value {
    let material = credentials.current();
    let identity = material.as_ref().and_then(|material| material.identity.as_ref());
    let status = credentials.status();
    let mut told = renewed(&status);
    told["identity"] = json!(**name);
    told["name"] = json!(identity.and_then(|identity| identity.names().name()));
    told["expiresSeconds"] = json!(status.expires.map(left));
    told
}

fn roots((name, credentials): &(Arc<str>, Credentials)) -> Value {
    let mut told = renewed(&credentials.status());
    told["roots"] = json!(**name);
    told
}

fn renewed(status: &CredentialsStatus) -> Value {
    json!({
        "revocationExpiresSeconds": status.revocation_expires.map(left),
        "rotations": status.rotations,
        "failures": status.failures,
        "lastError": status.failure.as_deref(),
    })
}

/// Seconds; less than none once it has expired.
fn left(expires: SystemTime) -> i64 {
    let now = SystemTime::now();
    match expires.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => i64::try_from(over.duration().as_secs()).map_or(i64::MIN, i64::wrapping_neg),
    }
}

/// For the metrics: the identities and roots in force.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    for (name, credentials) in &snapshot.told_credentials.identities {
        let (status, name) = (credentials.status(), [("identity", &**name)]);
        if let Some(expires) = status.expires {
            let help = "When the certificate expires";
            samples.gauge("identity_expiry_timestamp_seconds", help, &name, since_epoch(expires));
        }
        if let Some(expires) = status.revocation_expires {
            let help = "When the first issuer has no revocation list left that is not over";
            samples.gauge("identity_revocation_expiry_timestamp_seconds", help, &name, since_epoch(expires));
        }
        samples.counter(
            "identity_rotations",
            "Identities and roots that were taken into use",
            &name,
            status.rotations,
        );
        let help = "How often in a row they could not be renewed";
        samples.gauge("identity_renewal_failures", help, &name, status.failures);
    }
    for (name, credentials) in &snapshot.told_credentials.roots {
        let (status, name) = (credentials.status(), [("roots", &**name)]);
        samples.counter("roots_rotations", "Roots that were taken into use", &name, status.rotations);
        let help = "How often in a row they could not be read";
        samples.gauge("roots_renewal_failures", help, &name, status.failures);
    }
}

#[cfg(feature = "prometheus")]
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
