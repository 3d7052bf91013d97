//! TLS on listeners and to upstreams, by identities in files, with curl for a client.
use std::{fs, net::SocketAddr};

use http::{Request, Response};
use portcullis::{
    body::Body,
    config::Config,
    gate::Gates,
    identity::PeerIdentity,
    matching::RequestMatch,
    routing::filter::{HeaderChanges, Redirect},
    stack::gateway::{self, Listen, Rule, Snapshot},
    tls::{Material, ServerTls, Trust},
    transport::{Drain, Listener, Server},
};
use rcgen::{CertificateParams, SanType};
use tokio::{process::Command, time::timeout};

use super::world::{Client, Directory, Gateway, PATIENCE, nobody, upstream};
use crate::support::certificates::{Authority, credentials, uri};

pub(super) fn dns(names: &'static [&'static str]) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let name = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(name).collect();
    }
}

pub(super) fn write(directory: &Directory, name: &str, (chain, key): (String, String)) {
    directory.write(&format!("{name}.pem"), &chain);
    directory.write(&format!("{name}.key"), &key);
}

/// What curl prints, and how it ends.
pub(super) async fn curl(
    directory: &Directory,
    address: SocketAddr,
    host: &str,
    arguments: &[&str],
) -> (String, Option<i32>) {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--cacert"])
        .arg(directory.path("ca.pem"))
        .args(["--resolve", &format!("{host}:{}:127.0.0.1", address.port())])
        .args(["--write-out", "\n%{http_code} HTTP/%{http_version}"])
        .args(arguments)
        .arg(format!("https://{host}:{}/", address.port()))
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code())
}

/// Its files, and a gateway before an upstream that tells what it was asked.
async fn gateway(directory: &Directory, listener: &str, upstream: &str) -> Gateway {
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         identities: {{ shop: {{ certificate: shop.pem, privateKey: shop.key }}, \
         www: {{ certificate: www.pem, privateKey: www.key, roots: ca.pem }} }}\n\
         listeners: [{{ name: public, address: 127.0.0.1:0, tls: {{ identities: [shop, www], {listener} }} }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ orders: {{ {upstream} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: orders }}] }}] }}]\n"
    );
    directory.write("gateway.yaml", &text);
    Gateway::start(Config::file(directory.path("gateway.yaml"))).await
}

fn world(name: &str) -> (Directory, Authority) {
    let (directory, authority) = (Directory::new(name), Authority::new("public"));
    directory.write("ca.pem", &authority.pem());
    write(&directory, "shop", authority.sign(dns(&["shop.example"])));
    write(&directory, "www", authority.sign(dns(&["*.shop.example"])));
    (directory, authority)
}

#[tokio::test]
async fn a_listener_shows_the_certificate_that_is_asked_for() {
    let (directory, _) = world("tls-listener");
    let behind = upstream("orders").await;
    let gateway = gateway(&directory, "", &format!("endpoints: ['{behind}']")).await;
    let at = gateway.at("public");
    for host in ["shop.example", "www.shop.example"] {
        for (wire, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let (text, code) = curl(&directory, at, host, &[wire]).await;
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
            assert!(text.ends_with(&format!("200 HTTP/{version}")), "{text}");
        }
    }
    // Another host on a connection whose certificate is not for it (RFC 9110 section 15.5.20).
    for wire in ["--http1.1", "--http2"] {
        let (text, _) = curl(&directory, at, "shop.example", &[wire, "--header", "host: bank.example"]).await;
        assert!(text.contains("421 HTTP/"), "{text}");
        let (text, _) =
            curl(&directory, at, "shop.example", &[wire, "--header", "host: www.shop.example"]).await;
        assert!(text.contains("421 HTTP/"), "{text}");
    }
    // Who asks for a name that is nobody's is shown the first certificate, and goes away.
    let (text, code) = curl(&directory, at, "other.example", &[]).await;
    assert_eq!(code, Some(60), "{text}");
    let status = gateway.status().await;
    assert_eq!(status["identities"][0]["name"], "shop.example");
    assert!(status["identities"][0]["expiresSeconds"].as_i64().unwrap() > 0);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains("portcullis_identity_rotations_total{identity=\"www\"} 1"), "{metrics}");
    assert!(
        metrics.contains("portcullis_identity_expiry_timestamp_seconds{identity=\"shop\"} "),
        "{metrics}"
    );
}

