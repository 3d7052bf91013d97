//! What a token's claims must say.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    Claims, Pointer, TokenError,
    json::{self, EachText, Members, NumericDate, Text},
};
use crate::identity::Principal;

/// The most claims that can be required by name: one bit each.
const MAX_REQUIRED: usize = 64;

#[derive(Debug, Clone)]
pub(in crate::authn) struct Rules {
    pub(in crate::authn) provider: Arc<str>,
    pub(in crate::authn) issuer: Option<Arc<str>>,
    pub(in crate::authn) audiences: Vec<Box<str>>,
    pub(in crate::authn) required: Vec<Box<str>>,
    pub(in crate::authn) roles: Pointer,
    pub(in crate::authn) skew: Duration,
}

impl Rules {
    /// The principal of claims that are in order at `now`.
    pub(in crate::authn) fn check(&self, claims: &Claims, now: SystemTime) -> Result<Principal, TokenError> {
        let mut read = Read::new(self);
        json::read(claims.as_json(), &mut read).map_err(|_| TokenError::Claims)?;
        read.in_time(now)?;
        if read.seen != self.all_required() {
            return Err(TokenError::Missing);
        }
        let issuer = match (&self.issuer, &read.issuer) {
            (None, None) => Arc::from(""),
            (None, Some(issuer)) => Arc::from(&*issuer.0),
            (Some(wanted), Some(issuer)) if **wanted == *issuer.0 => wanted.clone(),
            (Some(_), _) => return Err(TokenError::Issuer),
        };
        if !self.audiences.is_empty() && !read.for_us {
            return Err(TokenError::Audience);
        }
        self.principal(claims, read, issuer)
    }

    fn principal(
        &self,
        claims: &Claims,
        read: Read<'_, '_>,
        issuer: Arc<str>,
    ) -> Result<Principal, TokenError> {
        let subject = read.subject.as_ref().map_or("", |subject| &subject.0);
        let mut principal =
            Principal::told(self.provider.clone(), issuer, subject).with_claims(claims.lookup());
        if let Some(scopes) = read.scope.or(read.scp) {
            principal = principal.with_scopes([scopes]);
        }
        let roles = if self.roles.claim().is_some() {
            read.roles
        } else {
            let nested: Option<Roles> = self.roles.find(claims.as_json()).map_err(|_| TokenError::Claims)?;
            nested.map(|roles| roles.0).unwrap_or_default()
        };
        if !roles.is_empty() {
            principal = principal.with_roles(roles);
        }
        match read.expires {
            Some(date) => Ok(principal.with_expiry(date.floor())),
            None => Ok(principal),
        }
    }

    /// One bit for each required claim.
    fn all_required(&self) -> u64 {
        self.required.iter().fold(0, |bits, _| bits << 1 | 1)
    }

    pub(in crate::authn) fn require(&mut self, claim: &str) {
        if self.required.len() < MAX_REQUIRED && self.required.iter().all(|known| **known != *claim) {
            self.required.push(claim.into());
        }
    }
}

/// What one pass over the claims finds.
struct Read<'r, 'c> {
    rules: &'r Rules,
    /// The required claims that are there.
    seen: u64,
    /// Whether `aud` names one of our audiences.
    for_us: bool,
    issuer: Option<Text<'c>>,
    subject: Option<Text<'c>>,
    expires: Option<NumericDate>,
    not_before: Option<NumericDate>,
    scope: Option<Cow<'c, str>>,
    scp: Option<Cow<'c, str>>,
    roles: Vec<Box<str>>,
}

impl<'r> Read<'r, '_> {
    fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            seen: 0,
            for_us: false,
            issuer: None,
            subject: None,
            expires: None,
            not_before: None,
            scope: None,
            scp: None,
            roles: Vec::new(),
        }
    }

    fn in_time(&self, now: SystemTime) -> Result<(), TokenError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew = self.rules.skew.as_secs_f64();
        if self.expires.is_some_and(|date| now >= date.0 + skew) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|date| now + skew < date.0) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

impl<'c> Members<'c> for Read<'_, 'c> {
    fn member<A: MapAccess<'c>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let mut present = true;
        match name {
            "aud" => {
                let (ours, found) = (&self.rules.audiences, &mut self.for_us);
                map.next_value_seed(EachText(|aud: &str| *found |= ours.iter().any(|own| **own == *aud)))?;
            }
            "exp" => self.expires = Some(map.next_value()?),
            "iat" => drop(map.next_value::<NumericDate>()?),
            "iss" => self.issuer = Some(map.next_value()?),
            "nbf" => self.not_before = Some(map.next_value()?),
            "scope" => self.scope = Some(map.next_value::<Scopes<'c>>()?.0),
            "scp" => self.scp = Some(map.next_value::<Scopes<'c>>()?.0),
            "sub" => self.subject = Some(map.next_value()?),
            _ if self.rules.roles.claim() == Some(name) => self.roles = map.next_value::<Roles>()?.0,
            // A claim that is null says nothing.
            _ => present = map.next_value::<Option<IgnoredAny>>()?.is_some(),
        }
        if let Some(at) = self.rules.required.iter().position(|required| **required == *name) {
            self.seen |= u64::from(present) << at;
        }
        Ok(())
    }
}

/// Scopes divided by spaces: the one string of RFC 6749, or the list that some providers write.
struct Scopes<'c>(Cow<'c, str>);

impl<'c> Deserialize<'c> for Scopes<'c> {
    fn deserialize<D: Deserializer<'c>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScopesVisitor;

        impl<'c> Visitor<'c> for ScopesVisitor {
            type Value = Scopes<'c>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("scopes")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'c str) -> Result<Scopes<'c>, E> {
                Ok(Scopes(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scopes<'c>, E> {
                Ok(Scopes(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'c>>(self, mut list: A) -> Result<Scopes<'c>, A::Error> {
                let mut joined = String::new();
                while let Some(Text(scope)) = list.next_element()? {
                    joined.push(' ');
                    joined.push_str(&scope);
                }
                Ok(Scopes(Cow::Owned(joined)))
            }
        }

        deserializer.deserialize_any(ScopesVisitor)
    }
}

/// One role, or a list of them.
#[derive(Default)]
struct Roles(Vec<Box<str>>);

impl<'c> Deserialize<'c> for Roles {
    fn deserialize<D: Deserializer<'c>>(deserializer: D) -> Result<Self, D::Error> {
        let mut roles = Vec::new();
        EachText(|role: &str| roles.push(role.into())).deserialize(deserializer)?;
        Ok(Self(roles))
    }
}
