//! Each example, as a user runs it: built, started on a port of its own, asked, and told to stop.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where the examples are, built once with the features that this was built with.
pub(crate) fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--examples", "--features", "full"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the examples do not build");
        let tests = std::env::current_exe().unwrap();
        tests.parent().and_then(Path::parent).unwrap().join("examples")
    })
}

struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(name: &str) -> Self {
        Self::spawn(Command::new(examples().join(name)).arg("127.0.0.1:0"))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("no line in time").unwrap().expect("no line")
    }

    /// The `curl` line: the address in it, and the key if there is one.
    async fn curl(&mut self) -> (SocketAddr, String) {
        let line = self.line().await;
        assert!(line.contains("curl "), "{line}");
        let (_, address) = line.split_once("http://").unwrap();
        let key = line.split_once("x-api-key: ").map(|(_, key)| key.split_once('\'').unwrap().0.to_owned());
        (address.split_once('/').unwrap().0.parse().unwrap(), key.unwrap_or_default())
    }

    /// SIGTERM: it says that nothing was cut, and ends well.
    async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(&id).status().await.unwrap().success());
        let last = self.line().await;
        assert!(last.starts_with("0 "), "{last}");
        assert!(timeout(PATIENCE, self.child.wait()).await.expect("no end in time").unwrap().success());
    }
}

/// What is answered to a GET with these header lines.
async fn get(address: SocketAddr, path: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer in time").unwrap();
    answer
}

#[tokio::test]
async fn axum_app() {
    let mut example = Example::start("axum_app");
    let (address, key) = example.curl().await;
    let orders = get(address, "/orders", &format!("x-api-key: {key}\r\n")).await;
    assert!(
        orders.starts_with("HTTP/1.1 200 ") && orders.contains("the orders of acme, asked for by 127.0.0.1")
    );
    assert!(get(address, "/orders", "").await.starts_with("HTTP/1.1 401 "));
    assert!(get(address, "/orders", "x-api-key: wrong\r\n").await.starts_with("HTTP/1.1 401 "));
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(get(address, "/", "").await[9..12].to_owned());
    }
    assert!(statuses.contains(&"200".into()) && statuses.contains(&"429".into()), "{statuses:?}");
    example.stop().await;
}

#[tokio::test]
async fn tonic_service() {
    let mut example = Example::start("tonic_service");
    assert_eq!(example.line().await, "the service is Serving");
    let (address, key) = example.curl().await;
    let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let refusal = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("x-api-key", key.parse().unwrap());
    let answer = client.check(request).await.unwrap();
    assert!(answer.metadata().contains_key("x-request-id"));
    example.stop().await;
}

/// Runs to its end, and gives what it says.
fn said(name: &str) -> String {
    let output = std::process::Command::new(examples().join(name)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn mesh_client() {
    let said = said("mesh_client");
    let lines: Vec<_> = said.lines().collect();
    let recovered = lines[0].strip_prefix("30 calls, one server of three fails: 30 answers, ").unwrap();
    assert!(recovered.split_once(' ').unwrap().0.parse::<u64>().unwrap() > 0, "{recovered}");
    assert_eq!(lines[1], "the broken server alone: Unavailable, \"not today\"");
    assert_eq!(lines[2], "nobody at all: Unavailable, \"connect_failed\"");
    assert_eq!(lines[3], "a caller that does not wait: DeadlineExceeded, \"caller_deadline\"");
}

#[test]
fn resilient_client() {
    let said = said("resilient_client");
    let lines: Vec<_> = said.lines().collect();
    let attempts =
        lines[0].strip_prefix("40 requests, two servers of four are bad: 40 served, with ").expect(lines[0]);
    assert!((41..=120).contains(&attempts.split_once(' ').unwrap().0.parse::<u64>().unwrap()), "{attempts}");
    assert!(
        lines[1].starts_with("nobody there: 502 Bad Gateway, {") && lines[1].contains("connect_failed"),
        "{said}"
    );
}

/// The number that stands behind these words.
fn number_behind<'t>(text: &'t str, words: &str) -> &'t str {
    let (_, rest) = text.rsplit_once(words).unwrap_or_else(|| panic!("{words:?} is not in it"));
    &rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())]
}

