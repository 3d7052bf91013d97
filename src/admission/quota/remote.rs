use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::{Script, cmd};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    QuotaOutage,
    bill::{Bill, Payment, State},
    definition::{Counters, Counts},
};
use crate::{
    admission::beside::{Beside, LINGERING, patiently, until_served},
    redis::{Patience, Redis, RedisError},
    task::Task,
    time::{Period, Span, after},
};

/// How long after its period a counter can be read still.
const KEPT: Duration = Duration::from_secs(86_400);

/// How long it may take at most to say that it serves again.
const SECOND: Duration = Duration::from_secs(1);

static SPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("spend.lua")));
static ADJUST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("adjust.lua")));

/// Counters on a Redis server.
pub(super) struct Remote {
    redis: Redis,
    pub(super) deadline: Duration,
    /// Payments that are on their way.
    paying: Beside,
    /// What is settled or given back.
    settling: Beside,
    /// While the server does not serve.
    looking: Task,
    /// Nobody looks any more when this is gone.
    used: Arc<()>,
}

impl Remote {
    pub(super) fn new(redis: Redis, deadline: Duration) -> Self {
        Self {
            redis,
            deadline,
            paying: Beside::default(),
            settling: Beside::default(),
            looking: Task::default(),
            used: Arc::default(),
        }
    }

    /// Pays all of these counters of one account, which are all on this server, or none. Tells whether, and what became of
    /// the bills. It takes its deadline at most, and no longer than `until`; what is paid later, or for a caller who went
    /// away, is given back. Where nobody would answer, as far as is known, nobody is asked: that somebody does again is found
    /// out beside, at no request's expense, and whether requests come or not.
    pub(super) async fn spend(
        &self,
        payment: Payment,
        until: Instant,
    ) -> Result<(bool, Vec<Bill>), QuotaOutage> {
        let until = until.min(after(Instant::now(), self.deadline));
        if until <= Instant::now() {
            return Err(RedisError::Late(self.deadline).into());
        }
        let (keys, args) = self.words(&payment);
        if let (Some(key), Some(bill)) = (keys.first(), payment.bills.first())
            && self.redis.is_shut(key)
        {
            self.look(&Probe::new(self, bill.account));
            return Err(QuotaOutage::Shut);
        }
        let (redis, deadline) = (self.redis.clone(), self.deadline);
        let (tell, told) = oneshot::channel();
        let is_begun = self.paying.run(async move {
            // The server has its whole deadline, however much of it is left to the request.
            let patience = Patience::from(deadline).lingering(LINGERING);
            let answer: Result<Vec<i64>, _> = redis.run(patience, &SPEND, &keys, args).await;
            // If nobody takes it, it gives itself back.
            drop(tell.send(answer.and_then(|answer| read(payment, &answer))));
        });
        if !is_begun {
            return Err(QuotaOutage::Busy);
        }
        let told = timeout_at(until, told).await.map_err(|_| RedisError::Late(self.deadline))?;
        let (paid, payment) = told.map_err(|_| RedisError::Unexpected)??;
        Ok((paid, payment.take()))
    }

    /// Looks again and again whether the server serves, until it does; and, while it looks for one of several servers, now and
    /// then for this one.
    fn look(&self, probe: &Probe) {
        let (first, used) = (probe.clone(), Arc::downgrade(&self.used));
        let has_begun = self.looking.begin(|| async move {
            until_served(|| used.strong_count() > 0 && first.is_shut(), || first.clone().ask()).await;
        });
        if !has_begun && self.redis.is_tried(&probe.key) {
            tokio::spawn(probe.clone().ask());
        }
    }

    fn words(&self, payment: &Payment) -> (Vec<String>, Vec<i64>) {
        let (mut keys, mut args) = (Vec::new(), Vec::new());
        for (quota, bill) in payment.quotas.iter().zip(&payment.bills) {
            let counters = &quota.counters;
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
        (keys, args)
    }

    pub(super) async fn used(
        &self,
        counters: &Counters,
        account: u128,
        span: Span,
    ) -> Result<u64, QuotaOutage> {
        let mut get = cmd("GET");
        get.arg(self.key(counters, account, span));
        let get = async |mut redis| get.query_async::<Option<i64>>(&mut redis).await;
        let used = self.redis.within(self.deadline, get).await?;
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
        let forget = async |mut redis| forget.query_async::<u64>(&mut redis).await;
        self.redis.within(self.deadline, forget).await?;
        Ok(())
    }

    pub(super) fn adjust(&self, counters: &Arc<Counters>, account: u128, span: Span, by: i64) {
        let key = [self.key(counters, account, span)];
        let (redis, deadline, settled) = (self.redis.clone(), self.deadline, Arc::clone(counters));
        let is_begun = self.settling.run(async move {
            let adjust = || redis.run::<u8>(deadline, &ADJUST, &key, by);
            if patiently(adjust).await.is_err() {
                Counts::add(&settled.counts.unsettled, 1);
            }
        });
        if !is_begun {
            Counts::add(&counters.counts.unsettled, 1);
        }
    }

    /// Waits for what is on its way, which ends by itself. What is paid in vain is given back after it.
    pub(super) async fn settled(&self) {
        self.paying.settled().await;
        self.settling.settled().await;
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
        self.redis.key(&set(account), &name)
    }
}

/// All keys of one account are in one hash slot.
fn set(account: u128) -> String {
    format!("quota.{account:032x}")
}

/// What is asked whether it serves, by the script that payments are made with, in the slot of an account: since a server that
/// cannot write does not serve.
#[derive(Clone)]
struct Probe {
    redis: Redis,
    key: String,
    deadline: Duration,
}

impl Probe {
    fn new(remote: &Remote, account: u128) -> Self {
        let key = remote.redis.key(&set(account), "probe");
        Self { redis: remote.redis.clone(), key, deadline: remote.deadline.min(SECOND) }
    }

    fn is_shut(&self) -> bool {
        self.redis.is_shut(&self.key)
    }

    async fn ask(self) {
        // One unit, of any number, for ten seconds.
        let args = [-1, 1, 10, 0];
        drop(self.redis.run::<Vec<i64>>(self.deadline, &SPEND, &[&self.key], &args).await);
    }
}

/// What the script has answered: whether it was paid, and what became of the bills.
fn read(mut payment: Payment, answer: &[i64]) -> Result<(bool, Payment), RedisError> {
    let (Some(paid), true) = (answer.first(), answer.len() == payment.bills.len() + 1) else {
        return Err(RedisError::Unexpected);
    };
    let paid = *paid == 1;
    for (bill, used) in payment.bills.iter_mut().zip(&answer[1..]) {
        (bill.used, bill.state) = match u64::try_from(*used) {
            Ok(used) if paid => (used, State::Paid),
            Ok(used) => (used, bill.state),
            Err(_) => ((-1 - used).cast_unsigned(), State::Short),
        };
    }
    Ok((paid, payment))
}
