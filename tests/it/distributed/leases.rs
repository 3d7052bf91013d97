//! Units that instances take ahead: by how much a limit is exceeded, and how seldom anybody waits for Redis.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use portcullis::{
    admission::{
        Fields,
        rate_limit::{Algorithm, Distribution, DistributionHandle, Limit, RateLimit},
    },
    gate::{AsyncGate, Check},
    head::Head,
    ratio::Ratio,
    redis::Redis,
};
use tokio::{
    runtime::{self, Runtime},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{Gate, answer, behind, gate, instance, limit, of, passes, remaining, until};
use crate::support::redis::Server;

/// Instances that know of each other, of one limit.
struct Instances(Vec<(Gate, DistributionHandle)>);

impl Instances {
    async fn start(server: &Server, limit: impl Fn(Distribution) -> Limit, count: u32) -> Arc<Self> {
        let all = (0..count).map(|_| {
            let limit = limit(instance(server).lease(Ratio::percent(5)));
            (gate([limit.clone().into()]), limit.distribution().unwrap())
        });
        let all = Self(all.collect());
        for (gate, _) in &all.0 {
            passes(gate, "first").await;
        }
        for (at, (gate, handle)) in all.0.iter().enumerate() {
            until("leases are taken", async || {
                passes(gate, &format!("warm-{at}")).await;
                handle.instances() == count && handle.by_lease() > 0
            })
            .await;
        }
        Arc::new(all)
    }

    fn sum(&self, of: fn(&DistributionHandle) -> u64) -> u64 {
        self.0.iter().map(|(_, handle)| of(handle)).sum()
    }

    /// Many at once ask for one account, until `time` is over: how many asked, and how many passed.
    async fn ask(self: &Arc<Self>, load: Load, time: Duration, account: &str) -> (u64, u64) {
        let (all, account) = (Arc::clone(self), account.to_owned());
        ask_until(Instant::now() + time, move |worker, asked| {
            let (all, account) = (Arc::clone(&all), account.clone());
            async move {
                let (gate, _) = &all.0[load.target(worker, asked, all.0.len())];
                passes(gate, &account).await
            }
        })
        .await
    }
}

/// Asks 32 times at once, again and again until `end`: how many asked, and how many passed.
async fn ask_until<F>(end: Instant, ask: impl Fn(usize, usize) -> F + Clone + Send + 'static) -> (u64, u64)
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut workers = JoinSet::new();
    for worker in 0..32 {
        let ask = ask.clone();
        workers.spawn(async move {
            let (mut asked, mut passed) = (0, 0);
            while Instant::now() < end {
                passed += u64::from(ask(worker, asked as usize).await);
                asked += 1;
                // A refusal that is known here takes no time.
                tokio::task::yield_now().await;
            }
            (asked, passed)
        });
    }
    let told = workers.join_all().await;
    (told.iter().map(|told| told.0).sum(), told.iter().map(|told| told.1).sum())
}

/// Which instance a request comes to.
#[derive(Debug, Clone, Copy)]
enum Load {
    Even,
    /// One instance has most of it.
    Skewed,
    /// One after the other has all of it for a while.
    Bursty,
}

impl Load {
    fn target(self, worker: usize, at: usize, instances: usize) -> usize {
        match self {
            Self::Even => (worker + at) % instances,
            Self::Skewed if (worker + at) % 10 < 7 => 0,
            Self::Skewed => at % instances,
            Self::Bursty => at / 50 % instances,
        }
    }
}

const LOADS: [Load; 3] = [Load::Even, Load::Skewed, Load::Bursty];
const RATE: u64 = 480;

/// Waits until a window of a second has just begun, and tells which.
async fn window() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    sleep(Duration::from_millis(1005) - Duration::from_millis(now.subsec_millis().into())).await;
    index()
}

