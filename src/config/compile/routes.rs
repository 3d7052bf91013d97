//! `routes`: Gateway API rules, and our policies.
use std::collections::HashSet;

use super::{Compiler, certificates::told, limits::key, sidecar::Side, subsets::called, timeouts::timeouts};
use crate::{
    admission::authz::Authorize,
    config::{
        at::At,
        schema::{
            Authenticate, BackendRef, Demand, Match, Method, PathMatchType, PathQuirk, PathRules, Policies,
            Public, Rule, ValueMatchType,
        },
    },
    key::Key,
    matching::{self, HostPattern, InvalidMatch, PathPolicy, RequestMatch, Text},
    routing::router,
    stack::gateway::{self, SnapshotBuilder},
    upstream::Proxy,
};

impl Compiler<'_> {
    pub(super) fn routes(&self, builder: SnapshotBuilder) -> SnapshotBuilder {
        let mut names = HashSet::new();
        self.sides().fold(builder, |builder, side| self.routes_of(&side, &mut names, builder))
    }

    /// The names of routes are the same account whichever way they go.
    fn routes_of<'a>(
        &self,
        side: &Side<'a>,
        names: &mut HashSet<&'a str>,
        mut builder: SnapshotBuilder,
    ) -> SnapshotBuilder {
        let mut table = Vec::new();
        for (at, route) in side.at.field("routes").items(side.routes) {
            if !names.insert(&route.name.0.0) {
                at.field("name").error("another route has this name");
            }
            let mut hosts = Vec::new();
            for (at, host) in at.field("hostnames").items(&route.hostnames) {
                match HostPattern::parse(host) {
                    Ok(host) => hosts.push(host),
                    Err(_) => at.error("expected a host name, or `*.` and a host name"),
                }
            }
            let mut rules = HashSet::new();
            for (index, (at, rule)) in at.field("rules").items(&route.rules).enumerate() {
                let own = rule.name.as_ref().map_or_else(|| index.to_string(), |name| name.0.0.clone());
                let name = format!("{}/{own}", route.name.0.0);
                if !rules.insert(own) {
                    at.field("name").error("another rule of this route has this name");
                }
                let matches: Vec<_> = at
                    .field("matches")
                    .items(&rule.matches)
                    .map(|(at, one)| self.request_match(at, one))
                    .collect();
                let of_hosts =
                    hosts.iter().cloned().fold(gateway::Rule::new(name.as_str()), gateway::Rule::host);
                let made = matches.iter().flatten().cloned().fold(of_hosts, gateway::Rule::when);
                builder = builder.rule(self.rule(at, made.direction(side.direction), rule));
                if matches.iter().all(Option::is_some) && !at.field("matches").is_broken() {
                    let of_hosts =
                        hosts.iter().cloned().fold(router::Rule::new(name, ()), router::Rule::host);
                    table.push((at, matches.into_iter().flatten().fold(of_hosts, router::Rule::when)));
                }
            }
        }
        unreachable(table);
        builder
    }

    fn rule(&self, at: At<'_>, mut made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let split = at.field("policies").field("split");
        let (by, canary) = (split.field("by"), split.field("canary"));
        if rule.name.is_none() && canary.is_said() {
            canary.warn("a rule without a `name` is called by its place: it begins anew when a rule before it comes or goes");
        }
        if rule.name.is_none() && by.is_said() && rule.backend_refs.len() > 1 {
            by.warn(
                "a rule without a `name` is called by its place: callers are dealt anew when a rule before it comes or \
                 goes",
            );
        }
        made = self.policies(at.field("policies"), made, &rule.policies);
        made = self.rule_load(at.field("policies"), made, &rule.policies);
        made = self.filters(at, made, rule);
        made = self.canary(at, made, rule);
        made = self.mirrors(at, made, rule);
        made = self.rule_breaker(at, made, rule);
        made = self.fallback(at, made, rule);
        made = self.sessions(at, made, rule);
        made = self.calls(at, made, rule);
        self.backends(at, made, rule)
    }

    /// How its upstreams are called.
    pub(super) fn calls(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let made = timeouts(at, made, rule);
        let made = self.retry(at, made, rule);
        let made = self.hedge(at.field("policies").field("hedge"), made, rule);
        let made = self.fault(at.field("policies").field("fault"), made, rule);
        self.told_numbers(at.field("policies"), rule);
        let deadline = rule.policies.deadline_header.iter().map(|header| header.0.clone());
        let made = deadline.fold(made, gateway::Rule::deadline_header);
        let margin = rule.policies.deadline_margin.iter().map(|margin| margin.0);
        margin.fold(made, gateway::Rule::deadline_margin)
    }

    /// Whether the headers in which upstreams are told times and attempts are free for that.
    fn told_numbers(&self, at: At<'_>, rule: &Rule) {
        if let Some(header) = &rule.policies.deadline_header {
            let taken = "no request has it here: a rule's `attemptHeader` takes out what callers say in it";
            let numbered = self.numbers_attempts(&header.0).then_some(taken);
            if let Some(why) = self.no_number(&header.0).or(numbered) {
                at.field("deadlineHeader").error(why);
            }
        }
        let attempt = rule.policies.retry.as_ref().and_then(|rules| rules.attempt_header.as_ref());
        if let Some(why) = attempt.and_then(|header| self.no_number(&header.0)) {
            at.field("retry").field("attemptHeader").error(why);
        }
    }

    pub(super) fn request_match(&self, at: At<'_>, one: &Match) -> Option<RequestMatch> {
        let mut request = Some(RequestMatch::any());
        if let Some(path) = &one.path {
            request = accept(
                at.field("path").field("value"),
                match path.kind {
                    PathMatchType::Exact => RequestMatch::exact(&path.value),
                    PathMatchType::PathPrefix => RequestMatch::prefix(&path.value),
                    PathMatchType::RegularExpression => RequestMatch::regex(&path.value),
                },
            );
        }
        if let Some(method) = one.method {
            request = request.map(|request| request.method(method.known()));
        }
        for (at, header) in at.field("headers").items(&one.headers) {
            if let Some(why) = self.removed(&header.name.0) {
                at.field("name").error(why);
            }
            let value = accept(at.field("value"), text(header.kind, &header.value));
            request = request.zip(value).map(|(request, value)| request.header(header.name.0.clone(), value));
        }
        for (at, query) in at.field("queryParams").items(&one.query_params) {
            let value = accept(at.field("value"), text(query.kind, &query.value));
            request = request.zip(value).map(|(request, value)| request.query(query.name.as_str(), value));
        }
        request
    }

    fn policies(&self, at: At<'_>, mut made: gateway::Rule, policies: &Policies) -> gateway::Rule {
        let said = at.field("authenticate");
        if self.file.require_authentication && !said.is_said() {
            said.error("`requireAuthentication` asks for `authenticate`: name providers, or say `none`");
        }
        let asks = |authenticate: &Authenticate| !matches!(authenticate, Authenticate::None(Public::None));
        let knows_callers = policies.authenticate.as_ref().is_some_and(asks);
        let providers = policies.authenticate.as_ref().and_then(|by| self.authenticate(said, by));
        if let Some(authorize) = &policies.authorize {
            let at = at.field("authorize");
            // If `authenticate` is faulty, that has been told.
            let demands_callers = authorize.scopes.is_some() || authorize.roles.is_some();
            if demands_callers && !(knows_callers || said.is_broken()) {
                at.error("nobody would be let in: `authenticate` names no provider");
            }
            let asks = !authorize.policies.is_empty() || !authorize.authorizers.is_empty();
            if !(demands_callers || asks || at.is_broken()) {
                at.error("asks for nothing: expected `scopes`, `roles`, `policies` or `authorizers`");
            }
            for (name, demand) in [("scopes", &authorize.scopes), ("roles", &authorize.roles)] {
                if let Some(Demand { all, any }) = demand {
                    demands(at.field(name), "all", "any", all.is_some() || any.is_some());
                }
            }
            authorize.scopes.iter().for_each(|scopes| whole_scopes(at.field("scopes"), scopes));
            let mut gate = Authorize::new();
            if let Some(Demand { all, any }) = &authorize.scopes {
                gate = all.iter().fold(gate, |gate, all| gate.all_scopes(all.iter().cloned()));
                gate = any.iter().fold(gate, |gate, any| gate.any_scope(any.iter().cloned()));
            }
            if let Some(Demand { all, any }) = &authorize.roles {
                gate = all.iter().fold(gate, |gate, all| gate.all_roles(all.iter().cloned()));
                gate = any.iter().fold(gate, |gate, any| gate.any_role(any.iter().cloned()));
            }
            if demands_callers {
                made = made.authorize(gate);
            }
            made = self.authorization(at, made, authorize, knows_callers, providers.as_ref());
        }
        if let Some(csrf) = &policies.csrf {
            made = made.csrf(self.csrf(at.field("csrf"), csrf));
        }
        if let Some(mirror) = &policies.mirror {
            self.check_mirror(at.field("mirror"), mirror);
        }
        made = self.rule_bounds(at, made, policies, providers.as_ref());
        let removed = |part: &Key| self.removed_inside(part, providers.as_ref());
        made = divided(at.field("split"), made, policies, &removed, knows_callers);
        made = providers.into_iter().fold(made, gateway::Rule::authenticate);
        for (at, gate) in at.field("gates").items(&policies.gates) {
            if let Some(gate) = self.gates.make(at, gate) {
                made = made.shared_gate(gate);
            }
        }
        made.paths(path_policy(&policies.path))
    }

    pub(super) fn backends(&self, at: At<'_>, mut made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let list = at.field("backendRefs");
        let redirects = rule.filters.iter().any(|filter| filter.request_redirect.is_some());
        if redirects && list.is_said() {
            list.error("a rule that redirects has no upstream");
        }
        if !redirects && rule.backend_refs.is_empty() && !list.is_broken() {
            list.error("is missing: nothing would serve these requests");
        }
        if !rule.backend_refs.is_empty() && rule.backend_refs.iter().all(|backend| backend.weight == Some(0))
        {
            list.error("the weights sum up to zero");
        }
        let mut seen = HashSet::new();
        for (at, backend) in list.items(&rule.backend_refs) {
            if !seen.insert(called(backend)) {
                at.field("name").error("this upstream is in the list already");
                continue;
            }
            if let Some(proxy) = self.backend(at, backend) {
                let made_of = self.with_credentials(at, &backend.name, proxy, &rule.policies);
                made = made.backend(made_of, backend.weight.unwrap_or(1));
            }
        }
        made
    }

    /// An upstream with the credentials that its requests carry.
    pub(super) fn with_credentials(
        &self,
        at: At<'_>,
        upstream: &str,
        proxy: Proxy,
        policies: &Policies,
    ) -> gateway::Backend {
        let backend = self.backend_load(at, upstream, gateway::Backend::new(proxy), policies);
        let budget = self.budgets.get(upstream).cloned();
        let backend = budget.into_iter().fold(backend, gateway::Backend::retry_budget);
        let breaker = self.guarded.get(upstream).cloned();
        let backend = breaker.into_iter().fold(backend, gateway::Backend::circuit_breaker);
        #[cfg(feature = "jwt")]
        if let Some(source) = self.sources.get(upstream) {
            let public = matches!(policies.authenticate, None | Some(Authenticate::None(Public::None)));
            if source.needs_caller() && public {
                let problem = "requests to it carry the caller's token, and this rule does not ask for one";
                at.field("name").error(problem);
            }
            return backend.credentials(source.clone());
        }
        let _ = (at, upstream, policies);
        backend
    }

    pub(super) fn backend(&self, at: At<'_>, backend: &BackendRef) -> Option<Proxy> {
        if backend.group.as_deref().is_some_and(|group| !group.is_empty()) {
            at.field("group").error("other groups than the empty one are not supported");
        }
        if backend.kind.as_deref().is_some_and(|kind| !matches!(kind, "Upstream" | "Service")) {
            at.field("kind").error("other kinds than `Upstream` and `Service`, both for a name of `upstreams`, are not supported");
        }
        let upstream =
            self.find(at.field("name"), &backend.name, "upstream", "upstreams", &self.upstreams)?;
        let said = self.file.upstreams.get(&backend.name)?;
        if let Some(port) = backend.port {
            let ends = format!(":{port}");
            if said.discovery.is_some() {
                at.field("port")
                    .error("the endpoints of this upstream are discovered: their ports are said there");
            } else if !said.endpoints.iter().all(|endpoint| endpoint.address().ends_with(&ends)) {
                at.field("port").error("not each endpoint of the upstream has this port");
            }
        }
        let proxy = Proxy::new(self.part(at, upstream, backend)).forwarded(said.forwarded);
        let proxy = told(proxy, said);
        Some(said.host.iter().fold(proxy, |proxy, host| proxy.host(host.0.clone())))
    }
}

