//! An agent of SPIFFE, served by tonic with messages of prost: it tells who its workloads are. It can lie, refuse, die and
//! come back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream;
use prost::Message;
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, SanType};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::AbortHandle,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{
    Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::Server,
};

use super::{
    certificates::{Authority, uri},
    grpc::Bare,
};

/// `X509SVIDResponse` of SPIFFE's `workload.proto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Svids {
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) crl: Vec<Vec<u8>>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub(crate) federated_bundles: BTreeMap<String, Vec<u8>>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Svid {
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) hint: String,
}

/// As an agent tells it.
pub(crate) fn svid(authority: &Authority, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Svid {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![uri(id), SanType::DnsName("localhost".try_into().unwrap())];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Svid {
        spiffe_id: id.to_owned(),
        x509_svid: params.signed_by(&key, &authority.0).unwrap().der().to_vec(),
        x509_svid_key: key.serialize_der(),
        bundle: authority.0.der().to_vec(),
        hint: String::new(),
    }
}

pub(crate) fn only(svid: Svid) -> Svids {
    Svids { svids: vec![svid], ..Svids::default() }
}

/// `X509BundlesResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bundles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) crl: Vec<Vec<u8>>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    pub(crate) bundles: BTreeMap<String, Vec<u8>>,
}

/// What is answered to each question, in bytes, so that it can be something else than a message.
#[derive(Clone)]
struct Told {
    svids: Result<Vec<u8>, Status>,
    bundles: Result<Vec<u8>, Status>,
}

/// On a socket of its own. It is gone when this is dropped.
pub(crate) struct Agent {
    path: PathBuf,
    told: watch::Sender<Told>,
    serving: AbortHandle,
}

impl Agent {
    /// It has no identity for anybody yet.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("portcullis-agent-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let (told, serving) = serve(&path);
        Self { path, told, serving }
    }

    /// The path of its socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The same agent on a port.
    pub(crate) async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(Workloads(self.told.subscribe()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("tcp://{address}")
    }

    pub(crate) fn tell(&self, svids: &Svids) {
        self.tell_bytes(svids.encode_to_vec());
    }

    pub(crate) fn tell_bytes(&self, svids: Vec<u8>) {
        self.told.send_modify(|told| told.svids = Ok(svids));
    }

    pub(crate) fn tell_bundles(&self, bundles: &Bundles) {
        self.told.send_modify(|told| told.bundles = Ok(bundles.encode_to_vec()));
    }

    pub(crate) fn refuse(&self, status: Status) {
        self.told.send_modify(|told| told.svids = Err(status));
    }

    /// Who listens hears its end.
    pub(crate) fn kill(&mut self) {
        self.serving.abort();
        self.told = watch::channel(nothing()).0;
        std::fs::remove_file(&self.path).unwrap();
    }

    /// Comes back on the same socket, having forgotten all.
    pub(crate) fn revive(&mut self) {
        (self.told, self.serving) = serve(&self.path);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn nothing() -> Told {
    let nothing = || Err(Status::permission_denied("no identity issued"));
    Told { svids: nothing(), bundles: nothing() }
}

fn serve(path: &Path) -> (watch::Sender<Told>, AbortHandle) {
    let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
    let (told, hear) = watch::channel(nothing());
    let server = Server::builder().add_service(Workloads(hear)).serve_with_incoming(incoming);
    (told, tokio::spawn(server).abort_handle())
}

#[derive(Clone)]
struct Workloads(watch::Receiver<Told>);

impl NamedService for Workloads {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl tower::Service<http::Request<Body>> for Workloads {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.headers().get("workload.spiffe.io").is_none_or(|value| value != "true") {
            let refusal = Status::invalid_argument("security header missing from request").into_http();
            return Box::pin(async { Ok(refusal) });
        }
        let of = match request.uri().path() {
            "/SpiffeWorkloadAPI/FetchX509SVID" => |told: &Told| told.svids.clone(),
            "/SpiffeWorkloadAPI/FetchX509Bundles" => |told: &Told| told.bundles.clone(),
            other => panic!("{other}"),
        };
        let told = self.0.clone();
        let answer = tower::service_fn(move |question: tonic::Request<Bytes>| {
            assert!(question.get_ref().is_empty(), "neither question says anything");
            let mut told = told.clone();
            told.mark_changed();
            let answers = stream::unfold(told, move |mut told| async move {
                told.changed().await.ok()?;
                let answer = of(&told.borrow_and_update()).map(Bytes::from);
                Some((answer, told))
            });
            async { Ok::<_, Status>(Response::new(answers)) }
        });
        Box::pin(async { Ok(Grpc::new(Bare).server_streaming(answer, request).await) })
    }
}
