use std::{
    fmt,
    hash::Hasher,
    io::Write as _,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, header};
#[cfg(feature = "admission")]
use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher13;
use twox_hash::XxHash64;

use crate::{
    chance::{Chance, mix},
    cookie::cookies,
    head::Head,
    identity::{ClientAddr, PeerAddr, Principal},
    matching::Host,
};

/// A part of a request that tells accounts apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Key {
    /// The client's address; IPv6 by its /64, which is what one customer has.
    ClientAddr,
    /// The principal: provider, issuer and subject. Guests, who have shown no credential, have one name and are many: each
    /// is its address. So is whoever has no subject, by a token without `sub`: that is the name of nobody.
    Principal,
    /// A claim of the principal's token, by name or JSON pointer, with the provider and issuer that vouch for it.
    Claim(Arc<str>),
    /// A header field. Of several lines, all count. `Host` is the host that is asked for, without its port, whichever
    /// version of HTTP says it.
    Header(HeaderName),
    /// A cookie.
    Cookie(Arc<str>),
    /// The route.
    Route,
    /// All of these together.
    Tuple(Arc<[Self]>),
}

/// The name of the route that was matched. A request extension, set by the router.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RouteName(pub Arc<str>);

impl fmt::Debug for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouteName").field(&&*self.0).finish()
    }
}

/// The secret under which fingerprints are made; one for each store.
#[derive(Clone, Copy)]
pub struct KeySeed(u64, u64);

impl KeySeed {
    /// A seed of the system's entropy.
    #[must_use]
    pub fn new() -> Self {
        Self(Chance::new().next(), Chance::new().next()) // one seed of 64 bits would be half a secret
    }

    /// A seed drawn from `chance`.
    #[must_use]
    pub fn drawn(chance: &Chance) -> Self {
        Self(chance.next(), chance.next())
    }

    /// Another word for each word, which strangers cannot tell.
    fn permute(self, word: u64) -> u64 {
        mix((word ^ self.0).wrapping_mul(self.1 | 1))
    }
}

impl Default for KeySeed {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed(..)")
    }
}

impl Key {
    /// All of these keys together.
    #[must_use]
    pub fn tuple(keys: impl IntoIterator<Item = Self>) -> Self {
        Self::Tuple(keys.into_iter().collect())
    }

    /// 64 bits that tell this request's account from others, under a secret seed.
    ///
    /// An address is permuted, so that no two addresses have one fingerprint. Anything else is hashed (SipHash-1-3).
    #[must_use]
    pub fn fingerprint(&self, head: &Head<'_>, seed: &KeySeed) -> u64 {
        self.fingerprint_with(head, seed, &mut None)
    }

    /// As [`fingerprint`](Self::fingerprint), for several keys of one request: its address is looked up once.
    #[inline]
    pub(crate) fn fingerprint_with(&self, head: &Head<'_>, seed: &KeySeed, address: &mut Option<u64>) -> u64 {
        if matches!(self, Self::ClientAddr) {
            return seed.permute(*address.get_or_insert_with(|| address_word(head)));
        }
        let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
        self.feed(head, &mut hasher);
        hasher.finish()
    }

    /// 64 bits, the same everywhere and for ever for the same key and salt (XXH64). No secret: for shares of
    /// traffic, not for tables that strangers fill.
    #[must_use]
    pub fn stable_hash(&self, head: &Head<'_>, salt: &str) -> u64 {
        let mut hasher = XxHash64::with_seed(0);
        part(&mut hasher, Tag::Salt, salt.as_bytes());
        self.feed(head, &mut hasher);
        hasher.finish()
    }

