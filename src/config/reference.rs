//! `docs/config.md` and `docs/gateway.schema.json`, written from the schema.
use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value as Json;

use super::schema::{Client, Gateway, KeyFile, schema_of};
use crate::stack::bless;

const HEAD: &str = "\
# The configuration file

This is every field, by name; [a file of your own](guides/your_own_file.md) begins with a file of ten lines.

YAML (or JSON), in camelCase, of at most 1 MiB. A field that is not known is an error, and so is one that is left
empty, or whose room is not built yet; everything that is wrong is reported at once, with file, line, column and path, and
without repeating what the file says. `gateway check FILE` does that without serving. Editors learn the format from
[`gateway.schema.json`](gateway.schema.json): `# yaml-language-server: $schema=...` as the first line.

Paths of files are relative to the file. A change of the file, or of a file that it names, is in force within two
seconds, all of it at once; a file with an error changes nothing, and shows in the log, in `/status` and in the metric
`portcullis_config_load_failures_total`. Limits, and connections to upstreams, are kept by their names. Requests end
under the configuration under which they began. A listener moves to an address only if it can be bound beside the old
one.

Replace a file by renaming a whole one into its place. One that is written in place can be seen half written: a half that is
no valid file changes nothing, but one that is valid, and rests for a quarter of a second, is taken as it is.
`requireAuthentication: true` keeps a rule that lost its `authenticate` in that way from becoming public.

Routes are the Gateway API's `HTTPRoute`: their `rules` are its `HTTPRouteRule`s, field for field and with its
precedence, and `policies` beside them. A `backendRefs` entry names an upstream; `kind` may be `Upstream` or `Service`.

This page is written from the schema (`BLESS=1 cargo test --features full --lib config::`).
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut told = BTreeSet::new();
    for (schema, title) in [
        (schema_of::<Gateway>(), "The file"),
        (schema_of::<KeyFile>(), "The file of API keys"),
        (schema_of::<Client>(), "The file of a mesh client"),
    ] {
        section(&mut page, title, &schema);
        for (name, of) in schema.get("$defs").and_then(Json::as_object).into_iter().flatten() {
            if told.insert(name.clone()) {
                section(&mut page, name, of);
            }
        }
    }
    page
}

fn section(page: &mut String, title: &str, schema: &Json) {
    let description = schema.get("description").and_then(Json::as_str).unwrap_or_default().replace('\n', " ");
    let properties = schema.get("properties").and_then(Json::as_object);
    let choices: Vec<&Json> =
        ["oneOf", "anyOf"].iter().filter_map(|of| schema.get(of)?.as_array()).flatten().collect();
    let words: Vec<_> = choices.iter().filter(|choice| choice.get("const").is_some()).collect();
    let _ = write!(page, "\n## {title}\n\n");
    if !description.is_empty() {
        let _ = write!(page, "{description}\n\n");
    }
    if let Some(properties) = properties {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        page.push_str("| field | type | default | meaning |\n|---|---|---|---|\n");
        for (name, field) in properties {
            let (meaning, default) = meaning(field);
            let default = match default.as_str() {
                _ if required.contains(&name.as_str()) => "required",
                "" if field.get("not").is_none() => "none",
                default => default,
            };
            let _ = writeln!(page, "| `{name}` | {} | {default} | {meaning} |", kind(field));
        }
    } else if !words.is_empty() {
        page.push_str("| value | meaning |\n|---|---|\n");
        for word in words {
            let (meaning, _) = meaning(word);
            let _ = writeln!(page, "| `{}` | {meaning} |", word["const"].as_str().unwrap_or_default());
        }
        for list in choices.iter().filter_map(|choice| choice.get("enum")?.as_array()) {
            for word in list.iter().filter_map(Json::as_str) {
                let _ = writeln!(page, "| `{word}` | |");
            }
        }
    } else {
        let _ = writeln!(page, "{}.", kind(schema));
    }
}

/// The description without its default, and the default.
fn meaning(field: &Json) -> (String, String) {
    let text = field.get("description").and_then(Json::as_str).unwrap_or_default().replace('\n', " ");
    let (meaning, default) = text.split_once("Default: ").unwrap_or((&text, ""));
    let meaning = match field.get("not") {
        Some(_) => format!("Refused: not supported yet. {meaning}"),
        None => meaning.to_owned(),
    };
    (meaning.trim().to_owned(), default.trim().trim_end_matches('.').to_owned())
}

fn kind(field: &Json) -> String {
    let reference = |field: &Json| {
        let name = field.get("$ref")?.as_str()?.rsplit('/').next()?;
        Some(format!("[{name}](#{})", name.to_lowercase()))
    };
    if let Some(name) = reference(field) {
        return name;
    }
    if field.get("not").is_some() {
        return String::new();
    }
    if let Some(of) = field.get("anyOf").or_else(|| field.get("oneOf")).and_then(Json::as_array) {
        let kinds: Vec<_> = of.iter().map(kind).filter(|kind| kind != "null").collect();
        return kinds.join(" or ");
    }
    if let Some(words) = field.get("enum").and_then(Json::as_array) {
        return words
            .iter()
            .filter_map(Json::as_str)
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(word) = field.get("const").and_then(Json::as_str) {
        return format!("`{word}`");
    }
    let types = match field.get("type") {
        Some(Json::Array(types)) => types.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
        Some(Json::String(kind)) => Some(kind.as_str()),
        _ => None,
    };
    match types {
        Some("array") => format!("list of {}{}", kind(&field["items"]), size(field)),
        Some("object") => match field.get("additionalProperties").filter(|of| of.is_object()) {
            Some(of) => format!("map of {}", kind(of)),
            None => "map".to_owned(),
        },
        Some("integer") => format!("number{}", range(field)),
        Some("string") => match field.get("format").and_then(Json::as_str) {
            Some(format) => format.replace('-', " "),
            None => "string".to_owned(),
        },
        Some(other) => other.to_owned(),
        None => "anything".to_owned(),
    }
}

/// The bounds of a number that are not its type's own.
fn range(field: &Json) -> String {
    let bound = |name| field.get(name).and_then(Json::as_u64);
    let own = [u64::from(u8::MAX), u64::from(u16::MAX)];
    match (bound("minimum").unwrap_or(0), bound("maximum").filter(|most| !own.contains(most))) {
        (least, Some(most)) => format!(" from {least} to {most}"),
        (0 | 1, None) => String::new(),
        (least, None) => format!(" of at least {least}"),
    }
}

/// How many there may be in a list.
fn size(field: &Json) -> String {
    match (field.get("minItems"), field.get("maxItems")) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

#[test]
fn the_page_is_current() {
    bless("docs/config.md", &page());
}

#[test]
fn the_schema_is_current() {
    bless("docs/gateway.schema.json", &format!("{:#}\n", schema_of::<Gateway>()));
    bless("docs/client.schema.json", &format!("{:#}\n", schema_of::<Client>()));
}

/// Editors check by it what the reader checks.
#[test]
fn the_schema_says_what_is_unknown_and_unbuilt() {
    for schema in [schema_of::<Gateway>(), schema_of::<Client>()] {
        let all = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for object in all.filter(|of| of.get("properties").is_some()) {
            assert_eq!(object["additionalProperties"], false, "{object}");
        }
    }
    let schema = schema_of::<Gateway>();
    assert_eq!(schema["$defs"]["Filter"]["properties"]["externalAuth"]["not"], serde_json::json!({}));
}
