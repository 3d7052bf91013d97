//! Connections to endpoints that are new, before they take requests.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

use super::{
    availability::Withheld,
    lease::{Connection, Lease},
    member::Member,
    options::Wire,
};

/// How many endpoints are connected to at a time.
const AT_ONCE: usize = 64;

/// Whether an endpoint was connected to ahead of requests. It stays with it.
#[derive(Debug, Default)]
pub(super) struct Tried {
    begun: AtomicBool,
    ended: AtomicBool,
}

/// Who connects ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    turns: Semaphore,
    ended: Notify,
}

/// One try; however it ends, its endpoint is there for requests then.
struct Try {
    ahead: Arc<Ahead>,
    member: Arc<Member>,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), ended: Notify::new() }
    }

    /// Connects to each endpoint once, until there are none any more.
    pub(super) async fn run(
        self: Arc<Self>,
        members: impl Fn() -> Option<Vec<Arc<Member>>>,
        mut changes: watch::Receiver<u64>,
    ) {
        let mut tries = JoinSet::new();
        while let Some(members) = members() {
            let new =
                members.into_iter().filter(|member| !member.ahead().begun.swap(true, Ordering::Relaxed));
            for member in new {
                tries.spawn(Try { ahead: Arc::clone(&self), member }.run());
            }
            while tries.try_join_next().is_some() {}
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until each of these was tried.
    pub(super) async fn first(&self, members: &[Arc<Member>]) {
        loop {
            let ended = self.ended.notified();
            if members.iter().all(|member| member.ahead().ended.load(Ordering::Acquire)) {
                return;
            }
            ended.await;
        }
    }
}

impl Try {
    async fn run(self) {
        // It is never closed.
        let _turn = self.ahead.turns.acquire().await;
        connect(&self.member).await;
    }
}

/// Makes a connection for the first request, if there is none.
async fn connect(member: &Arc<Member>) {
    if member.open() > 0 {
        return;
    }
    let options = member.options();
    let made = member.connect(options.wire == Wire::Http2).await;
    if let Ok(Lease { connection: Connection::Http1(connection), .. }) = made {
        member.park(connection, options.idle_timeout);
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        self.member.withhold(Withheld::Connecting, false);
        self.member.ahead().ended.store(true, Ordering::Release);
        self.ahead.ended.notify_waiters();
    }
}
