use schemars::JsonSchema;
use serde::Deserialize;

/// Unusual paths that servers read in different ways.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathRules {
    /// What is let through.
    #[serde(default)]
    pub(crate) allow: Vec<PathQuirk>,
    /// Whether `//` is kept as it is; else it becomes `/`, or is answered with 400 where another rule keeps it: paths
    /// are read before rules are known. Default: `false`.
    #[serde(default)]
    pub(crate) keep_empty_segments: bool,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PathQuirk {
    /// A backslash, kept as `%5C`.
    Backslash,
    /// Control bytes, kept escaped.
    ControlBytes,
    /// Dot segments with parameters, such as `..;`.
    DotParameters,
    /// `%2F`, which separates nothing.
    EncodedSlash,
}
