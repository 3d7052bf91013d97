//! An endpoint in a process of its own: this program once more, which runs one test that serves until it is told to end.

use std::{
    io::Write as _,
    net::SocketAddr,
    pin::pin,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use portcullis::body::{Body, BoxError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "faults::endpoint::an_endpoint_serves_where_it_is_told";
/// The address at which it is to serve.
const TOLD: &str = "PORTCULLIS_FAULTS_ENDPOINT";
/// How lines begin that are for who has started it.
const MARK: &str = "@@";

/// Such a process. It ends with this value.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Endpoint {
    pub(super) async fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into()).await
    }

    pub(super) async fn at(address: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env(TOLD, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (orders, lines) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut endpoint = Self { address, child, orders, lines: BufReader::new(lines).lines() };
        endpoint.address = endpoint.word().await.parse().unwrap();
        endpoint
    }

    /// The next line that is for us.
    async fn word(&mut self) -> String {
        let next = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it has ended");
                if let Some((_, word)) = line.split_once(MARK) {
                    return word.to_owned();
                }
            }
        };
        timeout(PATIENCE, next).await.expect("no word in time")
    }

    async fn order(&mut self, order: &str) -> String {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        self.word().await
    }

    /// From now on it does this: see [`answer`].
    pub(super) async fn does(&mut self, what: &str) {
        assert_eq!(self.order(what).await, "so be it");
    }

    /// How many calls it has seen.
    pub(super) async fn calls(&mut self) -> u64 {
        self.order("calls").await.parse().unwrap()
    }

    /// Takes no more, ends what it has, and is gone. It closes connections of HTTP/1.1 on which there is no call. Gives how many
    /// calls it has seen.
    pub(super) async fn drain(self) -> u64 {
        self.end("drain").await
    }

    /// The same, but it says for a second that it will close connections before it does, as good servers do.
    pub(super) async fn drain_gently(self) -> u64 {
        self.end("drain gently").await
    }

    async fn end(mut self, order: &str) -> u64 {
        let calls = self.order(order).await.parse().unwrap();
        assert!(timeout(PATIENCE, self.child.wait()).await.expect("no end in time").unwrap().success());
        calls
    }

    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGSTOP, or SIGCONT.
    pub(super) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().await.unwrap().success());
    }
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Phase {
    Serves,
    /// It takes no more connections, and says that it will close those that are there.
    SaysSo,
    Ends,
}

/// What is told to a process, and what it has seen.
struct Orders {
    does: Mutex<String>,
    calls: AtomicU64,
}

#[test]
fn an_endpoint_serves_where_it_is_told() {
    let own = format!("{}::an_endpoint_serves_where_it_is_told", module_path!().split_once("::").unwrap().1);
    assert_eq!(own, NAME, "by this name it is started");
    let Ok(address) = std::env::var(TOLD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(address.parse().unwrap()));
    std::process::exit(0);
}

fn say(word: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{word}").and_then(|()| out.flush()).unwrap();
}

async fn run(address: SocketAddr) {
    let orders = Arc::new(Orders { does: Mutex::new("serves".to_owned()), calls: AtomicU64::new(0) });
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(1024).unwrap();
    say(listener.local_addr().unwrap());
    let (phase, phases) = watch::channel(Phase::Serves);
    let mut accepting = tokio::spawn(accept(listener, Arc::clone(&orders), phases.clone()));
    let mut told = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(order)) = told.next_line().await {
        match &*order {
            "calls" => say(orders.calls.load(Ordering::Relaxed)),
            "drain" | "drain gently" => {
                drop(phases);
                phase.send_replace(Phase::SaysSo);
                (&mut accepting).await.unwrap();
                if order == "drain gently" {
                    sleep(Duration::from_secs(1)).await;
                }
                phase.send_replace(Phase::Ends);
                phase.closed().await; // no connection is left
                say(orders.calls.load(Ordering::Relaxed));
                return;
            }
            does => {
                *orders.does.lock().unwrap() = does.to_owned();
                say("so be it");
            }
        }
    }
}