fn index() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Eight instances ask for more than twice what is allowed, and get that and a twentieth at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_exceed_a_limit_by_a_twentieth_at_most() {
    let server = Server::start();
    for (name, algorithm) in [
        ("bucket", Algorithm::TokenBucket),
        ("sliding", Algorithm::SlidingWindow),
        ("fixed", Algorithm::CALENDAR),
    ] {
        let of = |there| {
            limit(name, &format!("{RATE}/s")).algorithm(algorithm).distributed(there).build().unwrap()
        };
        let all = Instances::start(&server, of, 8).await;
        for load in LOADS {
            let mut attempt = 0;
            while attempt < ATTEMPTS && !exceed(&all, algorithm, load, attempt).await {
                attempt += 1;
            }
            assert!(
                attempt < ATTEMPTS,
                "{name}, {load:?}: no more than twice as much was asked as is allowed"
            );
        }
    }
}

/// How often a machine that has much else to do may ask for too little.
const ATTEMPTS: u32 = 20;

/// Whether more than twice as much was asked as is allowed. Whatever was asked, no more than a twentieth passes beyond that.
async fn exceed(all: &Arc<Instances>, algorithm: Algorithm, load: Load, attempt: u32) -> bool {
    let (first, began, leased) = (window().await, Instant::now(), all.sum(DistributionHandle::by_lease));
    let (asked, passed) = all.ask(load, Duration::from_millis(2800), &format!("{load:?}-{attempt}")).await;
    let allowed = allowed(algorithm, first, began);
    let leased = all.sum(DistributionHandle::by_lease) - leased;
    assert!(passed as f64 <= allowed * 1.05, "{algorithm:?}, {load:?}: {passed} of {allowed}");
    asked as f64 > 2.0 * allowed && leased > 0
}

/// What an account holds since this window and moment: a bucket is full at first, and refills; of windows there are as many
/// as were touched.
fn allowed(algorithm: Algorithm, first: u64, began: Instant) -> f64 {
    match algorithm {
        Algorithm::TokenBucket => RATE as f64 * (1.0 + began.elapsed().as_secs_f64()),
        _ => (RATE * (index() - first + 1)) as f64,
    }
}

/// All that an instance does goes on here, and ends with this.
struct Life(Option<Runtime>);

