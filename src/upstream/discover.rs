//! What a source tells becomes the set that is in force, and what goes on beside requests is told.

use std::{net::SocketAddr, sync::Arc};

use tokio::task::spawn_blocking;

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
    /// What a source has told, or why it cannot. Tables that take their time are made where no requests wait for it. Whoever
    /// gives this up loses nothing: a set on which work has begun is taken, unless a later one was.
    pub(super) async fn take(self: Arc<Self>, told: Result<Known, Arc<str>>) {
        let word = self.beside.next_word();
        if told.as_ref().is_ok_and(|known| !self.roster.is_quick(known.places.len())) {
            let group = Arc::clone(&self);
            self.make_ready(move || group.take_now(word, told)).await;
        } else {
            self.take_now(word, told);
        }
    }

    /// Does this where no requests wait. What cannot be made ready was told in vain.
    async fn make_ready(&self, work: impl FnOnce() + Send + 'static) {
        if spawn_blocking(work).await.is_err_and(|lost| lost.is_panic()) {
            self.take_now(self.beside.next_word(), Err("what was told could not be made ready".into()));
        }
    }

    fn take_now(&self, word: u64, told: Result<Known, Arc<str>>) {
        let Some(_turn) = self.beside.turn(word) else { return };
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

#[cfg(test)]
mod tests {
    use std::{
        thread::{self, ThreadId},
        time::Duration,
    };

    use super::*;
    use crate::{
        key::Key,
        upstream::{Balance, Endpoint, EndpointSet, Maglev, RingHash, StreamSource},
    };

    fn key() -> Key {
        Key::Header(http::HeaderName::from_static("x-user"))
    }

    fn endpoints(n: usize) -> Vec<Endpoint> {
        (0..n).map(|n| Endpoint::new(format!("10.{}.{}.1:80", n / 250, n % 250))).collect()
    }

    fn known(n: usize) -> Result<Known, Arc<str>> {
        let place = |endpoint: Endpoint| (endpoint.address.parse().unwrap(), Arc::new(endpoint));
        let places = endpoints(n).into_iter().map(place).collect();
        Ok(Known { places, none: false, taken: Taken { stale: None, partly: false } })
    }

    /// An upstream that is told these sets, once it has taken them, and who has made the plan for the last.
    async fn told(balance: Balance, sets: Vec<Vec<Endpoint>>) -> (Upstream, Option<ThreadId>) {
        let words = sets.len() as u64;
        let sets = tokio_stream::iter(sets.into_iter().map(|set| Ok(EndpointSet::new(set))));
        // It does not end, so that there are no other words.
        let source = StreamSource::new(tokio_stream::StreamExt::chain(sets, tokio_stream::pending()));
        let upstream = Upstream::builder("told").source(source).balance(balance).build().unwrap();
        upstream.warm().await.unwrap();
        let all = async {
            while upstream.discovery().is_some_and(|status| status.updates + status.failures < words) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        let made_by = upstream.group().roster.plan().made_by;
        (upstream, made_by)
    }

    /// The only worker serves requests meanwhile.
    #[tokio::test]
    async fn tables_are_made_where_no_requests_wait() {
        let here = Some(thread::current().id());
        for (balance, many, is_here) in [
            (Balance::Maglev(Maglev::new(key())), 3, false),
            (Balance::RingHash(RingHash::new(key())), 3, false),
            (Balance::RoundRobin, 1_001, false),
            (Balance::PeakEwma, 1_000, true),
            (Balance::RoundRobin, 3, true),
        ] {
            let (upstream, made_by) = told(balance.clone(), vec![endpoints(many)]).await;
            assert_eq!((upstream.endpoints().len(), made_by == here), (many, is_here), "{balance:?}");
        }
    }

    /// However long the tables of the others take.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_set_that_was_told_is_in_force() {
        let mut sets: Vec<_> = (1..20).map(|n| endpoints(n * 37 % 20 + 1)).collect();
        sets.push(endpoints(7));
        let (upstream, _) = told(Balance::Maglev(Maglev::new(key())), sets).await;
        assert_eq!((upstream.endpoints().len(), upstream.discovery().unwrap().updates), (7, 20));
    }

    /// Work that was begun on a word ends after its follower is gone; then a later one may have been taken.
    #[tokio::test]
    async fn a_word_that_comes_late_changes_nothing() {
        let (upstream, _) = told(Balance::Maglev(Maglev::new(key())), vec![endpoints(2)]).await;
        let group = upstream.group();
        let (earlier, later) = (group.beside.next_word(), group.beside.next_word());
        group.take_now(later, known(5));
        group.take_now(earlier, known(3));
        assert_eq!((upstream.endpoints().len(), upstream.discovery().unwrap().updates), (5, 2));
        // Given up before it has ended, it is taken all the same.
        let _ = tokio_test::task::spawn(Arc::clone(group).take(known(4))).poll();
        while upstream.endpoints().len() != 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_set_that_cannot_be_made_ready_ends_nothing() {
        let (upstream, _) = told(Balance::Maglev(Maglev::new(key())), vec![endpoints(3)]).await;
        let seen = || {
            let status = upstream.discovery().unwrap();
            (upstream.endpoints().len(), status.updates, status.failures)
        };
        let group = upstream.group();
        let (faulty, word) = (Arc::clone(group), group.beside.next_word());
        let making = move || {
            let _turn = faulty.beside.turn(word);
            faulty.roster.fail();
        };
        group.make_ready(making).await;
        assert_eq!(seen(), (3, 1, 1));
        Arc::clone(group).take(known(4)).await;
        assert_eq!(seen(), (4, 2, 1));
    }

    /// A request that finds nobody in a plan of before waits for the next, and does not make it.
    #[tokio::test]
    async fn a_request_makes_no_tables() {
        use crate::upstream::availability::Withheld;

        let here = Some(thread::current().id());
        for (balance, is_here) in [(Balance::Maglev(Maglev::new(key())), false), (Balance::RoundRobin, true)]
        {
            let upstream =
                Upstream::builder("fixed").endpoints(endpoints(3)).balance(balance).build().unwrap();
            let roster = &upstream.group().roster;
            let before = arc_swap::Guard::into_inner(roster.plan());
            assert!(roster.renewed(&before).await.is_none(), "nothing has changed");
            before.seats[0].member.withhold(Withheld::Ejected, true);
            let asks = (0..20).map(|_| roster.renewed(&before));
            let plans = futures_util::future::join_all(asks).await;
            let first = plans[0].as_ref().unwrap();
            assert_eq!(first.made_by == here, is_here);
            let same = |plan: &Option<_>| plan.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, first));
            assert!(plans.iter().all(same), "one is made for all");
        }
    }
}
