//! Tower layers with which a team builds its own API gateway (north-south) or service mesh (east-west) inside any
//! hyper, axum or tonic application.
//!
//! Every policy is an ordinary [`tower::Layer`], usable alone, and speaks HTTP and gRPC. The same policies are data: one
//! file, validated and reloaded without a lost request.
//!
//! # The way of a request
//!
//! | room | question | feature |
//! |---|---|---|
//! | `transport` | over what? listener, PROXY protocol, server, connection, drain | `transport` |
//! | `telemetry` | what happened? request id, span, access log, metrics, usage | `telemetry`, `prometheus` |
//! | `authn` | who is calling? tokens, introspection, API keys, certificates, providers; tokens for our own calls | `authn`, `jwt` |
//! | `admission` | may it enter? addresses, rate limit, quotas, requests in flight, overload, policies, authorizers | `admission` |
//! | `routing` | where to? router, filters, mirror, split, canary | `routing` |
//! | `resilience` | what if it fails? timeout, deadline, retry and hedge with their budget, circuit breaker, fallback, faults | `resilience` |
//! | `upstream` | which endpoint? endpoints, balance, pool, proxy | `upstream` |
//! | `stack` | the layers in their proven order | `stack` |
//! | `config` | the stack as data | `config` |
//!
//! The rooms talk through a vocabulary that is always compiled but for
//! `cache`, `redis` and `tls`, which come with their features: [`head`], [`gate`], [`reject`], [`outcome`], [`body`],
//! [`upload`], [`tunnel`], [`identity`], [`context`], [`key`], [`matching`], [`trail`], [`attempt`] and [`fetch`], and the small [`time`],
//! [`backoff`], [`window`], [`trip`], [`flight`], `cache`, [`ratio`] and [`chance`].
//!
//! # A layer alone
//!
//! ```
//! # #[cfg(feature = "admission")] {
//! use axum::{Router, routing::get};
//! use portcullis::admission::rate_limit::{Limit, RateLimit};
//!
//! let limit = Limit::builder("per-address", "10/s".parse()?).build()?;
//! let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(RateLimit::new(limit).layer());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A gateway
//!
//! ```
//! # #[cfg(feature = "stack")] {
//! use portcullis::{
//!     admission::rate_limit::Limit,
//!     matching::RequestMatch,
//!     stack::gateway::{Gateway, Listen, Rule, Snapshot},
//!     upstream::{Proxy, Upstream},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let orders = Upstream::builder("orders").endpoints(["127.0.0.1:9001", "127.0.0.1:9002"]).build()?;
//! let snapshot = Snapshot::builder()
//!     .listen(Listen::on("public", "127.0.0.1:0".parse()?))
//!     .rule(
//!         Rule::new("orders")
//!             .when(RequestMatch::prefix("/api/orders")?)
//!             .limit(Limit::builder("per-address", "10/s".parse()?).build()?)
//!             .backend(Proxy::new(orders), 1),
//!     )
//!     .build()?;
//! let gateway = Gateway::start(snapshot).await?;
//! println!("listening on {}", gateway.address("public").unwrap());
//! # gateway.shutdown(std::time::Duration::ZERO, std::time::Duration::ZERO).await;
//! // gateway.run().await; // until SIGTERM
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | a room's name | that room; `default` is `admission`, `resilience`, `routing` and `telemetry` |
//! | `jwt` | JSON Web Tokens, verified by aws-lc |
//! | `prometheus` | metrics in Prometheus text |
//! | `dns` | name servers are asked for endpoints: SRV, A and AAAA, each for as long as it is good |
//! | `redis` | stores on Redis or Valkey |
//! | `tls` | TLS towards servers, by rustls and aws-lc |
//! | `ring` | ring beside aws-lc, for connections that are told so |
//! | `spiffe` | identities from an agent of SPIFFE |
//! | `axum`, `tonic` | extractors, conversions, listeners for those frameworks |
//! | `testing` | the contract kit, for layers of your own |
//! | `gateway`, `mesh`, `full` | what these need together |
//!
//! Enabling a feature never changes what another does.
//!
//! [`tower::Layer`]: tower_layer::Layer
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

