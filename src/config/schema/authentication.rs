use std::{borrow::Cow, collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Header, Headers, Unbuilt};
use crate::{
    admission::rate_limit::Rate,
    authn::api_key::KeyEntry,
    config::scalar::{Name, Text},
};

/// One way to learn who is calling; exactly one field says which.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Provider {
    /// A signed token (RFC 7519).
    pub(crate) jwt: Option<Jwt>,
    /// A key of ours, of which only the hash is kept.
    pub(crate) api_key: Option<ApiKey>,
    /// OpenID Connect discovery comes with a later version.
    pub(crate) oidc: Option<Unbuilt>,
    /// Token introspection comes with a later version.
    pub(crate) introspection: Option<Unbuilt>,
    /// The client's certificate comes with a later version.
    pub(crate) client_certificate: Option<Unbuilt>,
}

/// Tokens that are accepted. Keys are given by exactly one of `jwks`, `pem` and `secret`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Jwt {
    /// The one `iss` that is accepted.
    pub(crate) issuer: String,
    /// The `aud` that are accepted: one of them must be among the token's.
    #[schemars(length(min = 1))]
    pub(crate) audiences: Vec<String>,
    /// The algorithms that are accepted, whatever a token says.
    #[schemars(length(min = 1))]
    pub(crate) algorithms: Vec<Algorithm>,
    /// A key set (RFC 7517).
    pub(crate) jwks: Option<Jwks>,
    /// A public key in PEM.
    pub(crate) pem: Option<Material>,
    /// A shared secret for the HS algorithms, at least as long as their hash.
    pub(crate) secret: Option<Material>,
    /// How far clocks may be apart. Default: 60 s.
    pub(crate) clock_skew: Option<Text<Duration>>,
    /// Where the token stands. Default: the header `Authorization: Bearer`.
    pub(crate) from: Option<TokenLocation>,
    /// Claims that tell the upstream something: header to the name of the claim, as in `x-user: sub`. No client can
    /// supply or remove such a header, on any route.
    #[serde(default)]
    pub(crate) claim_headers: Headers,
    /// Whether the token goes on to the upstream. Default: `false`.
    #[serde(default)]
    pub(crate) forward: bool,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
pub(crate) enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

/// A key set, from a file or written here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Jwks {
    /// A file with the key set; relative to this file.
    pub(crate) file: Option<PathBuf>,
    /// The key set itself, as JSON in a string.
    pub(crate) inline: Option<String>,
    /// Key sets over the network come with a later version.
    pub(crate) url: Option<Unbuilt>,
}

/// A key in a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Material {
    /// The file; relative to this file.
    pub(crate) file: PathBuf,
}

/// Where a token stands; exactly one field.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenLocation {
    /// A header, whose value is the token; in `authorization` it stands after `Bearer`.
    pub(crate) header: Option<Header>,
    /// A cookie.
    pub(crate) cookie: Option<String>,
    /// A parameter of the query.
    pub(crate) query: Option<String>,
}

/// Keys that are accepted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiKey {
    /// The header that carries the key. Default: `x-api-key`, unless `query` is given.
    pub(crate) header: Option<Header>,
    /// The parameter of the query that carries the key.
    pub(crate) query: Option<String>,
    /// Where the keys' hashes are.
    pub(crate) keys: KeySource,
    /// Secrets under which hashes may be, by their names: files of at least 32 bytes.
    #[serde(default)]
    pub(crate) peppers: BTreeMap<String, Material>,
    /// How many invalid keys an address may send before it is answered 429. A valid key always passes. Default:
    /// `20/min`.
    pub(crate) failure_limit: Option<Text<Rate>>,
    /// Whether the key goes on to the upstream. Default: `false`.
    #[serde(default)]
    pub(crate) forward: bool,
}

/// Where keys are kept: exactly one of `file` and `redis`. A change there is in force within two seconds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeySource {
    /// A file; relative to this file.
    pub(crate) file: Option<PathBuf>,
    /// A server, by its name in `redis`.
    pub(crate) redis: Option<String>,
    /// The name of the keys on that server. Default: the provider's name.
    pub(crate) set: Option<Text<Name>>,
}

/// The file that `apiKey` names: hashes of keys, never keys. `gateway keys new` prints an item of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyFile {
    /// The keys, in any order.
    pub(crate) keys: Vec<KeyItem>,
}

/// A key's entry: its form is of the authentication room, which also reads it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyItem(pub(crate) KeyEntry);

impl JsonSchema for KeyItem {
    fn schema_name() -> Cow<'static, str> {
        "KeyEntry".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |what: &str| json_schema!({ "type": "string", "description": what });
        let moment = |what: &str| json_schema!({ "type": "string", "format": "moment", "description": what });
        let list = |what: &str| json_schema!({ "type": "array", "items": { "type": "string" }, "description": what });
        json_schema!({
            "type": "object",
            "description": "What is kept of a key.",
            "additionalProperties": false,
            "required": ["id", "hash", "owner"],
            "properties": {
                "id": text("The public part of the key."),
                "hash": { "type": "string", "format": "key-hash", "description": "The SHA-256 of the whole key, or that under a pepper." },
                "prefix": text("What the key begins with. Default: unknown."),
                "owner": text("Whose key it is: the subject of the principal."),
                "scopes": list("What it may do. Default: nothing."),
                "roles": list("What its owner is. Default: nothing."),
                "plan": text("The plan, by whose name limits can be chosen. Default: none."),
                "notes": text("What people want to remember of it. Default: nothing."),
                "created": moment("When it was made. Default: unknown."),
                "notBefore": moment("When it begins to be valid. Default: from the first."),
                "expires": moment("When it ends, as in `2027-02-19T08:00:00Z`. Default: never."),
                "revoked": moment("When it was taken back. Default: never."),
                "lastUsed": moment("When it was last seen. Default: unknown."),
            },
        })
    }
}
