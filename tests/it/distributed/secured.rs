//! Limits and quotas on servers that are spoken to over TLS.

use portcullis::{
    config::Config,
    redis::{Redis, RedisBuilder, RedisError},
    tls::ClientTls,
};

use super::{acl::decide, admitted, with_limit};
use crate::{
    gateway::world::{Directory, Gateway, PATIENCE, upstream},
    support::redis::{Certified, Nodes, Program, Server, Trio},
};

/// All is done where the certificate is one that is trusted, and nothing where it is not.
async fn decide_by(builder: RedisBuilder, certified: &Certified) {
    let trusting = |roots: &str| ClientTls::roots(roots.as_bytes()).unwrap();
    decide(&builder.clone().tls(trusting(certified.roots())).build()).await;
    let other = Certified::new();
    let stranger = builder.deadline(PATIENCE).tls(trusting(other.roots())).build();
    let refused = stranger.ping().await.unwrap_err();
    assert!(matches!(refused, RedisError::Connect(_) | RedisError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn one_server_decides_over_tls() {
    let certified = Certified::new();
    let server = Server::of(Program::secured(&certified), "", &[]);
    assert!(server.url().starts_with("rediss://"));
    decide_by(Redis::builder(&server.url()).unwrap(), &certified).await;
}

#[tokio::test]
async fn so_does_the_master_of_sentinels() {
    let certified = Certified::new();
    let program = Program::secured(&certified);
    let trio = tokio::task::spawn_blocking(|| Trio::of(program)).await.unwrap();
    let urls = trio.urls();
    decide_by(Redis::sentinel("limits", urls.iter().map(String::as_str)).unwrap(), &certified).await;
}

#[tokio::test]
async fn so_does_a_cluster() {
    let certified = Certified::new();
    let program = Program::secured(&certified);
    let nodes = tokio::task::spawn_blocking(move || Nodes::of(&program)).await.unwrap();
    let urls = nodes.urls();
    decide_by(Redis::cluster(urls.iter().map(String::as_str)).unwrap(), &certified).await;
}

/// As a file says it.
#[tokio::test]
async fn two_gateways_hold_one_limit_over_tls() {
    let certified = Certified::new();
    let server = Server::of(Program::secured(&certified), "", &[]);
    let upstream = upstream("one").await;
    let directory = Directory::new("limits-secured");
    directory.write("redis-ca.pem", certified.roots());
    let url = format!("url: {:?}", server.url());
    let text = with_limit(&server, upstream, ", deadline: 20s, fallback: deny");
    directory.write("gateway.yaml", &text.replace(&url, &format!("{url}, roots: {{ file: redis-ca.pem }}")));
    let start = || Gateway::start(Config::file(directory.path("gateway.yaml")));
    let gateways = [start().await, start().await];
    assert_eq!(admitted(&gateways, "a", 50).await, 20);
}
