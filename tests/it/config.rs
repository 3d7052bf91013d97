//! The configuration file: what is accepted, and what is said of what is not.
use std::{fs, path::PathBuf};

use portcullis::{
    config::{Config, Registry, Severity},
    gate::Gate,
    head::Head,
    reject::{Answer, Reason},
};

/// Compares with a file under `tests/data`; with `BLESS=1` in the environment it is written.
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

fn check(file: &str) -> String {
    format!("{}\n", Config::file(format!("tests/data/{file}")).check())
}

/// A file with one rule, and these lines before its routes.
fn with_rule(before: &str, rule: &str) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n{before}\
         listeners: [{{ name: public, address: 127.0.0.1:8080 }}]\n\
         upstreams: {{ one: {{ endpoints: [127.0.0.1:9001] }}, two: {{ endpoints: [127.0.0.1:9002] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], {rule} }}] }}]\n"
    )
}

fn faults(text: &str) -> Vec<String> {
    Config::text("f", text).check().faults().iter().map(ToString::to_string).collect()
}

#[test]
fn the_shop_is_accepted_and_its_public_rules_are_listed() {
    golden("shop/check.txt", &check("shop/gateway.yaml"));
}

#[test]
fn a_field_whose_room_is_not_built_is_refused_by_name() {
    let faults = faults(&with_rule("", "filters: [{ type: ExternalAuth, externalAuth: {} }]"));
    let why = "filters[0].externalAuth: not supported yet: External authorization (`ExternalAuth`) comes with a later version.";
    assert!(faults.iter().any(|fault| fault.ends_with(why)), "{faults:?}");
}

/// One of each fault, all reported at once, each at its place, and none of them repeats a value.
#[test]
fn every_fault_is_reported_at_its_place_without_its_value() {
    let said = check("faulty/gateway.yaml");
    assert!(!said.contains("TELLTALE"), "{said}");
    golden("faulty/check.txt", &said);
}

#[test]
fn the_version_of_the_format_guards_the_rest() {
    assert_eq!(
        faults("apiVersion: portcullis/v1alpha1\n").first().unwrap(),
        "f:1:1: listeners: a gateway needs a listener"
    );
    assert!(
        faults("apiVersion: v2\nfoo: 1\n").iter().any(|fault| fault.starts_with("f:2:1: foo: unknown field"))
    );
    assert!(
        faults("apiVersion: v2\n")
            .iter()
            .any(|fault| fault == "f:1:13: apiVersion: expected `portcullis/v1alpha1`")
    );
    assert!(
        faults("listeners: []\n").iter().any(|fault| fault == "f:1:1: the field `apiVersion` is missing")
    );
    for empty in ["", "# nothing\n", "---\n"] {
        let said = faults(empty);
        assert!(
            matches!(&*said, [one] if one.starts_with("f:") && one.ends_with(": expected a map, found nothing: the file is empty, or has only comments")),
            "{said:?}"
        );
    }
    assert_eq!(faults("\u{feff}[]"), ["f:1:1: expected a map, found a list"]);
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let of = |path: &str| Config::file(path).check().to_string();
    assert_eq!(
        of("tests/no-such.yaml"),
        "tests/no-such.yaml: cannot be read: no such file\ntests/no-such.yaml: refused"
    );
    assert!(of("tests").starts_with("tests: cannot be read: not a file"));
    let directory = Directory::new("large");
    directory.write("large.yaml", &format!("#{}", " ".repeat(1 << 20)));
    directory.write("binary.yaml", "apiVersion: \u{0}");
    fs::write(directory.0.join("latin.yaml"), [b'a', 0xe9]).unwrap();
    fs::write(directory.0.join("utf16.yaml"), [0xff, 0xfe, b'a', 0]).unwrap();
    fs::write(directory.0.join("later.yaml"), b"# caf\xc3\xa9\n\xc3\xa9: caf\xe9\n").unwrap();
    for (name, problem) in [
        ("large", "large.yaml: is larger than 1 MiB"),
        ("latin", "latin.yaml:1:2: not UTF-8"),
        ("utf16", "utf16.yaml:1:1: not UTF-8"),
        ("later", "later.yaml:2:7: not UTF-8"),
        ("binary", "binary.yaml:1:13: apiVersion: not YAML"),
    ] {
        let said = of(directory.0.join(format!("{name}.yaml")).to_str().unwrap());
        assert!(said.contains(problem), "{said}");
    }
}

/// Also where their addresses differ, but one takes all: of listeners, and of the admin address, told or not.
#[test]
fn two_listeners_on_one_address_are_refused() {
    let told = |one: &str, other: &str, admin: &str| {
        faults(&format!(
            "apiVersion: portcullis/v1alpha1\n\
             listeners:\n  - {{ name: one, address: '{one}' }}\n  - {{ name: other, address: '{other}' }}\n\
             admin: {admin}\n"
        ))
    };
    let elsewhere = "{ address: '127.0.0.1:1' }";
    for (one, other) in [
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "0.0.0.0:8080"),
        ("[::]:8080", "127.0.0.1:8080"),
    ] {
        let fault = format!("listeners[1].address: a listener has this address: it is on {one}");
        let said = told(one, other, elsewhere);
        assert!(matches!(&*said, [only] if only.ends_with(&fault)), "{said:?}");
    }
    assert_eq!(told("127.0.0.1:8080", "127.0.0.2:8080", elsewhere), [""; 0]);
    for admin in ["{}", "{ address: '127.0.0.1:9901' }"] {
        let said = told("127.0.0.1:8080", "0.0.0.0:9901", admin);
        let fault = "admin.address: a listener has this address: it is on 0.0.0.0:9901";
        assert!(matches!(&*said, [only] if only.ends_with(fault)), "{said:?}");
    }
}

