//! Quotas and usage: made ready before requests come, told of, and brought home when the gateway goes down.
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::snapshot::Snapshot;
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;
use crate::{admission::quota::QuotaHandle, telemetry::usage::UsageMeter};

/// How long files are waited for before a snapshot is taken into force.
const READY: Duration = Duration::from_secs(2);
/// How long what was counted may take to be delivered when the gateway goes down, beside its grace.
const HOME: Duration = Duration::from_secs(5);

/// The most replaced meters that are kept. One more, and the first has a minute to deliver, as long as the process lives.
const REPLACED: usize = 8;

/// Meters that others have replaced: requests that began on them may last, and what they have counted is delivered.
#[derive(Default)]
pub(super) struct Replaced(Mutex<Vec<UsageMeter>>);

impl Replaced {
    /// The meter of this snapshot has been replaced.
    pub(super) fn add(&self, before: &Snapshot, now: &Snapshot) {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|meter| !meter.is_idle());
        let is_gone = |meter: &&UsageMeter| now.usage.as_ref().is_none_or(|now| !now.is_same(meter));
        meters.extend(before.usage.iter().filter(is_gone).cloned());
        if meters.len() > REPLACED {
            meters.remove(0);
        }
    }

    fn take(&self) -> Vec<UsageMeter> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes ready what would else be made ready by the first request. What takes longer goes on.
pub(super) async fn begin(snapshot: &Snapshot) {
    let mut all = JoinSet::new();
    for quota in snapshot.quotas.clone() {
        // Why it is not was logged, and requests are answered as the quota says.
        all.spawn(async move { drop(quota.open().await) });
    }
    if let Some(usage) = snapshot.usage.clone() {
        // The same.
        all.spawn(async move { drop(usage.start().await) });
    }
    if timeout(READY, joined(&mut all)).await.is_err() {
        tracing::warn!("the files of quotas and of usage are not read yet");
    }
    all.detach_all();
}

/// Writes and delivers what is in memory only, also that of meters before.
pub(super) async fn end(snapshot: &Snapshot, replaced: &Replaced) {
    let mut all = JoinSet::new();
    for quota in snapshot.quotas.clone() {
        // It was logged.
        all.spawn(async move { drop(timeout(HOME, quota.flush()).await) });
    }
    for usage in snapshot.usage.clone().into_iter().chain(replaced.take()) {
        all.spawn(async move {
            if !usage.flush(HOME).await {
                tracing::error!(counts = ?usage.counts(), "usage was not delivered; what is in the spool comes later");
            }
        });
    }
    joined(&mut all).await;
}

async fn joined(all: &mut JoinSet<()>) {
    while all.join_next().await.is_some() {}
}

/// For the status.
pub(super) fn quota(quota: &QuotaHandle) -> Value {
    json!({
        "name": quota.quota().name(),
        "resetsInSeconds": quota.resets_in().as_secs(),
        "spent": quota.spent(),
        "refused": quota.refused(),
        "spared": quota.spared(),
        "uncounted": quota.uncounted(),
        "unsettled": quota.unsettled(),
        "accounts": quota.accounts(),
        "forgotten": quota.forgotten(),
    })
}

/// For the status.
pub(super) fn usage(meter: &UsageMeter) -> Value {
    let counts = meter.counts();
    let sinks = counts.sinks.iter().map(|sink| {
        json!({
            "sink": sink.sink,
            "delivered": sink.delivered,
            "failures": sink.failures,
            "waiting": sink.waiting,
            "waitingBytes": sink.waiting_bytes,
            "lostBatches": sink.lost_batches,
            "lostRequests": sink.lost_requests,
        })
    });
    json!({
        "recorded": counts.recorded,
        "unattributed": counts.unattributed,
        "unspooled": counts.unspooled,
        "sinks": sinks.collect::<Vec<_>>(),
    })
}

/// For the metrics: the numbers of what is in force.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    snapshot.quotas.iter().for_each(|quota| of_quota(quota, samples));
    snapshot.usage.iter().for_each(|meter| of_usage(meter, samples));
}

#[cfg(feature = "prometheus")]
fn of_quota(quota: &QuotaHandle, samples: &mut Samples) {
    let labels = [("quota", quota.quota().name())];
    let mut count = |name, help, count| samples.counter(name, help, &labels, count);
    count("quota_spent_units", "Units charged to quotas, before they were settled", quota.spent());
    count("quota_refusals", "Requests that quotas have refused", quota.refused());
    count("quota_spared", "Requests that quotas in shadow would have refused", quota.spared());
    count("quota_uncounted", "Requests that passed because counters could not be asked", quota.uncounted());
    count("quota_unsettled", "Costs that could not be settled", quota.unsettled());
    count("quota_forgotten", "Accounts forgotten before their period was over", quota.forgotten());
    if let Some(accounts) = quota.accounts() {
        samples.gauge("quota_accounts", "Accounts held in memory", &labels, accounts);
    }
}

#[cfg(feature = "prometheus")]
fn of_usage(meter: &UsageMeter, samples: &mut Samples) {
    let counts = meter.counts();
    samples.counter("usage_recorded", "Requests counted for bills", &[], counts.recorded);
    let help = "Requests counted for nobody in particular, for lack of room";
    samples.counter("usage_unattributed", help, &[], counts.unattributed);
    let help = "Batches of usage that could not be put in the spool";
    samples.counter("usage_unspooled_batches", help, &[], counts.unspooled);
    for sink in &counts.sinks {
        let labels = [("sink", &*sink.sink)];
        let mut count = |name, help, count| samples.counter(name, help, &labels, count);
        count("usage_batches", "Batches of usage that were delivered", sink.delivered);
        count("usage_failures", "Deliveries of usage that failed and are tried again", sink.failures);
        count("usage_lost_batches", "Batches of usage that were given up", sink.lost_batches);
        count("usage_lost_requests", "The requests in them", sink.lost_requests);
        samples.gauge("usage_waiting", "Batches of usage that wait", &labels, sink.waiting);
        let help = "Their bytes";
        samples.gauge("usage_waiting_bytes", help, &labels, sink.waiting_bytes);
    }
}
