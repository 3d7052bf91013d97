use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Request};

use crate::{
    head::Head,
    identity::{ClientAddr, Principal},
    key::RouteName,
};

/// An account, as an operator names it: by what its requests have in common.
///
/// ```
/// use portcullis::admission::rate_limit::{Account, Limit};
///
/// let limit = Limit::builder("per-address", "10/s".parse()?).build()?;
/// let mut account = Account::new().address("192.0.2.7".parse()?);
/// assert_eq!(limit.handle().peek(&mut account.head()).remaining, 10);
/// assert!(!limit.handle().reset(&mut account.head()), "it has spent nothing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Account(Request<()>);

impl Account {
    /// That of requests of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of this client.
    pub fn address(self, address: IpAddr) -> Self {
        self.with(ClientAddr::new(address, None))
    }

    /// Of this principal.
    pub fn principal(self, principal: Principal) -> Self {
        self.with(principal)
    }

    /// On this route.
    pub fn route(self, name: &str) -> Self {
        self.with(RouteName(name.into()))
    }

    /// With this header; a cookie is one too.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().append(name, value);
        self
    }

    /// The head of such a request.
    pub fn head(&mut self) -> Head<'_> {
        Head::of(&mut self.0)
    }

    fn with<T: Clone + Send + Sync + 'static>(mut self, fact: T) -> Self {
        self.0.extensions_mut().insert(fact);
        self
    }
}
