//! Carries the trace of a request along to the calls that are made for it
//! ([W3C Trace Context](https://www.w3.org/TR/trace-context/)).
//!
//! # Example
//!
//! ```
//! use portcullis::telemetry::trace::PropagateTrace;
//!
//! let layer = PropagateTrace::new().layer(); // around a client
//! # let _ = layer;
//! ```
//!
//! # Example, customised
//!
//! There is nothing to customise: whoever makes spans of its own sets `traceparent` itself, and that stands.
//!
//! ```
//! use http::{HeaderValue, Request};
//! use portcullis::{context::Context, gate::Gate, head::Head, telemetry::trace::PropagateTrace};
//!
//! let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! let mut call = Request::get("/stock").header("traceparent", own).body(())?;
//! PropagateTrace::new().check(&mut Head::of(&mut call)).unwrap();
//! assert_eq!(call.headers()["traceparent"], own);
//! # Ok::<(), http::Error>(())
//! ```
//!
//! # What is told
//!
//! What the request being handled was told: the ids and the flags of its `traceparent`, and its `tracestate` is not. Whoever
//! is called is a child of the same span, as with a proxy that makes none of its own.
//!
//! # Answers
//!
//! None: it lets everything pass.
//!
//! # Position
//!
//! Outermost in a client, beside the request id, so that all tries of one call are of the same trace.
//!
//! # Shared state
//!
//! None. The trace is that of the [`Context`] in which the call is made, which [`ContextLayer`](crate::context::ContextLayer)
//! tells.
//!
//! # Compared with tower
//!
//! tower-http has no counterpart.
//!
//! # Metrics
//!
//! None.

use http::HeaderName;

use crate::{
    context::{Context, TraceContext},
    gate::{Gate, GateLayer},
    head::Head,
    reject::Answer,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The gate of a client that carries the trace of the request being handled to the calls made for it. See the
/// [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct PropagateTrace;

impl PropagateTrace {
    /// Sets `traceparent` on calls that have none.
    pub const fn new() -> Self {
        Self
    }

    /// The layer of this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for PropagateTrace {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if head.headers().contains_key(TRACEPARENT) {
            return Ok(());
        }
        if let Some(value) = known(head).and_then(TraceContext::to_header) {
            head.headers_mut().insert(TRACEPARENT, value);
        }
        Ok(())
    }
}

/// The call's own word, else that of the request being handled.
fn known(head: &Head<'_>) -> Option<TraceContext> {
    let extensions = head.extensions();
    let own = extensions.get::<TraceContext>().copied();
    let told = || extensions.get::<Context>().and_then(Context::trace);
    own.or_else(told).or_else(|| Context::current()?.trace())
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::context::ContextLayer;

    const TOLD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// What a call is told that a handler makes which was asked with `told`.
    async fn passed_on(told: Option<&str>, own: Option<&str>) -> Option<String> {
        let own = own.map(str::to_owned);
        let handler = service_fn(move |_: Request<String>| {
            let own = own.clone();
            async move {
                let server = service_fn(async |call: Request<()>| {
                    let told =
                        call.headers().get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned());
                    Ok::<_, std::convert::Infallible>(Response::new(told.unwrap_or_default()))
                });
                let mut call = Request::get("/stock");
                if let Some(own) = own {
                    call = call.header(TRACEPARENT, own);
                }
                PropagateTrace::new().layer().layer(server).oneshot(call.body(()).unwrap()).await
            }
        });
        let mut request = Request::get("/");
        if let Some(told) = told {
            request = request.header(TRACEPARENT, told);
        }
        let answer = ContextLayer::new().layer(handler).oneshot(request.body(String::new()).unwrap()).await;
        let told = http_body_util::BodyExt::collect(answer.unwrap().into_body()).await.unwrap().to_bytes();
        Some(String::from_utf8(told.to_vec()).unwrap()).filter(|told| !told.is_empty())
    }

    #[tokio::test]
    async fn a_call_is_of_the_trace_of_what_it_is_made_for() {
        let other = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-00";
        assert_eq!(passed_on(Some(TOLD), None).await.as_deref(), Some(TOLD));
        assert_eq!(passed_on(Some(TOLD), Some(other)).await.as_deref(), Some(other), "its own word stands");
        assert_eq!(passed_on(None, None).await, None);
        assert_eq!(passed_on(Some("00-junk"), None).await, None);
    }
}
