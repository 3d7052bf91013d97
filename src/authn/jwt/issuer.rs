use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue};

use super::{
    Algorithm, Key, KeySet, Keys, Pointer, TokenError,
    binding::{Binding, Bound, Sender},
    rules::{Rules, Times},
    token::{Header, MAX_SIGNATURE, Parts},
};
use crate::identity::{Principal, header_value};

/// What is asked of the tokens of one issuer.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    pub(super) keys: Keys,
    pub(super) rules: Rules,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) types: Vec<Box<str>>,
    pub(super) bound: Bound,
    pub(super) claim_headers: Vec<(HeaderName, Pointer)>,
}

/// What is told to the upstream of one token.
pub(in crate::authn) type Told = Option<Arc<[(HeaderName, HeaderValue)]>>;

/// What was found out about a token at first sight, and stands while it is the same token.
#[derive(Debug)]
pub(super) struct Findings {
    /// The key that has verified it.
    pub(super) key: Arc<Key>,
    pub(super) principal: Principal,
    pub(super) times: Times,
    pub(super) binding: Binding,
    pub(super) told: Told,
}

impl Issuer {
    /// Whether tokens that say this `iss` are meant.
    pub(super) fn is(&self, name: Option<&str>) -> bool {
        self.rules.issuer.as_deref().is_none_or(|own| name == Some(own))
    }

    /// A quick look for what the payload of nearly every token of this issuer says, somewhere. It may be wrong in both
    /// ways, and the issuer is checked with the other claims.
    pub(super) fn seems_to_be_meant(&self, json: &[u8]) -> bool {
        let Some(name) = &self.rules.issuer else { return true };
        let mut rest = json;
        while let Some(at) = rest.iter().position(|byte| *byte == b'"') {
            rest = &rest[at + 1..];
            let value = rest.strip_prefix(br#"iss":""#).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            if value.is_some_and(|after| after.first() == Some(&b'"')) {
                return true;
            }
        }
        false
    }

    /// Looks at a token that was not seen before, whose payload is `json`.
    pub(super) fn examine(
        &self,
        parts: &Parts<'_>,
        json: &[u8],
        sender: Sender<'_>,
        now: SystemTime,
    ) -> Result<Findings, TokenError> {
        let key = self.verify_signature(parts)?;
        let checked = self.rules.check(json, now)?;
        checked.binding.hold(self.bound, sender)?;
        Ok(Findings {
            key,
            principal: checked.principal,
            times: checked.times,
            binding: checked.binding,
            told: tell(&self.claim_headers, json),
        })
    }

    /// Looks again at a token that was: at everything that may be otherwise by now.
    pub(super) fn examine_again(
        &self,
        before: &Findings,
        sender: Sender<'_>,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        let keys = self.keys.load();
        if !keys.as_ref().is_some_and(|keys| keys.has(&before.key)) {
            return Err(TokenError::UnknownKey);
        }
        before.times.check(now, self.rules.skew)?;
        before.binding.hold(self.bound, sender)
    }

    fn verify_signature(&self, parts: &Parts<'_>) -> Result<Arc<Key>, TokenError> {
        let keys = self.keys.load();
        let keys = keys.as_deref();
        if let Some(header) = keys.and_then(|keys| keys.headers.find(parts.header)) {
            return self.verify_by(keys, parts, header);
        }
        parts.with_header(|header| {
            let key = self.verify_by(keys, parts, header)?;
            keys.inspect(|keys| keys.headers.keep(parts.header, header));
            Ok(key)
        })
    }

    fn verify_by(
        &self,
        keys: Option<&KeySet>,
        parts: &Parts<'_>,
        header: &Header<'_>,
    ) -> Result<Arc<Key>, TokenError> {
        let algorithm = header.algorithm()?;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        if !self.takes_type(header.token_type()) {
            return Err(TokenError::Type);
        }
        let mut buffer = [0; MAX_SIGNATURE];
        let signature = parts.signature(&mut buffer)?;
        let Some(keys) = keys else {
            self.keys.want();
            return Err(TokenError::KeysUnknown);
        };
        let id = header.key_id();
        // Where the key may be one that came after this set, nobody can say that the token is bad. Where a key of that
        // name is here, the token is; but perhaps the name has another key by now, and the set is looked for all the same.
        let unless_new = |error| match self.keys.want() || keys.is_complete(id) {
            true => error,
            false => TokenError::KeysUnknown,
        };
        let mut candidates = keys.candidates(id, algorithm).peekable();
        if candidates.peek().is_none() {
            let why = if keys.knows(id) { TokenError::Algorithm } else { TokenError::UnknownKey };
            return Err(unless_new(why));
        }
        let verified = candidates.find(|(_, verifier)| verifier.verify(parts.signed, signature));
        verified.map(|(key, _)| Arc::clone(key)).ok_or_else(|| unless_new(TokenError::Signature))
    }

    fn takes_type(&self, token_type: Option<&str>) -> bool {
        let Some(token_type) = token_type else { return self.types.is_empty() };
        let is = |name: &str| name.eq_ignore_ascii_case(token_type);
        if self.types.is_empty() { is("JWT") || is("at+jwt") } else { self.types.iter().any(|name| is(name)) }
    }
}

/// The header fields for the upstream.
pub(in crate::authn) fn tell(claim_headers: &[(HeaderName, Pointer)], json: &[u8]) -> Told {
    if claim_headers.is_empty() {
        return None;
    }
    let told = claim_headers.iter().filter_map(|(name, pointer)| {
        let value = header_value(&pointer.text(json)?)?;
        Some((name.clone(), value))
    });
    Some(told.collect())
}
