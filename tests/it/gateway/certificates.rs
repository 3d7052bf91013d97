//! What the file says of clients' certificates that proxies tell of: who is believed, who may do what, and what upstreams are
//! told.

use portcullis::config::Config;

use super::world::{Directory, Gateway, upstream, yaml_of};
use crate::support::certificates::{Authority, uri};

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";

fn element(uri: &str) -> String {
    format!("Hash={};URI={uri}", "07".repeat(32))
}

fn listener(name: &str, more: &str) -> String {
    format!("- {{ name: {name}, address: '127.0.0.1:0', {more} }}\n")
}

fn rule(path: &str, upstream: &str, policies: &str) -> String {
    format!(
        "  - matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]\n    policies: {{ {policies} }}\n    \
         backendRefs: [{{ name: {upstream} }}]\n"
    )
}

async fn gateway() -> Gateway {
    let behind = upstream("one").await;
    let upstream = |name: &str, more: &str| format!("  {name}: {{ endpoints: ['{behind}'], {more} }}\n");
    let text = [
        "apiVersion: portcullis/v1alpha1\nlisteners:\n".to_owned(),
        listener("public", ""),
        listener("xfcc", "trustedProxies: [127.0.0.0/8], clientCertificateHeader: xfcc"),
        listener("standard", "trustedProxies: [127.0.0.0/8], clientCertificateHeader: clientCert"),
        listener("unread", "trustedProxies: [127.0.0.0/8]"),
        listener("strangers", "trustedProxies: [10.0.0.0/8], clientCertificateHeader: xfcc"),
        "authentication:\n  workloads: { clientCertificate: {} }\n\
         callerHeaders: { x-caller: subject }\n\
         authorization:\n  \
           orders: { action: allow, rules: [{ from: [{ serviceAccounts: [shop/orders], trustDomains: [shop.example] }] }] }\n  \
           outsiders: { action: deny, rules: [{ from: [{ notNamespaces: [shop] }] }] }\n\
         upstreams:\n"
            .to_owned(),
        upstream("one", ""),
        upstream("told", "forwardClientCertDetails: sanitizeSet, setCurrentClientCertDetails: { uri: true, subject: true }"),
        upstream("kept", "forwardClientCertDetails: alwaysForwardOnly"),
        upstream("appended", "forwardClientCertDetails: appendForward"),
        "routes:\n- name: r\n  rules:\n".to_owned(),
        rule("/who", "one", "authenticate: [workloads]"),
        rule("/orders", "one", "authorize: { policies: [orders, outsiders] }"),
        rule("/plain", "one", ""),
        rule("/told", "told", ""),
        rule("/kept", "kept", ""),
        rule("/appended", "appended", ""),
    ];
    Gateway::of(&text.concat()).await
}

#[tokio::test]
async fn a_trusted_proxy_says_who_its_client_is_and_nobody_else_does() {
    let gateway = gateway().await;
    let (orders, carts) = (element(ORDERS), element("spiffe://shop.example/ns/carts/sa/orders"));
    let both = format!("{carts}, {orders}");
    let (xfcc, misspelt) = ("X-Forwarded-Client-Cert", "x_forwarded_client-cert");
    for (listener, path, said, status) in [
        ("xfcc", "/who", &[(xfcc, &*orders)][..], 200),
        ("xfcc", "/who", &[(xfcc, &*both)], 200),
        ("xfcc", "/who", &[(misspelt, &*orders)], 401),
        ("xfcc", "/who", &[], 401),
        ("xfcc", "/who", &[(xfcc, "nonsense")], 400),
        ("public", "/who", &[(xfcc, &*orders)], 401),
        ("unread", "/who", &[(xfcc, &*orders)], 401),
        ("standard", "/who", &[(xfcc, &*orders)], 401),
        ("standard", "/who", &[("client-cert", ":AA==:")], 400),
        ("strangers", "/who", &[(xfcc, &*orders)], 401),
        ("strangers", "/plain", &[(xfcc, "nonsense")], 200),
        ("xfcc", "/orders", &[(xfcc, &*orders)], 200),
        ("xfcc", "/orders", &[(xfcc, &*both)], 200),
        ("xfcc", "/orders", &[(xfcc, &*carts)], 403),
        ("xfcc", "/orders", &[], 403),
        ("public", "/orders", &[(xfcc, &*orders)], 403),
        ("strangers", "/orders", &[(xfcc, &*orders)], 403),
    ] {
        let answer = gateway.client.get(gateway.at(listener), path, said).await;
        assert_eq!(answer.status, status, "{listener} {path} {said:?}: {}", answer.text);
        assert!(!answer.text.contains("cert"), "{}", answer.text);
        let caller = format!("x-caller: {ORDERS}");
        assert_eq!(answer.text.contains(&caller), status == 200 && path == "/who", "{}", answer.text);
    }
}

#[tokio::test]
async fn an_upstream_is_told_in_its_own_mode() {
    let gateway = gateway().await;
    let orders = element(ORDERS);
    let said = format!("{}, {orders}", element("http://before"));
    let told = format!("Hash={};Subject=\"\";URI={ORDERS}", "07".repeat(32));
    for (listener, path, expected) in [
        ("xfcc", "/plain", None),
        ("xfcc", "/told", Some(&*told)),
        ("xfcc", "/kept", Some(&*said)),
        // The connection has no certificate.
        ("xfcc", "/appended", None),
        ("unread", "/told", None),
        ("unread", "/kept", Some(&*said)),
        ("standard", "/kept", None),
        ("public", "/told", None),
        ("public", "/kept", None),
        ("strangers", "/kept", None),
    ] {
        let headers =
            [("x-forwarded-client-cert", &*said), ("X_Forwarded_Client_Cert", "URI=a"), ("client_cert", "a")];
        let answer = gateway.client.get(gateway.at(listener), path, &headers).await;
        let lines: Vec<_> = answer.text.lines().filter(|line| line.contains("cert")).collect();
        let expected: Vec<_> =
            expected.map(|value| format!("x-forwarded-client-cert: {value}")).into_iter().collect();
        assert_eq!(
            (answer.status, lines),
            (200, expected.iter().map(String::as_str).collect()),
            "{listener} {path}"
        );
    }
}

