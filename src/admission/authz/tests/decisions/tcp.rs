//! As policies are for TCP.

use super::*;

/// The tasks of Istio's documents, "Authorization Policy: TCP Traffic".
#[test]
fn policies_for_tcp_are_as_istio_has_them() {
    let address = |text: &str| PeerAddr::new(text.parse().unwrap());
    let caller = |id: &str| PeerIdentity::new([7; 32]).with_spiffe_id(id);
    let (curl, other) =
        (caller("spiffe://cluster.local/ns/foo/sa/curl"), caller("spiffe://cluster.local/ns/bar/sa/curl"));
    let from = |source: Source| Rule::new().from(source);
    let get = || Operation::new().methods([Method::GET]);
    let admits = |policies: &[Policy], peer: Option<&PeerIdentity>| {
        let policies = Authorization::new(policies.to_vec()).unwrap();
        let told = policies.check_connection(address("10.1.2.3:4000"), peer);
        let counted: u64 = policies.tally().read().iter().map(|count| count.decisions).sum();
        assert_eq!(counted, 1);
        told.map_err(|refusal| refusal.reason()) == Ok(())
    };
    let foo = Source::new().namespaces(["foo"]).unwrap();
    let account = |text: &str| Source::new().service_accounts([text]).unwrap();
    for (policies, curl_passes, other_passes, nobody_passes) in [
        // Nothing is said of it.
        (vec![], true, true, true),
        // An ALLOW rule that asks for a method means no connection, and another may.
        (vec![Policy::allow("a").rule(from(foo.clone()).to(get()))], false, false, false),
        (
            vec![Policy::allow("a").rule(from(foo.clone()).to(get())).rule(from(foo.clone()))],
            true,
            false,
            false,
        ),
        // Of a DENY rule the method is left out, and what else it says counts.
        (vec![Policy::deny("d").rule(from(foo.clone()).to(get()))], false, true, true),
        (vec![Policy::deny("d").rule(Rule::new().to(get()))], false, false, false),
        // A caller without a certificate is in no namespace, and so in none of these.
        (
            vec![Policy::deny("d").rule(from(Source::new().not_namespaces(["foo"]).unwrap()))],
            true,
            false,
            false,
        ),
        (vec![Policy::allow("a").rule(from(account("foo/curl")))], true, false, false),
        (vec![Policy::allow("a").rule(from(account("*/curl")))], true, true, false),
        (vec![Policy::allow("a").rule(from(account("foo/*")))], true, false, false),
        (vec![Policy::allow("a").rule(from(account("*/*")))], true, true, false),
        (
            vec![Policy::deny("d").rule(from(Source::new().not_service_accounts(["foo/c*"]).unwrap()))],
            true,
            false,
            false,
        ),
    ] {
        let passes = [Some(&curl), Some(&other), None].map(|peer| admits(&policies, peer));
        assert_eq!(passes, [curl_passes, other_passes, nobody_passes], "{policies:?}");
    }
    for wrong in ["", "foo", "/", "foo/", "a*b/c"] {
        assert!(Source::new().service_accounts([wrong]).is_err(), "{wrong}");
    }
}
