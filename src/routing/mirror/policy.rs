use std::{
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::HeaderName;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::handle::{Counts, Dropped, MirrorHandle};
use crate::{chance::Chance, ratio::Ratio};

/// The mark of a mirrored request.
const MARK: HeaderName = HeaderName::from_static("x-mirror");
/// How often differences are logged at most.
const LOGGED: Duration = Duration::from_secs(1);

/// Which requests are mirrored, and what a shadow may cost. See the [module docs](super). Clones share the places and the
/// numbers.
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(super) name: Arc<str>,
    pub(super) share: Ratio,
    pub(super) chance: Chance,
    pub(super) suffix: Option<Arc<str>>,
    pub(super) mark: HeaderName,
    pub(super) without: Arc<[HeaderName]>,
    pub(super) timeout: Duration,
    pub(super) most_behind: usize,
    pub(super) most_response: u64,
    pub(super) compare: Option<Compare>,
    pub(super) places: Places,
    pub(super) counts: Arc<Counts>,
}

/// How many shadows there may be at once.
#[derive(Clone)]
pub(super) struct Places {
    most: u32,
    free: Arc<Semaphore>,
}

/// What is compared of two answers: their status, HTTP's and gRPC's, in any case.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Compare {
    pub(super) headers: Arc<[HeaderName]>,
    pub(super) body: bool,
    /// When differences were logged last.
    logged: Arc<Mutex<Option<Instant>>>,
}

/// Why a text is no ending of a host's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no ending of a host name: expected 1 to 63 letters, digits, `-` and `.`")]
pub struct InvalidSuffix(());

impl Policy {
    /// All requests, to a mirror that is called `name` in logs, metrics and the mark. What else it is by default is told at
    /// each method.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            share: Ratio::ALWAYS,
            chance: Chance::new(),
            suffix: None,
            mark: MARK,
            without: Arc::default(),
            timeout: Duration::from_secs(15),
            most_behind: 256 * 1024,
            most_response: 1024 * 1024,
            compare: None,
            places: Places::new(100),
            counts: Arc::default(),
        }
    }

    /// This share of the requests, each by itself. All unless told.
    pub fn share(self, share: Ratio) -> Self {
        Self { share, ..self }
    }

    /// Where the chance comes from.
    pub fn chance(self, chance: Chance) -> Self {
        Self { chance, ..self }
    }

    /// Appends this to the name of the host that is asked for, before its port: `-shadow` makes `shop.example:8080`
    /// `shop.example-shadow:8080`, as Envoy does. Addresses stay as they are. Nothing unless told.
    ///
    /// # Errors
    ///
    /// If it cannot end a host name.
    pub fn host_suffix(self, suffix: &str) -> Result<Self, InvalidSuffix> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if !(1..=63).contains(&suffix.len()) || !suffix.bytes().all(fits) {
            return Err(InvalidSuffix(()));
        }
        Ok(Self { suffix: Some(suffix.to_ascii_lowercase().into()), ..self })
    }

    /// The header by which a mirrored request is known: its value is the mirror's name. `x-mirror` unless told.
    pub fn mark(self, header: HeaderName) -> Self {
        Self { mark: header, ..self }
    }

    /// Takes this header out of copies: one that is the primary's own, such as the time that is left of a request.
    pub fn without(mut self, header: HeaderName) -> Self {
        self.without = self.without.iter().cloned().chain([header]).collect();
        self
    }

    /// How long a shadow may take with its response; whatever is left of the time of the request that it is a copy of. 15
    /// seconds unless told.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How many shadows there may be at once; further requests are not mirrored. 100 unless told.
    pub fn most_in_flight(self, most: NonZeroU32) -> Self {
        Self { places: Places::new(most.get()), ..self }
    }

    /// How many bytes of a request's body a shadow may be behind; one that is further is dropped. 256 KiB unless told.
    pub fn most_behind(self, bytes: usize) -> Self {
        Self { most_behind: bytes, ..self }
    }

    /// How many bytes of a shadow's response are read. The rest of a longer one is not, and it is not compared. 1 MiB
    /// unless told.
    pub fn most_response(self, bytes: u64) -> Self {
        Self { most_response: bytes, ..self }
    }

    /// Compares the shadow's answer with the one that is given. They are not compared unless told.
    pub fn compare(self, compare: Compare) -> Self {
        Self { compare: Some(compare), ..self }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The header by which a mirrored request is known.
    #[must_use]
    pub const fn marked_by(&self) -> &HeaderName {
        &self.mark
    }

    /// What shadows under this policy have come to.
    #[must_use]
    pub fn handle(&self) -> MirrorHandle {
        MirrorHandle { policy: self.clone() }
    }

    /// Whether a request is to be mirrored, and the place of its shadow.
    pub(super) fn begin(&self) -> Option<OwnedSemaphorePermit> {
        if !self.chance.ratio(self.share) {
            return None;
        }
        let place = Arc::clone(&self.places.free).try_acquire_owned().ok();
        match place {
            Some(_) => self.counts.begin(),
            None => self.counts.lose(Dropped::Busy),
        }
        place
    }

    /// `authority` with the suffix.
    pub(super) fn suffixed(&self, authority: &str) -> Option<String> {
        let suffix = self.suffix.as_deref()?;
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if is_port(port) => (host, Some(port)),
            _ => (authority, None),
        };
        if host.is_empty() || host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{host}{suffix}{port}"))
    }
}

impl Places {
    fn new(most: u32) -> Self {
        let places = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { most, free: Arc::new(Semaphore::new(places)) }
    }

    pub(super) fn taken(&self) -> u32 {
        self.most.saturating_sub(u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX))
    }
}

impl Compare {
    /// Their status, and nothing else.
    pub fn status() -> Self {
        Self::default()
    }

    /// And all values of this header.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.headers = self.headers.iter().cloned().chain([name]).collect();
        self
    }

    /// And their bodies, by digests of the data: what was compressed differently is different.
    pub fn body(self) -> Self {
        Self { body: true, ..self }
    }

    /// Whether it is time to log again.
    pub(super) fn logs(&self, now: Instant) -> bool {
        let mut last = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= LOGGED);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("share", &self.share)
            .field("timeout", &self.timeout)
            .field("compare", &self.compare)
            .finish_non_exhaustive()
    }
}
