//! What was logged on this thread, for tests.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Index,
    sync::{Arc, LazyLock, Mutex},
};
use tracing::{
    Dispatch, Event, Level, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::{
    filter::LevelFilter,
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

/// Names and values of an event's or a span's fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn any(&self, found: impl Fn(&str) -> bool) -> bool {
        self.0.values().any(|value| found(value))
    }
}

/// The value, or "" if there is none.
impl Index<&str> for Fields {
    type Output = str;
    fn index(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    target: &'static str,
    pub(super) fields: Fields,
    /// Those of the span around it.
    pub(super) span: Fields,
}

/// While there is one subscriber alone, tracing asks only the thread that first comes to a place in the code whether what
/// is logged there is wanted, and believes it for all threads: a test without a log would silence another's. With a second
/// one it asks all of them.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    /// Collects events up to `level`, until the guard is dropped.
    pub(super) fn start(level: Level) -> (Self, DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let log = Self::default();
        let layer = log.clone().with_filter(LevelFilter::from_level(level));
        (log, tracing::subscriber::set_default(tracing_subscriber::registry().with(layer)))
    }

    pub(super) fn of(&self, target: &str) -> Vec<Line> {
        self.0.lock().unwrap().iter().filter(|line| line.target == target).cloned().collect()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        values.record(context.span(id).unwrap().extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event);
        let span = span.and_then(|span| span.extensions().get::<Fields>().cloned()).unwrap_or_default();
        self.0.lock().unwrap().push(Line { target: event.metadata().target(), fields, span });
    }
}
