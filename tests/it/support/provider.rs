//! An OpenID provider that does what providers do: it rotates its keys, is slow, lies, floods, dies and comes back.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaPublicKeyComponents,
    },
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer},
};

/// Where the keys are.
pub(crate) const KEYS: &str = "/keys";
/// Where the metadata is, for an issuer without a path (OpenID Connect Discovery 1.0 section 4).
pub(crate) const OPENID: &str = "/.well-known/openid-configuration";
/// Where the metadata is, for an issuer without a path (RFC 8414 section 3).
pub(crate) const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// A provider on a port of this machine. It is gone when this is dropped.
pub(crate) struct Provider {
    address: SocketAddr,
    tls: Option<Tls>,
    state: Arc<Mutex<Told>>,
    serving: AbortHandle,
}

struct Tls {
    acceptor: TlsAcceptor,
    roots: String,
}

/// What it answers to requests for metadata and for keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What is asked for.
    Honest,
    /// The same, after a while.
    Slow(Duration),
    /// The beginning of it, and then nothing more.
    Stuck,
    /// This status.
    Status(u16),
    /// Something else.
    Content(String),
    /// So many bytes of it.
    Huge(usize),
    /// A redirect.
    Redirect(String),
    /// Another issuer than its own, in the metadata.
    Impostor,
    /// Every second time an error.
    Flapping,
}

/// The state behind the routes.
struct Told {
    issuer: String,
    /// Where metadata is served.
    metadata: Vec<String>,
    keys_at: String,
    manners: BTreeMap<String, Manner>,
    headers: Vec<(String, String)>,
    published: Vec<Signer>,
    /// What is published beside the keys that sign.
    strange: Vec<Value>,
    signs: usize,
    made: usize,
    hits: BTreeMap<String, usize>,
    connections: usize,
    version: Option<http::Version>,
}

/// The kinds of key that it signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rs256,
    Es256,
    EdDsa,
}

/// A key that signs.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) id: String,
    secret: Arc<Secret>,
}

enum Secret {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Provider {
    /// Over plain HTTP, with one ES256 key.
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// Over TLS, under the name `localhost`, with a certificate of [`roots`](Self::roots).
    pub(crate) async fn start_tls() -> Self {
        Self::start_tls_for("localhost").await
    }

    /// The same with a certificate for another name.
    pub(crate) async fn start_tls_for(name: &str) -> Self {
        Self::serve(Some(tls(name))).await
    }

    async fn serve(tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = match &tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let state = Arc::new(Mutex::new(Told {
            keys_at: format!("{issuer}{KEYS}"),
            issuer,
            metadata: vec![OPENID.into(), OAUTH.into()],
            manners: BTreeMap::new(),
            headers: Vec::new(),
            published: Vec::new(),
            strange: Vec::new(),
            signs: 0,
            made: 0,
            hits: BTreeMap::new(),
            connections: 0,
            version: None,
        }));
        let serving = accept(listener, tls.as_ref().map(|tls| tls.acceptor.clone()), &state);
        let provider = Self { address, tls, state, serving };
        provider.rotate(Kind::Es256);
        provider
    }

    /// Its name in tokens.
    pub(crate) fn issuer(&self) -> String {
        self.told().issuer.clone()
    }

    /// Calls itself by this path, too.
    pub(crate) fn with_path(self, path: &str) -> Self {
        let root = self.issuer();
        self.told().issuer = format!("{root}{path}");
        self
    }

    /// Serves metadata at this path only.
    pub(crate) fn metadata_at(&self, path: &str) {
        self.told().metadata = vec![path.into()];
    }

    /// Says that its keys are there.
    pub(crate) fn keys_at(&self, url: &str) {
        self.told().keys_at = url.into();
    }

