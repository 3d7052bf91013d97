mod built;
mod doubt;
mod fields;
mod tcp;

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
