use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    InvalidUrl, KeysNotReady,
    keeper::Remote,
    metadata,
    schedule::Times,
    source::{Asking, Source},
    status::{FetchResult, RemoteState, RemoteStatus},
};
use crate::{
    authn::jwt::{Keys, MAX_DOCUMENT},
    backoff::Backoff,
    chance::Chance,
    fetch::Fetch,
    time::{WallClock, after},
};

/// How many redirects are followed, within the origin that was asked.
const REDIRECTS: u32 = 3;

/// A provider's keys, fetched over the network and kept up to date. Clones, and all who were given its [`Keys`], share
/// one set and one task, which ends with the last of them.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct RemoteKeys {
    keys: Keys,
    remote: Arc<Remote>,
}

/// Builds [`RemoteKeys`].
#[derive(Debug, Clone)]
#[must_use]
pub struct RemoteKeysBuilder {
    place: Place,
    fetch: Fetch,
    times: Times,
    timeout: Duration,
    wait: Duration,
    plain: bool,
    chance: Chance,
    clock: WallClock,
    before: Option<RemoteKeys>,
}

#[derive(Debug, Clone)]
enum Place {
    Issuer(Box<str>),
    Keys(Box<str>),
}

impl RemoteKeys {
    /// The keys of an issuer, found through its metadata: OpenID Connect Discovery 1.0, or else RFC 8414.
    pub fn discover(issuer: impl Into<Box<str>>, fetch: Fetch) -> RemoteKeysBuilder {
        RemoteKeysBuilder::new(Place::Issuer(issuer.into()), fetch)
    }

    /// The key set at a URL (RFC 7517 section 5).
    pub fn at(url: impl Into<Box<str>>, fetch: Fetch) -> RemoteKeysBuilder {
        RemoteKeysBuilder::new(Place::Keys(url.into()), fetch)
    }

    /// The keys, for those who verify with them.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The issuer, or the URL.
    #[must_use]
    pub fn source(&self) -> String {
        self.remote.asking.source.name()
    }

    /// Fetches the keys, unless they are known, and waits for them as long as was [chosen](RemoteKeysBuilder::wait): to
    /// be awaited before traffic is let in. Whatever comes of it, they are kept up to date from now on, in a task of
    /// this tokio runtime.
    ///
    /// # Errors
    ///
    /// They are not known by then. It is no reason not to serve: it goes on trying, and tokens are answered 503 until
    /// it succeeds.
    pub async fn ready(&self) -> Result<(), KeysNotReady> {
        let mut ended = self.remote.ended.subscribe();
        self.keys.start();
        let until = after(Instant::now(), self.remote.wait);
        while self.keys.current().is_none() {
            if !matches!(timeout_at(until, ended.changed()).await, Ok(Ok(()))) {
                return Err(KeysNotReady { last: self.remote.progress().last_error.clone() });
            }
        }
        Ok(())
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> RemoteStatus {
        let (now, (progress, current)) = (Instant::now(), self.remote.both(&self.keys));
        let stale = progress.schedule.as_ref().is_some_and(|schedule| schedule.is_stale(now));
        let mut fetches = FetchResult::ALL.map(|result| (result, 0));
        fetches.iter_mut().zip(progress.results).for_each(|(fetch, count)| fetch.1 = count);
        RemoteStatus {
            state: match current {
                None => RemoteState::Unknown,
                Some(_) if stale => RemoteState::Stale,
                Some(_) => RemoteState::Fresh,
            },
            keys: current.map_or(0, |keys| keys.len()),
            skipped: progress.skipped.len(),
            age: progress.fetched.map(|fetched| now.saturating_duration_since(fetched)),
            next: progress.schedule.as_ref().map(|schedule| schedule.due().saturating_duration_since(now)),
            fetches,
            last_error: progress.last_error,
        }
    }
}

impl RemoteKeysBuilder {
    fn new(place: Place, fetch: Fetch) -> Self {
        Self {
            place,
            fetch,
            times: Times::default(),
            timeout: Duration::from_secs(5),
            wait: Duration::from_secs(5),
            plain: false,
            chance: Chance::new(),
            clock: WallClock::system(),
            before: None,
        }
    }

