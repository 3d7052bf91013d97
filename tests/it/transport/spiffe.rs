//! Identities from an agent of SPIFFE, over its socket: who we are, whom we believe, and what an agent can do wrong.

use portcullis::{
    identity::{SpiffeId, TrustDomain},
    tls::{ClientTls, Credentials, ServerId, ServerTls, WorkloadApi},
};
use rcgen::{SerialNumber, date_time_ymd};
use tonic::Status;

use super::{
    soon,
    tls::{ask, serve},
    until,
};
use crate::support::{
    agent::{Agent, Bundles, Svid, Svids, only, svid},
    certificates::{Authority, credentials},
};

const ORDERS: &str = "spiffe://shop.example/orders";
const CARTS: &str = "spiffe://shop.example/carts";
const PARTNER: &str = "spiffe://partner.example/carts";

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn asks(agent: &Agent) -> WorkloadApi {
    WorkloadApi::new(&agent.endpoint()).unwrap()
}

/// Who we are by now.
fn name(credentials: &Credentials) -> Option<String> {
    credentials.current()?.identity.as_ref()?.names().spiffe_id().map(str::to_owned)
}

fn serial(credentials: &Credentials) -> String {
    credentials.current().unwrap().identity.as_ref().unwrap().names().serial().to_owned()
}

/// What these fail with first.
async fn failure(source: WorkloadApi) -> String {
    let credentials = Credentials::follow(source);
    until(|| credentials.status().failures > 0).await;
    assert!(credentials.current().is_none());
    credentials.status().failure.unwrap().to_string()
}

#[tokio::test]
async fn an_agent_tells_who_we_are_and_renews_it() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let agents = [Agent::start(), Agent::start()];
    let told = [(&agents[0], ORDERS), (&agents[1], CARTS)];
    for (agent, id) in told {
        agent.tell(&only(svid(&old, id, |_| {})));
    }
    let [ours, theirs] = [Credentials::follow(asks(&agents[0])), Credentials::follow(asks(&agents[1]))];
    soon(async { tokio::join!(ours.ready(), theirs.ready()) }).await;
    assert_eq!(name(&ours).unwrap(), ORDERS);

    let running = serve(ServerTls::mutual(&ours)).await;
    let tls = ClientTls::mutual(&theirs).server(ServerId::Spiffe(ORDERS.parse().unwrap()));
    let greeting = format!("{CARTS}, localhost");
    assert_eq!(ask(running.address, &tls).await.unwrap(), greeting);

    // Another root, which all believe before anybody has a certificate by it; then the old one goes.
    let both = [old.0.der().to_vec(), new.0.der().to_vec()].concat();
    for (issuer, bundle) in [(&old, both.clone()), (&new, both), (&new, new.0.der().to_vec())] {
        let before = [ours.status().rotations, theirs.status().rotations];
        for (agent, id) in told {
            agent.tell(&only(Svid { bundle: bundle.clone(), ..svid(issuer, id, |_| {}) }));
        }
        until(|| ours.status().rotations > before[0] && theirs.status().rotations > before[1]).await;
        assert_eq!(ask(running.address, &tls).await.unwrap(), greeting);
    }
    let late = ClientTls::mutual(&credentials(old.workload(CARTS), new.trust()));
    ask(running.address, &late).await.unwrap_err();

    // The same again is no rotation.
    let same = only(svid(&new, ORDERS, |params| params.serial_number = Some(SerialNumber::from(7))));
    let before = ours.status().rotations;
    (0..3).for_each(|_| agents[0].tell(&same));
    until(|| ours.status().rotations > before && serial(&ours) == "07").await;
    agents[0].tell(&same);
    agents[0].tell(&only(svid(&new, CARTS, |_| {})));
    until(|| name(&ours).as_deref() == Some(CARTS)).await;
    assert_eq!(ours.status().rotations, before + 2);
}

