//! An authorization server: it gives tokens, answers about them, and asks clients who they are. It can be slow, lie,
//! flood, die and come back.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

pub(crate) const INTROSPECT: &str = "/introspect";
pub(crate) const TOKEN: &str = "/token";
/// The client and its secret, which need encoding.
pub(crate) const ID: &str = "gate way";
pub(crate) const SECRET: &str = "s3cret:%+&=";

/// A server on a port of this machine. It is gone when this is dropped.
pub(crate) struct Authority {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Told>>,
    serving: AbortHandle,
    /// The client's private key, in PEM.
    pub(crate) key: String,
}

/// What it does instead of answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    Slow(Duration),
    /// The beginning of the answer, and then nothing more.
    Stuck,
    Status(u16),
    /// This, whatever is asked.
    Lies(String),
    Huge(usize),
    /// To itself: a client that followed would show its secret again.
    Redirects,
    /// Every second time an error.
    Flaps,
}

/// How a client is to prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    Basic,
    Post,
    Key,
}

struct Told {
    manner: Manner,
    proof: Proof,
    key: Vec<u8>,
    issuer: String,
    /// What is known of each token.
    tokens: BTreeMap<String, Value>,
    given: usize,
    lives: u64,
    hits: BTreeMap<String, usize>,
    refused: usize,
    seen: HashSet<String>,
    last: BTreeMap<String, String>,
}

impl Authority {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let told = Arc::new(Mutex::new(Told {
            manner: Manner::Honest,
            proof: Proof::Basic,
            key: key.public_key().as_ref().to_vec(),
            issuer: format!("http://{address}"),
            tokens: BTreeMap::new(),
            given: 0,
            lives: 3_600,
            hits: BTreeMap::new(),
            refused: 0,
            seen: HashSet::new(),
            last: BTreeMap::new(),
        }));
        let der = STANDARD.encode(key.to_pkcs8v1().unwrap().as_ref());
        let key = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
        let serving = serve(listener, &told);
        Self { address, told, serving, key }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn issuer(&self) -> String {
        self.told().issuer.clone()
    }

    /// Takes clients that prove themselves in this way only.
    pub(crate) fn wants(&self, proof: Proof) {
        self.told().proof = proof;
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.told().manner = manner;
    }

    /// How long the tokens live that it gives.
    pub(crate) fn lives(&self, seconds: u64) {
        self.told().lives = seconds;
    }

    /// Knows this token, of this subject, for the audience `shop`.
    pub(crate) fn issue(&self, token: &str, subject: &str) {
        let mut told = self.told();
        let claims = json!({
            "active": true, "iss": told.issuer, "sub": subject, "aud": "shop", "scope": "orders.read",
            "exp": now() + 3_600, "client_id": "web",
        });
        told.tokens.insert(token.into(), claims);
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.told().tokens.remove(token);
    }

    /// Forgets every token: whoever shows one is told that it is not active.
    pub(crate) fn revoke_all(&self) {
        self.told().tokens.clear();
    }

    /// Whether it knows the token.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.told().tokens.contains_key(token)
    }

    /// How often it was asked at this path.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.told().hits.get(path).copied().unwrap_or(0)
    }

    /// How many callers were not taken for clients.
    pub(crate) fn refused(&self) -> usize {
        self.told().refused
    }

    /// The last form that it was sent.
    pub(crate) fn last(&self) -> BTreeMap<String, String> {
        self.told().last.clone()
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
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        self.serving = serve(listener, &self.told);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn serve(listener: tokio::net::TcpListener, told: &Arc<Mutex<Told>>) -> AbortHandle {
    let app = Router::new().fallback(answer).with_state(Arc::clone(told));
    let serving = async move {
        // Connections are tasks of this one: they end with it.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let app = hyper_util::service::TowerToHyperService::new(app.clone());
            connections.spawn(async move {
                let io = hyper_util::rt::TokioIo::new(stream);
                let server =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = server.serve_connection(io, app).await;
            });
        }
    };
    tokio::spawn(serving).abort_handle()
}

