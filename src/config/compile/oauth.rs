//! Providers that are asked about tokens, and for tokens.
use std::{num::NonZeroU32, sync::Arc};

use super::{
    Compiler,
    jwt::{claim_headers, location},
};
use crate::{
    authn::{
        Authenticator,
        introspection::{Introspection, IntrospectionBuilder, Takes},
        jwt::KeyError,
        oauth::{Client, Endpoint, SigningKey},
        outbound::{TokenRequest, TokenSource},
    },
    config::{
        at::At,
        kept::Said,
        schema::{
            self, OauthClient, ProviderFetch, SecretPlace, TokenEndpoint, TokenShape, UpstreamCredentials,
        },
    },
    fetch::Fetch,
};

impl Compiler<'_> {
    pub(super) fn introspection(
        &self,
        at: At<'_>,
        name: &str,
        said: &schema::Introspection,
    ) -> Option<Arc<dyn Authenticator>> {
        let mut secrets = Vec::new();
        let endpoint = self.endpoint(at, &said.url, &said.client, &said.fetch, &mut secrets);
        let location = said.from.as_ref().map(|from| location(at.field("from"), from));
        let headers = claim_headers(at, &said.claim_headers);
        if said.certificate_bound {
            self.warn_of_no_certificates(at.field("certificateBound"), "every token is refused");
        }
        let make = || {
            let mut builder = Introspection::builder(endpoint?).named(name);
            if let Some(location) = location {
                builder = builder.locations(location);
            }
            let builder = headers
                .into_iter()
                .fold(builder, |builder, (header, claim)| builder.claim_header(header, claim));
            Some(with_settings(builder, said).build())
        };
        let before = &self.kept.remembered.introspections;
        let now = &mut self.remembered.borrow_mut().introspections;
        Some(Arc::new(now.keep(before, name, Said(said.clone(), secrets), make)?))
    }

    /// The introspections of the file by their names.
    pub(super) fn introspections(&self) -> Vec<(Arc<str>, Introspection)> {
        let remembered = self.remembered.borrow();
        remembered
            .introspections
            .all()
            .iter()
            .map(|(name, (_, made))| (Arc::from(&**name), made.clone()))
            .collect()
    }

    /// Where the tokens for an upstream come from.
    pub(super) fn credentials(
        &self,
        at: At<'_>,
        upstream: &str,
        said: &UpstreamCredentials,
    ) -> Option<TokenSource> {
        let UpstreamCredentials { client_credentials, token_exchange, token, danger_forward_token } = said;
        let count = [client_credentials.is_some(), token_exchange.is_some(), token.is_some()];
        if count.iter().filter(|said| **said).count() + usize::from(*danger_forward_token) != 1 {
            if at.is_broken() {
                return None;
            }
            return at.refuse(
                "expected exactly one of `clientCredentials`, `tokenExchange`, `token` and `dangerForwardToken`",
            );
        }
        let mut secrets = Vec::new();
        let source = if let Some(endpoint) = client_credentials {
            TokenSource::client_credentials(self.request(
                at.field("clientCredentials"),
                endpoint,
                &mut secrets,
            )?)
        } else if let Some(endpoint) = token_exchange {
            TokenSource::exchange(self.request(at.field("tokenExchange"), endpoint, &mut secrets)?)
        } else if let Some(token) = token {
            // It is read when it is needed; here it is only looked whether it is there.
            let path = self.path(&token.file);
            if !path.is_file() {
                at.field("token")
                    .field("file")
                    .warn("is not there yet: requests are answered 503 until it is");
            }
            TokenSource::file(path)
        } else {
            TokenSource::danger_caller()
        };
        let before = &self.kept.remembered.sources;
        let now = &mut self.remembered.borrow_mut().sources;
        now.keep(before, upstream, Said(said.clone(), secrets), || Some(source))
    }

    fn request(&self, at: At<'_>, said: &TokenEndpoint, secrets: &mut Vec<Vec<u8>>) -> Option<TokenRequest> {
        let endpoint = self.endpoint(at, &said.url, &said.client, &said.fetch, secrets)?;
        let mut request = TokenRequest::new(endpoint).scopes(&said.scopes);
        if let Some(audience) = &said.audience {
            request = request.audience(audience);
        }
        Some(said.resource.iter().fold(request, |request, resource| request.resource(resource)))
    }

    fn endpoint(
        &self,
        at: At<'_>,
        url: &str,
        client: &OauthClient,
        fetch: &ProviderFetch,
        secrets: &mut Vec<Vec<u8>>,
    ) -> Option<Endpoint> {
        let client = self.oauth_client(at.field("client"), client, secrets);
        let at_roots = at.field("fetch").field("roots").field("file");
        let roots = match &fetch.roots {
            Some(roots) => Some(self.material(at_roots, roots)?),
            None => None,
        };
        let at_url = at.field("url");
        if cfg!(not(feature = "tls")) && url.starts_with("https:") {
            return at_url.refuse(super::compiler::NO_TLS);
        }
        let http = self.client(at_url, roots.as_deref().map(|roots| (at_roots, roots)))?;
        secrets.extend(roots);
        let mut asks = Fetch::new(http);
        if let Some(timeout) = &fetch.timeout {
            asks = asks.timeout(timeout.0);
        }
        let made = match fetch.danger_plain_http {
            true => Endpoint::danger_plain(url, client?, asks),
            false => Endpoint::new(url, client?, asks),
        };
        at_url.accept(made)
    }

    fn oauth_client(&self, at: At<'_>, said: &OauthClient, secrets: &mut Vec<Vec<u8>>) -> Option<Client> {
        let OauthClient { id, secret, secret_in, key, key_id, audience } = said;
        let of_key = [("keyId", key_id.is_some()), ("audience", audience.is_some())];
        for (field, _) in of_key.into_iter().filter(|(_, said)| *said && key.is_none()) {
            at.field(field).error("is for a client that signs with a `key`");
        }
        if secret_in.is_some() && secret.is_none() {
            at.field("secretIn").error("is for a client with a `secret`");
        }
        match (secret, key) {
            (Some(_), Some(_)) => at.refuse("expected only one of `secret` and `key`"),
            (None, None) if at.is_broken() => None,
            (None, None) => {
                at.warn("proves nothing: whoever knows its name can come as this client");
                Some(Client::public(id))
            }
            (Some(secret), None) => {
                let at = at.field("secret").field("file");
                let bytes = self.secret(at, secret)?;
                let Ok(text) = std::str::from_utf8(&bytes) else { return at.refuse("not UTF-8") };
                let client = match secret_in.unwrap_or(SecretPlace::Basic) {
                    _ if text.is_empty() => return at.refuse("is empty"),
                    SecretPlace::Basic => Client::secret_basic(id, text),
                    SecretPlace::Body => Client::secret_post(id, text),
                };
                secrets.push(bytes);
                Some(client)
            }
            (None, Some(key)) => {
                let at = at.field("key").field("file");
                let pem = self.secret(at, key)?;
                let mut key = at.accept::<_, KeyError>(SigningKey::pem(&pem))?;
                if let Some(id) = key_id {
                    key = key.named(id);
                }
                secrets.push(pem);
                let client = Client::private_key_jwt(id, key);
                Some(audience.iter().fold(client, |client, audience| client.audience(audience)))
            }
        }
    }
}

