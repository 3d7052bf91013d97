//! SIGTERM under load: the program loses no answer to what it has accepted.
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::world::{Client, Directory, PATIENCE, Process, file};

/// Paths that the upstream was asked for.
type Seen = Arc<Mutex<HashSet<String>>>;

/// An upstream that answers in three pieces, the last of which is the path.
async fn upstream(seen: &Seen) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(seen);
    let app = Router::new().fallback(async move |request: Request| {
        let path = request.uri().path().to_owned();
        seen.lock().unwrap().insert(path.clone());
        sleep(Duration::from_millis(u64::from(path.bytes().last().unwrap_or(0)) % 3 * 20)).await;
        let pieces = futures_util::stream::unfold(0, move |piece| {
            let path = path.clone();
            async move {
                sleep(Duration::from_millis(5)).await;
                let text = if piece == 2 { path } else { ".".to_owned() };
                (piece < 3).then(|| (Ok::<_, std::io::Error>(Bytes::from(text)), piece + 1))
            }
        });
        Response::new(Body::from_stream(pieces))
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// What became of the requests of all clients.
#[derive(Default)]
struct Ledger {
    asked: AtomicUsize,
    /// Whether SIGTERM has been sent.
    told: AtomicBool,
    /// Answered before it, and since.
    served: [AtomicUsize; 2],
    /// Answered with `Connection: close`, over HTTP/1.
    closed: AtomicUsize,
    /// Of which not a byte has been heard: they raced with the end of their connection, and the gateway has not looked at
    /// them if their upstream has not either.
    unheard: Mutex<Vec<String>>,
    /// Whose answers broke.
    lost: Mutex<Vec<String>>,
}

impl Ledger {
    fn path(&self, of: &str) -> String {
        format!("/{of}/{}", self.asked.fetch_add(1, Relaxed))
    }

    fn served(&self) {
        self.served[usize::from(self.told.load(Relaxed))].fetch_add(1, Relaxed);
    }

    fn failed(&self, path: &str, heard: bool, why: &str) {
        let list = if heard { &self.lost } else { &self.unheard };
        list.lock().unwrap().push(format!("{path} {why}"));
    }

    /// Asks over HTTP/1 until nobody listens any more; on connections that are kept, or on one for each request.
    async fn http1(&self, at: SocketAddr, keeps: bool) {
        while let Ok(mut stream) = TcpStream::connect(at).await {
            loop {
                let path = self.path(if keeps { "kept" } else { "fresh" });
                let close = if keeps { "" } else { "connection: close\r\n" };
                let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n{close}\r\n");
                let _ = stream.write_all(request.as_bytes()).await;
                let mut heard = Vec::new();
                while !heard.ends_with(b"\r\n0\r\n\r\n") {
                    match timeout(PATIENCE, stream.read_buf(&mut heard)).await.expect("an answer or an end") {
                        Ok(1..) => {}
                        end => {
                            self.failed(&path, !heard.is_empty(), &format!("{end:?}"));
                            break;
                        }
                    }
                }
                let heard = String::from_utf8(heard).unwrap();
                if !heard.ends_with("\r\n0\r\n\r\n") {
                    break;
                }
                assert!(
                    heard.starts_with("HTTP/1.1 200 ") && heard.contains(&format!("\r\n{path}\r\n")),
                    "{heard}"
                );
                self.served();
                if heard.contains("connection: close\r\n") {
                    self.closed.fetch_add(usize::from(keeps), Relaxed);
                    break;
                }
            }
        }
    }

    /// Asks over HTTP/2, four at a time, until nobody listens any more.
    async fn http2(&self, at: SocketAddr) {
        while let Ok(stream) = TcpStream::connect(at).await {
            let Ok((client, connection)) = h2::client::handshake(stream).await else { continue };
            let connection = tokio::spawn(connection);
            while join_all((0..4).map(|_| self.stream(client.clone()))).await.into_iter().all(|asked| asked) {
            }
            drop(client);
            let _ = timeout(PATIENCE, connection).await.expect("a connection that was said goodbye to ends");
        }
    }

    /// `false`: the connection takes no more.
    async fn stream(&self, client: h2::client::SendRequest<Bytes>) -> bool {
        let Ok(mut client) = client.ready().await else { return false };
        let path = self.path("h2");
        let request = http::Request::get(format!("http://shop.example{path}")).body(()).unwrap();
        // Not sent at all.
        let Ok((response, _)) = client.send_request(request, true) else { return false };
        let mut heard = None;
        let exchange = async {
            let mut body = response.await?.into_body();
            let text = heard.insert(Vec::new());
            while let Some(data) = body.data().await {
                let data = data?;
                let _ = body.flow_control().release_capacity(data.len());
                text.extend_from_slice(&data);
            }
            Ok::<_, h2::Error>(())
        };
        match timeout(PATIENCE, exchange).await.expect("an answer or an end") {
            Ok(()) => {
                let text = String::from_utf8(heard.unwrap_or_default()).unwrap();
                assert!(text.ends_with(&path), "{text}");
                self.served();
                true
            }
            Err(error) => {
                self.failed(&path, heard.is_some(), &error.to_string());
                false
            }
        }
    }
}

#[tokio::test]
async fn sigterm_under_load_loses_no_answer() {
    let seen = Seen::default();
    let directory = Directory::new("term-load");
    let mut gateway = Process::of(
        &directory,
        &file(&format!(
            "shutdown: {{ delay: 1s, grace: 30s }}\n\
             upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
            upstream(&seen).await
        )),
    );
    let addresses = gateway.addresses(2).await;
    let (at, admin) = (addresses["public"], addresses["admin"]);
    let ledger = Arc::new(Ledger::default());
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..12 {
        let ledger = Arc::clone(&ledger);
        clients.spawn(async move {
            match client % 3 {
                0 => ledger.http1(at, true).await,
                1 => ledger.http1(at, false).await,
                _ => ledger.http2(at).await,
            }
        });
    }
    while ledger.served[0].load(Relaxed) < 300 {
        sleep(Duration::from_millis(10)).await;
    }
    ledger.told.store(true, Relaxed);
    gateway.signal("TERM");
    let ready = Client::new();
    while ready.get(admin, "/readyz", &[]).await.status == 200 {
        sleep(Duration::from_millis(5)).await;
    }
    while let Some(client) = timeout(PATIENCE, clients.join_next()).await.expect("the listener closes") {
        client.unwrap();
    }
    assert_eq!(gateway.exit().await, Some(0));

    let since = ledger.served[1].load(Relaxed);
    assert!(since > 0, "served during the delay and the drain");
    assert_eq!(*ledger.lost.lock().unwrap(), [""; 0], "of {} answers", ledger.asked.load(Relaxed));
    assert!(ledger.closed.load(Relaxed) > 0, "a connection that is kept is told that it ends");
    // Each connection's last request can race with its end, but only unseen.
    let seen = seen.lock().unwrap();
    let unheard = ledger.unheard.lock().unwrap();
    let taken: Vec<_> = unheard
        .iter()
        .filter(|request| seen.contains(request.split(' ').next().unwrap_or_default()))
        .collect();
    assert!(taken.is_empty(), "taken, and never answered: {taken:?}");
    assert!(unheard.len() <= 12, "{unheard:?}");
}
