//! What a watcher outside knows of a request: from its head, from its trail, and from the answer.

use crate::{
    attempt::Variant,
    head::Head,
    key::RouteName,
    trail::{Fault, Trail},
};
use http::{Extensions, Method, response};

/// The route's name, from our router or from axum's.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Named(RouteName),
    #[cfg(feature = "axum")]
    Matched(axum::extract::MatchedPath),
}

impl Route {
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        if let Some(name) = extensions.get::<RouteName>() {
            return Some(Self::Named(name.clone()));
        }
        #[cfg(feature = "axum")]
        if let Some(path) = extensions.get::<axum::extract::MatchedPath>() {
            return Some(Self::Matched(path.clone()));
        }
        None
    }

    pub(super) fn into_name(self) -> RouteName {
        match self {
            Self::Named(name) => name,
            #[cfg(feature = "axum")]
            Self::Matched(path) => RouteName(path.as_str().into()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Named(name) => &name.0,
            #[cfg(feature = "axum")]
            Self::Matched(path) => path.as_str(),
        }
    }
}

/// The method, as far as it is written: a stranger may send one of any length.
pub(super) fn name_of(method: &Method) -> &str {
    const LONGEST: usize = 32;
    let name = method.as_str();
    name.get(..LONGEST).unwrap_or(name)
}

/// Collected while a request is served, read when it has ended.
#[derive(Debug)]
pub(super) struct Findings {
    route: Option<Route>,
    trail: Option<Trail>,
    variant: Option<Variant>,
    fault: Option<Fault>,
}

impl Findings {
    /// Reads the head and joins the trail.
    pub(super) fn start(head: &mut Head<'_>) -> Self {
        let route = Route::of(head.extensions());
        Self { route, trail: Some(Trail::join(head)), variant: None, fault: None }
    }

    /// Like [`start`](Self::start), but starts no trail, which allocates, for a request whose route is known.
    #[cfg(feature = "prometheus")]
    pub(super) fn start_lean(head: &mut Head<'_>) -> Self {
        match Route::of(head.extensions()) {
            None => Self::start(head),
            route => {
                let trail = head.extensions().get::<Trail>().cloned();
                Self { route, trail, variant: None, fault: None }
            }
        }
    }

    /// Reads what rides on the response.
    pub(super) fn see(&mut self, head: &response::Parts) {
        let told = &head.extensions;
        if self.route.is_none() {
            self.route = Route::of(told);
        }
        self.variant = told.get::<Variant>().cloned();
        self.fault = told.get::<Fault>().copied();
    }

    pub(super) fn route(&self) -> Option<&str> {
        let told = || self.trail.as_ref()?.route().map(|name| &*name.0);
        self.route.as_ref().map(Route::as_str).or_else(told)
    }

    pub(super) fn variant(&self) -> Option<&str> {
        let told = || self.trail.as_ref()?.variant();
        self.variant.as_ref().or_else(told).map(Variant::as_str)
    }

    /// What was done to the request on purpose.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.or_else(|| self.trail.as_ref()?.fault())
    }

    pub(super) fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }
}
