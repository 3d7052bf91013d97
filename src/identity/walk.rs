use std::iter;

use http::HeaderMap;
use http::uri::{Authority, Scheme};

use super::forwarded::{self, FORWARDED, Hop, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::{ClientAddr, ForwardingHeader, PeerAddr, TrustedProxies};

/// The most entries of a forwarding header that are walked: more proxies in a row than anyone runs.
pub const MAX_HOPS: usize = 32;

/// The most bytes of a forwarding header that are looked at, from its right end.
pub const MAX_BYTES: usize = 8 * 1024;

/// What trusted proxies tell of the request as its client sent it.
///
/// ```
/// use http::{HeaderMap, uri::Scheme};
/// use portcullis::identity::{ForwardedInfo, PeerAddr, TrustedProxies};
///
/// let trusted: TrustedProxies = "10.0.0.0/8".parse()?;
/// let peer = PeerAddr::new("10.0.0.5:41000".parse()?);
/// let mut headers = HeaderMap::new();
/// headers.insert("forwarded", r#"for="[2001:db8::7]:4711";proto=https;host=shop.example"#.parse()?);
///
/// let told = ForwardedInfo::resolve(peer, &headers, &trusted);
/// assert_eq!(told.client().to_string(), "[2001:db8::7]:4711");
/// assert_eq!(told.scheme(), Some(&Scheme::HTTPS));
/// assert_eq!(told.host().map(|host| host.as_str()), Some("shop.example"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedInfo {
    client: ClientAddr,
    scheme: Option<Scheme>,
    host: Option<Authority>,
}

impl ForwardedInfo {
    /// What is told of a request that came from `peer` with these headers.
    ///
    /// Only a trusted peer is listened to. Scheme and host are, with `Forwarded`, those of the element that
    /// tells the client, and with `X-Forwarded-Proto` and `-Host` the rightmost value. Where both forms are
    /// present they must say the same, else nothing is taken; nor is a scheme other than `http` and `https`,
    /// or a host that is no authority or has a user in it.
    #[must_use]
    pub fn resolve(peer: PeerAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let forms = Forms::of(peer, headers, trusted);
        let walked = forms.walk(peer, headers, trusted);
        let x = |name| if forms.x { forwarded::last_entry(headers, name) } else { None };
        Self {
            client: walked.client,
            scheme: forms.told(x(&X_FORWARDED_PROTO).and_then(scheme), walked.last.scheme.and_then(scheme)),
            host: forms.told(x(&X_FORWARDED_HOST).and_then(host), walked.last.host.and_then(host)),
        }
    }

    /// Whose request it is, as [`ClientAddr::resolve`] tells.
    #[must_use]
    pub fn client(&self) -> ClientAddr {
        self.client
    }

    /// The scheme that the client used, if a trusted proxy told it.
    #[must_use]
    pub fn scheme(&self) -> Option<&Scheme> {
        self.scheme.as_ref()
    }

    /// The host that the client asked for, with its port if there was one, if a trusted proxy told it.
    #[must_use]
    pub fn host(&self) -> Option<&Authority> {
        self.host.as_ref()
    }
}

/// Which forms of forwarding headers are present and listened to.
#[derive(Clone, Copy)]
pub(super) struct Forms {
    x: bool,
    forwarded: bool,
}

impl Forms {
    pub(super) fn of(peer: PeerAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let header = trusted.forwarding_header();
        let trusted = trusted.contains(peer.ip());
        let x =
            || [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST].iter().any(|x| headers.contains_key(x));
        Self {
            x: trusted && header != ForwardingHeader::Forwarded && x(),
            forwarded: trusted && header != ForwardingHeader::XForwarded && headers.contains_key(FORWARDED),
        }
    }

    pub(super) fn walk<'a>(
        self,
        peer: PeerAddr,
        headers: &'a HeaderMap,
        trusted: &TrustedProxies,
    ) -> Walked<'a> {
        let x = || forwarded::x_forwarded_hops(headers);
        let forwarded = || forwarded::forwarded_hops(headers);
        match (self.x, self.forwarded) {
            (true, true) => Walked::along(x().zip(forwarded()).map(agreed), peer, trusted),
            (true, false) => Walked::along(x(), peer, trusted),
            (false, true) => Walked::along(forwarded(), peer, trusted),
            (false, false) => Walked::along(iter::empty(), peer, trusted),
        }
    }

    fn told<T: PartialEq>(self, x: Option<T>, forwarded: Option<T>) -> Option<T> {
        if self.x && self.forwarded { x.filter(|x| forwarded.as_ref() == Some(x)) } else { x.or(forwarded) }
    }
}

/// Where a walk ended.
pub(super) struct Walked<'a> {
    pub(super) client: ClientAddr,
    /// The last hop that was read, all of it written by a trusted proxy.
    last: Hop<'a>,
}

impl<'a> Walked<'a> {
    fn along(hops: impl Iterator<Item = Hop<'a>>, peer: PeerAddr, trusted: &TrustedProxies) -> Self {
        let mut walked = Self { client: peer.into(), last: Hop::default() };
        for hop in hops {
            walked.last = hop;
            let Some(client) = hop.client else { break };
            walked.client = client;
            if !trusted.contains(client.ip()) {
                break;
            }
        }
        walked
    }
}

/// What both forms tell of one hop; nothing if they do not name the same client.
fn agreed<'a>((x, forwarded): (Hop<'a>, Hop<'a>)) -> Hop<'a> {
    if x.client.map(ClientAddr::ip) == forwarded.client.map(ClientAddr::ip) {
        forwarded
    } else {
        Hop::default()
    }
}

fn scheme(text: &str) -> Option<Scheme> {
    [Scheme::HTTP, Scheme::HTTPS].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
}

fn host(text: &str) -> Option<Authority> {
    text.parse().ok().filter(|host: &Authority| !host.host().is_empty() && !host.as_str().contains('@'))
}
