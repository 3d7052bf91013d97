//! What is wrong with a file, and where.
use std::{fmt, sync::Arc};

/// How many faults one reading reports; what is beyond is counted only.
const MOST: usize = 1000;

/// Whether a fault keeps a configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used, and somebody should look.
    Warning,
}

/// One thing that is wrong, with the place where it stands.
///
/// Shows as `gateway.yaml:12:7: routes[0].rules[1].retry: ...`. The text names fields, and names that exist;
/// it never repeats a value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 where the fault is of the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0 where the fault is of the file as a whole.
    pub column: usize,
    /// The path of the field, such as `routes[0].rules[1].retry`; empty at the top.
    pub path: String,
    /// What is wrong, in words.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

/// Everything that was found wrong in one reading, in the order of the file. Shows one fault a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    errors: usize,
    more: usize,
}

impl Faults {
    /// Adds one; after the first thousand they are only counted.
    pub(super) fn push(&mut self, fault: Fault) {
        self.errors += usize::from(fault.severity == Severity::Error);
        if self.list.len() < MOST {
            self.list.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// Adds a fault of a file as a whole.
    pub(super) fn of_file(&mut self, file: &str, problem: impl Into<String>) {
        let (severity, file, problem) = (Severity::Error, file.into(), problem.into());
        self.push(Fault { severity, file, line: 0, column: 0, path: String::new(), problem });
    }

    /// Puts the faults in the order of their lines. What is wrong with a file that is named twice is told once.
    pub(super) fn sort(&mut self) {
        self.list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        self.list.dedup();
    }

    /// Whether the configuration is refused: a warning alone refuses nothing.
    #[must_use]
    pub fn refuse(&self) -> bool {
        self.errors > 0
    }

    /// Whether nothing at all was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The faults, at most a thousand of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