/// Reports a demand that demands nothing.
fn demands(at: At<'_>, one: &str, other: &str, something: bool) {
    if !something && !at.is_broken() {
        at.error(format!("asks for nothing: expected `{one}`, `{other}` or both"));
    }
}

/// Reports scopes that no credential can have, whose scopes are divided by spaces (RFC 6749 section 3.3).
fn whole_scopes(at: At<'_>, Demand { all, any }: &Demand) {
    for (name, scopes) in [("all", all), ("any", any)] {
        for (at, scope) in scopes.iter().flat_map(|scopes| at.field(name).items(scopes)) {
            if scope.contains(char::is_whitespace) {
                at.error("a scope has no spaces: name each by itself");
            }
        }
    }
}

/// Reports matches that an earlier rule takes all requests of.
fn unreachable(table: Vec<(At<'_>, router::Rule<()>)>) {
    let (places, rules): (Vec<_>, Vec<_>) = table.into_iter().unzip();
    let Err(matches) = router::Router::builder().rules(rules).build() else { return };
    for unreachable in matches.iter() {
        let Some(at) = places.get(unreachable.rule) else { continue };
        let problem = format!("can never be reached: the rule `{}` has the same match", unreachable.by);
        at.field("matches").nth(unreachable.entry).error(problem);
    }
}

/// How requests are divided among several upstreams.
pub(super) fn divided(
    at: At<'_>,
    mut made: gateway::Rule,
    policies: &Policies,
    removed: &dyn Fn(&Key) -> Option<&'static str>,
    knows_callers: bool,
) -> gateway::Rule {
    let Some(split) = &policies.split else { return made };
    if let Some(key) = split.by.as_ref().and_then(|by| key(at.field("by"), by, removed)) {
        if key.needs_identity() && !knows_callers {
            at.field("by").warn("nobody asks who callers are: addresses are taken instead");
        }
        made = made.split_by(key);
    }
    let header = split.variant_header.iter().map(|header| header.0.clone());
    header.fold(made, gateway::Rule::variant_header)
}

fn path_policy(path: &PathRules) -> PathPolicy {
    let strict = PathPolicy::strict();
    let policy = if path.keep_empty_segments { strict.keep_empty_segments() } else { strict };
    path.allow.iter().fold(policy, |policy, quirk| {
        policy.allow(match quirk {
            PathQuirk::Backslash => matching::PathQuirk::Backslash,
            PathQuirk::ControlBytes => matching::PathQuirk::ControlBytes,
            PathQuirk::DotParameters => matching::PathQuirk::DotParameters,
            PathQuirk::EncodedSlash => matching::PathQuirk::EncodedSlash,
        })
    })
}

fn text(kind: ValueMatchType, value: &str) -> Result<Text, InvalidMatch> {
    match kind {
        ValueMatchType::Exact => Ok(Text::exact(value)),
        ValueMatchType::RegularExpression => Text::regex(value),
    }
}

/// Tells what is wrong without repeating the value.
fn accept<T>(at: At<'_>, result: Result<T, InvalidMatch>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(InvalidMatch::Path(_, why)) => at.refuse(format!("can match no request: {why}")),
        // The last line says why; those before show the pattern.
        Err(InvalidMatch::Pattern(why)) => {
            match why.lines().last().and_then(|line| line.strip_prefix("error: ")) {
                Some(why) => at.refuse(format!("not a regular expression: {why}")),
                None => at.refuse("not a regular expression, or a too large one"),
            }
        }
        Err(error) => at.refuse(error.to_string()),
    }
}

impl Method {
    pub(super) fn known(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Delete => http::Method::DELETE,
            Self::Connect => http::Method::CONNECT,
            Self::Options => http::Method::OPTIONS,
            Self::Trace => http::Method::TRACE,
            Self::Patch => http::Method::PATCH,
        }
    }
}
