//! Sidecars: in this process, and the example's program.
mod captured;
mod lifecycle;
mod mesh;
mod refusals;

use std::net::SocketAddr;

use portcullis::config::Config;
use rcgen::SanType;

use crate::{
    gateway::world::{Directory, Gateway},
    support::certificates::{Authority, uri},
};

/// The identities of some services, in a directory each.
fn identities(names: &[&str]) -> Directory {
    let (directory, authority) = (Directory::new("sidecar"), Authority::new("mesh.local"));
    for name in names {
        let (chain, key) = authority.sign(|params| {
            let dns = SanType::DnsName((*name).try_into().unwrap());
            params.subject_alt_names = vec![uri(&format!("spiffe://mesh.local/{name}")), dns];
        });
        std::fs::create_dir(directory.path(name)).unwrap();
        directory.write(&format!("{name}/tls.crt"), &chain);
        directory.write(&format!("{name}/tls.key"), &key);
        directory.write(&format!("{name}/ca.crt"), &authority.pem());
    }
    directory
}

/// What a service's sidecar does with what comes in: `web` alone may ask.
fn inbound(name: &str, service: SocketAddr) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         identities: {{ {name}: {{ directory: {name} }} }}\n\
         authorization: {{ callers: {{ action: allow, rules: [{{ from: [{{ peers: [spiffe://mesh.local/web] }}] }}] }} }}\n\
         upstreams: {{ service: {{ endpoints: ['{service}'], protocol: follow }} }}\n\
         inbound:\n\
         \x20 listeners: [{{ name: mesh, address: 127.0.0.1:0, tls: {{ identities: [{name}], clientCertificates: required }} }}]\n\
         \x20 routes: [{{ name: service, rules: [{{ policies: {{ authorize: {{ policies: [callers] }} }}, backendRefs: [{{ name: service }}] }}] }}]\n"
    )
}

/// What a service's sidecar does with what goes out.
fn outbound(name: &str, orders: SocketAddr, more: &str) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         identities: {{ {name}: {{ directory: {name} }} }}\n\
         upstreams: {{ orders: {{ endpoints: ['{orders}'], protocol: follow, \
         tls: {{ identity: {name}, spiffeId: spiffe://mesh.local/orders }} }} }}\n\
         outbound:\n\
         \x20 listeners: [{{ name: calls, address: 127.0.0.1:0 }}]\n\
         \x20 destinations: {{ orders: {{}} }}\n{more}"
    )
}

async fn sidecar(directory: &Directory, name: &str, text: &str) -> Gateway {
    let file = format!("{name}.yaml");
    directory.write(&file, text);
    Gateway::start(Config::file(directory.path(&file))).await
}
