//! Connections that carry something else than HTTP, through a gateway, over real sockets.
mod detected;
mod forwarded;
mod life;
mod moved;
#[cfg(feature = "tls")]
mod secured;
#[cfg(target_os = "linux")]
mod transparent;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::gateway::world::{Gateway, PATIENCE};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("took too long")
}

/// Until it is so.
async fn until(mut so: impl FnMut() -> bool) {
    soon(async {
        while !so() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A server, and how many connections it has taken.
struct Server {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, taken }
    }

    /// Gives back what it is sent, and its end.
    async fn echo() -> Self {
        Self::start(|stream| async move {
            let (mut reader, mut writer) = stream.into_split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        })
        .await
    }

    /// Greets, and answers each line with itself.
    async fn greeting() -> Self {
        Self::start(|mut stream| async move {
            let _ = stream.write_all(b"220 ready\r\n").await;
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        })
        .await
    }

    fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }
}

/// A gateway with a listener `public`, of which `listener` says more, and a TCP route `raw` of which `route` does, to an upstream
/// `servers` at these addresses.
fn file(listener: &str, servers: &[SocketAddr], upstream: &str, route: &str) -> String {
    let endpoints: Vec<_> = servers.iter().map(|at| format!("'{at}'")).collect();
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         listeners: [{{ name: public, address: 127.0.0.1:0, {listener} }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ servers: {{ endpoints: [{}], {upstream} }} }}\n\
         tcpRoutes: [{{ name: raw, backendRefs: [{{ name: servers }}], {route} }}]\n",
        endpoints.join(", ")
    )
}

/// As [`file`], with a listener for TCP.
async fn forwarding(servers: &[SocketAddr], upstream: &str, route: &str) -> Gateway {
    Gateway::of(&file("protocol: tcp", servers, upstream, route)).await
}

async fn connect(gateway: &Gateway) -> TcpStream {
    soon(TcpStream::connect(gateway.at("public"))).await.unwrap()
}

/// What comes until the end, which is to be one.
async fn rest(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await?;
    Ok(text)
}

/// So many bytes.
async fn hear(stream: &mut TcpStream, bytes: usize) -> String {
    let mut heard = vec![0; bytes];
    soon(stream.read_exact(&mut heard)).await.unwrap();
    String::from_utf8(heard).unwrap()
}

/// The value of this line of the metrics.
async fn number(gateway: &Gateway, line: &str) -> Option<u64> {
    let text = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    let start = format!("portcullis_{line} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

/// Waits until this line of the metrics has this value.
async fn counted(gateway: &Gateway, line: &str, value: u64) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let now = number(gateway, line).await;
        if now == Some(value) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{line} is {now:?}, not {value}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

const OPEN: &str = r#"tcp_connections_open{route="raw",upstream="servers"}"#;
const MADE: &str = r#"tcp_connections_total{route="raw",upstream="servers"}"#;
const RECEIVED: &str = r#"tcp_received_bytes_total{route="raw",upstream="servers"}"#;
const SENT: &str = r#"tcp_sent_bytes_total{route="raw",upstream="servers"}"#;

fn ended(how: &str) -> String {
    format!(r#"tcp_connections_ended_total{{route="raw",upstream="servers",how="{how}"}}"#)
}

/// Time goes on by so much, while nothing happens.
async fn pass(time: std::time::Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
