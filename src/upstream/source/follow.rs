use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{EndpointSet, EndpointSource, Names, Sets, Taken, Targets};
use crate::{
    backoff::{Backoff, Jitter},
    chance::Chance,
    time::after,
    upstream::{Endpoint, group::Place, resolve::Target},
};

/// How long a source that has ended is left alone before it is followed again.
const AGAIN: Backoff =
    Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(30)).jitter(Jitter::Equal);
/// The most endpoints that a source may tell.
pub(super) const MOST: usize = 10_000;

/// Where the endpoints are, by all that is known now.
#[derive(Debug)]
pub(in crate::upstream) struct Known {
    pub(in crate::upstream) places: Vec<Place>,
    /// That there are none is certain.
    pub(in crate::upstream) none: bool,
    pub(in crate::upstream) taken: Taken,
}

/// A set, with its endpoints read.
struct Told {
    targets: Targets,
    stale: Option<Arc<str>>,
    none: bool,
}

/// The sets of a source, over its ends, with the addresses of the host names in them.
pub(in crate::upstream) struct Followed {
    source: Arc<dyn EndpointSource>,
    names: Names,
    chance: Chance,
    sets: Option<Sets>,
    /// How many times in a row it has ended without a set.
    ended: u32,
    /// When it is followed again.
    again: Instant,
    set: Option<Told>,
    /// Why its last word was none.
    failed: Option<Arc<str>>,
}

impl Followed {
    pub(in crate::upstream) fn new(source: Arc<dyn EndpointSource>, names: Names, chance: Chance) -> Self {
        Self { source, names, chance, sets: None, ended: 0, again: Instant::now(), set: None, failed: None }
    }

    /// What is known next: by another set, or by other addresses of the same. Or why nothing is known.
    pub(in crate::upstream) async fn next(&mut self) -> Result<Known, Arc<str>> {
        let told = match self.names.due() {
            Some(due) => timeout_at(due, self.told()).await.ok(),
            None => Some(self.told().await),
        };
        if let Some(told) = told {
            match told.and_then(usable) {
                Ok(set) => (self.set, self.failed) = (Some(set), None),
                Err(why) => {
                    self.failed = Some(Arc::clone(&why));
                    return Err(why);
                }
            }
        }
        let Some(Told { targets, stale, none }) = &self.set else { return Err("nothing is known".into()) };
        self.names.refresh(targets).await;
        let places = self.names.places(targets);
        let why = self.names.why(targets);
        if places.len() > MOST {
            return Err(format!("more than {MOST} endpoints").into());
        }
        if places.is_empty() && !none {
            return Err(why.unwrap_or_else(|| "the source knows no endpoints".into()));
        }
        // Names that are looked up anew make no word of the source's good.
        let stale = self.failed.clone().or_else(|| stale.clone());
        let taken = Taken { partly: why.is_some(), stale: stale.or(why) };
        Ok(Known { places, none: *none, taken })
    }

    /// What the source tells next. It can be dropped without a loss.
    async fn told(&mut self) -> Result<EndpointSet, Arc<str>> {
        if self.sets.is_none() {
            sleep_until(self.again).await;
        }
        let sets = self.sets.get_or_insert_with(|| self.source.follow());
        let Some(told) = sets.next().await else {
            self.sets = None;
            self.ended = self.ended.saturating_add(1);
            self.again = after(Instant::now(), AGAIN.delay(self.ended, &self.chance));
            return Err("the source has ended".into());
        };
        match told {
            Ok(set) => {
                self.ended = 0;
                Ok(set)
            }
            Err(error) => Err(words(&*error)),
        }
    }
}

/// A set without endpoints which does not say that it is certain changes nothing, and neither does one with what is no endpoint.
fn usable(set: EndpointSet) -> Result<Told, Arc<str>> {
    let EndpointSet { endpoints, stale, none } = set;
    if endpoints.is_empty() && !none {
        return Err("the source knows no endpoints".into());
    }
    if endpoints.len() > MOST {
        return Err(format!("more than {MOST} endpoints").into());
    }
    let target = |endpoint: &Endpoint| {
        let target: Target = endpoint.address.parse().map_err(|error| format!("{error}"))?;
        Ok((target, Arc::new(endpoint.clone())))
    };
    let targets = endpoints.iter().map(target).collect::<Result<_, String>>()?;
    Ok(Told { targets, stale, none })
}

