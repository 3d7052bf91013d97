//! The compiled policies against an interpreter of the same policies that is slow and obvious.

use http::{HeaderName, Method, Request};
use proptest::prelude::*;

use super::super::*;
use crate::{
    head::Head,
    identity::{ClientAddr, PeerAddr, PeerIdentity, Principal},
};

/// A condition, as it is generated: a field, its values, and whether it is the twin.
#[derive(Clone, Debug)]
struct Said(Field, Vec<String>, bool);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Principals,
    Scopes,
    Peers,
    TrustDomains,
    ServiceAccounts,
    Networks,
    Hosts,
    Methods,
    Paths,
    Header,
    Query,
}

#[derive(Clone, Debug, Default)]
struct OneRule {
    from: Vec<Vec<Said>>,
    to: Vec<Vec<Said>>,
    when: Option<bool>,
}

#[derive(Clone, Debug)]
struct OnePolicy(bool, Vec<OneRule>);

/// A request, or a connection.
#[derive(Clone, Debug)]
struct World {
    http: bool,
    principal: Option<(String, String)>,
    scopes: Vec<String>,
    peer: Option<String>,
    client: [u8; 4],
    host: String,
    method: String,
    path: String,
    headers: Vec<String>,
    query: Vec<String>,
}

fn text_fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => !text.is_empty(),
        (Some(end), _) => text.ends_with(end),
        (_, Some(begin)) => text.starts_with(begin),
        _ => pattern == text,
    }
}

fn path_fits(template: &str, path: &str) -> bool {
    if template.contains('*') && !template.contains('{') {
        return text_fits(template, path);
    }
    fn fits(template: &[&str], path: &[&str]) -> bool {
        match template {
            [] => path.is_empty(),
            ["{**}", rest @ ..] => (0..=path.len()).any(|skip| fits(rest, &path[skip..])),
            [one, rest @ ..] => {
                path.first()
                    .is_some_and(|first| if *one == "{id}" { !first.is_empty() } else { one == first })
                    && fits(rest, &path[1..])
            }
        }
    }
    let template: Vec<&str> = template.split('/').skip(1).collect();
    let path: Vec<&str> = path.split('/').skip(1).collect();
    fits(&template, &path)
}

impl Said {
    fn holds(&self, world: &World, doubt: bool) -> bool {
        let Self(field, list, negated) = self;
        let of_http =
            !matches!(field, Field::Peers | Field::TrustDomains | Field::ServiceAccounts | Field::Networks);
        if of_http && !world.http {
            return doubt;
        }
        let any = |texts: Vec<&str>| texts.iter().any(|text| list.iter().any(|value| text_fits(value, text)));
        let domain = |id: &str| id["spiffe://".len()..].split('/').next().unwrap().to_owned();
        let fits = match field {
            Field::Principals => world.principal.as_ref().is_some_and(|(provider, subject)| {
                list.iter().any(|value| {
                    let (p, s) = value.split_once('/').unwrap_or(("*", "*"));
                    text_fits(p, provider) && text_fits(s, subject)
                })
            }),
            Field::Scopes => {
                world.principal.is_some() && any(world.scopes.iter().map(String::as_str).collect())
            }
            Field::Peers => any(world.peer.iter().map(String::as_str).collect()),
            Field::TrustDomains => {
                let domain = world.peer.as_deref().map(domain);
                any(domain.iter().map(String::as_str).collect())
            }
            Field::ServiceAccounts => world.peer.as_deref().is_some_and(|id| {
                let parts: Vec<&str> = id.split('/').collect();
                let [_, _, _, "ns", namespace, "sa", account] = parts[..] else { return false };
                list.iter().any(|value| {
                    let (n, a) = value.split_once('/').unwrap();
                    text_fits(n, namespace) && text_fits(a, account)
                })
            }),
            Field::Networks => list.iter().any(|net| {
                let (address, bits) = net.split_once('/').unwrap();
                let address = u32::from(address.parse::<std::net::Ipv4Addr>().unwrap());
                let mask = u32::MAX.checked_shl(32 - bits.parse::<u32>().unwrap()).unwrap_or(0);
                address & mask == u32::from_be_bytes(world.client) & mask
            }),
            Field::Hosts => any(vec![&world.host]),
            Field::Methods => list.contains(&world.method),
            Field::Paths => list.iter().any(|value| path_fits(value, &world.path)),
            Field::Header | Field::Query => {
                let lines = if *field == Field::Header { &world.headers } else { &world.query };
                let each: Vec<bool> = lines.iter().map(|line| any(vec![line]) != *negated).collect();
                return match each.is_empty() {
                    true => *negated,
                    false if doubt => each.contains(&true),
                    false => !each.contains(&false),
                };
            }
        };
        fits != *negated
    }
}

