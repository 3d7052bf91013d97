//! What a provider's answer says about a token. Pure.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::de::{IgnoredAny, MapAccess};

use crate::{
    authn::{
        jwt::{
            Claims, TokenError,
            json::{self, Members, NumericDate},
            rules::Rules,
        },
        oauth::Odd,
    },
    identity::Principal,
};

/// What is known of a token, and remembered.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It is good for us, between these times.
    Good { principal: Principal, claims: Claims, from: Option<SystemTime>, to: Option<SystemTime> },
    /// It is not, whatever the time.
    Bad(TokenError),
}

impl Verdict {
    /// Reads an answer (RFC 7662 section 2.2). The rules mind no time: it is looked at whenever the verdict is.
    pub(super) fn read(rules: &Rules, status: StatusCode, body: &[u8]) -> Result<Self, Odd> {
        const ODD: Odd = Odd("the provider's answer is not one about a token");

        if status != StatusCode::OK {
            return Err(Odd("the provider does not understand what it is asked"));
        }
        let mut answer = Answer::default();
        json::read(body, &mut answer).map_err(|_| ODD)?;
        if !answer.active.ok_or(ODD)? {
            return Ok(Self::Bad(TokenError::Inactive));
        }
        let claims = Claims::of_json(body);
        match rules.check(&claims, SystemTime::UNIX_EPOCH) {
            Ok(principal) => Ok(Self::Good {
                principal,
                claims,
                from: answer.not_before.map(NumericDate::floor),
                to: answer.expires.map(NumericDate::floor),
            }),
            // The token is whatever its holder made of it, but these are the provider's own words.
            Err(TokenError::Claims) => Err(ODD),
            Err(why) => Ok(Self::Bad(why)),
        }
    }

    /// Until when it may be remembered: at most for this long, and never longer than the token lives.
    pub(super) fn lives(&self, now: SystemTime, good: Duration, bad: Duration) -> Duration {
        match self {
            Self::Good { to: Some(to), .. } => to.duration_since(now).unwrap_or_default().min(good),
            Self::Good { to: None, .. } => good,
            Self::Bad(_) => bad,
        }
    }

    /// What it says at this time.
    pub(super) fn at(&self, now: SystemTime, skew: Duration) -> Result<(&Principal, &Claims), TokenError> {
        match self {
            Self::Bad(why) => Err(*why),
            Self::Good { to: Some(to), .. } if now >= later(*to, skew) => Err(TokenError::Expired),
            Self::Good { from: Some(from), .. } if later(now, skew) < *from => Err(TokenError::NotYetValid),
            Self::Good { principal, claims, .. } => Ok((principal, claims)),
        }
    }

    /// What it keeps in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            // The place of the claims, and the principal, who copies of them what it needs.
            Self::Good { claims, .. } => 1024 + 2 * claims.as_json().len(),
            Self::Bad(_) => 0,
        }
    }
}

fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

/// What of an answer says whether, and when. The claims are looked at by the rules for tokens.
#[derive(Default)]
struct Answer {
    active: Option<bool>,
    expires: Option<NumericDate>,
    not_before: Option<NumericDate>,
}

impl<'a> Members<'a> for Answer {
    fn member<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "active" => self.active = Some(map.next_value()?),
            "exp" => self.expires = Some(map.next_value()?),
            "nbf" => self.not_before = Some(map.next_value()?),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}
