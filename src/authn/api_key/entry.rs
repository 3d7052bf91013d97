use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{
    KeyHash, KeyTableError, Pepper,
    text::{self, Id},
};
use crate::time::date;

/// What is kept of a key: whom it was given to, what it may do, from when until when, and the hash by which it is known
/// again. The key itself is not in it.
///
/// It is read and written in camelCase; unknown fields are errors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[must_use]
pub struct KeyEntry {
    id: String,
    hash: KeyHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    owner: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<Timestamp>,
}

/// A moment in UTC, written as in RFC 3339: `2027-02-19T08:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Timestamp(pub(super) SystemTime);

/// The text is not of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidText {
    pub(super) expected: &'static str,
}

/// What a key is good for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// It is valid.
    Active,
    /// It has ended.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// It was taken back.
    Revoked,
}

impl KeyState {
    /// The state of a key with these times.
    pub(super) fn at(
        now: SystemTime,
        revoked: Option<SystemTime>,
        not_before: Option<SystemTime>,
        expires: Option<SystemTime>,
    ) -> Self {
        match () {
            // From the moment on that it is known: the clock of whoever took it back may be ahead of ours.
            () if revoked.is_some() => Self::Revoked,
            () if expires.is_some_and(|end| now >= end) => Self::Expired,
            () if not_before.is_some_and(|begin| now < begin) => Self::NotYet,
            () => Self::Active,
        }
    }

