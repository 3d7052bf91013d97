//! How the log is written: as `tracing-subscriber` does, in a fraction of the time. Each request writes a line.
use std::{
    cell::RefCell,
    error::Error,
    fmt,
    io::{self, Write as _},
    mem,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FormatFields,
        format::{DefaultVisitor, Writer},
        time::FormatTime,
    },
};

thread_local! {
    /// What this thread has not written yet; `None` on threads that nobody tells when they rest.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Above that it does not wait for the thread to rest.
const KEPT: usize = 16 << 10;

/// The standard error. A worker of the runtime gathers lines and writes them before it rests: at once when there is
/// little to do, and many with one system call when there is much.
pub(crate) struct Lines;

impl Lines {
    /// Writes what this thread has gathered. For the runtime to call before a thread rests or ends.
    pub(crate) fn flush() {
        LINES.with_borrow_mut(|lines| {
            let lines = lines.get_or_insert_default();
            if !lines.is_empty() {
                let _ = io::stderr().write_all(lines);
                lines.clear();
            }
        });
    }
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let gathered = LINES.try_with(|lines| {
            let mut lines = lines.borrow_mut();
            let Some(lines) = &mut *lines else { return false };
            lines.extend_from_slice(line);
            if lines.len() > KEPT {
                let _ = io::stderr().write_all(lines);
                lines.clear();
            }
            true
        });
        if gathered.unwrap_or_default() { Ok(line.len()) } else { io::stderr().write(line) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time as RFC 3339 has it, to the microsecond.
pub(crate) struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let parts = [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, second / 3_600),
            (14..16, second / 60 % 60),
            (17..19, second % 60),
            (20..26, since.subsec_micros().into()),
        ];
        for (place, mut number) in parts {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        writer.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Year, month and day of the day that is so many days after 1970-01-01, in a calendar that begins in March: a leap day
/// is the last of its year then.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    match month {
        0..10 => (era * 400 + year, month + 3, day),
        _ => (era * 400 + year + 1, month - 9, day),
    }
}

/// Fields as `name=value`.
pub(crate) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { text: String::with_capacity(512), writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.hand_over();
        line.result
    }
}

/// Gathers text itself, and hands it over at the end: each word to the writer is a call through two tables.
struct Line<'w> {
    text: String,
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn name(&mut self, field: &Field) {
        if !mem::take(&mut self.is_empty) {
            self.text.push(' ');
        }
        self.text.push_str(field.name());
        self.text.push('=');
    }

    fn hand_over(&mut self) {
        self.result = self.result.and_then(|()| self.writer.write_str(&self.text));
        self.text.clear();
    }

    /// What is not said of every request is left to those who know how.
    fn as_usual(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        self.hand_over();
        record(&mut DefaultVisitor::new(self.writer.by_ref(), mem::take(&mut self.is_empty)));
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') & !matches!(byte, b'"' | b'\\');
        // Without an early end: so it is done many bytes at a time.
        let plain = text.as_bytes().iter().fold(true, |plain, byte| plain & is_plain(byte));
        if !plain || field.name() == "message" {
            return self.as_usual(|usual| usual.record_str(field, text));
        }
        self.name(field);
        self.text.push('"');
        self.text.push_str(text);
        self.text.push('"');
    }

    fn record_u64(&mut self, field: &Field, mut number: u64) {
        self.name(field);
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
            }
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.as_usual(|usual| usual.record_error(field, error));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.as_usual(|usual| usual.record_debug(field, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_778, (2026, 11, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
