//! JWT providers.
use std::{collections::BTreeSet, path::Path, sync::Arc};

use http::{HeaderName, header};

use super::{Compiler, authentication::warn_if_open, removed::NOT_OURS};
use crate::{
    authn::{
        Authenticator, Location,
        jwt::{self, KeySet},
    },
    config::{
        at::At,
        kept::Said,
        schema::{Algorithm, Headers, Jwks, JwksFetch, Jwt, Material, TokenLocation, TokenProfile},
    },
    secret,
};

impl Compiler<'_> {
    pub(super) fn jwt(&self, at: At<'_>, name: &str, jwt: &Jwt) -> Option<Arc<dyn Authenticator>> {
        let algorithms = accepted(jwt);
        let mut material = Vec::new();
        let keys = match remote(at, jwt) {
            Some(fetch) => self.remote_keys(at, name, jwt, fetch, &mut material).map(jwt::Keys::from),
            None => self
                .keys(at, jwt, &mut material)
                .filter(|keys| fits(at.field("algorithms"), keys, &algorithms))
                .map(jwt::Keys::from),
        };
        let location = jwt.from.as_ref().map(|from| location(at.field("from"), from));
        let mut gate = jwt::Jwt::new(keys?)
            .named(name)
            .issuer(&jwt.issuer)
            .audiences(jwt.audiences.iter().map(String::as_str))
            .algorithms(algorithms);
        if let Some(skew) = &jwt.clock_skew {
            gate = gate.skew(skew.0);
        }
        gate = rules(gate, jwt);
        if jwt.certificate_bound {
            self.warn_of_no_certificates(at.field("certificateBound"), "every token is refused");
        }
        if let Some(location) = location {
            gate = gate.locations(location);
        }
        for (header, claim) in claim_headers(at, &jwt.claim_headers) {
            gate = gate.claim_header(header, claim);
        }
        if jwt.forward {
            gate = gate.forward();
        }
        let before = &self.kept.remembered.tokens;
        let now = &mut self.remembered.borrow_mut().tokens;
        Some(Arc::new(now.keep(before, name, Said(jwt.clone(), material), || Some(gate))?))
    }

    /// The keys that the file gives, or names files of. What is in these is added to `material`.
    fn keys(&self, at: At<'_>, jwt: &Jwt, material: &mut Vec<Vec<u8>>) -> Option<KeySet> {
        let said = [&"jwks", &"pem", &"secret"].map(|field| at.field(field).is_said());
        match (&jwt.jwks, &jwt.pem, &jwt.secret) {
            _ if said.iter().filter(|said| **said).count() != 1 => {
                at.refuse("expected only one of `jwks`, `pem` and `secret`")
            }
            (Some(jwks), ..) => self.jwks(at.field("jwks"), jwks, material),
            (_, Some(pem), _) => {
                let at = at.field("pem").field("file");
                let pem = self.material(at, pem)?;
                let key = at.accept(jwt::Key::pem(&pem))?;
                material.push(pem);
                at.accept(KeySet::new([key]))
            }
            (.., Some(secret)) => {
                let at = at.field("secret").field("file");
                let secret = self.secret(at, secret)?;
                let key = at.accept(jwt::Key::secret(&secret))?;
                material.push(secret);
                at.accept(KeySet::new([key]))
            }
            _ => None,
        }
    }

    fn jwks(&self, at: At<'_>, jwks: &Jwks, material: &mut Vec<Vec<u8>>) -> Option<KeySet> {
        let at_all = at;
        let (at, json) = match (&jwks.file, &jwks.inline) {
            _ if jwks.url.is_some() => return at.refuse("expected only one of `file`, `inline` and `url`"),
            (Some(path), None) => (at.field("file"), self.file(at.field("file"), path)?),
            (None, Some(json)) => (at.field("inline"), json.clone().into_bytes()),
            (None, None) if at.is_broken() => return None,
            _ => return at.refuse("expected only one of `file`, `inline` and `url`"),
        };
        if at_all.field("fetch").is_said() {
            at_all.field("fetch").error("is for keys that are fetched: from `url`, or from the issuer");
        }
        let Ok(json) = String::from_utf8(json) else { return at.refuse("not UTF-8") };
        let keys = at.accept(KeySet::jwks(&json))?;
        for skipped in keys.skipped() {
            at.warn(format!("key {} of the set is left out: {}", skipped.index, skipped.error));
        }
        // What is written in the file itself is as open as the file is.
        let file = jwks.file.as_ref().map(|path| self.path(path)).or(self.source.map(Path::to_owned));
        if let Some(path) = file.filter(|_| keys.keys().any(is_secret)) {
            warn_if_open(at, &path);
        }
        material.push(json.into_bytes());
        Some(keys)
    }

    /// A secret: warned of if others can read it, since Kubernetes mounts it so.
    pub(super) fn secret(&self, at: At<'_>, material: &Material) -> Option<Vec<u8>> {
        let mut text = self.material(at, material)?;
        warn_if_open(at, &self.path(&material.file));
        text.truncate(secret::bare(&text).len());
        Some(text)
    }
}

