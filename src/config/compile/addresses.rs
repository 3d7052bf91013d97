//! `addresses` and `minimumRates`.
use std::{num::NonZeroU32, path::Path};

use ipnet::IpNet;

use super::{Compiler, overload::some_time};
use crate::{
    admission::address::{AddressList, parse_networks},
    authn::Providers,
    config::{
        at::At,
        schema::{Addresses, MinimumRates, Policies},
    },
    stack::gateway::{self, Listen},
    transport::MinimumRate,
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
        let (at, grace) = (at.field("minimumRates"), rates.grace.as_ref().map(|grace| grace.0));
        if let Some(grace) = grace {
            some_time(at.field("grace"), grace);
        }
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
}
