use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::json::Text;

/// Where in a token's claims a value stands: the name of a claim (`sub`, `https://shop.example/tier`), or a JSON
/// pointer (RFC 6901) where it begins with `/` (`/realm_access/roles`).
///
/// ```
/// use portcullis::authn::jwt::Pointer;
///
/// assert_eq!(Pointer::from("/realm_access/roles").to_string(), "/realm_access/roles");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointer(Vec<Box<str>>);

impl Pointer {
    /// The value that stands here in `json`, if there is one. Other values are skipped and not kept.
    pub(super) fn find<'de, T: Deserialize<'de>>(&self, json: &'de [u8]) -> serde_json::Result<Option<T>> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Descend { path: &self.0, value: PhantomData }.deserialize(&mut deserializer)
    }

    /// The claim's name, if it is a claim itself and nothing in it.
    pub(super) fn claim(&self) -> Option<&str> {
        if let [name] = &*self.0 { Some(name) } else { None }
    }
}

impl From<&str> for Pointer {
    fn from(text: &str) -> Self {
        match text.strip_prefix('/') {
            Some(path) => Self(path.split('/').map(unescape).collect()),
            None => Self(vec![text.into()]),
        }
    }
}

impl fmt::Display for Pointer {
    /// Always the form of a JSON pointer, except for the plain name of a claim.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [name] if !name.starts_with('/') => f.write_str(name),
            path => path.iter().try_for_each(|p| write!(f, "/{}", p.replace('~', "~0").replace('/', "~1"))),
        }
    }
}

fn unescape(step: &str) -> Box<str> {
    step.replace("~1", "/").replace("~0", "~").into()
}

struct Descend<'p, T> {
    path: &'p [Box<str>],
    value: PhantomData<T>,
}

impl<T> Descend<'_, T> {
    fn step(&self) -> Self {
        Self { path: &self.path[1..], value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Descend<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.path.is_empty() {
            T::deserialize(deserializer).map(Some)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Descend<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = map.next_key()? {
            if *name == *self.path[0] {
                // The last one of a repeated name, as most readers of JSON have it.
                found = map.next_value_seed(self.step())?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
        let wanted = self.path[0].parse().unwrap_or(usize::MAX);
        for _ in 0..wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = list.next_element_seed(self.step())?.flatten();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// A value that can stand in a header field: a string, a whole number or a boolean.
pub(super) struct Scalar<'de>(pub(super) Option<Cow<'de, str>>);

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar(Some(Cow::Borrowed(text))))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar(Some(Cow::Owned(text.to_owned()))))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar(Some(Cow::Borrowed(if value { "true" } else { "false" }))))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar(Some(Cow::Owned(value.to_string()))))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar<'de>, E> {
        Ok(Scalar(Some(Cow::Owned(value.to_string()))))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar(None))
    }
    fn visit_unit<E: Error>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar(None))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }
}