/// What people write who know other files than YAML.
#[test]
fn slips_of_yaml_are_told_where_they_stand() {
    let version = "apiVersion: portcullis/v1alpha1\n";
    for (text, expected) in [
        ("listeners:\n\t- name: x\n".to_owned(), "f:2:1: listeners: not YAML: tabs"),
        (
            "listeners:\n  - name: x\n    address: a\n \tadmin: {}\n".to_owned(),
            "f:4:2: listeners[0].address: not YAML: ",
        ),
        (
            format!("{version}admin: {{}}\n\nadmin: {{}}\n"),
            "f:4:1: admin: this field is given twice: the first is in line 2",
        ),
        (
            format!("{version}admin: {{ hosts: [1] }}"),
            "admin.hosts[0]: expected a string, found a number: put it in quotes",
        ),
        (
            format!("{version}admin: {{ hosts: [true] }}"),
            "admin.hosts[0]: expected a string, found true or false: put it in quotes",
        ),
        (
            format!("{version}shutdown: {{ delay: 5 }}"),
            "shutdown.delay: expected a duration such as `5s`, `250ms` or `1h30m`, found a number",
        ),
    ] {
        let said = faults(&text);
        assert!(said.iter().any(|one| one.contains(expected)), "{text:?}: {said:?}");
    }
    // Whatever ends its lines and begins it.
    let whole = with_rule("", "policies: {}");
    for told in [whole.replace('\n', "\r\n"), format!("\u{feff}{whole}"), format!("---\n{whole}...\n")] {
        assert_eq!(faults(&told), Vec::<String>::new(), "{told:?}");
    }
}

#[test]
fn a_number_out_of_range_is_reported_at_its_place() {
    let limit = |field: &str| {
        with_rule(&format!("rateLimits: {{ a: {{ key: clientIp, rate: 1/s, {field} }} }}\n"), "policies: {}")
    };
    for (field, most) in [("maxKeys", 100_000_000), ("burst", u32::MAX), ("cost", u32::MAX)] {
        let problem = format!("rateLimits.a.{field}: expected a number from 1 to {most}");
        for number in ["0", "-1", "4294967296", "18446744073709551615"] {
            let said = faults(&limit(&format!("{field}: {number}")));
            assert!(
                matches!(&*said, [one] if one.starts_with("f:2:") && one.ends_with(&problem)),
                "{said:?}"
            );
        }
    }
    assert_eq!(faults(&limit("maxKeys: 100000000")), Vec::<String>::new());
}

#[test]
fn hostile_files_are_refused_and_bounded() {
    let laughs: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    for hostile in [
        format!("a0: &a0 lol\n{laughs}"),
        "[".repeat(500_000),
        "{a: ".repeat(200_000),
        "- ".repeat(400_000),
        format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 100_000].join(",")),
        "a: &a [*a]".to_owned(),
        "!!python/object/apply:os.system [id]".to_owned(),
        "<<: *x".to_owned(),
        "%YAML 3.0\n---\na: 1".to_owned(),
        "a: \"\\uD800\"".to_owned(),
        "\t\ta: 1".to_owned(),
        "? ? ? a".to_owned(),
    ] {
        let said = faults(&hostile);
        assert!(!said.is_empty() && said.len() <= 1001, "{}: {said:?}", &hostile[..hostile.len().min(40)]);
        assert!(said.iter().all(|fault| fault.len() < 4096), "{said:?}");
    }
    // More faults than anybody reads are counted.
    let many: String = (0..5000).map(|n| format!("field{n}: 1\n")).collect();
    let check = Config::text("f", many).check();
    assert_eq!(check.faults().iter().count(), 1000);
    assert!(check.to_string().contains("more"));
}

