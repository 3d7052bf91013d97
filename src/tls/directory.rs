use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use super::{Identity, IdentitySource, Material, Trust};
use crate::{
    body::BoxError,
    file::{is_open_to_others, slurp},
    identity::TrustDomain,
};

/// More bytes than any of the files has.
const LARGEST: u64 = 4 << 20;
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The names under which those who renew certificates write them: chain, key, roots.
const KNOWN: [[&str; 3]; 4] = [
    ["tls.crt", "tls.key", "ca.crt"],                // Kubernetes, cert-manager
    ["cert-chain.pem", "key.pem", "root-cert.pem"],  // istio-agent
    ["svid.pem", "svid_key.pem", "svid_bundle.pem"], // spiffe-helper
    ["svid.0.pem", "svid.0.key", "bundle.0.pem"],    // spire-agent api fetch
];

/// A directory in which somebody renews our certificate, its key and the roots: Kubernetes, cert-manager, istio-agent,
/// spiffe-helper. It is looked at once a second.
///
/// Unless told, the names of the files are those of whichever of these four writes there; the roots may be missing. Chain and key are taken only as a
/// pair that fits; where `..data` is a symbolic link, as Kubernetes makes it, all are read from what it points to, so that
/// they are of one version. What cannot be read, or is half written, leaves what was before in force.
///
/// ```
/// use portcullis::tls::{Credentials, Directory};
///
/// # async fn begin() {
/// let credentials = Credentials::follow(Directory::new("/etc/certs"));
/// credentials.ready().await;
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Directory {
    path: PathBuf,
    identity: Files,
    roots: Option<PathBuf>,
    revoked: Option<PathBuf>,
    domain: Option<TrustDomain>,
    federated: Vec<Federated>,
    strict: bool,
    /// What was read last.
    read: Option<Read>,
    /// What was wrong with others' roots then.
    others: Vec<String>,
}

/// Another domain's roots.
#[derive(Clone)]
struct Federated {
    domain: TrustDomain,
    path: PathBuf,
    /// The last ones that could be used.
    good: Option<Vec<u8>>,
}

/// Where chain and key are.
#[derive(Clone)]
enum Files {
    /// By names that are known.
    Known,
    Named([PathBuf; 2]),
    /// Nobody's.
    None,
}

#[derive(Clone, PartialEq, Eq)]
struct Read {
    /// Chain and key.
    identity: Option<[Vec<u8>; 2]>,
    roots: Option<Vec<u8>>,
    revoked: Option<Vec<u8>>,
    federated: Vec<Result<Vec<u8>, String>>,
}

