use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{chance::Chance, time::Span};

const SHARDS: usize = 16;
/// Of so many accounts, the one that has spent least is forgotten when there is no room.
const SAMPLE: usize = 16;

/// What each account has spent in its latest period: a bounded table.
pub(super) struct Memory {
    shards: [Mutex<Table>; SHARDS],
    /// Of each shard.
    most: usize,
    chance: Chance,
    forgotten: AtomicU64,
    /// Something was spent since the file was written.
    changed: AtomicBool,
}

#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    places: HashMap<u128, usize>,
}

/// An account's counter, of the period that begins at `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) account: u128,
    pub(super) start: i64,
    pub(super) used: u64,
}

impl Memory {
    pub(super) fn new(most: u32) -> Self {
        Self {
            shards: Default::default(),
            most: (most as usize).div_ceil(SHARDS),
            chance: Chance::new(),
            forgotten: AtomicU64::new(0),
            changed: AtomicBool::new(false),
        }
    }

    /// Spends if the allowance is enough, and tells what is spent then; else what is spent already.
    pub(super) fn spend(&self, account: u128, span: Span, most: Option<u64>, cost: u64) -> Result<u64, u64> {
        let mut table = self.table(account);
        let row = table.latest(account, span);
        let then = row.used.saturating_add(cost);
        if most.is_some_and(|most| then > most) {
            return Err(row.used);
        }
        self.put(&mut table, Row { used: then, ..row });
        Ok(then)
    }

    /// Charges, or gives back, whatever is allowed. What has been forgotten since is gone.
    pub(super) fn adjust(&self, account: u128, span: Span, by: i64) {
        let mut table = self.table(account);
        let Some(row) = table.row(account).filter(|row| row.start == span.start_seconds()) else { return };
        row.used = row.used.saturating_add_signed(by);
        self.changed.store(true, Relaxed);
    }

    pub(super) fn used(&self, account: u128, span: Span) -> u64 {
        self.table(account).latest(account, span).used
    }

    /// Forgets what this account has spent.
    pub(super) fn reset(&self, account: u128) {
        self.table(account).remove(account);
        self.changed.store(true, Relaxed);
    }

    /// How many accounts there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).rows.len()).sum()
    }

    /// How many accounts were forgotten before their period was over.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    /// All counters, if something has changed since they were last taken.
    pub(super) fn take_changes(&self) -> Option<Vec<Row>> {
        // Before the rows are read: what changes meanwhile is a change for the next time.
        let changed = self.changed.swap(false, Relaxed);
        changed.then(|| self.shards.iter().flat_map(|shard| lock(shard).rows.clone()).collect())
    }

    /// The changes that were taken are not kept anywhere: take them again.
    pub(super) fn not_kept(&self) {
        self.changed.store(true, Relaxed);
    }

    /// Takes over counters of a process before, as many as there is room for.
    pub(super) fn load(&self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.put(&mut self.table(row.account), row);
        }
    }

    fn table(&self, account: u128) -> MutexGuard<'_, Table> {
        // Accounts are digests: any of their bits will do.
        lock(&self.shards[(account % SHARDS as u128) as usize])
    }

    fn put(&self, table: &mut Table, row: Row) {
        self.changed.store(true, Relaxed);
        if let Some(known) = table.row(row.account) {
            *known = row;
            return;
        }
        if table.rows.len() >= self.most && table.make_room(row.start, &self.chance) {
            self.forgotten.fetch_add(1, Relaxed);
        }
        table.places.insert(row.account, table.rows.len());
        table.rows.push(row);
    }
}

impl Table {
    fn row(&mut self, account: u128) -> Option<&mut Row> {
        self.rows.get_mut(*self.places.get(&account)?)
    }

    /// The counter of this period, or of the next one: a clock that was set back a little does not give anything back. A
    /// clock that was further ahead was wrong, and locks nobody out: that counter is forgotten.
    fn latest(&mut self, account: u128, span: Span) -> Row {
        let start = span.start_seconds();
        let known = self.row(account).filter(|row| [start, span.end_seconds()].contains(&row.start));
        known.map_or(Row { account, start, used: 0 }, |row| *row)
    }

