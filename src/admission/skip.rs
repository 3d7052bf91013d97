use std::{net::IpAddr, sync::Arc};

use http::Method;
use ipnet::IpNet;

use crate::{
    head::Head,
    identity::{ClientAddr, Networks, PeerAddr, Principal},
    matching::PathTemplate,
};

/// Requests that a limit or quota does not count. All that is said must hold, and of each list one.
///
/// ```
/// use http::Method;
/// use portcullis::{admission::{Skip, rate_limit::{Charge, Limit}}, matching::PathTemplate};
///
/// let health = Skip::new().methods([Method::GET]).paths([PathTemplate::parse("/healthz")?]);
/// let office = Skip::new().networks(["10.0.0.0/8".parse()?]);
/// let limit = Charge::from(Limit::builder("per-address", "10/s".parse()?).build()?).skip(health).skip(office);
/// # let _ = limit;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Skip {
    methods: Vec<Method>,
    paths: Vec<PathTemplate>,
    networks: Networks<()>,
    principals: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl Skip {
    /// No request, until something is said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests with these methods.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods.extend(methods);
        self
    }

    /// Requests for these paths.
    pub fn paths(mut self, paths: impl IntoIterator<Item = PathTemplate>) -> Self {
        self.paths.extend(paths);
        self
    }

    /// Requests of clients in these networks, instead of those said before.
    pub fn networks(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.networks = networks.into_iter().map(|network| (network, ())).collect();
        self
    }

    /// Requests of this subject, as this provider knows it. The limit must stand inside of authentication.
    pub fn principal(mut self, provider: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        self.principals.push((provider.into(), Some(subject.into())));
        self
    }

    /// Requests of whomever this provider knows. The limit must stand inside of authentication.
    pub fn principals_of(mut self, provider: impl Into<Arc<str>>) -> Self {
        self.principals.push((provider.into(), None));
        self
    }

    pub(in crate::admission) fn needs_identity(&self) -> bool {
        !self.principals.is_empty()
    }

    pub(in crate::admission) fn means(&self, head: &Head<'_>) -> bool {
        let methods = self.methods.is_empty() || self.methods.contains(head.method());
        let paths = || self.paths.is_empty() || self.paths.iter().any(|path| path.matches(head.uri().path()));
        let networks = || self.networks.is_empty() || self.is_near(head);
        let principals = || self.principals.is_empty() || self.knows(head);
        !self.is_empty() && methods && paths() && networks() && principals()
    }

    fn is_empty(&self) -> bool {
        self.methods.is_empty()
            && self.paths.is_empty()
            && self.networks.is_empty()
            && self.principals.is_empty()
    }

    fn is_near(&self, head: &Head<'_>) -> bool {
        client(head).is_some_and(|ip| self.networks.get(ip).is_some())
    }

    fn knows(&self, head: &Head<'_>) -> bool {
        let Some(principal) = head.extensions().get::<Principal>().filter(|p| !p.is_guest()) else {
            return false;
        };
        self.principals.iter().any(|(provider, subject)| {
            **provider == *principal.provider()
                && subject.as_ref().is_none_or(|subject| **subject == *principal.subject())
        })
    }
}

fn client(head: &Head<'_>) -> Option<IpAddr> {
    let extensions = head.extensions();
    let client = extensions.get().map(|client: &ClientAddr| client.ip());
    client.or_else(|| extensions.get().map(|peer: &PeerAddr| peer.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn request(method: Method, path: &str, ip: &str, principal: Option<Principal>) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path).body(()).unwrap();
        request.extensions_mut().insert(ClientAddr::new(ip.parse().unwrap(), None));
        if let Some(principal) = principal {
            request.extensions_mut().insert(principal);
        }
        request
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let skip = Skip::new()
            .methods([Method::GET, Method::HEAD])
            .paths([PathTemplate::parse("/status/{*}").unwrap()])
            .networks(["10.0.0.0/8".parse().unwrap()])
            .principal("staff", "ann")
            .principals_of("machines");
        let ann = Principal::new("staff", "", "ann");
        let means =
            |method, path, ip, principal| skip.means(&Head::of(&mut request(method, path, ip, principal)));
        assert!(means(Method::HEAD, "/status/x", "10.1.1.1", Some(ann.clone())));
        let robot = Principal::new("machines", "", "r2");
        assert!(means(Method::GET, "/status/x", "::ffff:10.1.1.1", Some(robot)));
        assert!(!means(Method::POST, "/status/x", "10.1.1.1", Some(ann.clone())));
        assert!(!means(Method::GET, "/status", "10.1.1.1", Some(ann.clone())));
        assert!(!means(Method::GET, "/status/x", "192.0.2.1", Some(ann.clone())));
        assert!(!means(Method::GET, "/status/x", "10.1.1.1", None));
        let other = Principal::new("customers", "", "ann");
        assert!(!means(Method::GET, "/status/x", "10.1.1.1", Some(other)));
        assert!(!means(Method::GET, "/status/x", "10.1.1.1", Some(ann.into_guest())));
    }

    #[test]
    fn what_says_nothing_means_nobody() {
        assert!(!Skip::new().means(&Head::of(&mut request(Method::GET, "/", "10.1.1.1", None))));
    }
}