/// An error with its sources.
fn words(error: &(dyn std::error::Error + 'static)) -> Arc<str> {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ").into()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::SocketAddr,
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::*;
    use crate::upstream::{
        Addresses,
        resolve::{Resolve, Resolving, SystemResolver},
        source::Fixed,
    };

    fn followed(source: impl EndpointSource) -> Followed {
        let names = Names::new(Arc::new(SystemResolver), Chance::seeded(1), []);
        Followed::new(Arc::new(source), names, Chance::seeded(1))
    }

    fn addresses(known: &Known) -> Vec<String> {
        known.places.iter().map(|(address, _)| address.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_followed_over_its_ends() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let source = move || {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            Sets::told(move |teller| async move {
                if nth != 1 {
                    teller.tell(Ok(EndpointSet::new([format!("192.0.2.{nth}:80")]))).await;
                    teller.tell(Err(io::Error::other("no answer").into())).await;
                    teller.tell(Ok(EndpointSet::new([""; 0]))).await;
                    teller.tell(Ok(EndpointSet::new(["192.0.2.1"]))).await;
                    teller.tell(Ok(EndpointSet::none())).await;
                }
            })
            .0
        };
        let mut followed = followed(source);
        for nth in [0, 2] {
            let one = followed.next().await.unwrap();
            assert_eq!(
                (addresses(&one), one.taken.stale, one.none),
                (vec![format!("192.0.2.{nth}:80")], None, false)
            );
            assert_eq!(&*followed.next().await.unwrap_err(), "no answer");
            assert_eq!(&*followed.next().await.unwrap_err(), "the source knows no endpoints");
            assert!(followed.next().await.unwrap_err().contains("\"192.0.2.1\" is not an endpoint"));
            let none = followed.next().await.unwrap();
            assert_eq!((addresses(&none).len(), none.taken.stale, none.none), (0, None, true));
            assert_eq!(&*followed.next().await.unwrap_err(), "the source has ended");
            if nth == 0 {
                assert_eq!(&*followed.next().await.unwrap_err(), "the source has ended");
            }
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_followed_once() {
        let one = EndpointSet::new(["192.0.2.1:80"]);
        let source = super::super::StreamSource::new(tokio_stream::iter([Ok(one)]));
        let mut followed = followed(source);
        assert_eq!(addresses(&followed.next().await.unwrap()), ["192.0.2.1:80"]);
        for _ in 0..5 {
            assert!(followed.next().await.is_err());
        }
    }

    /// What is said of names, and when each was asked for. `None`: nothing, ever.
    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<BookParts>>);

    #[derive(Default)]
    struct BookParts {
        says: std::collections::HashMap<String, Option<Result<Addresses, &'static str>>>,
        asked: Vec<(String, Instant)>,
    }

    impl Book {
        fn say(&self, host: &str, answer: impl Into<Option<Result<Addresses, &'static str>>>) {
            self.0.lock().unwrap().says.insert(host.to_owned(), answer.into());
        }

        /// After how many seconds it was asked for each.
        fn asked(&self, host: &str, since: Instant) -> Vec<u64> {
            let parts = self.0.lock().unwrap();
            let of = parts.asked.iter().filter(|(name, _)| name == host);
            of.map(|(_, at)| at.duration_since(since).as_secs()).collect()
        }
    }

    impl Resolve for Book {
        fn resolve(&self, host: &str, _: u16) -> Resolving {
            let mut parts = self.0.lock().unwrap();
            parts.asked.push((host.to_owned(), Instant::now()));
            let answer = parts.says.get(host).cloned().flatten();
            Box::pin(async move {
                match answer {
                    Some(told) => told.map_err(io::Error::other),
                    None => std::future::pending().await,
                }
            })
        }
    }

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    fn good_for(seconds: u64, all: &[u8]) -> Result<Addresses, &'static str> {
        Ok(Addresses::new(all.iter().map(|last| at(*last))).good_for(Duration::from_secs(seconds)))
    }

    fn named(book: &Book, names: &[&str], before: impl IntoIterator<Item = Place>) -> Followed {
        let chance = Chance::seeded(1);
        let names_known = Names::new(Arc::new(book.clone()), chance.clone(), before);
        Followed::new(Arc::new(Fixed(EndpointSet::new(names.iter().copied()))), names_known, chance)
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_asked_for_when_their_addresses_are_good_no_longer() {
        let (book, begun) = (Book::default(), Instant::now());
        book.say("a", good_for(100, &[2, 1]));
        book.say("b", good_for(0, &[3]));
        book.say("c", Ok(Addresses::new([at(4)])));
        let mut followed = named(&book, &["a:80", "b:80", "c:80", "192.0.2.9:80"], []);
        let known = followed.next().await.unwrap();
        let all = ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80", "192.0.2.9:80"];
        assert_eq!((addresses(&known), &known.taken.stale), (all.map(str::to_owned).to_vec(), &None));
        while begun.elapsed() < Duration::from_secs(260) {
            assert_eq!(followed.next().await.unwrap().places, known.places);
        }
        let [a, b, c] = ["a", "b", "c"].map(|host| book.asked(host, begun));
        // Each up to a tenth sooner: 100, 1 and 30 seconds.
        assert!(a.len() == 3 && (90..=100).contains(&a[1]) && (180..=200).contains(&a[2]), "{a:?}");
        assert!((255..=300).contains(&b.len()), "{}", b.len());
        assert!((9..=10).contains(&c.len()), "{c:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_changes_what_is_known_of_a_name() {
        let (book, begun) = (Book::default(), Instant::now());
        let silent = "b:80: there was no answer";
        book.say("a", good_for(10, &[1]));
        let mut followed = named(&book, &["a:80", "b:80"], []);
        let partly = followed.next().await.unwrap();
        assert_eq!(
            (addresses(&partly), partly.taken.stale.as_deref()),
            (vec![at(1).to_string()], Some(silent))
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(4));
        book.say("b", good_for(10, &[2]));
        let both = followed.next().await.unwrap();
        assert_eq!((both.places.len(), both.taken.stale), (2, None));
        for (answer, why) in [
            (Some(Err("SERVFAIL")), "a:80: SERVFAIL"),
            (Some(good_for(10, &[])), "a:80: it has no addresses"),
            (None, "a:80: there was no answer"),
        ] {
            book.say("a", answer);
            let known = loop {
                let known = followed.next().await.unwrap();
                assert_eq!(known.places, both.places);
                if known.taken.stale.as_deref() == Some(why) {
                    break known;
                }
            };
            assert!(!known.none);
        }
        let asked = book.asked("a", begun);
        book.say("a", good_for(10, &[3]));
        while followed.next().await.unwrap().taken.stale.is_some() {}
        assert_eq!(followed.names.places(&followed.set.as_ref().unwrap().targets)[0].0, at(3));
        assert!(asked.len() < 12, "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_only_as_long_as_nothing_was() {
        let book = Book::default();
        book.say("a", Err("NXDOMAIN"));
        let mut followed = named(&book, &["a:80"], []);
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(&*followed.next().await.unwrap_err(), "a:80: NXDOMAIN");
        }
        let asked = book.asked("a", begun);
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] <= 5) && asked[9] >= 20, "{asked:?}");
        // What a predecessor knew is known.
        let before = [(at(7), Arc::new(Endpoint::new("a:80")))];
        let known = named(&book, &["a:80"], before).next().await.unwrap();
        assert_eq!(
            (addresses(&known), known.taken.stale.as_deref()),
            (vec![at(7).to_string()], Some("a:80: NXDOMAIN"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_names_are_asked_for_some_at_a_time() {
        let book = Book::default();
        let names: Vec<_> = (0..500).map(|n| format!("n{n}:80")).collect();
        (0..500).for_each(|n| book.say(&format!("n{n}"), good_for(10, &[1])));
        (0..60).for_each(|n| book.say(&format!("n{n}"), None));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let known = named(&book, &names, []).next().await.unwrap();
        assert_eq!(known.places.len(), 440);
        assert!(known.taken.stale.is_some());
    }
}
