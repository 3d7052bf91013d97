//! The stack as data: a gateway described by a file.
//!
//! The file is YAML in camelCase; `docs/config.md` has every field, `docs/gateway.schema.json` the JSON Schema. It is
//! compiled into a [`Snapshot`](crate::stack::gateway::Snapshot) by the same public builders that Rust code uses.
//!
//! # Example
//!
//! ```
//! use portcullis::config::Config;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::text("built in", "
//! apiVersion: portcullis/v1alpha1
//! listeners: [{ name: public, address: 127.0.0.1:0 }]
//! rateLimits: { per-address: { key: clientIp, rate: 10/s } }
//! upstreams: { orders: { endpoints: [127.0.0.1:9001] } }
//! routes:
//!   - name: orders
//!     rules:
//!       - matches: [{ path: { type: PathPrefix, value: /api/orders } }]
//!         policies: { rateLimit: [per-address] }
//!         backendRefs: [{ name: orders }]
//! ");
//! let configured = config.start().await?;
//! assert!(configured.gateway().address("public").is_some());
//! // configured.gateway().run().await
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! A file is [checked](Config::check) without being served, and everything that is wrong with it is told at once.
//! [Gates of your own](Registry) are used from the file by their names.
//!
//! ```
//! use portcullis::config::{Config, Registry};
//! use portcullis::{gate::Gate, head::Head, reject::{Answer, Reason}};
//!
//! struct Closed;
//! impl Gate for Closed {
//!     type Pass = ();
//!     fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
//!         Err(Reason::Unavailable.into())
//!     }
//! }
//!
//! let text = "
//! apiVersion: portcullis/v1alpha1
//! listeners: [{ name: public, adress: 127.0.0.1:8080 }]
//! routes: [{ name: shop, rules: [{ policies: { gates: [close] }, filters: [{ type: ExternalAuth, externalAuth: {} }] }] }]
//! ";
//! let check = Config::text("gateway.yaml", text).gates(Registry::new().register("closed", |(): ()| Ok(Closed))).check();
//! assert!(!check.is_accepted());
//! let said = check.to_string();
//! assert!(said.contains("gateway.yaml:3:29: listeners[0].adress: unknown field; did you mean `address`?"));
//! assert!(said.contains("routes[0].rules[0].filters[0].externalAuth: not supported yet"));
//! assert!(said.contains("no gate is registered under this name; did you mean `closed`?"));
//! ```
//!
//! # What is promised
//!
//! - A field that is not known, or not served yet, is an error: nothing that is written is ignored.
//! - All faults are reported at once, each with file, line, column and path. No value of the file is repeated: it may
//!   be a secret.
//! - A [started](Config::start) configuration is followed: a change of the file, or of a file that it names, is in
//!   force within two seconds, as a whole. Changes are waited for until they rest, a second at most. A file with a fault
//!   changes nothing; it is logged, and shows in the status and in a metric.
//! - Limits are the same account under the same name and terms, and upstreams keep their connections. What is known of
//!   tokens, verified or asked about, is kept while the same is said of their provider and its files hold the same keys.
//! - What is read is bounded: 1 MiB a file, 32 levels, and aliases cost what they stand for.
//!
//! # Answers
//!
//! None of its own: a gateway answers as [its stack](crate::stack::gateway) does.
//!
//! # Position
//!
//! Outside of everything: it describes a gateway, from its listeners to its upstreams.
//!
//! # Shared state
//!
//! What a reload keeps belongs to the [`Configured`] gateway, by name: limits, connections to upstreams and what is known
//! of tokens. Loading the same configuration twice makes two gateways that share nothing.
//!
//! # Compared with tower
//!
//! tower knows stacks as types only. The file is compiled into the same types, so that it costs a request nothing.
//!
//! # Metrics
//!
//! `config_generation`, `config_loads_total` and `config_load_failures_total`, at the admin address.
mod at;
mod compile;
mod debounce;
mod document;
mod endpoint_file;
mod endpoint_list;
#[cfg(feature = "redis")]
mod endpoint_redis;
mod fault;
mod files;
mod gates;
mod kept;
mod key_store;
mod load;
mod reader;
mod reload;
mod scalar;
#[expect(dead_code, reason = "what a field refuses stands in the schema, and is never read")]
mod schema;
mod suggest;
mod yaml;

#[cfg(feature = "redis")]
pub use self::endpoint_redis::EndpointRedisSource;
pub use self::{
    endpoint_file::EndpointFileSource,
    fault::{Fault, Faults, Severity},
    gates::Registry,
    key_store::FileKeyStore,
    load::{Check, Config, schema},
    reload::{Configured, ConfiguredClient, StartError},
};

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
