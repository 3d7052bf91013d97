//! Path templates, patterns and policies against any request: what they say is what a reading of them segment by segment
//! and value by value says, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{
    admission::authz::{Authorization, Operation, Pattern, Policy, Rule, Source},
    gate::Gate,
    head::Head,
    identity::Principal,
    matching::{PathPolicy, PathTemplate},
    reject::{Answer, Reason},
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (rule, path, value, scope) = (next(), next(), next(), next());
    template(rule, path);
    if let Ok(pattern) = Pattern::parse(rule) {
        assert!(!pattern.matches(b"") || rule.trim_matches('*').is_empty());
    }
    policy(rule, path, value, scope);
});

/// Against a reading that tries every length of the rest.
fn template(text: &str, path: &str) {
    let Ok(template) = PathTemplate::parse(text) else { return };
    let Ok(path) = PathPolicy::strict().normalize(path) else { return };
    // What has another spelling in its normal form is compared in that one.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/{}*-._~".contains(&byte));
    if path.len() > 256 || !is_plain {
        return;
    }
    let of = |text: &str| text.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(template.matches(&path), fits(&of(text), &of(&path)), "{text} {path}");
}

fn fits(template: &[String], path: &[String]) -> bool {
    match template {
        [] => path.is_empty(),
        [first, rest @ ..] if first == "{**}" => (0..=path.len()).any(|skip| fits(rest, &path[skip..])),
        [first, rest @ ..] => path.split_first().is_some_and(|(segment, others)| {
            let fit = if first.starts_with('{') { !segment.is_empty() } else { first == segment };
            fit && fits(rest, others)
        }),
    }
}

/// A policy that denies and one that allows the same agree, where nothing is in doubt.
fn policy(rule: &str, path: &str, value: &str, scope: &str) {
    let Ok(operation) = Operation::new().paths([rule]) else { return };
    let Ok(operation) = operation.not_query("q", ["*x"]) else { return };
    let source = Source::new().scopes([scope]).unwrap_or_default();
    let made = || Rule::new().from(source.clone()).to(operation.clone());
    let denies = Authorization::new([Policy::deny("d").rule(made())]).expect("it has one name");
    let allows = Authorization::new([Policy::allow("a").rule(made())]).expect("it has one name");
    let Ok(mut request) = http::Request::get(path).header("x-value", value).body(()) else { return };
    request.extensions_mut().insert(Principal::new("p", "", "s").with_scopes([scope, "a"]));
    let repeated =
        request.uri().query().is_some_and(|query| query.matches("q").count() > 1 || query.contains('%'));
    let told =
        |gate: &Authorization, request: &mut http::Request<()>| match gate.check(&mut Head::of(request)) {
            Ok(_) => Reason::NoRoute,
            Err(Answer::Refuse(rejection)) => rejection.reason(),
            Err(_) => Reason::Internal,
        };
    match (told(&denies, &mut request), told(&allows, &mut request)) {
        (Reason::BadRequest, Reason::BadRequest) => {}
        (Reason::Forbidden, Reason::NoRoute) | (Reason::NoRoute, Reason::Forbidden) => {}
        (Reason::Forbidden, Reason::Forbidden) if repeated => {}
        other => panic!("{other:?}"),
    }
}
