//! How the log is written: a line for each event, in a fraction of the time that a subscriber for every need takes. Each
//! request writes one.
mod clock;
mod line;
mod lines;
mod spans;

use portcullis::telemetry::access_log;
use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use line::Line;
pub(crate) use lines::flush;
use spans::Spans;

/// Writes events up to a level to the standard error, each with the spans around it.
pub(crate) struct Log {
    level: LevelFilter,
    spans: Spans,
}

impl Log {
    pub(crate) fn up_to(level: LevelFilter) -> Self {
        Self { level, spans: Spans::default() }
    }

    fn line(&self, event: &Event<'_>, text: &mut Vec<u8>) {
        let about = event.metadata();
        clock::stamp(text);
        for word in [" ", about.level().as_str(), " "] {
            text.extend_from_slice(word.as_bytes());
        }
        // It says itself whose line it is.
        if about.target() != access_log::TARGET {
            self.spans.write(text);
        }
        text.extend_from_slice(about.target().as_bytes());
        text.push(b':');
        event.record(&mut Line::new(text));
        text.push(b'\n');
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, about: &'static Metadata<'static>) -> Interest {
        if self.enabled(about) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        lines::write(|text| self.line(event, text));
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Vec::with_capacity(128);
        span.record(&mut Line::new(&mut fields));
        self.spans.open(span.metadata().name(), fields)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Vec::with_capacity(64);
        values.record(&mut Line::new(&mut fields));
        self.spans.add(span, &fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, span: &Id) {
        spans::enter(span);
    }

    fn exit(&self, span: &Id) {
        spans::exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.spans.hold(span);
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        self.spans.release(&span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written while `log` runs.
    fn written(level: LevelFilter, log: impl FnOnce()) -> Vec<String> {
        flush();
        tracing::subscriber::with_default(Log::up_to(level), log);
        let text = String::from_utf8(lines::take()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_has_the_time_the_level_the_target_and_the_fields() {
        let lines = written(LevelFilter::INFO, || {
            tracing::info!(target: "t", port = 80_u16, missing = None::<&str>, who = "a b", "it is up");
            tracing::debug!("not wanted");
            tracing::warn!(target: "t", took = ?std::time::Duration::from_secs(1), ok = true);
        });
        let rest = |line: &str| line.split_once('Z').unwrap().1.to_owned();
        assert_eq!(lines.len(), 2);
        assert_eq!(rest(&lines[0]), " INFO t: it is up port=80 who=\"a b\"");
        assert_eq!(rest(&lines[1]), " WARN t: took=1s ok=true");
    }

    #[test]
    fn spans_are_told_but_where_the_event_tells_the_same() {
        let lines = written(LevelFilter::INFO, || {
            let span = tracing::info_span!("request", request_id = "id-1", route = tracing::field::Empty);
            let other = tracing::info_span!("request", request_id = "id-2");
            span.record("route", "orders");
            span.in_scope(|| {
                tracing::info!(target: "t", "in");
                tracing::info!(target: access_log::TARGET, request_id = "id-1");
                other.in_scope(|| tracing::info!(target: "t", "in both"));
            });
            drop(other);
            tracing::info!(target: "t", "out");
        });
        let told: Vec<_> = lines.iter().map(|line| line.split_once("INFO ").unwrap().1).collect();
        let request = r#"request{request_id="id-1" route="orders"}: "#;
        assert_eq!(told[0], format!("{request}t: in"));
        assert_eq!(told[1], r#"portcullis::access: request_id="id-1""#);
        assert_eq!(told[2], format!(r#"{request}request{{request_id="id-2"}}: t: in both"#));
        assert_eq!(told[3], "t: out");
    }

    #[test]
    fn nothing_breaks_a_line() {
        let lines = written(LevelFilter::INFO, || {
            let error = std::io::Error::other("a\nb");
            tracing::info!(target: "t", path = "/\"\n\u{1b}[0m\u{85}", error = &error as &dyn std::error::Error);
            tracing::info!(target: "t", shown = %"c\r\nd", "e\nf {}", "g\n");
        });
        let rest: Vec<_> = lines.iter().map(|line| line.split_once("INFO ").unwrap().1).collect();
        assert_eq!(rest[0], r#"t: path="/\"\n\u{1b}[0m\u{85}" error=a\nb"#);
        assert_eq!(rest[1], r"t: e\nf g\n shown=c\r\nd");
    }
}
