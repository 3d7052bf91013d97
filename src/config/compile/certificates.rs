//! Clients' certificates: which listeners bring any, whom they believe about them, and what upstreams are told.
use super::Compiler;
use crate::{
    config::{
        at::At,
        schema::{
            ClientCertificateHeader, ClientCertificates, ForwardClientCertDetails, Listener, ListenerTls,
            TlsMode, Upstream,
        },
    },
    identity::TrustedProxies,
    upstream::Proxy,
};

/// Whether requests of this listener may have a certificate.
fn brings_certificates(listener: &Listener) -> bool {
    let asks = |tls: &ListenerTls| match tls.client_certificates {
        _ if tls.mode == TlsMode::Disabled => false,
        Some(clients) => clients != ClientCertificates::None,
        None => tls.client_ca.is_some(),
    };
    listener.client_certificate_header != ClientCertificateHeader::None
        || listener.tls.as_ref().is_some_and(asks)
}

/// Whether proxies in front of this listener may say something that upstreams can be told.
fn may_be_told(listener: &Listener) -> bool {
    !listener.trusted().is_empty()
        && listener.client_certificate_header != ClientCertificateHeader::ClientCert
}

impl Compiler<'_> {
    /// Says what it means to ask for certificates, if no listener brings any.
    pub(super) fn warn_of_no_certificates(&self, at: At<'_>, meaning: &str) {
        if !self.file.all_listeners().any(brings_certificates) {
            at.warn(format!("no listener brings certificates: {meaning}"));
        }
    }

    /// Says what of `forwardClientCertDetails` comes to nothing.
    pub(super) fn check_told(&self, at: At<'_>, said: &Upstream) {
        use ForwardClientCertDetails::{
            AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet,
        };

        let mode = said.forward_client_cert_details;
        let adds = matches!(mode, AppendForward | SanitizeSet);
        if said.set_current_client_cert_details.is_some() && !adds {
            at.field("setCurrentClientCertDetails").warn(
                "nothing is said of certificates: `forwardClientCertDetails` is neither `appendForward` nor `sanitizeSet`",
            );
        }
        let at = at.field("forwardClientCertDetails");
        if !cfg!(feature = "tls") && mode != Sanitize {
            at.error(super::compiler::NO_TLS);
        } else if matches!(mode, ForwardOnly | AlwaysForwardOnly)
            && !self.file.all_listeners().any(may_be_told)
        {
            at.warn("there is nothing to hand on: no listener has `trustedProxies` that may say it");
        } else if !matches!(mode, Sanitize | AlwaysForwardOnly) {
            self.warn_of_no_certificates(at, "there is nothing to tell");
        }
    }
}

/// Whom a listener believes about certificates.
pub(super) fn believed(at: At<'_>, listener: &Listener, trusted: TrustedProxies) -> TrustedProxies {
    let at = at.field("clientCertificateHeader");
    if listener.client_certificate_header == ClientCertificateHeader::None {
        return trusted;
    }
    if listener.trusted().is_empty() {
        at.warn("nobody is believed: there are no `trustedProxies`");
    }
    #[cfg(feature = "tls")]
    return trusted.client_certificate(match listener.client_certificate_header {
        ClientCertificateHeader::None => crate::identity::CertificateHeader::None,
        ClientCertificateHeader::Xfcc => crate::identity::CertificateHeader::Xfcc,
        ClientCertificateHeader::ClientCert => crate::identity::CertificateHeader::ClientCert,
    });
    #[cfg(not(feature = "tls"))]
    {
        at.error(super::compiler::NO_TLS);
        trusted
    }
}

