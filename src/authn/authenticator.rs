use std::{fmt, pin::Pin, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::Location;
use crate::{
    head::Head,
    identity::{AssertedHeaders, Principal},
    reject::{Answer, Reason, Rejection},
};

/// What an [`Authenticator`] found in a request.
#[derive(Debug)]
pub enum Credential {
    /// There is nothing of its kind.
    Absent,
    /// There is a credential, and it is not valid, or nothing can be said about it now.
    Invalid(Rejection),
    /// There is a valid credential, of this principal.
    Valid(Principal),
    /// There is a credential, and somebody else has to be asked about it.
    Asked(Inquiry),
}

/// What an [`Authenticator`] waits for before it can tell: the answer of another service. Dropped if the caller goes
/// away.
///
/// ```
/// use portcullis::authn::{Credential, Inquiry};
/// use portcullis::identity::Principal;
///
/// let credential = Credential::Asked(Inquiry::new(async {
///     let subject = String::from("ada"); // the answer of a service that knows
///     move |_: &mut portcullis::head::Head<'_>| Credential::Valid(Principal::new("desk", "", subject))
/// }));
/// # let _ = credential;
/// ```
pub struct Inquiry(Pin<Box<dyn Future<Output = Finding> + Send>>);

/// Tells what was found, with the request's head at hand again.
pub(super) type Finding = Box<dyn FnOnce(&mut Head<'_>) -> Credential + Send>;

impl Inquiry {
    /// Waits for this future, whose output tells with the head at hand; it may have to ask again.
    pub fn new<T>(asked: impl Future<Output = T> + Send + 'static) -> Self
    where
        T: FnOnce(&mut Head<'_>) -> Credential + Send + 'static,
    {
        Self(Box::pin(async move { Box::new(asked.await) as Finding }))
    }
}

impl Future for Inquiry {
    type Output = Finding;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Finding> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").finish_non_exhaustive()
    }
}

/// Finds one kind of credential in requests and verifies it: [`Jwt`](super::jwt::Jwt),
/// [`ApiKey`](super::api_key::ApiKey), or one of your own. [`Providers`](super::Providers) makes a gate of several.
///
/// ```
/// use http::HeaderName;
/// use portcullis::authn::{Authenticator, Credential, Location, Providers};
/// use portcullis::{head::Head, identity::Principal, reject::{Reason, Rejection}};
///
/// /// Trusts what the office's proxy says, on a listener that only the office reaches.
/// struct Office([Location; 1]);
///
/// impl Authenticator for Office {
///     fn authenticate(&self, head: &mut Head<'_>) -> Credential {
///         match head.headers().get("x-office-user").map(|user| user.to_str()) {
///             None => Credential::Absent,
///             Some(Ok(user)) => Credential::Valid(Principal::new("office", "", user)),
///             Some(Err(_)) => Credential::Invalid(Rejection::new(Reason::InvalidCredentials)),
///         }
///     }
///     fn locations(&self) -> &[Location] {
///         &self.0
///     }
/// }
///
/// let office = Office([Location::header(HeaderName::from_static("x-office-user"))]);
/// let gate = Providers::new().with(office).layer();
/// ```
pub trait Authenticator: Send + Sync + 'static {
    /// Looks for a credential and verifies it. It must not block: what takes time is [asked](Credential::Asked).
    ///
    /// Only where the credential is valid may it leave something in the request: typed claims in the extensions,
    /// [asserted headers](Self::asserted_headers). The principal is put there by whoever asked.
    fn authenticate(&self, head: &mut Head<'_>) -> Credential;

    /// Where it looks. What stands there is taken out of the request before it goes on, and is kept out of logs.
    fn locations(&self) -> &[Location] {
        &[]
    }

    /// Whether its credential goes to the upstream after all, if it is the one that was found valid.
    fn forwards(&self) -> bool {
        false
    }

    /// Where its credential stands, if that is a token which can be shown to others on the caller's behalf, and not a
    /// secret between the caller and us.
    fn token_locations(&self) -> &[Location] {
        &[]
    }

    /// The header fields that it sets for the upstream. Whatever came in under these names is removed.
    fn asserted_headers(&self) -> &[HeaderName] {
        &[]
    }

    /// The `WWW-Authenticate` challenge for a request without credentials (RFC 9110 section 11.6.1).
    fn challenge(&self) -> Option<HeaderValue> {
        None
    }
}

/// What a gate of this one authenticator does, which never has to ask.
pub(super) fn check_alone(
    provider: &impl Authenticator,
    asserted: &AssertedHeaders,
    head: &mut Head<'_>,
) -> Result<(), Answer> {
    asserted.strip(head.headers_mut());
    match provider.authenticate(head) {
        Credential::Valid(principal) => {
            if !provider.forwards() {
                provider.locations().iter().for_each(|location| location.remove(head));
            }
            head.extensions_mut().insert(principal);
            Ok(())
        }
        Credential::Invalid(rejection) => Err(rejection.into()),
        Credential::Absent => {
            let challenge = provider.challenge();
            Err(challenge
                .into_iter()
                .fold(Rejection::new(Reason::MissingCredentials), Rejection::challenge)
                .into())
        }
        Credential::Asked(_) => Err(Reason::KeysUnavailable.into()),
    }
}

impl<A: Authenticator + ?Sized> Authenticator for Arc<A> {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        (**self).authenticate(head)
    }
    fn locations(&self) -> &[Location] {
        (**self).locations()
    }
    fn forwards(&self) -> bool {
        (**self).forwards()
    }
    fn token_locations(&self) -> &[Location] {
        (**self).token_locations()
    }
    fn asserted_headers(&self) -> &[HeaderName] {
        (**self).asserted_headers()
    }
    fn challenge(&self) -> Option<HeaderValue> {
        (**self).challenge()
    }
}
