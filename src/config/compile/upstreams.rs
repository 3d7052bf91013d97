//! `upstreams`.
use std::net::SocketAddr;

use super::{
    Compiler,
    balance::balance,
    subsets::{check_labels, subsets},
};
use crate::{
    config::{
        at::At,
        schema::{Endpoint, Upstream, UpstreamProtocol},
    },
    upstream::{self, BuildError, Wire},
};

impl<'a> Compiler<'a> {
    /// The credentials that requests to an upstream carry.
    pub(super) fn upstream_credentials(&mut self, at: At<'_>, name: &'a str, upstream: &Upstream) {
        let Some(said) = &upstream.credentials else { return };
        let at = at.field("credentials");
        #[cfg(feature = "jwt")]
        if let Some(source) = self.credentials(at, name, said) {
            self.sources.insert(name, source);
        }
        #[cfg(not(feature = "jwt"))]
        {
            let _ = (name, said);
            at.error("this build has no tokens: it was made without the feature `jwt`");
        }
    }

    /// An upstream, with the connections of the one of this name that is in force.
    pub(super) fn upstream(
        &self,
        at: At<'_>,
        name: &str,
        upstream: &Upstream,
        admin: Option<SocketAddr>,
    ) -> Option<upstream::Upstream> {
        let breaker = self.endpoint_breaker(at, upstream);
        let builder = || {
            let mut builder = upstream::Upstream::builder(name);
            builder = breaker.into_iter().fold(builder, upstream::UpstreamBuilder::circuit_breaker);
            if let Some(protocol) = upstream.protocol {
                builder = builder.wire(match protocol {
                    UpstreamProtocol::Http1 => Wire::Http1,
                    UpstreamProtocol::Http2 => Wire::Http2,
                    UpstreamProtocol::Follow => Wire::Follow,
                });
            }
            if let Some(timeout) = &upstream.connect_timeout {
                builder = builder.connect_timeout(timeout.0);
            }
            if let Some(most) = upstream.max_connections {
                builder = builder.max_connections(most.get() as usize);
            }
            admin.into_iter().fold(builder, upstream::UpstreamBuilder::refuse)
        };
        let mut faulty = false;
        for (at, endpoint) in at.field("endpoints").items(&upstream.endpoints) {
            if let Some(labels) = endpoint.labels() {
                check_labels(at.field("labels"), labels);
            }
            // One by one, so that each that is wrong is reported where it stands.
            if let Err(error) = builder().endpoint(endpoint).build() {
                faulty = true;
                let at = if matches!(endpoint, Endpoint::Told(_)) { at.field("address") } else { at };
                at.error(match error {
                    BuildError::RefusedEndpoint(_) => "this is the admin address",
                    _ => {
                        "expected an endpoint such as `10.0.0.1:8080`, `[::1]:8080` or `orders.internal:8080`"
                    }
                });
            }
        }
        let mut builder = builder().endpoints(&upstream.endpoints);
        if let Some(key) = self.sessions_by {
            builder = builder.session_key(key);
        }
        if let Some(rules) = &upstream.subsets {
            builder = builder.subsets(subsets(at.field("subsets"), rules));
        }
        if let Some(told) = &upstream.balance {
            builder = balance(at.field("balance"), builder, told)?;
        }
        if faulty {
            return None;
        }
        if let Some(before) = self.kept.upstreams.get(name) {
            builder = builder.inherit(before);
        }
        at.accept(builder.build())
    }
}