#[tokio::test]
async fn of_several_identities_the_first_is_ours_unless_told_which() {
    let authority = Authority::new("shop");
    let agent = Agent::start();
    let hinted = |id, hint: &str| Svid { hint: hint.to_owned(), ..svid(&authority, id, |_| {}) };
    let svids = vec![hinted(ORDERS, "internal"), hinted(CARTS, "external"), hinted(PARTNER, "external")];
    agent.tell(&Svids { svids, ..Svids::default() });
    let carts: SpiffeId = CARTS.parse().unwrap();
    for (source, id) in [
        (asks(&agent), ORDERS),
        (asks(&agent).hint("external"), CARTS),
        (asks(&agent).spiffe_id(carts), CARTS),
        (WorkloadApi::new(&agent.listen().await).unwrap(), ORDERS),
    ] {
        let credentials = Credentials::follow(source);
        soon(credentials.ready()).await;
        assert_eq!(name(&credentials).unwrap(), id);
    }
    let missing = failure(asks(&agent).hint("public")).await;
    assert_eq!(missing, "the agent of SPIFFE has no identity for us: none has the hint \"public\"");
    let missing = failure(asks(&agent).spiffe_id("spiffe://shop.example/stock".parse().unwrap())).await;
    assert_eq!(missing, "the agent of SPIFFE has no identity for us: none is spiffe://shop.example/stock");
}

#[tokio::test]
async fn others_are_believed_by_their_own_roots_if_they_are_named() {
    let (shop, partner) = (Authority::new("shop"), Authority::new("partner"));
    let agent = Agent::start();
    let federated = |roots: &[u8]| {
        let others =
            [("spiffe://partner.example", roots), ("spiffe://other.example", b"junk"), ("no domain!", b"")];
        others.map(|(domain, roots)| (domain.to_owned(), roots.to_vec())).into()
    };
    agent.tell(&Svids { federated_bundles: federated(partner.0.der()), ..only(svid(&shop, ORDERS, |_| {})) });
    for (source, believes) in [
        (asks(&agent), false),
        (asks(&agent).federated(domain("other.example")), false),
        (asks(&agent).federated(domain("partner.example")).federated(domain("other.example")), true),
        (asks(&agent).any_federated(), true),
    ] {
        let ours = Credentials::follow(source);
        soon(ours.ready()).await;
        let running = serve(ServerTls::mutual(&ours)).await;
        for (authority, id, is_let_in) in [
            (&shop, CARTS, true),
            (&partner, PARTNER, believes),
            (&partner, CARTS, false),
            (&shop, PARTNER, false),
            (&shop, "spiffe://other.example/carts", false),
        ] {
            let tls = ClientTls::mutual(&credentials(authority.workload(id), shop.trust()));
            let asked = ask(running.address, &tls).await;
            assert_eq!(asked.is_ok(), is_let_in, "{ours:?} {id}: {asked:?}");
        }
    }
    // No federated bundle speaks for our own domain.
    let claim = [("spiffe://shop.example".to_owned(), partner.0.der().to_vec())].into();
    agent.tell(&Svids { federated_bundles: claim, ..only(svid(&shop, ORDERS, |_| {})) });
    let ours = Credentials::follow(asks(&agent).any_federated());
    soon(ours.ready()).await;
    let running = serve(ServerTls::mutual(&ours)).await;
    let tls = ClientTls::mutual(&credentials(partner.workload(CARTS), shop.trust()));
    ask(running.address, &tls).await.unwrap_err();
}

#[tokio::test]
async fn who_needs_no_identity_asks_for_roots_alone() {
    let shop = Authority::new("shop");
    let agent = Agent::start();
    let bundles = [("spiffe://shop.example".to_owned(), shop.0.der().to_vec())].into();
    agent.tell_bundles(&Bundles { bundles, ..Bundles::default() });
    let anybody = Credentials::follow(asks(&agent).without_identity(domain("shop.example")));
    soon(anybody.ready()).await;
    assert!(anybody.current().unwrap().identity.is_none());

    let ours = credentials(shop.workload(ORDERS), shop.trust());
    let running = serve(ServerTls::new(&ours)).await;
    let tls = ClientTls::mutual(&anybody).server(ServerId::TrustDomain(domain("shop.example")));
    assert_eq!(ask(running.address, &tls).await.unwrap(), "nobody, localhost");

    let missing = failure(asks(&agent).without_identity(domain("partner.example"))).await;
    assert_eq!(missing, "the agent of SPIFFE has no roots for partner.example");
}

