//! What is wrong with a sidecar's file is told at its place; what the guide says is not wrong.
use portcullis::config::Config;

use super::identities;
use crate::gateway::world::yaml_of;

fn said(rest: &str) -> String {
    Config::text("f", format!("apiVersion: portcullis/v1alpha1\n{rest}")).check().to_string()
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    let upstream = "upstreams: { a: { endpoints: [127.0.0.1:9] } }\n";
    for (rest, told) in [
        ("", "listeners: a gateway needs a listener"),
        ("inbound: { listeners: [] }\n", "inbound.listeners: "),
        ("inbound: { routes: [] }\n", "inbound: the field `listeners` is missing"),
        (
            "inbound: { listeners: [{ name: a, address: 127.0.0.1:1 }] }\n\
             outbound: { listeners: [{ name: a, address: 127.0.0.1:2 }] }\n",
            "outbound.listeners[0].name: another listener has this name",
        ),
        (
            "inbound: { listeners: [{ name: a, address: 127.0.0.1:1 }] }\n\
             outbound: { listeners: [{ name: b, address: 127.0.0.1:1 }] }\n",
            "outbound.listeners[0].address: a listener has this address",
        ),
        (
            "outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], destinations: { b: {} } }\n",
            "outbound.destinations.b: no upstream of this name",
        ),
        (
            "outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], destinations: { b: { backendRefs: [{ name: c }] } } }\n",
            "outbound.destinations.b.backendRefs[0].name: no upstream of this name",
        ),
        (
            "outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], destinations: { 'a b': {} } }\n",
            "outbound.destinations.\"a b\": expected a name",
        ),
        (
            "outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], unknownHosts: allow }\n",
            "outbound.unknownHosts: ",
        ),
        (
            "outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], destinations: { a: {} }, \
             routes: [{ name: r, hostnames: [A], rules: [{ backendRefs: [{ name: a }] }] }] }\n",
            "outbound.destinations.a: a route is for this host",
        ),
        (
            "inbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], routes: [{ name: r, rules: [{ backendRefs: [{ name: a }] }] }] }\n\
             outbound: { listeners: [{ name: b, address: 127.0.0.1:2 }], routes: [{ name: r, rules: [{ backendRefs: [{ name: a }] }] }] }\n",
            "outbound.routes[0].name: another route has this name",
        ),
        (
            "inbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], routes: [\
             { name: r, rules: [{ backendRefs: [{ name: a }] }] }, { name: s, rules: [{ backendRefs: [{ name: a }] }] }] }\n",
            "inbound.routes[1].rules[0].matches: can never be reached",
        ),
    ] {
        let said = said(&format!("{upstream}{rest}"));
        assert!(said.contains(told) && said.ends_with("f: refused"), "{told}:\n{said}");
    }
}

/// A rule for all hosts takes what would be passed through.
#[test]
fn nothing_is_passed_through_where_a_rule_takes_all() {
    let said = said(
        "upstreams: { a: { endpoints: [127.0.0.1:9] }, passThrough: { endpoints: [127.0.0.1:9] } }\n\
         outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], unknownHosts: passThrough, \
         routes: [{ name: r, rules: [{ backendRefs: [{ name: a }] }] }] }\n",
    );
    assert!(said.contains("outbound.unknownHosts: no upstream may be called `passThrough`"), "{said}");
    assert!(said.contains("outbound.unknownHosts: a rule takes the requests for all hosts"), "{said}");
}

/// Nor is something called what they are called that are passed through.
#[test]
fn what_is_passed_through_has_a_name_of_its_own() {
    let of = |protocol: &str| {
        said(&format!(
            "upstreams: {{ a: {{ endpoints: [127.0.0.1:9] }} }}\n\
             outbound: {{ listeners: [{{ name: a, address: 127.0.0.1:1, transparent: true, protocol: {protocol} }}], \
             unknownHosts: passThrough }}\n\
             tcpRoutes: [{{ name: raw, backendRefs: [{{ name: a }}] }}, \
             {{ name: passThrough, backendRefs: [{{ name: a }}] }}]\n"
        ))
    };
    for protocol in ["tcp", "detect"] {
        let said = of(protocol);
        assert!(said.contains("tcpRoutes[1].name: is what `unknownHosts` passes through"), "{said}");
        assert!(said.ends_with("f: refused"), "{said}");
    }
    let said = said(
        "upstreams: { passThrough: { endpoints: [127.0.0.1:9] } }\n\
         outbound: { listeners: [{ name: a, address: 127.0.0.1:1 }], unknownHosts: passThrough, \
         destinations: { passThrough: {} } }\n",
    );
    assert!(
        said.contains("outbound.destinations.passThrough: is what `unknownHosts` passes through"),
        "{said}"
    );
}

#[test]
fn the_files_of_the_guide_are_sound() {
    let guide = include_str!("../../../docs/guides/sidecar_for_another_language.md");
    let directory = identities(&["shop"]);
    let blocks = yaml_of(guide);
    let whole = blocks.iter().find(|block| block.starts_with("apiVersion: portcullis")).unwrap();
    let whole = whole.replace("/etc/certs", directory.path("shop").to_str().unwrap());
    let captured = blocks.iter().find(|block| block.contains("transparent: true")).unwrap();
    let shared = whole.split("\ninbound:").next().unwrap();
    for text in [whole.clone(), format!("{shared}\n{captured}")] {
        let check = Config::text("sidecar.yaml", text).check();
        assert!(check.is_accepted(), "{check}");
        let warnings: Vec<_> = check.faults().iter().map(ToString::to_string).collect();
        assert!(warnings.iter().all(|warning| warning.contains("can be read by everybody")), "{check}");
    }
}