    /// Where its keys are.
    pub(crate) fn keys_url(&self) -> String {
        self.told().keys_at.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of its certificate, in PEM.
    pub(crate) fn roots(&self) -> &str {
        &self.tls.as_ref().unwrap().roots
    }

    /// Makes a key, publishes it beside the others and signs with it from now on.
    pub(crate) fn rotate(&self, kind: Kind) -> Signer {
        let signer = self.publish(kind);
        self.sign_with(&signer.id);
        signer
    }

    /// Makes a key and publishes it, but does not sign with it yet.
    pub(crate) fn publish(&self, kind: Kind) -> Signer {
        let mut told = self.told();
        told.made += 1;
        let signer = Signer::new(&format!("key-{}", told.made), kind);
        told.published.push(signer.clone());
        signer
    }

    /// Publishes something that it cannot sign with.
    pub(crate) fn publish_strange(&self, key: Value) {
        self.told().strange.push(key);
    }

    /// Signs with this published key from now on.
    pub(crate) fn sign_with(&self, id: &str) {
        let mut told = self.told();
        told.signs = told.published.iter().position(|signer| signer.id == id).unwrap();
    }

    /// Takes a key out of the set.
    pub(crate) fn withdraw(&self, id: &str) {
        let mut told = self.told();
        let signs = told.published[told.signs].id.clone();
        assert_ne!(signs, id, "it signs with it");
        told.published.retain(|signer| signer.id != id);
        told.signs = told.published.iter().position(|signer| signer.id == signs).unwrap();
    }

    /// The key that it signs with.
    pub(crate) fn signer(&self) -> Signer {
        let told = self.told();
        told.published[told.signs].clone()
    }

    /// A token for `subject`, for the audience `shop`, valid for ten minutes.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.signer().token(&claims(&self.issuer(), subject))
    }

    /// Behaves like this at every path.
    pub(crate) fn behave(&self, manner: Manner) {
        self.told().manners = BTreeMap::from([(String::new(), manner)]);
    }

    /// Behaves like this at one path.
    pub(crate) fn behave_at(&self, path: &str, manner: Manner) {
        self.told().manners.insert(path.into(), manner);
    }

    /// Sends this field with each answer.
    pub(crate) fn header(&self, name: &str, value: &str) {
        self.told().headers.push((name.into(), value.into()));
    }

    /// How often it was asked at this path.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.told().hits.get(path).copied().unwrap_or(0)
    }

    /// How many connections it has had.
    pub(crate) fn connections(&self) -> usize {
        self.told().connections
    }

    /// The version of HTTP of the last request.
    pub(crate) fn version(&self) -> Option<http::Version> {
        self.told().version
    }

    /// Closes its port and every connection.
    pub(crate) async fn kill(&self) {
        self.serving.abort();
        while !self.serving.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Comes back on the same port.
    pub(crate) async fn revive(&mut self) {
        self.kill().await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor.clone());
        self.serving = accept(listener, acceptor, &self.state);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: &Arc<Mutex<Told>>) -> AbortHandle {
    let app = Router::new().fallback(answer).with_state(Arc::clone(state));
    let state = Arc::clone(state);
    let serving = async move {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            state.lock().unwrap().connections += 1;
            let (app, tls) = (app.clone(), tls.clone());
            connections.spawn(async move {
                match tls {
                    None => speak(stream, app).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            speak(stream, app).await;
                        }
                    }
                }
            });
        }
    };
    tokio::spawn(serving).abort_handle()
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, app: Router) {
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).await;
}

