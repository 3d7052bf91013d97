//! Asks another server whether a request may pass: forward authentication, external authorization.
//!
//! # Example
//!
//! ```
//! use http::{HeaderName, Request, Response};
//! use portcullis::admission::ext_authz::ExternalAuth;
//! use portcullis::{body::Body, fetch::Fetch};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any client is a tower service; `upstream::Client` is ours. This one plays the authorizer.
//! let authorizer = service_fn(|question: Request<Body>| async move {
//!     let path = question.headers()["x-forwarded-uri"].to_str().unwrap().to_owned();
//!     let answer = Response::builder().status(if path == "/open" { 200 } else { 403 }).header("x-user", "alice");
//!     Ok::<_, std::convert::Infallible>(answer.body(Body::from("not you")).unwrap())
//! });
//! let layer = ExternalAuth::new("iam", "http://iam.internal/check", Fetch::new(authorizer))?
//!     .upstream_headers([HeaderName::from_static("x-user")])?
//!     .layer();
//!
//! let app = layer.layer(service_fn(|request: Request<String>| async move {
//!     Ok::<_, std::convert::Infallible>(Response::new(format!("{:?}", request.headers()["x-user"])))
//! }));
//! let ask = |path: &str| Request::get(path).header("x-user", "root").body(String::new());
//! assert_eq!(app.clone().oneshot(ask("/open")?).await?.status(), 200);
//! assert_eq!(app.oneshot(ask("/closed")?).await?.status(), 403);
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! It is asked only about what some rules mean, gets up to 8 KiB of the body, and its answers count for 10 seconds.
//!
//! ```
//! use http::HeaderName;
//! use portcullis::admission::{authz::{Operation, Policy, Rule}, ext_authz::{AuthBody, ExternalAuth}};
//! use portcullis::{body::TapLayer, fetch::Fetch};
//! use std::time::Duration;
//!
//! # let client = tower::service_fn(|_: http::Request<portcullis::body::Body>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(portcullis::body::Body::empty()))
//! # });
//! let fetch = Fetch::new(client).timeout(Duration::from_millis(200)).max_body(16 * 1024);
//! let transfers = Rule::new().to(Operation::new().paths(["/transfers/{**}"])?);
//! let auth = ExternalAuth::new("risk", "https://risk.internal/decide", fetch)?
//!     .only([Policy::custom("transfers").rule(transfers)])?
//!     .request_headers([http::header::AUTHORIZATION, HeaderName::from_static("x-device")])?
//!     .body(AuthBody::Whole(8 * 1024))
//!     .cache(Duration::from_secs(10), 10_000);
//! let layers = (TapLayer::new(), auth.layer()); // the tap outside: it shows the body
//! # let _ = layers;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is sent
//!
//! `GET` to the authorizer's URL, or `POST` where the body goes along, with
//!
//! - `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` (path and query) and `-For` (the client's address), as Traefik's
//!   forward authentication has them;
//! - the request's headers that are [chosen](ExternalAuth::request_headers), all their lines: `Authorization` and
//!   `Cookie` unless told;
//! - with a body, its `Content-Type`, and `X-Forwarded-Body: partial` if it is not all of it.
//!
//! Nothing else: no other header of the caller reaches the authorizer.
//!
//! # What its answer means
//!
//! | answer | |
//! |---|---|
//! | 2xx | the request passes, with the [chosen headers](ExternalAuth::upstream_headers) of the answer; others of these names are removed from every request |
//! | 3xx, 4xx | it is refused: status, body and [some headers](ExternalAuth::refusal_headers) go to the caller, so a redirect leads to the login; a gRPC caller gets its status |
//! | 1xx, 5xx, none in time, too large a one | it failed: 503 unless [told](ExternalAuth::on_failure), or, by [`danger_fail_open`](ExternalAuth::danger_fail_open), the request passes |
//!
//! Fields of the connection (`Connection`, `Transfer-Encoding`, `Content-Length`, ...) can neither be chosen nor come
//! through. An answer whose chosen headers have more than 16 KiB has failed. Redirects are not followed.
//!
//! Callers choose what it is asked about. So what it fails at counts for the breaker once for each address (see
//! [`trip`](crate::trip#who-is-to-blame)), unless there is no connection: who knows a request at which it fails keeps
//! nobody else from being asked about.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | it refuses with 401 | `InvalidCredentials` | its answer | UNAUTHENTICATED |
//! | it refuses otherwise | `Forbidden` | its answer | PERMISSION_DENIED |
//! | it failed | `AuthorizerUnavailable`, or as told | 503 + `Retry-After` | UNAVAILABLE |
//! | it wants the whole body, and that is larger | `BodyTooLarge` | 413 | RESOURCE_EXHAUSTED |
//! | the body does not come in time | `RequestTimeout` | 408 | DEADLINE_EXCEEDED |
//! | the body breaks off | `BadRequest` | 400 | INTERNAL |
//! | rules ask for the host or the path, and there is no single valid one | `BadRequest` | 400 | INTERNAL |
//!
//! # Position
//!
//! Inside of authentication, whose headers it can be sent, and outside of policies that deny and allow. Authentication
//! takes the credential that it looks at out of the request, unless it is told to forward it: an authorizer that is to see
//! the token needs that. Where it gets the body, a [`TapLayer`](crate::body::TapLayer) stands outside of it.
//!
//! In [shadow](crate::gate::Enforce) it is asked, and waited for, as in force, since what it would say is to be counted. So
//! a request takes as long as its answer: who tries a slow one gives its client a short timeout.
//!
//! # Shared state
//!
//! The cache, the breaker and the numbers, which clones share. Identical questions that are under way are asked once
//! where there is a cache. Its key is everything that was sent, byte by byte. What is remembered is a pass or a refusal,
//! never a failure, and nothing that came with `Set-Cookie` or `Cache-Control: no-store`, `no-cache` or `private`, nor for
//! longer than its `max-age` or `Expires` say.
//!
//! # Compared with tower
//!
//! tower-http's `AsyncRequireAuthorization` is a function of yours, with none of these bounds.
//!
//! # Metrics
//!
//! Where [policies](ExternalAuth::only) say about what it is asked, their [`Tally`](crate::admission::authz::Tally) counts
//! by rule what was asked and what came of it. The access log has that rule as `decision`, or else the authorizer's name, if
//! it refused, or if it let pass and no policy inside decided; [`told_in`](ExternalAuth::told_in) tells callers the same.
//!
//! [`ExternalAuthHandle`]; in a gateway `portcullis_external_authorization_total` with the labels `authorizer` and
//! `result`, and `portcullis_external_authorization_remembered_total`.

mod answer;
mod ask;
mod counts;
mod external;
mod gate;
mod question;
#[cfg(test)]
mod tests;

pub use counts::ExternalAuthHandle;
pub use external::{AuthBody, ExternalAuth, InvalidAuthorizer};
pub use gate::{AuthPass, AuthTold, AuthWait};
