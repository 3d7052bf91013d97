use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::{ClientAddr, Networks, PeerAddr},
    reject::{Answer, Reason},
};

/// Which addresses are let in: a gate. See the [module docs](super).
#[derive(Clone)]
pub struct AddressList(Arc<Shared>);

struct Shared {
    rules: ArcSwap<Rules>,
    refused: AtomicU64,
}

/// Whether each network is let in, and whatever is in none.
struct Rules {
    networks: Networks<bool>,
    otherwise: bool,
}

/// Gathers the networks of an [`AddressList`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct AddressListBuilder {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
    only: bool,
}

impl AddressListBuilder {
    /// Lets these networks in, and what is in no network no more.
    pub fn allow(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.allowed.extend(networks);
        self.only = true;
        self
    }

    /// Keeps these networks out.
    pub fn deny(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.denied.extend(networks);
        self
    }

    /// The list.
    #[must_use]
    pub fn build(self) -> AddressList {
        let allowed = self.allowed.into_iter().map(|network| (network, true));
        // Of equal networks the last one stands.
        let networks = allowed.chain(self.denied.into_iter().map(|network| (network, false))).collect();
        let rules = Arc::new(Rules { networks, otherwise: !self.only });
        AddressList(Arc::new(Shared { rules: ArcSwap::new(rules), refused: AtomicU64::new(0) }))
    }
}

impl AddressList {
    /// Begins a list, which lets everybody in.
    pub fn builder() -> AddressListBuilder {
        AddressListBuilder::default()
    }

    /// Whether this address is let in.
    #[must_use]
    #[inline]
    pub fn admits(&self, ip: IpAddr) -> bool {
        let rules = self.0.rules.load();
        rules.networks.get(ip).copied().unwrap_or(rules.otherwise)
    }

    /// Takes the networks of another list in the place of its own, for all who use it.
    pub fn replace(&self, other: &Self) {
        self.0.rules.store(other.0.rules.load_full());
    }

    /// How many networks were given.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.rules.load().networks.len()
    }

    /// Whether no network was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests it has refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// The layer. Its clones, and all services that they make, share the list.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    #[cold]
    fn refuse(&self) -> Answer {
        self.0.refused.fetch_add(1, Relaxed);
        Reason::AddressDenied.into()
    }
}

impl Gate for AddressList {
    type Pass = ();

    /// A door that is open one time in two is open.
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let told = head.extensions();
        let client = told.get::<ClientAddr>().map(|client| client.ip());
        match client.or_else(|| told.get::<PeerAddr>().map(|peer| peer.ip())) {
            Some(ip) if self.admits(ip) => Ok(()),
            _ => Err(self.refuse()),
        }
    }
}

impl fmt::Debug for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.0.rules.load();
        f.debug_struct("AddressList")
            .field("networks", &rules.networks.len())
            .field("otherwise", &rules.otherwise)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::{BodyExt, Empty};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::reject::GrpcCode;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn admits(list: &AddressList, ip: &str) -> bool {
        list.admits(ip.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_decides_in_either_list() {
        let list = AddressList::builder()
            .deny(networks(&["10.66.0.0/16", "192.0.2.0/24"]))
            .allow(networks(&["10.0.0.0/8", "10.66.6.0/24", "192.0.2.0/24", "2001:db8::/32"]))
            .build();
        for (ip, expected) in [
            ("10.1.1.1", true),
            ("::ffff:10.1.1.1", true),
            ("10.66.1.1", false),
            ("10.66.6.1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("198.51.100.1", false),
        ] {
            assert_eq!(admits(&list, ip), expected, "{ip}");
        }
    }

    #[test]
    fn who_is_not_named_is_let_in_unless_something_is_allowed() {
        assert!(admits(&AddressList::builder().build(), "192.0.2.1"));
        assert!(admits(&AddressList::builder().deny(networks(&["10.0.0.0/8"])).build(), "192.0.2.1"));
        // An allow list that is empty, because its file is, lets nobody in.
        assert!(!admits(&AddressList::builder().allow([]).build(), "192.0.2.1"));
    }

    #[tokio::test]
    async fn a_replacement_is_everybodys_and_refusals_are_403() {
        let list = AddressList::builder().build();
        let layer = list.clone().layer();
        let service = layer.layer(service_fn(|_: Request<Empty<_>>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(Empty::<bytes::Bytes>::new()))
        }));
        let ask = |extension: Option<ClientAddr>, grpc: bool| {
            let mut request = Request::new(Empty::<bytes::Bytes>::new());
            extension.map(|client| request.extensions_mut().insert(client));
            if grpc {
                request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            }
            let service = service.clone();
            async move { service.oneshot(request).await.unwrap() }
        };
        let client = || Some(ClientAddr::new("192.0.2.1".parse().unwrap(), None));
        assert_eq!(ask(client(), false).await.status(), 200);
        assert_eq!(ask(None, false).await.status(), 403, "nobody knows from where it comes");
        list.replace(&AddressList::builder().deny(networks(&["192.0.2.0/24"])).build());
        let refused = ask(client(), false).await;
        assert_eq!(refused.status(), 403);
        assert!(refused.into_body().collect().await.unwrap().to_bytes().starts_with(b"{"));
        let refused = ask(client(), true).await;
        let code = GrpcCode::PERMISSION_DENIED.to_string();
        assert_eq!(refused.status(), 200);
        assert_eq!(refused.headers()["grpc-status"], "7", "{code}");
        assert_eq!((list.refused(), list.len()), (3, 1));
    }
}
