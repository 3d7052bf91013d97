//! YAML as a bounded tree in which every node knows where it stands.
use std::collections::{HashMap, hash_map::Entry};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

/// The deepest nesting that is read.
const DEEPEST: usize = 32;
/// The most keys and values of a file, aliases written out.
const MOST_NODES: usize = 500_000;
/// The most bytes of keys, values and paths of a file, aliases written out.
const MOST_BYTES: usize = 32 << 20;

/// A place in a file: line and column from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// The name under which a map holds it.
    pub(super) key: Option<String>,
    /// Where that name stands; of the item of a list, where it begins.
    pub(super) key_mark: Mark,
    /// Where the value stands.
    pub(super) mark: Mark,
    /// How it is reached from the top, such as `routes[0].name`.
    pub(super) path: String,
    pub(super) value: Value,
}

/// What YAML's core schema makes of a node. No tags, no merge keys, no keys but strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Node>),
    /// Was found faulty; whoever needs it stays silent about it.
    Broken,
}

impl Node {
    /// The entry of that name, if this is a map.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key.as_deref() == Some(name)),
            _ => None,
        }
    }

    /// The entries of a map, the items of a list.
    pub(super) fn children(&self) -> &[Self] {
        match &self.value {
            Value::List(nodes) | Value::Map(nodes) => nodes,
            _ => &[],
        }
    }
}

/// The path of a field of what stands at `path`.
pub(super) fn field(path: &str, name: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{}", quoted(name))
}

/// A name as a step of a path: as it is if it is plain, else in quotes and cut.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("{:?}", name.chars().take(64).collect::<String>())
}

/// What keeps a text from being a tree, with its place and the path to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) mark: Mark,
    pub(super) path: String,
    pub(super) problem: String,
}

/// Reads one document. A syntax error ends the reading; what can be reported beside others is reported with a tree.
///
/// An empty document is [`Value::Null`].
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Malformed>) {
    let mut tree = Tree::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let done = match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                if documents > 1 { tree.stop(span, "a second document; the file holds one") } else { Ok(()) }
            }
            Ok((event, span)) => tree.take(event, span),
            Err(error) => {
                let mark = Mark::from(*error.marker());
                let mark = indenting_tab(text, mark).filter(|_| error.info().contains("tab")).unwrap_or(mark);
                Err(Malformed { mark, path: tree.path(), problem: format!("not YAML: {}", error.info()) })
            }
        };
        if let Err(fault) = done {
            tree.faults.push(fault);
            return (None, tree.faults);
        }
    }
    let top = Mark { line: 1, column: 1 };
    let empty = || Node { key: None, key_mark: top, mark: top, path: String::new(), value: Value::Null };
    (Some(tree.root.unwrap_or_else(empty)), tree.faults)
}

/// Where a line begins with a tab, here or further down: the parser tells where it began to read what the tab ended.
fn indenting_tab(text: &str, from: Mark) -> Option<Mark> {
    let indented = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut lines = text.lines().enumerate().skip(from.line - 1);
    let (index, before) = lines.find_map(|(index, line)| {
        let before = indented(line);
        line[before..].starts_with('\t').then_some((index, before))
    })?;
    Some(Mark { line: index + 1, column: before + 1 })
}

