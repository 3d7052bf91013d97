//! Without arguments: three small upstreams, a gateway before them, and five lines to paste.
use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{Router, extract::Request};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use portcullis::{
    authn::api_key::mint,
    config::{Config, Configured, StartError},
};
use tokio::net::TcpListener;

use crate::{Failed, until_told};

pub(crate) async fn run() -> Result<(), Failed> {
    let caller = Caller(Ed25519KeyPair::generate()?);
    let key = mint("demo", "acme")?.with(|entry| entry.scopes(["orders.read"]));
    let directory = Directory::new(key.entry().id())?;
    std::fs::write(directory.0.join("keys.yaml"), format!("keys:\n{}", key.entry().to_yaml()))?;
    let [orders, stable, canary] = ["orders", "catalogue v1", "catalogue v2"].map(upstream);
    let upstreams = [orders.await?, stable.await?, canary.await?];
    let started = start(&directory.0, &upstreams, &caller).await?;
    until_told(&started, || explain(&started, &directory.0, &caller.token(), key.reveal())).await;
    Ok(())
}

/// The usual ports if they are free, else any.
async fn start(directory: &Path, upstreams: &[SocketAddr; 3], caller: &Caller) -> Result<Configured, Failed> {
    let file = directory.join("gateway.yaml");
    std::fs::write(&file, configuration([8080, 9901], upstreams, &caller.jwks()))?;
    match Config::file(&file).start().await {
        Err(StartError::Bind(error)) => {
            tracing::warn!("{error}; so it is on other ports");
            std::fs::write(&file, configuration([0, 0], upstreams, &caller.jwks()))?;
            Ok(Config::file(&file).start().await?)
        }
        started => Ok(started?),
    }
}

fn explain(started: &Configured, directory: &Path, token: &str, key: &str) {
    let at =
        |name| started.gateway().address(name).map(|address| format!("http://{address}")).unwrap_or_default();
    let (gateway, admin) = (at("public"), at("admin"));
    // Nobody need listen.
    let _ = writeln!(
        io::stdout(),
        "\
A gateway on {gateway}, its admin address on {admin}. Ctrl-C ends it.
It follows {}: what you change there is in force within two seconds.
Paste these into another terminal. PORTCULLIS_LOG=info shows a line for each request here.

# 401: nobody says who they are
curl -i {gateway}/api/orders/7

# 200: a token that the gateway verifies; the upstream is told who it is, in x-user
curl -i -H 'authorization: Bearer {token}' {gateway}/api/orders/7

# 429: an API key may ask ten times at once, and then once a second
curl -s -o /dev/null -w '%{{http_code}}\\n' -H 'x-api-key: {key}' '{gateway}/api/orders/[1-15]'

# the canary: two of a hundred requests go to the new version
curl -s '{gateway}/catalogue/[1-1000]' | sort | uniq -c

# the metrics
curl -s {admin}/metrics
",
        directory.join("gateway.yaml").display()
    );
}

fn configuration([port, admin]: [u16; 2], [orders, stable, canary]: &[SocketAddr; 3], jwks: &str) -> String {
    format!(
        "\
apiVersion: portcullis/v1alpha1
requireAuthentication: true

listeners:
  - {{ name: public, address: 127.0.0.1:{port}, rateLimit: [per-address] }}

admin: {{ address: 127.0.0.1:{admin} }}

shutdown: {{ delay: 0s }}

authentication:
  customers:
    jwt:
      issuer: https://id.demo.example
      audiences: [demo]
      algorithms: [EdDSA]
      jwks: {{ inline: '{jwks}' }}    # made at this start
      claimHeaders: {{ x-user: sub }}
  partners:
    apiKey: {{ header: x-api-key, keys: {{ file: keys.yaml }} }}

rateLimits:
  per-address: {{ key: clientIp, rate: 2000/s, burst: 4000 }}
  per-caller: {{ key: principal, rate: 1/s, burst: 10 }}

upstreams:
  orders: {{ endpoints: ['{orders}'] }}
  catalogue-stable: {{ endpoints: ['{stable}'] }}
  catalogue-canary: {{ endpoints: ['{canary}'] }}

routes:
  - name: orders
    rules:
      - matches: [{{ path: {{ type: PathPrefix, value: /api/orders }} }}]
        policies:
          authenticate: [customers, partners]
          authorize: {{ scopes: {{ any: [orders.read, orders.write] }} }}
          rateLimit: [per-caller]
        filters:
          - type: RequestHeaderModifier
            requestHeaderModifier: {{ set: [{{ name: x-gateway, value: portcullis }}] }}
        backendRefs: [{{ name: orders }}]
  - name: catalogue
    rules:
      - matches: [{{ path: {{ type: PathPrefix, value: /catalogue }} }}]
        policies:
          authenticate: none
          split: {{ variantHeader: x-version }}    # with `by: principal` each caller keeps a version
        filters:
          - type: URLRewrite
            urlRewrite: {{ path: {{ type: ReplacePrefixMatch, replacePrefixMatch: / }} }}
          - type: ResponseHeaderModifier
            responseHeaderModifier: {{ set: [{{ name: x-served-by, value: portcullis }}] }}
        backendRefs:
          - {{ name: catalogue-stable, weight: 98 }}
          - {{ name: catalogue-canary, weight: 2 }}
"
    )
}

/// Who signs tokens for the demonstration.
struct Caller(Ed25519KeyPair);

impl Caller {
    fn jwks(&self) -> String {
        let x = BASE64.encode(self.0.public_key());
        format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"demo","alg":"EdDSA","use":"sig","x":"{x}"}}]}}"#
        )
    }

    /// A token of alice's, good for a day.
    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let expires = (now + Duration::from_secs(24 * 3600)).as_secs();
        let header = BASE64.encode(r#"{"alg":"EdDSA","typ":"JWT","kid":"demo"}"#);
        let claims = BASE64.encode(format!(
            r#"{{"iss":"https://id.demo.example","aud":"demo","sub":"alice","scope":"orders.read","exp":{expires}}}"#
        ));
        let signature = BASE64.encode(self.0.sign(format!("{header}.{claims}").as_bytes()));
        format!("{header}.{claims}.{signature}")
    }
}

/// A directory that goes when the demonstration does.
struct Directory(PathBuf);

impl Directory {
    /// One that nobody else can have made, nor write to.
    fn new(tag: &str) -> Result<Self, Failed> {
        let directory = std::env::temp_dir().join(format!("portcullis-demo-{tag}"));
        let mut make = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
        make.create(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A service that says its name, and who it was told is calling.
async fn upstream(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new().fallback(move |request: Request| async move {
        let user = request.headers().get("x-user").and_then(|user| user.to_str().ok());
        user.map_or_else(|| format!("{name}\n"), |user| format!("{name} for {user}\n"))
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}
