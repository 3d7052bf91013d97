//! What a token's claims must say.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    Pointer, TokenError,
    binding::Binding,
    json::{self, EachText, Members, NumericDate, Skipped, Text},
};
use crate::identity::Principal;

#[derive(Debug, Clone)]
pub(in crate::authn) struct Rules {
    pub(in crate::authn) provider: Arc<str>,
    pub(in crate::authn) issuer: Option<Arc<str>>,
    pub(in crate::authn) audiences: Audiences,
    pub(in crate::authn) required: Vec<Box<str>>,
    pub(in crate::authn) roles: Pointer,
    /// Instead of `scope` and `scp`.
    pub(in crate::authn) scopes: Option<Pointer>,
    pub(in crate::authn) plan: Option<Pointer>,
    pub(in crate::authn) skew: Duration,
}

/// Whom a token may be for.
#[derive(Debug, Clone)]
pub(in crate::authn) enum Audiences {
    Any,
    /// One of these; only one that says nobody, if there are none.
    These(Vec<Box<str>>),
}

/// What a token's claims say, if they are in order.
pub(in crate::authn) struct Checked {
    /// Without its claims.
    pub(in crate::authn) principal: Principal,
    pub(in crate::authn) times: Times,
    pub(in crate::authn) binding: Binding,
}

/// When a token is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(in crate::authn) struct Times {
    not_before: f64,
    /// Infinite if it never ends.
    expires: f64,
}

impl Times {
    pub(in crate::authn) fn check(self, now: SystemTime, skew: Duration) -> Result<(), TokenError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew = skew.as_secs_f64();
        if now >= self.expires + skew {
            Err(TokenError::Expired)
        } else if now + skew < self.not_before {
            Err(TokenError::NotYetValid)
        } else {
            Ok(())
        }
    }

    /// For how long it stays valid.
    pub(in crate::authn) fn left(self, now: SystemTime, skew: Duration) -> Duration {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // What never ends is looked at again in a day.
        let end = Duration::try_from_secs_f64(self.expires).unwrap_or(now + Duration::from_secs(86_400));
        end.saturating_add(skew).saturating_sub(now)
    }
}

impl Rules {
    /// What claims say that are in order at `now`.
    pub(in crate::authn) fn check(&self, json: &[u8], now: SystemTime) -> Result<Checked, TokenError> {
        let mut read = Read::new(self);
        json::read(json, &mut read).map_err(|_| TokenError::Claims)?;
        let times = read.times();
        times.check(now, self.skew)?;
        if read.required != self.required.len() {
            return Err(TokenError::Missing);
        }
        let issuer = match (&self.issuer, &read.issuer) {
            (None, None) => Arc::from(""),
            (None, Some(issuer)) => Arc::from(&*issuer.0),
            (Some(wanted), Some(issuer)) if **wanted == *issuer.0 => wanted.clone(),
            (Some(_), _) => return Err(TokenError::Issuer),
        };
        if !read.for_us.unwrap_or_else(|| self.audiences.takes_none()) {
            return Err(TokenError::Audience);
        }
        let binding = read.binding;
        let principal = self.principal(json, read, issuer)?;
        Ok(Checked { principal, times, binding })
    }

    fn principal(&self, json: &[u8], read: Read<'_, '_>, issuer: Arc<str>) -> Result<Principal, TokenError> {
        let subject = read.subject.as_ref().map_or("", |subject| &subject.0);
        let mut principal = Principal::told(self.provider.clone(), issuer, subject);
        let scopes = match &self.scopes {
            None => read.scope.or(read.scp),
            Some(pointer) => self.nested::<Scopes<'_>>(pointer, json)?.map(|scopes| scopes.0),
        };
        if let Some(scopes) = scopes {
            principal = principal.with_scopes([scopes]);
        }
        let roles = if self.roles.claim().is_some() {
            read.roles
        } else {
            self.nested::<Roles>(&self.roles, json)?.unwrap_or_default().0
        };
        if !roles.is_empty() {
            principal = principal.with_roles(roles);
        }
        if let Some(pointer) = &self.plan
            && let Some(Text(plan)) = self.nested(pointer, json)?
            && !plan.is_empty()
        {
            principal = principal.with_plan(&*plan);
        }
        match read.expires {
            Some(date) => Ok(principal.with_expiry(date.floor())),
            None => Ok(principal),
        }
    }

    fn nested<'c, T: Deserialize<'c>>(&self, at: &Pointer, json: &'c [u8]) -> Result<Option<T>, TokenError> {
        at.find(json).map_err(|_| TokenError::Claims)
    }

    pub(in crate::authn) fn require(&mut self, claim: &str) {
        if self.required.iter().all(|known| **known != *claim) {
            self.required.push(claim.into());
        }
    }
}

impl Audiences {
    fn has(&self, audience: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(ours) => ours.iter().any(|own| **own == *audience),
        }
    }

    /// Whether a token need not say whom it is for.
    fn takes_none(&self) -> bool {
        match self {
            Self::Any => true,
            Self::These(ours) => ours.is_empty(),
        }
    }
}

/// What one pass over the claims finds.
struct Read<'r, 'c> {
    rules: &'r Rules,
    /// How many of the required claims are there. None is there twice: that is no token.
    required: usize,
    /// Whether `aud` names one of our audiences, if there is one.
    for_us: Option<bool>,
    binding: Binding,
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
            required: 0,
            for_us: None,
            binding: Binding::Bearer,
            issuer: None,
            subject: None,
            expires: None,
            not_before: None,
            scope: None,
            scp: None,
            roles: Vec::new(),
        }
    }

    fn times(&self) -> Times {
        Times {
            not_before: self.not_before.map_or(0.0, |date| date.0),
            expires: self.expires.map_or(f64::INFINITY, |date| date.0),
        }
    }
}

impl<'c> Members<'c> for Read<'_, 'c> {
    fn member<A: MapAccess<'c>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        // What is null or empty says nothing.
        let mut said = true;
        match name {
            "aud" => {
                let ours = &self.rules.audiences;
                let mut found = matches!(ours, Audiences::Any);
                said = false;
                map.next_value_seed(EachText(|audience: &str| {
                    found |= ours.has(audience);
                    said |= !audience.is_empty();
                }))?;
                self.for_us = Some(found);
            }
            "cnf" => self.binding = map.next_value()?,
            "exp" => self.expires = Some(map.next_value()?),
            "iat" => drop(map.next_value::<NumericDate>()?),
            "iss" => said = !self.issuer.insert(map.next_value()?).0.is_empty(),
            "nbf" => self.not_before = Some(map.next_value()?),
            "scope" => said = !self.scope.insert(map.next_value::<Scopes<'c>>()?.0).is_empty(),
            "scp" => said = !self.scp.insert(map.next_value::<Scopes<'c>>()?.0).is_empty(),
            "sub" => said = !self.subject.insert(map.next_value()?).0.is_empty(),
            _ if self.rules.roles.claim() == Some(name) => {
                self.roles = map.next_value::<Roles>()?.0;
                said = !self.roles.is_empty();
            }
            _ => said = !map.next_value::<Skipped>()?.is_empty,
        }
        let is_required = said && self.rules.required.iter().any(|required| **required == *name);
        self.required += usize::from(is_required);
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