/// Whether any of these algorithms is for any of the keys; else every token would be refused.
fn fits(at: At<'_>, keys: &KeySet, accepted: &[jwt::Algorithm]) -> bool {
    let of_keys: BTreeSet<_> = keys.keys().flat_map(jwt::Key::algorithms).collect();
    let fits = of_keys.iter().any(|algorithm| accepted.contains(algorithm));
    if !fits && !at.is_broken() {
        let names: Vec<String> = of_keys.iter().map(|algorithm| format!("`{algorithm}`")).collect();
        let names = names.join(", ");
        at.error(match at.is_said() {
            true => {
                format!("none of these is for a key that is given, but {names}: every token would be refused")
            }
            false => format!("is missing: those of shared secrets must be named, here {names}"),
        });
    }
    fits
}

/// What else is asked of the tokens.
fn rules(mut gate: jwt::Jwt, jwt: &Jwt) -> jwt::Jwt {
    gate = gate.require(jwt.required_claims.iter().map(String::as_str));
    if jwt.profile == Some(TokenProfile::AccessToken) {
        gate = gate.access_tokens();
    }
    if let Some(scopes) = &jwt.scopes_claim {
        gate = gate.scopes_at(scopes.as_str());
    }
    if let Some(plan) = &jwt.plan_claim {
        gate = gate.plan_claim(plan.as_str());
    }
    if let Some(roles) = &jwt.roles_claim {
        gate = gate.roles_at(roles.as_str());
    }
    if jwt.certificate_bound {
        gate = gate.require_certificate();
    }
    jwt.memory.into_iter().fold(gate, jwt::Jwt::memory)
}

/// The algorithms that are accepted. Those of shared secrets must be named.
fn accepted(jwt: &Jwt) -> Vec<jwt::Algorithm> {
    match &jwt.algorithms {
        Some(named) => named.iter().map(|algorithm| algorithm.known()).collect(),
        None => jwt::Algorithm::ALL.iter().copied().filter(|algorithm| !is_of_secret(*algorithm)).collect(),
    }
}

/// How the keys are fetched, if they are.
fn remote(at: At<'_>, jwt: &Jwt) -> Option<JwksFetch> {
    let said = |name| at.field(name).is_said();
    match &jwt.jwks {
        _ if said("pem") || said("secret") => None,
        Some(jwks) if jwks.file.is_some() || jwks.inline.is_some() || at.field("jwks").is_broken() => None,
        Some(jwks) => Some(jwks.fetch.clone()),
        None if said("jwks") => None,
        None => Some(JwksFetch::default()),
    }
}

/// Whether whoever has this key can make tokens, too.
fn is_secret(key: &jwt::Key) -> bool {
    key.algorithms().any(is_of_secret)
}

fn is_of_secret(algorithm: jwt::Algorithm) -> bool {
    use jwt::Algorithm::{Hs256, Hs384, Hs512};
    matches!(algorithm, Hs256 | Hs384 | Hs512)
}

/// The header fields in which claims are told.
pub(super) fn claim_headers<'h>(at: At<'h>, said: &'h Headers) -> Vec<(HeaderName, &'h str)> {
    let mut headers = Vec::new();
    for (at, header, claim) in at.field("claimHeaders").entries(said) {
        match HeaderName::try_from(header) {
            Ok(header) if NOT_OURS.contains(&header) => {
                at.error("no claim can be told in this header");
            }
            Ok(header) => headers.push((header, claim.as_str())),
            Err(_) => at.error("expected the name of a header"),
        }
    }
    headers
}

pub(super) fn location(at: At<'_>, from: &TokenLocation) -> Vec<Location> {
    let header = from.header.as_ref().map(|name| match &name.0 {
        name if *name == header::AUTHORIZATION => Location::bearer(),
        name => Location::header(name.clone()),
    });
    let cookie = from.cookie.as_deref().map(Location::cookie);
    let query = from.query.as_deref().map(Location::query);
    let all: Vec<_> = [header, cookie, query].into_iter().flatten().collect();
    if all.len() != 1 && !at.is_broken() {
        at.error("expected exactly one of `header`, `cookie` and `query`");
    }
    all
}

impl Algorithm {
    fn known(self) -> jwt::Algorithm {
        match self {
            Self::HS256 => jwt::Algorithm::Hs256,
            Self::HS384 => jwt::Algorithm::Hs384,
            Self::HS512 => jwt::Algorithm::Hs512,
            Self::RS256 => jwt::Algorithm::Rs256,
            Self::RS384 => jwt::Algorithm::Rs384,
            Self::RS512 => jwt::Algorithm::Rs512,
            Self::PS256 => jwt::Algorithm::Ps256,
            Self::PS384 => jwt::Algorithm::Ps384,
            Self::PS512 => jwt::Algorithm::Ps512,
            Self::ES256 => jwt::Algorithm::Es256,
            Self::ES384 => jwt::Algorithm::Es384,
            Self::ES512 => jwt::Algorithm::Es512,
            Self::EdDSA => jwt::Algorithm::EdDsa,
        }
    }
}