#[tokio::test]
async fn clients_show_certificates_of_the_roots_that_are_told() {
    let (directory, _) = world("tls-clients");
    let clients = Authority::new("partners");
    directory.write("clients.pem", &clients.pem());
    write(&directory, "partner", clients.sign(dns(&["partner.example"])));
    write(&directory, "stranger", Authority::new("partners").sign(dns(&["partner.example"])));
    let behind = upstream("orders").await;
    let gateway = gateway(&directory, "clientCa: clients.pem", &format!("endpoints: ['{behind}']")).await;
    let at = gateway.at("public");
    let shown = async |name: &str| {
        let path = |end: &str| directory.path(&format!("{name}.{end}")).display().to_string();
        curl(&directory, at, "shop.example", &["--cert", &path("pem"), "--key", &path("key")]).await
    };
    let (text, code) = shown("partner").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("200 HTTP/"), "{text}");
    assert_ne!(shown("stranger").await.1, Some(0));
    assert_ne!(curl(&directory, at, "shop.example", &[]).await.1, Some(0));
}

/// To the scheme and the port of the listener, whatever port a client writes behind the host; behind a trusted proxy to those that its
/// clients see.
#[tokio::test]
async fn a_redirect_goes_to_where_the_client_has_come_in() {
    let (directory, _) = world("tls-redirects");
    let [plain, secured, believing] = [nobody(), nobody(), nobody()];
    directory.write(
        "gateway.yaml",
        &format!(
            "apiVersion: portcullis/v1alpha1\n\
             identities: {{ shop: {{ certificate: shop.pem, privateKey: shop.key }} }}\n\
             listeners:\n\
             - {{ name: plain, address: '{plain}' }}\n\
             - {{ name: secured, address: '{secured}', tls: {{ identities: [shop] }} }}\n\
             - {{ name: believing, address: '{believing}', trustedProxies: [127.0.0.1] }}\n\
             - {{ name: any, address: 127.0.0.1:0 }}\n\
             admin: {{ address: 127.0.0.1:0 }}\n\
             routes:\n\
             - name: r\n\
             \x20 rules:\n\
             \x20 - filters: [{{ type: RequestRedirect, requestRedirect: {{ path: {{ type: ReplaceFullPath, replaceFullPath: /new }} }} }}]\n\
             \x20 - matches: [{{ path: {{ value: /https }} }}]\n\
             \x20   filters: [{{ type: RequestRedirect, requestRedirect: {{ scheme: https }} }}]\n"
        ),
    );
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let (own, its) = (plain.port(), secured.port());
    let https = ("x-forwarded-proto", "https");
    for (listener, path, host, told, location) in [
        ("plain", "/", "shop.example", None, format!("http://shop.example:{own}/new")),
        ("plain", "/", "shop.example:9999", None, format!("http://shop.example:{own}/new")),
        ("plain", "/", "shop.example", Some(https), format!("http://shop.example:{own}/new")),
        ("plain", "/https", "shop.example:9999", None, "https://shop.example/https".into()),
        ("believing", "/", "shop.example", Some(https), "https://shop.example/new".into()),
        ("believing", "/", "shop.example:8443", Some(https), "https://shop.example:8443/new".into()),
        ("believing", "/", "shop.example:443", Some(https), "https://shop.example/new".into()),
        ("believing", "/", "shop.example", Some(("x-forwarded-port", "1")), "http://shop.example/new".into()),
        ("believing", "/", "shop.example:8080", None, "http://shop.example:8080/new".into()),
        ("any", "/", "shop.example:8080", None, "http://shop.example:8080/new".into()),
    ] {
        let headers: Vec<_> = [("host", host)].into_iter().chain(told).collect();
        let answer = gateway.client.get(gateway.at(listener), path, &headers).await;
        let found = answer.headers.get("location").map(|location| location.to_str().unwrap().to_owned());
        assert_eq!((answer.status, found), (302, Some(location)), "{listener} {host} {told:?}");
    }
    for more in ["x-forwarded-proto: http", "host: shop.example:9999"] {
        let (text, _) = curl(&directory, secured, "shop.example", &["--include", "--header", more]).await;
        assert!(text.contains(&format!("location: https://shop.example:{its}/new")), "{more}: {text}");
    }
}

