use std::{fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use http::{Extensions, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    TokenRequest,
    answer::bearer,
    counts::{Counts, TokenSourceHandle, count},
    origin::{Fresh, Origin},
};
use crate::{
    authn::oauth::Unavailable,
    cache::{Cache, Domain, Item},
    chance::Chance,
    context::Context,
    flight::{Flights, Joined},
    identity::CallerToken,
    reject::{Reason, Rejection, challenge},
    time::after,
};

/// Where the tokens for our own calls come from. Clones share what is kept.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct TokenSource(Kind);

#[derive(Clone)]
enum Kind {
    Caller,
    Kept(Arc<Keeper>),
}

/// Whose tokens are kept: those of nobody in particular, or of who has this token, of which only the SHA-256 is kept.
type Whose = [u8; 32];

struct Keeper {
    origin: Origin,
    tokens: Cache<Held, Whose>,
    /// Of whom a token was had anew because one was refused, lately.
    forced: Cache<(), Whose>,
    domain: Domain,
    flights: Flights<Whose, Result<Option<HeaderValue>, Unavailable>>,
    chance: Chance,
    counts: Arc<Counts>,
}

#[derive(Clone)]
struct Held {
    /// Nothing: the provider does not want to give one for this caller.
    line: Option<HeaderValue>,
    renew: Instant,
}

impl Held {
    /// Whether it is the token that was refused.
    fn is(&self, refused: Option<&HeaderValue>) -> bool {
        refused.is_some() && self.line.as_ref() == refused
    }
}

/// A token for one call.
pub(super) enum Supply {
    Now(Result<HeaderValue, Rejection>),
    /// There is nothing to add.
    Nothing,
    Wait(Waiting),
}

pub(super) type Waiting = Pin<Box<dyn Future<Output = Result<HeaderValue, Rejection>> + Send>>;

/// A token that is asked of the provider because another was refused comes at most so often: the service may refuse it
/// for another reason.
const FORCED: Duration = Duration::from_secs(10);

impl TokenSource {
    /// Tokens of our own, by client credentials (RFC 6749 section 4.4).
    #[must_use]
    pub fn client_credentials(request: TokenRequest) -> Self {
        Self::keeping(Origin::ClientCredentials(request), 8)
    }

    /// Tokens on behalf of the caller: its own in exchange for one for the service that is called (RFC 8693). At most
    /// 10,000 callers' are kept.
    ///
    /// The caller's token is the [`CallerToken`] in the request's extensions, or else in the [`Context`].
    #[must_use]
    pub fn exchange(request: TokenRequest) -> Self {
        Self::keeping(Origin::Exchange(request), 10_000)
    }

    /// The token in a file that somebody else renews, such as Kubernetes a service account's. It is read again every 10 s.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::keeping(Origin::file(path.into(), Duration::from_secs(10)), 8)
    }

    /// The caller's own token, which the service that is called can then use as the caller itself: call only services
    /// that the caller could call. A call for a caller without a token goes without one.
    ///
    /// It is the [`CallerToken`] in the request's extensions, or else in the [`Context`].
    #[must_use]
    pub fn danger_caller() -> Self {
        Self(Kind::Caller)
    }

    fn keeping(origin: Origin, most: usize) -> Self {
        Self(Kind::Kept(Arc::new(Keeper {
            origin,
            tokens: Cache::new(most, 32 << 20),
            forced: Cache::new(most, 1 << 20),
            domain: Domain::unique(),
            flights: Flights::new(256),
            chance: Chance::new(),
            counts: Arc::default(),
        })))
    }

    /// Whether it needs the caller's token.
    #[must_use]
    pub fn needs_caller(&self) -> bool {
        match &self.0 {
            Kind::Caller => true,
            Kind::Kept(keeper) => matches!(keeper.origin, Origin::Exchange(_)),
        }
    }

    /// What it has done.
    #[must_use]
    pub fn handle(&self) -> TokenSourceHandle {
        match &self.0 {
            Kind::Caller => TokenSourceHandle::default(),
            Kind::Kept(keeper) => TokenSourceHandle(Arc::clone(&keeper.counts)),
        }
    }

    /// Whether another token may be had where one was refused.
    pub(super) fn renews(&self) -> bool {
        matches!(self.0, Kind::Kept(_))
    }

    /// The caller's token, if it is needed.
    pub(super) fn subject(&self, extensions: &Extensions) -> Option<CallerToken> {
        let told = || Context::current()?.caller_token().cloned();
        self.needs_caller().then(|| extensions.get().cloned().or_else(told)).flatten()
    }

    /// The token for a call; another one than `refused`.
    pub(super) fn supply(
        &self,
        subject: Option<&CallerToken>,
        refused: Option<&HeaderValue>,
        now: Instant,
    ) -> Supply {
        match &self.0 {
            Kind::Caller => match subject {
                Some(token) => Supply::Now(bearer(token.reveal()).ok_or_else(no_token)),
                None => Supply::Nothing,
            },
            Kind::Kept(keeper) => keeper.supply(subject, refused, now),
        }
    }

    /// The service that was called does not take `line`. Whether another token can be had.
    pub(super) fn refused(&self, subject: Option<&CallerToken>, line: &HeaderValue, now: Instant) -> bool {
        match &self.0 {
            Kind::Caller => false,
            Kind::Kept(keeper) => keeper.refused(subject, line, now),
        }
    }
}

