//! What is counted of connections that carry something else than HTTP.
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{Table, forward::Ended};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;
use crate::{
    reject::Reason,
    tunnel::{Carried, Way},
};

/// The numbers of a gateway, whatever snapshot is in force: as many as there are names in the files.
#[derive(Debug, Default)]
pub(in super::super) struct Numbers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    pairs: Vec<Arc<Counts>>,
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct Refused {
    listener: Arc<str>,
    route: Option<Arc<str>>,
    reason: Reason,
    count: u64,
}

/// Those of one route and one of its upstreams.
#[derive(Debug)]
pub(super) struct Counts {
    route: Arc<str>,
    upstream: Box<str>,
    made: AtomicU64,
    open: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Of those that have ended.
    micros: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
}

impl Numbers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is to be made. It counts as open until that is dropped.
    pub(super) fn begin(&self, route: &Arc<str>, upstream: &str) -> Counted {
        let counts = self.of(route, upstream);
        counts.made.fetch_add(1, Relaxed);
        counts.open.fetch_add(1, Relaxed);
        Counted { counts, received: 0, sent: 0 }
    }

    fn of(&self, route: &Arc<str>, upstream: &str) -> Arc<Counts> {
        let mut known = self.known();
        let is_it = |counts: &&Arc<Counts>| counts.route == *route && *counts.upstream == *upstream;
        if let Some(there) = known.pairs.iter().find(is_it) {
            return Arc::clone(there);
        }
        let new = Arc::new(Counts::new(route, upstream));
        known.pairs.push(Arc::clone(&new));
        new
    }

    /// A connection came to nothing.
    pub(super) fn refused(&self, listener: &Arc<str>, route: Option<&Arc<str>>, reason: Reason) {
        let mut known = self.known();
        let is_it = |one: &&mut Refused| {
            one.listener == *listener && one.route.as_ref() == route && one.reason == reason
        };
        match known.refused.iter_mut().find(is_it) {
            Some(one) => one.count += 1,
            None => {
                let (listener, route) = (Arc::clone(listener), route.cloned());
                known.refused.push(Refused { listener, route, reason, count: 1 });
            }
        }
    }

    /// From now on these routes are in force. What is not among them, and not in flight, is forgotten.
    pub(in super::super) fn keep(&self, table: &Table, has_listener: impl Fn(&str) -> bool) {
        let names = |route: &str| table.routes().find(|known| *known.name == *route);
        let mut known = self.known();
        known.pairs.retain(|counts| {
            let is_there = names(&counts.route)
                .is_some_and(|route| route.upstreams().any(|one| *one.name() == *counts.upstream));
            is_there || counts.open.load(Relaxed) > 0
        });
        known.refused.retain(|one| {
            has_listener(&one.listener) && one.route.as_ref().is_none_or(|route| names(route).is_some())
        });
        drop(known);
        for route in table.routes() {
            route.upstreams().for_each(|upstream| drop(self.of(&route.name, upstream.name())));
        }
    }

    /// For the status.
    pub(in super::super) fn status(&self) -> Value {
        let pairs = self.known().pairs.clone();
        let show = |counts: &Arc<Counts>| {
            json!({
                "route": *counts.route,
                "upstream": *counts.upstream,
                "connections": counts.made.load(Relaxed),
                "open": counts.open.load(Relaxed),
                "receivedBytes": counts.received.load(Relaxed),
                "sentBytes": counts.sent.load(Relaxed),
            })
        };
        pairs.iter().map(show).collect()
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(in super::super) fn tell(&self, samples: &mut Samples) {
        let known = self.known();
        for counts in &known.pairs {
            let labels = [("route", &*counts.route), ("upstream", &*counts.upstream)];
            let count = |count: &AtomicU64| count.load(Relaxed);
            let help = "Connections that were given to an upstream";
            samples.counter("tcp_connections", help, &labels, count(&counts.made));
            samples.gauge(
                "tcp_connections_open",
                "Those of them that are open",
                &labels,
                count(&counts.open),
            );
            let help = "Bytes that clients have sent to upstreams";
            samples.counter("tcp_received_bytes", help, &labels, count(&counts.received));
            let help = "Bytes that upstreams have sent to clients";
            samples.counter("tcp_sent_bytes", help, &labels, count(&counts.sent));
            let lasted = Duration::from_micros(count(&counts.micros));
            let help = "How long those that have ended have lasted, all together";
            samples.counter("tcp_connection_seconds", help, &labels, lasted);
            for (how, ended) in Ended::ALL.iter().zip(&counts.ended) {
                let labels = [labels[0], labels[1], ("how", how.label())];
                samples.counter("tcp_connections_ended", "How connections have ended", &labels, count(ended));
            }
        }
        for one in &known.refused {
            let route = one.route.as_ref().map(|route| ("route", &**route));
            let labels = [("listener", &*one.listener), ("reason", one.reason.label())];
            let labels: Vec<_> = labels.into_iter().chain(route).collect();
            samples.counter("tcp_refusals", "Connections that came to nothing", &labels, one.count);
        }
    }
}

impl Counts {
    fn new(route: &Arc<str>, upstream: &str) -> Self {
        Self {
            route: Arc::clone(route),
            upstream: upstream.into(),
            made: AtomicU64::new(0),
            open: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            ended: Default::default(),
        }
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<Counts>,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Counted {
    pub(super) fn ended(&self, how: Ended, took: Duration) {
        self.counts.ended[how as usize].fetch_add(1, Relaxed);
        self.counts.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Carried for Counted {
    fn carried(&mut self, way: Way, bytes: usize) {
        let (own, all) = match way {
            Way::There => (&mut self.received, &self.counts.received),
            Way::Back => (&mut self.sent, &self.counts.sent),
        };
        *own += bytes as u64;
        all.fetch_add(bytes as u64, Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Relaxed);
    }
}
