//! What a request tells the upstream about the way that it came: `X-Forwarded-*` and `Forwarded` (RFC 7239), and of whose
//! certificate.

use std::net::IpAddr;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue,
    header::{Entry, FORWARDED, HOST},
    uri::Scheme,
};

#[cfg(feature = "tls")]
use super::certificate::ForwardedClientCert;
use crate::{
    identity::{AddressText, AssertedHeaders, CERTIFICATES, HEARSAY, PeerAddr, TrustedProxies},
    matching::ReceivedHost,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Which forwarding headers upstreams are told, and from whom those that come in are believed.
#[derive(Debug, Clone)]
pub(super) struct Forwarding {
    pub(super) trusted: TrustedProxies,
    /// Whether `Forwarded` is sent to those, too, whose request had none.
    pub(super) standard: bool,
    #[cfg(feature = "tls")]
    pub(super) certificate: ForwardedClientCert,
    hearsay: AssertedHeaders,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            trusted: TrustedProxies::none(),
            standard: false,
            #[cfg(feature = "tls")]
            certificate: ForwardedClientCert::default(),
            hearsay: HEARSAY.into_iter().chain(CERTIFICATES).collect(),
        }
    }
}

impl Forwarding {
    /// Whether a request came over HTTPS, as far as it is known: by the connection, or by who is believed.
    pub(super) fn is_https(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let said = || headers.get(X_FORWARDED_PROTO).is_some_and(|scheme| scheme == "https");
        extensions.get::<Scheme>() == Some(&Scheme::HTTPS) || said() && self.trusted.trusts(extensions)
    }

    /// Tells of the last hop. What a trusted proxy said of hops before is kept and appended to; what anyone else
    /// said is replaced.
    pub(super) fn tell(&self, headers: &mut HeaderMap, extensions: &Extensions) {
        let peer = extensions.get::<PeerAddr>().map(|peer| peer.ip());
        let scheme = extensions.get::<Scheme>().map_or("http", Scheme::as_str);
        let scheme = if scheme == "https" { "https" } else { "http" };
        // Most requests say nothing of their way.
        let told = headers.keys().any(|name| self.hearsay.contains(name));
        if told && self.trusted.trusts(extensions) {
            self.forget_misspelt(headers);
        } else if told {
            self.hearsay.strip(headers);
        }
        self.tell_certificate(headers, extensions, told);
        // What the client asked for, whatever a rewrite made of it.
        let received = extensions.get::<ReceivedHost>().map(|host| &host.0);
        let host = received.or_else(|| headers.get(HOST)).cloned();
        if self.standard || told && headers.contains_key(FORWARDED) {
            append(headers, FORWARDED, element(peer, host.as_ref(), scheme).as_bytes());
        }
        if let Some(peer) = peer {
            append(headers, X_FORWARDED_FOR, AddressText::of_ip(peer).as_bytes());
        }
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert(host);
        }
    }

    /// Of all that is said of certificates only `X-Forwarded-Client-Cert` goes on, if the upstream is to know.
    fn tell_certificate(&self, headers: &mut HeaderMap, extensions: &Extensions, told: bool) {
        #[cfg(feature = "tls")]
        let sent = {
            self.certificate.tell(headers, extensions, told);
            1
        };
        #[cfg(not(feature = "tls"))]
        let (sent, _) = (0, extensions);
        if told {
            CERTIFICATES[sent..].iter().for_each(|name| _ = headers.remove(name));
        }
    }

    /// Removes what is spelt with `_`: a proxy does not write it, and an upstream may read it all the same.
    fn forget_misspelt(&self, headers: &mut HeaderMap) {
        let misspelt = |name: &&HeaderName| self.hearsay.contains(name) && name.as_str().contains('_');
        while let Some(name) = headers.keys().find(misspelt).cloned() {
            headers.remove(name);
        }
    }
}

/// Appends to a list field, and leaves one line of it: many upstreams read the first line only.
pub(super) fn append(headers: &mut HeaderMap, name: HeaderName, element: &[u8]) {
    match headers.entry(name) {
        Entry::Vacant(place) => {
            if let Ok(value) = HeaderValue::from_bytes(element) {
                place.insert(value);
            }
        }
        Entry::Occupied(mut place) => {
            let mut list: Vec<_> = place.iter().map(HeaderValue::as_bytes).collect();
            list.push(element);
            if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list.join(&b", "[..]))) {
                place.insert(value);
            }
        }
    }
}

