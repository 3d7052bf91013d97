//! Reading JSON objects of strangers: no member twice, no wrong type, no copy.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

/// The most members of one object.
pub(in crate::authn) const MAX_MEMBERS: usize = 128;

/// Takes the members of an object one by one.
pub(in crate::authn) trait Members<'de> {
    /// The member `name`, whose value must be taken from `map`.
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Gives the members of the object in `json` to `members`. A name that stands twice is an error: two readers of
/// such an object may see two values (RFC 7519 section 4). So is what is no UTF-8 (section 7.2), which the parser alone
/// does not see in strings that it skips.
pub(in crate::authn) fn read<'de>(
    json: &'de [u8],
    members: &mut impl Members<'de>,
) -> serde_json::Result<()> {
    let json = std::str::from_utf8(json).map_err(Error::custom)?;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(Object(members))?;
    deserializer.end()
}

struct Object<'m, M>(&'m mut M);

impl<'de, M: Members<'de>> Visitor<'de> for Object<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(Text(name)) = map.next_key()? {
            seen.insert(&name)?;
            self.0.member(&name, &mut map)?;
        }
        Ok(())
    }
}

/// The names seen in an object, by a print of 64 bits. Equal names have equal prints, so that no repetition is missed;
/// different names with one print only refuse a document that somebody made up for this.
#[derive(Default)]
pub(in crate::authn) struct Seen {
    few: [u64; Self::FEW],
    many: Vec<u64>,
    len: usize,
}

impl Seen {
    const FEW: usize = 24;

    /// # Errors
    /// The name stands twice, or there are too many.
    pub(in crate::authn) fn insert<E: Error>(&mut self, name: &str) -> Result<(), E> {
        let print = print(name.as_bytes());
        let few = &self.few[..self.len.min(Self::FEW)];
        if self.len == MAX_MEMBERS || few.contains(&print) || self.many.contains(&print) {
            return Err(E::custom("a member stands twice, or there are too many"));
        }
        match self.few.get_mut(self.len) {
            Some(place) => *place = print,
            None => self.many.push(print),
        }
        self.len += 1;
        Ok(())
    }
}

/// A folded product of words of eight bytes, and of how many bytes there are.
fn print(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
        (product >> 64) as u64 ^ product as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| fold(hash, u64::from_le_bytes(*word)));
    fold(hash, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// A string, borrowed where it has no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authn) struct Text<'de>(pub(in crate::authn) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// Seconds since 1970 (RFC 7519 section 2), fractions allowed, from 0 to the year 9999. Larger numbers are
/// milliseconds by mistake, or worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::authn) struct NumericDate(pub(in crate::authn) f64);

impl NumericDate {
    /// The last whole second that is not after it.
    pub(in crate::authn) fn floor(self) -> SystemTime {
        // The date is checked to be in range, so nothing is cut off but the fraction.
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0 as u64)
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const YEAR_10000: f64 = 253_402_300_800.0;

        let seconds = f64::deserialize(deserializer)?;
        if (0.0..YEAR_10000).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(D::Error::custom("a date out of range"))
        }
    }
}

/// One string, or a list of nothing but strings, each given to the closure.
pub(in crate::authn) struct EachText<F>(pub(in crate::authn) F);

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for EachText<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str)> Visitor<'de> for EachText<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(Text(text)) = list.next_element()? {
            (self.0)(&text);
        }
        Ok(())
    }
}

/// A value of which nothing is kept. No object in it has a member twice, and it is no deeper than the parser allows
/// (128).
pub(in crate::authn) struct Skipped {
    /// Whether it is null, or has nothing in it.
    pub(in crate::authn) is_empty: bool,
}

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SkippedVisitor;

        const FULL: Skipped = Skipped { is_empty: false };

        impl<'de> Visitor<'de> for SkippedVisitor {
            type Value = Skipped;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Skipped, E> {
                Ok(Skipped { is_empty: true })
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Skipped, E> {
                Ok(FULL)
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Skipped, E> {
                Ok(FULL)
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Skipped, E> {
                Ok(FULL)
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Skipped, E> {
                Ok(FULL)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Skipped, E> {
                Ok(Skipped { is_empty: text.is_empty() })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Skipped, A::Error> {
                let mut is_empty = true;
                while list.next_element::<Skipped>()?.is_some() {
                    is_empty = false;
                }
                Ok(Skipped { is_empty })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Skipped, A::Error> {
                let mut seen = Seen::default();
                while let Some(Text(name)) = map.next_key()? {
                    seen.insert(&name)?;
                    map.next_value::<Skipped>()?;
                }
                Ok(Skipped { is_empty: seen.len == 0 })
            }
        }

        deserializer.deserialize_any(SkippedVisitor)
    }
}