impl Directory {
    /// This directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            identity: Files::Known,
            roots: None,
            revoked: None,
            domain: None,
            federated: Vec::new(),
            strict: false,
            read: None,
            others: Vec::new(),
        }
    }

    /// Roots in one file and nothing else: whom to believe, for who shows no certificate.
    pub fn of_roots(path: impl Into<PathBuf>) -> Self {
        Self { identity: Files::None, ..Self::new("").roots(path) }
    }

    /// Other names: of the chain and the key, each in the directory or elsewhere.
    pub fn identity(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Files::Named([chain.into(), key.into()]);
        self
    }

    /// Another name of the roots, in the directory or elsewhere.
    pub fn roots(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Some(path.into());
        self
    }

    /// Certificate revocation lists, in the directory or elsewhere.
    pub fn revocation_lists(mut self, path: impl Into<PathBuf>) -> Self {
        self.revoked = Some(path.into());
        self
    }

    /// The roots vouch for the SPIFFE IDs of this domain only. Unless told, for every certificate.
    pub fn trust_domain(mut self, domain: TrustDomain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// The roots of another domain, whose SPIFFE IDs are believed too. While they cannot be read those of before are in force,
    /// or else none, and the log says so: what others do wrong keeps nobody from ours.
    pub fn federated(mut self, domain: TrustDomain, roots: impl Into<PathBuf>) -> Self {
        self.federated.push(Federated { domain, path: roots.into(), good: None });
        self
    }

    /// Refuses a key that anybody on this machine can read. Unless told it is warned of: Kubernetes mounts keys so.
    pub const fn strict_key_permissions(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// A file is missing, cannot be read or is no PEM; key and certificate do not belong together. Only roots that have not
    /// been named may be missing: then nobody is believed; and those of [other domains](Self::federated), which are not
    /// believed then.
    pub fn material(&self) -> Result<Material, BoxError> {
        Ok(self.material_and_faults()?.0)
    }

    /// The same, and what is wrong with the roots of other domains.
    pub(crate) fn material_and_faults(&self) -> Result<(Material, Vec<String>), BoxError> {
        self.clone().made(&self.look()?)
    }

    fn look(&self) -> Result<Read, BoxError> {
        // Once, so that a swap between two files is not seen.
        let root = std::fs::canonicalize(self.path.join("..data")).unwrap_or_else(|_| self.path.clone());
        let read = |path: &Path| read(&self.place(&root, path));
        let identity = self.identity_in(&root);
        if let Some([_, key]) = identity
            && self.strict
            && is_open_to_others(&self.place(&root, key))
        {
            return Err(self.at(key, "everybody on this machine can read this key"));
        }
        let known = || known_in(&root)[2];
        let known = || root.join(known()).exists().then_some(Path::new(known()));
        Ok(Read {
            identity: identity
                .map(|[chain, key]| Ok::<_, BoxError>([read(chain)?, read(key)?]))
                .transpose()?,
            roots: self.roots.as_deref().or_else(known).map(read).transpose()?,
            revoked: self.revoked.as_deref().map(read).transpose()?,
            federated: self
                .federated
                .iter()
                .map(|other| read(&other.path).map_err(|why| why.to_string()))
                .collect(),
        })
    }

    /// Where chain and key are.
    fn identity_in(&self, root: &Path) -> Option<[&Path; 2]> {
        match &self.identity {
            Files::Known => {
                let [chain, key, _] = known_in(root);
                Some([Path::new(chain), Path::new(key)])
            }
            Files::Named([chain, key]) => Some([chain, key]),
            Files::None => None,
        }
    }

    /// A file of this version of the directory, or else one that stands elsewhere.
    fn place(&self, root: &Path, path: &Path) -> PathBuf {
        let inside = root.join(path);
        if inside.exists() { inside } else { self.path.join(path) }
    }

    fn at(&self, path: &Path, problem: impl fmt::Display) -> BoxError {
        format!("{}: {problem}", self.path.join(path).display()).into()
    }

    /// Whether everybody on this machine can read the key.
    pub(crate) fn is_open(&self) -> bool {
        self.identity_in(&self.path).is_some_and(|[_, key]| is_open_to_others(&self.path.join(key)))
    }

    fn made(&mut self, read: &Read) -> Result<(Material, Vec<String>), BoxError> {
        let chain_at = self.identity_in(&self.path).map_or(Path::new(""), |[chain, _]| chain);
        let roots_at = self.roots.as_deref().unwrap_or(Path::new(known_in(&self.path)[2]));
        let identity = match &read.identity {
            Some([chain, key]) => Some(Identity::from_pem(chain, key).map_err(|why| self.at(chain_at, why))?),
            None => None,
        };
        let trust = match (&self.domain, &read.roots) {
            (Some(domain), Some(roots)) => Trust::none().trust_domain(domain.clone(), roots),
            (None, Some(roots)) => Trust::roots(roots),
            (_, None) => Ok(Trust::none()),
        };
        let mut trust = trust.map_err(|why| self.at(roots_at, why))?;
        let faults = self.others(&mut trust, &read.federated);
        if let (Some(path), Some(revoked)) = (&self.revoked, &read.revoked) {
            trust = trust.revocation_lists(revoked).map_err(|why| self.at(path, why))?;
        }
        Ok((Material::new(identity, trust), faults))
    }

    /// Adds the roots of other domains, and tells what is wrong with them.
    fn others(&mut self, trust: &mut Trust, read: &[Result<Vec<u8>, String>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (other, read) in self.federated.iter_mut().zip(read) {
            let with = |roots: &[u8]| trust.clone().trust_domain(other.domain.clone(), roots);
            let at = self.path.join(&other.path);
            let unusable = |why| format!("{}: {why}", at.display());
            let more = read.clone().and_then(|roots| Ok((with(&roots).map_err(unusable)?, roots)));
            match more {
                Ok((more, roots)) => (*trust, other.good) = (more, Some(roots)),
                Err(why) => {
                    if let Some(more) = other.good.as_deref().and_then(|roots| with(roots).ok()) {
                        *trust = more;
                    }
                    faults.push(why);
                }
            }
        }
        faults
    }
}

impl Directory {
    /// What is there, unless it is what was there before.
    async fn changed(&mut self, before: Option<&Material>) -> Result<Option<Material>, BoxError> {
        let here = self.clone();
        let read = tokio::task::spawn_blocking(move || here.look()).await??;
        if self.read.as_ref() == Some(&read) {
            return Ok(None);
        }
        let (material, others) = self.made(&read)?;
        if let Some(before) = before {
            is_no_loss(before, &material).map_err(|why| self.at(Path::new(""), why))?;
        }
        self.read = Some(read);
        for why in others.iter().filter(|why| !self.others.contains(why)) {
            tracing::warn!(%why, "the roots of a federated domain cannot be used: what was believed of it before still is");
        }
        self.others = others;
        if !self.strict && self.is_open() {
            tracing::warn!(directory = %self.path.display(), "everybody on this machine can read this private key");
        }
        Ok(Some(material))
    }
}

impl IdentitySource for Directory {
    async fn next(&mut self, before: Option<&Material>) -> Result<Material, BoxError> {
        loop {
            if before.is_some() {
                sleep(LOOK).await;
            }
            match self.changed(before).await {
                Ok(Some(material)) => return Ok(material),
                Ok(None) if before.is_none() => sleep(LOOK).await,
                Ok(None) => {}
                Err(error) => {
                    // So that what was there before is told again when it is back, and all is well.
                    self.read = None;
                    return Err(error);
                }
            }
        }
    }
}

/// Whether what serves is not given up for what cannot: files come one by one, and old ones come back.
fn is_no_loss(before: &Material, after: &Material) -> Result<(), &'static str> {
    if after.trust.is_empty() && !before.trust.is_empty() {
        return Err("the roots are gone");
    }
    match (&before.identity, &after.identity) {
        (Some(before), Some(after)) if before.is_valid() && !after.is_valid() => {
            Err("the new certificate is not valid now, and the one before is")
        }
        _ => Ok(()),
    }
}

fn known_in(root: &Path) -> &'static [&'static str; 3] {
    KNOWN.iter().find(|names| root.join(names[0]).exists()).unwrap_or(&KNOWN[0])
}

fn read(path: &Path) -> Result<Vec<u8>, BoxError> {
    slurp(path, LARGEST).map_err(|why| format!("{} {why}", path.display()).into())
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("path", &self.path).finish_non_exhaustive()
    }
}
