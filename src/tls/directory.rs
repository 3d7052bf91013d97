use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Identity, IdentitySource, Material, Trust,
    lists::{By, Lists},
};
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
/// they are of one version. What cannot be read, or is half written, leaves what was before in force; but where revocation lists
/// have been unreadable for 10 s nobody is let in any more, until they can be read. Our own certificate is renewed all the same, and
/// lists are taken whatever else is wrong.
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
    /// Whom to believe by what was told last, but for the lists; `None` if there are to be none, or nothing was told.
    roots_told: Option<Trust>,
    lists: Lists,
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
    ours: Result<Ours, String>,
    revoked: Option<Result<Vec<u8>, String>>,
    federated: Vec<Result<Vec<u8>, String>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Ours {
    /// Chain and key.
    identity: Option<[Vec<u8>; 2]>,
    roots: Option<Vec<u8>>,
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
            roots_told: None,
            lists: Lists::default(),
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

    /// Certificate revocation lists, in the directory or elsewhere. While they cannot be read nobody is let in, once that has lasted
    /// for longer than it takes to write them: 10 s.
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
        let read = self.look();
        let (identity, roots, faults) = self.clone().made(&read)?;
        Ok((Material::new(identity, self.listed(&read)?.on(roots)?), faults))
    }

    fn look(&self) -> Read {
        // Once, so that a swap between two files is not seen.
        let root = std::fs::canonicalize(self.path.join("..data")).unwrap_or_else(|_| self.path.clone());
        let read = |path: &Path| read(&self.place(&root, path)).map_err(|why| why.to_string());
        Read {
            ours: self.ours(&root).map_err(|why| why.to_string()),
            revoked: self.revoked.as_deref().map(read),
            federated: self.federated.iter().map(|other| read(&other.path)).collect(),
        }
    }

    /// Chain, key and roots.
    fn ours(&self, root: &Path) -> Result<Ours, BoxError> {
        let read = |path: &Path| read(&self.place(root, path));
        let identity = self.identity_in(root);
        if let Some([_, key]) = identity
            && self.strict
            && is_open_to_others(&self.place(root, key))
        {
            return Err(self.at(key, "everybody on this machine can read this key"));
        }
        let known = || known_in(root)[2];
        let known = || root.join(known()).exists().then_some(Path::new(known()));
        Ok(Ours {
            identity: identity
                .map(|[chain, key]| Ok::<_, BoxError>([read(chain)?, read(key)?]))
                .transpose()?,
            roots: self.roots.as_deref().or_else(known).map(read).transpose()?,
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

    /// Who we are, whom to believe but for the revocation lists, and what is wrong with the roots of other domains.
    fn made(&mut self, read: &Read) -> Result<(Option<Identity>, Trust, Vec<String>), BoxError> {
        let Ours { identity, roots } = read.ours.as_ref().map_err(String::as_str)?;
        let chain_at = self.identity_in(&self.path).map_or(Path::new(""), |[chain, _]| chain);
        let roots_at = self.roots.as_deref().unwrap_or(Path::new(known_in(&self.path)[2]));
        let identity = match identity {
            Some([chain, key]) => Some(Identity::from_pem(chain, key).map_err(|why| self.at(chain_at, why))?),
            None => None,
        };
        let trust = match (&self.domain, roots) {
            (Some(domain), Some(roots)) => Trust::none().trust_domain(domain.clone(), roots),
            (None, Some(roots)) => Trust::roots(roots),
            (_, None) => Ok(Trust::none()),
        };
        let mut trust = trust.map_err(|why| self.at(roots_at, why))?;
        let faults = self.others(&mut trust, &read.federated);
        Ok((identity, trust, faults))
    }

    /// The revocation lists that are there.
    fn listed(&self, read: &Read) -> Result<By, BoxError> {
        let (Some(path), Some(revoked)) = (&self.revoked, &read.revoked) else { return Ok(By::Nothing) };
        let lists = revoked.clone()?;
        By::these(lists).map_err(|why| self.at(path, why))
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
        let read = tokio::task::spawn_blocking(move || here.look()).await?;
        if self.read.as_ref() == Some(&read) && !self.lists.are_due() {
            return Ok(None);
        }
        let by = match self.listed(&read) {
            Err(why) if before.is_some() => self.lists.without(why),
            by => by,
        };
        let (material, roots, others) = match self.taken(&read, &by, before) {
            Ok(taken) => taken,
            Err(why) => {
                let (Some(before), Ok(by)) = (before, by) else { return Err(why) };
                return self.by_lists_alone(before, by).map(Some).ok_or(why);
            }
        };
        if let Ok(by) = by {
            self.lists.settle(by);
        }
        self.roots_told = self.revoked.is_some().then_some(roots);
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

    /// All that is there, if it is no less than what was there before: with the roots, and what is wrong with those of others.
    fn taken(
        &mut self,
        read: &Read,
        by: &Result<By, BoxError>,
        before: Option<&Material>,
    ) -> Result<(Material, Trust, Vec<String>), BoxError> {
        let (identity, roots, others) = self.made(read)?;
        let by = by.as_ref().map_err(ToString::to_string)?;
        let material = Material::new(identity, by.on(roots.clone())?);
        if let Some(before) = before {
            before.is_no_loss(&material).map_err(|why| self.at(Path::new(""), why))?;
        }
        Ok((material, roots, others))
    }

    /// What was there before, where nothing but the lists can be used: who is revoked is not let in for that. `None` if they change
    /// nothing; what is wrong is told at the next look else.
    fn by_lists_alone(&mut self, before: &Material, by: By) -> Option<Material> {
        let roots = match (&by, &self.roots_told) {
            (By::These(_) | By::Nobody(_), Some(roots)) => Some(roots),
            // Nothing was taken here yet: the roots are not known without their lists, which cannot be exchanged then.
            (By::Nobody(_), None) => Some(&before.trust),
            _ => None,
        };
        let trust = roots.and_then(|roots| by.on(roots.clone()).ok());
        self.lists.settle(by);
        let trust = trust.filter(|trust| *trust != before.trust)?;
        self.read = None;
        Some(Material::new(before.identity.clone(), trust))
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
                    // Those who fail are asked again later and later, and these 10 s shall be no longer.
                    if before.is_none() || !self.lists.are_awaited() {
                        return Err(error);
                    }
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
        sync::atomic::{AtomicU32, Ordering},
    };

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };
    use rustls::pki_types::{CertificateDer, UnixTime};

    use super::*;
    use crate::tls::{Credentials, Crypto, lists::WRITING, trust::Usage};

    /// A directory that is gone with the test.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("portcullis-directory-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Chain, key and roots, under these names.
        fn write_all(&self, names: [&str; 3], authority: &Authority, serial: u8) {
            let (chain, key) = authority.sign(serial, |_| {});
            for (name, text) in names.into_iter().zip([chain, key, authority.0.pem()]) {
                self.write(name, text);
            }
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new([]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn sign(&self, serial: u8, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
            let mut params = CertificateParams::new(["orders.shop".to_owned()]).unwrap();
            params.serial_number = Some(SerialNumber::from(vec![serial]));
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
        }

        fn revoked(&self, serial: u8) -> String {
            let revoked = RevokedCertParams {
                serial_number: SerialNumber::from(vec![serial]),
                revocation_time: date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let list = CertificateRevocationListParams {
                this_update: date_time_ymd(2025, 1, 1),
                next_update: date_time_ymd(2100, 1, 1),
                crl_number: SerialNumber::from(vec![1]),
                issuing_distribution_point: None,
                revoked_certs: vec![revoked],
                key_identifier_method: KeyIdMethod::Sha256,
            };
            list.signed_by(&self.0).unwrap().pem().unwrap()
        }
    }

    const CERT_MANAGER: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

    fn serial(material: &Material) -> String {
        material.identity.as_ref().unwrap().names().serial().to_owned()
    }

    #[test]
    fn whoever_writes_there_is_known_by_the_names() {
        for names in [
            CERT_MANAGER,
            ["cert-chain.pem", "key.pem", "root-cert.pem"],
            ["svid.pem", "svid_key.pem", "svid_bundle.pem"],
            ["svid.0.pem", "svid.0.key", "bundle.0.pem"],
        ] {
            let (place, authority) = (Place::new(), Authority::new());
            place.write_all(names, &authority, 7);
            let directory = Directory::new(&place.0);
            let material = directory.material().unwrap();
            assert_eq!((serial(&material), material.trust.is_empty()), ("07".into(), false), "{names:?}");
            fs::remove_file(place.0.join(names[2])).unwrap();
            assert!(directory.material().unwrap().trust.is_empty(), "the roots may be missing");
            fs::remove_file(place.0.join(names[1])).unwrap();
            let why = directory.material().unwrap_err().to_string();
            assert!(why.contains(names[1]), "{why}");
        }
    }

    /// Kubernetes writes a new version beside the old one, and swaps a link.
    #[tokio::test]
    async fn all_is_read_of_one_version() {
        let (place, old, new) = (Place::new(), Authority::new(), Authority::new());
        for (version, authority, number) in [("..1", &old, 1), ("..2", &new, 2)] {
            place.write_all(
                CERT_MANAGER.map(|name| format!("{version}/{name}")).each_ref().map(|name| &**name),
                authority,
                number,
            );
        }
        symlink("..1", place.0.join("..data")).unwrap();
        // Their links do not count: they could be of either version.
        for (name, version) in CERT_MANAGER.into_iter().zip(["..2", "..1", "..2"]) {
            symlink(place.0.join(version).join(name), place.0.join(name)).unwrap();
        }
        let mut directory = Directory::new(&place.0);
        let first = directory.changed(None).await.unwrap().unwrap();
        assert_eq!(serial(&first), "01");
        assert!(directory.changed(Some(&first)).await.unwrap().is_none(), "nothing is new");
        symlink("..2", place.0.join("..data_tmp")).unwrap();
        fs::rename(place.0.join("..data_tmp"), place.0.join("..data")).unwrap();
        let second = directory.changed(Some(&first)).await.unwrap().unwrap();
        assert_eq!(serial(&second), "02");
        assert!(first.trust != second.trust);
    }

    #[test]
    fn a_key_that_everybody_can_read_is_refused_where_it_is_said() {
        let (place, authority) = (Place::new(), Authority::new());
        place.write_all(CERT_MANAGER, &authority, 7);
        let key = place.0.join("tls.key");
        for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let lenient = Directory::new(&place.0);
            assert_eq!(lenient.is_open(), is_open, "{mode:o}: it is warned of");
            lenient.material().unwrap();
            let strict = lenient.strict_key_permissions(true).material();
            assert_eq!(strict.is_err(), is_open, "{mode:o}");
            if let Err(why) = strict {
                let why = why.to_string();
                assert!(why.contains("tls.key: everybody on this machine can read this key"), "{why}");
            }
        }
    }

    #[tokio::test]
    async fn what_serves_is_not_given_up_for_what_cannot() {
        let (place, authority) = (Place::new(), Authority::new());
        place.write_all(CERT_MANAGER, &authority, 1);
        let mut directory = Directory::new(&place.0);
        let before = directory.changed(None).await.unwrap().unwrap();
        let refused =
            async |directory: &mut Directory| directory.changed(Some(&before)).await.unwrap_err().to_string();
        fs::remove_file(place.0.join("ca.crt")).unwrap();
        assert!(refused(&mut directory).await.contains("the roots are gone"));
        place.write("ca.crt", authority.0.pem());
        // Of the year after next, and of the last century.
        for (from, until) in [(2090, 2091), (1990, 1991)] {
            let (chain, key) = authority.sign(2, |params| {
                (params.not_before, params.not_after) =
                    (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            });
            place.write("tls.crt", &chain);
            let why = refused(&mut directory).await;
            assert!(why.contains("tls.crt"), "half of a pair: {why}");
            place.write("tls.key", &key);
            let why = refused(&mut directory).await;
            assert!(why.contains("is not valid now, and the one before is"), "{why}");
        }
        place.write_all(CERT_MANAGER, &authority, 3);
        let material = directory.changed(Some(&before)).await.unwrap().unwrap();
        assert_eq!(serial(&material), "03");
    }

    fn is_let_in(material: &Material, (chain, _): &(String, String)) -> Result<(), String> {
        use rustls::pki_types::pem::PemObject;

        let chain = [CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
        let seen = material.trust.verify(&chain, UnixTime::now(), Usage::Client, Crypto::AwsLc);
        seen.map(drop).map_err(|why| why.to_string())
    }

    /// A list that is written in place is whole again soon; one that stays unreadable is no empty one.
    #[tokio::test(start_paused = true)]
    async fn unreadable_revocation_lists_let_nobody_in() {
        for broken in [Some("junk"), Some(""), None] {
            let (place, authority) = (Place::new(), Authority::new());
            let (good, bad) = (authority.sign(8, |_| {}), authority.sign(7, |_| {}));
            place.write_all(CERT_MANAGER, &authority, 1);
            place.write("crl.pem", authority.revoked(7));
            let mut directory = Directory::new(&place.0).revocation_lists("crl.pem");
            let first = directory.changed(None).await.unwrap().unwrap();
            let judged =
                |material: &Material| (is_let_in(material, &good).is_ok(), is_let_in(material, &bad).is_ok());
            assert_eq!(judged(&first), (true, false));

            match broken {
                Some(text) => place.write("crl.pem", text),
                None => fs::remove_file(place.0.join("crl.pem")).unwrap(),
            }
            directory.material().unwrap_err();
            let second = directory.changed(Some(&first)).await.unwrap().unwrap();
            assert!(second == first, "all as before, for now");
            // Our own certificate is renewed.
            place.write_all(CERT_MANAGER, &authority, 2);
            let second = directory.changed(Some(&second)).await.unwrap().unwrap();
            assert_eq!((serial(&second), judged(&second)), ("02".into(), (true, false)));

            tokio::time::advance(WRITING).await;
            let third = directory.changed(Some(&second)).await.unwrap().unwrap();
            assert_eq!((serial(&third), judged(&third)), ("02".into(), (false, false)));
            assert_eq!(is_let_in(&third, &good).unwrap_err(), is_let_in(&third, &bad).unwrap_err());
            let why = is_let_in(&third, &good).unwrap_err();
            assert!(why.contains("the revocation lists cannot be read"), "{why}");
            let status = Credentials::new(third.clone()).status();
            let why = status.revocation_failure.unwrap_or_default();
            assert!(why.contains("crl.pem"), "{why}");
            assert!(directory.changed(Some(&third)).await.unwrap().is_none(), "it is told once");
            place.write_all(CERT_MANAGER, &authority, 3);
            let third = directory.changed(Some(&third)).await.unwrap().unwrap();
            assert_eq!((serial(&third), judged(&third)), ("03".into(), (false, false)));

            place.write("crl.pem", authority.revoked(9));
            let last = directory.changed(Some(&third)).await.unwrap().unwrap();
            assert_eq!(judged(&last), (true, true), "another list is in force");
            assert_eq!(Credentials::new(last).status().revocation_failure, None);
        }
    }

    /// Where all is in one directory all is gone at once, as when a volume is.
    #[tokio::test(start_paused = true)]
    async fn revocation_lists_that_are_gone_with_all_else_let_nobody_in() {
        let (place, authority) = (Place::new(), Authority::new());
        let other = authority.sign(8, |_| {});
        let list = authority.revoked(7);
        let begin = || {
            place.write_all(CERT_MANAGER, &authority, 1);
            place.write("crl.pem", &list);
            Directory::new(&place.0).revocation_lists("crl.pem")
        };
        let end = || {
            for name in CERT_MANAGER.into_iter().chain(["crl.pem"]) {
                fs::remove_file(place.0.join(name)).unwrap();
            }
        };
        let mut directory = begin();
        let first = directory.changed(None).await.unwrap().unwrap();
        end();
        let why = directory.changed(Some(&first)).await.unwrap_err().to_string();
        assert!(why.contains("tls.crt"), "{why}");
        tokio::time::advance(WRITING - LOOK).await;
        directory.changed(Some(&first)).await.unwrap_err();
        assert!(directory.lists.are_awaited());
        tokio::time::advance(LOOK).await;
        let second = directory.changed(Some(&first)).await.unwrap().unwrap();
        assert_eq!(serial(&second), "01", "we are who we were");
        let why = is_let_in(&second, &other).unwrap_err();
        assert!(why.contains("the revocation lists cannot be read"), "{why}");
        directory.changed(Some(&second)).await.unwrap_err();

        place.write("crl.pem", &list);
        let third = directory.changed(Some(&second)).await.unwrap().unwrap();
        assert!(third == first, "the lists are back");
        place.write_all(CERT_MANAGER, &authority, 2);
        let last = directory.changed(Some(&third)).await.unwrap().unwrap();
        assert_eq!((serial(&last), is_let_in(&last, &other)), ("02".into(), Ok(())));

        // What a configuration was built with is shut as well, though nothing was read since, and no later.
        let directory = begin();
        let credentials = Credentials::follow_from(directory.material().unwrap(), directory);
        end();
        sleep(WRITING - LOOK).await;
        assert_eq!(credentials.status().revocation_failure, None);
        sleep(LOOK * 4).await;
        assert!(credentials.status().revocation_failure.is_some());
        sleep(LOOK * 4).await;
        let why = credentials.status().failure.unwrap();
        assert!(why.contains("tls.crt"), "{why}");
    }

    #[tokio::test]
    async fn a_new_revocation_list_is_taken_whatever_else_is_half_written() {
        let (junk, other_key) = ("junk".to_owned(), KeyPair::generate().unwrap().serialize_pem());
        let broken = [
            ("tls.crt", Some(&junk)),
            ("tls.crt", None),
            ("tls.key", Some(&other_key)),
            ("ca.crt", Some(&junk)),
            ("ca.crt", None),
        ];
        for (name, text) in broken {
            let (place, authority) = (Place::new(), Authority::new());
            let [one, other] = [7, 8].map(|serial| authority.sign(serial, |_| {}));
            place.write_all(CERT_MANAGER, &authority, 1);
            place.write("crl.pem", authority.revoked(7));
            let mut directory = Directory::new(&place.0).revocation_lists("crl.pem");
            let first = directory.changed(None).await.unwrap().unwrap();
            match text {
                Some(text) => place.write(name, text),
                None => fs::remove_file(place.0.join(name)).unwrap(),
            }
            directory.changed(Some(&first)).await.unwrap_err();
            let judged = |material: &Material| {
                (is_let_in(material, &one).is_ok(), is_let_in(material, &other).is_ok())
            };
            assert_eq!(judged(&first), (false, true), "{name}");
            place.write("crl.pem", authority.revoked(8));
            let second = directory.changed(Some(&first)).await.unwrap().unwrap();
            assert_eq!((serial(&second), judged(&second)), ("01".into(), (true, false)), "{name}");
            directory.changed(Some(&second)).await.unwrap_err();
            place.write_all(CERT_MANAGER, &authority, 3);
            let last = directory.changed(Some(&second)).await.unwrap().unwrap();
            assert_eq!((serial(&last), judged(&last)), ("03".into(), (true, false)), "{name}");
        }
    }

    /// A list that is broken for a moment only changes nothing, however often.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_being_written_keeps_nobody_out() {
        let (place, authority) = (Place::new(), Authority::new());
        let other = authority.sign(8, |_| {});
        place.write_all(CERT_MANAGER, &authority, 1);
        place.write("crl.pem", authority.revoked(7));
        let mut directory = Directory::new(&place.0).revocation_lists("crl.pem");
        let mut material = directory.changed(None).await.unwrap().unwrap();
        for round in 0..5 {
            for text in [&authority.revoked(7)[..100], &authority.revoked(7)] {
                place.write("crl.pem", text);
                for _ in 0..6 {
                    tokio::time::advance(LOOK).await;
                    if let Some(more) = directory.changed(Some(&material)).await.unwrap() {
                        material = more;
                    }
                    is_let_in(&material, &other).unwrap_or_else(|why| panic!("{round}: {why}"));
                }
            }
        }
    }
}
