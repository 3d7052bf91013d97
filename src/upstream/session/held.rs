//! The session of one request, from its head to that of its response.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, header::SET_COOKIE, response::Parts};

use super::{
    policy::{Carrier, SameSite, Session, SessionCookie},
    token::{SessionKey, Token},
};
use crate::{
    cookie::cookies,
    reject::{Reason, Rejection},
    upstream::balance::Named,
};
#[cfg(feature = "stack")]
use crate::{head::Head, upstream::Upstream};

/// How many cookies of its name are looked at.
const MOST: usize = 4;

/// A request's session, if it has one, and what its answer has to tell of it.
pub(in crate::upstream) struct Held {
    session: Arc<Session>,
    key: SessionKey,
    token: Option<Token>,
    /// Whether the request came over HTTPS.
    https: bool,
}

impl Held {
    pub(in crate::upstream) fn new(
        session: &Arc<Session>,
        key: SessionKey,
        headers: &HeaderMap,
        https: bool,
    ) -> Self {
        Self { session: Arc::clone(session), key, token: session.token(key, headers), https }
    }

    /// The endpoint for which it asks.
    pub(in crate::upstream) fn named(&self) -> Option<Named> {
        self.token.map(|Token { name, .. }| Named { name, strict: self.session.strict })
    }

    /// Tells the client where it is, if it does not know.
    pub(in crate::upstream) fn tell(&self, endpoint: SocketAddr, answer: &mut Parts) {
        let now = self.session.now();
        let name = self.key.name(endpoint);
        let token = match self.token {
            Some(token) if token.name == name => {
                if !self.session.is_due(now.saturating_sub(token.seen)) {
                    return;
                }
                Token { seen: now, ..token }
            }
            // Who fails shall not have him for good.
            _ if answer.status.is_server_error() => return,
            _ => Token { name, begun: now, seen: now },
        };
        let text = token.write(self.key);
        match &self.session.carrier {
            Carrier::Header(name) => {
                if let Ok(value) = HeaderValue::try_from(text) {
                    answer.headers.insert(name.clone(), value);
                }
            }
            Carrier::Cookie(cookie) => {
                let left = self.session.left(now.saturating_sub(token.begun));
                let age = if cookie.permanent { left } else { None };
                if let Some(value) = self.set(cookie, &text, age) {
                    answer.headers.append(SET_COOKIE, value);
                }
            }
        }
    }

    /// Why a request of this session is refused for which there is no endpoint; `None`: not for its session.
    pub(in crate::upstream) fn refusal(&self, is_gone: bool) -> Option<Rejection> {
        if !self.session.strict || self.token.is_none() {
            return None;
        }
        let refusal = Rejection::new(Reason::NoEndpoint);
        if !is_gone {
            return Some(refusal.detail("the endpoint of this session takes no requests"));
        }
        let refusal = refusal.detail("the endpoint of this session is gone");
        let Carrier::Cookie(cookie) = &self.session.carrier else { return Some(refusal) };
        let taken_back = self.set(cookie, "", Some(0));
        Some(taken_back.into_iter().fold(refusal, |refusal, value| refusal.header(SET_COOKIE, value)))
    }

    fn set(&self, cookie: &SessionCookie, value: &str, age: Option<u64>) -> Option<HeaderValue> {
        const ATTRIBUTES: usize = "=; Path=; HttpOnly; SameSite=Strict; Secure; Max-Age=4294967295".len();
        let mut text =
            String::with_capacity(cookie.name.len() + value.len() + cookie.path.len() + ATTRIBUTES);
        let _ = write!(text, "{}={value}; Path={}; HttpOnly", cookie.name, cookie.path);
        text.push_str(match cookie.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
        });
        if cookie.same_site == SameSite::None || cookie.secure.unwrap_or(self.https) {
            text.push_str("; Secure");
        }
        if let Some(age) = age {
            let _ = write!(text, "; Max-Age={age}");
        }
        HeaderValue::try_from(text).ok()
    }
}

impl Session {
    /// Whether a request's session is at an endpoint of this upstream that can have it.
    #[cfg(feature = "stack")]
    pub(crate) fn is_at(&self, upstream: &Upstream, head: &Head<'_>) -> bool {
        let plan = upstream.group().roster.plan();
        let token = self.token(upstream.session_key(), head.headers());
        let member = token.and_then(|token| plan.named(token.name, upstream.marked(head)));
        member.is_some_and(|member| self.strict || member.availability().takes())
    }

    fn now(&self) -> u32 {
        u32::try_from(self.clock.unix_seconds()).unwrap_or(u32::MAX)
    }

    /// What a request carries, if it is one of ours and is not over.
    pub(in crate::upstream) fn token(&self, key: SessionKey, headers: &HeaderMap) -> Option<Token> {
        let token = match &self.carrier {
            Carrier::Header(name) => Token::read(headers.get(name)?.as_bytes(), key)?,
            Carrier::Cookie(cookie) => {
                let own = cookies(headers).filter(|(name, _)| *name == cookie.name.as_bytes());
                own.take(MOST).find_map(|(_, value)| Token::read(value, key))?
            }
        };
        let now = self.now();
        let [age, idle] = [token.begun, token.seen].map(|since| now.saturating_sub(since));
        self.is_alive(age, idle).then_some(token)
    }
}
