//! The floor for any proxy on hyper: its server and its pooled client, and nothing else. No limits, no timeouts, no
//! forwarding headers; for comparison only. Usage: `gateway_naive ADDRESS UPSTREAM`
#![allow(clippy::expect_used, reason = "a tool that may stop")]

use http::Uri;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use std::{convert::Infallible, sync::Arc};
use tokio::net::TcpListener;

type Calls = Client<HttpConnector, Incoming>;
type Answer = Response<http_body_util::Either<Incoming, http_body_util::Empty<bytes::Bytes>>>;

async fn forward(client: Calls, to: Arc<str>, mut request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = Uri::builder().scheme("http").authority(&*to).path_and_query(path).build();
    *request.uri_mut() = target.expect("the path was one before");
    request.headers_mut().remove(http::header::CONNECTION);
    Ok(match client.request(request).await {
        Ok(response) => response.map(http_body_util::Either::Left),
        Err(_) => {
            let mut response = Response::new(http_body_util::Either::Right(http_body_util::Empty::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("an address");
    let upstream: Arc<str> = args.next().expect("an upstream").into();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Calls = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(address).await.expect("a free address");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let (client, upstream) = (client.clone(), Arc::clone(&upstream));
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(client.clone(), Arc::clone(&upstream), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