/// However it is put among the filters of a rule.
#[tokio::test]
async fn a_redirect_that_is_wrapped_goes_to_where_the_client_has_come_in() {
    let at = nobody();
    let rule = |path: &str| Rule::new(path).when(RequestMatch::prefix(path).unwrap());
    let snapshot = Snapshot::builder()
        .listen(Listen::on("public", at))
        .rule(rule("/option").filter(Some(Redirect::new())))
        .rule(rule("/tuple").filter((HeaderChanges::new().for_requests(), Redirect::new())))
        .rule(rule("/slice").filter(Gates::new().with(Redirect::new())))
        .build()
        .unwrap();
    let _gateway = gateway::Gateway::start(snapshot).await.unwrap();
    for path in ["/option", "/tuple", "/slice"] {
        let answer = Client::new().get(at, path, &[("host", "shop.example:9999")]).await;
        assert_eq!(answer.headers["location"], format!("http://shop.example:{}{path}", at.port()));
    }
}

#[tokio::test]
async fn files_that_change_are_taken_without_a_reload_and_bad_ones_change_nothing() {
    let (directory, authority) = world("tls-rotation");
    let behind = upstream("orders").await;
    let gateway = gateway(&directory, "mode: permissive", &format!("endpoints: ['{behind}']")).await;
    let at = gateway.at("public");
    // Both on one port.
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    let shown = async |host: &str| curl(&directory, at, host, &[]).await.1;
    assert_eq!(shown("shop.example").await, Some(0));
    let of = |status: &serde_json::Value, name: &str| status["identities"][0][name].as_u64().unwrap();
    // A certificate without its key.
    let (chain, key) = authority.sign(dns(&["shop.example", "new.shop.example"]));
    directory.write("shop.pem", &chain);
    let status = gateway.until(|status| of(status, "failures") > 0).await;
    let told = status["identities"][0]["lastError"].as_str().unwrap();
    assert!(told.ends_with("shop.pem: the private key is not the certificate's"), "{told}");
    assert_eq!((of(&status, "rotations"), shown("shop.example").await), (1, Some(0)));
    directory.write("shop.key", &key);
    let status = gateway.until(|status| of(status, "rotations") == 2).await;
    assert_eq!(of(&status, "failures"), 0);
    let (text, code) = curl(&directory, at, "new.shop.example", &[]).await;
    assert_eq!(code, Some(0), "{text}");
}

/// An upstream within TLS, which tells who asked it.
pub(super) async fn secured(tls: ServerTls) -> (SocketAddr, Drain) {
    let who = tower::service_fn(async |request: Request<Body>| {
        let peer = request
            .extensions()
            .get::<PeerIdentity>()
            .and_then(|peer| peer.name())
            .unwrap_or("nobody")
            .to_owned();
        let scheme = request.uri().scheme_str().unwrap_or("-").to_owned();
        Ok::<_, std::convert::Infallible>(Response::new(Body::from(format!(
            "{peer} {scheme} {:?}\n",
            request.version()
        ))))
    });
    let (listener, drain) =
        (Listener::builder().tls(tls).bind(([127, 0, 0, 1], 0).into()).unwrap(), Drain::new());
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new().drain(&drain).serve(listener, who));
    (address, drain)
}

/// What the upstream answers through a gateway that speaks to it so.
async fn through(directory: &Directory, at: SocketAddr, tls: &str) -> (u16, String) {
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         identities: {{ ours: {{ certificate: ours.pem, privateKey: ours.key, roots: mesh.pem }} }}\n\
         listeners: [{{ name: public, address: 127.0.0.1:0 }}]\n\
         upstreams: {{ orders: {{ endpoints: ['localhost:{}'], {tls} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: orders }}] }}] }}]\n",
        at.port()
    );
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let answer = gateway.get("/", &[]).await;
    (answer.status, answer.text)
}

