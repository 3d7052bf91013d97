use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{
    head::Head,
    key::{Key, KeySeed},
};

/// Accounts: 16 KiB, however many addresses there are.
const CELLS: usize = 4_096;

/// How many calls each address (IPv6: a /64) has caused that are under way.
///
/// Each is given one of a fixed number of accounts under a secret seed: nothing is locked, and no flood of addresses
/// makes it grow. Two addresses may be given the same account; then they have its places together.
pub(super) struct Callers {
    cells: Arc<[AtomicU32]>,
    seed: KeySeed,
    most: u32,
}

/// One of the places of an address, until it is dropped.
pub(super) struct Place {
    cells: Arc<[AtomicU32]>,
    at: usize,
}

impl Callers {
    pub(super) fn new(most: u32) -> Self {
        let cells = std::iter::repeat_with(AtomicU32::default).take(CELLS).collect();
        Self { cells, seed: KeySeed::new(), most }
    }

    /// The fingerprint of whoever sent this.
    pub(super) fn caller(&self, head: &Head<'_>) -> u64 {
        Key::ClientAddr.fingerprint(head, &self.seed)
    }

    /// A place for one more call, if this caller has one left.
    pub(super) fn enter(&self, caller: u64) -> Option<Place> {
        let at = caller as usize % CELLS;
        let more = |calls: u32| (calls < self.most).then_some(calls + 1);
        self.cells[at].fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Place { cells: Arc::clone(&self.cells), at })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cells[self.at].fetch_sub(1, Relaxed);
    }
}
