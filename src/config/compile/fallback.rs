//! `policies.fallback`: what is given in the place of failures.
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode, header};

use super::{Compiler, limits::key, retry::is_once, subsets::called};
use crate::{
    admission::ext_authz::ExternalAuth,
    config::{
        at::At,
        kept::SaidOfStale,
        schema::{
            BackendRef, FallbackResponse, FallbackRules, Gateway, KeyList, MirrorRef, Policies, Rule,
            StaleRules,
        },
    },
    key::Key,
    resilience::fallback::{Policy, Stale},
    stack::gateway,
    upstream::HopByHop,
};

/// Header fields that frame a message.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How much old answers take where a file does not say it.
const MOST_BYTES: usize = 16 << 20;

impl Compiler<'_> {
    pub(super) fn fallback(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let Some(said) = &rule.policies.fallback else { return made };
        let at = at.field("policies").field("fallback");
        if rule.filters.iter().any(|filter| filter.request_redirect.is_some()) {
            at.error("a rule that redirects asks nobody who could fail");
        }
        if said.codes.is_empty() && said.on.as_ref().is_some_and(Vec::is_empty) {
            at.field("on").error("no failure is meant: expected cases here, or in `codes`");
        }
        let policy = match &said.response {
            Some(response) => Policy::answer(answer(at.field("response"), response)),
            None => Policy::cases(),
        };
        let stale = said.stale.as_ref().and_then(|stale| self.stale(at.field("stale"), &made, stale, rule));
        let policy = stale.into_iter().fold(cases(policy, said), Policy::stale);
        let policy = self.counting(&made, policy);
        match (&said.response, &said.backend_ref) {
            (Some(_), Some(_)) => at.error("expected one of `response` and `backendRef`, and not both"),
            (None, Some(backend)) => {
                return self.another(at.field("backendRef"), made, backend, policy, rule);
            }
            (None, None) if said.stale.is_none() && !at.is_broken() => {
                at.error("expected `stale`, `response` or `backendRef`");
            }
            _ => {}
        }
        made.fallback(policy)
    }

    /// The old answers of the rule: those that are kept already, if they are still those of the same upstreams, asked in the same
    /// way.
    fn stale(&self, at: At<'_>, made: &gateway::Rule, said: &StaleRules, rule: &Rule) -> Option<Stale> {
        let asserted = self.authorizers.each().flat_map(ExternalAuth::asserted_headers);
        let asserted: Vec<_> = asserted.filter(|_| rule.policies.authorize.is_some()).collect();
        let by = said.key.as_ref().and_then(|by| self.callers(at.field("key"), made, by, &asserted));
        let most =
            said.max_bytes.map_or(MOST_BYTES, |bytes| usize::try_from(bytes.get()).unwrap_or(usize::MAX));
        if said.max_body.is_some_and(|body| body.get() as usize > most / 4) {
            at.field("maxBody").warn("more than a quarter of `maxBytes`: no body of that length is kept");
        }
        let stale = said
            .max_entries
            .iter()
            .fold(Stale::new().max_bytes(most), |stale, entries| stale.max_entries(entries.get() as usize));
        let stale = said.max_body.iter().fold(stale, |stale, bytes| stale.max_body(bytes.get() as usize));
        let stale = said.max_age.iter().fold(stale, |stale, age| stale.max_age(age.0));
        let stale = by.into_iter().fold(stale, Stale::key);
        self.stales.borrow_mut().keep(&self.kept.stales, made.name(), self.whose(said, rule), || Some(stale))
    }

    /// Whose old answers are, and to what: by which upstreams, asked in which way, and what these are told of who asks.
    fn whose(&self, said: &StaleRules, rule: &Rule) -> SaidOfStale {
        let backends: Vec<_> = rule.backend_refs.iter().map(called).collect();
        let upstreams: Vec<_> =
            rule.backend_refs.iter().map(|backend| self.file.upstreams.get(&backend.name)).collect();
        let Policies { authenticate, authorize, .. } = &rule.policies;
        let Gateway { authentication, authorizers, caller_headers, .. } = self.file;
        let callers = (authenticate, authorize, authentication, authorizers, caller_headers);
        format!("{said:?} {backends:?} {upstreams:?} {:?} {callers:?}", rule.filters)
    }

    /// By what they are told apart.
    fn callers(
        &self,
        at: At<'_>,
        made: &gateway::Rule,
        said: &KeyList,
        asserted: &[&HeaderName],
    ) -> Option<Key> {
        let removed = |part: &Key| match part {
            Key::Header(name) if asserted.contains(&name) => None,
            part => self.removed_inside(part, made.providers()),
        };
        let by = key(at, said, &removed)?;
        if !by.tells_callers() {
            return at.refuse("it tells no caller from another: expected a part such as a cookie");
        }
        if by.needs_identity() && made.providers().is_none() {
            at.warn("nobody asks who callers are: nothing is kept");
        }
        Some(by)
    }

    /// Goes on with the numbers of the rule of this name.
    fn counting(&self, made: &gateway::Rule, policy: Policy) -> Policy {
        let before = self.kept.counted.fallbacks.get(made.name());
        let policy = before.into_iter().fold(policy, Policy::counted_by);
        self.counted.borrow_mut().fallbacks.insert(made.name().to_owned(), policy.handle());
        policy
    }

    fn another(
        &self,
        at: At<'_>,
        made: gateway::Rule,
        said: &MirrorRef,
        policy: Policy,
        rule: &Rule,
    ) -> gateway::Rule {
        let backends = &rule.backend_refs;
        let is_same = |backend: &BackendRef| backend.name == said.name && backend.subset == said.subset;
        if !backends.is_empty() && backends.iter().all(is_same) {
            at.field("name").error("the rule has no other upstream: this is the one that has failed");
        }
        if is_once(rule) {
            at.warn(
                "these methods are not idempotent: what has no `Idempotency-Key` is sent there only if nobody has looked at it",
            );
        }
        let Some(proxy) = self.backend(at, &said.backend()) else { return made };
        made.fallback_backend(self.with_credentials(at, &said.name, proxy, &rule.policies), policy)
    }
}

