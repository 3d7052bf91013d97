//! One file of a known shape: its tree, and what serde makes of it.
use std::sync::Arc;

use super::{
    at::Log,
    fault::{Fault, Faults, Severity},
    reader,
    schema::Schema,
    yaml::{self, Mark, Node},
};
use serde::de::DeserializeOwned;

/// A text, read by a schema.
pub(super) struct Document<T> {
    pub(super) tree: Node,
    /// What serde makes of what is whole; nothing if the whole is faulty.
    pub(super) typed: Option<T>,
    pub(super) log: Log,
}

impl<T: DeserializeOwned> Document<T> {
    /// Reads `text`, which came from the file named `file`; nothing but the faults if it is not YAML.
    pub(super) fn read(file: &str, text: &[u8], schema: &Schema) -> Result<Self, Faults> {
        let (file, mut faults) = (Arc::<str>::from(file), Faults::default());
        let (tree, malformed) = match std::str::from_utf8(text) {
            Ok(text) => yaml::parse(text),
            Err(error) => (None, vec![not_text(&text[..error.valid_up_to()])]),
        };
        for yaml::Malformed { mark: Mark { line, column }, path, problem } in malformed {
            let (severity, file) = (Severity::Error, Arc::clone(&file));
            faults.push(Fault { severity, file, line, column, path, problem });
        }
        let Some(mut tree) = tree else { return Err(faults) };
        let read = reader::read(&mut tree, schema, &file, &mut faults);
        let typed = read.and_then(|json| match serde_json::from_value(json) {
            Ok(typed) => Some(typed),
            Err(_) => {
                faults.of_file(&file, "does not have the shape of this format");
                None
            }
        });
        Ok(Self { tree, typed, log: Log::new(file, faults) })
    }
}

/// What is not UTF-8 behind so many bytes that are.
fn not_text(before: &[u8]) -> yaml::Malformed {
    let before = String::from_utf8_lossy(before);
    let (line, last) = before.split('\n').enumerate().last().unwrap_or_default();
    let mark = Mark { line: line + 1, column: last.chars().count() + 1 };
    yaml::Malformed { mark, path: String::new(), problem: "not UTF-8".to_owned() }
}
