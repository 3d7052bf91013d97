use std::{borrow::Cow, collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Header, Headers};
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
    /// A token that only its provider can read, who is asked about it (RFC 7662).
    pub(crate) introspection: Option<Introspection>,
    /// The client's certificate, as it was shown to a listener or as a trusted proxy tells of it.
    pub(crate) client_certificate: Option<ClientCertificate>,
}

/// A certificate, whichever: its SPIFFE id, or else its first DNS name, URI or mail address, or else its distinguished name
/// is the subject. A name that could be taken for one of another kind, such as a mail address that begins with `spiffe:`, is
/// passed over. Which of them may do what is for `authorization` to say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientCertificate {}

/// Tokens that are accepted. Keys are given by one of `jwks`, `pem` and `secret`, or else they are those of the issuer,
/// found by OpenID Connect discovery: then `issuer` and `audiences` are enough.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Jwt {
    /// The one `iss` that is accepted; a URL, if its keys are to be found there.
    #[schemars(length(min = 1))]
    pub(crate) issuer: String,
    /// The `aud` that are accepted: one of them must be among the token's.
    #[schemars(length(min = 1), inner(length(min = 1)))]
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
    /// Claims that must be there, beside `exp`. Without `sub` a caller has no name: what counts by `principal` counts its
    /// address.
    #[serde(default)]
    pub(crate) required_claims: Vec<String>,
    /// The claim that holds the scopes, by name or JSON pointer. Default: `scope`, or else `scp`.
    pub(crate) scopes_claim: Option<String>,
    /// The claim that holds the roles, by name or JSON pointer, as in `/realm_access/roles`. Default: `roles`.
    pub(crate) roles_claim: Option<String>,
    /// The claim that holds the caller's plan, by name or JSON pointer: limits and quotas may differ by it.
    pub(crate) plan_claim: Option<String>,
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

/// Tokens about which their provider is asked. What it says is remembered for a while.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Introspection {
    /// Where the provider is asked: its introspection endpoint, over `https`.
    pub(crate) url: String,
    /// As whom.
    pub(crate) client: OauthClient,
    /// Which tokens it is asked about. Default: `opaque`.
    pub(crate) tokens: Option<TokenShape>,
    /// The one `iss` that the answer may say. Default: any, or none.
    #[schemars(length(min = 1))]
    pub(crate) issuer: Option<String>,
    /// The `aud` that the answer may say: one of them must be among its own. Default: an answer that says whom the token
    /// is for is not accepted.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub(crate) audiences: Option<Vec<String>>,
    /// Members of the answer that must be there. Without `sub` a caller has no name: what counts by `principal` counts its
    /// address.
    #[serde(default)]
    pub(crate) required_claims: Vec<String>,
    /// The member that holds the scopes, by name or JSON pointer. Default: `scope`, or else `scp`.
    pub(crate) scopes_claim: Option<String>,
    /// The member that holds the roles, by name or JSON pointer, as in `/realm_access/roles`. Default: `roles`.
    pub(crate) roles_claim: Option<String>,
    /// The member that holds the caller's plan, by name or JSON pointer: limits and quotas may differ by it.
    pub(crate) plan_claim: Option<String>,
    /// Whether only tokens are taken that are bound to the client's certificate (RFC 8705 section 3.2). One that is bound
    /// is never taken from somebody else. Default: `false`.
    #[serde(default)]
    pub(crate) certificate_bound: bool,
    /// How many good tokens are remembered, and how many bad ones. Default: 10000.
    pub(crate) max_entries: Option<NonZeroU32>,
    /// How many bytes what is remembered of the good ones may take, and of the bad ones. Default: 33554432.
    pub(crate) memory: Option<NonZeroU32>,
    /// How many tokens are asked about at once; one more is answered 503. Default: 256.
    pub(crate) max_calls: Option<NonZeroU32>,
    /// How many tokens of one address (IPv6: a /64) are asked about at once; one more is answered 429. Default: 32.
    pub(crate) max_calls_each: Option<NonZeroU32>,
    /// The largest token that is asked about, in bytes. Default: 4096.
    pub(crate) max_size: Option<NonZeroU32>,
    /// How long a good token is remembered, and so how long one that was revoked is let in; at most 60 s, and never longer
    /// than it lives. Default: 60 s.
    pub(crate) remember: Option<Text<Duration>>,
    /// How long a bad token is remembered; at most 60 s. Default: 10 s.
    pub(crate) remember_refused: Option<Text<Duration>>,
    /// How far clocks may be apart. Default: 60 s.
    pub(crate) clock_skew: Option<Text<Duration>>,
    /// Where the token stands. Default: the header `Authorization: Bearer`.
    pub(crate) from: Option<TokenLocation>,
    /// Members of the answer that tell the upstream something, as `claimHeaders` of `jwt` do.
    #[serde(default)]
    pub(crate) claim_headers: Headers,
    /// Whether the token goes on to the upstream. Default: `false`.
    #[serde(default)]
    pub(crate) forward: bool,
    /// How it is asked.
    #[serde(default)]
    pub(crate) fetch: ProviderFetch,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenShape {
    /// Those that are no JSON Web Tokens.
    Opaque,
    /// All; of JSON Web Tokens only those of `issuer`, if it is said.
    All,
}

