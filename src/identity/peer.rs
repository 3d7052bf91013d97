use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::SystemTime;

use super::name;

/// What the peer's verified certificate says.
///
/// Whoever verified the certificate fills it in; nothing here is checked again. A clone is a pointer.
///
/// ```
/// use portcullis::identity::PeerIdentity;
///
/// let peer = PeerIdentity::new([7; 32])
///     .with_spiffe_id("spiffe://shop.example/ns/shop/sa/orders")
///     .with_dns_names(["orders.shop.svc"]);
/// assert_eq!(peer.spiffe_id(), Some("spiffe://shop.example/ns/shop/sa/orders"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PeerIdentity(Arc<Inner>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inner {
    sha256: [u8; 32],
    spiffe_id: Option<Box<str>>,
    dns_names: Box<[Box<str>]>,
    uris: Box<[Box<str>]>,
    emails: Box<[Box<str>]>,
    ips: Box<[IpAddr]>,
    subject: Box<str>,
    serial: Box<str>,
    validity: Option<RangeInclusive<SystemTime>>,
    chain: Box<[Box<[u8]>]>,
}

impl PeerIdentity {
    /// The identity in the certificate with this SHA-256 fingerprint, which is taken over its DER form.
    #[must_use]
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(Arc::new(Inner { sha256, ..Inner::default() }))
    }

    /// Sets the SPIFFE ID: the one URI name of an X.509-SVID, checked by whoever sets it.
    #[must_use]
    pub fn with_spiffe_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.inner().spiffe_id = Some(id.into());
        self
    }

    /// Sets the DNS names among the subject's alternative names.
    #[must_use]
    pub fn with_dns_names(mut self, names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.inner().dns_names = boxed(names);
        self
    }

    /// Sets the URIs among the subject's alternative names.
    #[must_use]
    pub fn with_uris(mut self, uris: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.inner().uris = boxed(uris);
        self
    }

    /// Sets the mail addresses among the subject's alternative names.
    #[must_use]
    pub fn with_emails(mut self, emails: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.inner().emails = boxed(emails);
        self
    }

    /// Sets the IP addresses among the subject's alternative names.
    #[must_use]
    pub fn with_ips(mut self, ips: impl IntoIterator<Item = IpAddr>) -> Self {
        self.inner().ips = ips.into_iter().map(|ip| ip.to_canonical()).collect();
        self
    }

    /// Sets the subject's distinguished name, as RFC 4514 writes it.
    #[must_use]
    pub fn with_subject(mut self, name: impl Into<Box<str>>) -> Self {
        self.inner().subject = name.into();
        self
    }

    /// Sets the serial number, in lower-case hexadecimal.
    #[must_use]
    pub fn with_serial(mut self, serial: impl Into<Box<str>>) -> Self {
        self.inner().serial = serial.into();
        self
    }

    /// Sets from when to when, both included, the certificate is valid.
    #[must_use]
    pub fn with_validity(mut self, validity: RangeInclusive<SystemTime>) -> Self {
        self.inner().validity = Some(validity);
        self
    }

    /// Sets the certificates that were shown, each in DER: its own first, then those of who signed it.
    #[must_use]
    pub fn with_chain(mut self, chain: impl IntoIterator<Item = impl Into<Box<[u8]>>>) -> Self {
        self.inner().chain = chain.into_iter().map(Into::into).collect();
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// The certificate's SHA-256 fingerprint.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.0.sha256
    }

    /// The SPIFFE ID, if the certificate is an X.509-SVID.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<&str> {
        self.0.spiffe_id.as_deref()
    }

    /// The name by which to call it: its SPIFFE ID, or else its first DNS name, URI or mail address, or else its distinguished
    /// name.
    ///
    /// None of these can be taken for one of another kind. What could be is passed over: a mail address, a URI or a DNS name that
    /// begins with `spiffe:`, a URI without a scheme, a mail address with a quote, a `:` or a `=`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.spiffe_id().or_else(|| {
            let dns = self.dns_names().filter(|name| name::is_dns_name(name));
            let uris = self.uris().filter(|uri| name::is_uri(uri));
            let emails = self.emails().filter(|email| name::is_mail(email));
            let subject = Some(self.subject()).filter(|subject| name::is_distinguished(subject));
            dns.chain(uris).chain(emails).chain(subject).next()
        })
    }

    /// Whether the certificate is for this host, by its DNS names and IP addresses (RFC 9525 section 6): a `*` stands for the
    /// first label, whole, of a name of three or more.
    #[must_use]
    pub fn is_for_host(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return self.ips().any(|own| own == ip.to_canonical());
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.dns_names().any(|name| match (name.strip_prefix("*."), host.split_once('.')) {
            (Some(parent), Some((label, rest))) => {
                !label.is_empty() && parent.contains('.') && rest.eq_ignore_ascii_case(parent)
            }
            (Some(_), None) => false,
            (None, _) => name.eq_ignore_ascii_case(host),
        })
    }

    /// The DNS names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.0.dns_names.iter().map(AsRef::as_ref)
    }

    /// The URIs.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.uris.iter().map(AsRef::as_ref)
    }

    /// The mail addresses.
    pub fn emails(&self) -> impl Iterator<Item = &str> {
        self.0.emails.iter().map(AsRef::as_ref)
    }

    /// The IP addresses, never an IPv4 address mapped into IPv6.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.0.ips.iter().copied()
    }

    /// The subject's distinguished name; empty if it has none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The serial number in lower-case hexadecimal; empty if it was not told.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// From when to when the certificate is valid, if it was told.
    #[must_use]
    pub fn validity(&self) -> Option<&RangeInclusive<SystemTime>> {
        self.0.validity.as_ref()
    }

    /// The certificates that were shown, each in DER, its own first; none if they were not told.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.0.chain.iter().map(AsRef::as_ref)
    }
}

fn boxed(items: impl IntoIterator<Item = impl Into<Box<str>>>) -> Box<[Box<str>]> {
    items.into_iter().map(Into::into).collect()
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Hex<'a>(&'a [u8]);
        impl fmt::Debug for Hex<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        f.debug_struct("PeerIdentity")
            .field("sha256", &Hex(&self.0.sha256))
            .field("spiffe_id", &self.0.spiffe_id)
            .field("dns_names", &self.0.dns_names)
            .field("subject", &self.0.subject)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_its_hosts() {
        let peer = PeerIdentity::new([7; 32])
            .with_dns_names(["shop.example", "*.api.example", "*.com"])
            .with_ips(["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        for (host, is_for) in [
            ("shop.example", true),
            ("SHOP.example.", true),
            ("www.shop.example", false),
            ("a.api.example", true),
            ("api.example", false),
            ("a.b.api.example", false),
            ("shop.com", false),
            (".api.example", false),
            ("*.api.example", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("[2001:db8::1]", true),
            ("[::ffff:192.0.2.7]", true),
            ("", false),
            (".", false),
        ] {
            assert_eq!(peer.is_for_host(host), is_for, "{host}");
        }
    }
}
