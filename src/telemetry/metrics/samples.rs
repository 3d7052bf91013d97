//! Numbers that others keep.

use std::{fmt, sync::RwLock};

/// Numbers that somebody else keeps, as they are when they are shown: written by a function that
/// [`Metrics::also`](super::Metrics::also) is given.
///
/// ```
/// use portcullis::telemetry::metrics::Metrics;
///
/// let metrics = Metrics::new();
/// metrics.also(|samples| {
///     samples.gauge("cache_entries", "Entries in a cache", &[("cache", "prices")], 17);
/// });
/// assert!(metrics.render().contains(r#"portcullis_cache_entries{cache="prices"} 17"#));
/// ```
#[derive(Debug, Default)]
pub struct Samples {
    families: Vec<Family>,
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) counts: bool,
    pub(super) values: Vec<(Labels, u64)>,
}

type Labels = Vec<(&'static str, Box<str>)>;

impl Samples {
    /// Adds a number that goes up only. Its name is shown with `_total` behind it.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.add(name, help, true, labels, value);
    }

    /// Adds a number that goes up and down.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.add(name, help, false, labels, value);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        counts: bool,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).into())).collect();
        match self.families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.values.push((labels, value)),
            None => self.families.push(Family { name, help, counts, values: vec![(labels, value)] }),
        }
    }
}

type Write = Box<dyn Fn(&mut Samples) + Send + Sync>;

/// Those who write samples.
#[derive(Default)]
pub(super) struct Others(RwLock<Vec<Write>>);

impl Others {
    pub(super) fn add(&self, write: Write) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(write);
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut samples = Samples::default();
        let writers = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        writers.iter().for_each(|write| write(&mut samples));
        samples.families
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Others").finish_non_exhaustive()
    }
}
