//! What a source tells becomes the set that is in force, and what goes on beside requests is told.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Upstream,
    availability::Withheld,
    endpoint::Endpoint,
    group::{Group, Targets},
    outlier::Ejections,
    resolve::Target,
    source::{Discovery, EndpointSet},
};

/// The most endpoints that a source may tell.
const MOST: usize = 10_000;

impl Upstream {
    /// How it knows its endpoints; `None`: they were given when it was built.
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
    /// A source has told a set, or why it cannot.
    pub(super) async fn take(&self, told: Result<EndpointSet, Arc<str>>) {
        let taken = match told {
            Ok(set) => self.replace(&set).await.map(|()| set.stale),
            Err(why) => Err(why),
        };
        match taken {
            Ok(stale) => self.beside.heard.taken(stale),
            Err(why) => {
                tracing::warn!(upstream = &*self.name, %why, "the endpoints stay as they were");
                self.beside.heard.failed(why);
            }
        }
        self.beside.changed();
    }

    async fn replace(&self, set: &EndpointSet) -> Result<(), Arc<str>> {
        let targets = targets(set)?;
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let found = self.look_up(&targets).await;
        if !set.none && found.iter().all(Vec::is_empty) {
            return Err("no address of these endpoints is known, or may be used".into());
        }
        self.put(targets, found, set.none);
        Ok(())
    }
}

fn targets(set: &EndpointSet) -> Result<Targets, Arc<str>> {
    if set.endpoints.len() > MOST {
        return Err(format!("more than {MOST} endpoints").into());
    }
    let target = |endpoint: &Endpoint| {
        let target: Target = endpoint.address.parse().map_err(|error| format!("{error}"))?;
        Ok((target, Arc::new(endpoint.clone())))
    };
    set.endpoints.iter().map(target).collect::<Result<_, String>>().map_err(Into::into)
}
