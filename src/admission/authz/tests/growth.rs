//! A decision does not grow with the rules that cannot match: counted, not timed.

use http::{Method, Request};

use super::super::{Facts, Operation, Policy, Rule, Source, Tally, set::Set};
use crate::{head::Head, identity::Principal};

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
    let mut request = Request::post(path).header("host", "www.shop.example").body(()).unwrap();
    request.extensions_mut().insert(Principal::new("staff", "", "alice").with_scopes(["openid team3.write"]));
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
