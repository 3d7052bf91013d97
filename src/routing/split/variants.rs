//! What is split: named variants with their weights.

use std::{fmt, sync::Arc};

use http::HeaderValue;

use super::{Policy, SplitService, circle::Circle};
use crate::{attempt, routing::canary::Canary};

/// Why variants make no split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSplit {
    /// Two variants have this name.
    #[error("two variants are called {0:?}")]
    Duplicate(Box<str>),
    /// This name is empty, or has other than visible ASCII characters.
    #[error("{0:?} is no name of a variant: 1 to 128 visible ASCII characters are")]
    Name(Box<str>),
    /// A canary is between two variants, and there are others, or one alone.
    #[error("a canary is between two variants")]
    NotTwo,
    /// The weights sum up to zero, or there are no variants.
    #[error("the weights sum up to zero")]
    NoWeight,
}

/// One of the versions that requests are split between, with its share.
#[derive(Clone)]
pub struct Share<T> {
    name: attempt::Variant,
    header: HeaderValue,
    weight: u32,
    value: T,
}

impl<T> Share<T> {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// What it is called, as logs and metrics are told.
    #[must_use]
    pub const fn label(&self) -> &attempt::Variant {
        &self.name
    }

    /// What it is called, as the value of a header.
    #[must_use]
    pub const fn header_value(&self) -> &HeaderValue {
        &self.header
    }

    /// Its weight.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// What it is.
    #[must_use]
    pub const fn value(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Share<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("name", &self.name())
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// Gathers variants, in order: the first is the base. See [`Split::builder`].
#[derive(Clone)]
pub struct SplitBuilder<T> {
    variants: Vec<(Arc<str>, u32, T)>,
}

impl<T> fmt::Debug for SplitBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights = self.variants.iter().map(|(name, weight, _)| (name, weight));
        f.debug_map().entries(weights).finish()
    }
}

impl<T> SplitBuilder<T> {
    /// Adds a variant. Its share is its weight divided by the sum of all weights; 0 keeps only its place.
    #[must_use]
    pub fn variant(mut self, name: impl Into<Arc<str>>, weight: u32, value: T) -> Self {
        self.variants.push((name.into(), weight, value));
        self
    }

    /// Gives each its place.
    ///
    /// # Errors
    ///
    /// If the weights sum up to zero, or a name is taken or is none.
    pub fn build(self) -> Result<Split<T>, InvalidSplit> {
        let weights: Vec<u32> = self.variants.iter().map(|(_, weight, _)| *weight).collect();
        let circle = Circle::new(&weights).ok_or(InvalidSplit::NoWeight)?;
        let mut variants: Vec<Share<T>> = Vec::with_capacity(weights.len());
        for (name, weight, value) in self.variants {
            let is_name = (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
            let header = HeaderValue::from_str(&name).ok().filter(|_| is_name);
            let header = header.ok_or_else(|| InvalidSplit::Name((*name).into()))?;
            if variants.iter().any(|known| known.name() == &*name) {
                return Err(InvalidSplit::Duplicate((*name).into()));
            }
            variants.push(Share { name: attempt::Variant(name), header, weight, value });
        }
        Ok(Split { circle, variants: variants.into(), steered: None })
    }
}

/// Variants, each with its share. See the [module docs](super).
#[derive(Clone)]
pub struct Split<T> {
    circle: Circle,
    variants: Box<[Share<T>]>,
    /// Says who has what of the circle, in the place of the weights.
    steered: Option<Canary>,
}

impl<T> fmt::Debug for Split<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.variants).finish()
    }
}

impl<T> Split<T> {
    /// Gathers the variants of a split.
    #[must_use]
    pub const fn builder() -> SplitBuilder<T> {
        SplitBuilder { variants: Vec::new() }
    }

    /// The variant at this point of the circle: the same for ever for the same weights in the same order. With a
    /// [canary](crate::routing::canary), the one that has it now.
    ///
    /// Where `hash` is even over all `u64`, each variant gets its share.
    #[must_use]
    pub fn pick(&self, hash: u64) -> &Share<T> {
        let owner = match &self.steered {
            None => self.circle.owner(hash),
            Some(canary) => usize::from(canary.is_new(hash)),
        };
        &self.variants[owner]
    }

    /// The variant of this name, whatever its weight, unless a canary says who goes where.
    pub(super) fn pinned(&self, to: &attempt::Variant) -> Option<&Share<T>> {
        self.variants.iter().find(|variant| self.steered.is_none() && variant.name == *to)
    }

    /// What logs and metrics are told of this choice: nothing, where there was none.
    pub(super) fn label(&self, variant: &Share<T>) -> Option<attempt::Variant> {
        (self.variants.len() > 1).then(|| variant.label().clone())
    }

    /// The variants, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Share<T>> {
        self.variants.iter()
    }

    /// The same split of other things.
    #[must_use]
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Split<U> {
        let variants = self.variants.iter().map(|variant| Share {
            name: variant.name.clone(),
            header: variant.header.clone(),
            weight: variant.weight,
            value: change(&variant.value),
        });
        Split { circle: self.circle.clone(), variants: variants.collect(), steered: self.steered.clone() }
    }

    /// The same, divided as `canary` says.
    pub(in crate::routing) fn steered(&self, canary: Canary) -> Result<Self, InvalidSplit>
    where
        T: Clone,
    {
        if self.variants.len() != 2 {
            return Err(InvalidSplit::NotTwo);
        }
        Ok(Self { steered: Some(canary), ..self.clone() })
    }

    /// A service that hands each request to one of these.
    #[must_use]
    pub fn into_service(self, policy: Policy) -> SplitService<T> {
        SplitService::new(self, policy)
    }
}
