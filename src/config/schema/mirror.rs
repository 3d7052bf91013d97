use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BackendRef, Header, Labels, Unbuilt};
use crate::config::scalar::Text;

/// Sends copies of requests to another upstream, for whose answers nobody waits: the Gateway API's `HTTPRequestMirrorFilter`.
/// How is for `policies.mirror` to say. `percent` or `fraction` says of how many; without them of all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestMirror {
    /// The upstream that gets the copies.
    pub(crate) backend_ref: MirrorRef,
    /// Of so many of a hundred requests.
    #[schemars(range(max = 100))]
    pub(crate) percent: Option<u8>,
    /// Of this share of the requests.
    pub(crate) fraction: Option<Fraction>,
}

/// The upstream of a mirror, or of a fallback.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MirrorRef {
    /// The API group of the upstream: empty.
    pub(crate) group: Option<String>,
    /// The kind of the upstream: `Upstream`, which is also what is meant without it.
    pub(crate) kind: Option<String>,
    /// The name of an upstream.
    pub(crate) name: String,
    /// A namespace has no meaning in a file.
    pub(crate) namespace: Option<Unbuilt>,
    /// If said, each endpoint of the upstream must have it.
    pub(crate) port: Option<u16>,
    /// Labels that its endpoints must have, as in `version: v2`. Default: all endpoints.
    pub(crate) subset: Option<Labels>,
}

/// A share.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fraction {
    /// So many.
    pub(crate) numerator: u32,
    /// Of so many. Default: 100.
    pub(crate) denominator: Option<NonZeroU32>,
}

/// How a rule's `RequestMirror` filters mirror. Copies are marked by the header `x-mirror` with the name of the upstream;
/// what clients send of it is taken out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MirrorRules {
    /// Appended to the name of the host that is asked for, before its port, as in `-shadow`. Default: nothing.
    pub(crate) host_suffix: Option<String>,
    /// How long a copy may take with its response; the time that is left of the request is nothing to it. Above
    /// nothing, at most 1 h. Default: 15 s.
    pub(crate) timeout: Option<Text<Duration>>,
    /// How many copies may be under way at once to each mirror; further requests are not mirrored. Default: 100.
    pub(crate) max_in_flight: Option<NonZeroU32>,
    /// How many bytes of a request's body a copy may be behind, at most 16 MiB; one that is further is dropped. Default:
    /// 262144.
    #[schemars(range(max = 16_777_216))]
    pub(crate) max_behind: Option<u32>,
    /// How many bytes of a mirror's response are read. Default: 1048576.
    pub(crate) max_response: Option<u32>,
    /// Counts in what the answers of mirrors differ from those that were given: their status in any case. Default: they are
    /// not compared.
    pub(crate) compare: Option<MirrorCompare>,
}

/// What is compared beside the status.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MirrorCompare {
    /// All values of these headers.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) headers: Vec<Header>,
    /// The data of the bodies, by a digest. Default: `false`.
    #[serde(default)]
    pub(crate) body: bool,
}

impl MirrorRef {
    pub(crate) fn backend(&self) -> BackendRef {
        BackendRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            namespace: None,
            port: self.port,
            weight: None,
            subset: self.subset.clone(),
            filters: None,
        }
    }
}