fn cases(policy: Policy, said: &FallbackRules) -> Policy {
    let codes = said.codes.iter().filter_map(|code| StatusCode::from_u16(*code).ok());
    let policy = policy.codes(codes);
    let on = said.on.iter().map(|on| on.iter().map(|on| on.known()));
    on.fold(policy, Policy::on)
}

fn answer(at: At<'_>, said: &FallbackResponse) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(said.body.clone()));
    *response.status_mut() =
        said.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
    for (at, line) in at.field("headers").items(&said.headers) {
        let name = &line.name.0;
        if FRAMING.contains(name) || HopByHop::always_removes(name) {
            at.field("name").error("this header frames a message, or is for one connection");
        }
        response.headers_mut().append(name.clone(), line.value.0.clone());
    }
    let is_bare = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bare && !said.body.is_empty() {
        at.field("body").error("a response of this status has no body");
    }
    response
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, kept::Kept};

    #[test]
    fn what_an_authorizer_tells_upstreams_can_be_the_key() {
        let taken = "no request has it here: what clients send is taken out, for `upstreamHeaders` or `callerHeaders` says it";
        for (tells, authorize, stale, problem) in [
            ("upstreamHeaders: [x-user]", "authorize: { authorizers: [iam] }", "{}", None),
            (
                "upstreamHeaders: [x-user]",
                "authorize: { authorizers: [iam] }",
                "{ key: { header: x-user } }",
                None,
            ),
            ("upstreamHeaders: [x-user]", "", "{ key: { header: x-user } }", Some(taken)),
        ] {
            let text = format!(
                "apiVersion: portcullis/v1alpha1\n\
                 authorizers: {{ iam: {{ url: 'http://127.0.0.1:4000/', {tells} }} }}\n\
                 listeners: [{{ name: public, address: 127.0.0.1:8080 }}]\n\
                 upstreams: {{ one: {{ endpoints: [127.0.0.1:9001] }} }}\n\
                 routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ fallback: {{ stale: {stale} }}, \
                 {authorize} }} }}] }}]\n"
            );
            let reading = Config::text("f", text).read(&Kept::default());
            let found: Vec<_> = reading.faults.iter().map(|fault| fault.problem.to_string()).collect();
            assert_eq!(found, Vec::from_iter(problem), "{tells} {authorize} {stale}");
        }
    }
}
