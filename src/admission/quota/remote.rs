use std::{
    sync::{
        Arc,
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

/// Spends of all counters that are not short, or of none if one is short that is not in shadow: for each its allowance (-1:
/// unlimited), cost, seconds to live, and whether it is in shadow. Answers whether it has, and what each has spent: of a short
/// one less than zero, by one and that.
const SPEND: &str = r"
local answer = {1}
for i = 1, #KEYS do
  local used = tonumber(redis.call('GET', KEYS[i]) or '0')
  local most, cost = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  answer[i + 1] = used
  if most >= 0 and used + cost > most then
    answer[i + 1] = -1 - used
    if ARGV[4 * i] == '0' then answer[1] = 0 end
  end
end
if answer[1] == 1 then
  for i = 1, #KEYS do
    if answer[i + 1] >= 0 then
      answer[i + 1] = redis.call('INCRBY', KEYS[i], ARGV[4 * i - 2])
      if redis.call('TTL', KEYS[i]) < 0 then redis.call('EXPIRE', KEYS[i], ARGV[4 * i - 1]) end
    end
  end
end
return answer
";

/// Charges or gives back; never below nothing, and nothing where no counter is any more.
const ADJUST: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local used = redis.call('INCRBY', KEYS[1], ARGV[1])
if used < 0 then redis.call('INCRBY', KEYS[1], -used) end
return 1
";

/// Counters on a Redis server.
pub(super) struct Remote {
    redis: Redis,
    pub(super) deadline: Duration,
    spend: Script,
    adjust: Script,
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
        let (spend, adjust) = (Script::new(SPEND), Script::new(ADJUST));
        Self { redis, deadline, spend, adjust, settling: Arc::default() }
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
        let mut run = self.spend.prepare_invoke();
        for (counters, bill) in bills.iter() {
            run.key(self.key(counters, bill.account, bill.span));
            run.arg(bill.most.map_or(-1, u64::cast_signed)).arg(bill.cost);
            let rest = bill.span.remaining(counters.clock.now()) + KEPT;
            run.arg(rest.as_secs()).arg(u8::from(bill.in_shadow));
        }
        let answer: Vec<i64> = self.redis.run(rest, &run).await?;
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
        let (redis, deadline, script) = (self.redis.clone(), self.deadline, self.adjust.clone());
        let (counters, settling) = (Arc::clone(counters), Arc::clone(&self.settling));
        settling.count.fetch_add(1, SeqCst);
        runtime.spawn(async move {
            let mut run = script.key(key);
            run.arg(by);
            if redis.run::<u8>(deadline, &run).await.is_err() {
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
