//! Sending each request where it asks to go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::uri::Scheme;
use tokio::time::{Instant, sleep};

use super::{Upstream, builder::UpstreamBuilder, options::Options, resolve::Resolve};
use crate::{
    head::Head,
    identity::OriginalDestination,
    matching::Host,
    reject::{Reason, Rejection},
    task::Task,
};

/// How many hosts are known at a time. Who was asked for longest ago makes room.
const MOST: usize = 1024;
/// A host for which nobody has asked for so long is forgotten: its name is not resolved any more, and its connections close.
const IDLE: Duration = Duration::from_secs(60);
/// Of a host without a port.
const HTTP: u16 = 80;

/// An upstream for each host that is asked for.
pub(super) struct Elsewhere {
    /// That of all of them, for logs and metrics.
    name: Arc<str>,
    options: Options,
    resolver: Arc<dyn Resolve>,
    known: Mutex<Hosts>,
    forgets: Task,
}

/// By their addresses, with when they were last asked for.
type Hosts = HashMap<String, (Upstream, Instant)>;

impl Elsewhere {
    pub(super) fn new(name: Arc<str>, options: Options, resolver: Arc<dyn Resolve>) -> Self {
        Self { name, options, resolver, known: Mutex::default(), forgets: Task::default() }
    }

    /// Where this request asks to go: where its connection was going when it was redirected to us, or else to its host.
    pub(super) fn of(self: &Arc<Self>, head: &Head<'_>) -> Result<Upstream, Rejection> {
        let address = address(head)?;
        let (now, mut known) = (Instant::now(), self.known());
        if let Some((upstream, last)) = known.get_mut(&address) {
            *last = now;
            return Ok(upstream.clone());
        }
        let upstream = UpstreamBuilder::of(Arc::clone(&self.name), self.options.clone())
            .shared_resolver(Arc::clone(&self.resolver))
            .endpoint(address.as_str())
            .build()
            .map_err(|why| Rejection::new(Reason::NoEndpoint).source(why).unsent())?;
        if known.len() >= MOST {
            let oldest = known.iter().min_by_key(|(_, (_, last))| *last).map(|(host, _)| host.clone());
            oldest.and_then(|host| known.remove(&host));
        }
        known.insert(address, (upstream.clone(), now));
        drop(known);
        self.forgets.begin(|| forget(Arc::downgrade(self)));
        Ok(upstream)
    }

    fn known(&self) -> MutexGuard<'_, Hosts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where this request was going when it was redirected to us, or else its host.
fn address(head: &Head<'_>) -> Result<String, Rejection> {
    if head.uri().scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
        let only = Rejection::new(Reason::NotImplemented).detail("nothing but http is sent on in the clear");
        return Err(only.unsent());
    }
    if let Some(meant) = head.extensions().get::<OriginalDestination>() {
        return Ok(meant.to_string());
    }
    let host = Host::of(head.uri(), head.headers()).map_err(|bad| Rejection::from(bad).unsent())?;
    Ok(format!("{}:{}", host.name(), host.port().unwrap_or(HTTP)))
}

/// Forgets those for whom nobody asks, as long as there are any.
async fn forget(elsewhere: Weak<Elsewhere>) {
    loop {
        sleep(IDLE / 2).await;
        let Some(elsewhere) = elsewhere.upgrade() else { return };
        let mut known = elsewhere.known();
        known.retain(|_, (_, last)| last.elapsed() < IDLE);
        if known.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(elsewhere: &Arc<Elsewhere>, host: &str) -> Result<Upstream, Rejection> {
        let mut request = Request::get("/").header("host", host).body(()).unwrap();
        elsewhere.of(&Head::of(&mut request))
    }

    fn at(upstream: &Upstream) -> String {
        upstream.endpoints().first().map(|endpoint| endpoint.address.to_string()).unwrap_or_default()
    }

    fn elsewhere(refused: &[&str]) -> Arc<Elsewhere> {
        let refused = refused.iter().map(|address| address.parse().unwrap()).collect();
        let options = Options { refused, ..Options::default() };
        Arc::new(Elsewhere::new("elsewhere".into(), options, Arc::new(super::super::resolve::SystemResolver)))
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

    #[tokio::test(start_paused = true)]
    async fn no_more_hosts_are_known_than_there_may_be() {
        let elsewhere = elsewhere(&[]);
        of(&elsewhere, "192.0.2.1").unwrap();
        for port in 1..MOST as u16 * 2 {
            of(&elsewhere, &format!("192.0.2.2:{port}")).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
            of(&elsewhere, "192.0.2.1").unwrap();
        }
        let known = elsewhere.known();
        assert_eq!(known.len(), MOST);
        assert!(known.contains_key("192.0.2.1:80"), "it is asked for again and again");
        assert!(!known.contains_key("192.0.2.2:1"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_asked_for_is_forgotten() {
        let elsewhere = elsewhere(&[]);
        of(&elsewhere, "192.0.2.1").unwrap();
        for _ in 0..4 {
            of(&elsewhere, "192.0.2.2").unwrap();
            sleep(IDLE / 2).await;
        }
        assert_eq!(elsewhere.known().keys().collect::<Vec<_>>(), ["192.0.2.2:80"]);
        sleep(2 * IDLE).await;
        assert!(elsewhere.known().is_empty() && !elsewhere.forgets.runs());
        of(&elsewhere, "192.0.2.2").unwrap();
        assert!(elsewhere.forgets.runs());
    }

    #[tokio::test]
    async fn nothing_that_was_to_be_secret_is_sent_in_the_clear() {
        for (target, is_sent) in
            [("http://192.0.2.1/", true), ("https://192.0.2.1/", false), ("ftp://192.0.2.1/", false)]
        {
            let mut request = Request::get(target).header("host", "192.0.2.1").body(()).unwrap();
            let sent = elsewhere(&[]).of(&Head::of(&mut request));
            assert_eq!(sent.is_ok(), is_sent, "{target}");
            assert!(sent.is_ok() || sent.unwrap_err().reason() == Reason::NotImplemented);
        }
    }
}
