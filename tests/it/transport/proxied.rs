//! Whose certificate it is, whoever tells it: tonic's own TLS, and proxies in front of a handler.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use portcullis::{
    identity::{CertificateHeader, PeerAddr, PeerIdentity, TlsSession, TrustedProxies},
    transport::Connection,
};
use tower::{Layer, ServiceExt, service_fn};

/// What a handler is told behind the layer: the name, whether the connection was secured, and what is left of headers; or else
/// the answer's status.
async fn told(layer: Connection, request: Request<()>) -> Result<(String, bool, usize), u16> {
    let handler = service_fn(async |request: Request<()>| {
        let name =
            request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::name).unwrap_or("nobody");
        let is_secured = request.extensions().get::<TlsSession>().is_some();
        let left = request.headers().len();
        let mut response = Response::new(String::new());
        response.extensions_mut().insert((name.to_owned(), is_secured, left));
        Ok::<_, Infallible>(response)
    });
    let response = layer.layer().layer(handler).oneshot(request).await.unwrap();
    response.extensions().get().cloned().ok_or(response.status().as_u16())
}

#[tokio::test]
async fn a_stranger_speaks_for_nobody_and_a_proxy_for_its_clients() {
    let element = |name: &str| format!("Hash={};URI=spiffe://shop.example/{name}", "07".repeat(32));
    let request = |peer: &str, said: &[(&str, &str)]| {
        let mut request = Request::get("/");
        for (name, value) in said {
            request = request.header(*name, *value);
        }
        let peer = PeerAddr::new(peer.parse().unwrap());
        // Who came with a certificate of its own.
        let own = PeerIdentity::new([1; 32]).with_spiffe_id("spiffe://shop.example/own");
        request.extension(peer).extension(own).body(()).unwrap()
    };
    let layer = || {
        let proxies: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        Connection::new().trusted_proxies(proxies.client_certificate(CertificateHeader::Xfcc))
    };
    let (admin, orders) = (element("admin"), element("orders"));
    let both = format!("{admin},{orders}");
    let own = |left| Ok(("spiffe://shop.example/own".to_owned(), false, left));
    for (peer, said, expected) in [
        ("192.0.2.7:1", &[][..], own(0)),
        ("192.0.2.7:1", &[("x-forwarded-client-cert", &*admin), ("accept", "*/*")], own(1)),
        ("192.0.2.7:1", &[("X_Forwarded_Client-Cert", &*admin), ("client_cert", ":AA==:")], own(0)),
        ("192.0.2.7:1", &[("client-cert", ":AA==:"), ("Client-Cert-Chain", ":AA==:")], own(0)),
        ("192.0.2.7:1", &[("x-forwarded-client-cert", "nonsense")], own(0)),
        (
            "10.0.0.1:1",
            &[("x-forwarded-client-cert", &*both)],
            Ok(("spiffe://shop.example/orders".to_owned(), false, 1)),
        ),
        ("10.0.0.1:1", &[("x_forwarded_client_cert", &*admin)], Ok(("nobody".to_owned(), false, 0))),
        ("10.0.0.1:1", &[], Ok(("nobody".to_owned(), false, 0))),
        ("10.0.0.1:1", &[("x-forwarded-client-cert", "nonsense")], Err(400)),
    ] {
        assert_eq!(told(layer(), request(peer, said)).await, expected, "{peer} {said:?}");
        // Without a word about it, nobody speaks for others.
        let trusting = Connection::new().trusted_proxies("10.0.0.0/8".parse().unwrap());
        assert_eq!(told(trusting, request(peer, said)).await.unwrap().0, "spiffe://shop.example/own");
    }
}

#[cfg(feature = "tonic")]
#[tokio::test]
async fn what_tonic_has_verified_is_told() {
    use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, SanType};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};
    use tonic::transport::server::Connected;

    let made = |usage: &[KeyUsagePurpose]| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://shop.example/orders".try_into().unwrap()));
        params.key_usages = usage.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for (usage, expected) in [
        (
            Some(&[KeyUsagePurpose::DigitalSignature][..]),
            Ok(("spiffe://shop.example/orders".to_owned(), true, 0)),
        ),
        // A workload's key has a stated usage.
        (Some(&[]), Err(401)),
        (None, Ok(("nobody".to_owned(), true, 0))),
    ] {
        let (root, key) = made(&[KeyUsagePurpose::DigitalSignature]);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let own = usage.map(made);
        own.iter().for_each(|(own, _)| roots.add(own.clone()).unwrap());
        let roots = Arc::new(roots);
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&roots),
            Arc::clone(&provider),
        );
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
            .with_single_cert(vec![root], key)
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let client = match own {
            Some((own, key)) => client.with_client_auth_cert(vec![own], key).unwrap(),
            None => client.with_no_client_auth(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asking = tokio::spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
        });
        let (stream, peer) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(server)).accept(stream).await.unwrap();
        // What tonic puts into each request of the connection.
        let request = Request::get("/").extension(stream.connect_info()).body(()).unwrap();
        assert_eq!(told(Connection::new(), request).await, expected);
        assert!(peer.ip().is_loopback());
        asking.await.unwrap();
    }
}