    /// Drops an account whose period is over, or else the one of a few that has spent least. Whether it was the latter.
    fn make_room(&mut self, start: i64, chance: &Chance) -> bool {
        let sample = (0..SAMPLE).map(|_| {
            let at = usize::try_from(chance.below(self.rows.len() as u64)).unwrap_or_default();
            self.rows[at]
        });
        let Some(least) = sample.min_by_key(|row| (row.start >= start, row.used)) else { return false };
        self.remove(least.account);
        least.start >= start
    }

    fn remove(&mut self, account: u128) {
        let Some(at) = self.places.remove(&account) else { return };
        self.rows.swap_remove(at);
        if let Some(moved) = self.rows.get(at) {
            self.places.insert(moved.account, at);
        }
    }
}

fn lock(shard: &Mutex<Table>) -> MutexGuard<'_, Table> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{Calendar, Period};

    fn day(day: u64) -> Span {
        Calendar::UTC.span_at(Period::Day, day * 86_400)
    }

    #[test]
    fn a_new_period_begins_with_nothing_and_a_clock_set_back_gives_nothing_back() {
        let memory = Memory::new(100);
        assert_eq!(memory.spend(1, day(9), Some(3), 2), Ok(2));
        assert_eq!(memory.spend(1, day(9), Some(3), 2), Err(2));
        assert_eq!(memory.spend(1, day(10), Some(3), 3), Ok(3));
        assert_eq!(memory.spend(1, day(9), Some(3), 1), Err(3), "yesterday again");
        assert_eq!(memory.used(1, day(11)), 0);
    }

    #[test]
    fn a_clock_that_ran_far_ahead_locks_nobody_out() {
        let memory = Memory::new(100);
        memory.spend(1, day(365), Some(3), 3).unwrap();
        assert_eq!(memory.spend(1, day(9), Some(3), 1), Ok(1));
        memory.adjust(1, day(9), 1);
        assert_eq!(memory.spend(1, day(9), Some(3), 2), Err(2), "and counts again");
    }

    #[test]
    fn a_period_that_is_over_is_not_settled_any_more() {
        let memory = Memory::new(100);
        memory.spend(1, day(9), None, 5).unwrap();
        memory.adjust(1, day(9), -9);
        assert_eq!(memory.used(1, day(9)), 0);
        memory.spend(1, day(10), None, 5).unwrap();
        memory.adjust(1, day(9), 100);
        memory.adjust(2, day(10), 100);
        assert_eq!((memory.used(1, day(10)), memory.used(2, day(10))), (5, 0));
    }

    #[test]
    fn a_flood_of_accounts_does_not_free_who_has_spent_much() {
        let memory = Memory::new(1_600);
        memory.spend(u128::MAX, day(9), Some(1_000), 1_000).unwrap();
        for account in 0..100_000 {
            memory.spend(account, day(9), Some(1_000), 1).unwrap();
        }
        assert_eq!(memory.len(), 1_600);
        assert_eq!(memory.spend(u128::MAX, day(9), Some(1_000), 1), Err(1_000));
        assert_eq!(memory.forgotten(), 100_001 - 1_600);
        // Yesterday's accounts go first, and are no loss.
        memory.spend(u128::MAX - 1, day(10), None, 1).unwrap();
        assert_eq!(memory.forgotten(), 100_001 - 1_600);
    }

    proptest! {
        /// Against a map that forgets nothing.
        #[test]
        fn never_more_than_allowed_and_never_refused_below(
            steps in prop::collection::vec((0..5_u128, 0..4_u64, 0..6_u64, 0..12_u64, -4..4_i64), 1..200),
        ) {
            let memory = Memory::new(1_000);
            let (mut model, mut today) = (HashMap::new(), 0);
            for (account, later, cost, most, settled) in steps {
                today += later / 3;
                let used: &mut u64 = model.entry((account, today)).or_default();
                let spent = memory.spend(account, day(today), Some(most), cost);
                if *used + cost <= most {
                    *used += cost;
                    prop_assert_eq!(spent, Ok(*used));
                    memory.adjust(account, day(today), settled);
                    *used = used.saturating_add_signed(settled);
                } else {
                    prop_assert_eq!(spent, Err(*used));
                }
                prop_assert_eq!(memory.used(account, day(today)), *used);
            }
        }
    }
}