/// The code of the README compiles.
#[cfg(all(doctest, feature = "stack"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The code of the guide runs; so do its commands, in `tests/it/keys.rs`.
#[cfg(all(doctest, feature = "config"))]
#[doc = include_str!("../docs/guides/api_keys.md")]
struct ApiKeysGuide;

/// The code of the guide runs.
#[cfg(all(doctest, feature = "config"))]
#[doc = include_str!("../docs/guides/metering_for_billing.md")]
struct MeteringForBilling;

/// The code of the guide runs.
#[cfg(all(doctest, feature = "config"))]
#[doc = include_str!("../docs/guides/authorization.md")]
struct Authorization;

/// The code of the guide runs, and its file is checked in `tests/it/gateway/overload.rs`.
#[cfg(all(doctest, feature = "admission", feature = "axum"))]
#[doc = include_str!("../docs/guides/survive_overload.md")]
struct SurviveOverload;

/// The code of the guide runs.
#[cfg(all(doctest, feature = "jwt", feature = "tls", feature = "transport"))]
#[doc = include_str!("../docs/guides/certificate_bound_tokens.md")]
struct CertificateBoundTokens;

/// The code of the guide runs; its file is tried in `tests/it/gateway/certificates.rs`.
#[cfg(all(doctest, feature = "admission", feature = "axum", feature = "tls", feature = "transport"))]
#[doc = include_str!("../docs/guides/certificates_behind_a_proxy.md")]
struct CertificatesBehindAProxy;

/// The code of the guide runs.
#[cfg(all(doctest, feature = "axum", feature = "jwt"))]
#[doc = include_str!("../docs/guides/call_other_services.md")]
struct CallOtherServices;

/// The code of the guide runs; its file is tried in `tests/it/gateway/limits.rs`.
#[cfg(all(doctest, feature = "admission"))]
#[doc = include_str!("../docs/guides/choose_an_algorithm.md")]
struct ChooseAnAlgorithm;

/// The code of the guide runs; its file is tried in `tests/it/gateway/limits.rs`.
#[cfg(all(doctest, feature = "admission"))]
#[doc = include_str!("../docs/guides/limits_by_plan.md")]
struct LimitsByPlan;

/// The code of the guide runs; its file is tried in `tests/it/distributed/`.
#[cfg(all(doctest, feature = "admission", feature = "redis"))]
#[doc = include_str!("../docs/guides/distributed_limits.md")]
struct DistributedLimits;

/// The code of the guide runs; its file is tried in `tests/it/gateway/retries.rs`.
#[cfg(all(doctest, feature = "resilience"))]
#[doc = include_str!("../docs/guides/retries_that_do_no_harm.md")]
struct RetriesThatDoNoHarm;

/// The code of the guide runs; its file is tried in `tests/it/gateway/breakers.rs`.
#[cfg(all(doctest, feature = "resilience"))]
#[doc = include_str!("../docs/guides/circuit_breakers.md")]
struct CircuitBreakers;

/// The code of the guide runs; its file is tried in `tests/it/gateway/balance.rs`.
#[cfg(all(doctest, feature = "upstream"))]
#[doc = include_str!("../docs/guides/choose_a_balancer.md")]
struct ChooseABalancer;

/// The code of the guide runs; its file is tried in `tests/it/gateway/hedging.rs`.
#[cfg(all(doctest, feature = "resilience"))]
#[doc = include_str!("../docs/guides/hedge_what_is_late.md")]
struct HedgeWhatIsLate;

/// The code of the guide runs; its file is tried in `tests/it/gateway/faults.rs`.
#[cfg(all(doctest, feature = "resilience"))]
#[doc = include_str!("../docs/guides/inject_faults.md")]
struct InjectFaults;

/// The code of the guide runs; its file is tried in `tests/it/gateway/deadlines.rs`.
#[cfg(all(doctest, feature = "mesh"))]
#[doc = include_str!("../docs/guides/deadlines_end_to_end.md")]
struct DeadlinesEndToEnd;

