#[cfg(feature = "tls")]
use http::HeaderMap;
use http::HeaderName;
#[cfg(feature = "tls")]
use thiserror::Error;

#[cfg(feature = "tls")]
use super::{client_cert, xfcc};
#[cfg(feature = "tls")]
use crate::identity::PeerIdentity;

pub(crate) const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
pub(super) const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// What says whose certificate was shown. From strangers it is a lie.
#[cfg(any(feature = "transport", feature = "upstream"))]
pub(crate) const CERTIFICATES: [HeaderName; 3] = [XFCC, CLIENT_CERT, CLIENT_CERT_CHAIN];

/// In which header trusted proxies tell of the certificate that a client has shown them.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateHeader {
    /// In none: nobody is believed.
    #[default]
    None,
    /// In the last element of `X-Forwarded-Client-Cert`, as Envoy writes it: by `Cert` or `Chain` if it has them, else by
    /// `Hash`, `Subject`, `URI` and `DNS`. One of `Hash`, `Cert` and `Chain` must be there. It may have 64 KiB.
    Xfcc,
    /// In `Client-Cert`, and `Client-Cert-Chain` if there is one (RFC 9440), together of 64 KiB at most.
    ClientCert,
}

/// Why what a header says of a certificate cannot be believed.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client's certificate cannot be told: {0}")]
pub struct InvalidCertificateHeader(pub(super) &'static str);

#[cfg(feature = "tls")]
impl CertificateHeader {
    /// What these headers say of the client's certificate, whoever wrote them; `None` if they say nothing.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use portcullis::identity::CertificateHeader;
    ///
    /// let mut headers = HeaderMap::new();
    /// let hash = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688";
    /// let element = format!("By=spiffe://shop.example/edge;Hash={hash};URI=spiffe://shop.example/ns/shop/sa/orders");
    /// headers.insert("x-forwarded-client-cert", element.parse()?);
    ///
    /// let peer = CertificateHeader::Xfcc.read(&headers)?.unwrap();
    /// assert_eq!(peer.spiffe_id(), Some("spiffe://shop.example/ns/shop/sa/orders"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// They are malformed, too long, or contradict themselves.
    pub fn read(self, headers: &HeaderMap) -> Result<Option<PeerIdentity>, InvalidCertificateHeader> {
        match self {
            Self::None => Ok(None),
            Self::Xfcc => xfcc::read(headers),
            Self::ClientCert => client_cert::read(headers),
        }
    }
}

/// What the connection's own certificate says, where a header has told of another.
#[cfg(all(feature = "tls", any(feature = "transport", feature = "upstream")))]
#[derive(Clone, Debug)]
pub(crate) struct OfConnection(
    #[cfg_attr(not(feature = "upstream"), expect(dead_code, reason = "upstreams are told of it"))]
    pub(crate) Option<PeerIdentity>,
);

#[cfg(feature = "transport")]
mod hear {
    use std::sync::LazyLock;

    use http::{HeaderMap, HeaderName};

    use super::CERTIFICATES;
    #[cfg(feature = "tls")]
    use super::{CLIENT_CERT, CLIENT_CERT_CHAIN, CertificateHeader, OfConnection, XFCC};
    use crate::{
        head::Head,
        identity::{AssertedHeaders, PeerAddr, TrustedProxies},
        reject::Rejection,
    };

    impl TrustedProxies {
        /// Tells a request whose certificate its peer speaks of, if that is believed, and takes out what is not.
        ///
        /// # Errors
        ///
        /// [`BadRequest`](crate::reject::Reason::BadRequest) if it is believed and cannot be read.
        pub(crate) fn hear_of_certificate(
            &self,
            peer: PeerAddr,
            head: &mut Head<'_>,
        ) -> Result<(), Rejection> {
            let is_trusted = self.contains(peer.ip());
            strip(head.headers_mut(), if is_trusted { self.kept() } else { &[] });
            #[cfg(feature = "tls")]
            if is_trusted && self.certificate_header() != CertificateHeader::None {
                use crate::{identity::PeerIdentity, reject::Reason};

                let told = self.certificate_header().read(head.headers());
                let told =
                    told.map_err(|error| Rejection::new(Reason::BadRequest).detail(error.to_string()))?;
                let extensions = head.extensions_mut();
                let own = match told {
                    Some(told) => extensions.insert(told),
                    None => extensions.remove::<PeerIdentity>(),
                };
                if extensions.get::<OfConnection>().is_none() {
                    extensions.insert(OfConnection(own));
                }
            }
            Ok(())
        }

        /// What trusted proxies may say.
        #[cfg(feature = "tls")]
        fn kept(&self) -> &'static [HeaderName] {
            static KEPT: [HeaderName; 3] = [XFCC, CLIENT_CERT, CLIENT_CERT_CHAIN];
            match self.certificate_header() {
                CertificateHeader::None | CertificateHeader::Xfcc => &KEPT[..1],
                CertificateHeader::ClientCert => &KEPT[1..],
            }
        }

        /// Nobody reads it.
        #[cfg(not(feature = "tls"))]
        #[expect(clippy::unused_self, reason = "it says more with the feature `tls`")]
        fn kept(&self) -> &'static [HeaderName] {
            &[]
        }
    }

    /// Takes out what is said of certificates, however it is spelt, but for what is kept.
    fn strip(headers: &mut HeaderMap, kept: &[HeaderName]) {
        static NAMES: LazyLock<AssertedHeaders> = LazyLock::new(|| CERTIFICATES.into_iter().collect());
        let is_said = |name: &&HeaderName| NAMES.contains(name) && !kept.contains(name);
        while let Some(name) = headers.keys().find(is_said).cloned() {
            headers.remove(name);
        }
    }
}
