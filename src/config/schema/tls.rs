use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    config::scalar::Text,
    identity::{SpiffeId, TrustDomain},
};

/// A certificate with its key, and whom to believe: from files, or with `workloadApi` from an agent of SPIFFE. The files are
/// looked at once a second, and what is new in them is used by every connection from then on; what cannot be read changes
/// nothing, but for revocation lists: while these cannot be read, nobody is let in. Relative paths begin in `directory`, or
/// else in the directory of this file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    /// Where somebody renews the files: Kubernetes and cert-manager (`tls.crt`, `tls.key`, `ca.crt`), istio-agent
    /// (`cert-chain.pem`, `key.pem`, `root-cert.pem`), spiffe-helper (`svid.pem`, `svid_key.pem`, `svid_bundle.pem`) or
    /// `spire-agent api fetch` (`svid.0.pem`, `svid.0.key`, `bundle.0.pem`). Where `..data` is a symbolic link all are read
    /// from what it points to.
    pub(crate) directory: Option<PathBuf>,
    /// The certificate and those of who signed it, in PEM. Default: by its name in `directory`.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key, in PEM. Default: by its name in `directory`.
    pub(crate) private_key: Option<PathBuf>,
    /// The roots of those who are believed, in PEM. Default: by their name in `directory`, if they are there.
    pub(crate) roots: Option<PathBuf>,
    /// The roots vouch for the SPIFFE IDs of this domain only. Default: for every certificate.
    pub(crate) trust_domain: Option<Text<TrustDomain>>,
    /// The roots of other domains whose SPIFFE IDs are believed, in PEM, by the names of the domains. While one of these files cannot
    /// be used, what was read there before is in force, or else that domain is not believed. Default: none.
    #[serde(default)]
    pub(crate) federated: BTreeMap<String, PathBuf>,
    /// Certificate revocation lists, in PEM. One that has expired lets nobody in; nor does one that cannot be read for longer than
    /// 10 s. Default: none.
    pub(crate) revocation_lists: Option<PathBuf>,
    /// Whether a key is refused that everybody on this machine can read. Default: `false`: it is warned of, as Kubernetes
    /// mounts keys so.
    #[serde(default)]
    pub(crate) strict_key_permissions: bool,
    /// Whether files that cannot be used are waited for when this identity is new: somebody beside us writes them, who begins no sooner
    /// than we do. Until they are there handshakes fail, and a gateway that has not been ready before is not, as `/readyz` says. What an
    /// agent tells is waited for in any case. Default: `false`: they are a fault of this file.
    #[serde(default)]
    pub(crate) awaited: bool,
    /// The agent that tells all of this, in place of files. Needs the feature `spiffe`. Default: none.
    pub(crate) workload_api: Option<WorkloadApi>,
}

/// An agent of SPIFFE beside us, such as SPIRE's: it tells who we are and whom to believe, and renews it. Until it has told something
/// every handshake fails; while it is away, what it told before is in force.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadApi {
    /// Where it is: the path of a socket, `unix:///path/of/a/socket` or `tcp://127.0.0.1:8000`. Default: what the variable
    /// `SPIFFE_ENDPOINT_SOCKET` of the environment says.
    pub(crate) socket: Option<String>,
    /// Which of several identities is ours. Default: the first that it tells.
    pub(crate) spiffe_id: Option<Text<SpiffeId>>,
    /// The same, by the hint that an operator gave it. Default: the first that it tells.
    pub(crate) hint: Option<String>,
    /// Other domains whose SPIFFE IDs are believed, if it has their roots. Default: none.
    #[serde(default)]
    pub(crate) federated: Vec<Text<TrustDomain>>,
}

/// TLS 1.2 and 1.3 from clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListenerTls {
    /// Names of `identities`: what is shown to clients, by the name that they ask for (SNI). Who asks for none of these names
    /// is shown the first.
    #[schemars(length(min = 1))]
    pub(crate) identities: Vec<String>,
    /// Whether clients show certificates. Default: `required` with `clientCa`, else `none`.
    pub(crate) client_certificates: Option<ClientCertificates>,
    /// The roots of clients, in PEM; looked at once a second. Default: those of the first identity.
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether plain text is taken on this port, beside TLS or in place of it. Default: `strict`.
    #[serde(default)]
    pub(crate) mode: TlsMode,
    /// How long a handshake may take, 100 ms to 1 h. Default: 10 s.
    pub(crate) handshake_timeout: Option<Text<Duration>>,
    /// What becomes of a connection whose client would be refused by the roots and revocation lists of today. Default: `drain`.
    pub(crate) on_trust_shrink: Option<OnTrustShrink>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ClientCertificates {
    /// They are not asked to.
    None,
    /// Who shows one is verified, and refused if it is not believed.
    Optional,
    /// Who shows none is refused.
    Required,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TlsMode {
    /// It is refused.
    #[default]
    Strict,
    /// It is told apart by the first byte: while a mesh moves from the one to the other. Where `protocol` is `tcp` or `detect` a client
    /// that says nothing for the listener's `detectTimeout` speaks plain text: its server speaks first. What speaks plain text has no
    /// identity. A protocol in plain text whose first byte is 22, as that of TLS within it, is taken for TLS with this listener.
    Permissive,
    /// Nothing but plain text is taken, as without `tls`: what is said here is checked, and does nothing.
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OnTrustShrink {
    /// It stays, until the certificate expires.
    Keep,
    /// It ends with the requests that are in flight; a tunnel stays.
    Drain,
    /// It is cut, and so are tunnels.
    Close,
}

/// TLS to an upstream; it never falls back to plain text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    /// Who we are: the name of one of `identities`. Default: nobody; a server that asks for a certificate gets none.
    pub(crate) identity: Option<String>,
    /// The roots by which the server is verified, in PEM; looked at once a second. Default: those of `identity`, or without one
    /// those of this machine.
    pub(crate) roots: Option<PathBuf>,
    /// The DNS name or IP address that the server's certificate must have, and that is asked for (SNI). Default: the host of
    /// each endpoint.
    pub(crate) server_name: Option<String>,
    /// The SPIFFE ID that the server's certificate must have, in place of a name.
    pub(crate) spiffe_id: Option<Text<SpiffeId>>,
    /// The trust domain of which the server must be, whatever its path is, in place of a name.
    pub(crate) trust_domain: Option<Text<TrustDomain>>,
    /// What becomes of a connection to a server that would be refused by the roots and revocation lists of today. Default: `drain`.
    pub(crate) on_trust_shrink: Option<OnTrustShrink>,
}
