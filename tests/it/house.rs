//! The rules of the house, checked on its own source.

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOMS: [&str; 8] =
    ["transport", "telemetry", "authn", "admission", "content", "routing", "resilience", "upstream"];

/// Those that may name them.
const ABOVE: [&str; 2] = ["stack", "config"];

/// The files under `folder` of this package that end like this, with their text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.to_str().unwrap().ends_with(ending) {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "no {ending} under {folder}");
    found
}

/// The lines before the file's own tests, with their numbers. These are a module in it: what else is only for tests
/// stands among the code.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_module =
        |line: &str| line.contains("mod ") && !line.starts_with(char::is_whitespace) && line.ends_with('{');
    let next = text.lines().skip(1).chain([""]);
    let own = text.lines().zip(next).take_while(move |(line, next)| {
        !(line.starts_with("#[cfg(") && line.contains("test") && is_module(next))
    });
    own.enumerate().map(|(n, (line, _))| (n + 1, line))
}

#[test]
fn what_is_only_for_tests_hides_no_code() {
    let text = "a\n#[cfg(test)]\nthread_local! {\n}\n#[cfg(test)]\nmod tests;\nb\n#[cfg(all(test, feature = \"jwt\"))]\nmod tests {\nc\n";
    let code: Vec<_> = code(text).map(|(n, _)| n).collect();
    assert_eq!(code, [1, 2, 3, 4, 5, 6, 7]);
}

fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn none(what: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{what}:\n{}", broken.join("\n"));
}