/// A list or map that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Mark)>,
    /// The lines of its keys.
    seen: HashMap<String, usize>,
    /// The key was there already: its value is read and dropped.
    twice: bool,
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
    faults: Vec<Malformed>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Malformed> {
        match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => self.stop(span, "tags are not supported"),
            Event::Scalar(text, style, anchor, None) => {
                self.spend(text.len(), span)?;
                match self.awaited_key() {
                    true => self.key(text.into_owned(), span),
                    false => self.put(scalar(&text, style), anchor, span),
                }
            }
            Event::SequenceStart(anchor, None) => self.begin(Value::List(Vec::new()), anchor, span),
            Event::MappingStart(anchor, None) => self.begin(Value::Map(Vec::new()), anchor, span),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, .. }) = self.open.pop() {
                    self.close(node, anchor);
                }
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), Malformed> {
        if self.awaited_key() {
            return self.stop(span, "a key must be a string");
        }
        if self.open.len() == DEEPEST {
            return self.stop(span, &format!("nested deeper than {DEEPEST} levels"));
        }
        let node = self.place(value, span)?;
        self.open.push(Open { node, anchor, key: None, seen: HashMap::new(), twice: false });
        Ok(())
    }

    fn put(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), Malformed> {
        let node = self.place(value, span)?;
        self.close(node, anchor);
        Ok(())
    }

    /// Hands a whole node to the one around it.
    fn close(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        if std::mem::take(&mut open.twice) {
            return;
        }
        if let Value::List(nodes) | Value::Map(nodes) = &mut open.node.value {
            nodes.push(node);
        }
    }

    /// Writes out what an anchor names, and pays for it again, so that aliases of aliases stay bounded.
    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Malformed> {
        if self.awaited_key() {
            return self.stop(span, "a key must be a string");
        }
        let Some(mut named) = self.anchors.get(&anchor).cloned() else {
            return self.stop(span, "an alias inside of what it names");
        };
        let place = self.place(Value::Null, span)?;
        self.relabel(&mut named, &place.path, span)?;
        if self.open.len() + depth(&named) > DEEPEST {
            return self.stop(span, &format!("nested deeper than {DEEPEST} levels"));
        }
        self.close(Node { value: named.value, ..place }, 0);
        Ok(())
    }

    /// Gives a copied tree its new paths.
    fn relabel(&mut self, node: &mut Node, path: &str, span: Span) -> Result<(), Malformed> {
        path.clone_into(&mut node.path);
        let own = if let Value::Text(text) = &node.value { text.len() } else { 0 };
        self.spend(own + path.len(), span)?;
        if let Value::List(nodes) | Value::Map(nodes) = &mut node.value {
            for (index, child) in nodes.iter_mut().enumerate() {
                let path =
                    child.key.as_ref().map_or_else(|| format!("{path}[{index}]"), |key| field(path, key));
                self.relabel(child, &path, span)?;
            }
        }
        Ok(())
    }

    fn key(&mut self, name: String, span: Span) -> Result<(), Malformed> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let mark: Mark = span.start.into();
        let first = match open.seen.entry(name.clone()) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(place) => {
                place.insert(mark.line);
                None
            }
        };
        open.twice = first.is_some();
        open.key = Some((name, mark));
        if let Some(line) = first {
            let problem = format!("this field is given twice: the first is in line {line}");
            self.faults.push(Malformed { mark, path: self.path(), problem });
        }
        Ok(())
    }

    fn awaited_key(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none())
    }

    /// A node that begins here, at the place that is open.
    fn place(&mut self, value: Value, span: Span) -> Result<Node, Malformed> {
        let (path, mark) = (self.path(), span.start.into());
        let (key, key_mark) = match self.open.last_mut().and_then(|open| open.key.take()) {
            Some((key, mark)) => (Some(key), mark),
            None => (None, mark),
        };
        self.spend(path.len(), span)?;
        Ok(Node { key, key_mark, mark, path, value })
    }

    /// Counts one node and so many bytes.
    fn spend(&mut self, bytes: usize, span: Span) -> Result<(), Malformed> {
        self.nodes += 1;
        self.bytes += bytes;
        if self.nodes > MOST_NODES || self.bytes > MOST_BYTES {
            return self.stop(span, "too large, its aliases written out");
        }
        Ok(())
    }

    /// The path of what is read at the moment.
    fn path(&self) -> String {
        match self.open.last() {
            None => String::new(),
            Some(Open { node, key: Some((key, _)), .. }) => field(&node.path, key),
            Some(Open { node: Node { path, value: Value::List(items), .. }, .. }) => {
                format!("{path}[{}]", items.len())
            }
            Some(open) => open.node.path.clone(),
        }
    }

    fn stop(&self, span: Span, problem: &str) -> Result<(), Malformed> {
        Err(Malformed { mark: span.start.into(), path: self.path(), problem: problem.to_owned() })
    }
}

/// Levels of a tree, which is bounded.
fn depth(node: &Node) -> usize {
    1 + node.children().iter().map(depth).max().unwrap_or(0)
}

/// YAML 1.2's core schema: only a plain scalar can be anything but text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Into::into);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Into::into);
    }
    let whole = text.parse::<i64>().map(Into::into).or_else(|_| text.parse::<u64>().map(Into::into));
    whole.ok().or_else(|| serde_json::Number::from_f64(text.parse().ok()?))
}
