//! Numbers that others keep.

use std::{fmt, sync::RwLock, time::Duration};

/// Numbers that somebody else keeps, as they are when they are shown: written by a function that
/// [`Metrics::also`](super::Metrics::also) is given.
///
/// ```
/// use portcullis::telemetry::metrics::Metrics;
/// use std::time::Duration;
///
/// let metrics = Metrics::new();
/// metrics.also(|samples| {
///     let labels = [("cache", "prices")];
///     samples.gauge("cache_entries", "Entries in a cache", &labels, 17_u64);
///     samples.gauge("cache_age_seconds", "Age of its oldest entry", &labels, Duration::from_millis(1500));
/// });
/// let text = metrics.render();
/// assert!(text.contains(r#"portcullis_cache_entries{cache="prices"} 17"#));
/// assert!(text.contains(r#"portcullis_cache_age_seconds{cache="prices"} 1.5"#));
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
    pub(super) values: Vec<(Labels, Number)>,
}

/// The value of a sample: a count, or what is measured. Times are told in seconds, shares as what they are of 1, as is the
/// custom; the name of the series ends in `_seconds` or `_ratio` then.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Number {
    /// A count.
    Whole(u64),
    /// What is measured.
    Measured(f64),
}

impl From<u64> for Number {
    fn from(count: u64) -> Self {
        Self::Whole(count)
    }
}

impl From<u32> for Number {
    fn from(count: u32) -> Self {
        Self::Whole(count.into())
    }
}

impl From<usize> for Number {
    fn from(count: usize) -> Self {
        Self::Whole(count as u64)
    }
}

impl From<bool> for Number {
    fn from(is: bool) -> Self {
        Self::Whole(is.into())
    }
}

impl From<f64> for Number {
    fn from(measured: f64) -> Self {
        Self::Measured(measured)
    }
}

impl From<Duration> for Number {
    fn from(time: Duration) -> Self {
        Self::Measured(time.as_secs_f64())
    }
}

type Labels = Vec<(&'static str, Box<str>)>;

impl Samples {
    /// Adds a number that goes up only. Its name is shown with `_total` behind it.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Into<Number>,
    ) {
        self.add(name, help, true, labels, value.into());
    }

    /// Adds a number that goes up and down.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Into<Number>,
    ) {
        self.add(name, help, false, labels, value.into());
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        counts: bool,
        labels: &[(&'static str, &str)],
        value: Number,
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