/// The curves of the documentation are what the simulations make, and so is what it says of them. `BLESS=1` writes the curves.
#[test]
fn simulate() {
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/simulations");
    let directory = std::env::temp_dir().join(format!("portcullis-simulations-{}", std::process::id()));
    let directory = if std::env::var_os("BLESS").is_some() { written.clone() } else { directory };
    let output = std::process::Command::new(examples().join("simulate")).arg(&directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let names = |of: &Path| -> std::collections::BTreeSet<_> {
        std::fs::read_dir(of).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names(&directory), names(&written));
    for name in names(&written) {
        let read = |of: &Path| std::fs::read_to_string(of.join(&name)).unwrap();
        assert!(
            read(&directory) == read(&written),
            "{name:?} is not current: run `cargo run --example simulate`"
        );
    }
    if directory != written {
        std::fs::remove_dir_all(&directory).unwrap();
    }
    let said = String::from_utf8(output.stdout).unwrap();
    let slow = said.lines().find(|line| line.starts_with("balance_slow")).unwrap();
    let text = std::fs::read_to_string(written.with_extension("md")).unwrap().replace('\n', " ");
    for (words, policy) in
        [("pile up there it is ", "least request"), ("by the time of answers ", "peak EWMA")]
    {
        let told = format!(" {} with {policy}", number_behind(&text, words));
        assert!(slow.contains(&told), "{told:?} is not in {slow}");
    }
}

#[tokio::test]
async fn hyper_service() {
    let mut example = Example::start("hyper_service");
    let (address, _) = example.curl().await;
    let answer = get(address, "/", "").await;
    assert!(answer.contains("x-request-id: ") && answer.contains("hello, 127.0.0.1:"), "{answer}");
    example.stop().await;
}

#[cfg(all(feature = "jwt", feature = "tls"))]
#[tokio::test]
async fn oidc() {
    use crate::support::provider::{Provider, claims};

    let provider = Provider::start_tls().await;
    let roots = std::env::temp_dir().join(format!("portcullis-roots-{}.pem", std::process::id()));
    std::fs::write(&roots, provider.roots()).unwrap();
    let mut command = Command::new(examples().join("oidc"));
    // The roots of this machine, for this process.
    let mut example =
        Example::spawn(command.args(["127.0.0.1:0", &provider.issuer()]).env("SSL_CERT_FILE", &roots));
    let (address, _) = example.curl().await;
    std::fs::remove_file(&roots).unwrap();
    let with = |scope: &str| {
        let mut claims = claims(&provider.issuer(), "alice");
        claims["scope"] = scope.into();
        claims["email"] = "alice@example.com".into();
        format!("authorization: Bearer {}\r\n", provider.signer().token(&claims))
    };
    let orders = get(address, "/orders", &with("orders.read")).await;
    assert!(orders.ends_with("the orders of alice, to be sent to alice@example.com\n"), "{orders}");
    for (path, line, status) in [
        ("/orders", with("profile"), "403"),
        ("/orders", String::new(), "401"),
        ("/me", with("profile"), "200"),
        ("/me", "authorization: Bearer x.y.z\r\n".to_owned(), "401"),
        ("/", String::new(), "200"),
    ] {
        assert_eq!(&get(address, path, &line).await[9..12], status, "{path} {line}");
    }
}

/// What the guide shows is what the example does, and what it writes into a file is accepted.
#[cfg(all(feature = "config", feature = "jwt", feature = "tls"))]
#[test]
fn the_guide_to_oidc_shows_the_example() {
    let read =
        |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (guide, example) = (read("docs/guides/oidc.md"), read("examples/oidc.rs"));
    let blocks = |language: &str| -> Vec<String> {
        let begin = format!("```{language}\n");
        guide.split(&begin).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
    };
    let code = blocks("rust");
    assert_eq!(code.len(), 4);
    for block in code {
        assert!(example.contains(&block), "not in the example:\n{block}");
    }
    let [file, opaque] = &blocks("yaml")[..] else { panic!("two files") };
    let check = |file: &String| portcullis::config::Config::text("guide", file.clone()).check();
    let found = check(file);
    assert!(found.is_accepted() && found.faults().is_empty(), "{found}");
    let found = check(opaque);
    let faults: Vec<_> = found.faults().iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 1, "our secret is not there: {faults:?}");
    assert!(faults[0].contains("client.secret.file: cannot be read"), "{faults:?}");
}