/// A gateway in a file of this directory.
async fn start(directory: &Directory, name: &str, text: &str) -> Gateway {
    directory.write(name, &format!("apiVersion: portcullis/v1alpha1\n{text}"));
    Gateway::start(Config::file(directory.path(name))).await
}

/// One that asks callers for certificates, and tells its upstreams of them.
async fn edge(directory: &Directory) -> Gateway {
    let behind = upstream("one").await;
    let told = |name: &str, mode: &str| format!("  {name}: {{ endpoints: ['{behind}'], {mode} }}\n");
    let text = [
        "identities: { edge: { certificate: edge.pem, privateKey: edge.key, roots: ca.pem } }\n\
         listeners: [{ name: public, address: '127.0.0.1:0', tls: { identities: [edge], clientCertificates: optional } }]\n\
         authentication: { workloads: { clientCertificate: {} } }\n\
         authorization: { orders: { action: allow, rules: [{ from: [{ serviceAccounts: [shop/orders] }] }] } }\n\
         upstreams:\n"
            .to_owned(),
        told("one", ""),
        told("set", "forwardClientCertDetails: sanitizeSet, setCurrentClientCertDetails: { uri: true, subject: true }"),
        told("appended", "forwardClientCertDetails: appendForward, setCurrentClientCertDetails: { cert: true }"),
        "routes:\n- name: r\n  rules:\n".to_owned(),
        rule("/plain", "one", "authenticate: [workloads]"),
        rule("/set", "set", ""),
        rule("/appended", "appended", ""),
        rule("/orders", "one", "authorize: { policies: [orders] }"),
    ];
    start(directory, "edge.yaml", &text.concat()).await
}

/// One that calls it as this workload, or as nobody.
async fn caller(directory: &Directory, edge: &Gateway, name: &str) -> Gateway {
    let (identities, own) = match name {
        "nobody" => (String::new(), "roots: ca.pem"),
        name => (
            format!(
                "identities: {{ ours: {{ certificate: {name}.pem, privateKey: {name}.key, roots: ca.pem }} }}\n"
            ),
            "identity: ours",
        ),
    };
    let text = format!(
        "{identities}listeners: [{{ name: public, address: '127.0.0.1:0' }}]\n\
         upstreams: {{ edge: {{ endpoints: ['{}'], tls: {{ {own}, spiffeId: 'spiffe://shop.example/ns/shop/sa/edge' }} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: edge }}] }}] }}]\n",
        edge.at("public"),
    );
    start(directory, &format!("{name}.yaml"), &text).await
}

/// Two gateways: one calls as a workload, and the other lets it in by its certificate and tells of it.
#[tokio::test]
async fn who_has_shown_a_certificate_is_known_and_told() {
    let (directory, mesh) = (Directory::new("certificates"), Authority::new("mesh"));
    directory.write("ca.pem", &mesh.pem());
    for name in ["edge", "orders", "carts"] {
        let id = format!("spiffe://shop.example/ns/shop/sa/{name}");
        let (chain, key) = mesh.sign(|params| params.subject_alt_names.push(uri(&id)));
        directory.write(&format!("{name}.pem"), &chain);
        directory.write(&format!("{name}.key"), &key);
    }
    let edge = edge(&directory).await;
    let lie = [("x-forwarded-client-cert", "Hash=00;URI=spiffe://shop.example/ns/shop/sa/orders")];
    for (name, plain, orders) in [("orders", 200, 200), ("carts", 200, 403), ("nobody", 401, 403)] {
        let gateway = caller(&directory, &edge, name).await;
        let ask = async |path: &str| {
            let answer = gateway.get(path, &lie).await;
            let line = answer.text.lines().find(|line| line.contains("cert: ")).map(str::to_owned);
            (answer.status, line.unwrap_or_default())
        };
        assert_eq!(ask("/plain").await, (plain, String::new()), "{name}");
        assert_eq!(ask("/orders").await, (orders, String::new()), "{name}");
        let ((_, set), (_, appended)) = (ask("/set").await, ask("/appended").await);
        if name == "nobody" {
            assert_eq!((set, appended), (String::new(), String::new()));
            continue;
        }
        let by = "x-forwarded-client-cert: By=spiffe://shop.example/ns/shop/sa/edge;Hash=";
        let rest = set.strip_prefix(by).unwrap_or_else(|| panic!("{set}"));
        let expected =
            format!(";Subject=\"CN=rcgen self signed cert\";URI=spiffe://shop.example/ns/shop/sa/{name}");
        assert_eq!((rest.find(';'), &rest[64..]), (Some(64), &*expected));
        let rest = appended.strip_prefix(by).unwrap_or_else(|| panic!("{appended}"));
        assert!(rest[64..].starts_with(";Cert=\"-----BEGIN%20CERTIFICATE-----%0A"), "{appended}");
    }
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/certificates_behind_a_proxy.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted() && check.faults().is_empty(), "{check}");
}
