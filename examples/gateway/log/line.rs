//! The fields of an event or of a span, as text.
use std::{
    error::Error,
    fmt::{self, Write as _},
};

use tracing::field::{Field, Visit};

/// Writes fields as ` name=value`. No value can end the line or command a terminal.
pub(super) struct Line<'t>(&'t mut Vec<u8>);

impl<'t> Line<'t> {
    pub(super) fn new(text: &'t mut Vec<u8>) -> Self {
        Self(text)
    }

    /// A message has no name.
    fn name(&mut self, field: &Field) {
        self.0.push(b' ');
        if field.name() != "message" {
            self.0.extend_from_slice(field.name().as_bytes());
            self.0.push(b'=');
        }
    }
}

/// Needs no quoting between quotes.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            let mut plain = piece.chars();
            match plain.next_back().filter(|last| last.is_control()) {
                Some(control) => {
                    self.0.extend_from_slice(plain.as_str().as_bytes());
                    self.0.extend(control.escape_default().map(|sign| sign as u8));
                }
                None => self.0.extend_from_slice(piece.as_bytes()),
            }
        }
        Ok(())
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            return self.record_debug(field, &format_args!("{text}"));
        }
        self.name(field);
        if text.bytes().all(|byte| PLAIN[usize::from(byte)]) {
            self.0.push(b'"');
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(b'"');
        } else {
            let _ = write!(self, "{text:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, mut number: u64) {
        self.name(field);
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.0.extend_from_slice(&digits[at..]);
            }
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{error}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        let _ = write!(self, "{value:?}");
    }
}