#[tokio::test]
async fn whom_the_agent_revokes_is_let_in_no_longer() {
    let shop = Authority::new("shop");
    let ours_agent = Agent::start();
    let crl = vec![shop.revoked(7, 2100).der().to_vec()];
    ours_agent.tell(&Svids { crl: crl.clone(), ..only(svid(&shop, ORDERS, |_| {})) });
    let ours = Credentials::follow(asks(&ours_agent));
    soon(ours.ready()).await;
    let running = serve(ServerTls::mutual(&ours)).await;
    let agent = Agent::start();
    for (number, is_let_in) in [(8_u64, true), (7, false)] {
        agent.tell(&only(svid(&shop, CARTS, |params| {
            params.serial_number = Some(SerialNumber::from(number));
        })));
        let theirs = Credentials::follow(asks(&agent));
        soon(theirs.ready()).await;
        assert_eq!(ask(running.address, &ClientTls::mutual(&theirs)).await.is_ok(), is_let_in, "{number}");
    }

    // Lists that cannot be read let nobody in, and our own certificate is renewed all the same.
    agent.tell(&only(svid(&shop, CARTS, |params| params.serial_number = Some(SerialNumber::from(8_u64)))));
    let theirs = Credentials::follow(asks(&agent));
    soon(theirs.ready()).await;
    let theirs = ClientTls::mutual(&theirs);
    for (lists, number, is_let_in) in [(vec![b"junk".to_vec()], 21_u64, false), (crl, 22, true)] {
        let renewed = svid(&shop, ORDERS, |params| params.serial_number = Some(SerialNumber::from(number)));
        ours_agent.tell(&Svids { crl: lists, ..only(renewed) });
        let serial = format!("{number:02x}");
        let is_it = || {
            let material = ours.current().unwrap();
            material.identity.as_ref().is_some_and(|identity| identity.names().serial() == serial)
        };
        soon(async {
            while !is_it() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(ours.status().revocation_failure.is_none(), is_let_in, "{:?}", ours.status());
        assert_eq!(ask(running.address, &theirs).await.is_ok(), is_let_in, "{number}");
    }
}

#[tokio::test]
async fn while_the_agent_is_away_all_stays_as_it_was() {
    let shop = Authority::new("shop");
    let mut agent = Agent::start();
    let numbered = |number: u64| {
        only(svid(&shop, ORDERS, |params| params.serial_number = Some(SerialNumber::from(number))))
    };
    agent.tell(&numbered(1));
    let ours = Credentials::follow(asks(&agent));
    soon(ours.ready()).await;
    let running = serve(ServerTls::mutual(&ours)).await;
    let tls = ClientTls::mutual(&credentials(shop.workload(CARTS), shop.trust()));

    agent.kill();
    until(|| ours.status().failures > 1).await;
    assert!(ours.status().failure.unwrap().starts_with("the agent of SPIFFE cannot be reached: "));
    ask(running.address, &tls).await.unwrap();

    // It is back, and knows nobody yet.
    agent.revive();
    until(|| ours.status().failure.is_some_and(|why| why.contains("has issued no identity"))).await;
    assert_eq!((serial(&ours), ours.status().rotations), ("01".to_owned(), 1));
    agent.tell(&numbered(2));
    until(|| serial(&ours) == "02").await;
    assert_eq!((ours.status().failures, ours.status().rotations), (0, 2));
    ask(running.address, &tls).await.unwrap();
}

#[expect(clippy::too_many_lines, reason = "most of them are a list")]
#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let (shop, other) = (Authority::new("shop"), Authority::new("other"));
    let agent = Agent::start();
    let good = svid(&shop, ORDERS, |_| {});
    let expired = svid(&shop, ORDERS, |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let nameless = svid(&shop, ORDERS, |params| params.subject_alt_names.truncate(0));
    agent.tell(&only(good.clone()));
    let ours = Credentials::follow(asks(&agent));
    soon(ours.ready()).await;
    let before = ours.current().unwrap();

    let bad = [
        (Svid { x509_svid: b"junk".to_vec(), ..good.clone() }, "expected a certificate"),
        (Svid { x509_svid: Vec::new(), ..good.clone() }, "expected a certificate"),
        (
            Svid { x509_svid: [&good.x509_svid[..], b"junk"].concat(), ..good.clone() },
            "expected a certificate",
        ),
        (Svid { x509_svid: good.x509_svid.repeat(17), ..good.clone() }, "expected a certificate"),
        (Svid { x509_svid_key: b"junk".to_vec(), ..good.clone() }, "expected a private key"),
        (
            Svid { x509_svid_key: svid(&other, CARTS, |_| {}).x509_svid_key, ..good.clone() },
            "is not the certificate's",
        ),
        (Svid { bundle: b"junk".to_vec(), ..good.clone() }, "expected certificates"),
        (Svid { bundle: Vec::new(), ..good.clone() }, "no root certificate was found"),
        (Svid { spiffe_id: CARTS.to_owned(), ..good.clone() }, "another's certificate"),
        (Svid { spiffe_id: "orders".to_owned(), ..good.clone() }, "begins with `spiffe://`"),
        (nameless, "another's certificate"),
        (expired, "an identity that has expired: spiffe://shop.example/orders"),
    ];
    for (svid, why) in bad {
        agent.tell(&only(svid));
        let said = failure(asks(&agent)).await;
        assert!(said.contains(why), "{said:?} should say {why:?}");
    }
    for (bytes, why) in [
        (vec![0; 5 << 20], "longer than 4 MiB"),
        (b"junk".to_vec(), "no message of protobuf"),
        (Vec::new(), "it told none"),
    ] {
        agent.tell_bytes(bytes);
        let said = failure(asks(&agent)).await;
        assert!(said.contains(why), "{said:?} should say {why:?}");
    }
    agent.tell(&Svids { crl: vec![b"junk".to_vec()], ..only(good.clone()) });
    assert!(failure(asks(&agent)).await.contains("revocation lists"));
    for (status, why) in [
        (
            Status::permission_denied("who are you?"),
            "has issued no identity to this process: \"who are you?\"",
        ),
        (Status::unavailable("not\nnow"), "the gRPC status UNAVAILABLE: \"not\\nnow\""),
    ] {
        agent.refuse(status);
        let said = failure(asks(&agent)).await;
        assert!(said.contains(why), "{said:?} should say {why:?}");
    }
    // Who had an identity before has it still.
    until(|| ours.status().failures > 0).await;
    assert_eq!(ours.current().unwrap(), before);
    assert_eq!(ours.status().rotations, 1);
}

/// Something else is there, or nothing that speaks.
#[tokio::test]
async fn what_is_no_agent_is_none() {
    let nothing = failure(WorkloadApi::new("unix:///nowhere/agent.sock").unwrap()).await;
    assert!(nothing.starts_with("the agent of SPIFFE cannot be reached: "), "{nothing}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, axum::Router::new()).into_future());
    let said = failure(WorkloadApi::new(&format!("tcp://{address}")).unwrap()).await;
    assert_eq!(said, "the agent of SPIFFE answered 404 Not Found");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 smtp.example\r\n").await;
        }
    });
    let said = failure(WorkloadApi::new(&format!("tcp://{address}")).unwrap()).await;
    assert!(said.starts_with("the connection to the agent of SPIFFE broke: "), "{said}");
}