/// Which modules of this crate the code names, and where: `crate::name`, and each `name` of `crate::{name, ..}`.
fn named(text: &str) -> Vec<(usize, String)> {
    let lines = code(text).flat_map(|(_, line)| [if is_comment(line) { "" } else { line }, "\n"]);
    let text: String = lines.collect();
    let mut named = Vec::new();
    for (at, path) in text.match_indices("crate::") {
        let (start, mut depth) = (at + path.len(), 0);
        for (offset, c) in text[start..].char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            let begins = match c {
                '{' | ',' => depth == 1,
                _ => offset == 0,
            };
            let rest = text[start + offset..].trim_start_matches(['{', ',']).trim_start();
            let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if begins && !word.is_empty() {
                named.push((text[..text.len() - rest.len()].lines().count(), word));
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}

#[test]
fn a_room_names_no_other_room() {
    let mut broken = Vec::new();
    for (name, text) in files("src", ".rs") {
        let Some(room) = ROOMS.iter().find(|room| name.starts_with(&format!("src/{room}/"))) else {
            continue;
        };
        let others = |word: &str| word != *room && (ROOMS.contains(&word) || ABOVE.contains(&word));
        let found = named(&text).into_iter().filter(|(_, word)| others(word));
        broken.extend(found.map(|(n, word)| format!("{name}:{n}: {word}")));
    }
    none("only stack/ and config/ see the rooms", &broken);
}

#[test]
fn the_vocabulary_names_no_room() {
    let mut broken = Vec::new();
    for (name, text) in files("src", ".rs") {
        let in_a_room = ROOMS.iter().chain(&ABOVE).chain(&["testing", "lib.rs"]);
        if in_a_room.into_iter().any(|room| name.starts_with(&format!("src/{room}"))) {
            continue;
        }
        let rooms = |word: &str| ROOMS.contains(&word) || ABOVE.contains(&word);
        let found = named(&text).into_iter().filter(|(_, word)| rooms(word));
        broken.extend(found.map(|(n, word)| format!("{name}:{n}: {word}")));
    }
    none("a word knows no room", &broken);
}

#[test]
fn names_are_found_wherever_they_stand() {
    let text = "use crate::{\n    body::{Body, authn},\n    authn::Providers, routing,\n};\n// crate::config\nlet a = crate::stack::b();\n";
    let found = named(text);
    let found: Vec<_> = found.iter().map(|(line, word)| (*line, word.as_str())).collect();
    assert_eq!(found, [(2, "body"), (3, "authn"), (3, "routing"), (6, "stack")]);
}

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for (name, text) in files("src", ".rs") {
        let lines = code(&text).count();
        if lines > 400 && !is_test(&name) {
            broken.push(format!("{name}: {lines} lines"));
        }
    }
    none("a file stays under 400 lines without its tests", &broken);
}

#[test]
fn a_mod_file_holds_docs_and_names_only() {
    let mut broken = Vec::new();
    for (name, text) in files("src", "mod.rs") {
        if is_test(&name) {
            continue;
        }
        let logic = code(&text).filter(|(_, line)| {
            !is_comment(line)
                && ["fn ", "impl ", "impl<", "struct ", "enum ", "trait ", "const ", "static ", "type "]
                    .iter()
                    .any(|word| {
                        line.trim_start()
                            .trim_start_matches("pub ")
                            .trim_start_matches("pub(crate) ")
                            .starts_with(word)
                    })
        });
        broken.extend(logic.map(|(n, line)| format!("{name}:{n}: {}", line.trim())));
    }
    none("mod.rs holds docs, `mod` and `pub use`", &broken);
}

#[test]
fn serde_stays_where_bytes_are_parsed() {
    // The file, tokens, the file of keys, and the admin address's JSON.
    let homes = [
        "src/config/",
        "src/authn/jwt/",
        "src/authn/introspection/verdict.rs",
        "src/authn/oauth/client.rs",
        "src/authn/outbound/answer.rs",
        "src/authn/jwks/",
        "src/authn/api_key/",
        "src/stack/",
        "src/telemetry/capture.rs",
    ];
    let mut broken = Vec::new();
    for (name, text) in files("src", ".rs") {
        if is_test(&name) || homes.iter().any(|home| name.starts_with(home)) {
            continue;
        }
        let named = code(&text).filter(|(_, line)| !is_comment(line) && line.contains("serde"));
        broken.extend(named.map(|(n, line)| format!("{name}:{n}: {}", line.trim())));
    }
    none("a middleware knows no serde", &broken);
}

#[test]
fn nothing_is_left_undone() {
    let marks = [
        concat!("todo", "!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    let fences = [concat!("```ig", "nore"), concat!("```rust,ig", "nore"), concat!("```no", "_run")];
    let mut broken = Vec::new();
    for folder in ["src", "examples", "tests", "benches"] {
        for (name, text) in files(folder, ".rs") {
            let left = text
                .lines()
                .enumerate()
                .filter(|(_, line)| marks.iter().chain(&fences).any(|m| line.contains(m)));
            broken.extend(left.map(|(n, line)| format!("{name}:{}: {}", n + 1, line.trim())));
        }
    }
    none("every example runs and nothing is a stub", &broken);
}

/// The crates on which the project is built.
const FOUNDATION: [&str; 10] = [
    "tower",
    "tower_layer",
    "tower_service",
    "http",
    "pin_project_lite",
    "jsonwebtoken",
    "governor",
    "tokio",
    "tracing",
    "thiserror",
];

#[test]
fn it_is_built_on_its_foundation() {
    let sources = files("src", ".rs");
    let uses = |name: &str| {
        let path = format!("{name}::");
        sources.iter().any(|(_, text)| code(text).any(|(_, line)| !is_comment(line) && line.contains(&path)))
    };
    let unused: Vec<_> = FOUNDATION.into_iter().filter(|name| !uses(name)).map(String::from).collect();
    none("no code uses", &unused);
}

/// Each name of a metric that the code tells stands in the list of them.
#[test]
fn every_metric_is_in_the_list() {
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let mut seen = 0;
    let mut unlisted = Vec::new();
    for (name, text) in files("src/stack", ".rs") {
        for call in ["counter(", "gauge(", "count("] {
            for (at, _) in text.match_indices(call) {
                let Some(rest) = text[at + call.len()..].trim_start().strip_prefix('"') else { continue };
                let metric = rest.split('"').next().unwrap_or_default();
                seen += 1;
                if ["`", "_total`"].iter().all(|end| !list.contains(&format!("`{metric}{end}"))) {
                    unlisted.push(format!("{name}: {metric}"));
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} calls were found");
    let told: Vec<_> = ["docs", "README.md"].into_iter().flat_map(|place| files(place, ".md")).collect();
    let told = told.iter().flat_map(|(name, text)| series(text).map(move |series| (name, series)));
    let mut seen = 0;
    for (name, metric) in told {
        seen += 1;
        let mut parts =
            ["", "_bucket", "_sum", "_count"].into_iter().filter_map(|part| metric.strip_suffix(part));
        if !parts.any(|metric| list.contains(&format!("`{metric}`"))) {
            unlisted.push(format!("{name}: portcullis_{metric}"));
        }
    }
    assert!(seen > 20, "only {seen} series were found");
    none("metrics that docs/metrics.md does not list", &unlisted);
}

/// The series that a text names.
fn series(text: &str) -> impl Iterator<Item = &str> {
    let is_other = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
    let named = text.split("portcullis_").skip(1);
    named.map(move |rest| rest.split(is_other).next().unwrap_or_default()).filter(|name| !name.is_empty())
}

#[test]
fn series_are_found_in_a_text() {
    let text =
        "`portcullis_a_total` and\nportcullis_b{x=\"1\"} 2, all begin with `portcullis_`; `portcullis::c`";
    assert_eq!(series(text).collect::<Vec<_>>(), ["a_total", "b"]);
}

/// The types of which layers are made, and the file of each.
fn makers_of_layers() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, text) in files("src", ".rs") {
        if is_test(&name) || name.starts_with("src/testing") {
            continue;
        }
        let mut of = String::new();
        for (_, line) in code(&text).filter(|(_, line)| !is_comment(line)) {
            if line.starts_with("impl") {
                let told = line.split_once(" for ").map_or_else(|| after_generics(line), |(_, told)| told);
                of = told.chars().take_while(|c| c.is_alphanumeric()).collect();
            }
            let is_layer = line.starts_with("impl") && line.contains(" Layer<") && line.contains(" for ");
            let makes = line.contains("pub fn ") && line.contains("layer(") && !of.ends_with("Layer");
            if is_layer || makes {
                found.push((name.clone(), of.clone()));
            }
        }
    }
    found
}

