//! `usage`, `addresses` and `minimumRates`.
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Compiler;
use crate::{
    admission::address::{AddressList, parse_networks},
    authn::Providers,
    config::{
        at::At,
        kept::KeptUsage,
        schema::{Addresses, MinimumRates, Policies, Usage},
    },
    stack::gateway::{self, Listen, SnapshotBuilder},
    telemetry::usage::{UsageFile, UsageMeter},
    transport::MinimumRate,
};
#[cfg(feature = "redis")]
use crate::{
    config::{
        kept::Said,
        schema::{RedisServer, UsageStream as StreamRules},
    },
    redis::Redis,
    telemetry::usage::UsageStream,
};

/// The most bytes of a list of networks: 100,000 of the longest, and more.
const NETWORKS: u64 = 8 << 20;

impl Compiler<'_> {
    /// The addresses, limits and quotas of a rule.
    pub(super) fn rule_bounds(
        &self,
        at: At<'_>,
        made: gateway::Rule,
        policies: &Policies,
        providers: Option<&Providers>,
    ) -> gateway::Rule {
        let mut made = self.rule_limits(at, made, policies, providers);
        if let Some(list) = &policies.addresses
            && let Some(list) = self.addresses(at.field("addresses"), list)
        {
            made = made.addresses(list);
        }
        self.rule_quotas(at.field("quota"), made, &policies.quota, providers)
    }

    /// Networks that are let in and kept out.
    pub(super) fn addresses(&self, at: At<'_>, said: &Addresses) -> Option<AddressList> {
        let inline = |list: &[crate::config::scalar::Text<IpNet>]| -> Vec<IpNet> {
            list.iter().map(|network| network.0).collect()
        };
        let mut list = AddressList::builder().deny(inline(&said.deny));
        if let Some(allow) = &said.allow {
            list = list.allow(inline(allow));
        }
        if let Some(file) = &said.allow_file {
            list = list.allow(self.networks(at.field("allowFile"), file)?);
        }
        if let Some(file) = &said.deny_file {
            list = list.deny(self.networks(at.field("denyFile"), file)?);
        }
        let says = said.allow.is_some() || said.allow_file.is_some() || said.deny_file.is_some();
        if !says && said.deny.is_empty() && !at.is_broken() {
            at.error("lets everybody in: expected `allow`, `allowFile`, `deny` or `denyFile`");
        }
        Some(list.build())
    }

    fn networks(&self, at: At<'_>, file: &Path) -> Option<Vec<IpNet>> {
        let text = at.accept(self.files.borrow_mut().read_up_to(&self.path(file), NETWORKS))?;
        let Ok(text) = std::str::from_utf8(&text) else { return at.refuse("not UTF-8") };
        at.accept(parse_networks(text))
    }

    /// Whatever a listener says of addresses and rates.
    pub(super) fn entrance(
        &self,
        at: At<'_>,
        mut listen: Listen,
        said: (&Option<Addresses>, &Option<MinimumRates>),
    ) -> Listen {
        let (addresses, rates) = said;
        if let Some(list) = addresses.as_ref().and_then(|said| self.addresses(at.field("addresses"), said)) {
            listen = listen.addresses(list);
        }
        let Some(rates) = rates else { return listen };
        let grace = rates.grace.as_ref().map(|grace| grace.0);
        let rate = |said: Option<u32>| {
            let rate = match said.map(NonZeroU32::new) {
                Some(None) => return None,
                Some(Some(bytes)) => MinimumRate::per_second(bytes),
                None => MinimumRate::default(),
            };
            Some(grace.map_or(rate, |grace| rate.grace(grace)))
        };
        listen
            .min_head_rate(rate(rates.head))
            .min_body_rate(rate(rates.body))
            .min_response_rate(rate(rates.response))
    }

    /// The meter: that of the snapshot before, if the file says the same of it.
    pub(super) fn usage(&self, builder: SnapshotBuilder) -> SnapshotBuilder {
        let (Some(usage), at) = (&self.file.usage, self.top.field("usage")) else { return builder };
        let Some(kept) = self.meter(at, usage) else { return builder };
        let meter = kept.1.clone();
        self.meter.borrow_mut().replace(kept);
        builder.usage(meter)
    }

    fn meter(&self, at: At<'_>, usage: &Usage) -> Option<KeptUsage> {
        if usage.file.is_none() && usage.redis.is_none() && !at.is_broken() {
            return at.refuse("is delivered nowhere: expected `file`, `redis` or both");
        }
        #[cfg(feature = "redis")]
        let stream = match &usage.redis {
            Some(to) => Some(self.usage_stream(at.field("redis"), to)?),
            None => None,
        };
        #[cfg(feature = "redis")]
        let server = stream.as_ref().map(|(said, _)| said.clone());
        #[cfg(not(feature = "redis"))]
        let server = None;
        let said = (usage.clone(), server, self.path(&PathBuf::new()));
        if let Some(kept) = self.kept.usage.as_ref().filter(|(before, _)| *before == said) {
            return Some(kept.clone());
        }
        let mut builder = UsageMeter::builder();
        if let Some(name) = &usage.instance {
            builder = builder.instance(name.as_str());
        }
        if let Some(interval) = &usage.interval {
            if interval.0.is_zero() {
                return at.field("interval").refuse("expected some time: batches would never end");
            }
            builder = builder.interval(interval.0);
        }
        if let Some(header) = usage.units_header.as_ref().map(|header| header.0.clone()) {
            builder = builder.units_by_response(move |head| number(&head.headers, &header));
        }
        if let Some(file) = &usage.file {
            let sink = UsageFile::new(self.path(&file.path));
            builder = builder.sink(file.rotate_bytes.map_or(sink.clone(), |bytes| sink.rotate(bytes.get())));
        }
        #[cfg(feature = "redis")]
        if let Some((_, stream)) = stream {
            builder = builder.sink(stream);
        }
        if let Some(directory) = &usage.spool {
            builder = builder.spool(self.path(directory));
        }
        if let Some(most) = usage.max_entries {
            builder = builder.max_entries(most.get() as usize);
        }
        if let Some(most) = usage.max_waiting_bytes {
            builder = builder.max_waiting(most.get() as usize);
        }
        Some((said, builder.build()))
    }

    #[cfg(feature = "redis")]
    fn usage_stream(&self, at: At<'_>, to: &StreamRules) -> Option<(Said<RedisServer>, UsageStream)> {
        let (said, redis) = self.server(at.field("server"), &to.server)?;
        let name = to.stream.as_ref().map_or("events", |name| &name.0.0);
        let stream = UsageStream::new(redis, name);
        let most = to.max_length.map(std::num::NonZero::get);
        Some((said, most.map_or(stream.clone(), |most| stream.max_length(most))))
    }

    /// A server by its name.
    #[cfg(feature = "redis")]
    pub(super) fn server(&self, at: At<'_>, name: &str) -> Option<(Said<RedisServer>, Redis)> {
        self.find(at, name, "server", "redis", self.stores.borrow().redis.all()).cloned()
    }
}

/// A whole number in a header field that stands there once.
fn number<N: std::str::FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<N> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
