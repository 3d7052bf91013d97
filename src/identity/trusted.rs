use std::net::IpAddr;
use std::str::FromStr;

use http::Extensions;
use ipnet::{IpNet, Ipv4Net};

#[cfg(feature = "tls")]
use super::CertificateHeader;
use super::PeerAddr;

/// The proxies whose word about the client is believed, as CIDR blocks. See the [module](super) for the rules.
///
/// Name only what you run: an address in here can speak for every other one. It is written as a list of
/// blocks or addresses, `10.0.0.0/8, 192.0.2.1, 2001:db8::/32`. Blocks of IPv4 mapped into IPv6 are the IPv4
/// blocks; `::/0` covers no IPv4 address.
///
/// ```
/// use portcullis::identity::{ForwardingHeader, TrustedProxies};
///
/// let trusted = "10.0.0.0/8, 2001:db8::/32".parse::<TrustedProxies>()?.header(ForwardingHeader::Forwarded);
/// assert!(trusted.contains("10.1.2.3".parse()?));
///
/// let error = "10.0.0.0/8, 10.0.0.0/33".parse::<TrustedProxies>().unwrap_err();
/// assert_eq!(error.to_string(), "trusted proxy 2, `10.0.0.0/33`: no IP address and no CIDR block");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Sorted and disjoint, so that one search finds the only block that can hold an address.
    blocks: Box<[IpNet]>,
    header: ForwardingHeader,
    #[cfg(feature = "tls")]
    certificates: CertificateHeader,
}

/// Which header the trusted proxies write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardingHeader {
    /// Whichever is there; if both are, they are believed as far as they agree.
    #[default]
    Either,
    /// `Forwarded` of RFC 7239; `X-Forwarded-*` is not looked at.
    Forwarded,
    /// `X-Forwarded-For`, `-Proto` and `-Host`; `Forwarded` is not looked at.
    XForwarded,
}

/// Why a list of trusted proxies is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTrustedProxy {
    /// An entry is no address and no block.
    #[error("trusted proxy {position}, `{entry}`: no IP address and no CIDR block")]
    Malformed {
        /// Its place in the list, from 1.
        position: usize,
        /// What stands there, cut to 64 characters.
        entry: String,
    },
    /// There are more than [`TrustedProxies::MAX`] entries.
    #[error("more than {max} trusted proxies", max = TrustedProxies::MAX)]
    TooMany,
}

impl TrustedProxies {
    /// The longest list that is taken.
    pub const MAX: usize = 4096;

    /// Trusts nobody: the peer is the client.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Trusts these blocks.
    ///
    /// # Errors
    ///
    /// More than [`TrustedProxies::MAX`] of them.
    pub fn new(blocks: impl IntoIterator<Item = IpNet>) -> Result<Self, InvalidTrustedProxy> {
        let blocks: Vec<_> = blocks.into_iter().map(canonical).take(Self::MAX + 1).collect();
        if blocks.len() > Self::MAX {
            return Err(InvalidTrustedProxy::TooMany);
        }
        let mut blocks = IpNet::aggregate(&blocks);
        blocks.sort_unstable();
        Ok(Self { blocks: blocks.into(), ..Self::default() })
    }

    /// Trusts these entries, each an address or a CIDR block.
    ///
    /// # Errors
    ///
    /// The first entry that is neither, with its place; or too many of them.
    pub fn parse<I>(entries: I) -> Result<Self, InvalidTrustedProxy>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut blocks = Vec::new();
        for (at, entry) in entries.into_iter().take(Self::MAX + 1).enumerate() {
            let entry = entry.as_ref().trim();
            blocks.push(block(entry).ok_or_else(|| InvalidTrustedProxy::Malformed {
                position: at + 1,
                entry: entry.chars().take(64).collect(),
            })?);
        }
        Self::new(blocks)
    }

    /// States which header these proxies write, so that the other one is never looked at.
    #[must_use]
    pub fn header(mut self, header: ForwardingHeader) -> Self {
        self.header = header;
        self
    }

    /// Which header is looked at.
    #[must_use]
    pub fn forwarding_header(&self) -> ForwardingHeader {
        self.header
    }

    /// States in which header these proxies tell of the certificate that a client has shown them, and believes them. In
    /// none unless told. See [certificates by hearsay](super#whose-certificate-is-believed).
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn client_certificate(mut self, header: CertificateHeader) -> Self {
        self.certificates = header;
        self
    }

    /// In which header they tell of a client's certificate.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn certificate_header(&self) -> CertificateHeader {
        self.certificates
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether a request with these extensions comes from one of them, by its [`PeerAddr`].
    #[must_use]
    pub fn trusts(&self, extensions: &Extensions) -> bool {
        extensions.get::<PeerAddr>().is_some_and(|peer| self.contains(peer.ip()))
    }

    /// Whether this address is one of the trusted proxies.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let after = self.blocks.partition_point(|block| block.network() <= ip);
        after.checked_sub(1).is_some_and(|at| self.blocks[at].contains(&ip))
    }
}