/// The file of the guide is accepted where its directory is.
#[cfg(all(feature = "config", feature = "tls"))]
#[test]
fn the_guide_to_cert_manager_has_a_file_that_is_accepted() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides/cert_manager_on_kubernetes.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let files = crate::gateway::world::yaml_of(&guide);
    let file = files.iter().find(|file| file.starts_with("apiVersion: portcullis")).unwrap();

    let directory = std::env::temp_dir().join(format!("portcullis-cert-manager-{}", std::process::id()));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["orders.shop.svc".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    std::fs::create_dir(&directory).unwrap();
    for (name, text) in
        [("tls.crt", &certificate), ("tls.key", &key.serialize_pem()), ("ca.crt", &certificate)]
    {
        std::fs::write(directory.join(name), text).unwrap();
    }
    let file = file.replace("/etc/certs", directory.to_str().unwrap());
    let found = portcullis::config::Config::text("guide", file).check();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(found.is_accepted(), "{found}");
}

#[tokio::test]
async fn custom_gate() {
    let mut example = Example::start("custom_gate");
    let (address, _) = example.curl().await;
    let answer = get(address, "/", "user-agent: browser\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello\n"), "{answer}");
    assert!(get(address, "/", "user-agent: curl/8.0\r\n").await.starts_with("HTTP/1.1 403 "));
    example.stop().await;
}

/// Two services whose identities the example renews, roots included, talk all the while. A third, of another root, is refused.
#[cfg(all(unix, feature = "tls", feature = "transport", feature = "upstream"))]
#[expect(clippy::too_many_lines, reason = "it is one story")]
#[tokio::test]
async fn mesh_ca() {
    use std::os::unix::fs::PermissionsExt as _;

    use portcullis::tls::{ClientTls, Credentials, Directory, Material, ServerId, ServerTls};

    let all = std::env::temp_dir().join(format!("portcullis-mesh-{}", std::process::id()));
    let begin = async |mesh: &str, ttl: &[&str], service: &str| {
        let mut command = Command::new(examples().join("mesh_ca"));
        let mut example =
            Example::spawn(command.arg("--dir").arg(all.join(mesh)).args(ttl).args(["orders", service]));
        let first = example.line().await;
        assert!(first.starts_with("For development only."), "{first}");
        assert!(["SPIRE", "cert-manager", "Istio"].iter().all(|name| first.contains(name)), "{first}");
        let services = [example.line().await, example.line().await];
        assert!(services[1].starts_with("spiffe://mesh.local/orders in "), "{services:?}");
        assert!(example.line().await.ends_with(": 1"));
        example
    };
    let mut example = begin("ours", &["--ttl", "8s", "--rotate-root", "4s"], "carts").await;
    let other = begin("other", &[], "carts").await;
    let follow = async |directory: &str| {
        let credentials =
            Credentials::follow(Directory::new(all.join(directory)).strict_key_permissions(true));
        timeout(PATIENCE, credentials.ready()).await.expect("no credentials in time");
        credentials
    };
    let [orders, carts, stranger] =
        [follow("ours/orders").await, follow("ours/carts").await, follow("other/carts").await];
    let key = std::fs::metadata(all.join("ours/orders/tls.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    let first = orders.current().unwrap().trust.clone();
    let address = greet(ServerTls::mutual(&orders));
    let is_orders = ServerId::Spiffe("spiffe://mesh.local/orders".parse().unwrap());
    let tls = ClientTls::mutual(&carts).server(is_orders.clone());
    let kept = portcullis::upstream::Client::builder().tls(tls.clone()).build();
    let asking = tokio::spawn(async move {
        let mut asked = 0;
        loop {
            let fresh = portcullis::upstream::Client::builder().tls(tls.clone()).build();
            for client in [&kept, &fresh] {
                assert_eq!(greeting(client, address).await.unwrap(), "spiffe://mesh.local/carts");
            }
            asked += 2;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if carts.status().rotations > 3 && orders.status().rotations > 3 {
                return (asked, orders);
            }
        }
    });
    // In each turn there is a next root, or the last one, which is believed beside that which signs.
    for _ in 0..3 {
        let line = example.line().await;
        assert!(line.ends_with(": 2"), "{line}");
    }
    let (asked, orders) = timeout(PATIENCE, asking).await.expect("identities were not renewed").unwrap();
    assert!(asked > 100, "{asked}");
    assert_eq!(orders.status().failures, 0);
    assert_ne!(orders.current().unwrap().trust, first);

    let theirs = stranger.current().unwrap().identity.clone();
    let trust = orders.current().unwrap().trust.clone();
    for credentials in [stranger, Credentials::new(Material::new(theirs, trust))] {
        let tls = ClientTls::mutual(&credentials).server(is_orders.clone());
        let client = portcullis::upstream::Client::builder().tls(tls).build();
        greeting(&client, address).await.unwrap_err();
    }
    drop((example, other));
    std::fs::remove_dir_all(&all).unwrap();
}

/// Says by which name it knows who asks.
#[cfg(all(unix, feature = "tls", feature = "transport", feature = "upstream"))]
fn greet(tls: portcullis::tls::ServerTls) -> SocketAddr {
    use portcullis::{
        body::Body,
        identity::PeerIdentity,
        transport::{Listener, Server},
    };

    let who = tower::service_fn(async |request: http::Request<Body>| {
        let peer =
            request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::name).unwrap_or("nobody");
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(peer.to_owned())))
    });
    let listener = Listener::builder().tls(tls).bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new().serve(listener, who));
    address
}

