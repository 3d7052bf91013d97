//! What a token endpoint answers (RFC 6749 section 5, RFC 8693 section 2.2). Pure.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess},
};

use crate::authn::{
    jwt::json::{self, Members, Skipped, Text},
    oauth::Odd,
};

/// How long a token lives of which the provider does not say.
const UNSAID: Duration = Duration::from_secs(60);
/// The longest that a token is kept, whatever the provider says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The largest token, in bytes: more does not fit into a head.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

const ODD: Odd = Odd("the provider's answer is not one with a token");

/// An answer of a token endpoint.
pub(super) enum Answer {
    Token {
        line: HeaderValue,
        lives: Duration,
    },
    /// The token of the caller is not good enough for the provider.
    CallerRefused,
}

impl Answer {
    /// Reads it. `exchanges`: it answers to a token of the caller, and may be against that.
    pub(super) fn read(status: StatusCode, body: &[u8], exchanges: bool) -> Result<Self, Odd> {
        let mut said = Said::default();
        json::read(body, &mut said).map_err(|_| ODD)?;
        if status != StatusCode::OK {
            let error = said.error.ok_or(Odd("the provider refuses us a token"))?;
            return match &*error.0 {
                "invalid_grant" | "invalid_request" if exchanges && status == StatusCode::BAD_REQUEST => {
                    Ok(Self::CallerRefused)
                }
                error => Err(refusal(error)),
            };
        }
        let (token, kind) = said.token.zip(said.kind).ok_or(ODD)?;
        if !kind.0.eq_ignore_ascii_case("Bearer") {
            return Err(Odd("the provider's token is none that its bearer can use"));
        }
        let line = bearer(&token.0).ok_or(ODD)?;
        let lives = said.expires_in.map_or(UNSAID, |seconds| Duration::from_secs(seconds.0));
        Ok(Self::Token { line, lives: lives.min(LONGEST) })
    }
}

/// `Bearer` and the token, if it is one (RFC 6750 section 2.1).
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let mut line = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    line.set_sensitive(true);
    Some(line)
}

/// The codes of RFC 6749 section 5.2 and RFC 8693 section 2.2.2; what else a provider writes is not repeated.
fn refusal(code: &str) -> Odd {
    Odd(match code {
        "invalid_client" => "the provider refuses us a token: invalid_client",
        "invalid_grant" => "the provider refuses us a token: invalid_grant",
        "invalid_request" => "the provider refuses us a token: invalid_request",
        "invalid_scope" => "the provider refuses us a token: invalid_scope",
        "invalid_target" => "the provider refuses us a token: invalid_target",
        "unauthorized_client" => "the provider refuses us a token: unauthorized_client",
        "unsupported_grant_type" => "the provider refuses us a token: unsupported_grant_type",
        _ => "the provider refuses us a token",
    })
}

#[derive(Default)]
struct Said<'a> {
    token: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    expires_in: Option<Seconds>,
    error: Option<Text<'a>>,
}

impl<'a> Members<'a> for Said<'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "access_token" => self.token = Some(map.next_value()?),
            "error" => self.error = Some(map.next_value()?),
            "expires_in" => self.expires_in = map.next_value()?,
            "token_type" => self.kind = Some(map.next_value()?),
            _ => {
                map.next_value::<Skipped>()?;
            }
        }
        Ok(())
    }
}

/// A number of seconds, which some providers write as a string, or with a fraction.
struct Seconds(u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecondsVisitor;

        impl de::Visitor<'_> for SecondsVisitor {
            type Value = Seconds;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Seconds, E> {
                Ok(Seconds(seconds))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                u64::try_from(seconds).map(Seconds).map_err(|_| E::custom("before now"))
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Seconds, E> {
                // It saturates, and is cut to a day anyway.
                if seconds >= 0.0 { Ok(Seconds(seconds as u64)) } else { Err(E::custom("before now")) }
            }

            fn visit_str<E: de::Error>(self, seconds: &str) -> Result<Seconds, E> {
                seconds.parse().map(Seconds).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SecondsVisitor)
    }
}