/// What stands behind `impl<..>`.
fn after_generics(line: &str) -> &str {
    let mut depth = 0;
    let end = line.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        (depth == 0 && (c == '>' || c == ' ')).then_some(at + 1)
    });
    end.map_or("", |end| line[end..].trim_start())
}

/// Who keeps the laws is in the matrix.
#[test]
fn every_layer_is_held_to_the_contract() {
    // The one answers each request itself, so that nothing passes in which a law could be seen. The other is for tests, and a
    // layer of tracing's.
    const NOT_HELD: [&str; 2] = ["Redirect", "Log"];
    const MADE_BY: [(&str, &str); 3] =
        [("SyncRateLimit", "sync"), ("RequestHeaders", "for_requests"), ("ResponseHeaders", "for_responses")];
    let makers = makers_of_layers();
    assert!(makers.len() > 50, "{makers:?}");
    let checked = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/contract/layers.rs"));
    let checked = checked.unwrap();
    let words: std::collections::HashSet<&str> =
        checked.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing = |of: &str| {
        let made_by = MADE_BY.iter().find(|(made, _)| *made == of).map_or(of, |(_, by)| by);
        !words.contains(made_by) && !NOT_HELD.contains(&of)
    };
    let broken: Vec<_> =
        makers.iter().filter(|(_, of)| missing(of)).map(|(name, of)| format!("{name}: {of}")).collect();
    none("not in tests/it/contract/layers.rs", &broken);
}

/// What each layer costs is measured: a row of `benches/layers.rs`, under the name it has in the matrix of laws.
#[test]
fn every_layer_has_a_bench() {
    /// Those that need more than a service around which they stand, and where they have it.
    const ELSEWHERE: [(&str, &str); 4] = [
        ("mirror", "fn mirror_with_shadow("),
        ("mirror, to nobody", "fn mirror_with_shadow("),
        ("rate limit, beside one on Redis", "async fn instances("),
        ("rate limit, shaping fast", "    rate_limit_shaping: "),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let matrix = fs::read_to_string(root.join("docs/contract.md")).unwrap();
    let names = matrix.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let names = names.map_while(|line| line.strip_prefix("| ")?.split(" |").next());
    let benches = files("benches", ".rs").into_iter().map(|(_, text)| text).collect::<String>();
    let has_none = |name: &&str| {
        let row = format!("\n    {}: ", name.replace('\'', "").replace(", ", "_").replace(' ', "_"));
        let elsewhere = ELSEWHERE.iter().find(|(layer, _)| layer == name).map_or(&*row, |(_, bench)| bench);
        !benches.contains(elsewhere)
    };
    let names: Vec<_> = names.collect();
    assert!(names.len() > 50, "{names:?}");
    none(
        "a layer without a bench",
        &names.into_iter().filter(has_none).map(str::to_owned).collect::<Vec<_>>(),
    );
}