#[cfg(all(unix, feature = "tls", feature = "transport", feature = "upstream"))]
async fn greeting(
    client: &portcullis::upstream::Client,
    address: SocketAddr,
) -> Result<String, portcullis::body::BoxError> {
    use http_body_util::BodyExt as _;

    let request = http::Request::get(format!("https://localhost:{}/", address.port()));
    let request = request.body(portcullis::body::Body::empty())?;
    let answer = timeout(PATIENCE, tower::ServiceExt::oneshot(client.clone(), request)).await??;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

/// A file of the example, with the identities and ports of a test.
fn sidecar_file(all: &Path, name: &str, ports: &[(u16, u16)]) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sidecar").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(file).unwrap().replace("../../mesh", all.to_str().unwrap());
    let text = ports.iter().fold(text, |text, (from, to)| text.replace(&from.to_string(), &to.to_string()));
    let file = all.join(format!("{name}.yaml"));
    std::fs::write(&file, text).unwrap();
    file
}

/// As the README has it: two services that know nothing of TLS, and a third that is kept out.
#[tokio::test]
async fn sidecar() {
    let all = std::env::temp_dir().join(format!("portcullis-sidecars-{}", std::process::id()));
    let mut authority = Command::new(examples().join("mesh_ca"));
    let mut authority = Example::spawn(authority.arg("--dir").arg(&all).args(["orders", "stranger", "web"]));
    while !authority.line().await.starts_with("renewed for") {}
    let ports = [9001, 15001, 15002, 15443, 15090, 15091, 15092].map(|port| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (port, free.local_addr().unwrap().port())
    });
    let at = |port: u16| ports.iter().find(|(from, _)| *from == port).unwrap().1.to_string();
    let run = |name: &str, command: &[&str]| {
        let mut sidecar = Command::new(examples().join("sidecar"));
        sidecar.args(["run", "--config"]).arg(sidecar_file(&all, name, &ports)).arg("--").args(command);
        sidecar.stderr(Stdio::piped());
        Example::spawn(&mut sidecar)
    };
    let mut orders = run("orders", &["python3", "-u", "-m", "http.server", &at(9001), "--bind", "127.0.0.1"]);
    while !orders.line().await.starts_with("Serving HTTP") {}
    for (name, port, status) in
        [("web", 15001, "HTTP/1.1 200 OK"), ("stranger", 15002, "HTTP/1.1 403 Forbidden")]
    {
        let url = format!("http://127.0.0.1:{}/", at(port));
        let mut caller = run(name, &["curl", "--silent", "--head", &url, "--header", "Host: orders"]);
        let mut line = caller.line().await;
        while line.contains(" on 127.0.0.1:") {
            line = caller.line().await;
        }
        assert_eq!(line.trim_end(), status, "{name}");
        assert!(timeout(PATIENCE, caller.child.wait()).await.expect("it ends with curl").unwrap().success());
    }
    let id = orders.child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(&id).status().await.unwrap().success());
    let ended = timeout(PATIENCE, orders.child.wait_with_output()).await.expect("it ends").unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    let refused = log.lines().find(|line| line.contains("status=403")).expect("it is logged");
    assert!(refused.contains(r#"peer="spiffe://mesh.local/stranger""#), "{refused}");
    std::fs::remove_dir_all(all).unwrap();
}

/// The README's three commands, and a stranger.
#[tokio::test]
async fn mesh_service() {
    let all = std::env::temp_dir().join(format!("portcullis-three-commands-{}", std::process::id()));
    let services = ["orders", "stranger", "web"];
    let mut authority = Command::new(examples().join("mesh_ca"));
    let mut authority = Example::spawn(authority.arg("--dir").arg(&all).args(services));
    while !authority.line().await.starts_with("renewed for") {}
    let service = |what: &str, who: &str, address: &str, peer: &str| {
        let mut command = Command::new(examples().join("mesh_service"));
        Example::spawn(command.arg(what).arg(all.join(who)).args([address, peer]))
    };
    let mut command = Command::new(examples().join("mesh_service"));
    command.arg("serve").arg(all.join("orders")).args(["127.0.0.1:0", "spiffe://mesh.local/web"]);
    let mut orders = Example::spawn(command.env("NO_COLOR", "1").stderr(Stdio::piped()));
    let line = orders.line().await;
    let address = line.strip_prefix("serves spiffe://mesh.local/web at ").unwrap();
    for (who, server, answer) in [
        ("web", "spiffe://mesh.local/orders", "200 OK: three orders for spiffe://mesh.local/web"),
        ("stranger", "spiffe://mesh.local/orders", "403 Forbidden: "),
        ("web", "spiffe://mesh.local/payments", "502 Bad Gateway: "),
    ] {
        let line = service("call", who, address, server).line().await;
        assert!(line.starts_with(answer), "{who} {server}: {line}");
    }
    // Who was refused, and why, is in the log.
    let id = orders.child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(&id).status().await.unwrap().success());
    let ended = timeout(PATIENCE, orders.child.wait_with_output()).await.expect("it ends").unwrap();
    assert!(ended.status.success(), "{:?}", ended.status);
    let log = String::from_utf8(ended.stderr).unwrap();
    let refused = log.lines().find(|line| line.contains("status=403")).unwrap_or_else(|| panic!("{log}"));
    for word in [r#"reason="forbidden""#, r#"peer="spiffe://mesh.local/stranger""#] {
        assert!(refused.contains(word), "{refused}");
    }
    std::fs::remove_dir_all(all).unwrap();
}