impl Life {
    fn begin() -> Self {
        let mut runtime = runtime::Builder::new_multi_thread();
        Self(Some(runtime.worker_threads(1).enable_all().build().unwrap()))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Instances that begin after others, and end before them with what they had taken ahead.
struct Mortals {
    all: Vec<(Gate, DistributionHandle)>,
    runtimes: Vec<runtime::Handle>,
    /// Which of them are asked.
    alive: [AtomicUsize; 2],
}

impl Mortals {
    fn new(lives: &[Life], limit: impl Fn() -> Limit) -> Arc<Self> {
        let all = lives.iter().map(|_| {
            let limit = limit();
            (gate([limit.clone().into()]), limit.distribution().unwrap())
        });
        let runtimes = lives.iter().flat_map(|life| &life.0).map(|runtime| runtime.handle().clone());
        Arc::new(Self { all: all.collect(), runtimes: runtimes.collect(), alive: [0.into(), 1.into()] })
    }

    fn live(&self, alive: Range<usize>) {
        self.alive[1].store(alive.end, Relaxed);
        self.alive[0].store(alive.start, Relaxed);
    }

    /// No also of one that ends meanwhile.
    async fn passes(&self, at: usize, account: &str) -> bool {
        let [from, to] = [0, 1].map(|end: usize| self.alive[end].load(Relaxed));
        let at = from + at % (to - from);
        let (gate, account) = (self.all[at].0.clone(), account.to_owned());
        self.runtimes[at].spawn(async move { passes(&gate, &account).await }).await.unwrap_or(false)
    }

    fn leased(&self) -> u64 {
        self.all.iter().map(|(_, handle)| handle.by_lease()).sum()
    }

    /// As [`Instances::ask`].
    async fn ask(self: Arc<Self>, end: Instant, account: String) -> (u64, u64) {
        ask_until(end, move |worker, asked| {
            let (all, account) = (Arc::clone(&self), account.clone());
            async move { all.passes(worker + asked, &account).await }
        })
        .await
    }
}

/// One becomes eight, and three of those die, the first among them, while more than twice as much is asked as is allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_or_dies_exceeds_a_limit_by_a_twentieth_at_most() {
    let server = Server::start();
    for (name, algorithm) in [
        ("bucket", Algorithm::TokenBucket),
        ("sliding", Algorithm::SlidingWindow),
        ("fixed", Algorithm::CALENDAR),
    ] {
        let of = || {
            let there = instance(&server).lease(Ratio::percent(5));
            limit(name, &format!("{RATE}/s")).algorithm(algorithm).distributed(there).build().unwrap()
        };
        let mut attempt = 0;
        while attempt < ATTEMPTS && !outlive(&of, algorithm, &format!("mortal-{attempt}")).await {
            attempt += 1;
        }
        assert!(attempt < ATTEMPTS, "{name}: no more than twice as much was asked as is allowed");
    }
}

/// As [`exceed`].
async fn outlive(of: &impl Fn() -> Limit, algorithm: Algorithm, account: &str) -> bool {
    let mut lives: Vec<_> = (0..8).map(|_| Life::begin()).collect();
    let all = Mortals::new(&lives, of);
    let first_of = &all.all[0].1;
    until("the first takes ahead", async || {
        all.passes(0, &format!("{account}-before")).await;
        first_of.by_lease() > 0
    })
    .await;
    let (first, began, leased) = (window().await, Instant::now(), all.leased());
    let at = move |millis| began + Duration::from_millis(millis);
    let asking = tokio::spawn(Arc::clone(&all).ask(at(4800), account.to_owned()));
    sleep_until(at(700)).await;
    all.live(0..8);
    // Who takes ahead has been seen twice.
    sleep_until(at(3400)).await;
    let came = &all.all[1..];
    let have_joined = came.iter().all(|(_, handle)| handle.instances() == 8);
    // Of a window that slides there is hardly ever so much left that it is worth to take some ahead.
    let took = algorithm == Algorithm::SlidingWindow || came.iter().any(|(_, handle)| handle.by_lease() > 0);
    all.live(3..8);
    drop(lives.drain(..3));
    let (asked, passed) = asking.await.unwrap();
    let allowed = allowed(algorithm, first, began);
    let leased = all.leased() - leased;
    assert!(passed as f64 <= allowed * 1.05, "{algorithm:?}: {passed} of {allowed}");
    asked as f64 > 2.0 * allowed && leased > 0 && have_joined && took
}

/// What does not come back while it is asked for: so that all that passes is what an account holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_exceed_a_month_by_a_twentieth_at_most_and_starve_nobody() {
    let server = Server::start();
    for (name, algorithm) in [
        ("bucket", Algorithm::TokenBucket),
        ("sliding", Algorithm::SlidingWindow),
        ("fixed", Algorithm::CALENDAR),
    ] {
        let of = |there| limit(name, "1000/year").algorithm(algorithm).distributed(there).build().unwrap();
        let all = Instances::start(&server, of, 8).await;
        for load in LOADS {
            let account = format!("{load:?}");
            let (mut asked, mut passed) = (0, 0);
            // Until nobody has had any for a second, in which what others do not use is given back.
            loop {
                let (more, passing) = all.ask(load, Duration::from_millis(1000), &account).await;
                (asked, passed) = (asked + more, passed + passing);
                if passing == 0 && asked > 2000 {
                    break;
                }
            }
            println!("{name}, {load:?}: {asked} asked, {passed} of 1000 passed");
            assert!((950..=1050).contains(&passed), "{name}, {load:?}: {passed}");
        }
    }
}

#[tokio::test]
async fn what_was_taken_ahead_is_given_back() {
    let server = Server::start();
    let of = |there| limit("idle", "1000/year").distributed(there).build().unwrap();
    let all = Instances::start(&server, of, 8).await;
    let (gate, handle) = &all.0[0];
    for _ in 0..20 {
        assert!(passes(gate, "a").await);
    }
    until("it is idle", async || handle.known() == 0).await;
    until("it is given back", async || remaining(handle, "a").await == 980).await;
    let exact = limit("idle", "1000/year").distributed(instance(&server)).build().unwrap();
    let told = answer(&behind(RateLimit::new(exact).fields(Fields::Always)), "a").await;
    assert!(told.headers()["ratelimit"].to_str().unwrap().contains(";r=979;"), "{told:?}");
}

