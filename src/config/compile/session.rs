//! `sessionPersistence`, and the key of sessions.
use std::time::Duration;

use http::{HeaderName, header};
use twox_hash::XxHash64;

use super::{Compiler, authentication::warn_if_open, removed::NOT_OURS};
use crate::{
    authn::Location,
    config::{
        at::At,
        schema::{CookieConfig, CookieLifetime, CookieSameSite, Rule, SessionPersistence, SessionType},
    },
    identity::{CERTIFICATES, HEARSAY},
    stack::gateway,
    upstream::{InvalidCookie, SameSite, Session, SessionCookie, SessionKey},
};

/// The longest name.
const LONGEST: usize = 128;
/// Response headers that mean something else.
const MEANT: [HeaderName; 4] =
    [header::SET_COOKIE, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRAILER];

impl Compiler<'_> {
    /// The key that all instances share, if one is said.
    pub(super) fn session_key(&self) -> Option<SessionKey> {
        let said = self.file.session_key.as_ref()?;
        let at = self.top.field("sessionKey").field("file");
        let text = self.file(at, &said.file)?;
        warn_if_open(at, &self.path(&said.file));
        let digits = std::str::from_utf8(text.trim_ascii()).ok();
        let digits = digits.filter(|text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(key) = digits.and_then(|text| u128::from_str_radix(text, 16).ok()) else {
            return at.refuse("expected 32 hexadecimal digits, such as `openssl rand -hex 16` makes");
        };
        Some(SessionKey::new(key.to_be_bytes()))
    }

    /// How a rule, or a destination of a client, keeps clients at one endpoint.
    pub(super) fn sessions(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let Some(said) = &rule.session_persistence else { return made };
        let at = at.field("sessionPersistence");
        if rule.filters.iter().any(|filter| filter.request_redirect.is_some()) {
            at.error("a rule that redirects has no endpoints");
        }
        match self.session(at, said, made.name()) {
            Some(session) => made.session(session),
            None => made,
        }
    }

    fn session(&self, at: At<'_>, said: &SessionPersistence, rule: &str) -> Option<Session> {
        let config = at.field("cookieConfig");
        let mut session = match said.kind {
            SessionType::Header => {
                if config.is_said() {
                    config.error("only sessions of `type: Cookie` have one");
                }
                Session::header(self.session_header(at.field("sessionName"), said.session_name.as_deref())?)
            }
            SessionType::Cookie => Session::cookie(self.session_cookie(at, said, rule)?),
        };
        let times = [("absoluteTimeout", &said.absolute_timeout), ("idleTimeout", &said.idle_timeout)];
        for (name, time) in times {
            if time.as_ref().is_some_and(|time| time.0 < Duration::from_secs(1)) {
                at.field(name).error("expected a second or more");
            }
        }
        if let (Some(absolute), Some(idle)) = (&said.absolute_timeout, &said.idle_timeout)
            && idle.0 >= absolute.0
        {
            at.field("idleTimeout").warn("not shorter than `absoluteTimeout`: it ends no session");
        }
        session =
            said.absolute_timeout.iter().fold(session, |session, time| session.absolute_timeout(time.0));
        session = said.idle_timeout.iter().fold(session, |session, time| session.idle_timeout(time.0));
        Some(session.strict(said.strict))
    }

    fn session_header(&self, at: At<'_>, name: Option<&str>) -> Option<HeaderName> {
        let name = name.unwrap_or("x-session");
        let Some(name) = HeaderName::try_from(name).ok().filter(|name| name.as_str().len() <= LONGEST) else {
            return at.refuse("expected the name of a header, of at most 128 characters");
        };
        let is_credential = |location: &Location| location.header_name() == Some(&name);
        if NOT_OURS.contains(&name)
            || MEANT.contains(&name)
            || HEARSAY.contains(&name)
            || CERTIFICATES.contains(&name)
            || self.locations().any(is_credential)
        {
            at.error("no session can be told in this header: it means something else");
        } else if let Some(why) = self.removed(&name) {
            at.error(why);
        }
        Some(name)
    }

    fn session_cookie(&self, at: At<'_>, said: &SessionPersistence, rule: &str) -> Option<SessionCookie> {
        let own = || format!("session-{:08x}", XxHash64::oneshot(0, rule.as_bytes()) as u32);
        let name = said.session_name.clone().unwrap_or_else(own);
        let at_name = at.field("sessionName");
        if self.locations().any(|location| *location == Location::cookie(&*name)) {
            at_name.error("no session can be told in this cookie: credentials come in it");
        }
        let Ok(cookie) = SessionCookie::new(name) else {
            return at_name.refuse("expected the name of a cookie, of at most 128 characters");
        };
        let at_config = at.field("cookieConfig");
        let default = CookieConfig::default();
        let config = said.cookie_config.as_ref().unwrap_or(&default);
        let permanent = config.lifetime_type == CookieLifetime::Permanent;
        if permanent && !at.field("absoluteTimeout").is_said() {
            at.field("absoluteTimeout").error("is missing, and `lifetimeType: Permanent` asks for it");
        }
        let mut cookie = cookie.permanent(permanent).same_site(match config.same_site {
            CookieSameSite::Lax => SameSite::Lax,
            CookieSameSite::Strict => SameSite::Strict,
            CookieSameSite::None => SameSite::None,
        });
        if let Some(secure) = config.secure {
            let Ok(secured) = cookie.secure(secure) else {
                return at_config.field("secure").refuse("a cookie of this name is for HTTPS only");
            };
            cookie = secured;
        }
        let Some(path) = &config.path else { return Some(cookie) };
        let at = at_config.field("path");
        match cookie.path(path.as_str()) {
            Ok(cookie) => Some(cookie),
            Err(InvalidCookie::Prefix(_)) => at.refuse("a cookie of this name is for the path `/`"),
            Err(_) => at.refuse("expected a path such as `/shop`"),
        }
    }

    fn locations(&self) -> impl Iterator<Item = &Location> {
        self.providers.values().flat_map(|provider| provider.locations())
    }
}
