use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::follow::MOST;
use crate::{
    backoff::{Backoff, Jitter},
    chance::Chance,
    time::after,
    upstream::{
        Endpoint,
        group::Place,
        resolve::{Addresses, Resolve, Target},
    },
};

/// How long answers are waited for.
pub(in crate::upstream) const LOOKUP: Duration = Duration::from_secs(4);
/// How long addresses are good of which nobody knows.
const FRESH: Duration = Duration::from_secs(30);
/// What is good for less is asked for no more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long after there was no answer it is asked again.
pub(in crate::upstream) const AGAIN: Backoff =
    Backoff::new(SHORTEST).max(Duration::from_secs(5)).jitter(Jitter::Equal);
/// How many names are asked for at a time.
const AT_ONCE: usize = 64;

/// Where endpoints are, and what is said of each.
pub(in crate::upstream) type Targets = Arc<[(Target, Arc<Endpoint>)]>;

/// Up to a tenth sooner by chance, so that what was learnt together is not asked for together.
pub(in crate::upstream) fn early(lifetime: Duration, chance: &Chance) -> Duration {
    lifetime.saturating_sub(chance.up_to(lifetime / 10)).max(SHORTEST)
}

/// The addresses of host names, each asked for again when they are good no longer. What was known last stays as long as there
/// is no other answer.
pub(in crate::upstream) struct Names {
    resolver: Arc<dyn Resolve>,
    chance: Chance,
    known: HashMap<Target, Known>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// When it is to be asked for; `None`: at once.
    due: Option<Instant>,
    /// Why there was no answer, how many times in a row.
    failed: Option<(Arc<str>, u32)>,
}

impl Names {
    /// Beginning with what is known of some already.
    pub(in crate::upstream) fn new(
        resolver: Arc<dyn Resolve>,
        chance: Chance,
        before: impl IntoIterator<Item = Place>,
    ) -> Self {
        let mut known: HashMap<_, Known> = HashMap::new();
        for (address, endpoint) in before {
            if let Ok(name @ Target::Name { .. }) = endpoint.address.parse() {
                known.entry(name).or_default().addresses.push(address);
            }
        }
        Self { resolver, chance, known }
    }

    /// When one of them is to be asked for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.known.values().filter_map(|known| known.due).min()
    }

    /// Asks for those of these whose addresses are not known, or good no longer. The others are forgotten.
    pub(super) async fn refresh(&mut self, targets: &Targets) {
        let names = targets.iter().map(|(target, _)| target);
        let names: HashSet<_> = names.filter(|target| matches!(target, Target::Name { .. })).collect();
        self.known.retain(|name, _| names.contains(name));
        let now = Instant::now();
        let is_due =
            |name: &&Target| self.known.get(name).and_then(|known| known.due).is_none_or(|due| due <= now);
        let mut silent: HashSet<_> = names.into_iter().filter(is_due).cloned().collect();
        let mut waiting = silent.clone().into_iter();
        let mut asked = JoinSet::new();
        loop {
            for name in waiting.by_ref().take(AT_ONCE - asked.len()) {
                let Target::Name { host, port } = &name else { continue };
                let answer = self.resolver.resolve(host, *port);
                asked.spawn(async move { (name, answer.await) });
            }
            match timeout_at(now + LOOKUP, asked.join_next()).await {
                Ok(Some(Ok((name, answer)))) => {
                    silent.remove(&name);
                    self.learn(&name, answer.map_err(|error| error.to_string()));
                }
                // It is among the silent.
                Ok(Some(Err(_lost))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        for name in silent {
            self.learn(&name, Err("there was no answer".to_owned()));
        }
    }

    fn learn(&mut self, name: &Target, answer: Result<Addresses, String>) {
        let told = match answer {
            Ok(found) if found.all.is_empty() => Err("it has no addresses".to_owned()),
            told => told,
        };
        let known = self.known.entry(name.clone()).or_default();
        let wait = match told {
            Ok(Addresses { mut all, lifetime }) => {
                // Name servers turn them about, which is no change.
                all.truncate(MOST);
                all.sort_unstable();
                (known.addresses, known.failed) = (all, None);
                early(lifetime.unwrap_or(FRESH), &self.chance)
            }
            Err(why) => {
                let times = known.failed.as_ref().map_or(0, |(_, times)| *times).saturating_add(1);
                known.failed = Some((format!("{name}: {why}").into(), times));
                AGAIN.delay(times, &self.chance)
            }
        };
        known.due = Some(after(Instant::now(), wait));
    }

    /// The addresses of these, as far as they are known; one more than there may be at the most.
    pub(super) fn places(&self, targets: &Targets) -> Vec<Place> {
        let found = |(target, endpoint): &(Target, Arc<Endpoint>)| {
            let addresses = match target {
                Target::Address(address) => vec![*address],
                Target::Name { .. } => {
                    self.known.get(target).map(|known| known.addresses.clone()).unwrap_or_default()
                }
            };
            let endpoint = Arc::clone(endpoint);
            addresses.into_iter().map(move |address| (address, Arc::clone(&endpoint)))
        };
        targets.iter().flat_map(found).take(MOST + 1).collect()
    }

    /// Why it is not known where one of these is now.
    pub(super) fn why(&self, targets: &Targets) -> Option<Arc<str>> {
        let failed = |(target, _): &(Target, _)| self.known.get(target)?.failed.as_ref();
        targets.iter().find_map(failed).map(|(why, _)| Arc::clone(why))
    }
}
