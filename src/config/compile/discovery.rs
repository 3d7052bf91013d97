//! `upstreams.NAME.discovery`.
#[cfg(any(feature = "dns", feature = "redis"))]
use std::time::Duration;

use super::Compiler;
#[cfg(any(feature = "dns", feature = "redis"))]
use super::retry::within;
#[cfg(feature = "redis")]
use crate::config::EndpointRedisSource;
#[cfg(feature = "dns")]
use crate::upstream::Dns;
use crate::{
    config::{
        EndpointFileSource,
        at::At,
        schema::{Discovery, DnsDiscovery, DnsResolver, RedisDiscovery, Upstream},
    },
    upstream::UpstreamBuilder,
};

impl Compiler<'_> {
    /// Where the endpoints come from.
    pub(super) fn sourced(
        &self,
        at: At<'_>,
        upstream: &Upstream,
        builder: UpstreamBuilder,
    ) -> Option<UpstreamBuilder> {
        let has_own = at.field("endpoints").is_said();
        match &upstream.discovery {
            None if has_own => Some(builder.endpoints(&upstream.endpoints)),
            Some(discovery) if !has_own => self.discovered(at.field("discovery"), discovery, builder),
            _ if at.is_broken() => None,
            _ => at.refuse("expected exactly one of `endpoints` and `discovery`"),
        }
    }

    fn discovered(&self, at: At<'_>, said: &Discovery, builder: UpstreamBuilder) -> Option<UpstreamBuilder> {
        match said {
            Discovery { file: Some(file), dns: None, redis: None } => {
                let source = EndpointFileSource::new(self.path(file));
                if let Some(fault) = source.fault() {
                    at.field("file").warn(format!("there are no endpoints as yet: {fault}"));
                }
                Some(builder.source(source))
            }
            Discovery { file: None, dns: Some(dns), redis: None } => named(at.field("dns"), dns, builder),
            Discovery { file: None, dns: None, redis: Some(redis) } => {
                self.kept_on_redis(at.field("redis"), redis, builder)
            }
            _ if at.is_broken() => None,
            _ => at.refuse("expected exactly one of `file`, `dns` and `redis`"),
        }
    }

    #[cfg(feature = "redis")]
    fn kept_on_redis(
        &self,
        at: At<'_>,
        said: &RedisDiscovery,
        builder: UpstreamBuilder,
    ) -> Option<UpstreamBuilder> {
        let (_, redis) = self.server(at.field("server"), &said.server)?;
        let mut source = EndpointRedisSource::new(redis, said.key.as_str());
        if let Some(interval) = &said.interval {
            within(at.field("interval"), interval.0, Duration::from_millis(100));
            source = source.interval(interval.0);
        }
        Some(builder.source(source))
    }

    #[cfg(not(feature = "redis"))]
    fn kept_on_redis(&self, at: At<'_>, _: &RedisDiscovery, _: UpstreamBuilder) -> Option<UpstreamBuilder> {
        at.refuse("this build has no Redis: it was made without the feature `redis`")
    }
}

/// Endpoints under a name in DNS.
fn named(at: At<'_>, said: &DnsDiscovery, builder: UpstreamBuilder) -> Option<UpstreamBuilder> {
    let (of_srv, name) = match (&said.address, &said.srv) {
        (Some(name), None) => (false, name),
        (None, Some(name)) => (true, name),
        _ if at.is_broken() => return None,
        _ => return at.refuse("expected exactly one of `address` and `srv`"),
    };
    match said.resolver.unwrap_or(if of_srv { DnsResolver::Dns } else { DnsResolver::System }) {
        DnsResolver::System if of_srv => at.field("resolver").refuse("the system knows no SRV records"),
        DnsResolver::System => {
            for name in ["servers", "minTtl", "maxTtl"] {
                if at.field(name).is_said() {
                    at.field(name).error("only with `resolver: dns`");
                }
            }
            of_address(at, name, builder)
        }
        DnsResolver::Dns => asked_over_dns(at, said, (of_srv, name), builder),
    }
}

fn of_address(at: At<'_>, name: &str, builder: UpstreamBuilder) -> Option<UpstreamBuilder> {
    if crate::upstream::Upstream::builder("").endpoint(name).build().is_err() {
        return at.field("address").refuse("expected a host name and a port, such as `orders.internal:8080`");
    }
    Some(builder.endpoint(name))
}

#[cfg(feature = "dns")]
fn asked_over_dns(
    at: At<'_>,
    said: &DnsDiscovery,
    (of_srv, name): (bool, &str),
    builder: UpstreamBuilder,
) -> Option<UpstreamBuilder> {
    let dns = match &*said.servers {
        [] if at.field("servers").is_said() => return at.field("servers").refuse("expected one at least"),
        [] => at.accept(Dns::system())?,
        servers => at.field("servers").accept(Dns::servers(servers.iter().map(|server| server.0)))?,
    };
    let least = said.min_ttl.as_ref().map_or(Dns::SHORTEST, |ttl| ttl.0);
    let most = said.max_ttl.as_ref().map_or(Dns::LONGEST.max(least), |ttl| ttl.0);
    within(at.field("minTtl"), least, Duration::from_secs(1));
    if most < least {
        at.field("maxTtl").error("shorter than `minTtl`");
    }
    let dns = dns.lifetimes(least, most);
    if !of_srv {
        return Some(of_address(at, name, builder)?.resolver(dns));
    }
    let source = at.field("srv").accept(dns.srv(name))?;
    Some(builder.source(source).resolver(dns))
}

#[cfg(not(feature = "dns"))]
fn asked_over_dns(
    at: At<'_>,
    _: &DnsDiscovery,
    (of_srv, _): (bool, &str),
    _: UpstreamBuilder,
) -> Option<UpstreamBuilder> {
    let at = at.field(if of_srv { "srv" } else { "resolver" });
    at.refuse("this build asks no name servers: it was made without the feature `dns`")
}
