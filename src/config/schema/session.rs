use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::Text;

/// Keeps each client at one endpoint: the Gateway API's `SessionPersistence`, with what is ours.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SessionPersistence {
    /// The name of the cookie or header, of at most 128 characters. Default: for a cookie `session-` and digits that are the
    /// rule's own, for a header `x-session`.
    pub(crate) session_name: Option<String>,
    /// In what clients carry their session. Default: `Cookie`.
    #[serde(default, rename = "type")]
    pub(crate) kind: SessionType,
    /// How old a session becomes, 1 s at least. Default: no bound.
    pub(crate) absolute_timeout: Option<Text<Duration>>,
    /// How long it is kept without a request, 1 s at least. Default: no bound.
    pub(crate) idle_timeout: Option<Text<Duration>>,
    /// How the cookie is set.
    pub(crate) cookie_config: Option<CookieConfig>,
    /// Whether a request whose endpoint is gone or takes no requests is refused, in place of going to another. Default:
    /// `false`.
    #[serde(default)]
    pub(crate) strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub(crate) enum SessionType {
    /// In a cookie.
    #[default]
    Cookie,
    /// In a header, which clients copy from an answer to what they ask next.
    Header,
}

/// How a cookie is set.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CookieConfig {
    /// Whether a browser keeps it when it is closed. Default: `Session`.
    #[serde(default)]
    pub(crate) lifetime_type: CookieLifetime,
    /// For which paths browsers send it. Default: `/`.
    pub(crate) path: Option<String>,
    /// On which requests from other sites browsers send it. Default: `Lax`.
    #[serde(default)]
    pub(crate) same_site: CookieSameSite,
    /// Whether browsers send it over HTTPS only. Default: if the request came over that, as far as it is known.
    pub(crate) secure: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub(crate) enum CookieLifetime {
    /// It does not.
    #[default]
    Session,
    /// It does, for the `absoluteTimeout`.
    Permanent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub(crate) enum CookieSameSite {
    /// When the user follows a link.
    #[default]
    Lax,
    /// On none.
    Strict,
    /// On all, over HTTPS only.
    None,
}

/// The secret under which sessions name endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SessionSecret {
    /// A file of 32 hexadecimal digits, all of them random (`openssl rand -hex 16`); relative to this file.
    pub(crate) file: PathBuf,
}
