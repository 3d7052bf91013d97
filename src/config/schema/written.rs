use std::{cell::OnceCell, collections::BTreeMap};

use serde_json::{Value as Json, value::RawValue};

use super::{Gateway, schema_of};

const DEFINITIONS: &str = "#/$defs/";
/// That of a gateway's file, as a test has written it down.
const OF_GATEWAY: &str = include_str!("../../../docs/gateway.schema.json");

/// The JSON Schema of a gateway's file.
pub(crate) fn gateway_schema() -> String {
    if cfg!(debug_assertions) {
        return format!("{:#}\n", schema_of::<Gateway>());
    }
    OF_GATEWAY.to_owned()
}

/// A schema by which files are read. Of one that was written down, a definition is read when it is first needed: a file needs few of
/// them, and all together take a megabyte.
pub(crate) struct Schema {
    root: Json,
    definitions: BTreeMap<&'static str, Definition>,
}

struct Definition {
    text: &'static RawValue,
    read: OnceCell<Json>,
}

impl Schema {
    /// That of a gateway's file. A release reads what was written down: what makes it is more code than all else that a start
    /// runs through, and would stay in memory.
    pub(crate) fn of_gateway() -> Self {
        if cfg!(debug_assertions) {
            return schema_of::<Gateway>().into();
        }
        Self::written(OF_GATEWAY)
    }

    #[expect(clippy::expect_used, reason = "it is JSON that was written")]
    fn written(text: &'static str) -> Self {
        let mut parts: BTreeMap<&str, &RawValue> = serde_json::from_str(text).expect("a schema");
        let definitions = parts.remove("$defs").map_or("{}", RawValue::get);
        let definitions: BTreeMap<&str, &RawValue> =
            serde_json::from_str(definitions).expect("its definitions");
        let part = |(word, text): (&str, &RawValue)| {
            (word.to_owned(), serde_json::from_str::<Json>(text.get()).expect("a part of it"))
        };
        let unread = |(name, text)| (name, Definition { text, read: OnceCell::new() });
        Self {
            root: parts.into_iter().map(part).collect(),
            definitions: definitions.into_iter().map(unread).collect(),
        }
    }

    /// What is said of the whole file.
    pub(crate) const fn root(&self) -> &Json {
        &self.root
    }

    /// What `$ref` refers to.
    pub(crate) fn find(&self, reference: &str) -> Option<&Json> {
        let name = reference.strip_prefix(DEFINITIONS)?;
        match self.definitions.get(name) {
            Some(definition) => Some(definition.read()),
            None => self.root.get("$defs")?.get(name),
        }
    }
}

impl Definition {
    #[expect(clippy::expect_used, reason = "it is JSON that was written")]
    fn read(&self) -> &Json {
        self.read.get_or_init(|| serde_json::from_str(self.text.get()).expect("a definition"))
    }
}

impl From<Json> for Schema {
    fn from(root: Json) -> Self {
        Self { root, definitions: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_as_it_was_made() {
        let written = Schema::written(OF_GATEWAY);
        let made = Schema::from(schema_of::<Gateway>());
        let Json::Object(mut whole) = made.root.clone() else { panic!("a map") };
        let Some(Json::Object(definitions)) = whole.remove("$defs") else { panic!("definitions") };
        assert_eq!(written.root, Json::Object(whole));
        assert!(definitions.len() > 100 && written.definitions.len() == definitions.len());
        for name in definitions.keys() {
            let reference = format!("{DEFINITIONS}{name}");
            assert_eq!(written.find(&reference), made.find(&reference), "{name}");
        }
        assert_eq!((written.find("#/$defs/x"), made.find("#/$defs/x")), (None, None));
    }

    #[test]
    fn a_definition_is_read_when_it_is_needed() {
        let written = Schema::written(OF_GATEWAY);
        let read =
            || written.definitions.values().filter(|definition| definition.read.get().is_some()).count();
        assert_eq!(read(), 0);
        written.find("#/$defs/Upstream").unwrap();
        assert_eq!(read(), 1);
    }
}
