//! What a rule means, field by field.

use super::*;

#[test]
fn each_field_of_a_source_and_its_twin() {
    type Field = fn(&[&str]) -> Made<Source>;
    let fields: [(Field, Field, &[&str], &[&str]); 11] = [
        (
            |l| Source::new().principals(l),
            |l| Source::new().not_principals(l),
            &["customers/alice", "customers/*", "*/alice", "*", "customers/al*"],
            &["partners/alice", "customers/bob", "alice/customers", "customer*/bob"],
        ),
        (
            |l| Source::new().issuers(l),
            |l| Source::new().not_issuers(l),
            &["https://id.example", "https://*", "*"],
            &["id.example", "*.com"],
        ),
        (
            |l| Source::new().scopes(l),
            |l| Source::new().not_scopes(l),
            &["orders.write", "orders.*", "*.read"],
            &["orders", "orders.read orders.write"],
        ),
        (
            |l| Source::new().roles(l),
            |l| Source::new().not_roles(l),
            &["site admin", "site*"],
            &["admin", "site"],
        ),
        (|l| Source::new().plans(l), |l| Source::new().not_plans(l), &["gold"], &["silver"]),
        (|l| Source::new().claim("tier", l), |l| Source::new().not_claim("tier", l), &["3"], &["4"]),
        (
            |l| Source::new().claim("/realm/roles", l),
            |l| Source::new().not_claim("/realm/roles", l),
            &["auditor", "buy*"],
            &["seller"],
        ),
        (
            |l| Source::new().peers(l),
            |l| Source::new().not_peers(l),
            &["spiffe://shop.example/ns/shop/sa/orders", "spiffe://shop.example/*", "*/sa/orders", "*"],
            &["spiffe://shop.example", "shop.example"],
        ),
        (
            |l| Source::new().trust_domains(l),
            |l| Source::new().not_trust_domains(l),
            &["shop.example", "Shop.Example", "*.example"],
            &["example", "shop.example/ns"],
        ),
        (
            |l| Source::new().peer_paths(l),
            |l| Source::new().not_peer_paths(l),
            &["/ns/shop/sa/orders", "/ns/{*}/sa/orders", "/ns/shop/{**}", "/ns/shop/*"],
            &["/ns/shop", "/ns/{*}"],
        ),
        (
            |l| Source::new().namespaces(l),
            |l| Source::new().not_namespaces(l),
            &["shop", "sh*"],
            &["orders", "ns"],
        ),
    ];
    for (yes, no, fits, others) in fields {
        for (list, expected) in
            fits.iter().map(|fit| (fit, true)).chain(others.iter().map(|other| (other, false)))
        {
            let is = |source| means(&Rule::new().from(source), &mut request());
            assert_eq!(is(yes(&[list]).unwrap()), expected, "{list}");
            assert_eq!(is(no(&[list]).unwrap()), !expected, "not {list}");
            assert_eq!(is(yes(&[others[0], list]).unwrap()), expected, "a list with {list}");
        }
        // Of a request that has none of it.
        let nobody = || Request::get("/").header("host", "a").body(()).unwrap();
        assert!(!means(&Rule::new().from(yes(fits).unwrap()), &mut nobody()), "{fits:?}");
        assert!(means(&Rule::new().from(no(fits).unwrap()), &mut nobody()), "not {fits:?}");
        // Of an empty list nobody has a value.
        assert!(!means(&Rule::new().from(yes(&[]).unwrap()), &mut request()));
        assert!(means(&Rule::new().from(no(&[]).unwrap()), &mut request()));
    }
}

#[test]
fn networks_of_the_client_and_of_the_peer() {
    let client = |net: &str| Source::new().networks([net.parse().unwrap()]);
    let connected = |net: &str| Source::new().peer_networks([net.parse().unwrap()]);
    for (source, expected) in [
        (client("10.0.0.0/8"), true),
        (client("10.1.2.3/32"), true),
        (client("0.0.0.0/0"), true),
        (client("192.0.2.0/24"), false),
        (client("::/0"), false),
        (connected("192.0.2.0/24"), true),
        (connected("10.0.0.0/8"), false),
        (Source::new().not_networks(["10.0.0.0/8".parse().unwrap()]), false),
        (Source::new().not_networks(["192.0.2.0/24".parse().unwrap()]), true),
        (Source::new().not_peer_networks(["192.0.2.0/24".parse().unwrap()]), false),
    ] {
        assert_eq!(means(&Rule::new().from(source.clone()), &mut request()), expected, "{source:?}");
    }
}

