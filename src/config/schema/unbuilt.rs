use std::borrow::Cow;

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema, transform::RecursiveTransform,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value as Json;

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
