//! Where a compiler stands in the file, so that what it finds is reported at its place.
use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use super::{
    fault::{Fault, Faults, Severity},
    yaml::{Mark, Node, Value, field},
};

/// Collects what is found in one file.
#[derive(Debug)]
pub(super) struct Log {
    file: Arc<str>,
    faults: RefCell<Faults>,
}

impl Log {
    pub(super) fn new(file: Arc<str>, faults: Faults) -> Self {
        Self { file, faults: RefCell::new(faults) }
    }

    /// Whether the configuration cannot be used.
    pub(super) fn refuses(&self) -> bool {
        self.faults.borrow().refuse()
    }

    pub(super) fn into_faults(self) -> Faults {
        self.faults.into_inner()
    }

    /// Takes over what was found in another file.
    pub(super) fn extend(&self, faults: &Faults) {
        let mut all = self.faults.borrow_mut();
        faults.iter().for_each(|fault| all.push(fault.clone()));
    }
}

/// A node of the tree, or a field that the node around it does not have.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    node: &'a Node,
    absent: Option<&'a str>,
    log: &'a Log,
}

impl<'a> At<'a> {
    pub(super) fn top(node: &'a Node, log: &'a Log) -> Self {
        Self { node, absent: None, log }
    }

    /// A field of this map, whether it is there or not.
    pub(super) fn field(self, name: &'a str) -> Self {
        match self.node.get(name) {
            _ if self.absent.is_some() => self,
            Some(node) => Self { node, ..self },
            None => Self { absent: Some(name), ..self },
        }
    }

    /// The items of this list, with what serde made of them.
    pub(super) fn items<T>(self, typed: &'a [T]) -> impl Iterator<Item = (Self, &'a T)> {
        self.whole().zip(typed)
    }

    /// The entries of this map, with what serde made of them.
    pub(super) fn entries<T>(
        self,
        typed: &'a BTreeMap<String, T>,
    ) -> impl Iterator<Item = (Self, &'a str, &'a T)> {
        self.whole().zip(typed).map(|(at, (name, value))| (at, name.as_str(), value))
    }

    /// The item of this list with that index, or the list itself.
    pub(super) fn nth(self, index: usize) -> Self {
        self.whole().nth(index).unwrap_or(self)
    }

    /// What stands in this node and was read; the order is serde's.
    fn whole(self) -> impl Iterator<Item = Self> {
        let nodes = if self.absent.is_some() { &[] } else { self.node.children() };
        nodes.iter().filter(|node| node.value != Value::Broken).map(move |node| Self { node, ..self })
    }

    /// The names in this map, also of what is faulty.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        let nodes = if self.absent.is_some() { &[] } else { self.node.children() };
        nodes.iter().filter_map(|node| node.key.as_deref())
    }

    /// Whether it stands in the file, sound or not.
    pub(super) fn is_said(self) -> bool {
        self.absent.is_none()
    }

    /// Whether something of it was faulty.
    pub(super) fn is_broken(self) -> bool {
        let broken = |node: &Node| node.value == Value::Broken;
        self.absent.is_none() && (broken(self.node) || self.node.children().iter().any(broken))
    }

    /// Reports what keeps the configuration from being used.
    pub(super) fn error(self, problem: impl Into<String>) {
        self.report(Severity::Error, problem.into());
    }

    /// Reports what keeps the configuration from being used, in the place of a value.
    pub(super) fn refuse<T>(self, problem: impl Into<String>) -> Option<T> {
        self.error(problem);
        None
    }

    /// Reports what somebody should look at.
    pub(super) fn warn(self, problem: impl Into<String>) {
        self.report(Severity::Warning, problem.into());
    }

    /// The value, or its error reported here.
    pub(super) fn accept<T, E: ToString>(self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.error(error.to_string())).ok()
    }

    pub(super) fn log(self) -> &'a Log {
        self.log
    }

    fn report(self, severity: Severity, problem: String) {
        let path = self.absent.map_or_else(|| self.node.path.clone(), |name| field(&self.node.path, name));
        let Mark { line, column } = if self.node.key.is_some() { self.node.key_mark } else { self.node.mark };
        let file = Arc::clone(&self.log.file);
        self.log.faults.borrow_mut().push(Fault { severity, file, line, column, path, problem });
    }
}
