//! The small languages inside of the file's strings: durations, rates, addresses, networks, names.
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::{
    admission::rate_limit::Rate,
    authn::api_key::{KeyEntry, KeyHash},
    identity::{SpiffeId, TrustDomain},
    ratio::Ratio,
    stack::gateway::DestinationMatch,
    time::{Calendar, parse_duration},
};

/// A type with a spelling of its own.
pub(super) trait Spelled: Sized {
    /// Its name in the schema, under `format`.
    const FORMAT: &'static str;
    /// What a message says that was expected.
    const EXPECTED: &'static str;
    fn spell(text: &str) -> Option<Self>;
}

/// A string of the file that stands for a `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: Spelled> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        T::spell(&text).map(Self).ok_or_else(|| de::Error::custom(format!("expected {}", T::EXPECTED)))
    }
}

impl<T: Spelled> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::FORMAT })
    }
}

/// How the reader checks a format.
pub(super) struct Format {
    name: &'static str,
    pub(super) expected: &'static str,
    pub(super) fits: fn(&str) -> bool,
}

const fn of<T: Spelled>() -> Format {
    Format { name: T::FORMAT, expected: T::EXPECTED, fits: |text| T::spell(text).is_some() }
}

/// The format of that name.
pub(super) fn format(name: &str) -> Option<&'static Format> {
    const FORMATS: &[Format] = &[
        of::<Duration>(),
        of::<Rate>(),
        of::<SocketAddr>(),
        of::<IpNet>(),
        of::<Ratio>(),
        of::<HeaderName>(),
        of::<HeaderValue>(),
        of::<Name>(),
        of::<KeyHash>(),
        of::<Moment>(),
        of::<Calendar>(),
        of::<SpiffeId>(),
        of::<TrustDomain>(),
        of::<DestinationMatch>(),
    ];
    FORMATS.iter().find(|format| format.name == name)
}

impl Spelled for Duration {
    const FORMAT: &'static str = "duration";
    const EXPECTED: &'static str = "a duration such as `5s`, `250ms` or `1h30m`";

    /// GEP-2257.
    fn spell(text: &str) -> Option<Self> {
        parse_duration(text).ok()
    }
}

impl Spelled for Rate {
    const FORMAT: &'static str = "rate";
    const EXPECTED: &'static str = "a rate such as `10/s`, `100/min`, `5/h` or `1000/d`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Spelled for SocketAddr {
    const FORMAT: &'static str = "socket-address";
    const EXPECTED: &'static str = "an IP address and a port such as `127.0.0.1:8080` or `[::]:8080`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Spelled for IpNet {
    const FORMAT: &'static str = "network";
    const EXPECTED: &'static str = "a network such as `10.0.0.0/8`, `fd00::/8` or `192.0.2.7`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from))
    }
}

impl Spelled for Ratio {
    const FORMAT: &'static str = "share";
    const EXPECTED: &'static str = "a share such as `5%` or `0.05`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Spelled for HeaderName {
    const FORMAT: &'static str = "header-name";
    const EXPECTED: &'static str = "the name of a header";

    fn spell(text: &str) -> Option<Self> {
        Self::try_from(text).ok()
    }
}

impl Spelled for HeaderValue {
    const FORMAT: &'static str = "header-value";
    const EXPECTED: &'static str = "the value of a header, in visible ASCII";

    fn spell(text: &str) -> Option<Self> {
        Self::try_from(text).ok().filter(|value| value.to_str().is_ok())
    }
}

/// The name of a thing of this file: letters, digits, `-`, `_` and `.`, at most 63.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) String);

impl Spelled for Name {
    const FORMAT: &'static str = "name";
    const EXPECTED: &'static str = "a name of letters, digits, `-`, `_` and `.`, at most 63 of them";

    fn spell(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        ((1..=63).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }
}

impl Spelled for KeyHash {
    const FORMAT: &'static str = "key-hash";
    const EXPECTED: &'static str =
        "`sha256:` and 64 hexadecimal digits, or `hmac-sha256:`, a pepper's name, `:` and 64 digits";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A point in time. How it is written is of the authentication room, which does not tell it but in an entry.
struct Moment;

impl Spelled for Moment {
    const FORMAT: &'static str = "moment";
    const EXPECTED: &'static str = "a moment in UTC such as `2027-02-19T08:00:00Z`";

    fn spell(text: &str) -> Option<Self> {
        let hash = KeyHash::of("").to_string();
        let entry = serde_json::json!({ "id": "", "hash": hash, "owner": "", "expires": text });
        serde_json::from_value::<KeyEntry>(entry).ok().map(|_| Self)
    }
}

impl Spelled for Calendar {
    const FORMAT: &'static str = "utc-offset";
    const EXPECTED: &'static str = "an offset from UTC such as `Z`, `+01:00` or `-09:30`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Spelled for SpiffeId {
    const FORMAT: &'static str = "spiffe-id";
    const EXPECTED: &'static str = "a SPIFFE ID such as `spiffe://shop.example/ns/shop/sa/orders`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Spelled for TrustDomain {
    const FORMAT: &'static str = "trust-domain";
    const EXPECTED: &'static str = "a trust domain such as `shop.example`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Spelled for DestinationMatch {
    const FORMAT: &'static str = "destination";
    const EXPECTED: &'static str =
        "a network or an address, with a port or without, such as `10.0.0.0/8:5432` or `[fd00::/8]:5432`";

    fn spell(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_known_to_the_reader() {
        for (name, good, bad) in [
            ("duration", "1m30s", "1.5s"),
            ("rate", "100/min", "100"),
            ("socket-address", "[::1]:80", "localhost:80"),
            ("network", "10.0.0.0/8", "10.0.0.0/33"),
            ("share", "2.5%", "101%"),
            ("header-name", "x-user", "x user"),
            ("header-value", "a b", "a\nb"),
            ("name", "per-address.v2", "per address"),
            ("moment", "2027-02-19T08:00:00Z", "tomorrow"),
            ("utc-offset", "-09:30", "CET"),
            ("spiffe-id", "spiffe://shop.example/orders", "https://shop.example/orders"),
            ("trust-domain", "shop.example", "shop example"),
            ("destination", "10.0.0.0/8:5432", "db:5432"),
        ] {
            let format = format(name).unwrap();
            assert!((format.fits)(good) && !(format.fits)(bad), "{name}");
        }
        assert!(format("uint32").is_none());
    }

    #[test]
    fn a_network_can_be_one_address() {
        assert_eq!(IpNet::spell("192.0.2.7"), "192.0.2.7/32".parse().ok());
        assert_eq!(IpNet::spell("::1"), "::1/128".parse().ok());
        assert_eq!(IpNet::spell("10.0.0.0/33"), None);
    }
}
