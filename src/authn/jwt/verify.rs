use std::{iter, sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::{
    Claims, Jwt, TokenError,
    binding::Sender,
    claims::{Json, Remembered},
    issuer::{Issuer, Told},
    json::Text,
    memory::{Known, Verified},
    pointer,
    token::Parts,
};
use crate::{
    authn::{
        Authenticator, Credential, Location,
        authenticator::check_alone,
        credential::{self, Fault},
    },
    gate::Gate,
    head::Head,
    identity::{PeerIdentity, Principal},
    reject::{Answer, Reason, Rejection},
};

/// The time of a decision, by both clocks.
#[derive(Clone, Copy)]
struct Now {
    wall: SystemTime,
    /// If tokens are remembered.
    instant: Option<Instant>,
}

impl Jwt {
    /// Verifies a token that was found somewhere else. One that is [bound](Self::require_certificate) to a certificate is
    /// not valid here.
    ///
    /// # Errors
    /// [`TokenError`], for logs.
    pub fn verify(&self, token: &str) -> Result<(Principal, Claims), TokenError> {
        self.verify_alone(token, Sender::default())
    }

    /// Verifies a token that this peer has sent.
    ///
    /// # Errors
    /// [`TokenError`], for logs.
    pub fn verify_from(&self, token: &str, peer: &PeerIdentity) -> Result<(Principal, Claims), TokenError> {
        self.verify_alone(token, Sender { certificate: Some(peer) })
    }

    fn verify_alone(&self, token: &str, sender: Sender<'_>) -> Result<(Principal, Claims), TokenError> {
        let Verified { principal, .. } = self.examine(token, sender, self.now(Instant::now))?;
        let claims = Claims::of(&principal);
        Ok((principal, claims))
    }

    fn now(&self, instant: impl FnOnce() -> Instant) -> Now {
        Now { wall: self.clock.now(), instant: self.memory.as_ref().map(|_| instant()) }
    }

    fn examine(&self, token: &str, sender: Sender<'_>, now: Now) -> Result<Verified, TokenError> {
        if token.len() > self.max_size {
            return Err(TokenError::TooLarge);
        }
        let Some((memory, instant)) = self.memory.as_ref().zip(now.instant) else {
            return self.examine_first(token, sender, now);
        };
        let known = memory.recall(token, instant, |known| {
            let issuer = self.issuers().nth(known.issuer)?;
            Some(issuer.examine_again(&known.findings, sender, now.wall).map(|()| known.told()))
        });
        match known.flatten() {
            // Its key has left the set: perhaps another one verifies it.
            Some(Err(TokenError::UnknownKey)) => memory.forget(token),
            Some(verdict) => return verdict,
            None => {}
        }
        self.examine_first(token, sender, now)
    }

    /// Looks at a token as if it had never been seen.
    fn examine_first(&self, token: &str, sender: Sender<'_>, now: Now) -> Result<Verified, TokenError> {
        let parts = Parts::of(token)?;
        let json = Json::decode(parts.payload)?;
        let (at, issuer) = self.issuer_of(json.as_slice())?;
        let mut findings = issuer.examine(&parts, json.as_slice(), sender, now.wall)?;
        let memory = self.memory.as_ref().zip(now.instant);
        let remembered = memory.map(|memory| (memory, Arc::new(Remembered::new(token))));
        findings.principal = findings.principal.with_claims(match &remembered {
            Some((_, token)) => token.clone(),
            None => Arc::new(json),
        });
        let known = Known { issuer: at, findings };
        let verified = known.told();
        if let Some(((memory, instant), token)) = remembered {
            let left = known.findings.times.left(now.wall, issuer.rules.skew);
            memory.keep(token, known, left, instant);
        }
        Ok(verified)
    }

    pub(super) fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        iter::once(&self.first).chain(&self.others)
    }

    /// The issuer that is meant. Nothing of the payload is read before its signature has been verified, but this.
    fn issuer_of(&self, json: &[u8]) -> Result<(usize, &Issuer), TokenError> {
        if self.others.is_empty() && self.first.seems_to_be_meant(json) {
            return Ok((0, &self.first));
        }
        let name: Option<Text<'_>> = pointer::find("iss", json).map_err(|_| TokenError::Claims)?;
        let name = name.as_ref().map(|name| &*name.0);
        self.issuers().enumerate().find(|(_, issuer)| issuer.is(name)).ok_or(TokenError::Issuer)
    }

    fn refuse(&self, error: TokenError) -> Rejection {
        if error == TokenError::KeysUnknown {
            return Rejection::new(Reason::KeysUnavailable)
                .detail("the keys that verify tokens are not known yet")
                .retry_after(self.retry_after);
        }
        self.challenges.invalid_token().detail(error.to_string()).source(error)
    }

    fn refuse_fault(&self, fault: Fault) -> Rejection {
        match fault {
            Fault::TooLarge => self.refuse(TokenError::TooLarge),
            Fault::Malformed | Fault::Repeated => {
                self.challenges.invalid_request().detail(fault.to_string()).source(fault)
            }
        }
    }
}

impl Authenticator for Jwt {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let now = self.now(|| head.now());
        let verified = match credential::find(head, &self.locations, self.max_size) {
            Ok(None) => return Credential::Absent,
            Ok(Some(token)) => self.examine(&token, Sender::of(head), now),
            Err(fault) => return Credential::Invalid(self.refuse_fault(fault)),
        };
        match verified {
            Ok(Verified { principal, told }) => {
                tell(&told, head);
                head.extensions_mut().insert(Claims::of(&principal));
                Credential::Valid(principal)
            }
            Err(error) => Credential::Invalid(self.refuse(error)),
        }
    }

    fn locations(&self) -> &[Location] {
        &self.locations
    }

    fn forwards(&self) -> bool {
        self.forwards
    }

    fn token_locations(&self) -> &[Location] {
        &self.locations
    }

    fn asserted_headers(&self) -> &[HeaderName] {
        &self.header_names
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(self.challenges.plain())
    }
}

impl Gate for Jwt {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        check_alone(self, &self.asserted, head)
    }
}

/// Sets the header fields for the upstream.
pub(in crate::authn) fn tell(told: &Told, head: &mut Head<'_>) {
    for (name, value) in told.iter().flat_map(|told| told.iter()) {
        head.headers_mut().insert(name.clone(), value.clone());
    }
}
