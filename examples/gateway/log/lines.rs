//! Lines on their way to the standard error.
use std::{
    cell::RefCell,
    io::{self, Write as _},
};

thread_local! {
    static GATHERED: RefCell<Gathered> = const { RefCell::new(Gathered { text: Vec::new(), waits: false }) };
}

/// What this thread has not written yet.
struct Gathered {
    text: Vec<u8>,
    /// Somebody tells this thread when it rests. On others each line is written at once.
    waits: bool,
}

/// Above that it does not wait for the thread to rest.
const KEPT: usize = 16 << 10;

impl Gathered {
    fn write(&mut self) {
        if !self.text.is_empty() {
            let _ = io::stderr().write_all(&self.text);
            self.text.clear();
        }
    }
}

/// Takes one line. A worker of the runtime gathers lines and writes them before it rests: at once when there is little to
/// do, and many with one system call when there is much.
pub(super) fn write(mut line: impl FnMut(&mut Vec<u8>)) {
    let gathered = GATHERED.try_with(|gathered| {
        // It is taken where a line is logged while another is being written.
        let Ok(mut gathered) = gathered.try_borrow_mut() else { return false };
        line(&mut gathered.text);
        if !gathered.waits || gathered.text.len() > KEPT {
            gathered.write();
        }
        true
    });
    if !gathered.unwrap_or_default() {
        let mut text = Vec::new();
        line(&mut text);
        let _ = io::stderr().write_all(&text);
    }
}

/// Writes what this thread has gathered. For the runtime to call before a thread rests or ends.
pub(crate) fn flush() {
    GATHERED.with_borrow_mut(|gathered| {
        gathered.waits = true;
        gathered.write();
    });
}

#[cfg(test)]
pub(super) fn take() -> Vec<u8> {
    GATHERED.with_borrow_mut(|gathered| std::mem::take(&mut gathered.text))
}
