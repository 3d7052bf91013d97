//! What is told of who we are on connections, and whom we believe.

use std::{sync::Arc, time::SystemTime};

use serde_json::{Value, json};

use crate::{
    stack::Identities,
    tls::{Credentials, CredentialsStatus},
};

/// For the status.
pub(super) fn tell(into: &mut Value, told: Option<&Identities>) {
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
        "revocationError": status.revocation_failure.as_deref(),
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
