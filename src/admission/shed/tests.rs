use std::{
    convert::Infallible,
    fs,
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, Request, Response};
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    admission::{
        Priorities, Priority,
        concurrency::{Concurrency, Queue},
    },
    body::Body,
    chance::Chance,
    gate::{AsyncGate, Check, Gate},
    head::Head,
    identity::{PeerAddr, Principal, TrustedProxies},
    ratio::Ratio,
};

const MS: Duration = Duration::from_millis(1);

/// A source that reads, in hundredths, what is written there.
fn pressed() -> (Overload, Arc<AtomicU32>) {
    let reading = Arc::new(AtomicU32::new(0));
    let read = Arc::clone(&reading);
    let overload = Overload::builder()
        .source("test", 0.0..1.0, move |_| Some(f64::from(read.load(Ordering::Relaxed)) / 100.0))
        .build()
        .unwrap();
    overload.start();
    (overload, reading)
}

async fn ticks(count: u32) {
    for _ in 0..count {
        sleep(51 * MS).await;
    }
}

fn important(priority: Priority) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(priority);
    request
}

/// What was read in a runtime that has ended presses nobody, and the first request in another reads anew.
#[test]
fn in_another_runtime_it_watches_anew() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (overload, reading) = pressed();
    let shed = Shed::new(&overload);
    let is_refused = || shed.check(&mut Head::of(&mut Request::new(()))).is_err();
    reading.store(100, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!((overload.pressure(), overload.readings()[0].pressure), (0.0, 0.0));
        runtime().block_on(async {
            assert!(!is_refused());
            ticks(1).await;
            assert!(is_refused());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_important_goes_first() {
    let (overload, reading) = pressed();
    let shed = Shed::new(&overload).chance(Chance::seeded(1));
    let share = |priority| {
        let refused =
            (0..2000).filter(|_| shed.check(&mut Head::of(&mut important(priority))).is_err()).count();
        f64::from(u32::try_from(refused).unwrap()) / 2000.0
    };
    for (hundredths, pressure, shares) in [
        (0, 0.0, [0.0, 0.0, 0.0, 0.0]),
        (20, 0.2, [0.0, 0.0, 0.0, 0.6]),
        (50, 0.5, [0.0, 0.0, 0.5, 1.0]),
        (83, 0.83, [0.0, 0.49, 1.0, 1.0]),
        (99, 0.99, [0.0, 0.97, 1.0, 1.0]),
        (100, 1.0, [1.0, 1.0, 1.0, 1.0]),
    ] {
        reading.store(hundredths, Ordering::Relaxed);
        ticks(1).await;
        assert!((overload.pressure() - pressure).abs() < 0.01, "{hundredths}: {}", overload.pressure());
        for (priority, expected) in Priority::ALL.into_iter().zip(shares) {
            let seen = share(priority);
            assert!((seen - expected).abs() < 0.04, "{hundredths} {priority}: {seen}");
        }
    }
    assert!(overload.shed(Priority::Low) > overload.shed(Priority::High));
    assert_eq!(overload.shed(Priority::Critical), 2000);
    let readings = overload.readings();
    assert_eq!((&*readings[0].source, readings[0].value, readings[0].pressure), ("test", Some(1.0), 1.0));
}

#[tokio::test(start_paused = true)]
async fn it_refuses_in_each_protocol() {
    let (overload, reading) = pressed();
    reading.store(100, Ordering::Relaxed);
    ticks(1).await;
    let layer = Shed::new(&overload).retry_after(Duration::from_secs(7)).layer();
    let app = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let ask =
        |kind: &str| app.clone().oneshot(Request::post("/").header("content-type", kind).body(()).unwrap());
    let refused = ask("text/plain").await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"7".parse().unwrap()));
    let refused = ask("application/grpc").await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
    reading.store(0, Ordering::Relaxed);
    ticks(2).await;
    assert_eq!(ask("text/plain").await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_watched_before_the_start_and_after_the_end() {
    let read = Arc::new(AtomicU32::new(0));
    let reads = Arc::clone(&read);
    let source = move |_: &Tick| {
        reads.fetch_add(1, Ordering::Relaxed);
        None
    };
    let overload = Overload::builder().source("test", 0.0..1.0, source).tick(10 * MS).build().unwrap();
    sleep(100 * MS).await;
    assert_eq!(read.load(Ordering::Relaxed), 0);
    overload.start();
    overload.clone().start();
    sleep(105 * MS).await;
    let seen = read.load(Ordering::Relaxed);
    assert!((8..=10).contains(&seen), "one task: {seen}");
    assert_eq!(overload.pressure(), 0.0, "what cannot be read presses nobody");
    drop(overload);
    sleep(100 * MS).await;
    assert_eq!(Arc::strong_count(&read), 1, "the task is gone with what it read");
}

/// Nobody has to think of it: the first request makes it watch, and is let pass.
#[tokio::test(start_paused = true)]
async fn it_begins_with_the_first_request() {
    let overload = Overload::builder().source("test", 0.0..1.0, |_| Some(1.0)).build().unwrap();
    let shed = Shed::new(&overload);
    let ask = || shed.check(&mut Head::of(&mut Request::new(())));
    ticks(3).await;
    assert_eq!((overload.pressure(), ask().is_ok()), (0.0, true));
    ticks(1).await;
    assert_eq!((overload.pressure(), ask().is_ok()), (1.0, false));
}

#[test]
fn without_a_runtime_nothing_is_watched_and_everybody_passes() {
    let overload = Overload::builder().source("test", 0.0..1.0, |_| Some(1.0)).build().unwrap();
    overload.start();
    assert!(Shed::new(&overload).check(&mut Head::of(&mut Request::new(()))).is_ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        assert!(Shed::new(&overload).check(&mut Head::of(&mut Request::new(()))).is_ok());
        ticks(2).await;
        assert_eq!(overload.pressure(), 1.0);
    });
}

#[tokio::test(start_paused = true)]
async fn a_late_event_loop_presses_and_recovers() {
    let overload = Overload::builder().event_loop(50 * MS..550 * MS).build().unwrap();
    overload.start();
    ticks(3).await;
    assert_eq!(overload.pressure(), 0.0);
    // Nothing runs for 350 ms, of which 50 were meant.
    advance(350 * MS).await;
    tokio::task::yield_now().await;
    let pressure = overload.pressure();
    assert!((0.4..=0.6).contains(&pressure), "{pressure}");
    let value = overload.readings()[0].value.unwrap();
    assert!((0.25..=0.35).contains(&value), "{value}");
    ticks(20).await;
    assert_eq!(overload.pressure(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_waits_presses() {
    let one = NonZeroU32::MIN;
    let limit = Concurrency::fixed("q", one).queue(Queue::new(one).timeout(10_000 * MS)).build().unwrap();
    let overload = Overload::builder().queue_delay(&limit, 100 * MS..300 * MS).build().unwrap();
    overload.start();
    let check = || AsyncGate::check(&limit, &mut Head::of(&mut Request::new(())));
    let (Check::Now(Ok(held)), Check::Wait(wait)) = (check(), check()) else { panic!("one waits") };
    ticks(1).await;
    assert_eq!(overload.pressure(), 0.0);
    ticks(4).await; // nobody is served: who is next waits
    assert!(overload.pressure() > 0.3, "{}", overload.pressure());
    assert_eq!(&*overload.readings()[0].source, "queue:q");
    drop((held, wait));
    ticks(2).await;
    assert_eq!(overload.pressure(), 0.0);
}

/// A folder that goes with the test.
struct Groups(std::path::PathBuf);

impl Groups {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-memory-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
    fn write(&self, group: &str, current: &str, max: &str, stat: &str) {
        let group = self.0.join(group);
        fs::create_dir_all(&group).unwrap();
        for (name, text) in [("memory.current", current), ("memory.max", max), ("memory.stat", stat)] {
            fs::write(group.join(name), text).unwrap();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_that_of_the_nearest_limit() {
    let groups = Groups::new("nearest");
    groups.write("", "5000\n", "max\n", "");
    assert!(matches!(Memory::cgroup_at(&groups.0, "/a/b"), Err(MemoryError::Unlimited)));
    groups.write("a", "900\n", "1000\n", "anon 1\ninactive_file 200\nactive_file 7\n");
    groups.write("a/b", "400\n", "max\n", "");
    let memory = Memory::cgroup_at(&groups.0, "/a/b").unwrap();
    assert_eq!((memory.limit().get(), memory.used().unwrap()), (1000, 700));
    groups.write("a/b", "400\n", "500\n", "");
    let nearer = Memory::cgroup_at(&groups.0, "/a/b").unwrap();
    assert_eq!((nearer.limit().get(), nearer.used().unwrap()), (500, 400));
    assert!(matches!(Memory::cgroup_at(&groups.0.join("none"), "/"), Err(MemoryError::NoCgroup(_))));

    let overload =
        Overload::builder().memory(memory, Ratio::percent(80)..Ratio::percent(90)).build().unwrap();
    overload.start();
    ticks(6).await;
    assert_eq!(overload.pressure(), 0.0);
    groups.write("a", "1050\n", "1000\n", "inactive_file 200\n");
    ticks(6).await;
    // Once it is entered, the range begins at 78%.
    assert!((overload.pressure() - 7.0 / 12.0).abs() < 0.01, "{}", overload.pressure());
    groups.write("a", "1400\n", "1000\n", "inactive_file 200\n");
    ticks(6).await;
    assert!((overload.pressure() - 0.95).abs() < 0.01, "critical requests pass: {}", overload.pressure());
    ticks(600).await;
    assert_eq!(overload.pressure(), 0.0, "it was taken for half a minute, and did not grow");
    groups.write("a", "1500\n", "1000\n", "inactive_file 200\n");
    ticks(6).await;
    assert!((overload.pressure() - 0.95).abs() < 0.01, "it grows: {}", overload.pressure());
    groups.write("a", "1500\n", "2000\n", "inactive_file 200\n");
    ticks(6).await;
    assert_eq!(overload.pressure(), 0.0, "the limit was raised");
    fs::remove_file(groups.0.join("a/memory.current")).unwrap();
    ticks(6).await;
    assert_eq!((overload.pressure(), overload.readings()[0].value), (0.0, None));
}

#[test]
fn this_process_takes_memory() {
    let memory = Memory::resident(NonZeroU64::new(1 << 30).unwrap());
    assert!(memory.used().unwrap() > 1 << 20, "a process takes more than a megabyte");
    assert_eq!(memory.limit().get(), 1 << 30);
    let status = "Name:\tgateway\nVmPeak:\t  300 kB\nVmRSS:\t   204 kB\nRssAnon:\t 9 kB\n";
    assert_eq!(memory::resident(status), Some(204 << 10));
    for odd in ["", "VmRSS:\n", "VmRSS: many kB\n", "VmRSS: 99999999999999999999 kB\n"] {
        assert_eq!(memory::resident(odd), None, "{odd:?}");
    }
}

#[test]
fn empty_ranges_are_told() {
    let error = Overload::builder().event_loop(MS..MS).build().unwrap_err();
    assert_eq!(error.to_string(), "the range of \"event_loop\" is empty");
}

#[test]
fn priorities_are_heard_of_whom_they_may_come() {
    let name = HeaderName::from_static("x-priority");
    let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
    use Priority::{Critical, High, Low, Normal};
    let priorities = Priorities::new(Normal).header(name, trusted).plan("gold", High).plan("free", Low);
    assert!(priorities.need_identity());
    let of = |peer: Option<[u8; 4]>, said: Option<&str>, plan: Option<&str>| {
        let mut request = Request::new(());
        if let Some(peer) = peer {
            request.extensions_mut().insert(PeerAddr::new((peer, 1).into()));
        }
        if let Some(said) = said {
            request.headers_mut().insert("x-priority", said.parse().unwrap());
        }
        if let Some(plan) = plan {
            request.extensions_mut().insert(Principal::new("p", "", "s").with_plan(plan));
        }
        priorities.of(&Head::of(&mut request))
    };
    for (peer, said, plan, expected) in [
        (None, None, None, Normal),
        (Some([10, 0, 0, 1]), Some("Critical"), Some("free"), Critical),
        (Some([10, 0, 0, 1]), Some("urgent"), Some("free"), Low),
        (Some([11, 0, 0, 1]), Some("critical"), Some("gold"), High),
        (None, Some("critical"), None, Normal),
        (None, None, Some("silver"), Normal),
    ] {
        assert_eq!(of(peer, said, plan), expected, "{peer:?} {said:?} {plan:?}");
    }
    assert_eq!(priorities.of(&Head::of(&mut important(Low))), Low);
    assert!("".parse::<Priority>().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_fails_is_asked_less_and_found_again() {
    let gate = SuccessRate::builder().chance(Chance::seeded(1)).window(Duration::from_secs(10)).build();
    let status = Arc::new(AtomicU32::new(200));
    let says = Arc::clone(&status);
    let app = gate.layer().layer(service_fn(move |_: Request<()>| {
        let status = u16::try_from(says.load(Ordering::Relaxed)).unwrap();
        async move { Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).unwrap()) }
    }));
    // 100 a second; how many were refused.
    let run = async |seconds: u32| {
        let before = gate.refused();
        for _ in 0..seconds * 100 {
            sleep(10 * MS).await;
            drop(app.clone().oneshot(Request::new(())).await.unwrap());
        }
        (gate.refused() - before) as f64 / f64::from(seconds * 100)
    };
    assert_eq!(run(10).await, 0.0);
    status.store(404, Ordering::Relaxed);
    assert_eq!(run(10).await, 0.0, "callers' mistakes are no failures");
    status.store(500, Ordering::Relaxed);
    run(10).await;
    let refused = run(20).await;
    assert!((refused - 0.8).abs() < 0.05, "no more than the most: {refused}");
    assert!((gate.refusing() - 0.8).abs() < 0.001);
    status.store(200, Ordering::Relaxed);
    run(15).await;
    assert_eq!(run(5).await, 0.0, "it has come back");

    let refusal = Shed::new(&pressed().0).check(&mut Head::of(&mut Request::new(())));
    assert!(refusal.is_ok());
}