#[test]
fn mesh_ca_says_what_it_does_not_understand() {
    for (arguments, why) in [
        (&[][..], "name at least one service"),
        (&["--dir"], "--dir: a value is missing"),
        (&["--verbose", "orders"], "--verbose: there is no such option"),
        (
            &["--ttl", "1 hour", "orders"],
            "--ttl: expected a duration such as 90s, 15m, 1h or 7d, at least 4s",
        ),
        (&["--ttl", "3s", "orders"], "--ttl: expected a duration"),
        (&["--ttl", "99999999999999999d", "orders"], "--ttl: expected a duration"),
        (&["--rotate-root", "-1d", "orders"], "--rotate-root: expected a duration"),
        (
            &["--trust-domain", "Mesh.Local", "orders"],
            "--trust-domain: a trust domain is 1 to 255 lower-case letters",
        ),
        (&["../orders"], "\"../orders\": a service is called by small letters, digits and dashes"),
        (&["orders", ""], "\"\": a service is called by"),
        (&["--dir", "/dev/null", "orders"], "/dev/null/orders: "),
    ] {
        let output = std::process::Command::new(examples().join("mesh_ca")).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.starts_with(&format!("mesh_ca: {why}")), "{arguments:?}: {said}");
    }
}

/// Without descriptors for more connections, accepting pauses, and goes on when there are some again.
#[cfg(unix)]
#[tokio::test]
async fn a_server_without_descriptors_recovers() {
    let mut command = Command::new("sh");
    let program = examples().join("axum_app");
    command.args(["-c", "ulimit -n 32; exec \"$0\" 127.0.0.1:0"]).arg(program);
    let mut example = Example::spawn(&mut command);
    let (address, _) = example.curl().await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let waiting = tokio::spawn(async move { get(address, "/", "").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "there were descriptors left");
    drop(held);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200 "));
    example.stop().await;
}
