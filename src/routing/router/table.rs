//! The compiled rules: by host, then by path. What is found first is what goes first.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::matching::{HostPattern, PathKind, RequestMatch, Target};

/// Which rule, and how much of the path was its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rule: usize,
    pub(super) prefix: Option<usize>,
}

/// Rules by host.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Paths>,
    /// Keyed by what follows the `*`.
    suffixes: HashMap<Box<str>, Paths>,
    /// The most labels that a suffix has: no more are looked up, whatever the host.
    suffix_labels: usize,
    any: Paths,
}

impl Table {
    /// Adds a match of a rule. Returns the rule that hides it, if one does.
    pub(super) fn insert(
        &mut self,
        host: &HostPattern,
        rule: usize,
        request: &Arc<RequestMatch>,
    ) -> Option<usize> {
        let paths = match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Suffix(suffix) => {
                self.suffix_labels = self.suffix_labels.max(labels(suffix));
                self.suffixes.entry(suffix.clone()).or_default()
            }
            _ => &mut self.any,
        };
        paths.insert(rule, request)
    }

    /// To be called after the last match was added: puts equals in order.
    pub(super) fn finish(&mut self) {
        let named = self.exact.values_mut().chain(self.suffixes.values_mut());
        named.chain([&mut self.any]).for_each(Paths::finish);
    }

    pub(super) fn find(&self, target: &Target<'_>) -> Option<Found> {
        let host = target.host();
        let exact = self.exact.get(host).and_then(|paths| paths.find(target));
        exact.or_else(|| self.find_by_suffix(host, target)).or_else(|| self.any.find(target))
    }

    fn find_by_suffix(&self, host: &str, target: &Target<'_>) -> Option<Found> {
        if self.suffixes.is_empty() {
            return None;
        }
        let too_long = labels(host).saturating_sub(self.suffix_labels);
        let suffixes = host.match_indices('.').skip(too_long).map(|(at, _)| &host[at..]);
        suffixes.filter_map(|suffix| self.suffixes.get(suffix)).find_map(|paths| paths.find(target))
    }
}

/// The number of labels in `.a.b`; in `x.a.b`, of those after the first.
fn labels(name: &str) -> usize {
    name.bytes().filter(|byte| *byte == b'.').count()
}

/// The rules of one host, by path.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Equals>,
    patterns: Equals,
    prefixes: Trie,
}

impl Paths {
    fn insert(&mut self, rule: usize, request: &Arc<RequestMatch>) -> Option<usize> {
        let equals = match &request.path.0 {
            PathKind::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathKind::Prefix(prefix) => self.prefixes.entry(prefix),
            PathKind::Regex(_) => &mut self.patterns,
        };
        equals.insert(rule, request)
    }

    fn finish(&mut self) {
        let nodes = self.prefixes.nodes.iter_mut().map(|node| &mut node.rules);
        self.exact.values_mut().chain(nodes).chain([&mut self.patterns]).for_each(Equals::sort);
    }

    fn find(&self, target: &Target<'_>) -> Option<Found> {
        let exact = self.exact.get(target.path()).and_then(|equals| equals.find(target));
        let rule = exact.or_else(|| self.patterns.find_with_path(target));
        match rule {
            Some(rule) => Some(Found { rule, prefix: None }),
            None => self.prefixes.find(target),
        }
    }
}

/// Rules whose paths do not decide between them.
#[derive(Debug, Default)]
struct Equals(Vec<(usize, Arc<RequestMatch>)>);

impl Equals {
    fn insert(&mut self, rule: usize, request: &Arc<RequestMatch>) -> Option<usize> {
        let same = self.0.iter().find(|(_, known)| known.is_same(request));
        if let Some((by, _)) = same {
            return Some(*by);
        }
        self.0.push((rule, Arc::clone(request)));
        None
    }

    /// Stable, so that what is still equal keeps the order in which it was given.
    fn sort(&mut self) {
        self.0.sort_by_key(|(_, request)| {
            Reverse((request.method.is_some(), request.headers.len(), request.query.len()))
        });
    }

    fn find(&self, target: &Target<'_>) -> Option<usize> {
        self.0.iter().find(|(_, request)| request.matches_beside_path(target)).map(|(rule, _)| *rule)
    }

    fn find_with_path(&self, target: &Target<'_>) -> Option<usize> {
        self.0.iter().find(|(_, request)| request.matches(target)).map(|(rule, _)| *rule)
    }
}

/// Path prefixes by segment. The first node is the root, `/`.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    parent: Option<usize>,
    /// The length of the prefix that this node stands for.
    length: usize,
    rules: Equals,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Trie {
    fn entry(&mut self, prefix: &str) -> &mut Equals {
        let mut at = 0;
        for segment in segments(prefix) {
            at = match self.nodes[at].children.get(segment) {
                Some(child) => *child,
                None => self.add(at, segment),
            };
        }
        &mut self.nodes[at].rules
    }

    fn add(&mut self, parent: usize, segment: &str) -> usize {
        let child = self.nodes.len();
        let length = self.nodes[parent].length + 1 + segment.len();
        self.nodes[parent].children.insert(segment.into(), child);
        self.nodes.push(Node { parent: Some(parent), length, ..Node::default() });
        child
    }

    /// Goes down as far as the path goes along, then looks on the way back, so that the longest goes first.
    fn find(&self, target: &Target<'_>) -> Option<Found> {
        let mut at = 0;
        for segment in segments(target.path()) {
            match self.nodes[at].children.get(segment) {
                Some(child) => at = *child,
                None => break,
            }
        }
        let mut next = Some(at);
        while let Some(node) = next.and_then(|at| self.nodes.get(at)) {
            if let Some(rule) = node.rules.find(target) {
                return Some(Found { rule, prefix: Some(node.length) });
            }
            next = node.parent;
        }
        None
    }
}

/// None in `*` and in an empty path.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}