#[tokio::test]
async fn an_upstream_is_verified_and_told_who_asks() {
    let (directory, mesh) = (Directory::new("tls-upstream"), Authority::new("mesh"));
    directory.write("mesh.pem", &mesh.pem());
    directory.write("other.pem", &Authority::new("mesh").pem());
    write(
        &directory,
        "ours",
        mesh.sign(|params| params.subject_alt_names = vec![uri("spiffe://shop.example/gateway")]),
    );
    let theirs = credentials(mesh.workload("spiffe://shop.example/orders"), mesh.trust());
    let (at, _drain) = secured(ServerTls::mutual(&theirs)).await;
    let ours = "spiffe://shop.example/gateway";
    for (tls, answer) in [
        ("tls: { identity: ours }", format!("{ours} - HTTP/1.1\n")),
        ("protocol: http2, tls: { identity: ours }", format!("{ours} https HTTP/2.0\n")),
        ("tls: { identity: ours, spiffeId: 'spiffe://shop.example/orders' }", format!("{ours} - HTTP/1.1\n")),
        ("tls: { identity: ours, trustDomain: shop.example }", format!("{ours} - HTTP/1.1\n")),
        ("tls: { identity: ours, roots: mesh.pem, serverName: localhost }", format!("{ours} - HTTP/1.1\n")),
        ("tls: { identity: ours }, healthCheck: { http: { path: / } }", format!("{ours} - HTTP/1.1\n")),
    ] {
        assert_eq!(through(&directory, at, tls).await, (200, answer), "{tls}");
    }
    for tls in [
        "tls: { roots: mesh.pem }", // nobody asks
        "tls: { identity: ours, roots: other.pem }",
        "tls: { identity: ours, spiffeId: 'spiffe://shop.example/carts' }",
        "tls: { identity: ours, trustDomain: example }",
        "tls: { identity: ours, serverName: orders.example }",
    ] {
        assert_eq!(through(&directory, at, tls).await.0, 502, "{tls}");
    }
    // It speaks no plain text, and we do not try it.
    let plain = upstream("plain").await;
    assert_eq!(through(&directory, plain, "tls: { identity: ours }").await.0, 502);
}

