//! A certificate authority for trying a mesh on a laptop: identities for a handful of services, renewed for as long as it runs.
//!
//! ```sh
//! cargo run --example mesh_ca --features tls -- --dir ./mesh orders payments web
//! ```
//!
//! Each service has a directory, as `portcullis::tls::Directory` and most other programs read it: `tls.crt`, `tls.key` and
//! `ca.crt`, replaced together by one symbolic link, as Kubernetes does it. They are renewed at half of their life.
//!
//! With `--rotate-root 1d` the root is renewed as well: the next one is believed for half a life before it signs, and the last one
//! for half a life after it has signed. The root's key is nowhere but in this process: started again, it is another authority.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to who runs it")]

use std::{
    collections::BTreeSet,
    error::Error,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::{Duration, SystemTime},
};

use portcullis::identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio::time::Instant;

const USAGE: &str =
    "usage: mesh_ca [--dir ./mesh] [--trust-domain mesh.local] [--ttl 1h] [--rotate-root 1d] SERVICE...";
/// A service looks at its directory once a second.
const SHORTEST: Duration = Duration::from_secs(4);
/// Before now: clocks differ.
const SKEW: Duration = Duration::from_secs(60);
const ROOT_TTL: Duration = Duration::from_secs(3_650 * 86_400);
/// The link that is replaced, and how what it points to is called.
const LINK: &str = "..data";
const VERSION: &str = "..version-";

/// What was asked for.
struct Asked {
    dir: PathBuf,
    domain: TrustDomain,
    ttl: Duration,
    rotate_root: Option<Duration>,
    services: BTreeSet<String>,
}

impl Asked {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut asked = Self {
            dir: "./mesh".into(),
            domain: "mesh.local".parse()?,
            ttl: Duration::from_secs(3_600),
            rotate_root: None,
            services: BTreeSet::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument}: a value is missing"));
            match argument.as_str() {
                "--dir" => asked.dir = value()?.into(),
                "--trust-domain" => {
                    asked.domain = value()?.parse().map_err(|error| format!("{argument}: {error}"))?;
                }
                "--ttl" => asked.ttl = duration(&argument, &value()?)?,
                "--rotate-root" => asked.rotate_root = Some(duration(&argument, &value()?)?),
                option if option.starts_with('-') => {
                    return Err(format!("{option}: there is no such option").into());
                }
                service => {
                    asked.services.insert(service.to_owned());
                }
            }
        }
        for service in &asked.services {
            asked.id(service)?;
        }
        if asked.services.is_empty() { Err("name at least one service".into()) } else { Ok(asked) }
    }

    /// The name of a service; that is a directory and a DNS label too.
    fn id(&self, service: &str) -> Result<SpiffeId, String> {
        let is_label =
            service.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let id = format!("spiffe://{}/{service}", self.domain).parse().ok();
        id.filter(|_| is_label)
            .ok_or(format!("{service:?}: a service is called by small letters, digits and dashes"))
    }
}

fn duration(option: &str, text: &str) -> Result<Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let seconds = units
        .iter()
        .find_map(|(unit, seconds)| text.strip_suffix(*unit)?.parse::<u64>().ok()?.checked_mul(*seconds));
    let range = SHORTEST.as_secs()..=ROOT_TTL.as_secs() / 2;
    let seconds = seconds.filter(|seconds| range.contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or(format!("{option}: expected a duration such as 90s, 15m, 1h or 7d, at least {SHORTEST:?}"))
}

type Root = CertifiedIssuer<'static, KeyPair>;

/// Who signs. Time passes in turns of half the life of a certificate: a root is believed for a turn before it signs, and for a
/// turn after it last has, so that nobody meets a certificate by a root that was not read yet.
struct Authority {
    before: Option<Root>,
    signs: Root,
    since: Instant,
    next: Option<Root>,
}

impl Authority {
    fn new(asked: &Asked) -> Result<Self, rcgen::Error> {
        Ok(Self { before: None, signs: root(asked)?, since: Instant::now(), next: None })
    }