    /// One word for it, in lower case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::NotYet => "not yet",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyEntry {
    /// The entry of a key with this public part and this hash.
    pub fn new(id: impl Into<String>, hash: KeyHash, owner: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            hash,
            prefix: None,
            owner: owner.into(),
            scopes: Vec::new(),
            roles: Vec::new(),
            plan: None,
            notes: None,
            created: None,
            not_before: None,
            expires: None,
            revoked: None,
            last_used: None,
        }
    }

    /// Sets the scopes.
    pub fn scopes<T: Into<String>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the roles.
    pub fn roles<T: Into<String>>(mut self, roles: impl IntoIterator<Item = T>) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the plan, by whose name limits can be chosen.
    pub fn plan(mut self, plan: impl Into<String>) -> Self {
        self.plan = Some(plan.into());
        self
    }

    /// Sets what people want to remember of the key: a ticket, a contact.
    pub fn notes(mut self, notes: impl Into<String>) -> Self {
        self.notes = Some(notes.into());
        self
    }

    /// Sets when the key was made; whole seconds count, here and in the others.
    pub fn created(mut self, at: SystemTime) -> Self {
        self.created = Some(Timestamp::whole(at));
        self
    }

    /// Sets when the key begins to be valid. It is from the first unless told.
    pub fn not_before(mut self, at: SystemTime) -> Self {
        self.not_before = Some(Timestamp::whole(at));
        self
    }

    /// Sets when the key ends. It never does unless told.
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(Timestamp::whole(at));
        self
    }

    /// Takes the key back. It stays in the list, so that nobody wonders where it went, and is refused.
    pub fn revoked(mut self, at: SystemTime) -> Self {
        self.revoked.get_or_insert(Timestamp::whole(at));
        self
    }

    /// Sets when the key was last seen, to about a minute.
    pub fn last_used(mut self, at: SystemTime) -> Self {
        self.last_used = self.last_used.max(Some(Timestamp::whole(at)));
        self
    }

    /// What is kept where uses are kept apart.
    #[cfg(any(feature = "config", feature = "redis"))]
    pub(crate) fn without_use(&self) -> Self {
        Self { last_used: None, ..self.clone() }
    }

    /// Puts the hash under a pepper, unless it is under one.
    pub fn peppered(mut self, pepper: &Pepper) -> Self {
        if let Some(hash) = self.hash.with_pepper(pepper) {
            self.hash = hash;
        }
        self
    }

    /// Sets what the key begins with, so that the next one can begin with the same.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The same owner, scopes, roles, plan and notes, for another key.
    pub(super) fn inherit(self, from: &Self) -> Self {
        let Self { owner, scopes, roles, plan, notes, .. } = from.clone();
        Self { owner, scopes, roles, plan, notes, ..self }
    }

    /// Ends the key at this moment, unless it ends before.
    pub(super) fn ending(self, at: SystemTime) -> Self {
        let end = self.end().map_or(at, |end| end.min(at));
        self.expires(end)
    }

    /// What is wrong with it whatever table it is in.
    pub(super) fn check(&self) -> Result<Id, KeyTableError> {
        let id = text::to_id(&self.id).ok_or_else(|| KeyTableError::Id(self.id.as_str().into()))?;
        match self.owner.trim().is_empty() {
            true => Err(KeyTableError::Owner(self.id.as_str().into())),
            false => Ok(id),
        }
    }

    /// The public part of the key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whom the key was given to.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The hash of the key.
    #[must_use]
    pub fn hash(&self) -> &KeyHash {
        &self.hash
    }

    /// What the key may do.
    #[must_use]
    pub fn scope_list(&self) -> &[String] {
        &self.scopes
    }

    /// What its owner is.
    #[must_use]
    pub fn role_list(&self) -> &[String] {
        &self.roles
    }

    /// The plan.
    #[must_use]
    pub fn plan_name(&self) -> Option<&str> {
        self.plan.as_deref()
    }

    /// What the key begins with, if that is known.
    #[must_use]
    pub fn prefix_text(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// What people want to remember of it.
    #[must_use]
    pub fn note_text(&self) -> Option<&str> {
        self.notes.as_deref()
    }

    /// When the key was made, if that is known.
    #[must_use]
    pub fn creation(&self) -> Option<SystemTime> {
        self.created.map(|at| at.0)
    }

    /// When the key begins to be valid, if it is not from the first.
    #[must_use]
    pub fn begin(&self) -> Option<SystemTime> {
        self.not_before.map(|at| at.0)
    }

    /// When the key ends, if it does.
    #[must_use]
    pub fn end(&self) -> Option<SystemTime> {
        self.expires.map(|at| at.0)
    }

    /// When the key was taken back, if it was.
    #[must_use]
    pub fn revocation(&self) -> Option<SystemTime> {
        self.revoked.map(|at| at.0)
    }

    /// When the key was last seen, to about a minute, if it ever was.
    #[must_use]
    pub fn last_use(&self) -> Option<SystemTime> {
        self.last_used.map(|at| at.0)
    }

    /// What the key is good for at this moment.
    #[must_use]
    pub fn state(&self, now: SystemTime) -> KeyState {
        KeyState::at(now, self.revocation(), self.begin(), self.end())
    }

    /// The entry as an item of a key file's list, with a line end.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut yaml = format!("- id: {}\n  hash: {}\n", quoted(&self.id), quoted(&self.hash.to_string()));
        let mut field = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(yaml, "  {name}: {value}");
        };
        if let Some(prefix) = &self.prefix {
            field("prefix", quoted(prefix));
        }
        field("owner", quoted(&self.owner));
        for (name, list) in [("scopes", &self.scopes), ("roles", &self.roles)] {
            if !list.is_empty() {
                let items: Vec<String> = list.iter().map(|item| quoted(item)).collect();
                field(name, format!("[{}]", items.join(", ")));
            }
        }
        for (name, text) in [("plan", &self.plan), ("notes", &self.notes)] {
            if let Some(text) = text {
                field(name, quoted(text));
            }
        }
        for (name, at) in [
            ("created", self.created),
            ("notBefore", self.not_before),
            ("expires", self.expires),
            ("revoked", self.revoked),
            ("lastUsed", self.last_used),
        ] {
            if let Some(at) = at {
                field(name, quoted(&at.to_string()));
            }
        }
        yaml
    }
}

/// A double-quoted YAML scalar, which can hold any text on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

impl Timestamp {
    /// Without what no text tells: parts of a second, and what is after the year 9999.
    fn whole(at: SystemTime) -> Self {
        Self(date::from_seconds(date::seconds(at)))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        date::parse_utc(&text)
            .map(Self)
            .ok_or(InvalidText { expected: "a UTC time such as 2027-02-19T08:00:00Z" })
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&date::format_utc(self.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
