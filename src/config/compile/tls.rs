//! `identities`, and TLS of listeners and upstreams.
use std::{collections::HashSet, path::Path, time::Duration};

use tokio::runtime::Handle;

use super::{Compiler, retry::within};
use crate::{
    config::{
        at::At,
        schema::{
            ClientCertificates, Identity, ListenerTls, OnTrustShrink, TlsMode, UpstreamTls, WorkloadApi,
        },
    },
    identity::TrustDomain,
    stack::Identities,
    tls::{self, ClientTls, Credentials, Directory, ServerId, ServerTls},
};

/// Under which the roots of this machine are kept; no path is that.
const PLATFORM: &str = "\0";

impl Compiler<'_> {
    /// An identity: the one of this name that is in force if the same is said of it, whatever its files hold by now.
    pub(super) fn identity(&self, at: At<'_>, name: &str, said: &Identity) -> Option<Credentials> {
        let made = || match &said.workload_api {
            Some(agent) => self.by_agent(at, said, agent),
            None if said.awaited => Some(self.awaited(at, self.directory(at, said)?)),
            None => self.in_files(at, self.directory(at, said)?),
        };
        self.identities.borrow_mut().keep(&self.kept.identities, name, said.clone(), made)
    }

    fn directory(&self, at: At<'_>, said: &Identity) -> Option<Directory> {
        let base = said.directory.as_deref().unwrap_or(Path::new(""));
        let mut directory = Directory::new(self.path(base));
        directory = match (&said.certificate, &said.private_key, &said.directory) {
            (Some(certificate), Some(key), _) => directory.identity(certificate, key),
            (None, None, Some(_)) => directory,
            _ if at.is_broken() => return None,
            (None, None, None) => {
                return at.refuse("expected `directory`, `certificate` and `privateKey`, or `workloadApi`");
            }
            _ => return at.refuse("expected both `certificate` and `privateKey`, or neither"),
        };
        if let Some(roots) = &said.roots {
            directory = directory.roots(roots);
        }
        if let Some(lists) = &said.revocation_lists {
            directory = directory.revocation_lists(lists);
        }
        if let Some(domain) = &said.trust_domain {
            directory = directory.trust_domain(domain.0.clone());
        }
        let mut known: HashSet<_> = said.trust_domain.iter().map(|ours| ours.0.clone()).collect();
        for (at, domain, roots) in at.field("federated").entries(&said.federated) {
            let domain: Result<TrustDomain, _> = domain.parse();
            let domain = at.accept(domain)?;
            if !known.insert(domain.clone()) {
                return at.refuse("this domain has roots already; ours has `roots`");
            }
            directory = directory.federated(domain, roots);
        }
        if directory.is_open() && !said.strict_key_permissions {
            at.warn("this private key can be read by everybody on this machine");
        }
        Some(directory.strict_key_permissions(said.strict_key_permissions))
    }

    /// What is in the files now, and will be.
    fn in_files(&self, at: At<'_>, directory: Directory) -> Option<Credentials> {
        let (material, faults) = at.accept(directory.material_and_faults())?;
        for fault in faults {
            at.field("federated").warn(format!("this domain is not believed: {fault}"));
        }
        // Who checks a file has nobody who looks at it again.
        Some(match Handle::try_current() {
            Ok(_) => Credentials::follow_from(material, directory),
            Err(_) => Credentials::new(material),
        })
    }

    /// What is in the files now, or somebody will write there.
    fn awaited(&self, at: At<'_>, directory: Directory) -> Credentials {
        let Err(why) = directory.material_and_faults() else {
            return self.in_files(at, directory).unwrap_or_else(Credentials::unknown);
        };
        at.warn(format!("is waited for: {why}"));
        match Handle::try_current() {
            Ok(_) => Credentials::follow(directory),
            Err(_) => Credentials::unknown(),
        }
    }

    /// What an agent will tell: nothing is known yet.
    fn by_agent(&self, at: At<'_>, said: &Identity, agent: &WorkloadApi) -> Option<Credentials> {
        let at_agent = at.field("workloadApi");
        if let Some(field) = beside(said) {
            return at.field(field).refuse("this is what the agent tells: expected it or `workloadApi`");
        }
        #[cfg(feature = "spiffe")]
        {
            let agent = asked(at_agent, agent)?;
            Some(match Handle::try_current() {
                Ok(_) => Credentials::follow(agent),
                Err(_) => Credentials::unknown(),
            })
        }
        #[cfg(not(feature = "spiffe"))]
        {
            let _ = agent;
            at_agent.refuse("this build asks no agent: it was made without the feature `spiffe`")
        }
    }

    /// Roots and nothing else.
    fn roots_in(&self, at: At<'_>, path: &Path) -> Option<Credentials> {
        let path = self.path(path);
        self.trusted(&path.to_string_lossy(), || self.in_files(at, Directory::of_roots(&path)))
    }

    /// The roots of this key, which are the same for all who name them.
    fn trusted(&self, key: &str, made: impl FnOnce() -> Option<Credentials>) -> Option<Credentials> {
        let known = self.roots.borrow().before(key).cloned();
        known.or_else(|| self.roots.borrow_mut().keep(&self.kept.roots, key, (), made))
    }

    /// Reports what an identity says of whom to believe, and roots that are named in place of its own do not.
    fn goes_lost(&self, at: At<'_>, identity: Option<&String>) {
        let said = identity.and_then(|name| self.file.identities.get(name));
        let lost = said.and_then(|said| {
            let lists = said.revocation_lists.is_some().then_some("revocationLists");
            lists
                .or(said.trust_domain.is_some().then_some("trustDomain"))
                .or((!said.federated.is_empty()).then_some("federated"))
        });
        if let Some(field) = lost {
            at.error(format!(
                "the identity's `{field}` is not for these roots: have the identity name them as its `roots`, or use another one"
            ));
        }
    }

    /// `None` where plain text is spoken, too.
    pub(super) fn listener_tls(&self, at: At<'_>, said: &ListenerTls) -> Option<ServerTls> {
        let at_identities = at.field("identities");
        let named = self.distinct(at_identities, &said.identities);
        let found = named.into_iter().map(|(at, name)| self.called(at, name)).collect::<Option<Vec<_>>>()?;
        let Some((first, others)) = found.split_first() else {
            return if at.is_broken() { None } else { at_identities.refuse("expected one at least") };
        };
        let tls = others.iter().fold(ServerTls::new(first), ServerTls::certificate);
        let tls = match &said.client_ca {
            Some(path) => {
                self.goes_lost(at.field("clientCa"), said.identities.first());
                tls.client_trust(&self.roots_in(at.field("clientCa"), path)?)
            }
            None => tls,
        };
        let unless_told = match said.client_ca {
            Some(_) => ClientCertificates::Required,
            None => ClientCertificates::None,
        };
        let clients = said.client_certificates.unwrap_or(unless_told);
        if said.client_ca.is_none() && clients != ClientCertificates::None && trusts_nobody(first) {
            return at
                .field("clientCertificates")
                .refuse("nobody would be believed: say `clientCa`, or the identity's `roots`");
        }
        if said.client_ca.is_some() && clients == ClientCertificates::None {
            at.field("clientCa").warn("no client is asked for a certificate: this does nothing");
        }
        let tls = tls.client_certificates(match clients {
            ClientCertificates::None => tls::ClientCertificates::None,
            ClientCertificates::Optional => tls::ClientCertificates::Optional,
            ClientCertificates::Required => tls::ClientCertificates::Required,
        });
        let tls = said.handshake_timeout.iter().fold(tls, |tls, timeout| {
            within(at.field("handshakeTimeout"), timeout.0, Duration::from_millis(100));
            tls.handshake_timeout(timeout.0)
        });
        if said.on_trust_shrink.is_some() && clients == ClientCertificates::None {
            at.field("onTrustShrink").warn("no client is asked for a certificate: this does nothing");
        }
        let then = said.on_trust_shrink.into_iter().map(shrunk);
        let tls = then.fold(tls, ServerTls::on_trust_shrink);
        Some(tls.permissive(said.mode == TlsMode::Permissive)).filter(|_| said.mode != TlsMode::Disabled)
    }

    pub(super) fn upstream_tls(&self, at: At<'_>, said: &UpstreamTls) -> Option<ClientTls> {
        let identity = match &said.identity {
            Some(name) => Some(self.called(at.field("identity"), name)?),
            None => None,
        };
        let tls = identity.as_ref().map(ClientTls::mutual);
        let tls = match (&said.roots, identity) {
            (Some(path), _) => {
                self.goes_lost(at.field("roots"), said.identity.as_ref());
                let roots = self.roots_in(at.field("roots"), path)?;
                tls.map_or_else(|| ClientTls::trusting_in(&roots), |tls| tls.trust(&roots))
            }
            (None, Some(identity)) if trusts_nobody(&identity) => {
                return at
                    .field("identity")
                    .refuse("nobody would be believed: say `roots`, here or of the identity");
            }
            (None, Some(_)) => tls?,
            (None, None) => ClientTls::trusting_in(&self.platform(at)?),
        };
        let then = said.on_trust_shrink.into_iter().map(shrunk);
        let tls = then.fold(tls, ClientTls::on_trust_shrink);
        let by = (&said.server_name, &said.spiffe_id, &said.trust_domain);
        Some(tls.server(match by {
            (None, None, None) => ServerId::Host,
            (Some(name), None, None) => match tls::is_server_name(name) {
                true => ServerId::Name(name.as_str().into()),
                false => return at.field("serverName").refuse("expected a DNS name or an IP address"),
            },
            (None, Some(id), None) => ServerId::Spiffe(id.0.clone()),
            (None, None, Some(domain)) => ServerId::TrustDomain(domain.0.clone()),
            _ => return at.refuse("expected one at most of `serverName`, `spiffeId` and `trustDomain`"),
        }))
    }

    /// The roots of this machine, as they were when somebody needed them first.
    fn platform(&self, at: At<'_>) -> Option<Credentials> {
        let made = || {
            let trust = at.accept(tls::Trust::platform())?;
            Some(Credentials::new(tls::Material::new(None, trust)))
        };
        self.trusted(PLATFORM, made)
    }

    /// What is told of. Files of roots are by their paths; those of this machine are not looked at again.
    pub(super) fn told_identities(&self) -> Identities {
        let (identities, roots) = (self.identities.borrow(), self.roots.borrow());
        let told = identities
            .all()
            .iter()
            .fold(Identities::new(), |told, (name, (_, identity))| told.identity(name.as_str(), identity));
        let roots = roots.all().iter().filter(|(path, _)| *path != PLATFORM);
        roots.fold(told, |told, (path, (_, roots))| told.roots(path.as_str(), roots))
    }

    fn called(&self, at: At<'_>, name: &str) -> Option<Credentials> {
        let identities = self.identities.borrow();
        if let Some(known) = identities.before(name) {
            return Some(known.clone());
        }
        let none = std::collections::BTreeMap::<&str, ()>::new();
        self.find(at, name, "identity", "identities", &none);
        None
    }
}

