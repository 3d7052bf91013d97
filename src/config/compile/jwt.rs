//! JWT providers.
use std::{path::Path, sync::Arc};

use http::{HeaderName, header};

use super::Compiler;
use crate::{
    authn::{
        Authenticator, Location,
        jwt::{self, KeySet},
    },
    config::{
        at::At,
        files::is_open_to_others,
        schema::{Algorithm, Jwks, Jwt, Material, TokenLocation},
    },
};

/// Header names that frame or address a message, or say how it came: no claim is told in them.
const NO_CLAIMS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Compiler<'_> {
    pub(super) fn jwt(&self, at: At<'_>, name: &str, jwt: &Jwt) -> Option<Arc<dyn Authenticator>> {
        let keys = self.keys(at, jwt).filter(|keys| fits(at.field("algorithms"), keys, &jwt.algorithms));
        let location = jwt.from.as_ref().map(|from| location(at.field("from"), from));
        let mut gate = jwt::Jwt::new(keys?)
            .named(name)
            .issuer(&jwt.issuer)
            .audiences(jwt.audiences.iter().map(String::as_str))
            .algorithms(jwt.algorithms.iter().map(|algorithm| algorithm.known()));
        if let Some(skew) = &jwt.clock_skew {
            gate = gate.skew(skew.0);
        }
        if let Some(location) = location {
            gate = gate.locations(location);
        }
        for (at, header, claim) in at.field("claimHeaders").entries(&jwt.claim_headers) {
            match HeaderName::try_from(header) {
                Ok(header) if NO_CLAIMS.contains(&header) => {
                    at.error("no claim can be told in this header");
                }
                Ok(header) => gate = gate.claim_header(header, claim.as_str()),
                Err(_) => at.error("expected the name of a header"),
            }
        }
        Some(Arc::new(if jwt.forward { gate.forward() } else { gate }))
    }

    fn keys(&self, at: At<'_>, jwt: &Jwt) -> Option<KeySet> {
        let said = [&"jwks", &"pem", &"secret"].map(|field| at.field(field).is_said());
        match (&jwt.jwks, &jwt.pem, &jwt.secret) {
            _ if said.iter().filter(|said| **said).count() != 1 => {
                at.refuse("expected exactly one of `jwks`, `pem` and `secret`")
            }
            (Some(jwks), ..) => self.jwks(at.field("jwks"), jwks),
            (_, Some(pem), _) => {
                let at = at.field("pem").field("file");
                let pem = self.material(at, pem)?;
                at.accept(KeySet::new([at.accept(jwt::Key::pem(&pem))?]))
            }
            (.., Some(secret)) => {
                let at = at.field("secret").field("file");
                let secret = self.secret(at, secret)?;
                at.accept(KeySet::new([at.accept(jwt::Key::secret(&secret))?]))
            }
            _ => None,
        }
    }

    fn jwks(&self, at: At<'_>, jwks: &Jwks) -> Option<KeySet> {
        let (at, json) = match (&jwks.file, &jwks.inline) {
            (Some(path), None) => (at.field("file"), self.file(at.field("file"), path)?),
            (None, Some(json)) => (at.field("inline"), json.clone().into_bytes()),
            (None, None) if at.is_broken() => return None,
            _ => return at.refuse("expected exactly one of `file` and `inline`"),
        };
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
        Some(keys)
    }

    /// A secret: warned of if others can read it, since Kubernetes mounts it so.
    fn secret(&self, at: At<'_>, material: &Material) -> Option<Vec<u8>> {
        let mut secret = self.material(at, material)?;
        warn_if_open(at, &self.path(&material.file));
        // Editors and shells end a file with a line end, which is no part of the secret.
        if secret.last() == Some(&b'\n') {
            secret.pop();
            secret.pop_if(|byte| *byte == b'\r');
        }
        Some(secret)
    }
}

fn warn_if_open(at: At<'_>, path: &Path) {
    if is_open_to_others(path) {
        at.warn("this secret can be read by everybody on this machine");
    }
}

/// Whether any of these algorithms is for any of the keys; else every token would be refused.
fn fits(at: At<'_>, keys: &KeySet, algorithms: &[Algorithm]) -> bool {
    let accepted: Vec<_> = algorithms.iter().map(|algorithm| algorithm.known()).collect();
    let fits = keys.keys().any(|key| key.algorithms().any(|algorithm| accepted.contains(&algorithm)));
    if !fits && !at.is_broken() {
        at.error("none of these is for a key that is given: every token would be refused");
    }
    fits
}

/// Whether whoever has this key can make tokens, too.
fn is_secret(key: &jwt::Key) -> bool {
    use jwt::Algorithm::{Hs256, Hs384, Hs512};
    key.algorithms().any(|algorithm| matches!(algorithm, Hs256 | Hs384 | Hs512))
}

fn location(at: At<'_>, from: &TokenLocation) -> Vec<Location> {
    let header = from.header.as_ref().map(|name| match &name.0 {
        name if *name == header::AUTHORIZATION => Location::bearer(),
        name => Location::header(name.clone()),
    });
    let cookie = from.cookie.as_deref().map(Location::cookie);
    let query = from.query.as_deref().map(Location::query);
    let all: Vec<_> = [header, cookie, query].into_iter().flatten().collect();
    if all.len() != 1 {
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
