//! What a provider's answer says about a token. Pure.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, StatusCode};
use serde::de::MapAccess;

use crate::authn::{
    jwt::{
        Pointer, TokenError,
        binding::{Binding, Bound, Sender},
        claims::Json,
        issuer::{Told, tell},
        json::{self, Members, Skipped},
        memory::{Verified, weight},
        rules::{Checked, Rules, Times},
    },
    oauth::{Odd, Unavailable},
};
use crate::identity::Principal;

/// What is expected of an answer.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// They mind no time: it is looked at whenever the verdict is.
    pub(super) rules: Rules,
    pub(super) claim_headers: Vec<(HeaderName, Pointer)>,
    pub(super) bound: Bound,
    /// How far the provider's clock may be from ours.
    pub(super) skew: Duration,
}

/// What is known of a token, and remembered.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is good for us, between these times and from this sender.
    Good { principal: Principal, told: Told, times: Times, binding: Binding },
    /// It is not, whatever the time.
    Bad(TokenError),
    /// The provider has said nothing about it.
    Unsaid(Unavailable),
}

/// Why a request does not pass with its token.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The token is bad.
    Token(TokenError),
    /// Nobody can say so.
    Unavailable(Unavailable),
    /// As many tokens of its sender are asked about as may be at once.
    TooMany,
}

impl From<TokenError> for Refusal {
    fn from(why: TokenError) -> Self {
        Self::Token(why)
    }
}

impl From<Unavailable> for Refusal {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl Verdict {
    /// Reads an answer (RFC 7662 section 2.2).
    pub(super) fn read(expected: &Expected, status: StatusCode, body: &[u8]) -> Result<Self, Odd> {
        const ODD: Odd = Odd("the provider's answer is not one about a token");

        if status != StatusCode::OK {
            return Err(Odd("the provider does not understand what it is asked"));
        }
        let mut answer = Answer::default();
        json::read(body, &mut answer).map_err(|_| ODD)?;
        if !answer.active.ok_or(ODD)? {
            return Ok(Self::Bad(TokenError::Inactive));
        }
        match expected.rules.check(body, SystemTime::UNIX_EPOCH) {
            Ok(Checked { principal, times, binding }) => {
                let principal = principal.with_claims(Arc::new(Json::of(body)));
                let told = tell(&expected.claim_headers, body);
                Ok(Self::Good { principal, told, times, binding })
            }
            // A token is whatever its holder made of it, but these are the provider's own words.
            Err(TokenError::Claims) => Err(ODD),
            Err(why) => Ok(Self::Bad(why)),
        }
    }

    /// Until when it may be remembered: at most for this long, and never longer than the token lives.
    pub(super) fn lives(&self, now: SystemTime, good: Duration, bad: Duration) -> Duration {
        match self {
            Self::Good { times, .. } => times.left(now, Duration::ZERO).min(good),
            Self::Bad(_) => bad,
            // What was said about this token may be otherwise about the next; without an answer nothing was said.
            Self::Unsaid(why) if why.is_doubtful() => Unavailable::RETRY_AFTER,
            Self::Unsaid(_) => Duration::ZERO,
        }
    }

    /// The same, unless it is not good at this time.
    pub(super) fn now(self, expected: &Expected, now: SystemTime) -> Self {
        match &self {
            Self::Good { times, .. } => times.check(now, expected.skew).map_or_else(Self::Bad, |()| self),
            Self::Bad(_) | Self::Unsaid(_) => self,
        }
    }

    /// What it says at this time, of a token from this sender.
    pub(super) fn hold(
        &self,
        expected: &Expected,
        now: SystemTime,
        sender: Sender<'_>,
    ) -> Result<Verified, Refusal> {
        match self {
            Self::Bad(why) => Err(Refusal::Token(*why)),
            Self::Unsaid(why) => Err(Refusal::Unavailable(why.clone())),
            Self::Good { principal, told, times, binding } => {
                times.check(now, expected.skew)?;
                binding.hold(expected.bound, sender)?;
                Ok(Verified { principal: principal.clone(), told: told.clone() })
            }
        }
    }

    /// What it keeps in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Good { principal, told, .. } => {
                    // A short answer stands in a place for longer ones.
                    let claims = principal.claims_json().map_or(0, <[u8]>::len);
                    principal.weight() + claims.max(512) + weight(told)
                }
                Self::Bad(_) | Self::Unsaid(_) => 0,
            }
    }
}

/// What of an answer is no claim.
#[derive(Default)]
struct Answer {
    active: Option<bool>,
}

impl<'a> Members<'a> for Answer {
    fn member<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "active" => self.active = Some(map.next_value()?),
            _ => {
                map.next_value::<Skipped>()?;
            }
        }
        Ok(())
    }
}