    /// By what Envoy spreads requests over endpoints: XXH64 of the bare value. `None` if the request lacks it.
    ///
    /// A header or cookie counts with its value, of several lines the first; a client's address as text, of IPv6 its /64 as
    /// that of a network; several parts are joined as in Envoy, without those that are missing. Principals, claims and
    /// routes, which Envoy does not hash, count with their [stable hash](Self::stable_hash).
    ///
    /// ```
    /// use http::{HeaderName, Request};
    /// use portcullis::{head::Head, key::Key};
    ///
    /// let user = Key::Header(HeaderName::from_static("x-user"));
    /// let mut request = Request::get("/").header("x-user", "foo").body(()).unwrap();
    /// assert_eq!(user.bare_hash(&Head::of(&mut request)), Some(3_728_699_739_546_630_719));
    /// assert_eq!(Key::ClientAddr.bare_hash(&Head::of(&mut request)), None);
    /// ```
    #[must_use]
    pub fn bare_hash(&self, head: &Head<'_>) -> Option<u64> {
        let of = |bytes: &[u8]| XxHash64::oneshot(0, bytes);
        match self {
            Self::ClientAddr => client(head).map(|ip| of(text(ip, &mut [0; 40]))),
            Self::Header(name) if name == header::HOST => {
                Host::of(head.uri(), head.headers()).ok().map(|host| of(host.name().as_bytes()))
            }
            Self::Header(name) => head.headers().get(name).map(|value| of(value.as_bytes())),
            Self::Cookie(name) => value_of(head.headers(), name).map(of),
            Self::Tuple(keys) => {
                let hashes = keys.iter().filter_map(|key| key.bare_hash(head));
                hashes.reduce(|all, one| all.rotate_left(1) ^ one)
            }
            Self::Principal | Self::Claim(_) | Self::Route => {
                let mut hasher = XxHash64::with_seed(0);
                self.told(head, &mut hasher).then(|| hasher.finish())
            }
        }
    }

    /// 128 bits that tell this request's account from all others, the same everywhere and for ever (SHA-256, cut). Nobody
    /// can make two accounts meet. For counters that outlive a process or are shared between several.
    #[cfg(feature = "admission")]
    #[must_use]
    pub fn digest(&self, head: &Head<'_>) -> u128 {
        let mut digest = Digest(Sha256::new());
        self.feed(head, &mut digest);
        let all: [u8; 32] = digest.0.finalize().into();
        let (cut, _) = all.split_at(16);
        cut.iter().fold(0, |digest, byte| digest << 8 | u128::from(*byte))
    }

    /// The parts of which it is made.
    #[cfg(feature = "stack")]
    pub(crate) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Tuple(keys) => keys.iter().flat_map(Self::parts).collect(),
            part => vec![part],
        }
    }

    /// Whether it can only be told once the caller is authenticated.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        match self {
            Self::Principal | Self::Claim(_) => true,
            Self::Tuple(keys) => keys.iter().any(Self::needs_identity),
            _ => false,
        }
    }

    /// Whether it can only be told once the route is known.
    #[must_use]
    pub fn needs_route(&self) -> bool {
        match self {
            Self::Route => true,
            Self::Tuple(keys) => keys.iter().any(Self::needs_route),
            _ => false,
        }
    }

    fn feed(&self, head: &Head<'_>, hasher: &mut impl Hasher) {
        if !self.told(head, hasher) {
            address(head, hasher);
        }
    }

    /// Whether the request has it; then it is fed.
    pub(super) fn told(&self, head: &Head<'_>, hasher: &mut impl Hasher) -> bool {
        match self {
            Self::ClientAddr => false,
            Self::Principal => principal(head, hasher),
            Self::Claim(name) => claim(head, name, hasher),
            Self::Header(name) if name == header::HOST => host(head, hasher),
            Self::Header(name) => field(head.headers(), name, hasher),
            Self::Cookie(name) => cookie(head.headers(), name, hasher),
            Self::Route => route(head, hasher),
            Self::Tuple(keys) => {
                keys.iter().for_each(|key| key.feed(head, hasher));
                true
            }
        }
    }
}

/// What a key feeds, as the bytes of a digest.
#[cfg(feature = "admission")]
struct Digest(Sha256);

#[cfg(feature = "admission")]
impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of no use: what is asked for is longer.
    fn finish(&self) -> u64 {
        0
    }
}

/// What kind of part follows: a header that holds an address is no address.
#[derive(Clone, Copy)]
enum Tag {
    Salt = 1,
    Address = 2,
    Principal = 3,
    Claim = 4,
    Header = 5,
    Cookie = 6,
    Route = 7,
    Unknown = 8,
}

/// Length first, so that ("ab", "c") is not ("a", "bc"); little endian, so that it is the same everywhere.
fn part(hasher: &mut impl Hasher, tag: Tag, bytes: &[u8]) {
    frame(hasher, tag, bytes.len());
    hasher.write(bytes);
}

