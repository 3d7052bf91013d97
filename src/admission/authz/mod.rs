//! Who may do what: policies, and the scopes and roles of one route.
//!
//! A [`Policy`] denies or allows what its [rules](Rule) mean: who asks, for what, and when. Many of them are compiled
//! into one [`Authorization`]. [`Authorize`] is the short form for a route that asks for scopes and roles.
//!
//! # Example
//!
//! ```
//! use http::Request;
//! use portcullis::admission::authz::{Authorization, Operation, Policy, Rule, Source};
//! use portcullis::{gate::Gate, head::Head, identity::Principal};
//!
//! let outsiders = Source::new().not_networks(["10.0.0.0/8".parse()?]);
//! let admin = Operation::new().paths(["/admin/{**}"])?;
//! let readers = Source::new().scopes(["orders.read"])?;
//! let orders = Operation::new().methods([http::Method::GET]).paths(["/orders", "/orders/{id}"])?;
//!
//! let gate = Authorization::new([
//!     Policy::deny("no-outsiders").rule(Rule::new().from(outsiders).to(admin)),
//!     Policy::allow("readers").rule(Rule::new().from(readers).to(orders)),
//! ])?;
//!
//! let mut request = Request::get("/orders/7").body(())?;
//! assert!(gate.check(&mut Head::of(&mut request)).is_err()); // nobody was authenticated
//! request.extensions_mut().insert(Principal::new("customers", "", "alice").with_scopes(["orders.read"]));
//! assert!(gate.check(&mut Head::of(&mut request)).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! A new policy is tried beside those in force, a predicate is yours, and callers are told who decided.
//!
//! ```
//! use http::{HeaderName, Request};
//! use portcullis::admission::authz::{Authorization, Operation, Policy, Rule, Source};
//! use portcullis::{gate::Gate, head::Head};
//!
//! let exports = Operation::new().paths(["/export/{**}"])?;
//! let at_night = || false; // ask a clock of yours
//! let gate = Authorization::new([
//!     Policy::deny("exports").rule(Rule::new().name("by-day").to(exports.clone()).unless(move |_| at_night())),
//!     Policy::deny("no-exports-at-all").rule(Rule::new().to(exports)).shadow(),
//! ])?
//! .told_in(HeaderName::from_static("x-decision"));
//!
//! let mut request = Request::get("/export/all").header("host", "shop.example").body(())?;
//! let refusal = gate.check(&mut Head::of(&mut request)).unwrap_err();
//! let portcullis::reject::Answer::Refuse(refusal) = refusal else { unreachable!() };
//! assert_eq!(refusal.headers()["x-decision"], "deny exports/by-day");
//! for count in gate.tally().read() {
//!     println!("{} {}/{} {}", count.action, count.policy, count.rule, count.decisions);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is decided
//!
//! As Istio does. Policies that deny come before policies that allow, in whatever order they are given; external
//! authorizers, which [custom](Action::Custom) policies [ask](crate::admission::ext_authz), stand outside of both.
//!
//! 1. If a rule of a DENY policy matches, the request is refused.
//! 2. Else, if there is no ALLOW policy, it passes.
//! 3. Else, if a rule of an ALLOW policy matches, it passes.
//! 4. Else it is refused.
//!
//! Within a [rule](Rule) one source, one operation and every predicate must hold; within a source or operation all that
//! is said; within a list one value. A rule that says nothing matches every request, and a policy without rules none. Of
//! several rules that match the first is named.
//!
//! # What a request does not have
//!
//! A request without an attribute has none of the values: `scopes` does not match, and its twin `not_scopes` does. Where
//! something cannot be known, it counts against the caller, so a DENY rule takes it for a match and an ALLOW rule does
//! not:
//!
//! - what only requests have, on a [connection](Authorization::check_connection) that carries something else than HTTP;
//! - a header or a parameter of the query that comes several times, where one value fits and another does not.
//!
//! # Who comes with a certificate
//!
//! | Istio | here | of `spiffe://shop.example/ns/shop/sa/orders` |
//! |---|---|---|
//! | `principals` | [`peers`](Source::peers), with their scheme | all of it |
//! | `namespaces` | [`namespaces`](Source::namespaces) | `shop` |
//! | `serviceAccounts` | [`service_accounts`](Source::service_accounts) | `shop/orders` |
//! | – | [`trust_domains`](Source::trust_domains), [`peer_paths`](Source::peer_paths) | `shop.example`, `/ns/shop/sa/orders` |
//! | `requestPrincipals` | [`principals`](Source::principals) | – |
//!
//! # Paths
//!
//! Paths are compared in the [normal form](crate::matching::PathPolicy): `//admin`, `/x/../admin` and `/%61dmin` are
//! `/admin`. A path that servers read in several ways is refused with 400 before any rule is asked, unless
//! [`Authorization::paths`] allows it. Hosts are compared without their port and without regard to case.
//!
//! # What a decision costs
//!
//! It does not grow with rules that cannot match, as long as each asks for something that tells it from the others: a
//! text, its beginning (`team1.*`), its end, a path or a network. Asked each time are rules that only rule out (`not_scopes`),
//! ask for any value (`*`), for a principal of any provider, for a path that begins with a parameter, or ask a predicate of
//! yours. Each header, parameter and claim by which rules are told apart is looked up once for a request, whatever the
//! number of its values; so is each length of their beginnings and ends. To look up a claim is to read the token's claims up
//! to there.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | policies refuse | `Forbidden` | 403 | PERMISSION_DENIED |
//! | rules ask for the host or the path, and there is no single valid one | `BadRequest` | 400 | INTERNAL |
//! | [`Authorize`]: nobody was authenticated | `MissingCredentials` | 401 + `WWW-Authenticate` | UNAUTHENTICATED |
//! | [`Authorize`]: a scope is missing | `InsufficientScope` | 403 + `WWW-Authenticate` with `error="insufficient_scope"` and the scopes | PERMISSION_DENIED |
//! | [`Authorize`]: a role is missing | `Forbidden` | 403 | PERMISSION_DENIED |
//!
//! The anonymous principal counts as nobody. Which roles would be needed is told to no caller.
//!
//! # Position
//!
//! Inside of authentication, which puts the [`Principal`](crate::identity::Principal) into the request. Outside of
//! everything that a caller without permission must not reach or use up: limits by principal, caches, the upstream.
//!
//! # Shared state
//!
//! The [`Tally`] of an [`Authorization`], which its clones share; [`Authorize`] has none.
//!
//! # Compared with tower
//!
//! tower-http's `ValidateRequestHeader` and `AsyncRequireAuthorization` leave the decision to a function of yours.
//!
//! # Metrics
//!
//! [`Tally`] counts the decisions of each rule, those in shadow apart; in a gateway they are `authorization_decisions`
//! with the labels `policy`, `rule`, `action` and `shadow`. Of a custom rule `custom` counts what an authorizer was asked,
//! and `allow` and `deny` what came of it. The access log has the policy and the rule in force as `decision`: of those that
//! were asked, the one that decided in the end. What policies in shadow would change is an event with the target
//! `portcullis::shadow`.

mod attribute;
mod authorization;
mod condition;
mod facts;
mod guard;
mod index;
mod pattern;
mod policy;
mod rule;
mod scopes;
mod set;
mod tally;
#[cfg(test)]
mod tests;

pub use authorization::{Authorization, Decision, Told};
pub use facts::Facts;
pub use guard::{Guard, Matched};
pub use pattern::{InvalidValue, Pattern};
pub use policy::{Action, Policy};
pub use rule::{Operation, Rule, Source};
pub use scopes::Authorize;
pub use set::InvalidPolicies;
pub use tally::{Count, Tally};
