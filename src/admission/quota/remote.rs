use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use redis::{Script, cmd};
use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::{
    QuotaOutage,
    bill::{Bill, State},
    definition::{Counters, Counts},
};
use crate::{
    redis::{Redis, RedisError},
    time::{Period, Span},
};

/// How long after its period a counter can be read still.
const KEPT: Duration = Duration::from_secs(86_400);

static SPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("spend.lua")));
static ADJUST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("adjust.lua")));

/// Counters on a Redis server.
pub(super) struct Remote {
    redis: Redis,
    pub(super) deadline: Duration,
    settling: Arc<Settling>,
}

/// What is on its way without anybody who waits for it.
#[derive(Default)]
struct Settling {
    count: AtomicUsize,
    ended: Notify,
}

impl Remote {
    pub(super) fn new(redis: Redis, deadline: Duration) -> Self {
        Self { redis, deadline, settling: Arc::default() }
    }

    /// Spends of these counters of one account, which are all on this server, or of none. Tells whether, and writes into
    /// the bills what became of them. It takes its deadline at most, and no longer than `until`.
    pub(super) async fn spend(
        &self,
        bills: &mut [(&Counters, &mut Bill)],
        until: Instant,
    ) -> Result<bool, QuotaOutage> {
        let rest = self.deadline.min(until.saturating_duration_since(Instant::now()));
        if rest.is_zero() {
            return Err(RedisError::Late(self.deadline).into());
        }
        let (mut keys, mut args) = (Vec::new(), Vec::new());
        for (counters, bill) in bills.iter() {
            keys.push(self.key(counters, bill.account, bill.span));
            let lives = bill.span.remaining(counters.clock.now()) + KEPT;
            let most = bill.most.map_or(-1, u64::cast_signed);
            args.extend([
                most,
                bill.cost.cast_signed(),
                lives.as_secs().cast_signed(),
                bill.in_shadow.into(),
            ]);
        }
        let answer: Vec<i64> = self.redis.run(rest, &SPEND, &keys, args).await?;
        let (Some(paid), true) = (answer.first(), answer.len() == bills.len() + 1) else {
            return Err(RedisError::Unexpected.into());
        };
        let paid = *paid == 1;
        for ((_, bill), used) in bills.iter_mut().zip(&answer[1..]) {
            (bill.used, bill.state) = match u64::try_from(*used) {
                Ok(used) if paid => (used, State::Paid),
                Ok(used) => (used, bill.state),
                Err(_) => ((-1 - used).cast_unsigned(), State::Short),
            };
        }
        Ok(paid)
    }

    pub(super) async fn used(
        &self,
        counters: &Counters,
        account: u128,
        span: Span,
    ) -> Result<u64, QuotaOutage> {
        let mut get = cmd("GET");
        get.arg(self.key(counters, account, span));
        let used: Option<i64> = self.redis.ask(&get).await?;
        Ok(used.and_then(|used| u64::try_from(used).ok()).unwrap_or_default())
    }

    pub(super) async fn reset(
        &self,
        counters: &Counters,
        account: u128,
        span: Span,
    ) -> Result<(), QuotaOutage> {
        let mut forget = cmd("DEL");
        forget.arg(self.key(counters, account, span));
        self.redis.ask::<u64>(&forget).await?;
        Ok(())
    }

    pub(super) fn adjust(&self, counters: &Arc<Counters>, account: u128, span: Span, by: i64) {
        let Ok(runtime) = Handle::try_current() else {
            Counts::add(&counters.counts.unsettled, 1);
            return;
        };
        let key = self.key(counters, account, span);
        let (redis, deadline) = (self.redis.clone(), self.deadline);
        let (counters, settling) = (Arc::clone(counters), Arc::clone(&self.settling));
        settling.count.fetch_add(1, SeqCst);
        runtime.spawn(async move {
            if redis.run::<u8>(deadline, &ADJUST, &[key], by).await.is_err() {
                Counts::add(&counters.counts.unsettled, 1);
            }
            if settling.count.fetch_sub(1, SeqCst) == 1 {
                settling.ended.notify_waiters();
            }
        });
    }

    /// Waits for what is on its way. Each has a deadline.
    pub(super) async fn settled(&self) {
        loop {
            let ended = self.settling.ended.notified();
            if self.settling.count.load(SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// All counters of one account are in one hash slot. An account is a digest: nothing of a stranger's is in the key.
    fn key(&self, counters: &Counters, account: u128, span: Span) -> String {
        let period = match counters.period {
            Period::Second => "s",
            Period::Minute => "m",
            Period::Hour => "h",
            Period::Day => "d",
            Period::Week => "w",
            Period::Month => "M",
            Period::Year => "y",
            Period::Billing(_) => "b",
        };
        let name = format!("{}:{period}{}", counters.name, span.start_seconds());
        self.redis.key(&format!("quota.{account:032x}"), &name)
    }
}