impl Keeper {
    fn supply(
        self: &Arc<Self>,
        subject: Option<&CallerToken>,
        refused: Option<&HeaderValue>,
        now: Instant,
    ) -> Supply {
        if subject.is_none() && matches!(self.origin, Origin::Exchange(_)) {
            return Supply::Now(Err(no_token()));
        }
        let whose = whose(subject);
        if let Some(held) = self.tokens.read(self.domain, &whose, now, Held::clone)
            && !held.is(refused)
        {
            let Held { line, renew } = held;
            if now >= renew {
                // Those who call now are served with the old one; whatever comes of it is for later ones.
                let _ = self.join(whose, subject, None, now);
            }
            count(&self.counts.kept);
            return Supply::Now(line.ok_or_else(caller_refused));
        }
        match self.join(whose, subject, refused, now) {
            Err(why) => Supply::Now(Err(why.reject(Reason::TokenUnavailable))),
            Ok(joined) => Supply::Wait(Box::pin(async move {
                let told = joined.await.unwrap_or_else(|_| Err(Unavailable::new("the call was lost")));
                told.map_err(|why| why.reject(Reason::TokenUnavailable))?.ok_or_else(caller_refused)
            })),
        }
    }

    /// Has a token anew, or waits with those who have asked for one. The one that is kept is kept until then, also if it
    /// is the one that was `refused`: other calls may be taken with it.
    fn join(
        self: &Arc<Self>,
        whose: Whose,
        subject: Option<&CallerToken>,
        refused: Option<&HeaderValue>,
        now: Instant,
    ) -> Result<Joined<Result<Option<HeaderValue>, Unavailable>>, Unavailable> {
        self.origin.endpoint().map_or(Ok(()), |endpoint| endpoint.may_ask(now))?;
        let work = || {
            let (this, subject, refused) = (Arc::clone(self), subject.cloned(), refused.cloned());
            async move { this.renew(whose, subject, refused).await }
        };
        self.flights
            .join(whose, work)
            .map_err(|_| Unavailable::new("as many tokens are asked for as may be at once"))
    }

    async fn renew(
        &self,
        whose: Whose,
        subject: Option<CallerToken>,
        refused: Option<HeaderValue>,
    ) -> Result<Option<HeaderValue>, Unavailable> {
        let asked = Instant::now();
        // Whoever joined too late for the last call finds what it brought.
        if let Some(held) = self.tokens.read(self.domain, &whose, asked, Held::clone)
            && asked < held.renew
            && !held.is(refused.as_ref())
        {
            return Ok(held.line);
        }
        let Fresh { line, renew, lives } = self
            .origin
            .fetch(subject.as_ref(), print(&whose))
            .await
            .inspect_err(|_| count(&self.counts.failed))?;
        self.counts.had(asked);
        // Those who began together do not come back together.
        let jitter = self.chance.below(u64::try_from(renew.as_nanos() / 10).unwrap_or(u64::MAX));
        let held = Held { line: line.clone(), renew: after(asked, renew + Duration::from_nanos(jitter)) };
        let weight = line.as_ref().map_or(0, HeaderValue::len);
        let item =
            Item { domain: self.domain, key: whose, value: held, weight, expires: after(asked, lives) };
        self.tokens.insert(item, Instant::now());
        Ok(line)
    }

    fn refused(self: &Arc<Self>, subject: Option<&CallerToken>, line: &HeaderValue, now: Instant) -> bool {
        count(&self.counts.refused);
        let whose = whose(subject);
        let same = |held: &Held| held.is(Some(line));
        if self.tokens.read(self.domain, &whose, now, same) != Some(true) {
            // Somebody has had another in the meantime.
            return true;
        }
        if self.forced.read(self.domain, &whose, now, |()| ()).is_some() {
            // Somebody may be about to have another.
            return self.flights.is_aloft(&whose);
        }
        // Where the call cannot be made again, the next one finds it. Where nobody can be asked, the service's word stands.
        if self.join(whose, subject, Some(line), now).is_err() {
            return false;
        }
        let expires = after(now, FORCED);
        self.forced.insert(Item { domain: self.domain, key: whose, value: (), weight: 0, expires }, now);
        true
    }
}

fn whose(subject: Option<&CallerToken>) -> Whose {
    subject.map_or([0; 32], |token| Sha256::digest(token.reveal().as_bytes()).into())
}

/// As much of it as tells one caller from others.
fn print(whose: &Whose) -> u64 {
    whose.first_chunk().map_or(0, |print| u64::from_le_bytes(*print))
}

fn no_token() -> Rejection {
    Rejection::new(Reason::MissingCredentials)
        .detail("the call is made on behalf of the caller, who came without a token")
        .challenge(challenge("Bearer", "api", ""))
}

fn caller_refused() -> Rejection {
    Rejection::new(Reason::InvalidCredentials)
        .detail("the provider gives no token for the caller's")
        .challenge(challenge("Bearer", "api", r#", error="invalid_token""#))
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Caller => f.write_str("TokenSource::Caller"),
            Kind::Kept(keeper) => f.debug_tuple("TokenSource").field(&keeper.origin).finish(),
        }
    }
}
