//! By which scheme and port requests come in, for filters that send clients back there.
use http::uri::Scheme;

use super::edge::Listen;
use crate::{
    gate::Gate,
    head::Head,
    identity::{Entrance, ForwardedInfo, OriginalDestination, PeerAddr, TlsSession, TrustedProxies},
    reject::Answer,
};

/// Tells requests their [`Entrance`].
#[derive(Debug)]
pub(super) struct Entered {
    trusted: TrustedProxies,
    /// `None`: any that is free, which nobody knows beforehand.
    port: Option<u16>,
}

impl Entered {
    pub(super) fn by(listen: &Listen) -> Self {
        let port = listen.address.port();
        Self { trusted: listen.trusted.clone(), port: (port != 0).then_some(port) }
    }
}

impl Gate for Entered {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let extensions = head.extensions();
        let own = if extensions.get::<TlsSession>().is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let proxy = extensions.get::<PeerAddr>().filter(|peer| self.trusted.contains(peer.ip()));
        let entrance = match proxy {
            // What its clients see is its own port, which stands in the host that they ask for. `X-Forwarded-Port` is not looked at:
            // many proxies let it through as a client has written it, and caches would keep where it leads.
            Some(proxy) => {
                let told = ForwardedInfo::resolve(*proxy, head.headers(), &self.trusted);
                Entrance::new(told.scheme().cloned().unwrap_or(own), None)
            }
            None => {
                let meant_for = extensions.get::<OriginalDestination>();
                Entrance::new(own, meant_for.map(|meant| meant.socket_addr().port()).or(self.port))
            }
        };
        head.extensions_mut().insert(entrance);
        Ok(())
    }
}