/// Each optional field, left empty: none of them counts as absent, for somebody meant to say something.
#[test]
fn an_empty_field_is_an_error_at_its_place() {
    let rule = "routes[0].rules[0]";
    for (field, path, expected) in [
        ("policies: ", "policies", "a map"),
        ("policies: { authenticate: }", "policies.authenticate", "`none` or a list or a map"),
        ("policies: { authorize: ~ }", "policies.authorize", "a map"),
        ("policies: { authorize: { scopes: } }", "policies.authorize.scopes", "a map"),
        ("policies: { authorize: { scopes: { all: null } } }", "policies.authorize.scopes.all", "a list"),
        ("policies: { rateLimit: }", "policies.rateLimit", "a list"),
        ("policies: { gates: }", "policies.gates", "a list"),
        ("matches: ", "matches", "a list"),
        ("matches: [{ path: { value: / }, method: }]", "matches[0].method", "`GET`"),
        ("matches: [{ headers: }]", "matches[0].headers", "a list"),
        ("timeouts: { request: }", "timeouts.request", "a duration"),
        ("retry: ", "retry", "a map"),
        ("sessionPersistence: ", "sessionPersistence", "a map"),
        ("filters: [{ type: ExternalAuth, externalAuth: }]", "filters[0].externalAuth", ""),
    ] {
        let problem = match expected {
            "" => "not supported yet".to_owned(),
            _ => format!("empty: remove the line, or write {expected}"),
        };
        let problem = format!(": {rule}.{path}: {problem}");
        let said = faults(&with_rule("", field));
        assert!(
            said.iter().any(|one| one.starts_with("f:4:") && one.contains(&problem)),
            "{field}: {said:?}"
        );
    }
    assert_eq!(
        faults(&with_rule("requireAuthentication:\n", "policies: { authenticate: none }")),
        ["f:2:1: requireAuthentication: empty: remove the line, or write true or false"]
    );
    let keys = |fields: &str| {
        let directory = Directory::new("empty-key");
        let hash = "0".repeat(64);
        directory.write(
            "keys.yaml",
            &format!("keys: [{{ id: abcdefgh2345, hash: 'sha256:{hash}', owner: o, {fields} }}]"),
        );
        let file = directory.0.join("keys.yaml");
        let provider =
            format!("authentication: {{ a: {{ apiKey: {{ keys: {{ file: '{}' }} }} }} }}\n", file.display());
        faults(&with_rule(&provider, "policies: { authenticate: [a] }"))
    };
    assert_eq!(keys(""), Vec::<String>::new());
    let said = keys("expires: ");
    assert!(matches!(&*said, [one] if one.contains("keys[0].expires: empty: ")), "{said:?}");
}

#[test]
fn a_demand_that_demands_nothing_is_an_error() {
    let provider = "authentication: { a: { jwt: { issuer: i, audiences: [a], algorithms: [EdDSA], jwks: { inline: \
                    '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}' } } } }\n";
    let of = |authorize: &str| {
        faults(&with_rule(provider, &format!("policies: {{ authenticate: [a], authorize: {authorize} }}")))
    };
    let at = "f:5:92: routes[0].rules[0].policies.authorize";
    assert_eq!(
        of("{}"),
        [format!("{at}: asks for nothing: expected `scopes`, `roles`, `policies` or `authorizers`")]
    );
    let said = of("{ scopes: {}, roles: { any: [a] } }");
    assert!(
        matches!(&*said, [one] if one.ends_with(".scopes: asks for nothing: expected `all`, `any` or both")),
        "{said:?}"
    );
    assert_eq!(of("{ scopes: { any: [a] } }"), Vec::<String>::new());
}

#[test]
fn credentials_that_are_needed_together_are_checked_like_others() {
    let provider = "authentication: { a: { jwt: { issuer: i, audiences: [a], algorithms: [EdDSA], jwks: { inline: \
                    '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}' } } } }\n";
    let of = |authenticate: &str| {
        faults(&with_rule(provider, &format!("policies: {{ authenticate: {authenticate} }}")))
    };
    for (authenticate, expected) in [
        ("[{ all: [a, b] }]", ".authenticate[0].all[1]: no provider of this name"),
        ("[{ all: [a, a] }]", ".authenticate[0].all[1]: is in this list twice"),
        ("[{ all: [a] }]", ".authenticate[0].all: "),
        ("[{ all: [] }]", ".authenticate[0].all: "),
        ("[{ any: [a] }]", ".authenticate[0]"),
        ("[a, a]", ".authenticate[1]: is in this list twice"),
        ("{ providers: [b], anonymous: guest }", ".authenticate.providers[0]: no provider of this name"),
        ("{ providers: [a], anonymous: [guest] }", ".authenticate.anonymous"),
    ] {
        let said = of(authenticate);
        assert!(
            said.iter().any(|one| one.starts_with("f:") && one.contains(expected)),
            "{authenticate}: {said:?}"
        );
    }
    assert_eq!(of("{ providers: [a], anonymous: guest }"), Vec::<String>::new());
}

/// The named limits, with a provider that tells `x-user` and takes an API key from a header.
fn with_limits(limits: &str, listener: &str, rule: &str) -> Vec<String> {
    let jwks =
        r#"'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'"#;
    let text = with_rule(
        &format!(
            "authentication: {{ a: {{ jwt: {{ issuer: i, audiences: [a], algorithms: [EdDSA], jwks: {{ inline: {jwks} }}, \
             from: {{ cookie: session }}, claimHeaders: {{ x-user: sub }} }} }} }}\n\
             rateLimits: {{ {limits}, callers: {{ key: principal, rate: 1/s }} }}\n"
        ),
        rule,
    );
    faults(&text.replace("name: public,", &format!("name: public, {listener}")))
}

#[test]
fn an_account_is_charged_once_for_a_request() {
    let limits = "all: { key: clientIp, rate: 1/s }";
    assert_eq!(with_limits(limits, "rateLimit: [all],", "policies: {}"), Vec::<String>::new());
    let said = with_limits(limits, "rateLimit: [all],", "policies: { rateLimit: [all] }");
    assert!(
        matches!(&*said, [one] if one.starts_with("f:6:") && one.contains(
            "policies.rateLimit[0]: the listener `public` counts each request on this account already"
        )),
        "{said:?}"
    );
}

