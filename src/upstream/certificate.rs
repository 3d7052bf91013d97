use http::{Extensions, HeaderMap};

use super::forward::append;
use crate::identity::{OfConnection, PeerIdentity, TlsSession, XFCC, XfccDetails};

/// What an upstream is told in `X-Forwarded-Client-Cert`, in one of Envoy's five modes (`forward_client_cert_details`).
///
/// What others than trusted proxies have said is gone before, in each of them. The connection means the one on which the
/// request came to us; it has a certificate where that was asked for and verified.
///
/// | Mode | The connection has a certificate | It has none |
/// |---|---|---|
/// | `sanitize` | nothing | nothing |
/// | `forward_only` | what was said | nothing |
/// | `append_forward` | what was said, and an element about the certificate | nothing |
/// | `sanitize_set` | an element about the certificate | nothing |
/// | `always_forward_only` | what was said | what was said |
///
/// Where a trusted proxy is [believed](crate::identity#whose-certificate-is-believed), `sanitize_set` is about whom it tells
/// of, with a certificate of the connection or without: whoever we take the caller for.
///
/// ```
/// use portcullis::{identity::XfccDetails, upstream::{ForwardedClientCert, Proxy, Upstream}};
///
/// let orders = Upstream::builder("orders").endpoint("127.0.0.1:9001").build()?;
/// let details = XfccDetails::new().subject(true).uri(true);
/// let proxy = Proxy::new(orders).client_certificate(ForwardedClientCert::sanitize_set(details));
/// # let _ = proxy;
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ForwardedClientCert {
    mode: Mode,
    details: XfccDetails,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

impl ForwardedClientCert {
    /// Nothing is told.
    pub fn sanitize() -> Self {
        Self::default()
    }

    /// Hands on what trusted proxies say, on connections with a certificate.
    pub fn forward_only() -> Self {
        Self { mode: Mode::ForwardOnly, ..Self::default() }
    }

    /// The same, and adds what the connection's certificate says.
    pub const fn append_forward(details: XfccDetails) -> Self {
        Self { mode: Mode::AppendForward, details }
    }

    /// Tells what the caller's certificate says, and nothing else.
    pub const fn sanitize_set(details: XfccDetails) -> Self {
        Self { mode: Mode::SanitizeSet, details }
    }

    /// Hands on what trusted proxies say, on connections without a certificate, too.
    pub fn always_forward_only() -> Self {
        Self { mode: Mode::AlwaysForwardOnly, ..Self::default() }
    }

    /// What is left of strangers' words has been removed. `said`: whether there is a word left.
    pub(super) fn tell(self, headers: &mut HeaderMap, extensions: &Extensions, said: bool) {
        let caller = extensions.get::<PeerIdentity>();
        let shown = extensions.get::<OfConnection>().map_or(caller, |OfConnection(shown)| shown.as_ref());
        let ours = || extensions.get::<TlsSession>().and_then(TlsSession::ours);
        match (self.mode, caller, shown) {
            (Mode::AlwaysForwardOnly, ..) | (Mode::ForwardOnly, _, Some(_)) => {}
            (Mode::AppendForward, _, Some(shown)) => {
                append(headers, XFCC, self.details.element(shown, ours()).as_bytes());
            }
            (Mode::SanitizeSet, Some(caller), _) => {
                headers.insert(XFCC, self.details.element(caller, ours()));
            }
            _ if said => _ = headers.remove(XFCC),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Hash=said";

    fn peer(name: &str) -> PeerIdentity {
        PeerIdentity::new([0xab; 32]).with_uris([name])
    }

    fn told(how: ForwardedClientCert, said: bool, put: impl FnOnce(&mut Extensions)) -> Option<String> {
        let (mut headers, mut extensions) = (HeaderMap::new(), Extensions::new());
        put(&mut extensions);
        if said {
            headers.insert(XFCC, SAID.parse().unwrap());
        }
        how.tell(&mut headers, &extensions, true);
        assert!(headers.get_all(XFCC).iter().count() < 2);
        headers.get(XFCC).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_mode_tells_what_envoys_does() {
        let uri = XfccDetails::new().uri(true);
        let own = format!("By=spiffe://d/us;Hash={};URI=a", "ab".repeat(32));
        let both = format!("{SAID}, {own}");
        let (said, own, both) = (Some(SAID), Some(own.as_str()), Some(both.as_str()));
        for (how, expected) in [
            // With what was said and a certificate, what was said alone, a certificate alone, and nothing.
            (ForwardedClientCert::sanitize(), [None; 4]),
            (ForwardedClientCert::forward_only(), [said, None, None, None]),
            (ForwardedClientCert::append_forward(uri), [both, None, own, None]),
            (ForwardedClientCert::sanitize_set(uri), [own, None, own, None]),
            (ForwardedClientCert::always_forward_only(), [said, said, None, None]),
        ] {
            let cases = [(true, true), (true, false), (false, true), (false, false)];
            for ((is_said, has_certificate), expected) in cases.into_iter().zip(expected) {
                let told = told(how, is_said, |extensions| {
                    if has_certificate {
                        extensions.insert(peer("a"));
                        extensions.insert(TlsSession::new(None, peer("spiffe://d/us")));
                    }
                });
                assert_eq!(told.as_deref(), expected, "{how:?} {is_said} {has_certificate}");
            }
        }
    }

    #[test]
    fn who_a_proxy_speaks_for_is_told_in_the_place_of_the_proxy() {
        let uri = XfccDetails::new().uri(true);
        let element = |name: &str| format!("Hash={};URI={name}", "ab".repeat(32));
        for (of_proxy, appended) in [(Some(peer("proxy")), Some(element("proxy"))), (None, None)] {
            let put = |extensions: &mut Extensions| {
                extensions.insert(peer("client"));
                extensions.insert(OfConnection(of_proxy.clone()));
            };
            assert_eq!(told(ForwardedClientCert::sanitize_set(uri), true, put), Some(element("client")));
            let both = appended.map(|element| format!("{SAID}, {element}"));
            assert_eq!(told(ForwardedClientCert::append_forward(uri), true, put), both);
        }
    }
}
