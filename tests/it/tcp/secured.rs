//! mTLS on both sides: a plain client, a gateway that speaks TLS for it, and one that asks who comes.
use std::{
    fs,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use portcullis::config::Config;
use rcgen::{CertificateParams, SanType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::Notify,
    time::Instant,
};

use super::{OPEN, Server, connect, counted, ended, file, hear, number, pass, rest, soon, until};
use crate::{
    gateway::world::{Directory, Gateway},
    support::{
        certificates::{Authority, uri},
        log::Log,
    },
};

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";
const STRANGER: &str = "spiffe://shop.example/ns/test/sa/stranger";
const DATABASE: &str = "spiffe://shop.example/ns/shop/sa/database";

fn named(id: &'static str) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.subject_alt_names = vec![uri(id)]
}

fn write(directory: &Directory, name: &str, (chain, key): (String, String)) {
    directory.write(&format!("{name}.pem"), &chain);
    directory.write(&format!("{name}.key"), &key);
}

fn world(name: &str) -> (Directory, Authority) {
    let (directory, authority) = (Directory::new(name), Authority::new("mesh"));
    directory.write("ca.pem", &authority.pem());
    write(&directory, "orders", authority.sign(named(ORDERS)));
    write(&directory, "stranger", authority.sign(named(STRANGER)));
    write(&directory, "database", authority.sign(named(DATABASE)));
    (directory, authority)
}

fn identities(names: &[&str]) -> String {
    let each = names
        .iter()
        .map(|name| format!("{name}: {{ certificate: {name}.pem, privateKey: {name}.key, roots: ca.pem }}"));
    format!("identities: {{ {} }}\n", each.collect::<Vec<_>>().join(", "))
}

/// The gateway before the server: it takes mTLS, and asks these policies.
async fn inbound(
    directory: &Directory,
    protocol: &str,
    server: SocketAddr,
    policies: &str,
    route: &str,
) -> Gateway {
    let tls = "tls: { identities: [database], clientCertificates: required }";
    let text = file(&format!("protocol: {protocol}, {tls}"), &[server], "", route);
    directory.write("inbound.yaml", &format!("{text}{}{policies}", identities(&["database"])));
    Gateway::start(Config::file(directory.path("inbound.yaml"))).await
}

/// The gateway beside the client: it speaks mTLS as `who`.
async fn outbound(directory: &Directory, who: &str, to: SocketAddr, server: &str) -> Gateway {
    let tls = format!("tls: {{ identity: {who}, spiffeId: '{server}' }}");
    let name = format!("outbound-{who}.yaml");
    directory.write(&name, &(file("protocol: tcp", &[to], &tls, "") + &identities(&[who])));
    Gateway::start(Config::file(directory.path(&name))).await
}

const ORDERS_ALONE: &str = "authorization: { orders: { action: allow, rules: [{ name: mesh, from: [{ serviceAccounts: [shop/orders] }] }] } }\n";

#[tokio::test]
async fn who_has_the_identity_is_let_in() {
    for protocol in ["tcp", "detect, detectTimeout: 30s"] {
        let (directory, _) = world("tcp-mtls");
        let (log, _guard) = Log::start();
        let server = Server::echo().await;
        let route = "policies: { authorization: [orders] }";
        let inbound = inbound(&directory, protocol, server.address, ORDERS_ALONE, route).await;
        let outbound = outbound(&directory, "orders", inbound.at("public"), DATABASE).await;
        let mut client = connect(&outbound).await;
        let said = vec![b'x'; 1_000_003];
        let (mut reader, mut writer) = client.split();
        let heard = async {
            let mut heard = Vec::new();
            reader.read_to_end(&mut heard).await.map(|_| heard)
        };
        let saying = async {
            writer.write_all(&said).await?;
            writer.shutdown().await
        };
        let (heard, said_all) = soon(async { tokio::join!(heard, saying) }).await;
        said_all.unwrap();
        assert!(heard.unwrap() == said);
        for gateway in [&inbound, &outbound] {
            counted(gateway, &ended("closed"), 1).await;
            assert_eq!(number(gateway, super::RECEIVED).await, Some(1_000_003));
            assert_eq!(number(gateway, super::SENT).await, Some(1_000_003));
        }
        let lines = log.access(2).await;
        assert!(lines.iter().any(|line| line["peer"] == ORDERS && line["ended"] == "closed"), "{lines:?}");
    }
}

#[tokio::test]
async fn who_has_not_is_refused_and_the_log_says_why() {
    let (directory, _) = world("tcp-refused");
    let (log, _guard) = Log::start();
    let server = Server::echo().await;
    let deny = "authorization:\n  orders: { action: allow, rules: [{ from: [{ serviceAccounts: [shop/orders] }] }] }\n  \
                no-test: { action: deny, rules: [{ name: test, from: [{ namespaces: [test] }] }] }\n  \
                no-admin: { action: deny, rules: [{ name: paths, to: [{ paths: [/admin] }] }] }\n";
    for (policies, who, why) in [
        ("orders", "stranger", "no policy allows it"),
        ("no-test, orders", "stranger", "denied by the rule `test` of the policy `no-test`"),
        // A connection has no path, which counts against the caller.
        ("no-admin, orders", "orders", "denied by the rule `paths` of the policy `no-admin`"),
    ] {
        let route = format!("policies: {{ authorization: [{policies}] }}");
        let inbound = inbound(&directory, "tcp", server.address, deny, &route).await;
        let outbound = outbound(&directory, who, inbound.at("public"), DATABASE).await;
        let mut client = connect(&outbound).await;
        client.write_all(b"hello").await.unwrap();
        assert!(rest(&mut client).await.is_err(), "it is reset");
        counted(&inbound, r#"tcp_refusals_total{listener="public",reason="forbidden",route="raw"}"#, 1).await;
        let id = if who == "orders" { ORDERS } else { STRANGER };
        let lines = log.access(1).await;
        let is_it =
            |line: &&serde_json::Value| line["peer"] == id && line["error"] == *why.replace('`', "%60");
        let line = lines.iter().find(is_it).unwrap_or_else(|| panic!("{why}: {lines:?}"));
        assert_eq!(
            (&line["reason"], &line["verdict"]),
            (&"forbidden".into(), &"caller_fault".into()),
            "{line}"
        );
    }
    assert_eq!(server.taken(), 0);
}

/// By a policy that asks who it is, and by one that asks what it does.
async fn refused_in_plain_text(
    start: impl AsyncFn(&str, &str, &str) -> Gateway,
    (log, server): (&Log, &Server),
) {
    let taken = server.taken();
    for (name, route, why) in [
        ("orders.yaml", "policies: { authorization: [orders] }", "no policy allows it"),
        (
            "no-admin.yaml",
            "policies: { authorization: [no-admin] }",
            "denied by the rule %60paths%60 of the policy %60no-admin%60",
        ),
    ] {
        let inbound = start(name, "300ms", route).await;
        for said in [&b"hello"[..], b""] {
            let mut client = connect(&inbound).await;
            client.write_all(said).await.unwrap();
            assert!(rest(&mut client).await.is_err(), "it is reset");
        }
        counted(&inbound, r#"tcp_refusals_total{listener="public",reason="forbidden",route="raw"}"#, 2).await;
        let lines = log.access(1).await;
        let line = lines.iter().find(|line| line["error"] == why);
        assert!(line.is_some_and(|line| line["peer"].is_null()), "{why}: {lines:?}");
    }
    assert_eq!(server.taken(), taken);
}

/// While a mesh moves: who comes in plain text is let in where anybody is, and by no policy that asks who it is, or what it does.
#[tokio::test]
async fn plain_text_is_taken_beside_tls_where_both_may_come() {
    let policies = "authorization:\n  orders: { action: allow, rules: [{ from: [{ serviceAccounts: [shop/orders] }] }] }\n  \
                    no-admin: { action: deny, rules: [{ name: paths, to: [{ paths: [/admin] }] }] }\n";
    for protocol in ["tcp", "detect"] {
        let (directory, _) = world("tcp-permissive");
        let (log, _guard) = Log::start();
        let server = Server::greeting().await;
        let start = async |name: &str, patience: &str, route: &str| {
            let tls = "tls: { identities: [database], clientCertificates: required, mode: permissive }";
            let listener = format!("protocol: {protocol}, detectTimeout: {patience}, {tls}");
            let text = file(&listener, &[server.address], "", route) + &identities(&["database"]) + policies;
            directory.write(name, &text);
            Gateway::start(Config::file(directory.path(name))).await
        };
        // Who begins is told by what it says, however late a busy machine is with it; and a gateway's handshake, after which its
        // client may say nothing, has seconds. Only of who says nothing at all it is known soon.
        let patient = start("patient.yaml", "50s", "").await;
        let lenient = start("lenient.yaml", "4s", "").await;
        let hasty = start("hasty.yaml", "300ms", "").await;
        let beside = async |name: &str, inbound: &Gateway| {
            let tls = format!("tls: {{ identity: orders, spiffeId: '{DATABASE}' }}");
            let text = file("protocol: tcp", &[inbound.at("public")], &tls, "") + &identities(&["orders"]);
            directory.write(name, &text);
            Gateway::start(Config::file(directory.path(name))).await
        };
        let to_patient = beside("to-patient.yaml", &patient).await;
        let to_lenient = beside("to-lenient.yaml", &lenient).await;
        // Each as one that begins, and as one that waits for the server to do so.
        for (gateway, begins) in
            [(&patient, true), (&hasty, false), (&to_patient, true), (&to_lenient, false)]
        {
            let (mut client, came) = (connect(gateway).await, Instant::now());
            if begins {
                client.write_all(b"hello\n").await.unwrap();
            }
            assert_eq!(hear(&mut client, 11).await, "220 ready\r\n", "{protocol} {begins}");
            if begins {
                assert_eq!(hear(&mut client, 6).await, "hello\n");
                assert!(came.elapsed() < Duration::from_secs(50), "nobody waits for what was said");
            }
            client.write_all(b"\x16 again").await.unwrap();
            assert_eq!(hear(&mut client, 7).await, "\x16 again");
        }
        let lines = log.access(6).await;
        let of = |peer: serde_json::Value| lines.iter().filter(|line| line["peer"] == peer).count();
        assert_eq!((of(ORDERS.into()), of(serde_json::Value::Null)), (2, 4), "{lines:?}");

        refused_in_plain_text(&start, (&log, &server)).await;
        let inbound = start("orders-alone.yaml", "4s", "policies: { authorization: [orders] }").await;
        let outbound = beside("to-orders-alone.yaml", &inbound).await;
        assert_eq!(hear(&mut connect(&outbound).await, 11).await, "220 ready\r\n");
    }
}

/// It is verified who the server is, too.
#[tokio::test]
async fn another_server_is_not_spoken_to() {
    let (directory, _) = world("tcp-impostor");
    let (log, _guard) = Log::start();
    let server = Server::echo().await;
    let inbound = inbound(&directory, "tcp", server.address, "", "").await;
    let outbound = outbound(&directory, "orders", inbound.at("public"), STRANGER).await;
    assert!(rest(&mut connect(&outbound).await).await.is_err());
    let refused = r#"tcp_refusals_total{listener="public",reason="connect_failed",route="raw"}"#;
    counted(&outbound, refused, 1).await;
    assert_eq!(server.taken(), 0);
    // The cause is in its line, and in one that is for who looks after the mesh.
    let lines = log.access(1).await;
    let is_it = |line: &&serde_json::Value| line["reason"] == "connect_failed";
    let error = lines.iter().find(is_it).and_then(|line| line["error"].as_str()).unwrap_or_default();
    assert!(error.contains("handshake of TLS failed") && error.contains(DATABASE), "{lines:?}");
    let told = log.ours();
    assert!(told.iter().any(|line| line.contains("the handshake with a server failed")), "{told:?}");
}

/// No protocol is agreed on, whatever a client offers, and no half of a connection is taken for all of it.
#[tokio::test]
async fn other_clients_of_tls_may_offer_what_they_like() {
    let (directory, _) = world("tcp-alpn");
    let server = Server::greeting().await;
    let inbound = inbound(&directory, "tcp", server.address, "", "").await;
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-alpn", "postgresql", "-connect", &inbound.at("public").to_string()])
        .arg("-cert")
        .arg(directory.path("orders.pem"))
        .arg("-key")
        .arg(directory.path("orders.key"))
        .arg("-CAfile")
        .arg(directory.path("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut heard = [0; 11];
    soon(client.stdout.as_mut().unwrap().read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"220 ready\r\n");
    counted(&inbound, OPEN, 1).await;
    client.kill().await.unwrap();
    counted(&inbound, OPEN, 0).await;
}

/// A connection ends with its peer's certificate, when what may be in flight has had its time.
#[tokio::test]
async fn a_connection_ends_with_the_certificate() {
    let (directory, authority) = world("tcp-expires");
    let soon_over = authority.sign(|params| {
        params.subject_alt_names = vec![uri(ORDERS), SanType::DnsName("orders".try_into().unwrap())];
        params.not_after = (std::time::SystemTime::now() + Duration::from_secs(3_600)).into();
    });
    write(&directory, "orders", soon_over);
    let server = Server::echo().await;
    let inbound = inbound(&directory, "tcp", server.address, "", "policies: { idleTimeout: 5h }").await;
    let outbound = outbound(&directory, "orders", inbound.at("public"), DATABASE).await;
    ends_with_the_certificate(connect(&outbound).await, &inbound).await;
    assert!(fs::exists(directory.path("ca.pem")).unwrap());
}

/// Of a certificate that is good for an hour; `gateway` cuts the connection.
async fn ends_with_the_certificate(mut client: TcpStream, gateway: &Gateway) {
    client.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "hello");
    pass(Duration::from_secs(3_500)).await;
    client.write_all(b"again").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "again");
    pass(Duration::from_secs(200)).await;
    counted(gateway, &ended("cut"), 1).await;
    assert!(rest(&mut client).await.is_err());
}

/// So does one to a server with the server's.
#[tokio::test]
async fn a_connection_ends_with_the_servers_certificate() {
    let (directory, authority) = world("tcp-server-expires");
    let soon_over = authority.sign(|params| {
        params.subject_alt_names = vec![uri(DATABASE)];
        params.not_after = (std::time::SystemTime::now() + Duration::from_secs(3_600)).into();
    });
    write(&directory, "database", soon_over);
    let server = Server::echo().await;
    let inbound = inbound(&directory, "tcp", server.address, "", "policies: { idleTimeout: 5h }").await;
    let tls = format!("tls: {{ identity: orders, spiffeId: '{DATABASE}' }}");
    let text = file("protocol: tcp", &[inbound.at("public")], &tls, "policies: { idleTimeout: 5h }");
    directory.write("outbound.yaml", &(text + &identities(&["orders"])));
    let outbound = Gateway::start(Config::file(directory.path("outbound.yaml"))).await;
    ends_with_the_certificate(connect(&outbound).await, &outbound).await;
}

/// And with the belief in the server, if the upstream says so.
#[tokio::test]
async fn a_connection_to_a_server_that_is_not_believed_any_more_is_cut() {
    for (then, is_cut) in [("", false), (", onTrustShrink: keep", false), (", onTrustShrink: close", true)] {
        let (directory, _) = world("tcp-shrinks");
        let server = Server::echo().await;
        directory.write("own.pem", &fs::read_to_string(directory.path("ca.pem")).unwrap());
        let inbound = inbound(&directory, "tcp", server.address, "", "").await;
        let tls = format!("tls: {{ identity: orders, roots: own.pem, spiffeId: '{DATABASE}'{then} }}");
        let text = file("protocol: tcp", &[inbound.at("public")], &tls, "");
        directory.write("outbound.yaml", &(text + &identities(&["orders"])));
        let outbound = Gateway::start(Config::file(directory.path("outbound.yaml"))).await;
        let mut client = connect(&outbound).await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(hear(&mut client, 5).await, "hello");
        directory.write("own.pem", &Authority::new("another").pem());
        // Until nobody new is let through.
        soon(async {
            loop {
                let mut other = connect(&outbound).await;
                let _ = other.write_all(b"hello").await;
                let mut heard = [0; 5];
                if other.read_exact(&mut heard).await.is_err() {
                    break;
                }
            }
        })
        .await;
        if is_cut {
            assert!(rest(&mut client).await.is_err(), "it is cut");
        } else {
            client.write_all(b"again").await.unwrap();
            assert_eq!(hear(&mut client, 5).await, "again");
            assert_eq!(number(&outbound, &ended("cut")).await, Some(0));
        }
    }
}

/// Who leaves without a goodbye of TLS, as many do, has said what it has said.
#[tokio::test]
async fn what_was_carried_is_delivered_when_a_client_leaves_without_a_goodbye() {
    const SAID: usize = 2_000_000;
    let (directory, authority) = world("tcp-goodbye");
    let named = authority.sign(|params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    });
    write(&directory, "database", named);
    let read = Arc::new(Notify::new());
    let (count, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let there = (Arc::clone(&read), Arc::clone(&count), Arc::clone(&over));
    let server = Server::start(move |mut stream| {
        let (begin, count, over) = there.clone();
        async move {
            begin.notified().await;
            let mut piece = vec![0; 64 << 10];
            while let Ok(more @ 1..) = stream.read(&mut piece).await {
                count.fetch_add(more, SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            over.fetch_add(1, SeqCst);
        }
    })
    .await;
    let text = file("protocol: tcp, tls: { identities: [database] }", &[server.address], "", "");
    directory.write("inbound.yaml", &(text + &identities(&["database"])));
    let inbound = Gateway::start(Config::file(directory.path("inbound.yaml"))).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = soon(connector.connect(name, connect(&inbound).await)).await.unwrap();
    let saying = tokio::spawn(async move {
        client.write_all(&vec![7; SAID]).await.unwrap();
        client.flush().await.unwrap();
        client.get_mut().0.shutdown().await.unwrap();
        client
    });
    // More than there is room for: the rest is said while the server reads.
    tokio::time::sleep(Duration::from_millis(300)).await;
    read.notify_one();
    let _client = soon(saying).await.unwrap();
    until(|| over.load(SeqCst) == 1).await;
    assert_eq!(count.load(SeqCst), SAID);
    counted(&inbound, super::RECEIVED, SAID as u64).await;
    counted(&inbound, &ended("client"), 1).await;
    counted(&inbound, OPEN, 0).await;
}
