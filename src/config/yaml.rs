//! YAML as a bounded tree in which every node knows where it stands.
use std::collections::{HashMap, HashSet};

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
                let mark = (*error.marker()).into();
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

/// A list or map that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Mark)>,
    seen: HashSet<String>,
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
        self.open.push(Open { node, anchor, key: None, seen: HashSet::new(), twice: false });
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
        let mark = span.start.into();
        open.twice = !open.seen.insert(name.clone());
        open.key = Some((name, mark));
        if open.twice {
            let problem = "this field is given twice".to_owned();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(text: &str) -> Node {
        let (tree, faults) = parse(text);
        assert_eq!(faults, []);
        tree.unwrap()
    }

    /// `line:column path: problem` of each fault.
    fn faults(text: &str) -> Vec<String> {
        let show = |fault: &Malformed| {
            format!("{}:{} {}: {}", fault.mark.line, fault.mark.column, fault.path, fault.problem)
        };
        parse(text).1.iter().map(show).collect()
    }

    fn at<'a>(node: &'a Node, path: &str) -> &'a Node {
        let found = node.children().iter().find_map(|child| match child.path.as_str() {
            there if there == path => Some(child),
            above if path.starts_with(above) => Some(at(child, path)),
            _ => None,
        });
        found.unwrap_or(node)
    }

    #[test]
    fn every_node_knows_its_place() {
        let tree = tree("a:\n  - b: 1\n    \"c d\": x\n  - [y,\n     z]\n");
        for (path, line, column) in
            [("a[0].b", 2, 8), ("a[0].\"c d\"", 3, 12), ("a[1]", 4, 5), ("a[1][1]", 5, 6)]
        {
            let node = at(&tree, path);
            assert_eq!((node.path.as_str(), node.mark), (path, Mark { line, column }));
        }
        assert_eq!(at(&tree, "a[0].b").key_mark, Mark { line: 2, column: 5 });
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let value = |text: &str| tree(&format!("v: {text}")).get("v").unwrap().value.clone();
        let text = |text: &str| Value::Text(text.to_owned());
        for null in ["", "~", "null"] {
            assert_eq!(value(null), Value::Null, "{null}");
        }
        assert_eq!(value("true"), Value::Bool(true));
        for word in
            ["yes", "no", "on", "\"true\"", "'1'", ".", "1.2.3", "0x", "0xg", "10/s", "2026-11-21", "1_000"]
        {
            assert_eq!(value(word), text(word.trim_matches(['"', '\''])), "{word}");
        }
        for (number, is) in [("1", 1), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("010", 10)] {
            assert_eq!(value(number), Value::Number(is.into()), "{number}");
        }
        assert_eq!(value("18446744073709551615"), Value::Number(u64::MAX.into()));
        assert!(matches!(value("1.5"), Value::Number(number) if number.is_f64()));
        assert_eq!(value("|\n  1\n"), text("1\n"));
    }

    #[test]
    fn what_is_no_plain_tree_is_refused() {
        assert_eq!(
            faults("a: 1\nb:\n  c: 1\n  c: [2]\na: {}\n"),
            ["4:3 b.c: this field is given twice", "5:1 a: this field is given twice",]
        );
        assert_eq!(faults("a: !x 1"), ["1:4 a: tags are not supported"]);
        assert_eq!(faults("a: !!str 1"), ["1:4 a: tags are not supported"]);
        assert_eq!(faults("a: 1\n---\nb: 1"), ["2:1 : a second document; the file holds one"]);
        assert_eq!(faults("[1]: 2"), ["1:1 : a key must be a string"]);
        assert_eq!(faults("a: &x b\n*x : 2"), ["2:1 : a key must be a string"]);
        assert_eq!(faults("a: &x [*x]"), ["1:8 a[0]: an alias inside of what it names"]);
        assert_eq!(
            faults("a: [1"),
            ["2:1 a[1]: not YAML: while parsing a flow sequence, expected ',' or ']'"]
        );
        assert_eq!(tree("").value, Value::Null);
        assert_eq!(tree("# nothing\n").value, Value::Null);
    }

    #[test]
    fn a_duplicate_keeps_the_first() {
        let (tree, _) = parse("a: {x: 1}\na: {x: 2, y: [3]}\nb: 4");
        let tree = tree.unwrap();
        assert_eq!(tree.children().len(), 2);
        assert_eq!(at(&tree, "a.x").value, Value::Number(1.into()));
    }

    #[test]
    fn an_alias_is_what_it_names_at_its_own_place() {
        let tree = tree("a: &x {k: [1]}\nb: *x");
        assert_eq!(at(&tree, "b.k[0]").path, "b.k[0]");
        assert_eq!(at(&tree, "b.k[0]").mark, Mark { line: 1, column: 12 });
    }

    /// Bombs of all kinds end in a fault, not in memory or in a stack overflow.
    #[test]
    fn bombs_are_bounded() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..20 {
            let list = vec![format!("*a{}", level - 1); 9].join(",");
            laughs += &format!("a{level}: &a{level} [{list}]\n");
        }
        let text = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), vec!["*a"; 100_000].join(","));
        let long = format!("{}: 1", "k".repeat(1000));
        let deep_alias =
            "a: &a [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\nb: &b [[[[[[[[[[[[[[*a]]]]]]]]]]]]]]";
        for bomb in
            [&laughs, &text, deep_alias, &"[".repeat(1 << 20), &"- ".repeat(1 << 19), &"{a: ".repeat(1 << 18)]
        {
            let (tree, faults) = parse(bomb);
            assert!(tree.is_none());
            assert_eq!(faults.len(), 1);
            let problem = &faults[0].problem;
            assert!(
                ["too large", "nested", "not YAML"].iter().any(|word| problem.starts_with(word)),
                "{problem}"
            );
            assert!(faults[0].path.len() < 4096);
        }
        assert!(tree(&long).children()[0].path.len() < 80);
        let many: String = (0..60_000).map(|index| format!("k{index}: v\n")).collect();
        assert_eq!(tree(&many).children().len(), 60_000);
    }

    proptest! {
        /// Whatever comes in: no panic, marks inside of the text, and an end.
        #[test]
        fn any_text_is_read_or_refused(text in "([ \\-\\[\\]{}:,&*!|>'\"#%@`?a\n\t~0.]|\\PC){0,200}") {
            let (tree, faults) = parse(&text);
            prop_assert!(tree.is_some() || !faults.is_empty());
            for fault in faults {
                prop_assert!(fault.mark.line >= 1 && fault.mark.line <= text.lines().count() + 2);
                prop_assert!(fault.mark.column >= 1);
            }
        }
    }

    /// JSON is YAML.
    #[test]
    fn json_is_read() {
        let tree = tree("{\"a\": [1, true, null, \"x\\u0041\"], \"b\": {\"c\": -1.5e3}}");
        assert_eq!(at(&tree, "a[3]").value, Value::Text("xA".to_owned()));
    }
}