async fn answer(State(state): State<Arc<Mutex<Told>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    state.lock().unwrap().version = Some(request.version());
    let (manner, content, headers) = state.lock().unwrap().asked(&path);
    let builder =
        headers.iter().fold(Response::builder(), |builder, (name, value)| builder.header(name, value));
    let Some(content) = content else { return builder.status(404).body(Body::empty()).unwrap() };
    let text = content.to_string();
    match manner {
        Manner::Honest | Manner::Impostor | Manner::Flapping => builder.body(Body::from(text)).unwrap(),
        Manner::Slow(time) => {
            tokio::time::sleep(time).await;
            builder.body(Body::from(text)).unwrap()
        }
        Manner::Stuck => {
            let begin = futures_util::stream::iter([Ok::<_, io::Error>(text[..text.len() / 2].to_owned())]);
            let never = futures_util::stream::pending();
            builder.body(Body::from_stream(futures_util::StreamExt::chain(begin, never))).unwrap()
        }
        Manner::Status(status) => builder.status(status).body(Body::from("no")).unwrap(),
        Manner::Content(other) => builder.body(Body::from(other)).unwrap(),
        Manner::Huge(bytes) => {
            let block = "x".repeat(bytes.min(65_536));
            let blocks = (0..bytes.div_ceil(block.len())).map(move |_| Ok::<_, io::Error>(block.clone()));
            builder.body(Body::from_stream(futures_util::stream::iter(blocks))).unwrap()
        }
        Manner::Redirect(to) => builder.status(302).header("location", to).body(Body::empty()).unwrap(),
    }
}

impl Told {
    /// What is to be answered there; `None`: nothing is there.
    fn asked(&mut self, path: &str) -> (Manner, Option<Value>, Vec<(String, String)>) {
        let hits = self.hits.entry(path.into()).or_default();
        *hits += 1;
        let odd = *hits % 2 == 1;
        let manner = self.manners.get(path).or(self.manners.get("")).cloned().unwrap_or(Manner::Honest);
        let manner = match manner {
            Manner::Flapping if odd => Manner::Status(500),
            manner => manner,
        };
        let content = if path == KEYS {
            let keys = self.published.iter().map(Signer::jwk).chain(self.strange.iter().cloned());
            Some(json!({ "keys": keys.collect::<Vec<_>>() }))
        } else if self.metadata.iter().any(|known| known == path) {
            let issuer = if manner == Manner::Impostor { "https://evil.example" } else { &self.issuer };
            Some(json!({
                "issuer": issuer,
                "jwks_uri": self.keys_at,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "response_types_supported": ["code"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
            }))
        } else {
            // A redirect may lead anywhere.
            matches!(manner, Manner::Redirect(_)).then(|| json!({}))
        };
        (manner, content, self.headers.clone())
    }
}

impl Signer {
    pub(crate) fn new(id: &str, kind: Kind) -> Self {
        let secret = match kind {
            Kind::Rs256 => Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            Kind::Es256 => Secret::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Kind::EdDsa => Secret::Ed(Ed25519KeyPair::generate().unwrap()),
        };
        Self { id: id.to_owned(), secret: Arc::new(secret) }
    }

    /// The public key.
    pub(crate) fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &*self.secret {
            Secret::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64(x), "y": b64(y) })
            }
            Secret::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref()) }),
            Secret::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "alg": "RS256", "n": b64(&public.n), "e": b64(&public.e) })
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_as(&self.id, claims)
    }

    /// A token that gives this name for its key.
    pub(crate) fn token_as(&self, id: &str, claims: &Value) -> String {
        let algorithm = match &*self.secret {
            Secret::Ec(_) => "ES256",
            Secret::Ed(_) => "EdDSA",
            Secret::Rsa(_) => "RS256",
        };
        let header = json!({ "alg": algorithm, "kid": id, "typ": "JWT" });
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.secret {
            Secret::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Secret::Ed(key) => key.sign(message).as_ref().to_vec(),
            Secret::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// Claims for ten minutes, for the audience `shop`.
pub(crate) fn claims(issuer: &str, subject: &str) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": issuer, "sub": subject, "aud": "shop", "iat": now, "exp": now + 600 })
}

/// One authority for all, so that tests need not wait for its key.
static AUTHORITY: LazyLock<rcgen::CertifiedIssuer<'static, rcgen::KeyPair>> = LazyLock::new(|| {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Test Root");
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
});

fn tls(name: &str) -> Tls {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &AUTHORITY).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Tls { acceptor: TlsAcceptor::from(Arc::new(config)), roots: AUTHORITY.pem() }
}
