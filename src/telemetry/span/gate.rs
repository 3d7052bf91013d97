use crate::{
    context::RequestId,
    gate::{Gate, GateLayer, Pass},
    head::Head,
    reject::Answer,
    telemetry::findings::{Route, name_of},
};
use http::response;
use tracing::{Level, Span, field::Empty};

/// The gate that opens a span for each request; see the [module docs](super).
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSpan;

impl RequestSpan {
    /// The layer of this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for RequestSpan {
    type Pass = Option<Opened>;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        if !tracing::enabled!(target: "portcullis::request", Level::INFO) {
            return Ok(None);
        }
        let told = head.extensions();
        let route = Route::of(told);
        let span = tracing::info_span!(
            target: "portcullis::request",
            "request",
            request_id = told.get::<RequestId>().map(RequestId::as_str),
            method = name_of(head.method()),
            route = Empty,
        );
        tell(&span, route.as_ref());
        Ok(Some(Opened { span, has_route: route.is_some() }))
    }
}

fn tell(span: &Span, route: Option<&Route>) {
    if let Some(route) = route {
        span.record("route", route.as_str());
    }
}

/// The span of a request, open until the response's body has ended.
#[derive(Debug)]
pub struct Opened {
    span: Span,
    has_route: bool,
}

impl Pass for Opened {
    fn watches(&self) -> bool {
        !self.has_route
    }

    fn span(&self) -> Option<&Span> {
        Some(&self.span)
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        if !self.has_route {
            tell(&self.span, Route::of(&head.extensions).as_ref());
        }
    }
}
