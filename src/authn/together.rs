use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::{Authenticator, Credential, Inquiry, Location};
use crate::{
    head::Head,
    identity::{AssertedHeaders, Principal},
    reject::{Reason, Rejection},
};

/// Several [`Authenticator`]s that must all find their credential valid, as one of the list of
/// [`Providers`](super::Providers): a token *and* a certificate, a key *and* a token.
///
/// The principal is the one that the first of them tells, and so is the challenge. A request with some of the credentials
/// and not all of them is refused; one that has none of them has nothing to say here. A certificate that comes with the
/// connection says nothing by itself.
///
/// ```
/// use portcullis::authn::{Providers, Together, certificate::Certificate};
/// use portcullis::authn::api_key::{self, ApiKey, KeyTable};
///
/// let minted = api_key::mint("shop", "acme")?;
/// let key = ApiKey::new(KeyTable::new("partners", [minted.entry().clone()])?);
/// let layer = Providers::new().with(Together::new(key).and(Certificate::new())).layer();
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Together {
    members: Vec<Arc<dyn Authenticator>>,
    locations: Vec<Location>,
    names: Vec<HeaderName>,
}

/// What the members have found so far.
#[derive(Default)]
struct Found {
    principal: Option<Principal>,
    /// Something of it stands in the request.
    presented: bool,
    /// The members that found nothing.
    absent: Vec<usize>,
}

impl Together {
    /// The one that tells the principal.
    pub fn new(first: impl Authenticator) -> Self {
        Self { members: Vec::new(), locations: Vec::new(), names: Vec::new() }.and(first)
    }

    /// And this one, too.
    pub fn and(mut self, other: impl Authenticator) -> Self {
        self.locations.extend_from_slice(other.locations());
        self.names.extend_from_slice(other.asserted_headers());
        self.members.push(Arc::new(other));
        self
    }

    /// Asks the members from `next` on.
    fn ask(&self, head: &mut Head<'_>, next: usize, mut found: Found) -> Credential {
        for (at, member) in self.members.iter().enumerate().skip(next) {
            let credential = member.authenticate(head);
            match self.heed(at, credential, &mut found) {
                None => {}
                Some(Credential::Asked(inquiry)) => return self.wait(inquiry, at, found),
                Some(refused) => return self.refuse(head, refused),
            }
        }
        self.conclude(head, found)
    }

    /// Goes on with the next member when this one has been told.
    fn wait(&self, inquiry: Inquiry, at: usize, mut found: Found) -> Credential {
        let this = self.clone();
        Credential::Asked(Inquiry::new(async move {
            let finding = inquiry.await;
            move |head: &mut Head<'_>| match this.heed(at, finding(head), &mut found) {
                None => this.ask(head, at + 1, found),
                Some(Credential::Asked(inquiry)) => this.wait(inquiry, at, found),
                Some(refused) => this.refuse(head, refused),
            }
        }))
    }

    /// What a member's word decides; nothing, if the next is to be asked.
    fn heed(&self, at: usize, credential: Credential, found: &mut Found) -> Option<Credential> {
        let in_request = !self.members[at].locations().is_empty();
        match credential {
            Credential::Absent => found.absent.push(at),
            Credential::Valid(principal) => {
                found.presented |= in_request;
                found.principal = found.principal.take().filter(|_| at > 0).or(Some(principal));
            }
            refused_or_asked => return Some(refused_or_asked),
        }
        None
    }

    fn conclude(&self, head: &mut Head<'_>, found: Found) -> Credential {
        match found.principal {
            Some(principal) if found.absent.is_empty() => Credential::Valid(principal),
            _ if !found.presented => self.refuse(head, Credential::Absent),
            _ => {
                let challenges = found.absent.iter().filter_map(|at| self.members[*at].challenge());
                let rejection = Rejection::new(Reason::InvalidCredentials)
                    .detail("a credential is missing that is needed together with another");
                self.refuse(head, Credential::Invalid(challenges.fold(rejection, Rejection::challenge)))
            }
        }
    }

    /// Takes back what members that were content have put into the request.
    fn refuse(&self, head: &mut Head<'_>, credential: Credential) -> Credential {
        AssertedHeaders::new(self.names.iter().cloned()).strip(head.headers_mut());
        #[cfg(feature = "jwt")]
        head.extensions_mut().remove::<super::jwt::Claims>();
        credential
    }
}

impl Authenticator for Together {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        self.ask(head, 0, Found::default())
    }

    fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// If all of them do: a credential that goes on takes its companions along.
    fn forwards(&self) -> bool {
        self.members.iter().filter(|member| !member.locations().is_empty()).all(|member| member.forwards())
    }

    fn asserted_headers(&self) -> &[HeaderName] {
        &self.names
    }

    fn challenge(&self) -> Option<HeaderValue> {
        self.members.iter().find_map(|member| member.challenge())
    }
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").field("len", &self.members.len()).field("names", &self.names).finish()
    }
}
