//! Identities of a file beside what its listeners do with them: modes by port, agents, others' roots, lists, and what is told of it.
use std::{fs, net::SocketAddr};

use portcullis::{
    config::{Config, Severity},
    tls::{Material, ServerTls},
};
use rcgen::SerialNumber;
use serde_json::Value;

use super::{
    tls::{curl, dns, secured, write},
    world::{Client, Directory, Gateway, PATIENCE, upstream},
};
use crate::support::{
    certificates::{Authority, credentials, uri},
    log::Log,
};

const GATEWAY: &str = "spiffe://shop.example/gateway";
const ORDERS: &str = "spiffe://shop.example/orders";

/// A gateway with these identities, listeners and tls of its upstream.
fn text(identities: &str, listeners: &str, upstream: &str) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         identities: {{ {identities} }}\n\
         listeners: [{listeners}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ orders: {{ {upstream} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: orders }}] }}] }}]\n"
    )
}

async fn start(directory: &Directory, text: &str) -> Gateway {
    directory.write("gateway.yaml", text);
    Gateway::start(Config::file(directory.path("gateway.yaml"))).await
}

fn number(status: &Value, of: &str, field: &str) -> i64 {
    status[of][0][field].as_i64().unwrap_or_default()
}

/// Whether plain text is answered there, and whether TLS is.
async fn spoken(directory: &Directory, at: SocketAddr) -> (bool, bool) {
    // On a connection of its own.
    let plain = Client::new().send("GET", at, "/", &[]).await.is_ok_and(|answer| answer.status == 200);
    (plain, curl(directory, at, "shop.example", &[]).await.1 == Some(0))
}

#[tokio::test]
async fn each_port_has_a_mode_of_its_own() {
    let (directory, authority) = (Directory::new("identities-modes"), Authority::new("public"));
    directory.write("ca.pem", &authority.pem());
    write(&directory, "shop", authority.sign(dns(&["shop.example"])));
    let behind = upstream("orders").await;
    let listener = |name: &str, mode: &str| {
        format!("{{ name: {name}, address: 127.0.0.1:0, tls: {{ identities: [shop], mode: {mode} }} }}")
    };
    let either =
        listener("either", "permissive").replace(", tls:", ", protocol: detect, detectTimeout: 30s, tls:");
    let listeners = ["strict", "permissive", "disabled"].map(|mode| listener(mode, mode));
    let listeners = [&listeners[..], &[either]].concat().join(", ");
    let shop = "shop: { certificate: shop.pem, privateKey: shop.key }";
    let gateway = start(&directory, &text(shop, &listeners, &format!("endpoints: ['{behind}']"))).await;
    for (mode, plain, tls) in [
        ("strict", false, true),
        ("permissive", true, true),
        ("disabled", true, false),
        ("either", true, true),
    ] {
        assert_eq!(spoken(&directory, gateway.at(mode)).await, (plain, tls), "{mode}");
    }
    // Another mode is another listener on the same port, at once.
    let at = gateway.at("disabled");
    let listeners = listeners.replace("mode: disabled", "mode: strict");
    let text = text(shop, &listeners, &format!("endpoints: ['{behind}']"));
    directory.write("gateway.yaml", &text);
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(spoken(&directory, at).await, (false, true));
    // What is said of a port that speaks no TLS is checked all the same.
    let text = text.replacen("identities: [shop], mode: permissive", "identities: [shp], mode: disabled", 1);
    directory.write("gateway.yaml", &text);
    let check = Config::file(directory.path("gateway.yaml")).check();
    assert!(check.faults().to_string().contains("no identity of this name"), "{}", check.faults());
}

