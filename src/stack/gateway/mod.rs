//! A gateway: listeners, rules and upstreams, with the layers between them in their proven order.
//!
//! A [`Snapshot`] says everything a gateway does, as a value that never changes; a [`Gateway`] takes one into force,
//! and replaces it as a whole while requests are in flight. With the feature `config` a file makes the snapshots.
//!
//! # Example
//!
//! ```
//! use portcullis::admission::rate_limit::Limit;
//! use portcullis::matching::RequestMatch;
//! use portcullis::stack::gateway::{Gateway, Listen, Rule, Snapshot};
//! use portcullis::upstream::{Proxy, Upstream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let orders = Upstream::builder("orders").endpoints(["127.0.0.1:9001", "127.0.0.1:9002"]).build()?;
//! let limit = Limit::builder("per-address", "10/s".parse()?).build()?;
//!
//! let snapshot = Snapshot::builder()
//!     .listen(Listen::on("public", "127.0.0.1:0".parse()?))
//!     .rule(
//!         Rule::new("orders")
//!             .when(RequestMatch::prefix("/api/orders")?)
//!             .limit(limit)
//!             .backend(Proxy::new(orders), 1),
//!     )
//!     .build()?;
//! let gateway = Gateway::start(snapshot).await?;
//! assert_eq!(gateway.generation(), 1);
//! // gateway.run().await: until SIGTERM, without losing a request
//! # gateway.cut().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! Two percent of the callers, and always the same ones, get the new version; who may call is asked first. The
//! methods can be called in any order: [`order`](crate::stack::order) is the one in which layers stand.
//!
//! ```
//! use portcullis::admission::authz::Authorize;
//! use portcullis::authn::{Providers, api_key::{ApiKey, KeyTable, mint}};
//! use portcullis::key::Key;
//! use portcullis::stack::{Admin, gateway::{Listen, Rule, Snapshot}};
//! use portcullis::upstream::{Proxy, Upstream};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let version = |name: &str, at: &str| Upstream::builder(name).endpoint(at).build().map(Proxy::new);
//! let key = mint("shop", "acme")?.with(|entry| entry.scopes(["orders.read"])); // shown to acme once
//! let keys = ApiKey::new(KeyTable::new("partners", [key.entry().clone()])?);
//!
//! let snapshot = Snapshot::builder()
//!     .listen(Listen::on("public", "0.0.0.0:8080".parse()?).trusted_proxies("10.0.0.0/8".parse()?))
//!     .admin(Admin::at("127.0.0.1:9901".parse()?))
//!     .rule(
//!         Rule::new("orders")
//!             .backend(version("stable", "10.0.0.1:9001")?, 98)
//!             .backend(version("canary", "10.0.0.3:9001")?, 2)
//!             .split_by(Key::Principal)
//!             .timeout(Duration::from_secs(5))
//!             .authorize(Authorize::new().all_scopes(["orders.read"]))
//!             .authenticate(Providers::new().with(keys)),
//!     )
//!     .build()?;
//! assert!(!snapshot.rules()[0].public);
//! # Ok(())
//! # }
//! ```
//!
//! # Answers
//!
//! Those of the layers, and
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | a rule has no upstream, and none of its gates answers | no endpoint | 503 | UNAVAILABLE |
//! | something fails that no layer answers, a panic too | internal, or what it was | 500, 502, ... | INTERNAL, ... |
//!
//! # What is not HTTP
//!
//! A [`Listen`] takes HTTP unless told; [another](Listen::tcp) takes anything else, and [a third](Listen::detect) tells them apart. A
//! connection that carries something else goes this way:
//!
//! caps · PROXY protocol · TLS · the first bytes, where they tell · the listener's addresses · the [`TcpRoute`] for its listener and where it
//! was [meant to go](crate::identity::OriginalDestination) · the route's policies, by the peer's certificate and address · an upstream by
//! weight, and an endpoint of it · bytes both ways, until both sides have ended
//!
//! It is in flight at its endpoint, and waited for at the end. A [`Snapshot`] that replaces another lets it go on, and so does one whose
//! listener of that name has changed; when there is none any more it has 30 s. What would end a request's connection when its
//! client's certificate is no longer valid, or believed, ends it too. Who breaks off is passed on as such: the other side is reset, and
//! does not take a part for the whole.
//!
//! | when | the connection | in the metrics and the access log |
//! |---|---|---|
//! | no route takes it | reset | `no_route` |
//! | the listener does not take its address | reset | `address_denied` |
//! | the route's policies refuse it | reset | `forbidden`, and who decided |
//! | no connection to the upstream comes about | reset | `connect_failed`, `upstream_timeout`, `no_endpoint`, `circuit_open`, `overloaded` |
//!
//! # Position
//!
//! A gateway is the whole: it accepts connections at one end and makes them at the other.
//!
//! # Replacing what is in force
//!
//! [`Gateway::apply`] binds the addresses that are new, waits a moment for the addresses of new upstreams, and then
//! swaps one pointer. A request keeps what was in force when it began. A listener whose settings have changed is
//! replaced on the same socket, so no connection is refused; one that is gone accepts what waits for it, and drains. If
//! an address cannot be bound, nothing has changed.
//!
//! # Going down
//!
//! [`Gateway::run`] serves until SIGTERM. Then `/readyz` says 503 while everything is still served, for as long as load
//! balancers need to notice; then nothing new is accepted, clients are told (`GOAWAY`, `Connection: close`), and what is
//! in flight has its time to end. The admin address goes last. A second SIGTERM cuts.
//!
//! # Shared state
//!
//! Limits, key tables and connections belong to the parts that a snapshot is built of. Build the next one of the same
//! [`Limit`](crate::admission::rate_limit::Limit)s, and of upstreams that
//! [inherit](crate::upstream::UpstreamBuilder::inherit) from those of before, and nothing is forgotten.
//!
//! # Compared with tower
//!
//! A stack of tower's is built once. Here what stands between a listener and its upstreams is chosen for each request,
//! from a table that can be replaced; the policies of a rule run as a slice of gates in one service, so a request costs
//! one boxed future, whatever the number of layers.
//!
//! # Metrics
//!
//! Those of [`metrics`](crate::telemetry), for every listener; `config_generation` and `config_loads_total` count what
//! was taken into force.
mod api_keys;
mod assemble;
mod backend;
mod breakers;
mod builder;
mod canaries;
mod consumption;
mod direction;
mod edge;
mod endpoints;
mod entered;
mod fallbacks;
mod guarded;
#[cfg(feature = "tls")]
mod identities;
#[cfg(feature = "jwt")]
mod key_sets;
mod leave;
mod limits;
mod mirrors;
#[cfg(feature = "prometheus")]
mod numbers;
mod observer;
mod overload;
mod own;
mod parts;
mod readiness;
mod retries;
mod routes;
mod rule;
mod run;
mod served;
mod service;
mod snapshot;
mod sockets;
mod spoken;
mod status;
mod tcp;
#[cfg(feature = "jwt")]
mod tokens;
mod told;
mod usage;

pub(super) use backend::Attempted;
pub use backend::Backend;
pub use builder::{SnapshotBuilder, SnapshotError};
pub use canaries::Steer;
pub use direction::Direction;
pub use edge::Listen;
pub(super) use guarded::Guarded;
pub use readiness::NotReady;
pub use rule::Rule;
pub use run::Gateway;
pub use snapshot::{RuleFacts, Snapshot};
pub use sockets::BindError;
pub use tcp::{DestinationMatch, InvalidDestinationMatch, TcpRoute};
pub(super) use told::Told;
