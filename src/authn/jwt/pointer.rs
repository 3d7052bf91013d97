use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::json::Text;

/// Where in a token's claims a value stands: the name of a claim (`sub`, `https://shop.example/tier`), or a JSON
/// pointer (RFC 6901) where it begins with `/` (`/realm_access/roles`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointer(Box<str>);

impl Pointer {
    /// The claim's name, if it is a claim itself and nothing in it.
    pub(super) fn claim(&self) -> Option<&str> {
        (!self.0.starts_with('/')).then_some(&self.0)
    }

    pub(super) fn find<'de, T: Deserialize<'de>>(&self, json: &'de [u8]) -> serde_json::Result<Option<T>> {
        find(&self.0, json)
    }

    pub(super) fn text<'de>(&self, json: &'de [u8]) -> Option<Cow<'de, str>> {
        text_at(&self.0, json)
    }
}

impl From<&str> for Pointer {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value at `pointer` in `json`, if there is one. All others are skipped, and nothing of them is kept.
pub(super) fn find<'de, T: Deserialize<'de>>(
    pointer: &str,
    json: &'de [u8],
) -> serde_json::Result<Option<T>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Descend { path: Path::of(pointer), value: PhantomData }.deserialize(&mut deserializer)
}

/// The string, whole number or boolean at `pointer`, as text.
pub(in crate::authn) fn text_at<'de>(pointer: &str, json: &'de [u8]) -> Option<Cow<'de, str>> {
    find::<Scalar<'_>>(pointer, json).ok()??.0
}

/// Whether `found` says `true` to the text at `pointer`, or to one in the list there.
pub(super) fn any_text(pointer: &str, json: &[u8], found: &mut dyn FnMut(&str) -> bool) -> bool {
    if let Some(text) = text_at(pointer, json) {
        return found(&text);
    }
    let list = find::<Vec<Scalar<'_>>>(pointer, json).ok().flatten().unwrap_or_default();
    list.iter().any(|Scalar(text)| text.as_deref().is_some_and(&mut *found))
}

/// What is left of the way.
#[derive(Clone, Copy)]
enum Path<'p> {
    /// A claim of this name.
    Claim(&'p str),
    /// Steps, each after a `/`.
    Steps(&'p str),
}

impl<'p> Path<'p> {
    fn of(pointer: &'p str) -> Self {
        if pointer.starts_with('/') { Path::Steps(pointer) } else { Path::Claim(pointer) }
    }

    fn is_end(self) -> bool {
        matches!(self, Path::Steps(""))
    }

    /// The next step, and what comes after it.
    fn step(self) -> (&'p str, Self) {
        match self {
            Path::Claim(name) => (name, Path::Steps("")),
            Path::Steps(steps) => {
                let steps = &steps[1..];
                let (step, rest) = steps.split_at(steps.find('/').unwrap_or(steps.len()));
                (step, Path::Steps(rest))
            }
        }
    }

    /// Whether the next step is into the member `name`. `~1` is `/` and `~0` is `~` in a pointer.
    fn leads_to(self, name: &str) -> bool {
        let (step, _) = self.step();
        match self {
            Path::Steps(_) if step.contains('~') => step.replace("~1", "/").replace("~0", "~") == name,
            _ => step == name,
        }
    }
}

struct Descend<'p, T> {
    path: Path<'p>,
    value: PhantomData<T>,
}

impl<T> Descend<'_, T> {
    fn deeper(&self) -> Self {
        Self { path: self.path.step().1, value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Descend<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.path.is_end() {
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
            if self.path.leads_to(&name) {
                // The last one of a repeated name, as most readers of JSON have it.
                found = map.next_value_seed(self.deeper())?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
        let Ok(wanted) = self.path.step().0.parse::<usize>() else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        for _ in 0..wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = list.next_element_seed(self.deeper())?.flatten();
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
struct Scalar<'de>(Option<Cow<'de, str>>);

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
