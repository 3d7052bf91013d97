//! Which policies can be made.

use super::*;

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
