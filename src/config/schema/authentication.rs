use std::{borrow::Cow, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Header, Headers, Unbuilt};
use crate::{authn::api_key::KeyEntry, config::scalar::Text};

/// One way to learn who is calling; exactly one field says which.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Provider {
    /// A signed token (RFC 7519).
    pub(crate) jwt: Option<Jwt>,
    /// A key of ours, of which only the hash is kept.
    pub(crate) api_key: Option<ApiKey>,
    /// Token introspection comes with a later version.
    pub(crate) introspection: Option<Unbuilt>,
    /// The client's certificate comes with a later version.
    pub(crate) client_certificate: Option<Unbuilt>,
}

/// Tokens that are accepted. Keys are given by one of `jwks`, `pem` and `secret`, or else they are those of the issuer,
/// found by OpenID Connect discovery: then `issuer` and `audiences` are enough.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Jwt {
    /// The one `iss` that is accepted; a URL, if its keys are to be found there.
    pub(crate) issuer: String,
    /// The `aud` that are accepted: one of them must be among the token's.
    #[schemars(length(min = 1))]
    pub(crate) audiences: Vec<String>,
    /// The algorithms that are accepted, whatever a token says. Default: all but those of shared secrets (HS), of
    /// which each key allows its own.
    #[schemars(length(min = 1))]
    pub(crate) algorithms: Option<Vec<Algorithm>>,
    /// A key set (RFC 7517). Default: the issuer's, unless there is `pem` or `secret`.
    pub(crate) jwks: Option<Jwks>,
    /// A public key in PEM.
    pub(crate) pem: Option<Material>,
    /// A shared secret for the HS algorithms, at least as long as their hash.
    pub(crate) secret: Option<Material>,
    /// How far clocks may be apart. Default: 60 s.
    pub(crate) clock_skew: Option<Text<Duration>>,
    /// What kind of token is taken. Default: any that is no token of another kind.
    pub(crate) profile: Option<TokenProfile>,
    /// Claims that must be there, beside `exp`.
    #[serde(default)]
    pub(crate) required_claims: Vec<String>,
    /// The claim that holds the scopes, by name or JSON pointer. Default: `scope`, or else `scp`.
    pub(crate) scopes_claim: Option<String>,
    /// The claim that holds the roles, by name or JSON pointer, as in `/realm_access/roles`. Default: `roles`.
    pub(crate) roles_claim: Option<String>,
    /// Whether only tokens are taken that are bound to the client's certificate (RFC 8705). One that is bound is never
    /// taken from somebody else. Default: `false`.
    #[serde(default)]
    pub(crate) certificate_bound: bool,
    /// How many bytes of verified tokens are remembered, so that their signatures are not verified again; 0 for none.
    /// Default: 16777216.
    pub(crate) memory: Option<usize>,
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

/// A kind of token.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenProfile {
    /// An access token of RFC 9068: its `typ` is `at+jwt`, and all claims are there that it must have.
    AccessToken,
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

/// A key set: from a file, written here, or over the network. Without `file`, `inline` and `url` it is the issuer's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Jwks {
    /// A file with the key set; relative to this file.
    pub(crate) file: Option<PathBuf>,
    /// The key set itself, as JSON in a string.
    pub(crate) inline: Option<String>,
    /// Where the key set is fetched from, over `https`.
    pub(crate) url: Option<String>,
    /// How it is fetched.
    #[serde(default)]
    pub(crate) fetch: JwksFetch,
}

/// How keys are fetched, and for how long they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct JwksFetch {
    /// How long a set is fresh whose provider does not say. Default: 10 min.
    pub(crate) lifetime: Option<Text<Duration>>,
    /// What lifetimes are never taken to be shorter than. Default: 1 min.
    pub(crate) min_lifetime: Option<Text<Duration>>,
    /// What lifetimes are never taken to be longer than: so long, at most, a withdrawn key verifies. Default: 1 h.
    pub(crate) max_lifetime: Option<Text<Duration>>,
    /// How far apart fetches are that tokens with unknown keys cause. Default: 10 s.
    pub(crate) cooldown: Option<Text<Duration>>,
    /// How long the last set is used after its lifetime if no other can be fetched. Default: 24 h.
    pub(crate) stale_for: Option<Text<Duration>>,
    /// How long one answer may take. Default: 5 s.
    pub(crate) timeout: Option<Text<Duration>>,
    /// A file with the only roots, in PEM, by which the provider's certificate is verified. Default: those of this
    /// machine.
    pub(crate) roots: Option<Material>,
    /// Whether issuer and keys may be at `http` URLs. Whoever can change what is sent then can let anybody in: for trials
    /// on one machine. Default: `false`.
    pub(crate) danger_plain_http: bool,
}

/// A key in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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
    /// The keys' hashes.
    pub(crate) keys: Material,
    /// Whether the key goes on to the upstream. Default: `false`.
    #[serde(default)]
    pub(crate) forward: bool,
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
        let list = |what: &str| json_schema!({ "type": "array", "items": { "type": "string" }, "description": what });
        json_schema!({
            "type": "object",
            "description": "What is kept of a key.",
            "additionalProperties": false,
            "required": ["id", "hash", "owner"],
            "properties": {
                "id": text("The public part of the key."),
                "hash": { "type": "string", "format": "key-hash", "description": "The SHA-256 of the whole key." },
                "owner": text("Whose key it is: the subject of the principal."),
                "scopes": list("What it may do. Default: nothing."),
                "roles": list("What its owner is. Default: nothing."),
                "plan": text("The plan, by whose name limits can be chosen. Default: none."),
                "expires": {
                    "type": "string",
                    "format": "moment",
                    "description": "When it ends, as in `2027-02-19T08:00:00Z`. Default: never.",
                },
            },
        })
    }
}