async fn accept(listener: TcpListener, orders: Arc<Orders>, mut phases: watch::Receiver<Phase>) {
    let told = phases.clone();
    let take = |stream: TcpStream| {
        let does = orders.does.lock().unwrap().clone();
        // However it closes, it is reset.
        if matches!(&*does, "refuses" | "resets") {
            stream.set_zero_linger().unwrap();
        }
        // At once, as where nobody listens.
        if does != "refuses" {
            tokio::spawn(connection(stream, Arc::clone(&orders), told.clone()));
        }
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => take(accepted.unwrap().0),
            _ = phases.wait_for(|phase| *phase > Phase::Serves) => break,
        }
    }
    // Who waits already is connected, and may have sent a call: closing would reset it.
    let listener = listener.into_std().unwrap();
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true).unwrap();
        take(TcpStream::from_std(stream).unwrap());
    }
}

async fn connection(stream: TcpStream, orders: Arc<Orders>, mut phases: watch::Receiver<Phase>) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = AtomicU64::new(0);
    let told = phases.clone();
    let service = service_fn(move |request| {
        serve(request, Arc::clone(&orders), served.fetch_add(1, Ordering::Relaxed), told.clone())
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = served.as_mut() => return,
        _ = phases.wait_for(|phase| *phase == Phase::Ends) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

/// Answers, and says that the connection will close if it will.
async fn serve(
    request: Request<Incoming>,
    orders: Arc<Orders>,
    before: u64,
    phases: watch::Receiver<Phase>,
) -> Result<Response<Body>, BoxError> {
    let is_http1 = request.version() < http::Version::HTTP_2;
    let mut answer = answer(request, orders, before).await?;
    if is_http1 && *phases.borrow() > Phase::Serves {
        answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// What a call is answered: `serves`, `status N`, `unavailable` in trailers, `breaks` in the middle of its body, `resets` there,
/// `drops` the connection, and `forgets` all but the first call on it, `slow` for ever, `flaps` between serving and failing,
/// `refuses` connections. `before`: so many calls came on the same connection.
async fn answer(
    request: Request<Incoming>,
    orders: Arc<Orders>,
    before: u64,
) -> Result<Response<Body>, BoxError> {
    let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
    request.into_body().collect().await?;
    let call = orders.calls.fetch_add(1, Ordering::Relaxed);
    let does = orders.does.lock().unwrap().clone();
    let fails = does == "flaps" && call.is_multiple_of(2);
    let (does, number) = does.split_once(' ').unwrap_or((&does, "503"));
    match does {
        "drops" | "refuses" => return Err("nothing is answered".into()),
        "forgets" if before > 0 => return Err("nothing more is answered".into()),
        "slow" => sleep(PATIENCE * 10).await,
        "breaks" | "resets" => {
            return Ok(whole(is_grpc, [Ok(Frame::data(part(is_grpc))), Err("it breaks".into())]));
        }
        _ => {}
    }
    let fails = fails || matches!(does, "status" | "unavailable");
    if is_grpc {
        let status = match (fails, does) {
            (false, _) => 0,
            (true, "status") => 13, // INTERNAL, gRPC's 500
            (true, _) => 14,
        };
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status.into())]);
        let message = (!fails).then(|| Ok(Frame::data(part(true))));
        return Ok(whole(true, message.into_iter().chain([Ok(Frame::trailers(trailers))])));
    }
    let status: u16 = if fails { number.parse()? } else { 200 };
    Ok(Response::builder().status(status).body(Body::from("served"))?)
}

/// `HealthCheckResponse { status: SERVING }`, or text.
fn part(is_grpc: bool) -> Bytes {
    Bytes::from_static(if is_grpc { b"\0\0\0\0\x02\x08\x01" } else { b"serv" })
}

/// Of a gRPC answer all frames are sent together; the parts of another one after the other.
fn whole(
    is_grpc: bool,
    frames: impl IntoIterator<Item = Result<Frame<Bytes>, BoxError>, IntoIter: Send + 'static>,
) -> Response<Body> {
    let frames = stream::unfold((frames.into_iter(), false), move |(mut frames, later)| async move {
        let frame = frames.next()?;
        if later && frame.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        Some((frame, (frames, true)))
    });
    let response = Response::builder();
    let response = match is_grpc {
        true => response.header("content-type", "application/grpc"),
        false => response.header("content-length", "6"),
    };
    response.body(Body::new(StreamBody::new(Box::pin(frames)))).unwrap()
}
