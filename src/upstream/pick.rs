use std::{fmt, net::SocketAddr};

use super::{Upstream, balance::Ask, load::Load};
use crate::{context::Deadline, head::Head, reject::Reason};

/// An endpoint that was [picked](Upstream::pick). A request is in flight there until this is dropped, or told how it ended.
pub struct Picked(Load);

impl Picked {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.member().address()
    }

    /// The request was answered, and its answer has ended. Who picks by latency or looks for outliers learns of it; dropped
    /// without a word it counts as one that nobody waited for.
    pub fn succeeded(mut self) {
        let (head, ()) = http::Response::new(()).into_parts();
        self.0.head(&head, true);
        self.0.complete();
    }

    /// The request was not answered, or with a failure that is the endpoint's.
    pub fn failed(mut self) {
        self.0.fail(&Reason::UpstreamReset.into());
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(&self.address()).finish()
    }
}

impl Upstream {
    /// Picks the endpoint for a request that a client of your own sends, in whatever protocol, by the same rules. `None` if
    /// there is none, or the addresses of host names are not known yet ([`warm`](Self::warm) asks for them).
    ///
    /// ```
    /// use http::Request;
    /// use portcullis::{head::Head, upstream::{Balance, Upstream}};
    ///
    /// let stock = Upstream::builder("stock").endpoints(["192.0.2.1:6379", "192.0.2.2:6379"]);
    /// let stock = stock.balance(Balance::LeastRequest).build()?;
    /// let mut request = Request::new(());
    /// let one = stock.pick(&Head::of(&mut request)).unwrap();
    /// let other = stock.pick(&Head::of(&mut request)).unwrap();
    /// assert_ne!(one.address(), other.address());
    /// # Ok::<(), portcullis::upstream::BuildError>(())
    /// ```
    #[must_use]
    pub fn pick(&self, head: &Head<'_>) -> Option<Picked> {
        let (hash, subset) = (self.hash(head), self.marked(head));
        let now = self.now();
        let member = self.next(&*self.plan_now()?, &Ask { hash, subset, now, ..Ask::default() })?;
        let until = head.extensions().get::<Deadline>().copied();
        Some(Picked(self.begin(member, until, now)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        chance::Chance,
        upstream::{Availability, Balance, Withheld},
    };

    #[tokio::test(start_paused = true)]
    async fn what_became_of_it_is_learnt() {
        let policy = crate::trip::Policy::new().consecutive(std::num::NonZeroU32::MIN);
        let two = Upstream::builder("a").endpoints(["127.0.0.1:1", "127.0.0.1:2"]).balance(Balance::PeakEwma);
        let two = two.chance(Chance::seeded(1)).circuit_breaker(policy).build().unwrap();
        let pick = || two.pick(&Head::of(&mut http::Request::new(()))).unwrap();
        let first = pick();
        let bad = first.address();
        first.failed();
        for _ in 0..20 {
            let other = pick();
            assert_ne!(other.address(), bad);
            tokio::time::advance(std::time::Duration::from_millis(5)).await;
            other.succeeded();
        }
        let takes: Vec<_> = two.endpoints().iter().map(|endpoint| endpoint.availability.takes()).collect();
        assert_eq!(takes.iter().filter(|takes| **takes).count(), 1, "its breaker is open");
        assert!(two.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
        drop(pick());
        assert_eq!(
            two.endpoints()[0].availability == Availability::default(),
            takes[0],
            "a drop blames nobody"
        );
    }

    #[tokio::test]
    async fn who_is_well_since_just_now_is_found_at_once() {
        let two = Upstream::builder("a").endpoints(["127.0.0.1:1", "127.0.0.1:2"]);
        let two = two.panic_threshold(crate::ratio::Ratio::NEVER).build().unwrap();
        let pick = || two.pick(&Head::of(&mut http::Request::new(()))).map(|picked| picked.address());
        let member = |at: usize| Arc::clone(&two.group().roster.plan().seats[at].member);
        assert!(pick().is_some());
        for (ill, well) in [(0, 1), (1, 0), (0, 1)] {
            member(ill).withhold(Withheld::Unhealthy, true);
            member(well).withhold(Withheld::Unhealthy, false);
            // Whoever makes new plans beside requests has not been at it.
            assert_eq!(pick(), Some(member(well).address()));
            tokio::task::yield_now().await;
            assert_eq!(two.group().roster.plan().usable().count(), 1);
        }
        member(1).withhold(Withheld::Unhealthy, true);
        assert_eq!(pick(), None);
    }
}