/// The code of the guide runs; its file is tried in `tests/it/gateway/endpoints.rs`.
#[cfg(all(doctest, feature = "upstream"))]
#[doc = include_str!("../docs/guides/find_and_watch_endpoints.md")]
struct FindAndWatchEndpoints;

/// The code of the guide runs; its files are tried in `tests/it/gateway/canaries.rs`.
#[cfg(all(doctest, feature = "routing"))]
#[doc = include_str!("../docs/guides/canary_that_rolls_itself_back.md")]
struct CanaryThatRollsItselfBack;

/// The code of the guide runs; its file is tried in `tests/it/gateway/mirrors.rs`.
#[cfg(all(doctest, feature = "routing"))]
#[doc = include_str!("../docs/guides/shadow_a_rewrite.md")]
struct ShadowARewrite;

/// The code of the guide runs.
#[cfg(all(doctest, feature = "mesh", feature = "config"))]
#[doc = include_str!("../docs/guides/replace_your_channel.md")]
struct ReplaceYourChannel;

/// The code of the guide runs.
#[cfg(all(doctest, feature = "axum", feature = "mesh", feature = "tonic"))]
#[doc = include_str!("../docs/guides/mtls_between_services.md")]
struct MtlsBetweenServices;

/// The code of the guide runs; what an agent does is tried in `tests/it/transport/spiffe.rs`.
#[cfg(all(doctest, feature = "spiffe"))]
#[doc = include_str!("../docs/guides/spiffe_and_spire.md")]
struct SpiffeAndSpire;

/// The code of the guide runs; its file is checked in `tests/it/examples.rs`.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../docs/guides/cert_manager_on_kubernetes.md")]
struct CertManagerOnKubernetes;

pub mod attempt;
pub mod backoff;
pub mod body;
#[cfg(any(feature = "admission", feature = "authn", feature = "resilience", feature = "tls"))]
pub mod cache;
pub mod chance;
pub mod context;
mod cookie;
#[cfg(feature = "axum")]
mod extract;
pub mod fetch;
#[cfg(any(feature = "admission", feature = "config", feature = "telemetry", feature = "tls"))]
mod file;
pub mod flight;
#[cfg(any(feature = "admission", feature = "jwt", feature = "resilience"))]
mod freshness;
pub mod gate;
pub mod head;
mod hex;
pub mod identity;
#[cfg(any(feature = "upstream", feature = "transport"))]
mod io;
#[cfg(any(feature = "resilience", feature = "upstream"))]
mod kept;
pub mod key;
#[cfg(any(feature = "stack", all(feature = "tls", any(feature = "transport", feature = "upstream"))))]
mod lines;
#[cfg(any(feature = "stack", feature = "upstream"))]
mod listening;
pub mod matching;
pub mod outcome;
#[cfg(any(feature = "spiffe", feature = "upstream"))]
mod protobuf;
#[cfg(any(feature = "transport", feature = "upstream"))]
mod race;
pub mod ratio;
#[cfg(any(feature = "resilience", feature = "routing", feature = "transport"))]
mod ready;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub mod redis;
pub mod reject;
#[cfg(any(feature = "authn", feature = "redis"))]
mod secret;
#[cfg(any(feature = "admission", feature = "resilience", feature = "telemetry"))]
mod sharded;
#[cfg(any(feature = "admission", feature = "telemetry", feature = "upstream"))]
mod task;
pub mod time;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod tls;
pub mod trail;
pub mod trip;
pub mod tunnel;
pub mod upload;
pub mod window;

#[cfg(feature = "admission")]
pub mod admission;
#[cfg(feature = "authn")]
pub mod authn;
#[cfg(feature = "resilience")]
pub mod resilience;
#[cfg(feature = "routing")]
pub mod routing;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "transport")]
pub mod transport;
#[cfg(feature = "upstream")]
pub mod upstream;

#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "stack")]
pub mod stack;
#[cfg(feature = "testing")]
pub mod testing;
