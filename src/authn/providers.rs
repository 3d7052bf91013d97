use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderName, HeaderValue, header};

use super::{Authenticator, Credential, Inquiry, Location, authenticator::Finding, credential};
use crate::{
    gate::{AsyncGate, AsyncGateLayer, Check},
    head::Head,
    identity::{AssertedHeaders, CallerToken, Principal},
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
    /// Who comes in without a credential.
    nobody: Option<Principal>,
    keeps_token: bool,
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
    pub fn optional(self) -> Self {
        self.optional_as(Principal::anonymous())
    }

    /// As [`optional`](Self::optional), with a principal that has a name, scopes or a plan of its own: a
    /// [guest](Principal::is_guest). Where anybody who was authenticated is asked for, a guest is not meant.
    pub fn optional_as(mut self, guest: Principal) -> Self {
        self.nobody = Some(guest.into_guest());
        self
    }

    /// Keeps the token that was found valid as a [`CallerToken`] in the request's extensions, for calls on the caller's
    /// behalf. It is not sent anywhere by that, and an API key is not kept.
    pub fn keep_token(mut self) -> Self {
        self.keeps_token = true;
        self
    }

    /// As a layer.
    pub fn layer(self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::new(self)
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

    /// Removes every credential but one that its winner lets go on.
    fn remove_credentials(&self, head: &mut Head<'_>, winner: Option<usize>) {
        let forwarded = winner.map(|at| &self.list[at]).filter(|provider| provider.forwards());
        let kept = forwarded.map_or(&[][..], |provider| provider.locations());
        for location in self.locations().filter(|location| !kept.contains(location)) {
            location.remove(head);
        }
    }

    fn nobody(&self) -> Result<Principal, Rejection> {
        if let Some(nobody) = &self.nobody {
            return Ok(nobody.clone());
        }
        let refusal = Rejection::new(Reason::MissingCredentials);
        Err(self.challenges().into_iter().fold(refusal, Rejection::challenge))
    }

    /// What is asked of a request without credentials.
    pub(crate) fn challenges(&self) -> Vec<HeaderValue> {
        let mut all = Vec::new();
        for challenge in self.list.iter().filter_map(|provider| provider.challenge()) {
            if !all.contains(&challenge) {
                all.push(challenge);
            }
        }
        all
    }

    /// One refusal for all that were found invalid, with every challenge.
    fn refuse(&self, found: &[(usize, Rejection)]) -> Rejection {
        // Where a provider cannot tell now, nobody can say that the credential is bad.
        if let Some((_, unable)) = found.iter().find(|(_, r)| r.reason().status().is_server_error()) {
            return unable.clone();
        }
        // Who has failed too often is told so, whatever else was shown.
        if let Some((_, often)) = found.iter().find(|(_, r)| r.reason() == Reason::RateLimited) {
            return often.clone();
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
        // What the issuer's own provider says tells more than that others do not know it.
        let telling = found.iter().find(|(_, rejection)| !is_of_another(rejection)).or(found.first());
        if let Some((_, telling)) = telling {
            if let Some(detail) = telling.detail_text() {
                all = all.detail(detail.to_owned());
            }
            all = all.source(telling.clone());
        }
        all
    }
}

/// Where the credentials stand, of all these, that do not go on through a rule which asks these providers: what another
/// rule lets go on does not go on through this one.
#[cfg(feature = "stack")]
pub(crate) fn kept_back<'l>(
    locations: impl IntoIterator<Item = &'l Location>,
    asked: Option<&Providers>,
) -> Vec<Location> {
    let go_on = asked.into_iter().flat_map(|asked| &asked.list).filter(|provider| provider.forwards());
    let going: Vec<_> = go_on.flat_map(|provider| provider.locations()).collect();
    let mut kept: Vec<Location> = Vec::new();
    for location in locations {
        if !going.contains(&location) && !kept.contains(location) {
            kept.push(location.clone());
        }
    }
    kept
}

/// Whether a token was refused because it is for another provider.
#[cfg(feature = "jwt")]
fn is_of_another(rejection: &Rejection) -> bool {
    let why = std::error::Error::source(rejection).and_then(|error| error.downcast_ref());
    matches!(why, Some(super::jwt::TokenError::Issuer))
}

#[cfg(not(feature = "jwt"))]
fn is_of_another(_: &Rejection) -> bool {
    false
}

/// Adds a challenge, unless another provider has the same.
fn add(rejection: Rejection, challenge: HeaderValue) -> Rejection {
    let known = rejection.headers().get_all(header::WWW_AUTHENTICATE).iter().any(|known| *known == challenge);
    if known { rejection } else { rejection.challenge(challenge) }
}

/// Those that were found invalid so far, each with its place in the list.
type Invalid = Vec<(usize, Rejection)>;

impl Providers {
    /// Asks the providers from `next` on.
    fn ask(&self, head: &mut Head<'_>, next: usize, mut invalid: Invalid) -> Check<(), ProvidersWait> {
        for (at, provider) in self.list.iter().enumerate().skip(next) {
            let credential = provider.authenticate(head);
            if let Some(check) = self.heed(head, at, credential, &mut invalid) {
                return check;
            }
        }
        Check::from(self.conclude(head, &invalid).map_err(Answer::from))
    }

    /// What the word of one provider decides; nothing, if the next is to be asked.
    fn heed(
        &self,
        head: &mut Head<'_>,
        at: usize,
        credential: Credential,
        invalid: &mut Invalid,
    ) -> Option<Check<(), ProvidersWait>> {
        match credential {
            Credential::Absent => None,
            Credential::Invalid(rejection) => {
                invalid.push((at, rejection));
                None
            }
            Credential::Valid(principal) => {
                self.keep(head, at);
                self.remove_credentials(head, Some(at));
                head.extensions_mut().insert(principal);
                Some(Check::Now(Ok(())))
            }
            Credential::Asked(inquiry) => {
                Some(Check::Wait(ProvidersWait { inquiry, at, invalid: mem::take(invalid) }))
            }
        }
    }

    /// Puts the winner's token aside.
    fn keep(&self, head: &mut Head<'_>, at: usize) {
        if !self.keeps_token {
            return;
        }
        if let Ok(Some(token)) = credential::find(head, self.list[at].token_locations(), usize::MAX) {
            let token = CallerToken::new(&*token);
            head.extensions_mut().insert(token);
        }
    }

    /// What is said when nobody has found a valid credential.
    fn conclude(&self, head: &mut Head<'_>, invalid: &[(usize, Rejection)]) -> Result<(), Rejection> {
        if !invalid.is_empty() {
            return Err(self.refuse(invalid));
        }
        let principal = self.nobody()?;
        self.remove_credentials(head, None);
        head.extensions_mut().insert(principal);
        Ok(())
    }
}

impl AsyncGate for Providers {
    type Pass = ();
    type Wait = ProvidersWait;
    type Told = ProvidersTold;
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Check<(), ProvidersWait> {
        self.asserted.strip(head.headers_mut());
        self.ask(head, 0, Invalid::new())
    }

    fn resume(&self, head: &mut Head<'_>, told: ProvidersTold) -> Check<(), ProvidersWait> {
        let ProvidersTold { finding, at, mut invalid } = told;
        let credential = finding(head);
        self.heed(head, at, credential, &mut invalid).unwrap_or_else(|| self.ask(head, at + 1, invalid))
    }
}

/// The wait of [`Providers`] for one of them.
#[derive(Debug)]
pub struct ProvidersWait {
    inquiry: Inquiry,
    at: usize,
    invalid: Invalid,
}

/// What [`Providers`] waited for.
pub struct ProvidersTold {
    finding: Finding,
    at: usize,
    invalid: Invalid,
}

impl Future for ProvidersWait {
    type Output = ProvidersTold;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ProvidersTold> {
        let finding = ready!(Pin::new(&mut self.inquiry).poll(cx));
        Poll::Ready(ProvidersTold { finding, at: self.at, invalid: mem::take(&mut self.invalid) })
    }
}

impl fmt::Debug for ProvidersTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvidersTold").field("at", &self.at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers")
            .field("len", &self.list.len())
            .field("nobody", &self.nobody)
            .field("asserted", &self.asserted)
            .finish()
    }
}
