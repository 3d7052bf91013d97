//! `authorizers`, what upstreams are told, and the guard against other sites.
use std::time::Duration;

use http::{HeaderName, header};

use super::Compiler;
use crate::{
    admission::ext_authz::{AuthBody, ExternalAuth, InvalidAuthorizer},
    config::{
        at::At,
        scalar::Spelled,
        schema::{Authorizer, AuthorizerBody, CallerFact, Csrf, Header, OnFailure},
    },
    fetch::Fetch,
    identity::{self, AssertedHeaders, CallerHeaders},
    reject::Reason,
    routing::filter,
    upstream::{Client, HopByHop},
};

/// How long an authorizer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How many answers are remembered.
const MAX_ENTRIES: usize = 10_000;

impl Compiler<'_> {
    /// An authorizer: the one that is in force, if nothing about it has changed.
    pub(super) fn authorizer(&self, at: At<'_>, name: &str, said: &Authorizer) -> Option<ExternalAuth> {
        let body = said.body.as_ref().and_then(|body| auth_body(at.field("body"), body));
        let kept = self.kept.authorizers.get(name);
        if let Some((_, kept)) = kept.filter(|(text, _)| *text == format!("{said:?}")) {
            return Some(kept.clone());
        }
        let timeout = said.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.0);
        let fetch = Fetch::new(client(at, said)?).timeout(timeout);
        let mut made = at.field("url").accept(ExternalAuth::new(name, &said.url, fetch))?;
        if let Some((_, kept)) = kept {
            made = made.counts(kept.numbers().clone());
        }
        made = self.auth_headers(at, said, made);
        if let Some(cache) = &said.cache {
            let most = cache.max_entries.map_or(MAX_ENTRIES, |most| most.get() as usize);
            made = made.cache(cache.ttl.0, most);
        }
        if matches!(said.on_failure, OnFailure::Forbidden) {
            made = made.on_failure(Reason::Forbidden);
        }
        if said.danger_fail_open {
            at.field("dangerFailOpen").warn("while the authorizer fails, everybody is let in");
            made = made.danger_fail_open();
        }
        Some(made.body(body.unwrap_or_default()))
    }

    /// Which headers go to an authorizer and come back.
    fn auth_headers(&self, at: At<'_>, said: &Authorizer, mut made: ExternalAuth) -> ExternalAuth {
        type Set = fn(ExternalAuth, Vec<HeaderName>) -> Result<ExternalAuth, InvalidAuthorizer>;
        let lists: [(&'static str, Option<&[Header]>, Set); 4] = [
            ("requestHeaders", said.request_headers.as_deref(), |made, names| made.request_headers(names)),
            ("upstreamHeaders", Some(&said.upstream_headers), |made, names| made.upstream_headers(names)),
            ("clientHeaders", Some(&said.client_headers), |made, names| made.client_headers(names)),
            ("refusalHeaders", said.refusal_headers.as_deref(), |made, names| made.refusal_headers(names)),
        ];
        for (field, list, set) in lists {
            let Some(list) = list else { continue };
            for (at, name) in at.field(field).items(list) {
                if set(made.clone(), vec![name.0.clone()]).is_err() {
                    at.error("this header is of one connection or message, and not to be handed on");
                }
            }
            let names = list.iter().map(|name| name.0.clone()).collect();
            made = set(made.clone(), names).unwrap_or(made);
        }
        let of_providers = self.providers.values().flat_map(|provider| provider.asserted_headers());
        let of_providers: AssertedHeaders = of_providers.cloned().collect();
        for (at, name) in at.field("upstreamHeaders").items(&said.upstream_headers) {
            if of_providers.contains(&name.0) {
                at.error("`claimHeaders` tell something in this header already");
            }
        }
        made
    }

    /// What upstreams are told of callers.
    pub(super) fn caller_headers(&self) -> CallerHeaders {
        let mut told = CallerHeaders::new();
        for (at, name, fact) in self.top.field("callerHeaders").entries(&self.file.caller_headers) {
            let Some(header) = HeaderName::spell(name) else {
                at.error(format!("expected {}", HeaderName::EXPECTED));
                continue;
            };
            let of_providers = self.providers.values().flat_map(|provider| provider.asserted_headers());
            let of_authorizers = self.authorizers.values().flat_map(ExternalAuth::asserted_headers);
            if of_providers.chain(of_authorizers).cloned().collect::<AssertedHeaders>().contains(&header) {
                at.error("`claimHeaders` or `upstreamHeaders` tell something in this header already");
                continue;
            }
            // What frames a message or belongs to a connection is no place to tell something.
            if HopByHop::always_removes(&header) || header == header::HOST || header == header::CONTENT_LENGTH
            {
                at.error("this header is of one connection or message, and not to be set");
                continue;
            }
            told = told.with(
                header,
                match fact {
                    CallerFact::Provider => identity::CallerFact::Provider,
                    CallerFact::Issuer => identity::CallerFact::Issuer,
                    CallerFact::Subject => identity::CallerFact::Subject,
                    CallerFact::Plan => identity::CallerFact::Plan,
                    CallerFact::Scopes => identity::CallerFact::Scopes,
                },
            );
        }
        told
    }

    /// The guard of a rule against requests of other sites.
    pub(super) fn csrf(&self, at: At<'_>, said: &Csrf) -> filter::Csrf {
        let mut guard = filter::Csrf::new();
        for (at, origin) in at.field("trustedOrigins").items(&said.trusted_origins) {
            guard = at.accept(guard.clone().trust(origin)).unwrap_or(guard);
        }
        guard
    }
}

/// Who asks: over TLS, if the URL says so.
fn client(at: At<'_>, said: &Authorizer) -> Option<Client> {
    let builder = Client::builder();
    if !said.url.starts_with("https:") {
        return Some(builder.build());
    }
    #[cfg(feature = "tls")]
    return at.field("url").accept(crate::tls::ClientTls::platform()).map(|tls| builder.tls(tls).build());
    #[cfg(not(feature = "tls"))]
    return at.field("url").refuse("this build has no TLS: it was made without the feature `tls`");
}

fn auth_body(at: At<'_>, said: &AuthorizerBody) -> Option<AuthBody> {
    match (said.whole, said.beginning) {
        (Some(whole), None) => Some(AuthBody::Whole(whole.get() as usize)),
        (None, Some(beginning)) => Some(AuthBody::Beginning(beginning.get() as usize)),
        _ => at.refuse("expected exactly one of `whole` and `beginning`"),
    }
}
