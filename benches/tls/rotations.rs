//! What rotations leave behind, and whether a request waits for one: server and client in one process.

use std::{convert::Infallible, fs, time::Duration};

use http::{Request, Response};
use portcullis::{
    body::Body,
    tls::{Credentials, Identity, Material, ServerTls, Trust},
    transport::{Listener, Server},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::{io::AsyncWriteExt, time::Instant};
use tokio_rustls::TlsConnector;
use tower::service_fn;

use super::{END, Failed, ask, connect, connector};

/// Before the first look at the memory.
const WARM: usize = 10;

type Root = CertifiedIssuer<'static, KeyPair>;

fn root(name: &str) -> Result<Root, Failed> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(Root::self_signed(params, KeyPair::generate()?)?)
}

/// A workload's certificate, and its key.
fn leaf(root: &Root, id: &str) -> Result<(rcgen::Certificate, KeyPair), Failed> {
    let mut params = CertificateParams::new(["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::URI(id.try_into()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, root)?, key))
}

/// Every second time other roots, too: those who were let in before are looked at again.
fn material(ours: &Root, other: &Root, turn: usize) -> Result<Material, Failed> {
    let (certificate, key) = leaf(ours, "spiffe://mesh.local/orders")?;
    let identity = Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    let roots = if turn.is_multiple_of(2) { ours.pem() } else { ours.pem() + &other.pem() };
    Ok(Material::new(identity, Trust::roots(roots.as_bytes())?))
}

fn client(ours: &Root) -> Result<TlsConnector, Failed> {
    let (certificate, key) = leaf(ours, "spiffe://mesh.local/web")?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    connector([ours.der().clone()].into_iter(), vec![certificate.der().clone()], key.into())
}

/// `VmRSS`, in KiB.
fn resident() -> Result<u64, Failed> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.ok_or("there is no VmRSS")?.trim().trim_end_matches(" kB").parse()?)
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: median {:?}, p99 {:?}, longest {:?}", at(50), at(99), at(100));
}

pub(super) async fn run(times: usize) -> Result<(), Failed> {
    let [ours, other] = [root("ours")?, root("other")?];
    let credentials = Credentials::new(material(&ours, &other, 0)?);
    let listener = Listener::builder().tls(ServerTls::mutual(&credentials));
    let listener = listener.bind(([127, 0, 0, 1], 0).into())?;
    let address = listener.local_addr()?;
    let served =
        service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from(END.to_vec()))));
    tokio::spawn(Server::new().serve(listener, served));

    let client = client(&ours)?;
    let mut held = connect(&client, address).await?;
    let (mut before, mut after, mut anew) = (Vec::new(), Vec::new(), Vec::new());
    for rotation in 1..=WARM + 2 * times {
        let next = material(&ours, &other, rotation)?;
        let begin = Instant::now();
        ask(&mut held).await?;
        before.push(begin.elapsed());
        credentials.set(next);
        let begin = Instant::now();
        ask(&mut held).await?;
        after.push(begin.elapsed());
        let begin = Instant::now();
        let mut stream = connect(&client, address).await?;
        ask(&mut stream).await?;
        anew.push(begin.elapsed());
        let _ = stream.shutdown().await;
        if [WARM, WARM + times, WARM + 2 * times].contains(&rotation) {
            println!("{rotation} rotations: {} KiB resident", resident()?);
        }
    }
    tell("a request before each", &mut before);
    tell("a request after each", &mut after);
    tell("a handshake and a request after each", &mut anew);
    Ok(())
}
