//! `authorization`, and what rules say of it.
use std::{collections::HashSet, slice};

use http::HeaderName;
use ipnet::IpNet;

use super::Compiler;
use crate::{
    admission::{
        authz::{self, Authorization, Guard, InvalidPolicies, InvalidValue, Operation, Policy, Rule, Source},
        ext_authz::ExternalAuth,
    },
    authn::Providers,
    config::{
        at::At,
        scalar::Text,
        schema::{
            AuthorizationPolicy, Authorize, Method, PolicyAction, PolicyOperation, PolicyRule, PolicySource,
        },
    },
    stack::gateway,
};

impl Compiler<'_> {
    /// A policy of that name.
    pub(super) fn policy(&self, at: At<'_>, name: &str, said: &AuthorizationPolicy) -> Option<Policy> {
        let action = match said.action {
            PolicyAction::Allow => authz::Action::Allow,
            PolicyAction::Deny => authz::Action::Deny,
            PolicyAction::Custom => authz::Action::Custom,
        };
        match (&said.authorizer, action) {
            (None, authz::Action::Custom) => {
                at.field("authorizer").error("is missing: a custom policy asks one");
            }
            (Some(name), authz::Action::Custom) => {
                self.find(at.field("authorizer"), name, "authorizer", "authorizers", self.authorizers.all());
            }
            (Some(_), _) => at.field("authorizer").error("only a custom policy asks one"),
            (None, _) => {}
        }
        if said.rules.is_empty() && !at.field("rules").is_broken() {
            at.field("rules").warn("the policy means no request: it has no rules");
        }
        let (mut names, mut policy) = (HashSet::new(), Policy::new(name, action));
        for (place, (at, rule)) in at.field("rules").items(&said.rules).enumerate() {
            if !names.insert(rule.name.as_ref().map_or_else(|| place.to_string(), |name| name.0.0.clone())) {
                at.field("name").error("another rule of this policy has this name");
            }
            let made = self.policy_rule(at, rule);
            for (at, from) in at.field("from").items(&rule.from) {
                self.warn_of_peers(at, from);
            }
            if action == authz::Action::Deny && made.is_for_all() {
                at.warn("every request is denied: the rule asks for nothing");
            }
            policy = policy.rule(made);
        }
        Some(if said.shadow { policy.shadow() } else { policy })
    }

    /// Says that what asks for peers' certificates means nobody, if no listener brings any.
    fn warn_of_peers(&self, at: At<'_>, said: &PolicySource) {
        for (field, list, means) in [
            ("peers", &said.peers, "this means nobody"),
            ("trustDomains", &said.trust_domains, "this means nobody"),
            ("peerPaths", &said.peer_paths, "this means nobody"),
            ("namespaces", &said.namespaces, "this means nobody"),
            ("serviceAccounts", &said.service_accounts, "this means nobody"),
            ("notPeers", &said.not_peers, "this means everybody"),
            ("notTrustDomains", &said.not_trust_domains, "this means everybody"),
            ("notPeerPaths", &said.not_peer_paths, "this means everybody"),
            ("notNamespaces", &said.not_namespaces, "this means everybody"),
            ("notServiceAccounts", &said.not_service_accounts, "this means everybody"),
        ] {
            if list.is_some() {
                self.warn_of_no_certificates(at.field(field), means);
            }
        }
    }

    fn policy_rule(&self, at: At<'_>, said: &PolicyRule) -> Rule {
        let mut rule = said.name.iter().fold(Rule::new(), |rule, name| rule.name(name.0.0.as_str()));
        for (at, one) in at.field("from").items(&said.from) {
            rule = rule.from(source(at, one));
        }
        for (at, one) in at.field("to").items(&said.to) {
            rule = rule.to(operation(at, one));
        }
        for (at, one) in at.field("when").items(&said.when) {
            if let Some(says) = self.gates.predicate_of(at, one) {
                rule = rule.when(move |facts| says(facts));
            }
        }
        for (at, one) in at.field("unless").items(&said.unless) {
            if let Some(says) = self.gates.predicate_of(at, one) {
                rule = rule.unless(move |facts| says(facts));
            }
        }
        if rule.is_contradictory() {
            at.warn("can match no request: it asks for what it rules out");
        }
        rule
    }

    /// What `authorize` says beside scopes and roles.
    pub(super) fn authorization(
        &self,
        at: At<'_>,
        mut made: gateway::Rule,
        said: &Authorize,
        knows_callers: bool,
        providers: Option<&Providers>,
    ) -> gateway::Rule {
        for (at, name) in self.distinct(at.field("authorizers"), &said.authorizers) {
            let found = self.find(at, name, "authorizer", "authorizers", self.authorizers.all());
            if let Some((_, authorizer)) = found {
                warn_of_withheld(at, authorizer, providers);
                made = made.ask(telling(authorizer.clone(), said));
            }
        }
        let list = at.field("policies");
        let mut decide = Vec::new();
        for (at, name) in self.distinct(list, &said.policies) {
            let Some(policy) = self.find(at, name, "policy", "authorization", &self.authorization) else {
                continue;
            };
            if !knows_callers && policy.rules().iter().any(Rule::needs_caller) {
                at.warn("asks who callers are, and nobody does: `authenticate` names no provider");
            }
            if policy.action() == authz::Action::Custom {
                made = self.custom(at, made, said, policy, providers);
            } else {
                decide.push((at, policy));
            }
        }
        contradictions(&decide);
        if decide.is_empty() {
            return made;
        }
        let policies = decide.into_iter().map(|(_, policy)| policy.clone());
        let compiled = Authorization::counted(policies, self.kept.tally.clone());
        let Some(compiled) = accept(list, compiled) else { return made };
        made.policies(match &said.decision_header {
            Some(header) => compiled.told_in(header.0.clone()),
            None => compiled,
        })
    }

    /// An authorizer that is asked about what the rules of a custom policy mean.
    fn custom(
        &self,
        at: At<'_>,
        made: gateway::Rule,
        said: &Authorize,
        policy: &Policy,
        providers: Option<&Providers>,
    ) -> gateway::Rule {
        let asks = self.file.authorization.get(policy.name()).and_then(|said| said.authorizer.as_deref());
        let Some(authorizer) = asks.and_then(|name| self.authorizers.before(name)) else { return made };
        warn_of_withheld(at, authorizer, providers);
        let Some(guard) = accept(at, Guard::new([policy.clone()], &self.kept.tally)) else { return made };
        let guarded = telling(authorizer.clone(), said).guarded(guard);
        if policy.is_shadow() { made.ask_in_shadow(guarded) } else { made.ask(guarded) }
    }
}