#[test]
fn each_field_of_an_operation_and_its_twin() {
    type Field = fn(&[&str]) -> Made<Operation>;
    let fields: [(Field, Field, &[&str], &[&str]); 4] = [
        (
            |l| Operation::new().hosts(l),
            |l| Operation::new().not_hosts(l),
            &["shop.example", "SHOP.example", "*.example", "*op.example", "shop.*", "*"],
            &["example", "*.shop.example", "shop.example:8080"],
        ),
        (
            |l| Operation::new().paths(l),
            |l| Operation::new().not_paths(l),
            &[
                "/orders/7",
                "/orders/{id}",
                "/{**}",
                "/orders/{**}",
                "/orders/{**}/7",
                "/ord*",
                "*/7",
                "*",
                "/%6frders/7",
            ],
            &["/orders", "/orders/7/", "/orders/{id}/items", "/order/*"],
        ),
        (
            |l| Operation::new().header(HeaderName::from_static("x-team"), l),
            |l| Operation::new().not_header(HeaderName::from_static("x-team"), l),
            &["blue", "bl*", "*"],
            &["Blue", "red"],
        ),
        (
            |l| Operation::new().query("x", l),
            |l| Operation::new().not_query("x", l),
            &["a b", "a*"],
            &["a%20b", "a"],
        ),
    ];
    for (yes, no, fits, others) in fields {
        for (list, expected) in
            fits.iter().map(|fit| (fit, true)).chain(others.iter().map(|other| (other, false)))
        {
            let is = |operation| means(&Rule::new().to(operation), &mut request());
            assert_eq!(is(yes(&[list]).unwrap()), expected, "{list}");
            assert_eq!(is(no(&[list]).unwrap()), !expected, "not {list}");
        }
    }
    let post = Operation::new().methods([Method::POST, Method::PUT]);
    assert!(means(&Rule::new().to(post), &mut request()));
    assert!(!means(&Rule::new().to(Operation::new().methods([Method::GET])), &mut request()));
    assert!(means(&Rule::new().to(Operation::new().not_methods([Method::GET])), &mut request()));
    let absent = HeaderName::from_static("x-absent");
    assert!(!means(&Rule::new().to(Operation::new().header(absent.clone(), ["*"]).unwrap()), &mut request()));
    assert!(means(&Rule::new().to(Operation::new().not_header(absent, ["*"]).unwrap()), &mut request()));
}

#[test]
fn every_scope_and_every_role_can_be_asked_for() {
    let all = |scopes: &[&str]| Rule::new().from(Source::new().all_scopes(scopes).unwrap());
    assert!(means(&all(&["orders.read", "orders.write"]), &mut request()));
    assert!(!means(&all(&["orders.read", "orders.delete"]), &mut request()));
    assert!(means(&Rule::new().from(Source::new().all_roles(["site admin"]).unwrap()), &mut request()));
    assert!(!means(&Rule::new().from(Source::new().all_roles(["site admin", "x"]).unwrap()), &mut request()));
}

#[test]
fn a_peer_without_a_spiffe_id_is_its_dns_names() {
    let mut request = request();
    request.extensions_mut().insert(PeerIdentity::new([7; 32]).with_dns_names(["a.example", "b.example"]));
    assert!(means(&Rule::new().from(Source::new().peers(["b.example"]).unwrap()), &mut request));
    assert!(!means(&Rule::new().from(Source::new().trust_domains(["*"]).unwrap()), &mut request));
    assert!(means(&Rule::new().from(Source::new().not_trust_domains(["*"]).unwrap()), &mut request));
}

#[test]
fn one_source_one_operation_and_every_predicate() {
    let alice = || Source::new().principals(["customers/alice"]).unwrap();
    let bob = || Source::new().principals(["customers/bob"]).unwrap();
    let orders = || Operation::new().paths(["/orders/{id}"]).unwrap();
    let other = || Operation::new().paths(["/other"]).unwrap();
    for (rule, expected) in [
        (Rule::new(), true),
        (Rule::new().from(Source::new()), true),
        (Rule::new().from(bob()).from(alice()).to(other()).to(orders()), true),
        (Rule::new().from(bob()).to(orders()), false),
        (Rule::new().from(alice()).to(other()), false),
        (Rule::new().from(alice().not_scopes(["orders.write"]).unwrap()), false),
        (Rule::new().from(alice()).when(|facts| facts.method() == Some(&Method::POST)), true),
        (Rule::new().from(alice()).unless(|facts| facts.method() == Some(&Method::POST)), false),
        (Rule::new().when(|_| true).when(|_| false), false),
        (Rule::new().when(|facts| facts.path() == Some("/orders/7")), true),
    ] {
        assert_eq!(means(&rule, &mut request()), expected, "{rule:?}");
    }
}

#[test]
fn spellings_of_a_path_are_one_path() {
    let gate = Authorization::new([
        Policy::deny("d").rule(Rule::new().to(Operation::new().paths(["/admin/{**}"]).unwrap()))
    ])
    .unwrap();
    for path in ["/admin", "/admin/", "//admin", "/x/../admin/a", "/%61dmin", "/admin//x", "/./admin"] {
        assert_eq!(
            refused(&gate, &mut Request::get(path).body(()).unwrap()).unwrap().reason(),
            Reason::Forbidden,
            "{path}"
        );
    }
    assert!(refused(&gate, &mut Request::get("/administrator").body(()).unwrap()).is_none());
}

#[test]
fn a_header_is_seen_as_upstreams_see_it() {
    let name = HeaderName::from_static("x-internal");
    let operation = Operation::new().header(name.clone(), ["true"]).unwrap();
    let deny = Authorization::new([Policy::deny("d").rule(Rule::new().to(operation))]).unwrap();
    let operation = Operation::new().not_header(name, ["true"]).unwrap();
    let allow = Authorization::new([Policy::allow("a").rule(Rule::new().to(operation))]).unwrap();
    for (name, value, refuses) in [
        ("x-internal", "true", true),
        ("x-internal", "true ", true),
        ("x-internal", "\ttrue", true),
        ("x_internal", "true", true),
        ("x-internal", "tr ue", false),
        ("x-internals", "true", false),
        ("x.internal", "true", false),
    ] {
        for gate in [&deny, &allow] {
            let mut request = Request::get("/").header(name, value).body(()).unwrap();
            assert_eq!(refused(gate, &mut request).is_some(), refuses, "{name}: {value:?}");
        }
    }
}