    fn turn(&mut self, asked: &Asked) -> Result<(), rcgen::Error> {
        self.before = None;
        if let Some(next) = self.next.take() {
            self.before = Some(std::mem::replace(&mut self.signs, next));
            self.since = Instant::now();
        } else if asked.rotate_root.is_some_and(|every| self.since.elapsed() >= every) {
            self.next = Some(root(asked)?);
        }
        Ok(())
    }

    fn believed(&self) -> impl Iterator<Item = &Root> {
        self.before.iter().chain([&self.signs]).chain(&self.next)
    }

    /// Renews all services.
    fn issue(&self, asked: &Asked) -> Result<(), Box<dyn Error>> {
        let roots: String = self.believed().map(Root::pem).collect();
        for service in &asked.services {
            let key = KeyPair::generate()?;
            let chain = params(asked, service)?.signed_by(&key, &self.signs)?.pem();
            let files = [
                ("tls.crt", chain, 0o644),
                ("tls.key", key.serialize_pem(), 0o600),
                ("ca.crt", roots.clone(), 0o644),
            ];
            let directory = asked.dir.join(service);
            publish(&directory, &files).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        Ok(())
    }
}

fn root(asked: &Asked) -> Result<Root, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{} (development)", asked.domain));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, ROOT_TTL);
    Root::self_signed(params, KeyPair::generate()?)
}

/// What a service's certificate says: its SPIFFE ID, and for clients that ask for a host, its DNS names and this machine's.
fn params(asked: &Asked, service: &str) -> Result<CertificateParams, Box<dyn Error>> {
    let mut params = CertificateParams::new([
        service.to_owned(),
        format!("{service}.{}", asked.domain),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ])?;
    params.subject_alt_names.push(SanType::URI(asked.id(service)?.as_str().try_into()?));
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    valid(&mut params, asked.ttl);
    Ok(params)
}

fn valid(params: &mut CertificateParams, ttl: Duration) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (epoch + now.saturating_sub(SKEW), epoch + now + ttl);
}

/// Replaces all files at once: they are links through one link. What it pointed to before stays for another turn, for who is
/// just reading.
fn publish(directory: &Path, files: &[(&str, String, u32)]) -> io::Result<()> {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let version = format!("{VERSION}{nanos}");
    let folder = directory.join(&version);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    for (name, text, mode) in files {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(folder.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    let (link, beside) = (directory.join(LINK), directory.join("..data_tmp"));
    let before = fs::read_link(&link).unwrap_or_default();
    let _ = fs::remove_file(&beside); // of one that was killed
    symlink(&version, &beside)?;
    fs::rename(&beside, &link)?;
    for (name, ..) in files {
        match symlink(Path::new(LINK).join(name), directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let is_old = name.to_str().is_some_and(|name| name.starts_with(VERSION) && name != version);
        if is_old && name != before {
            fs::remove_dir_all(directory.join(name))?;
        }
    }
    Ok(())
}

fn run(asked: &Asked) -> Result<(), Box<dyn Error>> {
    println!(
        "For development only. For production there are SPIRE, cert-manager and Istio: this keeps its root in memory."
    );
    let mut authority = Authority::new(asked)?;
    authority.issue(asked)?;
    for service in &asked.services {
        println!("{} in {}", asked.id(service)?, asked.dir.join(service).display());
    }
    loop {
        println!("renewed for {:?}; roots that are believed: {}", asked.ttl, authority.believed().count());
        sleep(asked.ttl / 2);
        authority.turn(asked)?;
        while let Err(error) = authority.issue(asked) {
            eprintln!("mesh_ca: {error}");
            sleep(Duration::from_secs(1));
        }
    }
}

fn main() -> ExitCode {
    let ended = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => run(&asked),
        Err(error) => Err(format!("{error}\n{USAGE}").into()),
    };
    if let Err(error) = ended {
        eprintln!("mesh_ca: {error}");
    }
    ExitCode::FAILURE
}