fn with_settings(mut builder: IntrospectionBuilder, said: &schema::Introspection) -> IntrospectionBuilder {
    if let Some(issuer) = &said.issuer {
        builder = builder.issuer(issuer);
    }
    if let Some(audiences) = &said.audiences {
        builder = builder.audiences(audiences.iter().map(String::as_str));
    }
    if let Some(skew) = &said.clock_skew {
        builder = builder.skew(skew.0);
    }
    if let Some(time) = &said.remember {
        builder = builder.remember(time.0);
    }
    if let Some(time) = &said.remember_refused {
        builder = builder.remember_refused(time.0);
    }
    if let Some(TokenShape::All) = said.tokens {
        builder = builder.takes(Takes::All);
    }
    builder = builder.require(said.required_claims.iter().map(String::as_str));
    if let Some(scopes) = &said.scopes_claim {
        builder = builder.scopes_at(scopes.as_str());
    }
    if let Some(plan) = &said.plan_claim {
        builder = builder.plan_claim(plan.as_str());
    }
    if let Some(roles) = &said.roles_claim {
        builder = builder.roles_at(roles.as_str());
    }
    if said.certificate_bound {
        builder = builder.require_certificate();
    }
    with_bounds(builder, said)
}

fn with_bounds(mut builder: IntrospectionBuilder, said: &schema::Introspection) -> IntrospectionBuilder {
    let size = |said: Option<NonZeroU32>| said.map(|size| size.get() as usize);
    if let Some(entries) = size(said.max_entries) {
        builder = builder.max_entries(entries);
    }
    if let Some(bytes) = size(said.memory) {
        builder = builder.memory(bytes);
    }
    if let Some(calls) = size(said.max_calls) {
        builder = builder.max_calls(calls);
    }
    if let Some(calls) = said.max_calls_each {
        builder = builder.max_calls_each(calls.get());
    }
    if let Some(bytes) = size(said.max_size) {
        builder = builder.max_size(bytes);
    }
    if said.forward { builder.forward() } else { builder }
}