/// A key of what is never there would be the address, and nobody would know.
#[test]
fn a_key_that_no_request_has_is_an_error() {
    for (header, listener, why) in [
        ("x-user", "", Some("for `claimHeaders` says it")),
        ("X_User", "", Some("for `claimHeaders` says it")),
        ("keep-alive", "", Some("for one connection")),
        ("x-forwarded-for", "", Some("no listener has `trustedProxies`")),
        ("x-forwarded-for", "trustedProxies: [10.0.0.0/8],", None),
        ("upgrade", "", None),
        ("host", "", None),
        ("x-tenant", "", None),
    ] {
        let limit = with_limits(
            &format!("l: {{ key: [clientIp, {{ header: {header} }}], rate: 1/s }}"),
            listener,
            "policies: {}",
        );
        let rule = format!("matches: [{{ headers: [{{ name: {header}, value: a }}] }}]");
        let matched = with_limits("l: { key: clientIp, rate: 1/s }", listener, &rule);
        for (said, path) in [(limit, "rateLimits.l.key[1]: "), (matched, "matches[0].headers[0].name: ")] {
            match why {
                None => assert_eq!(said, Vec::<String>::new(), "{header}"),
                Some(why) => assert!(
                    matches!(&*said, [one] if one.contains(path) && one.contains(why)),
                    "{header}: {said:?}"
                ),
            }
        }
    }
}

#[test]
fn a_key_of_a_credential_that_is_gone_is_an_error() {
    let limits = "l: { key: { cookie: session }, rate: 1/s }";
    let with =
        |policies: &str| with_limits(limits, "", &format!("policies: {{ authenticate: [a], {policies} }}"));
    assert_eq!(with("rateLimit: [l]"), Vec::<String>::new(), "before it is taken out");
    let said = with("rateLimit: [l, callers]");
    assert!(matches!(&*said, [one] if one.contains("rateLimit[0]: it counts by a credential")), "{said:?}");
    let split = |by: &str| {
        let rule = format!("name: n, policies: {{ authenticate: [a], split: {{ by: {by} }} }}");
        with_limits("l: { key: clientIp, rate: 1/s }", "", &rule)
    };
    assert_eq!(split("{ header: x-user }"), Vec::<String>::new(), "the provider has said it by then");
    let said = split("{ cookie: session }");
    assert!(
        matches!(&*said, [one] if one.contains("split.by: no request has it here: credentials")),
        "{said:?}"
    );
    let public =
        with_limits("l: { key: clientIp, rate: 1/s }", "", "policies: { split: { by: { header: x-user } } }");
    assert!(matches!(&*public, [one] if one.contains("split.by: no request has it here: ")), "{public:?}");
}

#[test]
fn an_experiment_without_a_name_is_warned_of() {
    let rule = |name: &str, backends: &str| {
        let text = with_rule("", &format!("{name} policies: {{ split: {{ by: clientIp }} }}"));
        faults(&text.replace("[{ name: one }]", backends))
    };
    let two = "[{ name: one }, { name: two }]";
    assert_eq!(rule("name: n,", two), Vec::<String>::new());
    assert_eq!(rule("", "[{ name: one }]"), Vec::<String>::new());
    let said = rule("", two);
    assert!(
        matches!(&*said, [one] if one.contains("warning: ") && one.contains("split.by: a rule without a `name`")),
        "{said:?}"
    );
}

#[test]
fn a_limit_without_a_key_is_warned_of() {
    let of = |limit: &str| faults(&with_rule(&format!("rateLimits: {{ l: {limit} }}\n"), ""));
    assert_eq!(of("{ key: clientIp, rate: 1/s }"), Vec::<String>::new());
    // What is wrong with one has been told.
    assert_eq!(of("{ key: nobody, rate: 1/s }").len(), 1);
    let said = of("{ rate: 1/s }");
    assert!(
        matches!(&*said, [one] if one.contains("warning: ") && one.contains("rateLimits.l: without a `key`")),
        "{said:?}"
    );
}

#[test]
fn algorithms_that_fit_no_key_are_an_error() {
    let of = |algorithms: &str| {
        let key =
            r#"'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'"#;
        let provider = format!(
            "authentication: {{ a: {{ jwt: {{ issuer: i, audiences: [a], algorithms: {algorithms}, jwks: {{ inline: {key} }} }} }} }}\n"
        );
        faults(&with_rule(&provider, "policies: { authenticate: [a] }"))
    };
    assert_eq!(of("[RS256, EdDSA]"), Vec::<String>::new());
    let said = of("[RS256, ES256]");
    assert!(
        matches!(&*said, [one] if one.starts_with("f:2:")
            && one.contains("jwt.algorithms: none of these is for a key that is given, but `EdDSA`")),
        "{said:?}"
    );
    let directory = Directory::new("algorithms");
    directory.write("secret", &"s".repeat(48));
    let secret = directory.0.join("secret");
    set_mode(&secret, 0o600);
    let provider = format!(
        "authentication: {{ a: {{ jwt: {{ issuer: i, audiences: [a], secret: {{ file: '{}' }} }} }} }}\n",
        secret.display()
    );
    let said = faults(&with_rule(&provider, "policies: { authenticate: [a] }"));
    let missing = "jwt.algorithms: is missing: those of shared secrets must be named, here `HS256`, `HS384`";
    assert!(matches!(&*said, [one] if one.ends_with(missing)), "{said:?}");
}

