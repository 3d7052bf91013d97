//! Peers on both sides of the proxy.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::TRAILER};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use portcullis::{
    body::Body,
    reject::{Rejection, RescueLayer},
    upstream::{HopByHop, Proxy, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tower::{Layer, ServiceExt, service_fn};

pub(super) use crate::support::serve::serve;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for what must come.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Waits until something is so.
pub(super) async fn until(mut so: impl FnMut() -> bool) {
    soon(async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A gateway with nothing but the proxy.
pub(super) async fn edge(proxy: Proxy) -> SocketAddr {
    serve(RescueLayer::new().layer(HopByHop.layer().layer(proxy))).await
}

/// A gateway to these endpoints.
pub(super) async fn edge_to(endpoints: impl IntoIterator<Item = SocketAddr>) -> (SocketAddr, Upstream) {
    let upstream = upstream(endpoints);
    (edge(Proxy::new(upstream.clone())).await, upstream)
}

pub(super) fn upstream(endpoints: impl IntoIterator<Item = SocketAddr>) -> Upstream {
    let endpoints = endpoints.into_iter().map(|endpoint| endpoint.to_string());
    Upstream::builder("test").endpoints(endpoints).build().unwrap()
}

/// The proxy called without a server before it.
pub(super) async fn call(proxy: &Proxy, request: Request<Full<Bytes>>) -> Result<Response<Body>, Rejection> {
    soon(proxy.clone().oneshot(request)).await
}

pub(super) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "shop.example").body(Full::default()).unwrap()
}

pub(super) fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(path).header("host", "shop.example").body(Full::from(body)).unwrap()
}

pub(super) async fn text(
    response: Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug>>,
) -> String {
    let body = soon(response.into_body().collect()).await.expect("a whole body").to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// An upstream that gives back each body with its trailers, and tells in headers what it got.
pub(super) async fn echo() -> SocketAddr {
    serve(service_fn(|request: Request<Incoming>| async move {
        let mut response = Response::builder()
            .header("x-version", format!("{:?}", request.version()))
            .header("x-method", request.method().as_str())
            .header("x-target", request.uri().to_string());
        for (name, value) in request.headers() {
            response = response.header(format!("got-{name}"), value);
        }
        if let Some(trailer) = request.headers().get(TRAILER) {
            response = response.header(TRAILER, trailer);
        }
        response.body(request.into_body())
    }))
    .await
}

/// All that was read from one connection.
type Heard = Arc<Mutex<Vec<u8>>>;

/// One connection of a plain socket, with all that was read from it.
pub(super) struct Line {
    stream: TcpStream,
    heard: Heard,
    /// How much of it has been looked at.
    seen: usize,
}

impl Line {
    pub(super) async fn to(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.unwrap())
    }

    pub(super) fn of(stream: TcpStream) -> Self {
        Self { stream, heard: Arc::default(), seen: 0 }
    }

    pub(super) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// `false`: the peer has closed.
    async fn listen(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match soon(self.stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.heard.lock().unwrap().extend_from_slice(&buffer[..n]);
                true
            }
        }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()[self.seen..]).into_owned()
    }

    /// All up to and with `end`; `None` if the peer closes before.
    pub(super) async fn hear(&mut self, end: &str) -> Option<String> {
        loop {
            let heard = self.heard();
            if let Some(at) = heard.find(end) {
                self.seen += at + end.len();
                return Some(heard[..at + end.len()].to_owned());
            }
            if !self.listen().await {
                return None;
            }
        }
    }

    /// The next head.
    pub(super) async fn head(&mut self) -> Option<String> {
        self.hear("\r\n\r\n").await.map(|head| head.to_ascii_lowercase())
    }

    /// All that comes until the peer closes.
    pub(super) async fn rest(&mut self) -> String {
        while self.listen().await {}
        let heard = self.heard();
        self.seen += heard.len();
        heard
    }

    /// Closes with a reset.
    pub(super) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    pub(super) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

/// An upstream that does on each connection what a script says, and remembers all that it heard.
pub(super) struct Raw {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Raw {
    /// `script` gets the connection's number, from 0 on.
    pub(super) async fn start<F: Future<Output = ()> + Send>(
        script: impl Fn(usize, Line) -> F + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let raw = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            heard: Arc::default(),
        };
        let (connections, all) = (raw.connections.clone(), raw.heard.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let heard = Heard::default();
                all.lock().unwrap().push(heard.clone());
                let script = script.clone();
                tokio::spawn(async move { script(number, Line { stream, heard, seen: 0 }).await });
            }
        });
        raw
    }

    /// One that answers each request with these bytes.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |_, mut line| async move {
            while line.head().await.is_some() {
                line.say(answer).await;
            }
        })
        .await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// All that came, one string for each connection.
    pub(super) fn heard(&self) -> Vec<String> {
        let all = self.heard.lock().unwrap();
        all.iter().map(|heard| String::from_utf8_lossy(&heard.lock().unwrap()).into_owned()).collect()
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A listener whose queue is full lets nobody in and refuses nobody.
pub(super) async fn full() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let listener = short();
    let address = listener.local_addr().unwrap();
    let queued = fill(address).await;
    (listener, address, queued)
}

/// A listener whose queue is as short as can be.
pub(super) fn short() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1).unwrap()
}

/// Connects until nobody is let in any more.
pub(super) async fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    queued
}
