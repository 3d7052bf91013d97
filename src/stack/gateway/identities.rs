//! What is told of who we are on connections.

use std::{sync::Arc, time::SystemTime};

use serde_json::{Value, json};

use crate::tls::Credentials;
#[cfg(feature = "prometheus")]
use crate::{stack::gateway::snapshot::Snapshot, telemetry::metrics::Samples};

/// For the status.
pub(super) fn status((name, credentials): &(Arc<str>, Credentials)) -> Value {
    let status = credentials.status();
    let material = credentials.current();
    let identity = material.as_ref().and_then(|material| material.identity.as_ref());
    json!({
        "identity": **name,
        "name": identity.and_then(|identity| identity.names().name()),
        "expiresSeconds": status.expires.map(left),
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

/// For the metrics: the identities in force.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    for (name, credentials) in &snapshot.identities {
        let (status, name) = (credentials.status(), [("identity", &**name)]);
        if let Some(expires) = status.expires {
            let at = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            samples.gauge("identity_expiry_timestamp_seconds", "When the certificate expires", &name, at);
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
}
