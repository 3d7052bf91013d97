//! `policies.fallback`: what is given in the place of failures.
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode, header};

use super::{Compiler, retry::is_once};
use crate::{
    config::{
        at::At,
        schema::{BackendRef, FallbackResponse, FallbackRules, MirrorRef, Rule},
    },
    resilience::fallback::Policy,
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
        match (&said.response, &said.backend_ref) {
            (Some(response), None) => {
                let policy = Policy::answer(answer(at.field("response"), response));
                let policy = self.counting(&made, cases(policy, said));
                made.fallback(policy)
            }
            (None, Some(backend)) => {
                let policy = self.counting(&made, cases(Policy::cases(), said));
                self.another(at.field("backendRef"), made, backend, policy, rule)
            }
            _ if at.is_broken() => made,
            _ => {
                at.error("expected exactly one of `response` and `backendRef`");
                made
            }
        }
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