/// Whole integers are hashed much faster than slices, and mean the same bytes.
fn frame(hasher: &mut impl Hasher, tag: Tag, len: usize) {
    hasher.write_u8(tag as u8);
    hasher.write_u64((len as u64).to_le());
}

pub(super) fn address(head: &Head<'_>, hasher: &mut impl Hasher) {
    match client(head) {
        Some(IpAddr::V4(ip)) => {
            frame(hasher, Tag::Address, 4);
            hasher.write_u32(u32::from_ne_bytes(ip.octets()));
        }
        Some(IpAddr::V6(ip)) => {
            frame(hasher, Tag::Address, 8);
            hasher.write_u64(u64::from_ne_bytes(network(ip)));
        }
        None => part(hasher, Tag::Unknown, b""),
    }
}

/// The address as a word. Those of version 4 and the unknown stand where version 6 has multicast groups, from which
/// nothing comes.
fn address_word(head: &Head<'_>) -> u64 {
    match client(head) {
        Some(IpAddr::V4(ip)) => 0xffff_ffff_0000_0000 | u64::from(ip.to_bits()),
        Some(IpAddr::V6(ip)) => u64::from_be_bytes(network(ip)),
        None => 0xffff_fffe_0000_0000,
    }
}

#[inline]
pub(super) fn client(head: &Head<'_>) -> Option<IpAddr> {
    let extensions = head.extensions();
    let client = extensions.get().map(|client: &ClientAddr| client.ip());
    let ip = client.or_else(|| extensions.get().map(|peer: &PeerAddr| peer.ip()));
    ip.map(|ip| ip.to_canonical())
}

/// What one customer has: a /64.
fn network(ip: Ipv6Addr) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = ip.octets();
    [a, b, c, d, e, f, g, h]
}

fn principal(head: &Head<'_>, hasher: &mut impl Hasher) -> bool {
    let Some(principal) = head.extensions().get::<Principal>() else { return false };
    if principal.subject().is_empty() || principal.is_guest() {
        return false;
    }
    for text in [principal.provider(), principal.issuer(), principal.subject()] {
        part(hasher, Tag::Principal, text.as_bytes());
    }
    true
}

fn claim(head: &Head<'_>, name: &str, hasher: &mut impl Hasher) -> bool {
    let Some(principal) = head.extensions().get::<Principal>() else { return false };
    let Some(value) = principal.claim(name) else { return false };
    // What two issuers call the same is not the same.
    for text in [principal.provider(), principal.issuer(), &*value] {
        part(hasher, Tag::Claim, text.as_bytes());
    }
    true
}

fn field(headers: &HeaderMap, name: &HeaderName, hasher: &mut impl Hasher) -> bool {
    let mut told = false;
    for value in headers.get_all(name) {
        part(hasher, Tag::Header, value.as_bytes());
        told = true;
    }
    told
}

fn host(head: &Head<'_>, hasher: &mut impl Hasher) -> bool {
    let Ok(host) = Host::of(head.uri(), head.headers()) else { return false };
    part(hasher, Tag::Header, host.name().as_bytes());
    true
}

fn cookie(headers: &HeaderMap, name: &str, hasher: &mut impl Hasher) -> bool {
    let Some(value) = value_of(headers, name) else { return false };
    part(hasher, Tag::Cookie, value);
    true
}

fn value_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    cookies(headers).find(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value)
}

/// An address as text, of version 6 its network.
fn text(ip: IpAddr, buffer: &mut [u8; 40]) -> &[u8] {
    let ip = match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(network(ip))) << 64).into(),
    };
    let mut left = &mut buffer[..];
    let _ = write!(left, "{ip}"); // 39 at most
    let left = left.len();
    &buffer[..buffer.len() - left]
}