#[test]
fn names_that_nothing_has_are_an_error() {
    let keys =
        r#"'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'"#;
    let provider = |said: &str| {
        let provider =
            format!("authentication: {{ a: {{ jwt: {{ {said}, jwks: {{ inline: {keys} }} }} }} }}\n");
        faults(&with_rule(&provider, "policies: { authenticate: [a] }"))
    };
    let rule = |said: &str| {
        let provider = format!(
            "authentication: {{ a: {{ jwt: {{ issuer: i, audiences: [a], jwks: {{ inline: {keys} }} }} }} }}\n"
        );
        faults(&with_rule(&provider, said))
    };
    let demand = |said: &str| {
        rule(&format!("policies: {{ authenticate: [a], authorize: {{ scopes: {{ {said} }} }} }}"))
    };
    for (said, expected) in [
        (provider("issuer: '', audiences: [a]"), "a.jwt.issuer: is empty"),
        (provider("issuer: i, audiences: [a, '']"), "a.jwt.audiences[1]: is empty"),
        (provider("issuer: i, audiences: [a], from: { query: '' }"), "a.jwt.from.query: is empty"),
        (demand("all: [a, '']"), "scopes.all[1]: is empty"),
        (
            demand("any: ['orders.read orders.write']"),
            "scopes.any[0]: a scope has no spaces: name each by itself",
        ),
        (
            rule("policies: { authenticate: none }, matches: [{ queryParams: [{ name: '', value: a }] }]"),
            "queryParams[0].name: is empty",
        ),
    ] {
        assert!(said.iter().any(|one| one.contains(expected)), "{expected}: {said:?}");
        assert_eq!(said.len(), 1, "{said:?}");
    }
}

#[test]
fn json_is_accepted() {
    let json =
        r#"{"apiVersion": "portcullis/v1alpha1", "listeners": [{"name": "a", "address": "127.0.0.1:1"}]}"#;
    assert_eq!(faults(json), Vec::<String>::new());
}

#[test]
fn a_secret_that_others_can_read_is_warned_of_and_used() {
    let directory = Directory::new("secret");
    directory.write("secret", &"s".repeat(64));
    directory.write("short", "too short\n");
    let file = |secret: &str| {
        with_rule(
            &format!(
                "authentication: {{ a: {{ jwt: {{ issuer: i, audiences: [a], algorithms: [HS256], \
                 secret: {{ file: {secret} }} }} }} }}\n"
            ),
            "policies: { authenticate: [a] }",
        )
    };
    directory.write("gateway.yaml", &file("secret"));
    let config = || Config::file(directory.0.join("gateway.yaml")).check();
    set_mode(&directory.0.join("secret"), 0o644);
    let open = config();
    assert!(open.is_accepted());
    let warning = open.faults().iter().next().unwrap();
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!((warning.path.as_str(), warning.line), ("authentication.a.jwt.secret.file", 2));
    set_mode(&directory.0.join("secret"), 0o640);
    assert!(config().faults().is_empty());

    // A key set is a secret if there is one in it.
    let jwk = format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, "c2Vj".repeat(16));
    directory.write("keys.json", &jwk);
    directory.write("gateway.yaml", &file("keys.json").replace("secret: {", "jwks: {"));
    set_mode(&directory.0.join("keys.json"), 0o644);
    let warnings: Vec<_> =
        config().faults().iter().map(|fault| (fault.severity, fault.path.clone())).collect();
    assert_eq!(warnings, [(Severity::Warning, "authentication.a.jwt.jwks.file".to_owned())]);
    set_mode(&directory.0.join("keys.json"), 0o600);
    assert!(config().faults().is_empty());

    // Written in the file itself, it is as open as the file.
    let inline = file("'JWK'").replace("secret: { file: ", "jwks: { inline: ").replace("JWK", &jwk);
    directory.write("gateway.yaml", &inline);
    set_mode(&directory.0.join("gateway.yaml"), 0o644);
    let warnings: Vec<_> =
        config().faults().iter().map(|fault| (fault.severity, fault.path.clone())).collect();
    assert_eq!(warnings, [(Severity::Warning, "authentication.a.jwt.jwks.inline".to_owned())]);
    set_mode(&directory.0.join("gateway.yaml"), 0o600);
    assert!(config().faults().is_empty());

    directory.write("gateway.yaml", &file("short"));
    assert!(!config().is_accepted());
    assert!(!config().to_string().contains("too short"));
}

#[test]
fn credentials_for_every_site_are_warned_of() {
    let warned = |origin: &str| {
        let cors = format!("{{ allowCredentials: true, allowOrigins: ['{origin}'] }}");
        let rule = format!("filters: [{{ type: CORS, cors: {cors} }}]");
        let config = Config::text("f", with_rule("", &rule)).check();
        assert!(config.is_accepted(), "{config}");
        config.to_string().contains("every site")
    };
    for origin in ["*", "https://*", "https://*:8443", "http://*"] {
        assert!(warned(origin), "{origin}");
    }
    for origin in ["https://*.shop.example", "https://shop.example:8443"] {
        assert!(!warned(origin), "{origin}");
    }
}

