//! Sessions across the versions of a rule.
use std::sync::Arc;

use crate::{
    attempt::{Pinned, Variant},
    gate::Gate,
    head::Head,
    reject::Answer,
    upstream::{Session, Upstream},
};

/// Sends a request to the version where the endpoint of its session is.
#[derive(Debug)]
pub(super) struct Pin {
    session: Session,
    versions: Arc<[(Variant, Upstream)]>,
}

impl Pin {
    /// Nothing, if there is one version alone.
    pub(super) fn among<'u>(
        session: Option<&Session>,
        upstreams: impl Iterator<Item = &'u Upstream>,
    ) -> Option<Self> {
        let versions: Arc<[_]> =
            upstreams.map(|upstream| (Variant::new(upstream.variant()), upstream.clone())).collect();
        Some(Self { session: session.cloned().filter(|_| versions.len() > 1)?, versions })
    }
}

impl Gate for Pin {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let is_there = |(_, upstream): &&(Variant, Upstream)| self.session.is_at(upstream, head);
        if let Some((version, _)) = self.versions.iter().find(is_there) {
            let pinned = Pinned(version.clone());
            head.extensions_mut().insert(pinned);
        }
        Ok(())
    }
}