/// As whom we come to a provider's endpoint. It is proven by exactly one of `secret` and `key`; without both, by nothing.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OauthClient {
    /// The name under which the provider knows us.
    pub(crate) id: String,
    /// Our secret.
    pub(crate) secret: Option<Material>,
    /// Where the secret is shown. Default: `basic`.
    pub(crate) secret_in: Option<SecretPlace>,
    /// Our private key, in PEM, with which we sign who we are (RFC 7523).
    pub(crate) key: Option<Material>,
    /// The `kid` of the key. Default: none.
    pub(crate) key_id: Option<String>,
    /// Whom we sign for: the URL of the token endpoint, or the issuer. Default: the URL that is asked.
    pub(crate) audience: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SecretPlace {
    /// In `Authorization: Basic` (`client_secret_basic`).
    Basic,
    /// In the body (`client_secret_post`).
    Body,
}

/// How an endpoint of a provider is asked.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ProviderFetch {
    /// How long one answer may take. Default: 5 s.
    pub(crate) timeout: Option<Text<Duration>>,
    /// A file with the only roots, in PEM, by which the provider's certificate is verified. Default: those of this
    /// machine.
    pub(crate) roots: Option<Material>,
    /// Whether the endpoint may be at an `http` URL. Whoever can read what is sent then has tokens and secrets: for trials
    /// on one machine. Default: `false`.
    pub(crate) danger_plain_http: bool,
}

/// Whose credentials the requests to an upstream carry; exactly one field says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UpstreamCredentials {
    /// Ours: a token by client credentials (RFC 6749 section 4.4).
    pub(crate) client_credentials: Option<TokenEndpoint>,
    /// The caller's, for this upstream: its token in exchange for another (RFC 8693). Rules that use the upstream must ask
    /// for tokens.
    pub(crate) token_exchange: Option<TokenEndpoint>,
    /// The token in a file that somebody else renews, such as Kubernetes; relative to this file. It is read again every
    /// 10 s.
    pub(crate) token: Option<Material>,
    /// The caller's own token, which the upstream can then use as the caller. Default: `false`.
    #[serde(default)]
    pub(crate) danger_forward_token: bool,
}

/// Where a token is had, and for what.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenEndpoint {
    /// The provider's token endpoint, over `https`.
    pub(crate) url: String,
    /// As whom we come.
    pub(crate) client: OauthClient,
    /// The scopes that the token is to have. Default: what the provider gives.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The service that the token is for, as the provider calls it. Default: none is named.
    pub(crate) audience: Option<String>,
    /// The service that the token is for, by its URL (RFC 8707). Default: none is named.
    pub(crate) resource: Option<String>,
    /// How it is asked.
    #[serde(default)]
    pub(crate) fetch: ProviderFetch,
}

/// A key set: from a file, written here, or over the network. Without `file`, `inline` and `url` it is the issuer's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
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
    /// How long a set is fresh whose provider does not say, 1 s at least. Default: 10 min.
    pub(crate) lifetime: Option<Text<Duration>>,
    /// What lifetimes are never taken to be shorter than, 1 s at least. Default: 1 min.
    pub(crate) min_lifetime: Option<Text<Duration>>,
    /// What lifetimes are never taken to be longer than: so long, at most, a withdrawn key verifies. 1 s at least, and not shorter
    /// than `minLifetime`. Default: 1 h.
    pub(crate) max_lifetime: Option<Text<Duration>>,
    /// How far apart fetches are that tokens with unknown keys cause, 1 s at least. Default: 10 s.
    pub(crate) cooldown: Option<Text<Duration>>,
    /// How long the last set is used after its lifetime if no other can be fetched. Default: 24 h.
    pub(crate) stale_for: Option<Text<Duration>>,
    /// How long one answer may take, 1 s at least. Default: 5 s.
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
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenLocation {
    /// A header, whose value is the token; in `authorization` it stands after `Bearer`.
    pub(crate) header: Option<Header>,
    /// A cookie.
    #[schemars(length(min = 1))]
    pub(crate) cookie: Option<String>,
    /// A parameter of the query.
    #[schemars(length(min = 1))]
    pub(crate) query: Option<String>,
}

/// Keys that are accepted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiKey {
    /// The header that carries the key. Default: `x-api-key`, unless `query` is given.
    pub(crate) header: Option<Header>,
    /// The parameter of the query that carries the key.
    #[schemars(length(min = 1))]
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
