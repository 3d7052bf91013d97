use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{identity::Principal, reject::escape_json, sharded::Sharded};

const SHARDS: usize = 16;
/// The most bytes of a name that is written: subjects come from tokens.
const LONGEST: usize = 1024;

/// What has been used since the last batch was sealed, by who, where and how it ended.
#[derive(Debug)]
pub(super) struct Ledger {
    shards: Sharded<HashMap<Principal, Vec<Entry>>>,
    hasher: RandomState,
    entries: AtomicUsize,
    most: usize,
}

/// How requests ended: who was to blame, and our reason if we refused or failed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) outcome: &'static str,
    pub(super) reason: Option<&'static str>,
}

/// What requests of one kind have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) units: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    route: Box<str>,
    plan: Option<Box<str>>,
    ending: Ending,
    totals: Totals,
}

/// An entry of a batch that is sealed.
#[derive(Debug)]
pub(super) struct Line {
    principal: Principal,
    entry: Entry,
}

impl Ledger {
    pub(super) fn new(most: usize) -> Self {
        let (shards, entries) = (Sharded::new(SHARDS), AtomicUsize::new(0));
        Self { shards, hasher: RandomState::new(), entries, most }
    }

    /// Adds what a request has used. `false` if there was no room for another kind, so that it counts for nobody.
    pub(super) fn add(&self, principal: &Principal, route: &str, ending: Ending, used: Totals) -> bool {
        if self.add_to(principal, route, ending, used, self.most) {
            return true;
        }
        // A few more: the outcomes of what is known of nobody and nowhere.
        self.add_to(&Principal::new(OTHER, "", ""), OTHER, ending, used, usize::MAX);
        false
    }

    fn add_to(&self, principal: &Principal, route: &str, ending: Ending, used: Totals, most: usize) -> bool {
        let mut shard = self.shards.of(self.hasher.hash_one(principal));
        let known = shard.get_mut(principal);
        let entry =
            known.and_then(|own| own.iter_mut().find(|entry| entry.is(principal.plan(), route, ending)));
        if let Some(entry) = entry {
            entry.totals.add(used);
            return true;
        }
        if self.entries.fetch_add(1, Relaxed) >= most {
            self.entries.fetch_sub(1, Relaxed);
            return false;
        }
        let plan = principal.plan().map(Into::into);
        let entry = Entry { route: route.into(), plan, ending, totals: used };
        shard.entry(principal.clone()).or_default().push(entry);
        true
    }

    /// All that was used, and begins anew.
    pub(super) fn take(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for mut shard in self.shards.iter() {
            let taken = std::mem::take(&mut *shard);
            drop(shard);
            let count = taken.values().map(Vec::len).sum();
            self.entries.fetch_sub(count, Relaxed);
            for (principal, entries) in taken {
                lines.extend(entries.into_iter().map(|entry| Line { principal: principal.clone(), entry }));
            }
        }
        lines
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.load(Relaxed) == 0
    }
}

/// As a provider and a route: there was no room for another.
const OTHER: &str = "_other";

impl Entry {
    fn is(&self, plan: Option<&str>, route: &str, ending: Ending) -> bool {
        *self.route == *route && self.ending == ending && self.plan.as_deref() == plan
    }
}

impl Totals {
    pub(super) const fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.units = self.units.saturating_add(other.units);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Line {
    pub(super) const fn totals(&self) -> Totals {
        self.entry.totals
    }

    /// The event as a JSON object on one line. `of_batch` are members that are the same for the whole batch.
    pub(super) fn write(&self, id: &str, of_batch: &str, json: &mut String) {
        let Self { principal, entry: Entry { route, plan, ending, totals } } = self;
        // A String takes everything.
        let _ = write!(json, "{{\"id\":\"{id}\",{of_batch}");
        let names = [
            ("provider", Some(principal.provider())),
            ("issuer", Some(principal.issuer())),
            ("subject", Some(principal.subject())),
            ("plan", plan.as_deref()),
            ("route", Some(&**route)),
            ("outcome", Some(ending.outcome)),
            ("reason", ending.reason),
        ];
        for (name, text) in names {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                let _ = write!(json, ",\"{name}\":\"");
                escape_json(cut(text), json);
                json.push('"');
            }
        }
        let Totals { requests, units, bytes } = totals;
        let _ = write!(json, ",\"requests\":{requests},\"units\":{units},\"bytes\":{bytes}}}");
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
    end.filter(|end| *end < text.len()).map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Ending = Ending { outcome: "success", reason: None };
    const ONE: Totals = Totals { requests: 1, units: 2, bytes: 3 };

    fn who(subject: &str) -> Principal {
        Principal::new("keys", "", subject)
    }

    #[test]
    fn requests_of_one_kind_are_one_line() {
        let ledger = Ledger::new(10);
        let refused = Ending { outcome: "caller_fault", reason: Some("rate_limited") };
        for (subject, route, ending) in
            [("a", "r", WELL), ("a", "r", WELL), ("a", "s", WELL), ("a", "r", refused), ("b", "r", WELL)]
        {
            assert!(ledger.add(&who(subject), route, ending, ONE));
        }
        assert!(ledger.add(&who("a").with_plan("gold"), "r", WELL, ONE), "a plan is changed at once");
        let lines = ledger.take();
        let mut counts: Vec<_> = lines.iter().map(|line| line.totals().requests).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 1, 1, 2]);
        assert!(ledger.take().is_empty());
    }

    #[test]
    fn what_finds_no_room_is_still_counted() {
        let ledger = Ledger::new(2);
        let kept = (0..100).filter(|n| ledger.add(&who(&n.to_string()), "r", WELL, ONE)).count();
        assert_eq!(kept, 2);
        let lines = ledger.take();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines.iter().map(|line| line.totals().requests).sum::<u64>(), 100);
        let other = lines.iter().find(|line| line.principal.provider() == OTHER).unwrap();
        assert_eq!((other.totals().requests, &*other.entry.route), (98, OTHER));
        assert!(ledger.add(&who("c"), "r", WELL, ONE), "a new batch has room again");
    }

    #[test]
    fn whatever_a_name_holds_a_line_is_a_line() {
        let ledger = Ledger::new(2);
        let subject = format!("a\"\n\\\u{1}ß{}", "x".repeat(5_000));
        ledger.add(&who(&subject).with_plan("gold"), "shop/0", WELL, ONE);
        let mut json = String::new();
        ledger.take()[0].write("i-1-0", "\"from\":\"f\"", &mut json);
        assert!(!json.contains('\n') && json.len() < 2_000);
        assert!(
            json.starts_with(r#"{"id":"i-1-0","from":"f","provider":"keys","subject":"a\"\u000a\\\u0001ß"#),
            "{json}"
        );
        assert!(
            json.ends_with(
                r#"x","plan":"gold","route":"shop/0","outcome":"success","requests":1,"units":2,"bytes":3}"#
            ),
            "{json}"
        );
    }
}