/// A limit of 100,000 a second of which a fifth at most is used: hardly anybody waits for Redis, whether one instance has all
/// of it or eight share it. Renewals are made while nobody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_one_decision_in_a_hundred_waits_for_redis() {
    const ENOUGH: usize = 2;
    const ROUNDS: usize = 30;
    const DECISIONS: u64 = 10_000;
    let server = Server::start();
    for (name, algorithm, instances) in [
        ("alone", Algorithm::TokenBucket, 1),
        ("bucket", Algorithm::TokenBucket, 8),
        ("sliding", Algorithm::SlidingWindow, 8),
        ("fixed", Algorithm::CALENDAR, 8),
    ] {
        // 100,000 a second, in windows of an hour: a window that ends takes with it what was taken ahead.
        let of = |there| limit(name, "360000000/h").algorithm(algorithm).distributed(there).build().unwrap();
        let all = Instances::start(&server, of, instances).await;
        let count = || (all.sum(DistributionHandle::by_redis), all.sum(DistributionHandle::by_lease));
        // A machine that is busy elsewhere stands still for so long that all in hand is gone or given back, which may be so in
        // most of the rounds: some have to show it. One that is idle shows it at once.
        let mut rounds = Vec::new();
        let good = |rounds: &[u64]| rounds.iter().filter(|waited| **waited * 100 < DECISIONS).count();
        while good(&rounds) < ENOUGH && rounds.len() < ROUNDS {
            let ((waited, leased), mut decisions) = (count(), 0);
            while decisions < DECISIONS {
                decisions += steady(&all).await;
            }
            let now = count();
            assert_eq!(now.0 - waited + now.1 - leased, decisions);
            rounds.push(now.0 - waited);
        }
        println!("{name}, {instances} instances: of {DECISIONS} decisions waited for Redis: {rounds:?}");
        assert!(good(&rounds) == ENOUGH, "{name}, {instances}: {rounds:?}");
    }
}

/// What is paid by what was taken ahead costs no memory, of lists too; more is taken now and then, in a task.
#[tokio::test]
async fn a_decision_by_a_lease_allocates_nothing() {
    let server = Server::start();
    let there = instance(&server).lease(Ratio::percent(5));
    let limits =
        ["a", "b", "c"].map(|name| limit(name, "100000000/h").distributed(there.clone()).build().unwrap());
    let (gate, list) = (gate(limits.clone().map(Into::into)), limits.iter().cloned().collect::<RateLimit>());
    let handles = limits.map(|limit| limit.distribution().unwrap());
    let leased = || handles.iter().map(DistributionHandle::by_lease).min().unwrap();
    until("enough is taken ahead", async || {
        let before = leased();
        for _ in 0..500 {
            assert!(passes(&gate, "a").await);
        }
        leased() - before == 500
    })
    .await;
    // What was asked for ahead has come when the next who waits is answered.
    assert!(passes(&gate, "b").await);
    let mut request = of(b"a");
    let free = (0..100).filter(|_| {
        let count = allocation_counter::measure(|| {
            assert!(matches!(list.check(&mut Head::of(&mut request)), Check::Now(Ok(_))));
        });
        count.count_total == 0
    });
    let free = free.count();
    assert!(free >= 90, "{free} of 100");
}

/// Two thousand requests, in tens that come together, as fast as the machine makes it but at most 20,000 a second.
async fn steady(all: &Arc<Instances>) -> u64 {
    for _ in 0..200 {
        let mut ten = JoinSet::new();
        for at in 0..10 {
            let all = Arc::clone(all);
            ten.spawn(async move { assert!(passes(&all.0[at % all.0.len()].0, "a").await) });
        }
        ten.join_all().await;
        sleep(Duration::from_micros(500)).await;
    }
    2000
}

/// Who is known to be over the limit is refused without asking, however often it comes.
#[tokio::test]
async fn who_is_over_the_limit_hardly_asks() {
    let server = Server::start();
    let there = Distribution::on(Redis::builder(&server.url()).unwrap().build());
    let limit = limit("a", "10/h").distributed(there.deadline(Duration::from_secs(60))).build().unwrap();
    let (gate, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    let began = Instant::now();
    for _ in 0..5000 {
        passes(&gate, "a").await;
    }
    // Ten that pass, and one question a second.
    let most = 12 + began.elapsed().as_secs();
    assert!(handle.by_redis() <= most, "{} of {most}", handle.by_redis());
    assert_eq!(handle.by_redis() + handle.by_deny_cache(), 5000);
}
