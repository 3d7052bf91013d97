//! What a source tells becomes the set that is in force, and what goes on beside requests is told.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Upstream,
    availability::Withheld,
    group::Group,
    outlier::Ejections,
    source::{Discovery, Known, Taken},
};

impl Upstream {
    /// How it knows its endpoints; `None`: their addresses were given when it was built.
    #[must_use]
    pub fn discovery(&self) -> Option<Discovery> {
        let beside = &self.group().beside;
        beside.source.as_ref().map(|_| beside.heard.status())
    }

    /// How often endpoints were left out for what became of their requests; `None`: nobody judges them.
    #[must_use]
    pub fn ejections(&self) -> Option<Ejections> {
        self.group().beside.outliers.as_ref().map(|watch| watch.ejections())
    }

    /// How many good and how many bad answers endpoints gave when they were asked how they are; `None`: nobody asks.
    #[must_use]
    pub fn checks(&self) -> Option<(u64, u64)> {
        self.group().beside.checks.as_ref().map(|checks| checks.counts())
    }

    /// Ends the ejection of this endpoint, and forgets those before. `false`: it was not left out.
    pub fn readmit(&self, endpoint: SocketAddr) -> bool {
        let members = self.group().members();
        let Some(member) = members.iter().find(|member| member.address() == endpoint) else { return false };
        let was_out = member.record().readmit();
        member.withhold(Withheld::Ejected, false);
        was_out
    }
}

impl Group {
    /// What a source has told, or why it cannot.
    pub(super) fn take(&self, told: Result<Known, Arc<str>>) {
        let told = told.and_then(|known| self.replace(known));
        let why = told.as_ref().map_or_else(|why| Some(Arc::clone(why)), |taken| taken.stale.clone());
        if self.beside.heard.told(told) {
            let why = why.as_deref();
            tracing::warn!(
                upstream = &*self.name,
                why,
                "the endpoints may no longer be those that there are"
            );
        }
        self.beside.changed();
    }

    fn replace(&self, Known { mut places, none, taken }: Known) -> Result<Taken, Arc<str>> {
        places.retain(|(address, endpoint)| {
            let refused = self.options.refuses(*address);
            if refused {
                let (upstream, endpoint) = (&*self.name, &*endpoint.address);
                tracing::warn!(upstream, endpoint, %address, "this address must not be an upstream");
            }
            !refused
        });
        if places.is_empty() && !none {
            return Err("no address of these endpoints may be used".into());
        }
        self.put(&places);
        Ok(taken)
    }
}
