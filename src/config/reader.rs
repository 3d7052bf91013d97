//! Reads a tree by the schema that is published: every fault at once, and what is whole as JSON for serde.
//!
//! What is faulty is marked in the tree and left out of the JSON, so that the rest can still be looked at: an optional
//! field is left out, an item of a list is dropped, and a map that lacks what it must have is faulty itself.
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::{
    fault::{Fault, Faults, Severity},
    scalar,
    schema::Schema,
    suggest::{nearest, suggestion},
    yaml::{Mark, Node, Value},
};

/// Reads `tree` by `schema`; `None` if the whole is faulty.
pub(super) fn read(tree: &mut Node, schema: &Schema, file: &Arc<str>, faults: &mut Faults) -> Option<Json> {
    Reader { schema, file, faults }.node(tree, schema.root())
}

struct Reader<'s, 'f> {
    schema: &'s Schema,
    file: &'s Arc<str>,
    faults: &'f mut Faults,
}

impl<'s> Reader<'s, '_> {
    fn node(&mut self, node: &mut Node, schema: &'s Json) -> Option<Json> {
        let read = self.value(node, schema);
        if read.is_none() {
            node.value = Value::Broken;
        }
        read
    }

    fn value(&mut self, node: &mut Node, schema: &'s Json) -> Option<Json> {
        if schema.get("not").is_some() {
            let what = schema.get("description").and_then(Json::as_str).unwrap_or_default();
            return self.fault(
                node.key_mark,
                &node.path,
                format!("not supported yet: {}", what.replace('\n', " ")),
            );
        }
        if is_any(schema) {
            return Some(plain(&node.value));
        }
        // What somebody meant to fill in, or a value that a template lost: without it less might be asked.
        if let (Value::Null, Some(_)) = (&node.value, &node.key) {
            let problem = format!("empty: remove the line, or write {}", self.expected(schema));
            return self.fault(node.key_mark, &node.path, problem);
        }
        let whole = schema;
        let Some(schema) = self.branch(&node.value, whole) else {
            let (expected, found) = (self.expected(whole), found(&node.value));
            // What YAML takes for something else.
            let hint = match (&node.value, &*expected) {
                (Value::Number(_) | Value::Bool(_), "a string") => ": put it in quotes",
                (Value::Null, _) if node.path.is_empty() => ": the file is empty, or has only comments",
                _ => "",
            };
            return self.fault(node.mark, &node.path, format!("expected {expected}, found {found}{hint}"));
        };
        let Node { mark, path, value, .. } = node;
        match value {
            Value::Null => Some(Json::Null),
            Value::Bool(is) => Some(Json::Bool(*is)),
            Value::Number(number) => {
                self.bounded(number, schema, *mark, path).then(|| Json::Number(number.clone()))
            }
            Value::Text(text) => {
                self.spelled(text, schema, whole, *mark, path).then(|| Json::String(text.clone()))
            }
            Value::List(items) => self.list(items, schema, *mark, path),
            Value::Map(entries) => self.map(entries, schema, *mark, path),
            Value::Broken => None,
        }
    }

    /// Follows references and alternatives to the schema that is about values of this kind.
    fn branch(&self, value: &Value, schema: &'s Json) -> Option<&'s Json> {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            return self.branch(value, self.schema.find(name)?);
        }
        if let Some(branches) = alternatives(schema).filter(|_| choices(schema).is_empty()) {
            return branches.iter().find_map(|branch| self.branch(value, branch));
        }
        let kinds: &[&str] = match value {
            Value::Null => &["null"],
            Value::Bool(_) => &["boolean"],
            Value::Number(number) if number.is_f64() => &["number"],
            Value::Number(_) => &["integer", "number"],
            Value::Text(_) => &["string"],
            Value::List(_) => &["array"],
            Value::Map(_) => &["object"],
            Value::Broken => &[],
        };
        let is = |kind: &Json| kind.as_str().is_some_and(|kind| kinds.contains(&kind));
        let fits = match schema.get("type") {
            Some(Json::Array(types)) => types.iter().any(is),
            Some(kind) => is(kind),
            None => matches!(value, Value::Text(_)) && !choices(schema).is_empty(),
        };
        fits.then_some(schema)
    }

    fn bounded(&mut self, number: &serde_json::Number, schema: &Json, mark: Mark, path: &str) -> bool {
        let bound = |name| schema.get(name).and_then(Json::as_f64);
        // The schema's maker leaves it out for these.
        let of_u32 = schema.get("format").is_some_and(|format| format == "uint32");
        let most = bound("maximum").or(of_u32.then_some(f64::from(u32::MAX)));
        let least = bound("minimum");
        let value = number.as_f64().unwrap_or(f64::NAN);
        let fits = least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most);
        if !fits {
            let problem = match (least, most) {
                (Some(least), Some(most)) => format!("expected a number from {least} to {most}"),
                (Some(least), None) => format!("expected a number of at least {least}"),
                _ => format!("expected a number of at most {}", most.unwrap_or_default()),
            };
            self.fault::<()>(mark, path, problem);
        }
        fits
    }

    fn spelled(&mut self, text: &str, schema: &Json, whole: &'s Json, mark: Mark, path: &str) -> bool {
        let choices = choices(schema);
        let fault = if !choices.is_empty() {
            let others = if choices.len() > 1 { choices.as_slice() } else { &[] };
            let hint = suggestion(text, others.iter().copied());
            (!choices.contains(&text)).then(|| format!("expected {}{hint}", self.expected(whole)))
        } else if text.is_empty() && schema.get("minLength").is_some() {
            Some("is empty".to_owned())
        } else {
            let format = schema.get("format").and_then(Json::as_str).and_then(scalar::format);
            format.filter(|format| !(format.fits)(text)).map(|format| format!("expected {}", format.expected))
        };
        match fault {
            Some(problem) => self.fault::<()>(mark, path, problem).is_some(),
            None => true,
        }
    }

    fn list(&mut self, items: &mut [Node], schema: &'s Json, mark: Mark, path: &str) -> Option<Json> {
        let most = schema.get("maxItems").and_then(Json::as_u64).unwrap_or(u64::MAX);
        let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            return self.fault(mark, path, format!("expected at least {least} of them"));
        }
        if items.len() as u64 > most {
            return self.fault(mark, path, format!("expected at most {most} of them, found {}", items.len()));
        }
        let item = schema.get("items")?;
        Some(Json::Array(items.iter_mut().filter_map(|node| self.node(node, item)).collect()))
    }

    fn map(&mut self, entries: &mut [Node], schema: &'s Json, mark: Mark, path: &str) -> Option<Json> {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let (mut whole, mut lacks) = (Map::new(), Vec::new());
        for entry in entries.iter_mut() {
            let name = entry.key.clone().unwrap_or_default();
            let Some(field) = properties.and_then(|fields| fields.get(&name)).or(others) else {
                let meant = self.unknown(entry, &name, properties);
                lacks.extend(meant);
                entry.value = Value::Broken;
                continue;
            };
            match self.node(entry, field) {
                Some(value) => drop(whole.insert(name, value)),
                None => lacks.push(name),
            }
        }
        if others.is_some() {
            entries.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let missing = |name: &&&str| !whole.contains_key(**name);
        let absent: Vec<&str> = required.iter().filter(missing).copied().collect();
        for name in absent.iter().filter(|name| !lacks.iter().any(|lack| lack == *name)) {
            self.fault::<()>(mark, path, format!("the field `{name}` is missing"));
        }
        absent.is_empty().then_some(Json::Object(whole))
    }

    /// Reports a field nobody knows, and tells which one was probably meant.
    fn unknown(&mut self, entry: &Node, name: &str, known: Option<&Map<String, Json>>) -> Option<String> {
        let names: Vec<&str> = known.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect();
        let meant = nearest(name, names.iter().copied()).map(str::to_owned);
        let hint = match &meant {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None if names.is_empty() => String::new(),
            None => format!("; here can stand {}", list_of(&names)),
        };
        self.fault::<()>(entry.key_mark, &entry.path, format!("unknown field{hint}"));
        meant
    }

    fn expected(&self, schema: &'s Json) -> String {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            return self.schema.find(name).map_or_else(String::new, |schema| self.expected(schema));
        }
        let choices = choices(schema);
        if !choices.is_empty() {
            return list_of(&choices);
        }
        if let Some(branches) = alternatives(schema) {
            let words: Vec<String> =
                branches.iter().map(|b| self.expected(b)).filter(|w| !w.is_empty()).collect();
            return words.join(" or ");
        }
        if let Some(format) = schema.get("format").and_then(Json::as_str).and_then(scalar::format) {
            return format.expected.to_owned();
        }
        let kind = match schema.get("type") {
            Some(Json::Array(types)) => types.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
            Some(kind) => kind.as_str(),
            None => None,
        };
        match kind {
            Some("boolean") => "true or false",
            Some("integer") => "a whole number",
            Some("number") => "a number",
            Some("string") => "a string",
            Some("array") => "a list",
            Some("object") => "a map",
            _ => "",
        }
        .to_owned()
    }

    fn fault<T>(&mut self, mark: Mark, path: &str, problem: String) -> Option<T> {
        let Mark { line, column } = mark;
        let (severity, file, path) = (Severity::Error, Arc::clone(self.file), path.to_owned());
        self.faults.push(Fault { severity, file, line, column, path, problem });
        None
    }
}

