//! The tree of a file.
use proptest::prelude::*;

use super::yaml::*;

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
    for (path, line, column) in [("a[0].b", 2, 8), ("a[0].\"c d\"", 3, 12), ("a[1]", 4, 5), ("a[1][1]", 5, 6)]
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
        [
            "4:3 b.c: this field is given twice: the first is in line 3",
            "5:1 a: this field is given twice: the first is in line 1",
        ]
    );
    assert_eq!(faults("a: !x 1"), ["1:4 a: tags are not supported"]);
    assert_eq!(faults("a: !!str 1"), ["1:4 a: tags are not supported"]);
    assert_eq!(faults("a: 1\n---\nb: 1"), ["2:1 : a second document; the file holds one"]);
    assert_eq!(faults("[1]: 2"), ["1:1 : a key must be a string"]);
    assert_eq!(faults("a: &x b\n*x : 2"), ["2:1 : a key must be a string"]);
    assert_eq!(faults("a: &x [*x]"), ["1:8 a[0]: an alias inside of what it names"]);
    assert_eq!(faults("a: [1"), ["2:1 a[1]: not YAML: while parsing a flow sequence, expected ',' or ']'"]);
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
    let deep_alias = "a: &a [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\nb: &b [[[[[[[[[[[[[[*a]]]]]]]]]]]]]]";
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

/// A file is read while it is written: every beginning of it is a file, or is refused.
#[test]
fn every_beginning_of_a_file_is_read() {
    let whole = include_str!("../../tests/data/shop/gateway.yaml");
    for (end, _) in whole.char_indices().step_by(23) {
        let _ = crate::config::Config::text("f", &whole[..end]).check();
    }
}