fn route(head: &Head<'_>, hasher: &mut impl Hasher) -> bool {
    let Some(RouteName(name)) = head.extensions().get() else { return false };
    part(hasher, Tag::Route, name.as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn from(ip: &str) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(ClientAddr::new(ip.parse().unwrap(), None));
        request
    }

    fn hash(key: &Key, request: &mut Request<()>) -> u64 {
        key.stable_hash(&Head::of(request), "salt")
    }

    #[test]
    fn a_customer_is_a_64() {
        let of = |ip| hash(&Key::ClientAddr, &mut from(ip));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn what_is_missing_falls_back_to_the_address() {
        let header = Key::Header(HeaderName::from_static("x-tenant"));
        for key in
            [header.clone(), Key::Principal, Key::Route, Key::Cookie("c".into()), Key::Claim("t".into())]
        {
            assert_ne!(hash(&key, &mut from("192.0.2.1")), hash(&key, &mut from("192.0.2.2")), "{key:?}");
        }
        let mut spoof = from("192.0.2.2");
        spoof.headers_mut().insert("x-tenant", "192.0.2.1".parse().unwrap());
        assert_ne!(hash(&header, &mut spoof), hash(&header, &mut from("192.0.2.1")));
    }

    #[test]
    fn the_same_subject_of_two_providers_is_two_accounts() {
        let as_principal = |provider: &str| {
            let mut request = from("192.0.2.1");
            request.extensions_mut().insert(Principal::new(provider, "", "acme"));
            hash(&Key::Principal, &mut request)
        };
        assert_ne!(as_principal("customers"), as_principal("partners"));
    }

    #[test]
    fn guests_have_one_name_and_no_common_account() {
        let as_guest = |ip| {
            let mut request = from(ip);
            request.extensions_mut().insert(Principal::new("anonymous", "", "guest").into_guest());
            request
        };
        let of = |ip| hash(&Key::Principal, &mut as_guest(ip));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), hash(&Key::Principal, &mut from("192.0.2.1")), "as one without a name");
        let mut named = as_guest("192.0.2.1");
        named.extensions_mut().insert(Principal::new("anonymous", "", "guest"));
        assert_ne!(hash(&Key::Principal, &mut named), of("192.0.2.1"), "who was authenticated by that name");
    }

    #[test]
    fn who_has_no_subject_is_its_address() {
        let nameless = |ip| {
            let mut request = from(ip);
            request.extensions_mut().insert(Principal::new("customers", "https://id.example", ""));
            request
        };
        let (here, there) = (&mut nameless("192.0.2.1"), &mut nameless("192.0.2.2"));
        for key in [Key::Principal, Key::tuple([Key::Principal, Key::Route])] {
            assert_ne!(hash(&key, here), hash(&key, there), "of a split");
            assert_eq!(hash(&key, here), hash(&key, &mut from("192.0.2.1")));
            let seed = KeySeed::new();
            let [one, other] =
                [&mut *here, &mut *there].map(|request| key.fingerprint(&Head::of(request), &seed));
            assert_ne!(one, other, "of a limit, and of concurrency");
            #[cfg(feature = "admission")]
            assert_ne!(key.digest(&Head::of(here)), key.digest(&Head::of(there)), "of a quota, and on Redis");
        }
        // There is nobody of that name to whom a balancer could be true.
        assert_eq!(Key::Principal.bare_hash(&Head::of(here)), None);
    }

    #[test]
    fn the_same_claim_of_two_issuers_is_two_accounts() {
        struct Tenant;
        impl crate::identity::ClaimLookup for Tenant {
            fn claim(&self, _: &str) -> Option<std::borrow::Cow<'_, str>> {
                Some("acme".into())
            }
            fn any_claim(&self, _: &str, found: &mut dyn FnMut(&str) -> bool) -> bool {
                found("acme")
            }
        }
        let as_claim = |issuer: &str| {
            let mut request = from("192.0.2.1");
            let principal = Principal::new("jwt", issuer, "s").with_claims(Arc::new(Tenant));
            request.extensions_mut().insert(principal);
            hash(&Key::Claim("tenant".into()), &mut request)
        };
        assert_eq!(as_claim("https://a.example"), as_claim("https://a.example"));
        assert_ne!(as_claim("https://a.example"), as_claim("https://b.example"));
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = Key::tuple([
            Key::Header(HeaderName::from_static("a")),
            Key::Header(HeaderName::from_static("b")),
        ]);
        let of = |a: &str, b: &str| {
            let mut request = Request::get("/").header("a", a).header("b", b).body(()).unwrap();
            hash(&key, &mut request)
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }

    #[test]
    fn a_host_is_the_same_in_every_version() {
        let key = Key::Header(header::HOST);
        let of = |uri: &str, host: Option<&str>| {
            let mut request = from("192.0.2.1");
            *request.uri_mut() = uri.parse().unwrap();
            host.map(|host| request.headers_mut().insert("host", host.parse().unwrap()));
            hash(&key, &mut request)
        };
        let http1 = of("/", Some("Shop.Example:8080"));
        assert_eq!(of("http://shop.example/", None), http1);
        assert_eq!(of("/", Some("shop.example:81")), http1, "who chooses a port chooses no account");
        assert_ne!(of("http://other.example/", None), http1);
        assert_ne!(of("/", None), http1);
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let of = |cookie: &str| {
            let mut request = from("192.0.2.1");
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
            hash(&Key::Cookie("id".into()), &mut request)
        };
        assert_eq!(of("id=7"), of("theme=dark; id=7; x=y"));
        assert_ne!(of("id=7"), of("uid=7"));
    }

    /// These numbers are a promise: another hash would send every sticky caller somewhere else.
    #[test]
    fn stable_hashes_are_pinned() {
        let mut request = from("192.0.2.1");
        request.headers_mut().insert("x-tenant", "a".parse().unwrap());
        let key = Key::Header(HeaderName::from_static("x-tenant"));
        assert_eq!(Key::ClientAddr.stable_hash(&Head::of(&mut request), ""), 4_773_812_185_013_793_513);
        assert_eq!(key.stable_hash(&Head::of(&mut request), "salt"), 18_283_510_077_737_712_346);
    }

    /// As above: other digests would be other counters.
    #[cfg(feature = "admission")]
    #[test]
    fn digests_are_pinned() {
        let mut request = from("192.0.2.1");
        request.headers_mut().insert("x-tenant", "a".parse().unwrap());
        let of = |key: &Key, request: &mut Request<()>| key.digest(&Head::of(request));
        let tenant = Key::Header(HeaderName::from_static("x-tenant"));
        // SHA-256 of 02, 4 as 8 bytes, c0 00 02 01; and of 05, 1 as 8 bytes, 'a'.
        assert_eq!(of(&Key::ClientAddr, &mut request), 0x0e3472a7_bdf118c9_77bcc706_cfc96e2d);
        assert_eq!(of(&tenant, &mut request), 0x2b89bddb_ad4d6ec5_d5225181_94a89b8b);
        request.extensions_mut().insert(Principal::new("keys", "", "a"));
        assert_ne!(of(&Key::Principal, &mut request), of(&tenant, &mut request));
    }

    #[test]
    fn no_two_addresses_have_one_fingerprint() {
        let seed = KeySeed::drawn(&Chance::seeded(1));
        let of = |request: &mut Request<()>| Key::ClientAddr.fingerprint(&Head::of(request), &seed);
        let mut all = std::collections::HashSet::new();
        for n in 0..1000_u32 {
            assert!(all.insert(of(&mut from(&std::net::Ipv4Addr::from_bits(n << 7).to_string()))));
            assert!(all.insert(of(&mut from(&format!("2001:db8:{n:x}::1")))));
        }
        assert!(all.insert(of(&mut Request::new(()))), "an unknown address is an account of its own");
        assert_eq!(of(&mut from("192.0.2.1")), of(&mut from("::ffff:192.0.2.1")));
        assert_eq!(of(&mut from("2001:db8::1")), of(&mut from("2001:db8::2")));
        let low = all.iter().map(|key| key & 63).collect::<std::collections::HashSet<_>>();
        assert_eq!(low.len(), 64, "they are scattered");
    }

    #[test]
    fn fingerprints_depend_on_the_seed() {
        let chance = Chance::seeded(1);
        let (one, two) = (KeySeed::drawn(&chance), KeySeed::drawn(&chance));
        let mut request = from("192.0.2.1");
        let head = Head::of(&mut request);
        assert_eq!(Key::ClientAddr.fingerprint(&head, &one), Key::ClientAddr.fingerprint(&head, &one));
        assert_ne!(Key::ClientAddr.fingerprint(&head, &one), Key::ClientAddr.fingerprint(&head, &two));
    }
}
