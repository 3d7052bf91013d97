use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, Method, Request};

use super::super::*;
use crate::{
    gate::{Gate, Pass},
    head::Head,
    identity::{ClaimLookup, ClientAddr, PeerAddr, PeerIdentity, Principal},
    matching::{PathPolicy, PathQuirk},
    reject::{Answer, Protocol, Reason, Rejection},
    trail::Trail,
};

struct Claims;

impl ClaimLookup for Claims {
    fn claim(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        (name == "tier").then_some("3".into())
    }
    fn any_claim(&self, name: &str, found: &mut dyn FnMut(&str) -> bool) -> bool {
        match name {
            "/realm/roles" => ["buyer", "auditor"].into_iter().any(found),
            name => self.claim(name).is_some_and(|claim| found(&claim)),
        }
    }
}

fn alice() -> Principal {
    Principal::new("customers", "https://id.example", "alice")
        .with_scopes(["orders.read orders.write"])
        .with_roles(["site admin"])
        .with_plan("gold")
        .with_expiry(SystemTime::UNIX_EPOCH)
        .with_claims(Arc::new(Claims))
}

fn peer() -> PeerIdentity {
    PeerIdentity::new([7; 32]).with_spiffe_id("spiffe://shop.example/ns/shop/sa/orders")
}

/// `POST http://Shop.Example:8080/orders/7?dry=1&x=a%20b` of Alice, from 10.1.2.3 through 192.0.2.1.
fn request() -> Request<()> {
    let mut request = Request::post("/orders/7?dry=1&x=a%20b")
        .header("host", "Shop.Example:8080")
        .header("x-team", "blue")
        .body(())
        .unwrap();
    let extensions = request.extensions_mut();
    extensions.insert(alice());
    extensions.insert(peer());
    extensions.insert(ClientAddr::new([10, 1, 2, 3].into(), None));
    extensions.insert(PeerAddr::new(([192, 0, 2, 1], 4000).into()));
    request
}

fn refused(gate: &Authorization, request: &mut Request<()>) -> Option<Rejection> {
    match gate.check(&mut Head::of(request)) {
        Ok(_) => None,
        Err(Answer::Refuse(rejection)) => Some(rejection),
        Err(other) => panic!("{other:?}"),
    }
}

/// Whether a rule means a request, asked of a policy that denies and of one that allows: where nothing is in doubt they
/// agree.
fn means(rule: &Rule, request: &mut Request<()>) -> bool {
    let denies = Authorization::new([Policy::deny("d").rule(rule.clone())]).unwrap();
    let allows = Authorization::new([Policy::allow("a").rule(rule.clone())]).unwrap();
    let means = refused(&denies, request).is_some();
    assert_eq!(refused(&allows, request).is_none(), means, "{rule:?}");
    means
}

type Made<T> = Result<T, InvalidValue>;

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
fn deny_comes_before_allow_and_what_nothing_means_passes_only_without_allow() {
    let orders = || Rule::new().to(Operation::new().paths(["/orders/{id}"]).unwrap());
    let other = || Rule::new().to(Operation::new().paths(["/other"]).unwrap());
    for (policies, decision) in [
        (vec![], "allow _none"),
        (vec![Policy::deny("d").rule(other())], "allow _none"),
        (vec![Policy::deny("d")], "allow _none"),
        (vec![Policy::allow("a")], "deny _none"),
        (vec![Policy::allow("a").rule(other())], "deny _none"),
        (vec![Policy::allow("a").rule(other()).rule(orders().name("own"))], "allow a/own"),
        (vec![Policy::allow("a").rule(orders()), Policy::deny("d").rule(other()).rule(orders())], "deny d/1"),
        (vec![Policy::allow("a").rule(orders()), Policy::allow("b").rule(Rule::new())], "allow a/0"),
        (vec![Policy::deny("all").rule(Rule::new()), Policy::deny("d").rule(orders())], "deny all/0"),
    ] {
        let gate = Authorization::new(policies).unwrap();
        let mut request = request();
        let head = Head::of(&mut request);
        assert_eq!(gate.decide(&Facts::of(&head).unwrap()).to_string(), decision, "{gate:?}");
    }
}

