//! A gateway's file: whatever it says, it is accepted or refused with faults that have a place in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::config::Config;

fuzz_target!(|text: &str| {
    // The file may name others. Which of those are there is no part of the input, and some never end.
    if text.contains("file") || text.contains("File") {
        return;
    }
    let check = Config::text("fuzz.yaml", text).check();
    assert_eq!(check.is_accepted(), !check.faults().refuse());
    // YAML ends a line with a carriage return, too, and what is missing at the end is missed one line further.
    let lines = text.matches(['\n', '\r']).count() + 2;
    assert!(check.faults().iter().all(|fault| (1..=lines).contains(&fault.line) || fault.line == 0));
    assert!(!check.to_string().is_empty());
});
