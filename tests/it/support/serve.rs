//! A server of hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use portcullis::{body::BoxError, identity::PeerAddr};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

/// Serves `service` over HTTP/1.1 and HTTP/2, upgrades too, and tells each request its peer.
pub(crate) async fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, peer) = listener.accept().await.unwrap();
            let service = service.clone().map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr::new(peer));
                request
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let served = TowerToHyperService::new(service);
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(socket), served).await;
            });
        }
    });
    address
}