/// A list divided by commas; an empty text trusts nobody.
impl FromStr for TrustedProxies {
    type Err = InvalidTrustedProxy;

    fn from_str(text: &str) -> Result<Self, InvalidTrustedProxy> {
        if text.trim().is_empty() {
            return Ok(Self::none());
        }
        Self::parse(text.split(','))
    }
}

fn block(entry: &str) -> Option<IpNet> {
    entry.parse().ok().or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The block in the form in which addresses are compared: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
pub(super) fn canonical(block: IpNet) -> IpNet {
    let IpNet::V6(v6) = block else { return block.trunc() };
    let (Some(v4), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) else {
        return block.trunc();
    };
    Ipv4Net::new(v4, length).map_or(block, IpNet::V4).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn knows_its_blocks() {
        let trusted: TrustedProxies =
            "10.0.0.0/8,192.0.2.1 ,2001:db8::/32, ::ffff:172.16.0.0/108".parse().unwrap();
        for inside in
            ["10.0.0.0", "10.255.255.255", "192.0.2.1", "2001:db8::5", "::ffff:10.0.0.1", "172.31.255.255"]
        {
            assert!(trusted.contains(ip(inside)), "{inside}");
        }
        for outside in
            ["9.255.255.255", "11.0.0.0", "192.0.2.0", "192.0.2.2", "2001:db9::", "::1", "172.32.0.0"]
        {
            assert!(!trusted.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn the_whole_of_a_family() {
        let v4: TrustedProxies = "0.0.0.0/0".parse().unwrap();
        assert!(
            v4.contains(ip("255.255.255.255"))
                && v4.contains(ip("::ffff:1.2.3.4"))
                && !v4.contains(ip("::1"))
        );
        let v6: TrustedProxies = "::/0".parse().unwrap();
        assert!(v6.contains(ip("ffff::")) && !v6.contains(ip("1.2.3.4")));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (list, position, entry) in [
            ("10.0.0.0/8,", 2, ""),
            ("10.0.0/8", 1, "10.0.0/8"),
            ("::1, fe80::1%eth0", 2, "fe80::1%eth0"),
            ("10.0.0.0/-1", 1, "10.0.0.0/-1"),
            ("localhost", 1, "localhost"),
            ("10.0.0.1:80", 1, "10.0.0.1:80"),
            ("2001:db8::/129", 1, "2001:db8::/129"),
        ] {
            let error = list.parse::<TrustedProxies>().unwrap_err();
            assert_eq!(error, InvalidTrustedProxy::Malformed { position, entry: entry.into() });
        }
        let endless = std::iter::repeat("10.0.0.0/8");
        assert_eq!(TrustedProxies::parse(endless), Err(InvalidTrustedProxy::TooMany));
        assert_eq!(" ".parse(), Ok(TrustedProxies::none()));
    }

    fn any_block() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, length)| IpNet::new(ip.into(), length).unwrap());
        let v6 =
            (any::<[u8; 16]>(), 0..=128u8).prop_map(|(ip, length)| IpNet::new(ip.into(), length).unwrap());
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_block_finds(
            blocks in prop::collection::vec(any_block(), 0..8),
            elsewhere: [u8; 4],
        ) {
            let trusted = TrustedProxies::new(blocks.clone()).unwrap();
            let edges = blocks.iter().flat_map(|block| [block.network(), block.broadcast(), block.addr()]);
            for ip in edges.chain([IpAddr::from(elsewhere)]) {
                let ip = ip.to_canonical();
                prop_assert_eq!(trusted.contains(ip), blocks.iter().any(|block| canonical(*block).contains(&ip)));
            }
        }
    }
}