    /// How long a set is fresh whose provider does not say (`Cache-Control: max-age`, `Expires`). By default 10 minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.times.lifetime = lifetime;
        self
    }

    /// What lifetimes are never taken to be shorter than. By default a minute: no provider is asked more often, and
    /// those that say `no-store` are asked as often.
    pub fn min_lifetime(mut self, least: Duration) -> Self {
        self.times.least = least;
        self
    }

    /// What lifetimes are never taken to be longer than. By default an hour: so long, at most, a key verifies that its
    /// provider has withdrawn.
    pub fn max_lifetime(mut self, most: Duration) -> Self {
        self.times.most = most;
        self
    }

    /// How far apart fetches are that tokens with unknown keys cause. By default 10 seconds.
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.times.cooldown = cooldown;
        self
    }

    /// How long the last set is used after its lifetime if no other can be fetched. By default a day; then the keys are
    /// unknown again.
    pub fn stale_for(mut self, stale: Duration) -> Self {
        self.times.stale = stale;
        self
    }

    /// How long to wait after fetches that failed. By default half a second to a second after the first, growing to a
    /// minute.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.times.backoff = backoff;
        self
    }

    /// How long one answer may take, with its redirects and its whole body. By default 5 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long [`ready`](RemoteKeys::ready) waits. By default 5 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Takes metadata and keys over plain HTTP: whoever can change what is sent can let anybody in.
    pub fn danger_plain_http(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Where chance comes from, which spreads fetches over time.
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = chance;
        self
    }

    /// The clock that `Expires` is compared with if the provider does not show its own.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Takes over the keys of `before` and what is known of them, if they come from the same place. For a reload of the
    /// configuration: nothing is fetched that was to be fetched later.
    ///
    /// Which roots its client trusts cannot be seen from here. Where they are others now, do not call this: keys that were
    /// taken from an impostor would outlive the mend.
    pub fn inherit(mut self, before: &RemoteKeys) -> Self {
        self.before = Some(before.clone());
        self
    }

    /// Builds it. Nothing is fetched before [`ready`](RemoteKeys::ready) is called or the first token comes.
    ///
    /// # Errors
    ///
    /// The issuer or the URL cannot be asked.
    pub fn build(self) -> Result<RemoteKeys, InvalidUrl> {
        let source = match self.place {
            Place::Keys(url) => Source::Keys(metadata::url(&url, self.plain)?),
            Place::Issuer(issuer) => {
                Source::Issuer { metadata: metadata::places(&issuer, self.plain)?, issuer }
            }
        };
        let fetch = self.fetch.timeout(self.timeout).max_body(MAX_DOCUMENT).redirects(REDIRECTS);
        let before = self.before.filter(|before| {
            before.remote.asking.source == source && before.remote.asking.plain == self.plain
        });
        let (mut progress, present) =
            before.map_or_else(Default::default, |before| before.remote.both(&before.keys));
        progress.schedule = progress.schedule.map(|known| known.under(Instant::now(), &self.times));
        let asking = Asking { source, plain: self.plain, fetch, clock: self.clock };
        let settled = progress.schedule.as_ref().and_then(|schedule| schedule.settled(&self.times));
        let remote = Arc::new(Remote::new(asking, self.times, self.wait, self.chance, progress));
        let keys = Keys::kept(remote.clone());
        if let Some(present) = present {
            keys.adopt(present);
            keys.settle(settled);
        }
        Ok(RemoteKeys { keys, remote })
    }
}

impl From<RemoteKeys> for Keys {
    fn from(remote: RemoteKeys) -> Self {
        remote.keys
    }
}

impl From<&RemoteKeys> for Keys {
    fn from(remote: &RemoteKeys) -> Self {
        remote.keys.clone()
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("source", &self.remote.asking.source)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
