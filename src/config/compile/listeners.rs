//! `listeners`, `admin` and `shutdown`.
use std::{collections::HashSet, net::SocketAddr};

use super::{Compiler, certificates::believed, tcp::at_least};
use crate::{
    config::{
        at::At,
        schema::{ForwardingHeader, Listener},
    },
    identity::{self, TrustedProxies},
    listening,
    stack::{
        Admin,
        gateway::{Listen, SnapshotBuilder},
    },
};

impl Compiler<'_> {
    pub(super) fn listeners(&self, mut builder: SnapshotBuilder) -> SnapshotBuilder {
        let file = self.file;
        let (mut names, mut addresses) = (HashSet::new(), Vec::new());
        let taken = |addresses: &[SocketAddr], address| {
            let taken = addresses.iter().find(|own| listening::collide(**own, address));
            taken.map(|own| format!("a listener has this address: it is on {own}"))
        };
        let sides: Vec<_> = self.sides().collect();
        if sides.iter().all(|side| side.listeners.is_empty() && !side.at.field("listeners").is_said()) {
            self.top.field("listeners").error("a gateway needs a listener");
        }
        let listeners = sides.iter().flat_map(|side| {
            let listeners = side.at.field("listeners").items(side.listeners);
            listeners.map(|(at, listener)| (side.direction, at, listener))
        });
        for (direction, at, listener) in listeners {
            let (name, address) = (&listener.name.0.0, listener.address.0);
            if !names.insert(name) {
                at.field("name").error("another listener has this name");
                continue;
            }
            if name == "admin" {
                at.field("name").error("this name is for the admin address");
                continue;
            }
            if let Some(taken) = taken(&addresses, address) {
                at.field("address").error(taken);
                continue;
            }
            addresses.push(address);
            builder = builder.listen(self.listener(at, listener).direction(direction));
        }
        if let Some(admin) = &file.admin {
            let at = self.top.field("admin").field("address");
            if let Some(taken) = taken(&addresses, admin.address()) {
                at.error(taken);
            }
            if !admin.address().ip().is_loopback() {
                at.warn("whoever reaches this address learns how the gateway is configured");
            }
            builder = builder.admin(Admin::at(admin.address()).hosts(&admin.hosts));
        }
        let delay = file.shutdown.delay.as_ref().map_or(SnapshotBuilder::SHUTDOWN_DELAY, |delay| delay.0);
        let grace = file.shutdown.grace.as_ref().map_or(SnapshotBuilder::SHUTDOWN_GRACE, |grace| grace.0);
        builder.shutdown(delay, grace)
    }

    fn listener(&self, at: At<'_>, listener: &Listener) -> Listen {
        let networks = || listener.trusted().iter().map(|network| network.0);
        let trusted = TrustedProxies::new(networks());
        let trusted = at.field("trustedProxies").accept(trusted).unwrap_or_default();
        let trusted = trusted.header(match listener.forwarding_header {
            ForwardingHeader::Either => identity::ForwardingHeader::Either,
            ForwardingHeader::Forwarded => identity::ForwardingHeader::Forwarded,
            ForwardingHeader::XForwarded => identity::ForwardingHeader::XForwarded,
        });
        let trusted = believed(at, listener, trusted);
        let mut listen = Listen::on(listener.name.0.0.as_str(), listener.address.0)
            .trusted_proxies(trusted)
            .uncapped(networks().filter(|network| network.prefix_len() > 0))
            .proxy_protocol(listener.proxy_protocol_from.iter().map(|network| network.0));
        if let Some(most) = listener.max_connections {
            listen = listen.max_connections(most.get() as usize);
        }
        if let Some(most) = listener.max_connections_per_address {
            listen = listen.max_connections_per_address(most.get() as usize);
        }
        if let Some(age) = &listener.max_connection_age {
            at_least(at.field("maxConnectionAge"), age.0);
            listen = listen.max_connection_age(age.0);
        }
        for (at, charge) in self.charges(at.field("rateLimit"), &listener.rate_limit) {
            if charge.needs_identity() || charge.limit().key().needs_route() {
                at.error("this limit counts by what is known only inside of a rule");
            }
            listen = listen.limit(charge);
        }
        if let Some(tls) = &listener.tls {
            let at = at.field("tls");
            #[cfg(feature = "tls")]
            if let Some(tls) = self.listener_tls(at, tls) {
                // Where HTTP is told from the rest, so is plain text from TLS, by the same time.
                let told = listener.detect_timeout.iter();
                let told = told.filter(|_| listener.protocol == crate::config::schema::ListenerProtocol::Tcp);
                listen = listen.tls(told.fold(tls, |tls, silence| tls.plain_after(silence.0)));
            }
            #[cfg(not(feature = "tls"))]
            {
                let _ = tls;
                at.error(super::compiler::NO_TLS);
            }
        }
        listen = self.spoken(at, listener, listen);
        listen = self.entrance(at, listen, (&listener.addresses, &listener.minimum_rates));
        listen = self.listener_concurrency(at.field("concurrency"), &listener.concurrency, listen);
        let (fields, legacy) = self.limit_fields(listener.rate_limit_fields);
        listen.limit_fields(fields).legacy_limit_fields(legacy)
    }
}