impl OneRule {
    fn holds(&self, world: &World, doubt: bool) -> bool {
        let all = |said: &Vec<Said>| said.iter().all(|said| said.holds(world, doubt));
        let one = |list: &[Vec<Said>]| list.is_empty() || list.iter().any(all);
        one(&self.from)
            && one(&self.to)
            && self.when.is_none_or(|expected| world.path.len() % 2 == usize::from(expected))
    }

    fn build(&self) -> Rule {
        let mut rule = Rule::new();
        for said in &self.from {
            rule = rule.from(said.iter().fold(Source::new(), |source, Said(field, list, negated)| {
                let nets = || list.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap());
                match (field, negated) {
                    (Field::Principals, false) => source.principals(list).unwrap(),
                    (Field::Principals, true) => source.not_principals(list).unwrap(),
                    (Field::Scopes, false) => source.scopes(list).unwrap(),
                    (Field::Scopes, true) => source.not_scopes(list).unwrap(),
                    (Field::Peers, false) => source.peers(list).unwrap(),
                    (Field::Peers, true) => source.not_peers(list).unwrap(),
                    (Field::TrustDomains, false) => source.trust_domains(list).unwrap(),
                    (Field::TrustDomains, true) => source.not_trust_domains(list).unwrap(),
                    (Field::ServiceAccounts, false) => source.service_accounts(list).unwrap(),
                    (Field::ServiceAccounts, true) => source.not_service_accounts(list).unwrap(),
                    (_, false) => source.networks(nets()),
                    (_, true) => source.not_networks(nets()),
                }
            }));
        }
        for said in &self.to {
            rule = rule.to(said.iter().fold(Operation::new(), |operation, Said(field, list, negated)| {
                let methods = || list.iter().map(|name| name.parse::<Method>().unwrap());
                let name = HeaderName::from_static("x-h");
                match (field, negated) {
                    (Field::Hosts, false) => operation.hosts(list).unwrap(),
                    (Field::Hosts, true) => operation.not_hosts(list).unwrap(),
                    (Field::Methods, false) => operation.methods(methods()),
                    (Field::Methods, true) => operation.not_methods(methods()),
                    (Field::Paths, false) => operation.paths(list).unwrap(),
                    (Field::Paths, true) => operation.not_paths(list).unwrap(),
                    (Field::Header, false) => operation.header(name, list).unwrap(),
                    (Field::Header, true) => operation.not_header(name, list).unwrap(),
                    (_, false) => operation.query("q", list).unwrap(),
                    (_, true) => operation.not_query("q", list).unwrap(),
                }
            }));
        }
        match self.when {
            // A connection has no path, and the world's is empty then.
            Some(expected) => {
                rule.when(move |facts| facts.path().unwrap_or_default().len() % 2 == usize::from(expected))
            }
            None => rule,
        }
    }
}

/// What Istio's text says, word by word.
fn decide(policies: &[OnePolicy], world: &World) -> String {
    for denies in [true, false] {
        for (at, OnePolicy(policy_denies, rules)) in policies.iter().enumerate() {
            let matching = rules.iter().position(|rule| rule.holds(world, denies));
            if let (true, Some(rule)) = (*policy_denies == denies, matching) {
                return format!("{} {at}/{rule}", if denies { "deny" } else { "allow" });
            }
        }
    }
    let nothing_allows = policies.iter().all(|OnePolicy(denies, _)| *denies);
    if nothing_allows { "allow _none" } else { "deny _none" }.to_owned()
}

impl World {
    fn compiled(&self, gate: &Authorization) -> String {
        let peer = self.peer.clone().map(|id| PeerIdentity::new([0; 32]).with_spiffe_id(id));
        let address = PeerAddr::new((self.client, 1).into());
        if !self.http {
            return gate.decide(&Facts::of_connection(Some(address), peer.as_ref())).to_string();
        }
        let query: Vec<_> = self.query.iter().map(|value| format!("q={value}")).collect();
        let target = format!("{}?{}", self.path, query.join("&"));
        let mut request = Request::builder().method(&*self.method).uri(target).header("host", &self.host);
        for line in &self.headers {
            request = request.header("x-h", line);
        }
        let mut request = request.body(()).unwrap();
        let extensions = request.extensions_mut();
        if let Some((provider, subject)) = &self.principal {
            extensions.insert(Principal::new(&**provider, "", &**subject).with_scopes(&self.scopes));
        }
        peer.map(|peer| extensions.insert(peer));
        extensions.insert(ClientAddr::new(self.client.into(), None));
        let head = Head::of(&mut request);
        gate.decide(&Facts::of(&head).unwrap()).to_string()
    }
}

