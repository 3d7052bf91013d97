//! `upstreams`.
use std::net::SocketAddr;

use super::{
    Compiler,
    endpoints::{connections, watched},
};
use crate::{
    config::{
        EndpointFileSource,
        at::At,
        schema::{Balance, Upstream, UpstreamProtocol},
    },
    upstream::{self, BuildError, UpstreamBuilder, Wire},
};

/// What is said of an endpoint that is none.
pub(in crate::config) const NO_ENDPOINT: &str =
    "expected an endpoint such as `10.0.0.1:8080`, `[::1]:8080` or `orders.internal:8080`";

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
            builder = breaker.into_iter().fold(builder, UpstreamBuilder::circuit_breaker);
            if let Some(balance) = upstream.balance {
                builder = builder.balance(match balance {
                    Balance::RoundRobin => upstream::Balance::RoundRobin,
                    Balance::LeastRequest => upstream::Balance::LeastRequest,
                });
            }
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
            admin.into_iter().fold(builder, UpstreamBuilder::refuse)
        };
        let mut faulty = false;
        for (at, endpoint) in at.field("endpoints").items(&upstream.endpoints) {
            // One by one, so that each that is wrong is reported where it stands.
            if let Err(error) = builder().endpoint(endpoint).build() {
                faulty = true;
                at.error(match error {
                    BuildError::RefusedEndpoint(_) => "this is the admin address",
                    _ => NO_ENDPOINT,
                });
            }
        }
        if faulty {
            return None;
        }
        let builder = watched(at, upstream, connections(at, upstream, builder()))?;
        let mut builder = self.sourced(at, upstream, builder)?;
        if let Some(before) = self.kept.upstreams.get(name) {
            builder = builder.inherit(before);
        }
        at.accept(builder.build())
    }

    /// Where the endpoints come from.
    fn sourced(&self, at: At<'_>, upstream: &Upstream, builder: UpstreamBuilder) -> Option<UpstreamBuilder> {
        let has_own = at.field("endpoints").is_said();
        match &upstream.discovery {
            None if has_own => Some(builder.endpoints(&upstream.endpoints)),
            Some(discovery) if !has_own => {
                let source = EndpointFileSource::new(self.path(&discovery.file));
                if let Some(fault) = source.fault() {
                    at.field("discovery")
                        .field("file")
                        .warn(format!("there are no endpoints as yet: {fault}"));
                }
                Some(builder.source(source))
            }
            _ if at.is_broken() => None,
            _ => at.refuse("expected exactly one of `endpoints` and `discovery`"),
        }
    }
}