#[test]
fn gates_of_your_own_are_used_by_name() {
    struct Answers(u16);
    impl Gate for Answers {
        type Pass = ();
        fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
            Err(if self.0 == 403 { Reason::Forbidden } else { Reason::Unavailable }.into())
        }
    }
    let check = |rule: &str| {
        let gates = Registry::new()
            .register("answers", |status: u16| Ok(Answers(status)))
            .register("fails", |(): ()| Err::<Answers, _>("it is broken".into()));
        let check = Config::text("f", with_rule("", rule)).gates(gates).check();
        check.faults().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(check("policies: { gates: [{ name: answers, with: 403 }] }").is_empty());
    let path = "routes[0].rules[0].policies.gates[0]";
    assert_eq!(
        check("policies: { gates: [{ name: answers, with: many }] }"),
        [format!("f:4:81: {path}: `with` is not what this gate understands")]
    );
    assert_eq!(check("policies: { gates: [fails] }"), [format!("f:4:81: {path}: it is broken")]);
    assert_eq!(
        check("policies: { gates: [answer] }"),
        [format!("f:4:81: {path}: no gate is registered under this name; did you mean `answers`?")]
    );
}

#[test]
fn the_schema_is_json() {
    let schema: serde_json::Value = serde_json::from_str(&portcullis::config::schema()).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory for one test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Limits that are zero, absurd, or contradict themselves: what is said, where it is refused, and why.
const NO_LIMITS: &[(&str, &str, &str)] = &[
    ("rate: 0/s", "rate", "expected a rate"),
    ("rate: -1/s", "rate", "expected a rate"),
    ("rate: 10000001/s", "rate", "expected a rate"),
    ("rate: 1/s, burst: 0", "burst", ""),
    ("rate: 1/s, burst: -1", "burst", ""),
    ("rate: 1/year, burst: 4294967295", "burst", "a hundred years"),
    ("rate: 1/s, cost: 0", "cost", ""),
    ("rate: 1/s, cost: 2", "cost", "no request would ever pass"),
    ("rate: 5/s, cost: { header: x-c, max: 0 }", "cost.max", ""),
    ("rate: 5/s, cost: { header: x-c, min: 3, max: 2 }", "cost.min", "more than `max`"),
    ("rate: 5/s, cost: { header: x-c, max: 50, default: 6 }", "cost.default", "no request would ever pass"),
    ("rate: 5/s, cost: { header: x-c, max: 50, min: 6 }", "cost.min", "no request would ever pass"),
    ("rate: 5/s, cost: { header: x-c }", "cost", ""),
    ("rate: 5/s, settle: { header: x-c, min: 3, max: 2 }", "settle.min", "more than `max`"),
    ("rate: 5/s, maxDebt: 5", "maxDebt", "nobody comes into debt"),
    ("rate: 1/year, settle: { header: x-c, max: 9 }, maxDebt: 1000", "maxDebt", "more than a year to pay"),
    (
        "rate: 1/year, algorithm: fixedWindow, settle: { header: x-c, max: 9 }, maxDebt: 1000",
        "maxDebt",
        "to pay",
    ),
    ("rate: 5/s, settle: { header: x-c, max: 9 }, maxDebt: 4294967295", "maxDebt", "more than a year to pay"),
    ("rate: 5/s, algorithm: slidingWindow, burst: 9", "burst", "only a `tokenBucket` has a burst"),
    (
        "rate: 5/s, algorithm: slidingWindow, plans: { a: { rate: 9/s, burst: 9 } }",
        "plans.a.burst",
        "tokenBucket",
    ),
    ("rate: 5/s, algorithm: fixedWindow, plans: { a: { rate: 9/min } }", "plans.a.rate", "its rate is 5/s"),
    ("rate: 5/s, plans: { a: { rate: 1/year, burst: 4294967295 } }", "plans.a.rate", "a hundred years"),
    ("rate: 5/s, plans: { a: { rate: 0/s } }", "plans.a.rate", "expected a rate"),
    ("rate: 5/s, utcOffset: Z", "utcOffset", "only a `fixedWindow` has a calendar"),
    ("rate: 5/s, algorithm: fixedWindow, utcOffset: CET", "utcOffset", "expected an offset from UTC"),
    ("rate: 5/s, maxWait: 1s", "maxWait", "before a `leakyBucket` requests wait"),
    ("rate: 5/s, maxWaiting: 10", "maxWaiting", "before a `leakyBucket` requests wait"),
    ("rate: 5/s, algorithm: leakyBucket, maxWaiting: 0", "maxWaiting", ""),
    ("rate: 5/s, algorithm: leakyBucket, maxWait: 99999h, burst: 1", "burst", "only a `tokenBucket`"),
    ("rate: 5/s, algorithm: leakyBucket, maxWait: -1s", "maxWait", "expected a duration"),
    ("rate: 5/s, algorithm: leaky", "algorithm", ""),
    ("rate: 5/s, algorithm: leakyBucket, maxWait: 2h", "maxWait", "at most an hour"),
    ("rate: 5/s, algorithm: leakyBucket, maxWaiting: 1000001", "maxWaiting", "from 1 to 1000000"),
    ("rate: 5/s, maxKeys: 0", "maxKeys", ""),
    ("rate: 5/s, maxKeys: 100000001", "maxKeys", "from 1 to 100000000"),
    ("rate: 5/s, maxBytes: 4800000001", "maxBytes", "from 1 to 4800000000"),
    ("rate: 5/s, maxBytes: 0", "maxBytes", ""),
    ("rate: 5/s, maxKeys: 5, maxBytes: 500", "maxBytes", "`maxKeys` says how much"),
    ("rate: 5/s, skip: [{}]", "skip[0]", "expected at least one of"),
    ("rate: 5/s, skip: [{ paths: [healthz] }]", "skip[0].paths[0]", ""),
    ("rate: 5/s, skip: [{ principals: [ann] }]", "skip[0].principals[0]", "expected `provider/subject`"),
    ("rate: 5/s, skip: [{ networks: [10.0.0.0/33] }]", "skip[0].networks[0]", "expected a network"),
];

/// The same of whatever else holds back load, or counts it.
const ABSURD: &[(&str, &str, &str)] = &[
    (
        "concurrency: { c: { adaptive: { algorithm: aimd, timeout: 0s } } }",
        "concurrency.c.adaptive.timeout",
        "more than nothing",
    ),
    (
        "concurrency: { c: { adaptive: { algorithm: aimd, timeout: 99999h } } }",
        "concurrency.c.adaptive.timeout",
        "at most an hour",
    ),
    ("concurrency: { c: { max: 0 } }", "concurrency.c.max", ""),
    ("concurrency: { c: { max: 5, retryAfter: 99999h } }", "concurrency.c.retryAfter", "at most a day"),
    (
        "concurrency: { c: { max: 5, queue: { length: 5, timeout: 0s } } }",
        "concurrency.c.queue.timeout",
        "more than nothing",
    ),
    (
        "concurrency: { c: { max: 5, queue: { length: 5, timeout: 5ms, codel: { target: 10ms, interval: 100ms } } } }",
        "concurrency.c.queue.codel.target",
        "half the queue's `timeout`",
    ),
    (
        "concurrency: { c: { max: 5, queue: { length: 5, codel: { target: 500ms, interval: 1s } } } }",
        "concurrency.c.queue.codel.target",
        "half the queue's `timeout`",
    ),
    (
        "concurrency: { c: { max: 1, partitions: { by: plan, shares: { a: 50%, b: 50% } } } }",
        "concurrency.c.partitions.shares",
        "more shares than places",
    ),
    #[cfg(feature = "redis")]
    (
        "redis: { r: { url: 'redis://127.0.0.1' } }\nrateLimits: { l: { key: principal, rate: 5/s, redis: r, instances: 4294967295 } }",
        "rateLimits.l.instances",
        "from 1 to 200000",
    ),
    ("usage: { file: { path: u }, maxWaitingBytes: 1 }", "usage.maxWaitingBytes", "from 65536 to 4294967295"),
    ("usage: { file: { path: u }, interval: 0s }", "usage.interval", "some time"),
    ("usage: { file: { path: u }, interval: 99999h }", "usage.interval", "at most a day"),
    ("usage: { file: { path: u, rotateBytes: 1 } }", "usage.file.rotateBytes", "at least 4096"),
    ("usage: { file: { path: u }, spool: u }", "usage.spool", "a directory of their own"),
    ("usage: { file: { path: u/v }, spool: u }", "usage.spool", "a directory of their own"),
];

#[test]
fn what_is_absurd_is_refused_by_path() {
    for (said, at, why) in ABSURD {
        let faults = faults(&with_rule(&format!("{said}\n"), "policies: {}"));
        let is_it = |fault: &String| {
            !fault.contains("warning") && fault.contains(&format!("{at}: ")) && fault.contains(why)
        };
        assert!(faults.iter().any(is_it), "{said}: {faults:?}");
    }
    for (rates, at, why) in [
        ("head: 240, grace: 0s", "grace", "more than nothing"),
        ("head: 4294967295, grace: 0s", "grace", "more than nothing"),
        ("head: 4294967295", "head", "from 0 to 125000000"),
        ("body: 125000001", "body", "from 0 to 125000000"),
        ("response: 125000001", "response", "from 0 to 125000000"),
        ("grace: 99999h", "grace", "at most an hour"),
    ] {
        let text = with_rule("", "policies: {}");
        let said = text.replacen(
            "address: 127.0.0.1:8080",
            &format!("address: 127.0.0.1:8080, minimumRates: {{ {rates} }}"),
            1,
        );
        assert_ne!(said, text);
        let faults = faults(&said);
        let place = format!("listeners[0].minimumRates.{at}: ");
        assert!(
            faults.iter().any(|fault| fault.contains(&place) && fault.contains(why)),
            "{rates}: {faults:?}"
        );
    }
    // Of what is said here nothing is absurd.
    let fine = "concurrency: { c: { max: 2, retryAfter: 24h, queue: { length: 5, timeout: 21ms, codel: { target: 10ms, interval: 100ms } }, \
                partitions: { by: plan, shares: { a: 50%, b: 50% } } }, d: { adaptive: { algorithm: aimd, timeout: 1h } } }\n\
                usage: { file: { path: u, rotateBytes: 4096 }, spool: s, maxWaitingBytes: 65536, interval: 24h }\n";
    let faults = faults(&with_rule(fine, "policies: {}"));
    assert!(faults.iter().all(|fault| fault.contains("warning")), "{faults:?}");
}

#[test]
fn limits_that_cannot_be_are_refused_by_path() {
    for (said, at, why) in NO_LIMITS {
        let limits = format!("rateLimits: {{ l: {{ key: clientIp, {said} }} }}\n");
        let faults = faults(&with_rule(&limits, "policies: { rateLimit: [l] }"));
        let place = format!("rateLimits.l.{at}: ");
        assert!(
            faults.iter().any(|fault| fault.contains(&place) && fault.contains(why)),
            "{said}: {faults:?}"
        );
    }
}

#[test]
fn a_cost_is_for_those_whose_accounts_can_hold_it() {
    let told = |said: &str| {
        faults(&with_rule(&format!("rateLimits: {{ l: {{ key: principal, {said} }} }}\n"), "policies: {}"))
            .into_iter()
            .filter(|fault| fault.contains("ever hold"))
            .collect::<Vec<_>>()
    };
    for (said, places) in [
        ("rate: 50/h, cost: 20, plans: { gold: { rate: 600/h } }", &[][..]),
        ("rate: 5/h, cost: 20, plans: { gold: { rate: 600/h } }", &["rate: "]),
        (
            "rate: 50/h, cost: 20, plans: { mini: { rate: 6/h }, gold: { rate: 6/h, burst: 20 } }",
            &["plans.mini: "],
        ),
        ("rate: 5/h, cost: { header: x-c, min: 20, max: 30 }, plans: { gold: { rate: 600/h } }", &["rate: "]),
        (
            "rate: 1/s, algorithm: leakyBucket, maxWait: 9s, cost: 20, plans: { gold: { rate: 10/s } }",
            &["rate: "],
        ),
        ("rate: 5/h, cost: 20, plans: { gold: { rate: 19/h } }", &["cost: "]),
    ] {
        let told = told(said);
        let is_told =
            |place: &&str| told.iter().any(|fault| fault.contains(&format!("rateLimits.l.{place}")));
        assert!(told.len() == places.len() && places.iter().all(is_told), "{said}: {told:?}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn what_grows_or_is_lost_on_redis_is_warned_of() {
    let told = |said: &str, why: &str| {
        let redis = "redis: { shared: { url: \"redis://127.0.0.1\" } }\n";
        let faults = faults(&with_rule(&format!("{redis}{said}\n"), "policies: {}"));
        assert!(faults.iter().all(|fault| fault.contains("warning")), "{said}: {faults:?}");
        faults.iter().any(|fault| fault.contains(why))
    };
    for (key, rate, grows) in [
        ("{ header: x-c }", "5/month", true),
        ("{ header: x-c }", "500/month", false),
        ("{ header: x-c }", "500/month, algorithm: fixedWindow", true),
        ("clientIp", "500/d, algorithm: slidingWindow", true),
        ("clientIp", "500/h, algorithm: slidingWindow", false),
        ("[principal, { cookie: c }]", "5/month", true),
        ("{ claim: sub }", "5/month", false),
        ("principal", "5/month", false),
    ] {
        let limit = format!("rateLimits: {{ l: {{ key: {key}, rate: {rate}, redis: shared }} }}");
        assert_eq!(told(&limit, "makes up accounts"), grows, "{limit}");
    }
    for (key, grows) in [("{ header: x-c }", true), ("principal", false)] {
        let quota = format!("quotas: {{ q: {{ key: {key}, allowance: 5, period: hour, redis: shared }} }}");
        assert_eq!(told(&quota, "makes up accounts"), grows, "{quota}");
    }
    let usage = |more: &str| format!("usage: {{ redis: {{ server: shared }}{more} }}");
    assert!(told(&usage(""), "without a `spool`"));
    assert!(!told(&usage(", spool: spool"), "without a `spool`"));
}

#[test]
fn limits_that_need_a_rule_are_refused_on_a_listener() {
    for (said, why) in [
        ("rate: 5/s, plans: { gold: { rate: 9/s } }", "only inside of a rule"),
        ("rate: 5/s, skip: [{ principals: [staff/ann] }]", "only inside of a rule"),
    ] {
        let file = with_rule(&format!("rateLimits: {{ l: {{ key: clientIp, {said} }} }}\n"), "policies: {}");
        let faults = faults(&file.replace("name: public,", "name: public, rateLimit: [l],"));
        assert!(
            faults.iter().any(|fault| fault.contains("listeners[0].rateLimit[0]: ") && fault.contains(why)),
            "{said}: {faults:?}"
        );
    }
    let file = with_rule(
        "rateLimits: { l: { key: clientIp, rate: 5/s, plans: { a: { rate: 9/s } } } }\n",
        "policies: { rateLimit: [l] }",
    );
    assert!(
        faults(&file).iter().any(|fault| fault.contains("nobody asks who they are")),
        "{:?}",
        faults(&file)
    );
}