#[test]
fn each_row_of_answers_as_http_and_as_grpc() {
    let gate = Authorization::new([
        Policy::deny("d").rule(Rule::new().to(Operation::new().paths(["/orders/{id}"]).unwrap()))
    ])
    .unwrap();
    let refusal = refused(&gate, &mut request()).unwrap();
    assert_eq!(refusal.detail_text(), Some("denied by the rule `0` of the policy `d`"));
    assert_eq!(refusal.clone().into_response(Protocol::Http).status(), 403);
    assert_eq!(refusal.into_response(Protocol::Grpc).headers()["grpc-status"], "7");

    for path in ["/a%2fb", "/..", "/a/..;/b", "/%zz"] {
        let mut request = Request::get(path).header("host", "a").body(()).unwrap();
        let refusal = refused(&gate, &mut request).unwrap();
        assert_eq!(refusal.reason(), Reason::BadRequest, "{path}");
        assert_eq!(refusal.into_response(Protocol::Grpc).headers()["grpc-status"], "13");
    }
    let by_host =
        Authorization::new([Policy::deny("d").rule(Rule::new().to(Operation::new().hosts(["a"]).unwrap()))])
            .unwrap();
    for request in [
        Request::get("/"),
        Request::get("/").header("host", "a").header("host", "b"),
        Request::get("/").header("host", "a b"),
    ] {
        assert_eq!(refused(&by_host, &mut request.body(()).unwrap()).unwrap().reason(), Reason::BadRequest);
    }
    // Who does not ask does not look.
    let none = Authorization::new([]).unwrap();
    assert!(refused(&none, &mut Request::get("/a%2fb").body(()).unwrap()).is_none());
    let lenient = gate.paths(PathPolicy::strict().allow(PathQuirk::EncodedSlash));
    assert!(refused(&lenient, &mut Request::get("/a%2fb").body(()).unwrap()).is_none());
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

#[test]
fn what_is_in_doubt_counts_against_the_caller() {
    let twice = || {
        let request =
            Request::get("/?role=user&role=admin").header("x-role", "user").header("x-role", "admin");
        request.body(()).unwrap()
    };
    let name = HeaderName::from_static("x-role");
    for operation in [
        Operation::new().header(name.clone(), ["admin"]).unwrap(),
        Operation::new().header(name.clone(), ["user"]).unwrap(),
        Operation::new().not_header(name.clone(), ["admin"]).unwrap(),
        Operation::new().query("role", ["admin"]).unwrap(),
        Operation::new().query("role", ["user"]).unwrap(),
        Operation::new().not_query("role", ["user"]).unwrap(),
    ] {
        let deny = Authorization::new([Policy::deny("d").rule(Rule::new().to(operation.clone()))]).unwrap();
        let allow = Authorization::new([Policy::allow("a").rule(Rule::new().to(operation.clone()))]).unwrap();
        assert!(
            refused(&deny, &mut twice()).is_some() && refused(&allow, &mut twice()).is_some(),
            "{operation:?}"
        );
    }
    // Where all lines agree there is no doubt.
    assert!(means(
        &Rule::new().to(Operation::new().header(name.clone(), ["user", "admin"]).unwrap()),
        &mut twice()
    ));
    assert!(!means(
        &Rule::new().to(Operation::new().not_header(name, ["user", "admin"]).unwrap()),
        &mut twice()
    ));
}

#[test]
fn on_a_connection_that_is_no_http_deny_matches_what_it_lacks_and_allow_does_not() {
    let rule =
        |operation: Operation| Rule::new().from(Source::new().namespaces(["shop"]).unwrap()).to(operation);
    let peer = peer();
    let address = Some(PeerAddr::new(([10, 1, 2, 3], 1).into()));
    let facts = Facts::of_connection(address, Some(&peer));
    let decide = |policy: Policy| Authorization::new([policy]).unwrap().decide(&facts).to_string();
    for operation in [
        Operation::new().paths(["/admin"]).unwrap(),
        Operation::new().not_paths(["/admin"]).unwrap(),
        Operation::new().methods([Method::GET]),
        Operation::new().hosts(["a"]).unwrap(),
        Operation::new().header(HeaderName::from_static("a"), ["b"]).unwrap(),
        Operation::new().not_query("a", ["b"]).unwrap(),
    ] {
        assert_eq!(decide(Policy::deny("d").rule(rule(operation.clone()))), "deny d/0", "{operation:?}");
        assert_eq!(decide(Policy::allow("a").rule(rule(operation.clone()))), "deny _none", "{operation:?}");
    }
    for source in [Source::new().principals(["*"]).unwrap(), Source::new().not_scopes(["a"]).unwrap()] {
        assert_eq!(
            decide(Policy::deny("d").rule(Rule::new().from(source.clone()))),
            "deny d/0",
            "{source:?}"
        );
        assert_eq!(
            decide(Policy::allow("a").rule(Rule::new().from(source.clone()))),
            "deny _none",
            "{source:?}"
        );
    }
    // What it has is compared as ever.
    let other = Source::new().namespaces(["bank"]).unwrap();
    let admin = Operation::new().paths(["/admin"]).unwrap();
    assert_eq!(decide(Policy::deny("d").rule(Rule::new().from(other).to(admin))), "allow _none");
    let network = Source::new().networks(["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(decide(Policy::allow("a").rule(Rule::new().from(network))), "allow a/0");
}

#[test]
fn the_anonymous_principal_is_nobody() {
    let mut request = request();
    request.extensions_mut().insert(Principal::anonymous());
    assert!(!means(&Rule::new().from(Source::new().principals(["*"]).unwrap()), &mut request));
    assert!(means(&Rule::new().from(Source::new().not_principals(["*"]).unwrap()), &mut request));
}

#[test]
fn a_provider_with_a_slash_speaks_for_no_other() {
    let mut request = request();
    request.extensions_mut().insert(Principal::new("a/b", "", "c"));
    assert!(!means(&Rule::new().from(Source::new().principals(["a/b/c"]).unwrap()), &mut request));
    request.extensions_mut().insert(Principal::new("a", "", "b/c"));
    assert!(means(&Rule::new().from(Source::new().principals(["a/b/c"]).unwrap()), &mut request));
}

#[test]
fn every_decision_names_who_made_it() {
    let orders = Rule::new().name("orders").to(Operation::new().paths(["/orders/{id}"]).unwrap());
    let told = HeaderName::from_static("x-decision");
    for (policy, decision, trail) in [
        (Policy::allow("a").rule(orders.clone()), "allow a/orders", "a/orders"),
        (Policy::deny("d").rule(orders), "deny d/orders", "d/orders"),
        (Policy::allow("nothing"), "deny _none", "_none"),
        (Policy::deny("nothing"), "allow _none", "_none"),
    ] {
        let gate = Authorization::new([policy]).unwrap().told_in(told.clone());
        let mut request = request();
        let slate = Trail::join(&mut Head::of(&mut request));
        let header = match gate.check(&mut Head::of(&mut request)) {
            Err(Answer::Refuse(refusal)) => refusal.headers()[&told].clone(),
            Ok(mut pass) => {
                let (mut parts, ()) = http::Response::new(()).into_parts();
                pass.on_head(&mut parts);
                parts.headers[&told].clone()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(header, decision);
        assert_eq!(slate.decision(), Some(trail));
        let counts: Vec<_> = gate.tally().read().into_iter().filter(|count| count.decisions > 0).collect();
        assert_eq!(counts.len(), 1);
        let name = if counts[0].rule.is_empty() {
            counts[0].policy.to_string()
        } else {
            format!("{}/{}", counts[0].policy, counts[0].rule)
        };
        assert_eq!(format!("{} {name}", counts[0].action), decision);
    }
}

#[test]
fn a_policy_in_shadow_changes_nothing_and_is_counted() {
    let orders = || Rule::new().to(Operation::new().paths(["/orders/{id}"]).unwrap());
    let gate =
        Authorization::new([Policy::allow("a").rule(orders()), Policy::deny("new").rule(orders()).shadow()])
            .unwrap();
    let mut asked = request();
    assert!(refused(&gate, &mut asked).is_none());
    let head = Head::of(&mut asked);
    let facts = Facts::of(&head).unwrap();
    assert_eq!(gate.decide(&facts).to_string(), "allow a/0");
    assert_eq!(gate.try_out(&facts).unwrap().to_string(), "deny new/0");
    let counted: Vec<_> = gate.tally().read().into_iter().filter(|count| count.decisions > 0).collect();
    let shown: Vec<_> =
        counted.iter().map(|count| (&*count.policy, count.action, count.shadow, count.decisions)).collect();
    assert_eq!(shown, [("a", "allow", false, 1), ("new", "deny", true, 1)]);
    // A first policy that allows would shut out the rest.
    let gate = Authorization::new([Policy::allow("first")
        .rule(Rule::new().to(Operation::new().paths(["/x"]).unwrap()))
        .shadow()])
    .unwrap();
    assert!(refused(&gate, &mut request()).is_none());
    assert_eq!(gate.try_out(&facts).unwrap().to_string(), "deny _none");
    assert!(Authorization::new([]).unwrap().try_out(&facts).is_none());
}

#[test]
fn numbers_go_on_when_policies_are_compiled_again() {
    let tally = Tally::new();
    for _ in 0..3 {
        let gate = Authorization::counted([Policy::deny("d").rule(Rule::new())], tally.clone()).unwrap();
        assert!(refused(&gate, &mut request()).is_some());
    }
    assert_eq!(tally.read().iter().map(|count| count.decisions).max(), Some(3));
}

#[test]
fn names_are_unique_and_sizes_are_bounded() {
    let two = Authorization::new([Policy::deny("x"), Policy::allow("x")]);
    assert_eq!(two.unwrap_err(), InvalidPolicies::Duplicate("x".into()));
    let twins = Policy::deny("x").rule(Rule::new().name("1")).rule(Rule::new());
    assert_eq!(
        Authorization::new([twins]).unwrap_err(),
        InvalidPolicies::DuplicateRule("x".into(), "1".into())
    );
    assert_eq!(
        Authorization::new([Policy::custom("c")]).unwrap_err(),
        InvalidPolicies::Misplaced("c".into())
    );
    let many = (0..1_000).fold(Rule::new(), |rule, _| rule.from(Source::new()).to(Operation::new()));
    assert!(matches!(Authorization::new([Policy::deny("x").rule(many)]), Err(InvalidPolicies::TooMany(_))));
}

#[test]
fn rules_that_mean_nothing_or_everything_are_told() {
    let contradictory = Source::new().scopes(["a"]).unwrap().not_scopes(["a*"]).unwrap();
    assert!(Rule::new().from(contradictory.clone()).is_contradictory());
    assert!(!Rule::new().from(contradictory).from(Source::new()).is_contradictory());
    assert!(
        !Rule::new()
            .from(Source::new().scopes(["a", "b"]).unwrap().not_scopes(["a"]).unwrap())
            .is_contradictory()
    );
    assert!(Rule::new().is_for_all() && Rule::new().from(Source::new()).is_for_all());
    assert!(!Rule::new().when(|_| true).is_for_all());
    let orders = || Rule::new().to(Operation::new().paths(["/orders"]).unwrap());
    assert!(orders().is_same(&orders().name("x")) && !orders().is_same(&Rule::new()));
}

#[test]
fn values_that_can_match_nothing_are_refused() {
    assert_eq!(Source::new().scopes([""]).unwrap_err(), InvalidValue::Empty);
    assert_eq!(Source::new().principals(["alice"]).unwrap_err(), InvalidValue::Principal);
    assert_eq!(Operation::new().hosts(["a*b"]).unwrap_err(), InvalidValue::Wildcard);
    for path in ["orders", "/a//b", "/a/../b*", "/a?b*", "*/../x", "/x{y}*", "/a//*"] {
        assert!(matches!(Operation::new().paths([path]), Err(InvalidValue::Path(_))), "{path}");
    }
}

#[test]
fn a_decision_allocates_nothing() {
    let policies = (0..100).map(|n| {
        let rule = Rule::new()
            .from(Source::new().scopes([format!("s{n}")]).unwrap())
            .to(Operation::new().paths([format!("/orders/{{id}}/{n}")]).unwrap());
        Policy::deny(format!("p{n}")).rule(rule)
    });
    let readers = Rule::new()
        .from(Source::new().scopes(["orders.read"]).unwrap())
        .to(Operation::new().hosts(["shop.example"]).unwrap());
    let gate = Authorization::new(policies.chain([Policy::allow("readers").rule(readers)])).unwrap();
    let mut request = request();
    request.headers_mut().insert("host", "shop.example".parse().unwrap());
    let mut head = Head::of(&mut request);
    let told = allocation_counter::measure(|| assert!(gate.check(&mut head).unwrap().is_none()));
    assert_eq!(told.count_total, 0);
    const { assert!(!Authorization::SHAREABLE) };
}

#[test]
fn a_guest_is_nobody_in_particular_unless_it_is_named() {
    let guest = || {
        let mut request = request();
        request.extensions_mut().insert(Principal::new("anonymous", "", "guest").into_guest());
        request
    };
    let of = |who: &str| Rule::new().from(Source::new().principals([who]).unwrap());
    for anybody in ["*", "*/*"] {
        assert!(!means(&of(anybody), &mut guest()) && means(&of(anybody), &mut request()), "{anybody}");
    }
    let but_anybody = Rule::new().from(Source::new().not_principals(["*"]).unwrap());
    assert!(means(&but_anybody, &mut guest()) && !means(&but_anybody, &mut request()));
    for named in ["anonymous/guest", "anonymous/*", "*/guest"] {
        assert!(means(&of(named), &mut guest()), "{named}");
    }
}