/// Not while nothing is known yet.
fn trusts_nobody(credentials: &Credentials) -> bool {
    credentials.current().is_some_and(|material| material.trust.is_empty())
}

fn shrunk(then: OnTrustShrink) -> tls::OnTrustShrink {
    match then {
        OnTrustShrink::Keep => tls::OnTrustShrink::Keep,
        OnTrustShrink::Drain => tls::OnTrustShrink::Drain,
        OnTrustShrink::Close => tls::OnTrustShrink::Close,
    }
}

/// The first field that is of files.
fn beside(said: &Identity) -> Option<&'static str> {
    let said = [
        ("directory", said.directory.is_some()),
        ("certificate", said.certificate.is_some()),
        ("privateKey", said.private_key.is_some()),
        ("roots", said.roots.is_some()),
        ("trustDomain", said.trust_domain.is_some()),
        ("federated", !said.federated.is_empty()),
        ("revocationLists", said.revocation_lists.is_some()),
        ("strictKeyPermissions", said.strict_key_permissions),
    ];
    said.into_iter().find_map(|(field, is_said)| is_said.then_some(field))
}

#[cfg(feature = "spiffe")]
fn asked(at: At<'_>, said: &WorkloadApi) -> Option<tls::WorkloadApi> {
    let agent = match &said.socket {
        Some(path) if path.starts_with('/') => tls::WorkloadApi::new(&format!("unix://{path}")),
        Some(socket) => tls::WorkloadApi::new(socket),
        None => tls::WorkloadApi::from_env(),
    };
    let agent = at.field("socket").accept(agent)?;
    let agent = match (&said.spiffe_id, &said.hint) {
        (Some(id), None) => agent.spiffe_id(id.0.clone()),
        (None, Some(hint)) => agent.hint(hint.as_str()),
        (None, None) => agent,
        (Some(_), Some(_)) => return at.refuse("expected `spiffeId` or `hint`, not both"),
    };
    let domains = said.federated.iter().map(|domain| domain.0.clone());
    Some(domains.fold(agent, tls::WorkloadApi::federated))
}