const WORDS: &str = "[ab]{1,2}|[ab]\\*|\\*[ab]|\\*";

fn said(of: &'static [Field]) -> impl Strategy<Value = Said> {
    let values = |field| -> BoxedStrategy<String> {
        match field {
            Field::Principals => "[pq]/[ab]|[pq]/\\*|\\*/[ab]|\\*|p/a\\*".boxed(),
            Field::Peers => "spiffe://t\\.[ab]/[ab]|spiffe://t\\.a/\\*|\\*/b|\\*|spiffe://t\\.b/a\\*".boxed(),
            Field::TrustDomains => "t\\.[ab]|t\\*|\\*b|\\*".boxed(),
            Field::ServiceAccounts => "[ab]/[ab]|[ab]/\\*|\\*/[ab]|\\*/\\*|a/b\\*".boxed(),
            Field::Networks => "10\\.[01]\\.0\\.0/16|10\\.0\\.0\\.0/8|10\\.1\\.0\\.1/32|0\\.0\\.0\\.0/0".boxed(),
            Field::Hosts => "[ab]\\.x\\.com|\\*\\.x\\.com|\\*x\\.com|a\\*|\\*".boxed(),
            Field::Methods => "GET|POST|PUT".boxed(),
            Field::Paths => "(/[ab]|/\\{id\\}){1,3}|(/[ab]){0,2}/\\{\\*\\*\\}|/a/\\{\\*\\*\\}/b|/[ab]\\*|/a/\\*|\\*/b|/|/a/|\\*".boxed(),
            Field::Scopes | Field::Header | Field::Query => WORDS.boxed(),
        }
    };
    (prop::sample::select(of), any::<bool>()).prop_flat_map(move |(field, negated)| {
        prop::collection::vec(values(field), 0..4).prop_map(move |list| Said(field, list, negated))
    })
}

fn rule() -> impl Strategy<Value = OneRule> {
    const FROM: &[Field] = &[
        Field::Principals,
        Field::Scopes,
        Field::Peers,
        Field::TrustDomains,
        Field::ServiceAccounts,
        Field::Networks,
    ];
    const TO: &[Field] = &[Field::Hosts, Field::Methods, Field::Paths, Field::Header, Field::Query];
    let list = |of| prop::collection::vec(prop::collection::vec(said(of), 0..3), 0..3);
    (list(FROM), list(TO), prop::option::weighted(0.2, any::<bool>())).prop_map(|(from, to, when)| OneRule {
        from,
        to,
        when,
    })
}

fn world() -> impl Strategy<Value = World> {
    let of_caller = (prop::option::of(("[pq]", "[ab]{1,2}")), prop::collection::vec("[ab]{1,2}", 0..3));
    let of_peer = (prop::option::of("spiffe://t\\.[ab]/([ab]{1,2}|ns/[ab]/sa/[ab]{1,2})"), 0..3_u8, 0..3_u8);
    let of_request = ("[ab]\\.x\\.com|x\\.com|c\\.a", "GET|POST|PUT", "(/[ab]{1,2}){1,4}/?|/");
    let lines = || prop::collection::vec("[ab]{1,2}", 0..3);
    (prop::bool::weighted(0.9), of_caller, of_peer, of_request, lines(), lines()).prop_map(
        |(http, (principal, scopes), (peer, x, y), (host, method, path), headers, query)| {
            let path = if http { path } else { String::new() };
            World { http, principal, scopes, peer, client: [10, x, 0, y], host, method, path, headers, query }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn compiled_policies_decide_as_the_interpreter(
        policies in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(rule(), 0..5)).prop_map(|(denies, rules)| OnePolicy(denies, rules)),
            0..6,
        ),
        worlds in prop::collection::vec(world(), 1..16),
    ) {
        let built = policies.iter().enumerate().map(|(at, OnePolicy(denies, rules))| {
            let policy = Policy::new(at.to_string(), if *denies { Action::Deny } else { Action::Allow });
            rules.iter().fold(policy, |policy, rule| policy.rule(rule.build()))
        });
        let gate = Authorization::new(built).unwrap();
        for world in worlds {
            prop_assert_eq!(world.compiled(&gate), decide(&policies, &world), "{:?}", world);
        }
    }
}
