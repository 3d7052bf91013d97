//! Who is nobody, and what is in doubt.

use super::*;

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
