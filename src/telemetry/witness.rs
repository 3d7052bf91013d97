//! Tells the watchers outside what has been found out so far.

use super::findings::Route;
use crate::{
    attempt::Variant,
    gate::{Gate, GateLayer},
    head::Head,
    identity::Principal,
    reject::Answer,
    trail::Trail,
};

/// A gate that copies the route, the variant and the principal from the request's extensions to its
/// [`Trail`], where the access log and the metrics outside read them.
///
/// It stands inside of routing, and again inside of authentication and outside of authorization, so that a
/// refusal shows whom it struck. On a request that nobody watches it does nothing.
///
/// ```
/// use portcullis::telemetry::Witness;
///
/// let layer = Witness.layer();
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Witness;

impl Witness {
    /// The layer of this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for Witness {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let told = head.extensions();
        let Some(trail) = told.get::<Trail>() else { return Ok(()) };
        if let (None, Some(route)) = (trail.route(), Route::of(told)) {
            trail.set_route(route.into_name());
        }
        if let (None, Some(variant)) = (trail.variant(), told.get::<Variant>()) {
            trail.set_variant(variant.clone());
        }
        if let (None, Some(principal)) = (trail.principal(), told.get::<Principal>()) {
            trail.set_principal(principal.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RouteName;
    use http::Request;

    #[test]
    fn what_is_known_by_then_is_told() {
        let mut request = Request::new(());
        let trail = Trail::join(&mut Head::of(&mut request));
        Witness.check(&mut Head::of(&mut request)).unwrap();
        assert!(trail.route().is_none() && trail.variant().is_none() && trail.principal().is_none());

        request.extensions_mut().insert(RouteName("orders".into()));
        Witness.check(&mut Head::of(&mut request)).unwrap();
        request.extensions_mut().insert(Principal::new("customers", "", "ada"));
        request.extensions_mut().insert(Variant::new("canary"));
        Witness.check(&mut Head::of(&mut request)).unwrap();
        assert_eq!(trail.route().map(|route| &*route.0), Some("orders"));
        assert_eq!(trail.principal().map(Principal::subject), Some("ada"));
        assert_eq!(trail.variant().map(Variant::as_str), Some("canary"));
    }

    #[test]
    fn on_a_request_that_nobody_watches_it_does_nothing() {
        let mut request = Request::new(());
        request.extensions_mut().insert(RouteName("orders".into()));
        Witness.check(&mut Head::of(&mut request)).unwrap();
        assert!(request.extensions().get::<Trail>().is_none());
    }
}