/// One element of `Forwarded`.
fn element(peer: Option<IpAddr>, host: Option<&HeaderValue>, scheme: &str) -> String {
    let by = match peer {
        Some(IpAddr::V4(ip)) => format!("for={ip}"),
        Some(IpAddr::V6(ip)) => format!("for=\"[{ip}]\""),
        None => "for=unknown".to_owned(),
    };
    let plain = |host: &&str| !host.is_empty() && !host.contains(['"', '\\']);
    match host.and_then(|host| host.to_str().ok()).filter(plain) {
        Some(host) => format!("{by};host=\"{host}\";proto={scheme}"),
        None => format!("{by};proto={scheme}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(forwarding: &Forwarding, peer: &str, fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let mut extensions = Extensions::new();
        if let Ok(peer) = peer.parse::<std::net::SocketAddr>() {
            extensions.insert(PeerAddr::new(peer));
        }
        forwarding.tell(&mut headers, &extensions);
        headers
    }

    fn trusting() -> Forwarding {
        Forwarding { trusted: "10.0.0.0/8".parse().unwrap(), ..Forwarding::default() }
    }

    #[test]
    fn the_host_is_the_one_that_the_client_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("inner.example"));
        let mut extensions = Extensions::new();
        extensions.insert(ReceivedHost(HeaderValue::from_static("shop.example")));
        Forwarding::default().tell(&mut headers, &extensions);
        assert_eq!(headers["x-forwarded-host"], "shop.example");
        assert_eq!(headers[HOST], "inner.example");
    }

    #[test]
    fn a_strangers_words_are_replaced() {
        let lies = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x_forwarded_for", "3.3.3.3"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("x-forwarded-prefix", "/admin"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-client-cert", "Hash=00"),
            ("x_forwarded_client_cert", "Hash=00"),
            ("client-cert", ":AA==:"),
            ("client_cert_chain", ":AA==:"),
            ("host", "shop.example"),
        ];
        for peer in ["192.0.2.7:1", "nobody"] {
            let headers = told(&trusting(), peer, &lies);
            assert_eq!(
                headers.get("x-forwarded-for").map(HeaderValue::as_bytes),
                (peer != "nobody").then_some(b"192.0.2.7".as_slice())
            );
            assert_eq!(headers["x-forwarded-proto"], "http");
            assert_eq!(headers["x-forwarded-host"], "shop.example");
            let is_gone =
                |name: &HeaderName| !(name.as_str().contains("cert") || name.as_str().contains('_'));
            assert!(headers.keys().all(is_gone), "{headers:?}");
            for gone in ["forwarded", "x-forwarded-prefix", "x-real-ip"] {
                assert!(!headers.contains_key(gone), "{gone}");
            }
        }
    }

    #[test]
    fn a_trusted_proxys_words_are_kept_and_appended_to() {
        let said = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x_forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("forwarded", "for=192.0.2.7;proto=https"),
            ("x-forwarded-client-cert", "Hash=00"),
            ("x-forwarded-client_cert", "Hash=00"),
            ("client-cert", ":AA==:"),
            ("client-cert-chain", ":AA==:"),
            ("host", "inner.example"),
        ];
        let headers = told(&trusting(), "10.0.0.2:1", &said);
        let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        assert!(!headers.contains_key("x_forwarded-for"));
        assert!(headers.keys().all(|name| !name.as_str().contains("cert")), "{headers:?}");
        assert_eq!(lines, ["192.0.2.7, 10.0.0.1, 10.0.0.2"]);
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "shop.example");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.7;proto=https, for=10.0.0.2;host=\"inner.example\";proto=http"
        );
    }

    #[test]
    fn the_standard_form_quotes_what_must_be_quoted() {
        let forwarding = Forwarding { standard: true, ..Forwarding::default() };
        let headers = told(&forwarding, "[2001:db8::7]:1", &[("host", "[::1]:80")]);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::7]\";host=\"[::1]:80\";proto=http");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::7");
        let headers = told(&forwarding, "192.0.2.1:1", &[("host", "a\";for=1")]);
        assert_eq!(headers["forwarded"], "for=192.0.2.1;proto=http");
    }
}
