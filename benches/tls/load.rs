//! Clients of the measurements of TLS, on one thread: TLS 1.3 and X25519, each handshake a whole one, with the certificate of a
//! directory as `mesh_ca` makes it. Used by `benches/tls/measure.py`.
//!
//! ```text
//! tls_load handshakes ADDRESS DIRECTORY SECONDS REQUESTS    so many requests on each connection, eight at a time
//! tls_load hold ADDRESS DIRECTORY CONNECTIONS               one request on each, then until the end of standard input
//! tls_load rotations TIMES                                  memory and latency while credentials rotate in this process
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool that may stop")]

mod rotations;

use std::{error::Error, io::Read, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs::{default_provider, kx_group::X25519},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const AT_ONCE: usize = 8;
const REQUEST: &[u8] = b"GET /api/v1/items HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// What every upstream here answers with ends so.
const END: &[u8] = &[b'x'; 128];

type Failed = Box<dyn Error + Send + Sync>;

/// Shows this chain, believes these roots, and knows no session of before.
fn connector(
    roots: impl Iterator<Item = CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsConnector, Failed> {
    let mut provider = default_provider();
    provider.kx_groups = vec![X25519];
    let mut believed = RootCertStore::empty();
    for root in roots {
        believed.add(root)?;
    }
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_root_certificates(believed).with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn of_directory(directory: &Path) -> Result<TlsConnector, Failed> {
    let certificates = |name| -> Result<Vec<_>, Failed> {
        Ok(CertificateDer::pem_file_iter(directory.join(name))?.collect::<Result<_, _>>()?)
    };
    let key = PrivateKeyDer::from_pem_file(directory.join("tls.key"))?;
    connector(certificates("ca.crt")?.into_iter(), certificates("tls.crt")?, key)
}

async fn connect(connector: &TlsConnector, address: SocketAddr) -> Result<TlsStream<TcpStream>, Failed> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(connector.connect(ServerName::try_from("localhost")?, stream).await?)
}

/// One request, to the end of its answer.
async fn ask(stream: &mut TlsStream<TcpStream>) -> Result<(), Failed> {
    stream.write_all(REQUEST).await?;
    let (mut answer, mut length) = ([0; 2_048], 0);
    while !answer[..length].ends_with(END) {
        let read = stream.read(&mut answer[length..]).await?;
        length += read;
        if read == 0 || !b"HTTP/1.1 200".starts_with(&answer[..length.min(12)]) {
            return Err(String::from_utf8_lossy(&answer[..length]).into());
        }
    }
    Ok(())
}

async fn handshakes(
    connector: TlsConnector,
    address: SocketAddr,
    time: Duration,
    requests: usize,
) -> Result<(), Failed> {
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let connector = connector.clone();
        clients.spawn(async move {
            let (mut connections, mut tickets) = (0_usize, 0);
            while begin.elapsed() < time {
                let mut stream = connect(&connector, address).await?;
                for _ in 0..requests {
                    ask(&mut stream).await?;
                }
                tickets += stream.get_ref().1.tls13_tickets_received();
                // Whoever refuses it has answered.
                let _ = stream.shutdown().await;
                connections += 1;
            }
            Ok::<_, Failed>((connections, tickets))
        });
    }
    let (mut connections, mut tickets) = (0, 0);
    while let Some(ended) = clients.join_next().await {
        let of_one = ended??;
        connections += of_one.0;
        tickets += of_one.1;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{connections} connections, {tickets} tickets, {seconds:.3} s");
    Ok(())
}

async fn hold(connector: TlsConnector, address: SocketAddr, connections: usize) -> Result<(), Failed> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut stream = connect(&connector, address).await?;
        ask(&mut stream).await?;
        held.push(stream);
    }
    println!("{} connections", held.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["handshakes", address, directory, seconds, requests] => {
            let connector = of_directory(directory.as_ref())?;
            let time = Duration::from_secs(seconds.parse()?);
            handshakes(connector, address.parse()?, time, requests.parse()?).await
        }
        ["hold", address, directory, connections] => {
            hold(of_directory(directory.as_ref())?, address.parse()?, connections.parse()?).await
        }
        ["rotations", times] => rotations::run(times.parse()?).await,
        _ => Err("see the first lines of benches/tls/load.rs".into()),
    }
}
