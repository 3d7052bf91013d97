//! How the log's lines are written: as `tracing-subscriber` does, in a third of the time. Each request writes one.
use std::{error::Error, fmt};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FormatFields,
        format::{DefaultVisitor, Writer},
    },
};

/// Fields as `name=value`.
pub(crate) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.name(field.name()).and_then(|()| value(&mut self.writer));
        }
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        self.writer.write_str(name)?;
        self.writer.write_char('=')
    }

    /// What is not said of every request is left to those who know how.
    fn as_usual(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        record(&mut DefaultVisitor::new(self.writer.by_ref(), std::mem::take(&mut self.is_empty)));
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if field.name() == "message" || !text.as_bytes().iter().all(is_plain) {
            return self.as_usual(|usual| usual.record_str(field, text));
        }
        self.field(field, |writer| {
            writer.write_char('"')?;
            writer.write_str(text)?;
            writer.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.field(field, |writer| digits(writer, number));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.as_usual(|usual| usual.record_error(field, error));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            return self.as_usual(|usual| usual.record_debug(field, value));
        }
        self.field(field, |writer| write!(writer, "{value:?}"));
    }
}

/// Decimal, as [`fmt::Display`] has it.
fn digits(writer: &mut Writer<'_>, mut number: u64) -> fmt::Result {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return writer.write_str(std::str::from_utf8(&text[at..]).unwrap_or_default());
        }
    }
}