/// The words a field can hold, if it is a choice of words.
fn choices(schema: &Json) -> Vec<&str> {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return words.iter().filter_map(Json::as_str).collect();
    }
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return vec![word];
    }
    let branches = alternatives(schema).unwrap_or_default();
    match branches.iter().all(|branch| branch.get("const").is_some() || branch.get("enum").is_some()) {
        true => branches.iter().flat_map(choices).collect(),
        false => Vec::new(),
    }
}

fn alternatives(schema: &Json) -> Option<&[Json]> {
    let list = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    list.as_array().map(Vec::as_slice)
}

/// A schema that is about anything: a registered gate's own settings.
fn is_any(schema: &Json) -> bool {
    schema.is_boolean()
        || ["$ref", "type", "anyOf", "oneOf", "enum", "const"].iter().all(|word| schema.get(word).is_none())
}

fn list_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Text(_) => "a string",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Broken => "something faulty",
    }
}

/// A tree as JSON, whatever it holds.
fn plain(value: &Value) -> Json {
    match value {
        Value::Null | Value::Broken => Json::Null,
        Value::Bool(is) => Json::Bool(*is),
        Value::Number(number) => Json::Number(number.clone()),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(|item| plain(&item.value)).collect()),
        Value::Map(entries) => {
            let entry = |entry: &Node| Some((entry.key.clone()?, plain(&entry.value)));
            Json::Object(entries.iter().filter_map(entry).collect())
        }
    }
}
