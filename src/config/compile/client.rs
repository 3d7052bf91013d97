//! A mesh client, by the compilers of a gateway's parts.
use std::collections::BTreeMap;

use super::{Compiled, Compiler, compiler::named, routes::divided};
#[cfg(feature = "tls")]
use crate::stack::Identities;
use crate::{
    config::{
        at::At,
        schema::{BackendRef, Policies, Rule, SessionType},
    },
    stack::{gateway, mesh},
};

/// What a client calls, and who it is there.
#[derive(Debug)]
pub(in crate::config) struct Calls {
    pub(in crate::config) destinations: Vec<mesh::Destination>,
    #[cfg(feature = "tls")]
    pub(in crate::config) identities: Identities,
}

impl<'a> Compiler<'a> {
    /// What a client calls by these rules. It is of use only if nothing was reported.
    pub(in crate::config) fn mesh_client(
        mut self,
        rules: &'a BTreeMap<String, Rule>,
    ) -> Option<Compiled<Calls>> {
        self.define();
        let mut made = Vec::new();
        for (at, name, rule) in self.top.field("destinations").entries(rules) {
            if named(at, name) {
                made.push(mesh::Destination::of_rule(self.destination(at, name, rule)));
            }
        }
        for (at, name, _) in self.top.field("upstreams").entries(&self.file.upstreams) {
            let written = |other: &&String| other.eq_ignore_ascii_case(name);
            if self.upstreams.contains_key(name) && rules.keys().find(written).is_none() {
                made.push(mesh::Destination::of_rule(self.upstream_itself(
                    at,
                    name,
                    gateway::Rule::new(name),
                )));
            }
        }
        if made.is_empty() {
            self.top.field("upstreams").error("a client needs one at least");
        } else if !self.top.log().refuses() {
            self.top.accept(mesh::Client::check(made.clone()));
        }
        #[cfg(feature = "tls")]
        let identities = self.told_identities();
        let (kept, followers) = self.keep(None);
        let made = Calls {
            destinations: made,
            #[cfg(feature = "tls")]
            identities,
        };
        Some(Compiled { made, kept, followers })
    }

    pub(super) fn destination(&self, at: At<'_>, name: &str, rule: &Rule) -> gateway::Rule {
        let made = gateway::Rule::new(name);
        let made = self.calls(at, made, rule);
        if rule.session_persistence.as_ref().is_some_and(|session| session.kind == SessionType::Cookie) {
            at.field("sessionPersistence")
                .field("type")
                .error("expected `Header`: a service keeps no cookies");
        }
        calls_twice(at.field("policies").field("hedge"), rule);
        let made = self.sessions(at, made, rule);
        let made = divided(at.field("policies").field("split"), made, &rule.policies, &|_| None, false);
        for (at, _) in
            at.field("filters").items(&rule.filters).filter(|(_, filter)| filter.request_mirror.is_none())
        {
            at.field("type").error("a client has `RequestMirror` alone");
        }
        if let Some(mirror) = &rule.policies.mirror {
            self.check_mirror(at.field("policies").field("mirror"), mirror);
        }
        let made = self.mirrors(at, made, rule);
        let made = self.canary(at, made, rule);
        if !rule.backend_refs.is_empty() || at.field("backendRefs").is_said() {
            return self.backends(at, made, rule);
        }
        if self.find(at, name, "upstream", "upstreams", &self.upstreams).is_none() {
            return made;
        }
        self.upstream_itself(at, name, made)
    }

    /// The upstream of this name, as the only one.
    fn upstream_itself(&self, at: At<'_>, name: &str, made: gateway::Rule) -> gateway::Rule {
        let itself = BackendRef { name: name.to_owned(), ..BackendRef::default() };
        match self.backend(at, &itself) {
            Some(proxy) => made.backend(self.with_credentials(at, name, proxy, &Policies::default()), 1),
            None => made,
        }
    }
}

/// A rule of a gateway says by its methods what is sent twice; a client is not told which its calls are.
fn calls_twice(at: At<'_>, rule: &Rule) {
    let is_said = at.field("dangerAnyMethod").is_said();
    if rule.policies.hedge.as_ref().is_some_and(|hedge| !hedge.danger_any_method) && !is_said {
        at.warn(
            "only idempotent calls are sent twice, and gRPC is always POST: `dangerAnyMethod: true` for calls that can be \
             repeated, `false` if none of them is gRPC",
        );
    }
}
