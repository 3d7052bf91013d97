//! A bare reverse proxy on Pingora: `pingora-peer LISTEN UPSTREAM`.
//!
//! No target of this package, which does not depend on Pingora: docs/benchmarks.md says how to build it.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::{
    prelude::{HttpPeer, ProxyHttp, Result, Server, Session, http_proxy_service},
    server::configuration::ServerConf,
};

struct Proxy(SocketAddr);

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (args.next(), args.next()) else {
        eprintln!("usage: pingora-peer LISTEN UPSTREAM");
        std::process::exit(2);
    };
    let upstream = upstream.parse().expect("an address");
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 128, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Proxy(upstream));
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
