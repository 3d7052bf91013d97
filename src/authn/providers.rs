use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, header};

use super::{Authenticator, Credential, Location};
use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::{AssertedHeaders, Principal},
    reject::{Answer, Reason, Rejection},
};

/// Several [`Authenticator`]s as one gate: the first in the list that finds its credential valid wins.
///
/// See the [module docs](super).
#[derive(Clone, Default)]
#[must_use]
pub struct Providers {
    list: Vec<Arc<dyn Authenticator>>,
    asserted: AssertedHeaders,
    optional: bool,
}

impl Providers {
    /// Nobody yet: every request is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a provider behind the others.
    pub fn with(mut self, provider: impl Authenticator) -> Self {
        self.list.push(Arc::new(provider));
        self.asserted = self.asserted_headers().cloned().collect();
        self
    }

    /// Lets requests without any credential pass, with the anonymous principal. Requests with credentials of which
    /// none is valid are refused still: whoever shows a bad ticket does not want the free seat.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// The names of all header fields that the providers set for the upstream, to be removed from every request.
    pub fn asserted_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.list.iter().flat_map(|provider| provider.asserted_headers())
    }

    /// Where all the credentials stand.
    pub fn locations(&self) -> impl Iterator<Item = &Location> {
        self.list.iter().flat_map(|provider| provider.locations())
    }

    /// Where the credentials stand that do not go on, whoever of the others wins.
    #[cfg(feature = "config")]
    pub(crate) fn removed_locations(&self) -> impl Iterator<Item = &Location> {
        let stay = self.list.iter().filter(|provider| !provider.forwards());
        stay.flat_map(|provider| provider.locations())
    }

    /// The providers, in their order.
    #[cfg(feature = "stack")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Authenticator>> {
        self.list.iter()
    }

    /// Removes every credential but one that its winner lets go on.
    fn remove_credentials(&self, head: &mut Head<'_>, winner: Option<usize>) {
        let forwarded = winner.map(|at| &self.list[at]).filter(|provider| provider.forwards());
        let kept = forwarded.map_or(&[][..], |provider| provider.locations());
        for location in self.locations().filter(|location| !kept.contains(location)) {
            location.remove(head);
        }
    }

    fn nobody(&self) -> Result<Principal, Rejection> {
        if self.optional {
            return Ok(Principal::anonymous());
        }
        let challenges = self.list.iter().filter_map(|provider| provider.challenge());
        Err(challenges.fold(Rejection::new(Reason::MissingCredentials), add))
    }

    /// One refusal for all that were found invalid, with every challenge.
    fn refuse(&self, found: &[(usize, Rejection)]) -> Rejection {
        // Where a provider cannot tell now, nobody can say that the credential is bad.
        if let Some((_, unable)) = found.iter().find(|(_, r)| r.reason().status().is_server_error()) {
            return unable.clone();
        }
        let mut all = Rejection::new(Reason::InvalidCredentials);
        for (at, provider) in self.list.iter().enumerate() {
            match found.iter().find(|(index, _)| *index == at) {
                Some((_, rejection)) => {
                    let challenges = rejection.headers().get_all(header::WWW_AUTHENTICATE);
                    all = challenges.iter().cloned().fold(all, add);
                }
                None => all = provider.challenge().into_iter().fold(all, add),
            }
        }
        if let Some((_, first)) = found.first() {
            if let Some(detail) = first.detail_text() {
                all = all.detail(detail.to_owned());
            }
            all = all.source(first.clone());
        }
        all
    }
}

/// Where the credentials stand that none of these providers lets go on.
#[cfg(feature = "stack")]
pub(crate) fn kept_back<'p>(providers: impl Iterator<Item = &'p Arc<dyn Authenticator>>) -> Vec<Location> {
    let (go_on, stay): (Vec<_>, Vec<_>) = providers.partition(|provider| provider.forwards());
    let going: Vec<_> = go_on.iter().flat_map(|provider| provider.locations()).collect();
    let mut kept: Vec<Location> = Vec::new();
    for location in stay.iter().flat_map(|provider| provider.locations()) {
        if !going.contains(&location) && !kept.contains(location) {
            kept.push(location.clone());
        }
    }
    kept
}

/// Adds a challenge, unless another provider has the same.
fn add(rejection: Rejection, challenge: HeaderValue) -> Rejection {
    let known = rejection.headers().get_all(header::WWW_AUTHENTICATE).iter().any(|known| *known == challenge);
    if known { rejection } else { rejection.challenge(challenge) }
}

impl Gate for Providers {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.asserted.strip(head.headers_mut());
        let mut invalid = Vec::new();
        for (at, provider) in self.list.iter().enumerate() {
            match provider.authenticate(head) {
                Credential::Absent => {}
                Credential::Invalid(rejection) => invalid.push((at, rejection)),
                Credential::Valid(principal) => {
                    self.remove_credentials(head, Some(at));
                    head.extensions_mut().insert(principal);
                    return Ok(());
                }
            }
        }
        if !invalid.is_empty() {
            return Err(self.refuse(&invalid).into());
        }
        let principal = self.nobody()?;
        self.remove_credentials(head, None);
        head.extensions_mut().insert(principal);
        Ok(())
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers")
            .field("len", &self.list.len())
            .field("optional", &self.optional)
            .field("asserted", &self.asserted)
            .finish()
    }
}
