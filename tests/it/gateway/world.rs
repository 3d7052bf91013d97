//! What stands around the gateway: upstreams, clients, files, and the program itself.
use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client as Legacy, rt::TokioExecutor};
use portcullis::config::{Config, Configured};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

/// Nothing here is measured: this is how long a machine under load may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An upstream that tells what it was asked: `name path`, then each header on a line. `/slow/N` takes N milliseconds,
/// `/trickle/N` sends N lines, one every 50 ms.
pub(crate) async fn upstream(name: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/trickle/{lines}", any(trickle))
        .route("/socket", any(super::protocols::socket))
        .fallback(move |request: Request| tell(name, request));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

pub(crate) async fn tell(name: &str, request: Request) -> String {
    let path = request.uri().path().to_owned();
    if let Some(millis) = path.rsplit_once("/slow/").and_then(|(_, millis)| millis.parse().ok()) {
        sleep(Duration::from_millis(millis)).await;
    }
    let headers =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    format!("{name} {path}\n{}", headers.collect::<String>())
}

async fn trickle(axum::extract::Path(lines): axum::extract::Path<u32>) -> axum::response::Response {
    let lines = futures_util::stream::unfold(0, move |line| async move {
        (line < lines).then_some(())?;
        sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from(format!("{line}\n"))), line + 1))
    });
    axum::response::Response::new(axum::body::Body::from_stream(lines))
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

#[derive(Clone)]
pub(crate) struct Client(Legacy<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>);

impl Client {
    pub(crate) fn new() -> Self {
        Self(Legacy::builder(TokioExecutor::new()).build_http())
    }

    pub(crate) async fn get(&self, at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", at, path, headers).await.unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        at: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let mut request = http::Request::builder().method(method).uri(format!("http://{at}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).unwrap();
        let sent = async {
            let response = self.0.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, text })
        };
        timeout(PATIENCE, sent).await.map_err(|_| "no answer".to_owned())?
    }
}

/// A directory that goes with the test, and is no other's of this name.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("portcullis-gateway-{name}-{process}-{number}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) configured: Configured,
    pub(crate) client: Client,
}

impl Gateway {
    pub(crate) async fn start(config: Config) -> Self {
        let configured = config.start().await.unwrap_or_else(|error| panic!("{error}"));
        Self { configured, client: Client::new() }
    }

    pub(crate) async fn of(text: &str) -> Self {
        Self::start(Config::text("f", text)).await
    }

    pub(crate) fn at(&self, name: &str) -> SocketAddr {
        self.configured.gateway().address(name).unwrap()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.client.get(self.at("public"), path, headers).await
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        let status = self.client.get(self.at("admin"), "/status", &[]).await;
        serde_json::from_str(&status.text).unwrap()
    }

    /// Waits until a load that is not the one of before was accepted or refused.
    pub(crate) async fn until(&self, mut is: impl FnMut(&serde_json::Value) -> bool) -> serde_json::Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < until, "the status did not come, but {status:#}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A file with a listener `public`, an admin address, and the rest.
pub(crate) fn file(rest: &str) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         listeners: [{{ name: public, address: 127.0.0.1:0 }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n{rest}"
    )
}

/// The files in a guide.
pub(crate) fn yaml_of(guide: &str) -> Vec<&str> {
    let blocks = guide.split("```yaml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// The program, built once.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "gateway", "--features", "full"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the gateway does not build");
        let tests = std::env::current_exe().unwrap();
        tests.parent().and_then(Path::parent).unwrap().join("examples/gateway")
    })
}

/// The program, running.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With this file, as `gateway.yaml` there.
    pub(crate) fn of(directory: &Directory, text: &str) -> Self {
        directory.write("gateway.yaml", text);
        Self::start(&["--config", directory.path("gateway.yaml").to_str().unwrap()])
    }

    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Self::spawn(&mut command)
    }

    /// Its standard output is a pipe.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(crate) async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("no line in time").unwrap().expect("no line")
    }

    /// `name on address`, for so many names.
    pub(crate) async fn addresses(&mut self, count: usize) -> HashMap<String, SocketAddr> {
        let mut addresses = HashMap::new();
        for _ in 0..count {
            let line = self.line().await;
            let (name, address) = line.split_once(" on ").unwrap();
            addresses.insert(name.to_owned(), address.parse().unwrap());
        }
        addresses
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success()
        );
    }

    pub(crate) async fn exit(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("it did not end").unwrap().code()
    }
}
