use std::borrow::Cow;

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema, transform::RecursiveTransform,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value as Json;

use super::Gateway;

/// A field that the format knows and this version does not serve. It can hold nothing.
#[derive(Debug)]
pub(crate) enum Unbuilt {}

impl<'de> Deserialize<'de> for Unbuilt {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("not supported yet"))
    }
}

impl JsonSchema for Unbuilt {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Unbuilt".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "not": {} })
    }
}

/// The JSON Schema of a file (draft 2020-12).
pub(crate) fn schema_of<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(never_null));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The JSON Schema of a gateway's file. A release reads it, as a test has written it down: what makes it is more code than
/// all else that a start runs through, and would stay in memory.
pub(crate) fn gateway_schema() -> Json {
    if cfg!(debug_assertions) {
        return schema_of::<Gateway>();
    }
    #[expect(clippy::expect_used, reason = "it is JSON that was written")]
    serde_json::from_str(include_str!("../../../docs/gateway.schema.json")).expect("a schema")
}

/// A field is left out or holds something: an empty one is neither.
fn never_null(schema: &mut Schema) {
    let is_null = |branch: &Json| branch.get("type").is_some_and(|kind| kind == "null");
    let Some(schema) = schema.as_object_mut() else { return };
    if schema.get("default").is_some_and(Json::is_null) {
        schema.remove("default");
    }
    if let Some(Json::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [one] = &**kinds {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Json::Array(branches)) = schema.get_mut("anyOf") {
        branches.retain(|branch| !is_null(branch));
        if let [Json::Object(one)] = &mut **branches {
            let one = std::mem::take(one);
            schema.remove("anyOf");
            schema.extend(one);
        }
    }
}