/// Leaves and roots change while requests go, on new connections each.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn nothing_is_lost_while_identities_and_roots_change() {
    let (directory, first) = (Directory::new("tls-changes"), Authority::new("first"));
    let id = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![uri("spiffe://shop.example/gateway")];
    };
    directory.write("mesh.pem", &first.pem());
    write(&directory, "ours", first.sign(id));
    let theirs = credentials(first.workload("spiffe://shop.example/orders"), first.trust());
    let (at, _drain) = secured(ServerTls::mutual(&theirs)).await;
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         identities: {{ ours: {{ certificate: ours.pem, privateKey: ours.key, roots: mesh.pem }} }}\n\
         listeners: [{{ name: public, address: 127.0.0.1:0 }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ orders: {{ endpoints: ['localhost:{}'], maxConnectionAge: 1s, tls: {{ identity: ours }} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: orders }}] }}] }}]\n",
        at.port()
    );
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let rotations = |status: &serde_json::Value| status["identities"][0]["rotations"].as_u64().unwrap();
    let mut asked = 0;
    let mut all_well = async |while_: &mut dyn FnMut() -> bool| {
        while while_() {
            let answer = gateway.get("/", &[]).await;
            assert_eq!((answer.status, &*answer.text), (200, "spiffe://shop.example/gateway - HTTP/1.1\n"));
            asked += 1;
        }
    };
    let mut before = first;
    for round in 1..=3 {
        // Both are believed, then the new one alone: as roots are changed where nothing may be lost.
        let next = Authority::new(&format!("root {round}"));
        let both = before.pem() + &next.pem();
        let trusts_both = Trust::roots(both.as_bytes()).unwrap();
        theirs.set(Material::new(before.workload("spiffe://shop.example/orders"), trusts_both.clone()));
        fs::write(directory.path("mesh.pem"), &both).unwrap();
        for step in 0..3 {
            match step {
                0 => {}
                1 => {
                    write(&directory, "ours", next.sign(id));
                    theirs.set(Material::new(
                        next.workload("spiffe://shop.example/orders"),
                        trusts_both.clone(),
                    ));
                }
                _ => {
                    fs::write(directory.path("mesh.pem"), next.pem()).unwrap();
                    theirs.set(Material::new(next.workload("spiffe://shop.example/orders"), next.trust()));
                }
            }
            let expected = 1 + (round - 1) * 3 + step + 1;
            while rotations(&gateway.status().await) < expected {
                let mut times = 5;
                all_well(&mut || {
                    times -= 1;
                    times > 0
                })
                .await;
            }
        }
        before = next;
    }
    assert!(asked > 9 * 4);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_makes_no_sense_is_refused_at_its_place() {
    let (directory, _) = world("tls-faults");
    let faults = |rest: &str| {
        let text = format!("apiVersion: portcullis/v1alpha1\n{rest}");
        directory.write("gateway.yaml", &text);
        let check = Config::file(directory.path("gateway.yaml")).check();
        check.faults().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let on = |identities: &str, tls: &str| {
        faults(&format!(
            "identities: {{ {identities} }}\nlisteners: [{{ name: a, address: 127.0.0.1:0, tls: {{ {tls} }} }}]\n\
             upstreams: {{ u: {{ endpoints: [127.0.0.1:1] }} }}\n"
        ))
    };
    let shop = "shop: { certificate: shop.pem, privateKey: shop.key }";
    for (identities, tls, fault) in [
        (
            "x: {}",
            "identities: [x]",
            "identities.x: expected `directory`, `certificate` and `privateKey`, or `workloadApi`",
        ),
        (
            "x: { certificate: shop.pem }",
            "identities: [x]",
            "expected both `certificate` and `privateKey`, or neither",
        ),
        (
            "x: { certificate: shop.pem, privateKey: www.key }",
            "identities: [x]",
            "the private key is not the certificate's",
        ),
        (
            "x: { certificate: none.pem, privateKey: www.key }",
            "identities: [x]",
            "none.pem cannot be read: no such file",
        ),
        (shop, "identities: [shp]", "no identity of this name; did you mean `shop`?"),
        (shop, "identities: []", "listeners[0].tls.identities"),
        (shop, "identities: [shop, shop]", "is in this list twice"),
        (
            shop,
            "identities: [shop], clientCertificates: required",
            "nobody would be believed: say `clientCa`",
        ),
        (shop, "identities: [shop], clientCa: none.pem", "none.pem cannot be read"),
        (shop, "identities: [shop], clientCa: shop.key", "no root certificate was found"),
        (shop, "identities: [shop], mode: lenient", "mode"),
        (shop, "identities: [shop], handshakeTimeout: 0s", "expected 100ms at least"),
        (
            "x: { certificate: shop.pem, privateKey: shop.key, roots: ca.pem, trustDomain: a.example }",
            "identities: [x], clientCa: ca.pem",
            "the identity's `trustDomain` is not for these roots",
        ),
        (
            "x: { certificate: shop.pem, privateKey: shop.key, trustDomain: a.example, federated: { a.example: ca.pem } }",
            "identities: [x]",
            "this domain has roots already; ours has `roots`",
        ),
    ] {
        let told = on(identities, tls);
        assert!(told.contains(fault), "{tls}: {told}");
    }
    let to = |tls: &str| {
        faults(&format!(
            "identities: {{ {shop} }}\nlisteners: [{{ name: a, address: 127.0.0.1:0 }}]\n\
             upstreams: {{ u: {{ endpoints: [127.0.0.1:1], tls: {{ {tls} }} }} }}\n"
        ))
    };
    for (tls, fault) in [
        ("serverName: 'a b'", "expected a DNS name or an IP address"),
        ("serverName: a.example, trustDomain: a.example", "expected one at most of"),
        ("spiffeId: 'https://a/b'", "expected a SPIFFE ID"),
        ("identity: other", "no identity of this name"),
        ("identity: shop", "nobody would be believed: say `roots`, here or of the identity"),
    ] {
        let told = to(tls);
        assert!(told.contains(fault), "{tls}: {told}");
    }
    let told = faults(
        "listeners: [{ name: a, address: 127.0.0.1:0 }]\n\
         upstreams: { u: { discovery: { dns: { srv: _grpc._tcp.orders.example } }, tls: { roots: ca.pem } } }\n",
    );
    assert!(told.contains("SRV records name the servers, and nobody signs them"), "{told}");
}
