//! `RequestMirror`, which is not there yet.

/// What a configuration with a `RequestMirror` filter is told: to leave it out in silence would be to send no
/// traffic where some was asked for.
pub const MIRROR_REFUSED: &str =
    "the filter RequestMirror is not supported yet; remove it, or mirror at the upstream";