/// Roots that are named by files of their own are told of, and those of lists.
#[tokio::test]
async fn roots_and_lists_are_told_of() {
    let (directory, authority) = (Directory::new("identities-told"), Authority::new("public"));
    directory.write("ca.pem", &authority.pem());
    directory.write("clients.pem", &authority.pem());
    directory.write("lists.pem", &authority.revoked(7, 2100).pem().unwrap());
    write(&directory, "shop", authority.sign(dns(&["shop.example"])));
    let behind = upstream("orders").await;
    let gateway = start(
        &directory,
        &text(
            "plain: { certificate: shop.pem, privateKey: shop.key }, \
             shop: { certificate: shop.pem, privateKey: shop.key, roots: ca.pem, revocationLists: lists.pem }",
            "{ name: public, address: 127.0.0.1:0 }, { name: a, address: 127.0.0.1:0, tls: { identities: [shop] } }, \
             { name: b, address: 127.0.0.1:0, tls: { identities: [plain], clientCa: clients.pem } }",
            &format!("endpoints: ['{behind}']"),
        ),
    )
    .await;
    let told = async |name: &str| {
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let line = metrics.lines().find(|line| line.starts_with(&format!("portcullis_{name}{{")));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
    };
    let status = gateway.status().await;
    assert!(status["roots"][0]["roots"].as_str().unwrap().ends_with("clients.pem"), "{status:#}");
    assert_eq!((number(&status, "roots", "rotations"), number(&status, "roots", "failures")), (1, 0));
    let until = status["identities"].as_array().unwrap().iter();
    let until: Vec<_> = until.map(|told| told["revocationExpiresSeconds"].as_i64()).collect();
    assert!(until[0].is_none() && until[1].is_some_and(|left| left > 0), "{until:?}");
    // The first of January 2100.
    assert_eq!(told("identity_revocation_expiry_timestamp_seconds").await, Some(4_102_444_800.0));
    assert_eq!(told("roots_renewal_failures").await, Some(0.0));

    fs::write(directory.path("clients.pem"), "junk").unwrap();
    let status = gateway.until(|status| number(status, "roots", "failures") > 0).await;
    let why = status["roots"][0]["lastError"].as_str().unwrap();
    assert!(why.ends_with("no root certificate was found"), "{why}");
    assert!(told("roots_renewal_failures").await > Some(0.0));
    fs::write(directory.path("clients.pem"), Authority::new("another").pem()).unwrap();
    gateway.until(|status| number(status, "roots", "rotations") == 2).await;
    assert_eq!(
        (told("roots_rotations_total").await, told("roots_renewal_failures").await),
        (Some(2.0), Some(0.0))
    );
}

/// A list that stays unreadable is no empty one: nobody is let in, which is told wherever one looks, while our own certificate is
/// renewed.
#[tokio::test]
async fn unreadable_lists_let_nobody_in_until_they_can_be_read() {
    let (directory, authority) = (Directory::new("identities-unreadable"), Authority::new("public"));
    let (log, _guard) = Log::start();
    directory.write("ca.pem", &authority.pem());
    let lists = authority.revoked(7, 2100).pem().unwrap();
    directory.write("lists.pem", &lists);
    write(&directory, "shop", authority.sign(dns(&["shop.example"])));
    let behind = upstream("orders").await;
    let gateway = start(
        &directory,
        &text(
            "shop: { certificate: shop.pem, privateKey: shop.key, roots: ca.pem, revocationLists: lists.pem }",
            "{ name: public, address: 127.0.0.1:0, tls: { identities: [shop], clientCertificates: required } }",
            &format!("endpoints: ['{behind}']"),
        ),
    )
    .await;
    let path = |name: &str| directory.path(name).display().to_string();
    let is_let_in = async || {
        let arguments = ["--cert", &path("shop.pem"), "--key", &path("shop.key")];
        curl(&directory, gateway.at("public"), "shop.example", &arguments).await.1 == Some(0)
    };
    let told = async |name: &str| {
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let line = metrics.lines().find(|line| line.starts_with(&format!("portcullis_{name}{{")));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
    };
    assert!(is_let_in().await);
    assert_eq!(told("identity_revocation_unreadable").await, Some(0.0));

    directory.write("lists.pem", "junk");
    let status = gateway.until(|status| status["identities"][0]["revocationError"].is_string()).await;
    assert!(status["identities"][0]["revocationError"].as_str().unwrap().contains("lists.pem"), "{status:#}");
    assert!(!is_let_in().await);
    assert_eq!(told("identity_revocation_unreadable").await, Some(1.0));
    let lines = log.ours();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("nobody is let in until they can be") && line.contains("lists.pem")),
        "{lines:?}"
    );
    let is_refused =
        |line: &String| line.contains("the revocation lists cannot be read") && line.contains("handshake");
    assert!(lines.iter().any(is_refused), "{lines:?}");

    let rotations = number(&gateway.status().await, "identities", "rotations");
    write(&directory, "shop", authority.sign(dns(&["shop.example"])));
    gateway.until(|status| number(status, "identities", "rotations") > rotations).await;
    assert!(!is_let_in().await, "and still nobody");
    directory.write("lists.pem", &lists);
    gateway.until(|status| status["identities"][0]["revocationError"].is_null()).await;
    assert!(is_let_in().await);
}

