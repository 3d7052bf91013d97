//! Sending each request where it asks to go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Upstream, builder::UpstreamBuilder, options::Options, resolve::Resolve};
use crate::{
    head::Head,
    identity::OriginalDestination,
    matching::Host,
    reject::{Reason, Rejection},
};

/// How many hosts are known at a time. Who was asked for longest ago makes room.
const MOST: usize = 1024;
/// Of a host without a port.
const HTTP: u16 = 80;

/// An upstream for each host that is asked for.
pub(super) struct Elsewhere {
    /// That of all of them, for logs and metrics.
    name: Arc<str>,
    options: Options,
    resolver: Arc<dyn Resolve>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    hosts: HashMap<String, (Upstream, u64)>,
    /// Goes up with each request.
    asked: u64,
}

impl Elsewhere {
    pub(super) fn new(name: Arc<str>, options: Options, resolver: Arc<dyn Resolve>) -> Self {
        Self { name, options, resolver, known: Mutex::default() }
    }

    /// Where this request asks to go: where its connection was going when it was redirected to us, or else to its host.
    pub(super) fn of(&self, head: &Head<'_>) -> Result<Upstream, Rejection> {
        let address = match head.extensions().get::<OriginalDestination>() {
            Some(meant) => meant.to_string(),
            None => {
                let host =
                    Host::of(head.uri(), head.headers()).map_err(|bad| Rejection::from(bad).unsent())?;
                format!("{}:{}", host.name(), host.port().unwrap_or(HTTP))
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked += 1;
        let asked = known.asked;
        if let Some((upstream, last)) = known.hosts.get_mut(&address) {
            *last = asked;
            return Ok(upstream.clone());
        }
        let upstream = UpstreamBuilder::of(Arc::clone(&self.name), self.options.clone())
            .shared_resolver(Arc::clone(&self.resolver))
            .endpoint(address.as_str())
            .build()
            .map_err(|why| Rejection::new(Reason::NoEndpoint).source(why).unsent())?;
        if known.hosts.len() >= MOST {
            let oldest = known.hosts.iter().min_by_key(|(_, (_, last))| *last).map(|(host, _)| host.clone());
            oldest.and_then(|host| known.hosts.remove(&host));
        }
        known.hosts.insert(address, (upstream.clone(), asked));
        Ok(upstream)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(elsewhere: &Elsewhere, host: &str) -> Result<Upstream, Rejection> {
        let mut request = Request::get("/").header("host", host).body(()).unwrap();
        elsewhere.of(&Head::of(&mut request))
    }

    fn at(upstream: &Upstream) -> String {
        upstream.endpoints().first().map(|endpoint| endpoint.address.to_string()).unwrap_or_default()
    }

    fn elsewhere(refused: &[&str]) -> Elsewhere {
        let refused = refused.iter().map(|address| address.parse().unwrap()).collect();
        let options = Options { refused, ..Options::default() };
        Elsewhere::new("elsewhere".into(), options, Arc::new(super::super::resolve::SystemResolver))
    }

    #[tokio::test]
    async fn a_request_goes_where_it_asks_to() {
        let elsewhere = elsewhere(&["127.0.0.1:9901"]);
        for (host, address) in [
            ("192.0.2.1", "192.0.2.1:80"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
            ("[2001:db8::1]", "[2001:db8::1]:80"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(at(&of(&elsewhere, host).unwrap()), address);
        }
        assert_eq!(of(&elsewhere, "127.0.0.1:9901").unwrap_err().reason(), Reason::NoEndpoint);
        for host in ["", "a b", "a:0", "a:b"] {
            assert!(of(&elsewhere, host).is_err(), "{host:?}");
        }
    }

    #[tokio::test]
    async fn what_was_redirected_goes_where_it_was_going() {
        let meant = OriginalDestination::new("192.0.2.7:8080".parse().unwrap());
        let mut request = Request::get("/").header("host", "192.0.2.1").extension(meant).body(()).unwrap();
        assert_eq!(at(&elsewhere(&[]).of(&Head::of(&mut request)).unwrap()), "192.0.2.7:8080");
        let refused = elsewhere(&["192.0.2.7:8080"]).of(&Head::of(&mut request));
        assert_eq!(refused.unwrap_err().reason(), Reason::NoEndpoint);
    }

    #[tokio::test]
    async fn no_more_hosts_are_known_than_there_may_be() {
        let elsewhere = elsewhere(&[]);
        of(&elsewhere, "192.0.2.1").unwrap();
        for port in 1..MOST as u16 * 2 {
            of(&elsewhere, &format!("192.0.2.2:{port}")).unwrap();
            of(&elsewhere, "192.0.2.1").unwrap();
        }
        let known = elsewhere.known.lock().unwrap();
        assert_eq!(known.hosts.len(), MOST);
        assert!(known.hosts.contains_key("192.0.2.1:80"), "it is asked for again and again");
        assert!(!known.hosts.contains_key("192.0.2.2:1"));
    }
}
