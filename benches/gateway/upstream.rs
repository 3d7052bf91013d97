//! The upstream of these measurements: 200 and 128 bytes to whatever is asked, HTTP/1.1 and h2c, on one thread.
//! Usage: `gateway_upstream ADDRESS`
#![allow(clippy::expect_used, reason = "a tool that may stop")]

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Body, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::convert::Infallible;
use tokio::net::TcpListener;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !request.body().is_end_stream() {
        let _ = request.into_body().collect().await;
    }
    let response = Response::builder().header("content-type", "text/plain");
    Ok(response.body(Full::new(Bytes::from_static(&[b'x'; 128]))).expect("valid"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).expect("an address");
    let listener = TcpListener::bind(address).await.expect("a free address");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(socket), service_fn(answer)).await;
        });
    }
}
