//! What the user chooses: by what requests are split, and who is told.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Share, Split};
use crate::{attempt::Pinned, chance::Chance, head::Head, key::Key, trail::Trail};

/// By what requests are split, and who is told which variant was chosen.
#[derive(Clone, Debug)]
pub struct Policy {
    draw: Draw,
    client: Option<HeaderName>,
    upstream: Option<HeaderName>,
}

#[derive(Clone, Debug)]
enum Draw {
    Random(Chance),
    Sticky(Key, Arc<str>),
}

impl Policy {
    /// Each request by itself.
    #[must_use]
    pub const fn random(chance: Chance) -> Self {
        Self { draw: Draw::Random(chance), client: None, upstream: None }
    }

    /// The same key always gets the same variant. What a request lacks of the key is made up by the client's
    /// address, as [`Key`] says.
    ///
    /// `salt` is the name of the experiment, of the rule say: under another name the same keys are dealt anew.
    #[must_use]
    pub fn sticky(key: Key, salt: impl Into<Arc<str>>) -> Self {
        Self { draw: Draw::Sticky(key, salt.into()), client: None, upstream: None }
    }

    /// Sets this header of the response to the name of the variant.
    #[must_use]
    pub fn tell_client(self, header: HeaderName) -> Self {
        Self { client: Some(header), ..self }
    }

    /// Sets this header of the request to the name of the variant, whatever the caller has sent.
    #[must_use]
    pub fn tell_upstream(self, header: HeaderName) -> Self {
        Self { upstream: Some(header), ..self }
    }

    /// The variant that a request gets: the one to which it is [`Pinned`], if there is that. Tells the upstream and, if there are several, the [`Trail`] of the request.
    pub fn choose<'s, T>(&self, split: &'s Split<T>, head: &mut Head<'_>) -> &'s Share<T> {
        let pinned = head.extensions().get().and_then(|Pinned(to)| split.pinned(to));
        let draw = || match &self.draw {
            Draw::Random(chance) => chance.next(),
            Draw::Sticky(key, salt) => key.stable_hash(head, salt),
        };
        let variant = pinned.unwrap_or_else(|| split.pick(draw()));
        if let (Some(trail), Some(label)) = (head.extensions().get::<Trail>(), split.label(variant)) {
            trail.set_variant(label);
        }
        if let Some(header) = &self.upstream {
            head.headers_mut().insert(header.clone(), variant.header_value().clone());
        }
        variant
    }

    /// Tells the client, in the headers of the response.
    pub fn tell<T>(&self, variant: &Share<T>, headers: &mut HeaderMap) {
        if let Some((header, value)) = self.told(variant) {
            headers.insert(header, value);
        }
    }

    pub(super) fn told<T>(&self, variant: &Share<T>) -> Option<(HeaderName, HeaderValue)> {
        self.client.clone().map(|header| (header, variant.header_value().clone()))
    }
}
