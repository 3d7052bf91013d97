use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    judge::{Cause, Results, outliers},
    policy::Policy,
};
use crate::{
    chance::Chance,
    time::after,
    upstream::{availability::Withheld, member::Member},
};

const CAUSES: usize = Cause::ALL.len();

/// Who looks at the endpoints of an upstream, beside its requests.
#[derive(Debug)]
pub(in crate::upstream) struct Watch {
    upstream: Arc<str>,
    policy: Policy,
    chance: Chance,
    bell: Notify,
    ejections: [AtomicU64; CAUSES],
    spared: [AtomicU64; CAUSES],
}

/// How often endpoints were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejections {
    made: [u64; CAUSES],
    spared: [u64; CAUSES],
}

impl Ejections {
    /// How often for this.
    #[must_use]
    pub const fn made(&self, cause: Cause) -> u64 {
        self.made[cause as usize]
    }

    /// How often an endpoint was to be left out for this, and was not: as many were out as may be, or it was the last, or
    /// it is done in shadow.
    #[must_use]
    pub const fn spared(&self, cause: Cause) -> u64 {
        self.spared[cause as usize]
    }
}

/// How many may still be left out.
struct Room {
    ejected: usize,
    taking: usize,
    most: usize,
}

impl Watch {
    pub(in crate::upstream) fn new(upstream: Arc<str>, policy: Policy, chance: Chance) -> Self {
        let (ejections, spared) = Default::default();
        Self { upstream, policy, chance, bell: Notify::new(), ejections, spared }
    }

    pub(in crate::upstream) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(in crate::upstream) fn ejections(&self) -> Ejections {
        let read =
            |counts: &[AtomicU64; CAUSES]| counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        Ejections { made: read(&self.ejections), spared: read(&self.spared) }
    }

    /// Somebody has failed too often in a row.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// From now on this one judges, or nobody does, and then nobody is left out.
    pub(in crate::upstream) fn adopt(watch: Option<&Arc<Self>>, member: &Member) {
        member.record().watched_by(watch);
        if watch.is_none() && member.record().readmit() {
            member.withhold(Withheld::Ejected, false);
        }
    }

    /// Looks at the endpoints again and again, until there are none any more. Those at which somebody else looks who came
    /// later are theirs.
    pub(in crate::upstream) async fn run(self: Arc<Self>, members: impl Fn() -> Option<Vec<Arc<Member>>>) {
        let interval = self.policy.interval.max(Duration::from_millis(1));
        let mut next = after(Instant::now(), interval);
        loop {
            let _ = timeout_at(next, self.bell.notified()).await;
            let Some(mut members) = members() else { return };
            members.retain(|member| member.record().is_watched_by(&self));
            let now = Instant::now();
            if now < next {
                self.look_at_rows(&members, now);
            } else {
                self.sweep(&members, now);
                next = after(now, interval);
            }
        }
    }

    /// Those who failed too often in a row.
    pub(super) fn look_at_rows(&self, members: &[Arc<Member>], now: Instant) {
        let mut room = self.room(members);
        for member in members.iter().filter(|member| !member.record().is_ejected()) {
            if let Some(cause) = member.record().too_many(&self.policy) {
                self.eject(member, cause, &mut room, now);
            }
        }
    }

    /// The look of each interval: who may come back, and whose results are worse than those of the others.
    pub(super) fn sweep(&self, members: &[Arc<Member>], now: Instant) {
        let mut judged: Vec<(&Arc<Member>, Results)> = Vec::with_capacity(members.len());
        for member in members {
            let record = member.record();
            if record.is_over(now) {
                self.readmitted(member);
            }
            let results = record.take_results();
            if !record.is_ejected() {
                judged.push((member, results));
            }
        }
        self.look_at_rows(members, now);
        let mut room = self.room(members);
        let results: Vec<_> = judged.iter().map(|(_, results)| *results).collect();
        for (place, cause) in outliers(&self.policy, &results) {
            let (member, _) = judged[place];
            if !member.record().is_ejected() {
                self.eject(member, cause, &mut room, now);
            }
        }
    }

    fn room(&self, members: &[Arc<Member>]) -> Room {
        Room {
            ejected: members.iter().filter(|member| member.record().is_ejected()).count(),
            taking: members.iter().filter(|member| member.availability().takes()).count(),
            most: self.policy.most(members.len()),
        }
    }

    fn eject(&self, member: &Member, cause: Cause, room: &mut Room, now: Instant) {
        let (upstream, endpoint, why) = (&*self.upstream, member.address(), cause.label());
        // Who takes no requests anyway leaves as many as before.
        let left = room.taking.saturating_sub(usize::from(member.availability().takes()));
        if self.policy.shadow || room.ejected >= room.most || left == 0 {
            self.spared[cause as usize].fetch_add(1, Ordering::Relaxed);
            tracing::warn!(upstream, %endpoint, cause = why, shadow = self.policy.shadow, "an endpoint fails, and is not left out");
            return;
        }
        (room.ejected, room.taking) = (room.ejected + 1, left);
        self.ejections[cause as usize].fetch_add(1, Ordering::Relaxed);
        let times = member.record().eject(cause, now, |times| self.policy.time(times, &self.chance));
        member.withhold(Withheld::Ejected, true);
        tracing::warn!(upstream, %endpoint, cause = why, times, "an endpoint fails, and is left out");
    }

    fn readmitted(&self, member: &Member) {
        member.withhold(Withheld::Ejected, false);
        tracing::info!(upstream = &*self.upstream, endpoint = %member.address(), "an endpoint that was left out is back");
    }
}
