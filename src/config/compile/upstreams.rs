//! `upstreams`.
use std::net::SocketAddr;

use super::{
    Compiler,
    balance::balance,
    endpoints::{are_endpoints, connections, watched},
    subsets::subsets,
};
use crate::{
    config::{
        at::At,
        schema::{Upstream, UpstreamProtocol},
    },
    upstream::{self, UpstreamBuilder, Wire},
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
        own: &[SocketAddr],
    ) -> Option<upstream::Upstream> {
        self.check_told(at, upstream);
        let breaker = self.endpoint_breaker(at, upstream);
        let builder = || {
            let mut builder = upstream::Upstream::builder(name);
            builder = breaker.into_iter().fold(builder, UpstreamBuilder::circuit_breaker);
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
            own.iter().copied().fold(builder, UpstreamBuilder::refuse)
        };
        let are_good = are_endpoints(at.field("endpoints"), &upstream.endpoints, builder);
        let mut builder = self.sessions_by.into_iter().fold(builder(), UpstreamBuilder::session_key);
        if let Some(rules) = &upstream.subsets {
            builder = builder.subsets(subsets(at.field("subsets"), rules, upstream));
        }
        if let Some(told) = &upstream.balance {
            builder = balance(at.field("balance"), builder, told)?;
        }
        if let Some(tls) = &upstream.tls {
            let at = at.field("tls");
            #[cfg(feature = "tls")]
            {
                let by_srv =
                    upstream.discovery.as_ref().and_then(|said| said.dns.as_ref()?.srv.as_ref()).is_some();
                if by_srv
                    && tls.server_name.is_none()
                    && tls.spiffe_id.is_none()
                    && tls.trust_domain.is_none()
                {
                    return at.refuse("SRV records name the servers, and nobody signs them: say `serverName`, `spiffeId` or `trustDomain`");
                }
                builder = builder.tls(&self.upstream_tls(at, tls)?);
            }
            #[cfg(not(feature = "tls"))]
            {
                let _ = tls;
                at.error(super::compiler::NO_TLS);
            }
        }
        if !are_good {
            return None;
        }
        let builder = watched(at, upstream, connections(at, upstream, builder))?;
        let mut builder = self.sourced(at, upstream, builder)?;
        if let Some(before) = self.kept.upstreams.get(name) {
            builder = builder.inherit(before);
        }
        at.accept(builder.build())
    }
}
