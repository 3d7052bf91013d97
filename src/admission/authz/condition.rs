use super::{
    Facts,
    attribute::{Attribute, Seen, Value},
};

/// One condition: an attribute has one of these values, or none of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) attribute: Attribute,
    pub(super) values: Box<[Value]>,
    pub(super) negated: bool,
}

impl Condition {
    /// Whether it holds. What cannot be known for certain is decided against the caller: with `doubt` set, as for a
    /// refusal, it holds, else it does not. That is so for what a connection lacks because it is no request, and where
    /// one of several lines of a header fits and another does not.
    ///
    /// An attribute that a request just does not have has none of the values.
    pub(super) fn holds(&self, facts: &Facts<'_>, doubt: bool) -> bool {
        if self.attribute.is_unknowable(facts) {
            return doubt;
        }
        let fits = |seen: Seen<'_>| self.values.iter().any(|value| value.matches(seen));
        if !self.attribute.is_ambiguous_if_repeated() {
            return self.attribute.any(facts, &mut |seen| fits(seen)) != self.negated;
        }
        let mut is_absent = true;
        let is_settled = self.attribute.any(facts, &mut |seen| {
            is_absent = false;
            (fits(seen) != self.negated) == doubt
        });
        if is_absent { self.negated } else { is_settled == doubt }
    }

    /// Whether `other` rules out all that this lets in.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        let excluded = |value: &Value| match value {
            Value::Text(pattern) => pattern.as_exact().is_some_and(|text| {
                other
                    .values
                    .iter()
                    .any(|value| matches!(value, Value::Text(not) if not.matches(text.as_bytes())))
            }),
            value => other.values.contains(value),
        };
        self.attribute == other.attribute
            && !self.negated
            && other.negated
            && self.values.iter().all(excluded)
    }
}