async fn answer(State(told): State<Arc<Mutex<Told>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (manner, (status, text)) = {
        let mut told = told.lock().unwrap();
        let hits = told.hits.entry(uri.path().into()).or_default();
        *hits += 1;
        let odd = *hits % 2 == 1;
        let manner = match told.manner.clone() {
            Manner::Flaps if odd => Manner::Status(500),
            manner => manner,
        };
        let form = parse(&body);
        told.last = form.clone();
        (manner, told.answer(&uri, &headers, &form))
    };
    let builder = Response::builder().status(status).header("content-type", "application/json");
    match manner {
        Manner::Honest | Manner::Flaps => builder.body(Body::from(text)).unwrap(),
        Manner::Slow(time) => {
            tokio::time::sleep(time).await;
            builder.body(Body::from(text)).unwrap()
        }
        Manner::Stuck => {
            let begin = futures_util::stream::iter([Ok::<_, io::Error>(text[..text.len() / 2].to_owned())]);
            let never = futures_util::stream::pending();
            builder.body(Body::from_stream(futures_util::StreamExt::chain(begin, never))).unwrap()
        }
        Manner::Status(status) => Response::builder().status(status).body(Body::from(text)).unwrap(),
        Manner::Lies(text) => builder.body(Body::from(text)).unwrap(),
        Manner::Huge(bytes) => builder.body(Body::from("x".repeat(bytes))).unwrap(),
        Manner::Redirects => {
            Response::builder().status(307).header("location", uri.path()).body(Body::empty()).unwrap()
        }
    }
}

fn parse(body: &[u8]) -> BTreeMap<String, String> {
    let decoded =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned();
    let text = std::str::from_utf8(body).unwrap();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

impl Told {
    fn answer(&mut self, uri: &Uri, headers: &HeaderMap, form: &BTreeMap<String, String>) -> (u16, String) {
        if !self.knows_client(uri, headers, form) {
            self.refused += 1;
            return (401, json!({ "error": "invalid_client" }).to_string());
        }
        let (status, json) = match uri.path() {
            INTROSPECT => {
                let known = form.get("token").and_then(|token| self.tokens.get(token));
                (200, known.cloned().unwrap_or(json!({ "active": false })))
            }
            TOKEN => self.give(form),
            _ => (404, json!({})),
        };
        (status, json.to_string())
    }

    fn give(&mut self, form: &BTreeMap<String, String>) -> (u16, Value) {
        let said = |name: &str| form.get(name).cloned().unwrap_or_default();
        let subject = match said("grant_type").as_str() {
            "client_credentials" => ID.to_owned(),
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                let known = self.tokens.get(&said("subject_token"));
                let access = said("subject_token_type") == "urn:ietf:params:oauth:token-type:access_token";
                match known.filter(|_| access) {
                    Some(claims) => claims["sub"].as_str().unwrap().to_owned(),
                    None => return (400, json!({ "error": "invalid_request" })),
                }
            }
            _ => return (400, json!({ "error": "unsupported_grant_type" })),
        };
        self.given += 1;
        let token = format!("given-{}", self.given);
        let claims = json!({
            "active": true, "iss": self.issuer, "sub": subject, "aud": said("audience"), "scope": said("scope"),
            "exp": now() + self.lives,
        });
        self.tokens.insert(token.clone(), claims);
        (200, json!({ "access_token": token, "token_type": "Bearer", "expires_in": self.lives }))
    }

    fn knows_client(&mut self, uri: &Uri, headers: &HeaderMap, form: &BTreeMap<String, String>) -> bool {
        let said = |name: &str| form.get(name).map(String::as_str);
        let shown = [
            headers.contains_key("authorization"),
            said("client_secret").is_some(),
            said("client_assertion").is_some(),
        ];
        match self.proof {
            _ if shown.iter().filter(|shown| **shown).count() != 1 => false,
            Proof::Basic => {
                let line = headers.get("authorization").and_then(|line| line.to_str().ok());
                let pair = line.and_then(|line| STANDARD.decode(line.strip_prefix("Basic ")?).ok());
                let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
                let decoded = pair.split_once(':').map(|(id, secret)| {
                    parse(format!("id={id}&secret={secret}").as_bytes()).into_values().collect::<Vec<_>>()
                });
                decoded == Some(vec![ID.to_owned(), SECRET.to_owned()])
            }
            Proof::Post => said("client_id") == Some(ID) && said("client_secret") == Some(SECRET),
            Proof::Key => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                said("client_assertion_type") == Some(kind)
                    && said("client_assertion").is_some_and(|assertion| self.believes(uri, assertion))
            }
        }
    }

    /// RFC 7523 section 3.
    fn believes(&mut self, uri: &Uri, assertion: &str) -> bool {
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.key);
        let (_, claims) = signed.split_once('.').unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let number = |name: &str| claims[name].as_u64().unwrap_or_default();
        let (from, to) = (number("iat"), number("exp"));
        let for_us =
            claims["aud"] == self.issuer.as_str() || claims["aud"] == format!("{}{uri}", self.issuer);
        key.verify(signed.as_bytes(), &signature).is_ok()
            && (&claims["iss"], &claims["sub"]) == (&json!(ID), &json!(ID))
            && for_us
            && to > now()
            && to <= from + 60
            && self.seen.insert(claims["jti"].as_str().unwrap().to_owned())
    }
}