/// What an upstream is told of them.
#[cfg(feature = "tls")]
pub(super) fn told(proxy: Proxy, said: &Upstream) -> Proxy {
    use crate::{identity::XfccDetails, upstream::ForwardedClientCert};

    let details = said.set_current_client_cert_details.unwrap_or_default();
    let details = XfccDetails::new()
        .subject(details.subject)
        .cert(details.cert)
        .chain(details.chain)
        .dns(details.dns)
        .uri(details.uri);
    proxy.client_certificate(match said.forward_client_cert_details {
        ForwardClientCertDetails::Sanitize => ForwardedClientCert::sanitize(),
        ForwardClientCertDetails::ForwardOnly => ForwardedClientCert::forward_only(),
        ForwardClientCertDetails::AppendForward => ForwardedClientCert::append_forward(details),
        ForwardClientCertDetails::SanitizeSet => ForwardedClientCert::sanitize_set(details),
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardedClientCert::always_forward_only(),
    })
}

#[cfg(not(feature = "tls"))]
pub(super) fn told(proxy: Proxy, _: &Upstream) -> Proxy {
    proxy
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests {
    use crate::config::Config;

    fn problems(listener: &str, upstream: &str, rest: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: portcullis/v1alpha1\nlisteners: [{{ name: public, address: 127.0.0.1:8080, {listener} }}]\n\
             upstreams: {{ one: {{ endpoints: [127.0.0.1:9001], {upstream} }} }}\n{rest}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
        );
        let check = Config::text("f", text).check();
        check.faults().iter().map(|fault| format!("{}: {}", fault.path, fault.problem)).collect()
    }

    #[test]
    fn what_comes_to_nothing_is_warned_of() {
        let (believing, trusting) = ("clientCertificateHeader: xfcc", "trustedProxies: [10.0.0.0/8]");
        let both = format!("{believing}, {trusting}");
        let other = both.replace("xfcc", "clientCert");
        let told = "upstreams.one.forwardClientCertDetails";
        let nothing = format!("{told}: no listener brings certificates: there is nothing to tell");
        let no_words =
            format!("{told}: there is nothing to hand on: no listener has `trustedProxies` that may say it");
        let nobody =
            "listeners[0].clientCertificateHeader: nobody is believed: there are no `trustedProxies`";
        let silent = "upstreams.one.setCurrentClientCertDetails: nothing is said of certificates: \
                      `forwardClientCertDetails` is neither `appendForward` nor `sanitizeSet`";
        let mode = |mode: &str| format!("forwardClientCertDetails: {mode}");
        for (listener, upstream, expected) in [
            ("", String::new(), vec![]),
            (&*both, mode("sanitizeSet"), vec![]),
            (&other, mode("sanitizeSet"), vec![]),
            (&both, mode("forwardOnly"), vec![]),
            (trusting, mode("alwaysForwardOnly"), vec![]),
            (believing, String::new(), vec![nobody]),
            ("", mode("sanitizeSet"), vec![&*nothing]),
            (trusting, mode("appendForward"), vec![&*nothing]),
            ("", mode("alwaysForwardOnly"), vec![&*no_words]),
            (&other, mode("forwardOnly"), vec![&*no_words]),
            (trusting, mode("forwardOnly"), vec![&*nothing]),
            ("", "setCurrentClientCertDetails: { uri: true }".to_owned(), vec![silent]),
        ] {
            assert_eq!(problems(listener, &upstream, ""), expected, "{listener} {upstream}");
        }
    }

    #[test]
    fn a_provider_of_certificates_needs_a_listener_that_brings_them() {
        let provider = "authentication: { workloads: { clientCertificate: {} } }";
        let place = "authentication.workloads.clientCertificate";
        let nobody = format!("{place}: no listener brings certificates: nobody has one");
        assert_eq!(problems("", "", provider), [nobody]);
        let believing = "clientCertificateHeader: clientCert, trustedProxies: [10.0.0.0/8]";
        assert_eq!(problems(believing, "", provider), [""; 0]);
        let two = "authentication: { p: { clientCertificate: {}, apiKey: { keys: { file: keys.yaml } } } }";
        let expected = "expected exactly one of `jwt`, `apiKey`, `introspection` and `clientCertificate`";
        assert_eq!(problems(believing, "", two), [format!("authentication.p: {expected}")]);
    }
}