/// The authorizer, which tells callers that it decided if the rule says so.
fn telling(authorizer: ExternalAuth, said: &Authorize) -> ExternalAuth {
    said.decision_header.iter().fold(authorizer, |made, header| made.told_in(header.0.clone()))
}

/// Says what an authorizer is not sent although it is to be.
fn warn_of_withheld(at: At<'_>, authorizer: &ExternalAuth, providers: Option<&Providers>) {
    let removed = || providers.into_iter().flat_map(Providers::removed_locations);
    let is_removed = |name: &&HeaderName| removed().any(|location| location.header_name() == Some(*name));
    if let Some(name) = authorizer.sent_headers().find(is_removed) {
        at.warn(format!(
            "the credential in `{name}` is taken out before the authorizer is asked: to send it, its provider needs `forward: true`"
        ));
    }
}

pub(super) fn accept<T>(at: At<'_>, compiled: Result<T, InvalidPolicies>) -> Option<T> {
    compiled
        .map_err(|error| {
            // Other faults are of names, and the file has told already what is wrong with these.
            if let InvalidPolicies::TooMany(most) = error {
                at.error(format!("the rules have more than {most} pairs of a source and an operation"));
            }
        })
        .ok()
}

/// Reports rules that allow what another denies.
fn contradictions(policies: &[(At<'_>, &Policy)]) {
    let of =
        |action| policies.iter().filter(move |(_, policy)| policy.action() == action && !policy.is_shadow());
    for (at, allows) in of(authz::Action::Allow) {
        for (_, denies) in of(authz::Action::Deny) {
            if allows.rules().iter().any(|rule| denies.rules().iter().any(|other| rule.is_same(other))) {
                at.warn(format!(
                    "allows what `{}` denies, and is not heard: the same rule is in both",
                    denies.name()
                ));
            }
        }
    }
}

type Texts = Option<Vec<String>>;
type Add<T> = fn(T, &[String]) -> Result<T, InvalidValue>;

/// Adds a list of texts, or reports each that cannot stand there.
fn texts<T: Default>(at: At<'_>, name: &'static str, made: T, list: &Texts, add: Add<T>) -> T {
    let Some(list) = list else { return made };
    check(at.field(name), list, add);
    add(made, list).unwrap_or_default()
}

fn check<T: Default>(at: At<'_>, list: &[String], add: Add<T>) {
    for (at, item) in at.items(list) {
        if let Err(why) = add(T::default(), slice::from_ref(item)) {
            at.error(why.to_string());
        }
    }
}

fn source(at: At<'_>, said: &PolicySource) -> Source {
    let fields: [(&'static str, &Texts, Add<Source>); 22] = [
        ("principals", &said.principals, |made, list| made.principals(list)),
        ("notPrincipals", &said.not_principals, |made, list| made.not_principals(list)),
        ("issuers", &said.issuers, |made, list| made.issuers(list)),
        ("notIssuers", &said.not_issuers, |made, list| made.not_issuers(list)),
        ("scopes", &said.scopes, |made, list| made.scopes(list)),
        ("allScopes", &said.all_scopes, |made, list| made.all_scopes(list)),
        ("notScopes", &said.not_scopes, |made, list| made.not_scopes(list)),
        ("roles", &said.roles, |made, list| made.roles(list)),
        ("allRoles", &said.all_roles, |made, list| made.all_roles(list)),
        ("notRoles", &said.not_roles, |made, list| made.not_roles(list)),
        ("plans", &said.plans, |made, list| made.plans(list)),
        ("notPlans", &said.not_plans, |made, list| made.not_plans(list)),
        ("peers", &said.peers, |made, list| made.peers(list)),
        ("notPeers", &said.not_peers, |made, list| made.not_peers(list)),
        ("trustDomains", &said.trust_domains, |made, list| made.trust_domains(list)),
        ("notTrustDomains", &said.not_trust_domains, |made, list| made.not_trust_domains(list)),
        ("peerPaths", &said.peer_paths, |made, list| made.peer_paths(list)),
        ("notPeerPaths", &said.not_peer_paths, |made, list| made.not_peer_paths(list)),
        ("namespaces", &said.namespaces, |made, list| made.namespaces(list)),
        ("notNamespaces", &said.not_namespaces, |made, list| made.not_namespaces(list)),
        ("serviceAccounts", &said.service_accounts, |made, list| made.service_accounts(list)),
        ("notServiceAccounts", &said.not_service_accounts, |made, list| made.not_service_accounts(list)),
    ];
    let mut made = Source::new();
    for (name, list, add) in fields {
        made = texts(at, name, made, list, add);
    }
    for (at, one) in at.field("claims").items(&said.claims) {
        check_values(at, &one.values, &one.not_values);
        if let Some(list) = &one.values {
            made = made.clone().claim(&one.claim, list).unwrap_or(made);
        }
        if let Some(list) = &one.not_values {
            made = made.clone().not_claim(&one.claim, list).unwrap_or(made);
        }
    }
    let networks = |list: &Option<Vec<Text<IpNet>>>| {
        list.as_ref().map(|list| list.iter().map(|network| network.0).collect::<Vec<_>>())
    };
    made = networks(&said.networks).into_iter().fold(made, Source::networks);
    made = networks(&said.not_networks).into_iter().fold(made, Source::not_networks);
    made = networks(&said.peer_networks).into_iter().fold(made, Source::peer_networks);
    networks(&said.not_peer_networks).into_iter().fold(made, Source::not_peer_networks)
}

fn operation(at: At<'_>, said: &PolicyOperation) -> Operation {
    let fields: [(&'static str, &Texts, Add<Operation>); 4] = [
        ("hosts", &said.hosts, |made, list| made.hosts(list)),
        ("notHosts", &said.not_hosts, |made, list| made.not_hosts(list)),
        ("paths", &said.paths, |made, list| made.paths(list)),
        ("notPaths", &said.not_paths, |made, list| made.not_paths(list)),
    ];
    let mut made = Operation::new();
    for (name, list, add) in fields {
        made = texts(at, name, made, list, add);
    }
    let methods = |list: &Option<Vec<Method>>| {
        list.as_ref().map(|list| list.iter().map(|method| method.known()).collect::<Vec<_>>())
    };
    made = methods(&said.methods).into_iter().fold(made, Operation::methods);
    made = methods(&said.not_methods).into_iter().fold(made, Operation::not_methods);
    for (at, one) in at.field("headers").items(&said.headers) {
        check_values(at, &one.values, &one.not_values);
        let name = || one.name.0.clone();
        if let Some(list) = &one.values {
            made = made.clone().header(name(), list).unwrap_or(made);
        }
        if let Some(list) = &one.not_values {
            made = made.clone().not_header(name(), list).unwrap_or(made);
        }
    }
    for (at, one) in at.field("queryParams").items(&said.query_params) {
        check_values(at, &one.values, &one.not_values);
        if let Some(list) = &one.values {
            made = made.clone().query(&one.name, list).unwrap_or(made);
        }
        if let Some(list) = &one.not_values {
            made = made.clone().not_query(&one.name, list).unwrap_or(made);
        }
    }
    made
}

/// Values of something that has a name.
fn check_values(at: At<'_>, values: &Texts, not_values: &Texts) {
    if values.is_none() && not_values.is_none() {
        at.error("expected `values` or `notValues`");
    }
    for (name, list) in [("values", values), ("notValues", not_values)] {
        if let Some(list) = list {
            check::<Source>(at.field(name), list, |made, list| made.scopes(list));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn problems(policy: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: portcullis/v1alpha1\nauthorization: {{ p: {policy} }}\n\
             listeners: [{{ name: public, address: 127.0.0.1:8080 }}]\n\
             upstreams: {{ one: {{ endpoints: [127.0.0.1:9001] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
        );
        let check = Config::text("f", text).check();
        check.faults().iter().map(|fault| format!("{}: {}", fault.path, fault.problem)).collect()
    }

    /// Where no listener brings certificates, whoever writes such a rule is told what it does.
    #[test]
    fn what_asks_for_certificates_is_warned_of() {
        let place = "authorization.p.rules[0].from[0]";
        for (said, field, means) in [
            ("peers: ['*']", "peers", "nobody"),
            ("trustDomains: [shop.example]", "trustDomains", "nobody"),
            ("peerPaths: [/ns/*]", "peerPaths", "nobody"),
            ("namespaces: [shop]", "namespaces", "nobody"),
            ("serviceAccounts: [shop/orders]", "serviceAccounts", "nobody"),
            ("notPeers: ['*']", "notPeers", "everybody"),
            ("notTrustDomains: [shop.example]", "notTrustDomains", "everybody"),
            ("notPeerPaths: [/ns/*]", "notPeerPaths", "everybody"),
            ("notNamespaces: [shop]", "notNamespaces", "everybody"),
            ("notServiceAccounts: [shop/*]", "notServiceAccounts", "everybody"),
        ] {
            let found = problems(&format!("{{ action: deny, rules: [{{ from: [{{ {said} }}] }}] }}"));
            let expected = format!("{place}.{field}: no listener brings certificates: this means {means}");
            assert_eq!(found, [expected]);
        }
        assert_eq!(problems("{ action: deny, rules: [{ from: [{ networks: [10.0.0.0/8] }] }] }"), [""; 0]);
    }
}
