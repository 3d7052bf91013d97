//! What one account has spent of a quota, for who asks at the admin address.
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderName, HeaderValue, StatusCode, header::COOKIE};
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::{
    admission::{
        quota::{Consumption, QuotaHandle},
        rate_limit::Account,
    },
    identity::{ClaimLookup, Principal},
    key::Key,
    stack::admin::Telling,
    time::format_utc,
};

/// The words of a query that describe an account; those of the second list are followed by a name.
const WORDS: [&str; 6] = ["address", "issuer", "plan", "provider", "route", "subject"];
const NAMED: [&str; 3] = ["claim.", "cookie.", "header."];

/// Tells of the account that this query describes.
pub(super) fn consumption(quotas: &[QuotaHandle], name: &str, query: &str) -> Telling {
    let asked = match quotas.iter().find(|quota| quota.quota().name() == name) {
        None => Err((StatusCode::NOT_FOUND, "no rule has a quota of this name".to_owned())),
        Some(quota) => {
            match Described::of(query).and_then(|described| described.account(quota.quota().key())) {
                Ok(mut account) => Ok(quota.consumption(&account.head())),
                Err(why) => Err((StatusCode::BAD_REQUEST, why)),
            }
        }
    };
    let name = name.to_owned();
    Box::pin(async move {
        match asked?.await {
            Ok(read) => Ok(text(&name, &read)),
            Err(outage) => Err((StatusCode::SERVICE_UNAVAILABLE, outage.to_string())),
        }
    })
}

fn text(name: &str, read: &Consumption) -> String {
    let told = json!({
        "quota": name,
        "used": read.used,
        // Nothing where there is no bound.
        "allowance": read.allowance.units(),
        "remaining": read.remaining(),
        "start": format_utc(read.start),
        "end": format_utc(read.end),
    });
    format!("{told:#}\n")
}

/// What a query says, each word once.
struct Described(BTreeMap<String, String>);

impl Described {
    fn of(query: &str) -> Result<Self, String> {
        let mut said = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (word, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (word, value) = (decoded(word)?, decoded(value)?);
            let named = |prefix: &&str| word.len() > prefix.len() && word.starts_with(prefix);
            if !WORDS.contains(&&*word) && !NAMED.iter().any(named) {
                return Err(format!("expected {}, claim.NAME, cookie.NAME or header.NAME", WORDS.join(", ")));
            }
            if said.insert(word.clone(), value).is_some() {
                return Err(format!("{word} is said twice"));
            }
        }
        Ok(Self(said))
    }

    fn says(&self, word: &str) -> Option<&str> {
        self.0.get(word).map(String::as_str)
    }

    /// What is said of things with names.
    fn named(&self, prefix: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(move |(word, value)| Some((word.strip_prefix(prefix)?, &**value)))
    }

    /// The account, if all is said by which this key tells accounts apart.
    fn account(&self, key: &Key) -> Result<Account, String> {
        for part in key.parts() {
            let word: Cow<'_, str> = match part {
                Key::ClientAddr => "address".into(),
                Key::Principal => "provider".into(),
                Key::Claim(name) => format!("claim.{name}").into(),
                Key::Header(name) => format!("header.{name}").into(),
                Key::Cookie(name) => format!("cookie.{name}").into(),
                Key::Route => "route".into(),
                Key::Tuple(_) => continue,
            };
            if self.says(&word).is_none() {
                return Err(format!("it counts by {word}, which is not said"));
            }
        }
        let mut account = Account::new();
        if let Some(address) = self.says("address") {
            let address: IpAddr = address.parse().map_err(|_| "address is no IP address".to_owned())?;
            account = account.address(address);
        }
        if let Some(principal) = self.principal()? {
            account = account.principal(principal);
        }
        if let Some(route) = self.says("route") {
            account = account.route(route);
        }
        let cookies = self.named("cookie.").map(|(name, value)| (Ok(COOKIE), format!("{name}={value}")));
        let headers =
            self.named("header.").map(|(name, value)| (HeaderName::try_from(name), value.to_owned()));
        for (name, value) in headers.chain(cookies) {
            let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) else {
                return Err("a header or cookie cannot be so".to_owned());
            };
            account = account.header(name, value);
        }
        Ok(account)
    }

    fn principal(&self) -> Result<Option<Principal>, String> {
        let claims: BTreeMap<_, _> =
            self.named("claim.").map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (provider, subject) = match (self.says("provider"), self.says("subject")) {
            (Some(provider), Some(subject)) => (provider, subject),
            // A claim alone is vouched for by a provider, whoever has it.
            (Some(provider), None) if !claims.is_empty() => (provider, ""),
            (None, None) if claims.is_empty() && self.says("issuer").or(self.says("plan")).is_none() => {
                return Ok(None);
            }
            _ => return Err("a caller is a provider and a subject, or a provider and a claim".to_owned()),
        };
        let principal = Principal::new(provider, self.says("issuer").unwrap_or_default(), subject);
        let principal = principal.with_claims(Arc::new(Claims(claims)));
        Ok(Some(match self.says("plan") {
            Some(plan) => principal.with_plan(plan),
            None => principal,
        }))
    }
}

struct Claims(BTreeMap<String, String>);

impl ClaimLookup for Claims {
    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(|value| value.into())
    }

    fn any_claim(&self, name: &str, found: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get(name).is_some_and(|value| found(value))
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8();
    text.map(Cow::into_owned).map_err(|_| "the query is not UTF-8".to_owned())
}
