//! A decision does not grow with the rules that cannot match: counted, not timed.

use http::{HeaderName, Method, Request};

use super::super::{Facts, InvalidValue, Operation, Policy, Rule, Source, Tally, set::Set};
use crate::{
    head::Head,
    identity::{PeerIdentity, Principal},
};

/// A rule for each of so many operations, as a shop with teams, hosts and versions has them.
fn rules(count: usize) -> Set {
    let rule = |n: usize| {
        let team = Source::new().scopes([format!("team{}.write", n % 50)]).unwrap();
        let operation = Operation::new().hosts(["*.shop.example"]).unwrap().methods([Method::POST]);
        Rule::new().from(team).to(operation.paths([format!("/api/v1/thing{n}/{{id}}/items")]).unwrap())
    };
    let allows = (0..count).fold(Policy::allow("teams"), |policy, n| policy.rule(rule(n)));
    let admin = Operation::new().paths(["/admin/{**}"]).unwrap();
    let denies = Policy::deny("no-outsiders").rule(Rule::new().to(admin));
    Set::new([&denies, &allows].into_iter(), &Tally::new(), false).unwrap()
}

fn asked(set: &Set, path: &str) -> Vec<u32> {
    let mut request =
        Request::post(path).header("host", "www.shop.example").header("x-team", "team3.eu").body(()).unwrap();
    let alice = Principal::new("staff", "https://id3.example/eu", "alice");
    let alice = alice.with_scopes(["openid team3.write"]).with_roles(["team3.admin"]).with_plan("gold.3");
    request.extensions_mut().insert(alice);
    request
        .extensions_mut()
        .insert(PeerIdentity::new([7; 32]).with_spiffe_id("spiffe://shop.example/ns/team3-eu/sa/x"));
    let head = Head::of(&mut request);
    let mut asked = Vec::new();
    set.index().candidates(&Facts::of(&head).unwrap(), |clause| asked.push(clause));
    asked
}

#[test]
fn ten_rules_and_a_thousand_ask_the_same_number_of_clauses() {
    for count in [10, 1_000, 10_000] {
        let set = rules(count);
        assert_eq!(asked(&set, "/api/v1/thing3/7/items"), [4], "{count}");
        assert_eq!(asked(&set, "/api/v1/other/7/items"), [0_u32; 0], "{count}");
    }
}

/// Whatever it is that each rule asks for first or last, however they are divided.
#[test]
fn beginnings_and_ends_are_found_as_whole_texts_are() {
    type Rules = fn(usize) -> Rule;
    fn from(source: Result<Source, InvalidValue>) -> Rule {
        Rule::new().from(source.unwrap())
    }
    fn to(operation: Result<Operation, InvalidValue>) -> Rule {
        Rule::new().to(operation.unwrap())
    }
    let kinds: [(&str, Rules); 12] = [
        ("scopes", |n| from(Source::new().scopes([format!("team{n}.*")]))),
        ("scopes by their end", |n| from(Source::new().scopes([format!("*am{n}.write")]))),
        ("roles", |n| from(Source::new().roles([format!("team{n}.*")]))),
        ("plans", |n| from(Source::new().plans([format!("*.{n}")]))),
        ("issuers", |n| from(Source::new().issuers([format!("https://id{n}.*")]))),
        ("peers", |n| from(Source::new().peers([format!("spiffe://shop.example/ns/team{n}-*")]))),
        ("hosts", |n| to(Operation::new().hosts([if n == 3 { "www*".into() } else { format!("w{n}-*") }]))),
        ("hosts by their end", |n| {
            to(Operation::new().hosts([if n == 3 {
                "*w.shop.example".into()
            } else {
                format!("*{n}.shop.example")
            }]))
        }),
        ("paths", |n| to(Operation::new().paths([format!("/thing{n}*")]))),
        ("paths by their end", |n| to(Operation::new().paths([format!("*/thing{n}/items")]))),
        ("headers", |n| {
            to(Operation::new().header(HeaderName::from_static("x-team"), [format!("team{n}.*")]))
        }),
        ("queries", |n| to(Operation::new().query("team", [format!("{n}-*")]))),
    ];
    for (kind, rule) in kinds {
        for count in [10, 1_000] {
            let policy = (0..count).fold(Policy::allow("p"), |policy, n| policy.rule(rule(n)));
            let set = Set::new([&policy].into_iter(), &Tally::new(), false).unwrap();
            assert_eq!(asked(&set, "/thing3/items?team=3-eu"), [3], "{kind}");
        }
    }
}

/// What is not kept under anything is asked each time: the module says so.
#[test]
fn what_a_rule_rules_out_finds_nothing() {
    let rule = |n: usize| Rule::new().from(Source::new().not_scopes([format!("team{n}.write")]).unwrap());
    let policy = (0..10).fold(Policy::allow("p"), |policy, n| policy.rule(rule(n)));
    let set = Set::new([&policy].into_iter(), &Tally::new(), false).unwrap();
    assert_eq!(asked(&set, "/").len(), 10);
}
