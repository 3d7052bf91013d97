//! The spans that are open, as text.
use std::{
    cell::RefCell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tracing::span::Id;

/// So that threads seldom meet.
const SHARDS: usize = 16;

/// All that are open.
#[derive(Default)]
pub(super) struct Spans([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    spans: Vec<Span>,
    /// Those of `spans` that are closed.
    free: Vec<usize>,
}

struct Span {
    name: &'static str,
    /// Each field after a space.
    fields: Vec<u8>,
    handles: usize,
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where this thread opens spans. Any thread may close them.
    static SHARD: usize = NEXT_SHARD.fetch_add(1, Relaxed) % SHARDS;
    /// What this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

impl Spans {
    pub(super) fn open(&self, name: &'static str, fields: Vec<u8>) -> Id {
        let at = SHARD.try_with(|at| *at).unwrap_or_default();
        let mut shard = self.shard(at);
        let span = Span { name, fields, handles: 1 };
        let place = match shard.free.pop() {
            Some(place) => {
                shard.spans[place] = span;
                place
            }
            None => {
                shard.spans.push(span);
                shard.spans.len() - 1
            }
        };
        Id::from_u64((place * SHARDS + at) as u64 + 1)
    }

    pub(super) fn add(&self, id: &Id, fields: &[u8]) {
        self.with(id, |span| span.fields.extend_from_slice(fields));
    }

    pub(super) fn hold(&self, id: &Id) {
        self.with(id, |span| span.handles += 1);
    }

    /// Whether that was the last handle.
    pub(super) fn release(&self, id: &Id) -> bool {
        let (at, place) = place_of(id);
        let mut shard = self.shard(at);
        shard.spans[place].handles -= 1;
        let closed = shard.spans[place].handles == 0;
        if closed {
            shard.spans[place].fields = Vec::new();
            shard.free.push(place);
        }
        closed
    }

    /// Writes what this thread is in as `name{fields}: `, the outermost first.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        let _ = ENTERED.try_with(|entered| {
            for id in entered.borrow().iter() {
                self.with(id, |Span { name, fields, .. }| {
                    for part in [name.as_bytes(), b"{", fields.trim_ascii_start(), b"}: "] {
                        text.extend_from_slice(part);
                    }
                });
            }
        });
    }

    fn with<T>(&self, id: &Id, with: impl FnOnce(&mut Span) -> T) -> T {
        let (at, place) = place_of(id);
        with(&mut self.shard(at).spans[place])
    }

    fn shard(&self, at: usize) -> MutexGuard<'_, Shard> {
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread goes in.
pub(super) fn enter(id: &Id) {
    let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id.clone()));
}

/// The thread comes out.
pub(super) fn exit(id: &Id) {
    let _ = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        if entered.last() == Some(id) {
            entered.pop();
        } else if let Some(at) = entered.iter().rposition(|other| other == id) {
            entered.remove(at);
        }
    });
}

fn place_of(id: &Id) -> (usize, usize) {
    let number = id.into_u64() as usize - 1;
    (number % SHARDS, number / SHARDS)
}