/// The alarm grows for as long as a certificate cannot be renewed: of a gateway, and of a mesh client that is made of a file.
#[tokio::test]
async fn what_cannot_be_renewed_is_told_of() {
    let (directory, authority) = (Directory::new("identities-alarm"), Authority::new("public"));
    directory.write("ca.pem", &authority.pem());
    let signed = || authority.sign(dns(&["shop.example"]));
    write(&directory, "shop", signed());
    let identities = "shop: { certificate: shop.pem, privateKey: shop.key, roots: ca.pem }";
    let listener = "{ name: public, address: 127.0.0.1:0, tls: { identities: [shop] } }";
    let gateway = start(&directory, &text(identities, listener, "endpoints: [127.0.0.1:9]")).await;
    directory.write(
        "calls.yaml",
        &format!(
            "apiVersion: portcullis/v1alpha1\nidentities: {{ {identities} }}\n\
             upstreams: {{ orders: {{ endpoints: [127.0.0.1:9], tls: {{ identity: shop }} }} }}\n"
        ),
    );
    let client = Config::file(directory.path("calls.yaml")).client().await.unwrap();
    let number = |text: &str, name: &str| {
        let name = format!("portcullis_{name}{{identity=\"shop\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
    };
    let alarms = async || {
        let text = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        [text, client.metrics().render()].map(|text| number(&text, "identity_renewal_failures").unwrap())
    };
    assert_eq!(alarms().await, [0.0, 0.0]);
    directory.write("shop.key", "junk");
    for times in [1.0, 2.0] {
        gateway
            .until(|_| number(&client.metrics().render(), "identity_renewal_failures") >= Some(times))
            .await;
        gateway.until(|status| status["identities"][0]["failures"].as_i64() >= Some(times as i64)).await;
        assert!(alarms().await.iter().all(|alarm| *alarm >= times));
    }
    write(&directory, "shop", signed());
    gateway.until(|status| status["identities"][0]["failures"] == 0).await;
    gateway.until(|_| number(&client.metrics().render(), "identity_renewal_failures") == Some(0.0)).await;
    assert_eq!(alarms().await, [0.0, 0.0]);
    assert_eq!(number(&client.metrics().render(), "identity_rotations_total"), Some(2.0));
}

/// A partner's mistake is the partner's: our own certificate is renewed, and what was believed of them still is.
#[tokio::test]
async fn a_partners_bad_file_does_not_keep_us_from_renewing_ours() {
    let [shop, partner] = [Authority::new("shop"), Authority::new("partner")];
    let directory = Directory::new("identities-partner");
    directory.write("ca.pem", &shop.pem());
    directory.write("partner.pem", "junk");
    let ours = |serial: u64| {
        shop.sign(|params| {
            params.subject_alt_names =
                vec![uri(GATEWAY), rcgen::SanType::DnsName("shop.example".try_into().unwrap())];
            params.serial_number = Some(SerialNumber::from(serial));
        })
    };
    write(&directory, "ours", ours(1));
    write(
        &directory,
        "theirs",
        partner.sign(|params| params.subject_alt_names = vec![uri("spiffe://partner.example/web")]),
    );
    let behind = upstream("orders").await;
    let text = text(
        "ours: { certificate: ours.pem, privateKey: ours.key, roots: ca.pem, trustDomain: shop.example, \
         federated: { partner.example: partner.pem, other.example: none.pem } }",
        "{ name: public, address: 127.0.0.1:0, tls: { identities: [ours], clientCertificates: required } }",
        &format!("endpoints: ['{behind}']"),
    );
    directory.write("gateway.yaml", &text);
    let check = Config::file(directory.path("gateway.yaml")).check();
    assert!(check.is_accepted(), "{check}");
    let warned: Vec<_> = check.faults().iter().filter(|fault| fault.severity == Severity::Warning).collect();
    assert_eq!(
        warned.iter().filter(|fault| fault.problem.starts_with("this domain is not believed")).count(),
        2
    );

    let gateway = start(&directory, &text).await;
    let at = gateway.at("public");
    let path = |name: &str| directory.path(name).display().to_string();
    let is_let_in = async || {
        let arguments = ["--cert", &path("theirs.pem"), "--key", &path("theirs.key")];
        curl(&directory, at, "shop.example", &arguments).await.1 == Some(0)
    };
    assert!(!is_let_in().await);
    let rotated = async |times: i64| {
        let status = gateway.until(|status| number(status, "identities", "rotations") == times).await;
        assert_eq!(number(&status, "identities", "failures"), 0);
    };
    write(&directory, "ours", ours(2));
    rotated(2).await;
    fs::write(directory.path("partner.pem"), partner.pem()).unwrap();
    rotated(3).await;
    assert!(is_let_in().await);
    for (bad, times) in [("junk", 4), ("", 5)] {
        fs::write(directory.path("partner.pem"), bad).unwrap();
        write(&directory, "ours", ours(times as u64));
        rotated(times).await;
        assert!(is_let_in().await, "what was believed is believed on");
    }
}

/// What is said of connections to an upstream is done: they are drained unless told.
#[tokio::test]
async fn a_server_whose_root_was_removed_is_sent_nothing_more_unless_told() {
    for (said, is_kept) in [("", false), (", onTrustShrink: keep", true), (", onTrustShrink: close", false)] {
        let mesh = Authority::new("mesh");
        let directory = Directory::new("identities-shrunk");
        directory.write("mesh.pem", &mesh.pem());
        let (at, _drain) = secured(ServerTls::new(&credentials(mesh.workload(ORDERS), mesh.trust()))).await;
        let upstream = format!(
            "endpoints: ['localhost:{}'], protocol: http2, tls: {{ roots: mesh.pem{said} }}",
            at.port()
        );
        let gateway = start(&directory, &text("", "{ name: public, address: 127.0.0.1:0 }", &upstream)).await;
        assert_eq!(gateway.get("/", &[]).await.status, 200);
        fs::write(directory.path("mesh.pem"), Authority::new("mesh").pem()).unwrap();
        gateway.until(|status| number(status, "roots", "rotations") == 2).await;
        if is_kept {
            assert_eq!(gateway.get("/", &[]).await.status, 200);
        } else {
            until(&gateway, |status| status != 200).await;
            assert_eq!(gateway.get("/", &[]).await.status, 502);
        }
    }
}

/// Which server was refused, and why, is in the log; not a line for each request.
#[tokio::test]
async fn a_server_that_is_another_is_refused_and_the_log_says_so() {
    let (log, _guard) = Log::start();
    let (directory, mesh) = (Directory::new("identities-wrong"), Authority::new("mesh"));
    directory.write("mesh.pem", &mesh.pem());
    let theirs = credentials(mesh.workload("spiffe://shop.example/carts"), mesh.trust());
    let (at, _drain) = secured(ServerTls::new(&theirs)).await;
    let upstream =
        format!("endpoints: ['localhost:{}'], tls: {{ roots: mesh.pem, spiffeId: '{ORDERS}' }}", at.port());
    let gateway = start(&directory, &text("", "{ name: public, address: 127.0.0.1:0 }", &upstream)).await;
    for _ in 0..30 {
        assert_eq!(gateway.get("/", &[]).await.status, 502);
    }
    let lines = log.ours().into_iter().filter(|line| line.contains("the handshake with a server failed"));
    let lines: Vec<_> = lines.collect();
    let why = "the server is spiffe://shop.example/carts, and it should be spiffe://shop.example/orders";
    assert!(!lines.is_empty() && lines.len() < 30, "{}", lines.len());
    assert!(
        lines.iter().all(|line| line.contains(why) && line.contains("\"upstream\":\"orders\"")),
        "{lines:?}"
    );
}

/// Without a runtime nobody would look at the files again.
#[test]
fn a_file_with_identities_is_loaded_within_a_runtime_only() {
    let (directory, authority) = (Directory::new("identities-loaded"), Authority::new("public"));
    write(&directory, "shop", authority.sign(dns(&["shop.example"])));
    let text = text(
        "shop: { certificate: shop.pem, privateKey: shop.key }",
        "{ name: public, address: 127.0.0.1:0, tls: { identities: [shop] } }",
        "endpoints: ['127.0.0.1:1']",
    );
    directory.write("gateway.yaml", &text);
    let config = Config::file(directory.path("gateway.yaml"));
    assert!(config.check().is_accepted(), "{}", config.check());
    let refused = config.load().unwrap_err().to_string();
    assert!(refused.ends_with("would not be renewed: load it within a tokio runtime"), "{refused}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { config.load().unwrap() });
}

#[cfg(feature = "spiffe")]
mod agents {
    use super::*;
    use crate::support::agent::{Agent, Svid, Svids, only, svid};

    #[tokio::test]
    async fn an_agent_tells_a_gateway_who_it_is_and_renews_it() {
        let (mesh, agent) = (Authority::new("mesh"), Agent::start());
        let directory = Directory::new("identities-agent");
        directory.write("ca.pem", &mesh.pem());
        let theirs = credentials(mesh.workload(ORDERS), mesh.trust());
        let (at, _drain) = secured(ServerTls::mutual(&theirs)).await;
        let file = |socket: &str, more: &str| {
            text(
                &format!("ours: {{ workloadApi: {{ socket: '{socket}'{more} }} }}"),
                "{ name: public, address: 127.0.0.1:0 }, \
                 { name: mesh, address: 127.0.0.1:0, tls: { identities: [ours], clientCertificates: optional } }",
                &format!(
                    "endpoints: ['localhost:{}'], tls: {{ identity: ours, spiffeId: '{ORDERS}' }}",
                    at.port()
                ),
            )
        };
        // It knows nobody yet: the gateway starts, and shakes no hands.
        let gateway = start(&directory, &file(&agent.path().display().to_string(), "")).await;
        let status = gateway.until(|status| number(status, "identities", "failures") > 0).await;
        let why = status["identities"][0]["lastError"].as_str().unwrap();
        assert!(why.contains("has issued no identity to this process"), "{why}");
        assert_eq!(gateway.get("/", &[]).await.status, 502);
        assert_ne!(curl(&directory, gateway.at("mesh"), "localhost", &[]).await.1, Some(0));
        let readyz = async || {
            let answer = gateway.client.get(gateway.at("admin"), "/readyz", &[]).await;
            (answer.status, answer.text)
        };
        let (unready, why) = readyz().await;
        assert!(unready == 503 && why.starts_with("no identity yet: listener \"mesh\""), "{unready} {why}");

        agent.tell(&only(svid(&mesh, GATEWAY, |_| {})));
        let status = gateway.until(|status| number(status, "identities", "rotations") == 1).await;
        assert_eq!(status["identities"][0]["name"], GATEWAY);
        let asked = async || gateway.get("/", &[]).await.text;
        assert_eq!(asked().await, format!("{GATEWAY} - HTTP/1.1\n"));
        assert_eq!(curl(&directory, gateway.at("mesh"), "localhost", &[]).await.1, Some(0));
        assert_eq!(readyz().await.0, 200);

        // Another root: the gateway believes nobody of before.
        let next = Authority::new("next");
        agent.tell(&only(svid(&next, GATEWAY, |_| {})));
        gateway.until(|status| number(status, "identities", "rotations") == 2).await;
        until(&gateway, |status| status != 200).await;
        theirs.set(Material::new(next.workload(ORDERS), next.trust()));
        until(&gateway, |status| status == 200).await;

        // Of several the one that is named, at an endpoint as the standard writes it.
        let several = [
            svid(&next, "spiffe://shop.example/other", |_| {}),
            Svid { hint: "ours".into(), ..svid(&next, GATEWAY, |_| {}) },
        ];
        agent.tell(&Svids { svids: several.to_vec(), ..Svids::default() });
        for more in [format!(", spiffeId: '{GATEWAY}'"), ", hint: ours".to_owned()] {
            let gateway = start(&directory, &file(&agent.endpoint(), &more)).await;
            let status = gateway.until(|status| number(status, "identities", "rotations") == 1).await;
            assert_eq!(status["identities"][0]["name"], GATEWAY);
        }
    }

    /// A listener whose identity is still to come keeps nobody from those that are served; at the beginning nothing is.
    #[tokio::test]
    async fn who_is_ready_stays_so_whatever_is_awaited_next() {
        let (directory, mesh) = (Directory::new("identities-awaited"), Authority::new("mesh"));
        let behind = format!("endpoints: ['{}']", upstream("orders").await);
        let public = "{ name: public, address: 127.0.0.1:0 }";
        let second =
            format!("{public}, {{ name: second, address: 127.0.0.1:0, tls: {{ identities: [later] }} }}");
        let awaited = "later: { certificate: l.pem, privateKey: l.key, awaited: true }";
        let gateway = start(&directory, &text("", public, &behind)).await;
        let readyz =
            async |gateway: &Gateway| gateway.client.get(gateway.at("admin"), "/readyz", &[]).await.status;
        assert_eq!(readyz(&gateway).await, 200);
        directory.write("gateway.yaml", &text(awaited, &second, &behind));
        gateway.until(|status| status["generation"] == 2).await;
        assert_eq!(readyz(&gateway).await, 200);
        assert_eq!(readyz(&start(&directory, &text(awaited, &second, &behind)).await).await, 503);
        // What is awaited and is there is as any other, and its loss takes nothing away.
        write(&directory, "l", mesh.sign(dns(&["shop.example"])));
        gateway.until(|status| number(status, "identities", "rotations") == 1).await;
        let gateway = start(&directory, &text(awaited, &second, &behind)).await;
        assert_eq!(readyz(&gateway).await, 200);
        fs::remove_file(directory.path("l.pem")).unwrap();
        gateway.until(|status| number(status, "identities", "failures") > 0).await;
        assert_eq!(readyz(&gateway).await, 200);
        // Who does not say so has a fault.
        let refused =
            Config::text("f", text(&awaited.replace(", awaited: true", ""), &second, &behind)).check();
        assert!(!refused.is_accepted());
    }

    #[test]
    fn what_makes_no_sense_beside_an_agent_is_refused() {
        let faults = |ours: &str| {
            let text = text(
                &format!("ours: {{ {ours} }}"),
                "{ name: public, address: 127.0.0.1:0, tls: { identities: [ours] } }",
                "endpoints: ['127.0.0.1:1']",
            );
            Config::text("f", text).check().faults().to_string()
        };
        let socket = "workloadApi: { socket: /run/agent.sock }";
        assert_eq!(faults(socket), "");
        for (ours, why) in [
            (
                format!("{socket}, directory: /etc/certs"),
                "identities.ours.directory: this is what the agent tells",
            ),
            (format!("{socket}, roots: ca.pem"), "identities.ours.roots: this is what the agent tells"),
            (
                format!("{socket}, strictKeyPermissions: true"),
                "strictKeyPermissions: this is what the agent tells",
            ),
            (
                "workloadApi: { socket: agent.sock }".into(),
                "workloadApi.socket: the endpoint of the Workload API begins",
            ),
            (
                "workloadApi: { socket: 'https://a' }".into(),
                "workloadApi.socket: the endpoint of the Workload API begins",
            ),
            (
                format!("workloadApi: {{ socket: /a.sock, hint: a, spiffeId: '{ORDERS}' }}"),
                "expected `spiffeId` or `hint`, not both",
            ),
            ("workloadApi: {}".into(), "SPIFFE_ENDPOINT_SOCKET is not set"),
        ] {
            let told = faults(&ours);
            assert!(told.contains(why), "{ours}: {told}");
        }
    }
}

/// Asks until it is answered so.
async fn until(gateway: &Gateway, is: impl Fn(u16) -> bool) {
    let asked = async { while !is(gateway.get("/", &[]).await.status) {} };
    tokio::time::timeout(PATIENCE, asked).await.expect("in time");
}
