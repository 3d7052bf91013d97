//! How long anybody waits, and how soon all is as before: by the clock of the runtime, to which the server belongs too. That
//! clock goes on when nobody has anything to do, by a millisecond at a time, since somebody looks at it each millisecond.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use portcullis::{
    admission::{
        quota::{Quota, QuotaFallback, QuotaStore, Quotas},
        rate_limit::{Distribution, Fallback, Limit, RateLimit},
    },
    key::Key,
    redis::Redis,
    time::Period,
    trip::State,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{ACCOUNT, Gate, Infallible, Request, Response, StatusCode, answer, gate, limit, passes};

const DEADLINE: Duration = Duration::from_millis(50);
/// What timers are rounded to, and how long it takes until somebody has heard.
const ROUNDED: Duration = Duration::from_millis(5);
/// Sockets are real and the clock is not: it goes on by a millisecond at each look while bytes are on their way.
const ON_THE_WAY: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Serves,
    Slow(Duration),
    /// It answers when it serves again, as one that was stopped.
    Stopped,
    Refuses(&'static str),
    /// It answers something else than was asked for.
    Nonsense,
    /// Nobody is there.
    Away,
}

const OUTAGES: [Mode; 7] = [
    Mode::Stopped,
    Mode::Away,
    Mode::Slow(Duration::from_secs(3)),
    Mode::Refuses("OOM"),
    Mode::Refuses("READONLY"),
    Mode::Refuses("NOPERM"),
    Mode::Nonsense,
];

/// A server that lets everything pass, as long as it serves.
struct Server {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    tasks: [JoinHandle<()>; 2],
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (mode, told)) = (listener.local_addr().unwrap(), watch::channel(Mode::Serves));
        let ticking = tokio::spawn(async {
            loop {
                sleep(Duration::from_millis(1)).await;
                // The kernel has as long to carry what was sent.
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        Self { address, mode, tasks: [tokio::spawn(listen(listener, told)), ticking] }
    }

    fn redis(&self) -> Redis {
        Redis::builder(&format!("redis://{}", self.address)).unwrap().build()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(listener: TcpListener, mut mode: watch::Receiver<Mode>) {
    let (address, mut listener) = (listener.local_addr().unwrap(), Some(listener));
    loop {
        let Some(open) = &listener else {
            if mode.wait_for(|mode| *mode != Mode::Away).await.is_err() {
                return;
            }
            listener = Some(TcpListener::bind(address).await.unwrap());
            continue;
        };
        let told = mode.clone();
        let gone = async { mode.wait_for(|mode| *mode == Mode::Away).await.is_ok() };
        tokio::select! {
            accepted = open.accept() => drop(tokio::spawn(serve(accepted.unwrap().0, told))),
            is_gone = gone => match is_gone {
                true => listener = None,
                false => return,
            },
        }
    }
}

async fn serve(stream: TcpStream, mut mode: watch::Receiver<Mode>) {
    let mut gone = mode.clone();
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let serving = async {
        while let Some(words) = command(&mut reading).await {
            let Ok(now) = mode.wait_for(|mode| *mode != Mode::Stopped).await.map(|mode| *mode) else {
                return;
            };
            if let Mode::Slow(time) = now {
                sleep(time).await;
            }
            let said = match now {
                Mode::Refuses(code) => format!("-{code} not now\r\n"),
                Mode::Nonsense => "+OK\r\n".to_owned(),
                _ => answered(&words),
            };
            if writing.write_all(said.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = serving => {}
        _ = gone.wait_for(|mode| *mode == Mode::Away) => {}
    }
}

/// A command's words.
async fn command(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    for _ in 0..length(from).await? {
        let mut word = vec![0; length(from).await? + 2];
        from.read_exact(&mut word).await.ok()?;
        words.push(word);
    }
    Some(words)
}

async fn length(from: &mut BufReader<OwnedReadHalf>) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).await.ok()?;
    line.trim().get(1..)?.parse().ok()
}

fn answered(words: &[Vec<u8>]) -> String {
    static DECIDE: LazyLock<String> = LazyLock::new(|| {
        let decide = concat!(
            include_str!("../../../src/admission/rate_limit/distributed/limits.lua"),
            include_str!("../../../src/admission/rate_limit/distributed/decide.lua")
        );
        format!("{}\r\n", ::redis::Script::new(decide).get_hash())
    });
    static BEAT: LazyLock<String> = LazyLock::new(|| {
        let beat = include_str!("../../../src/admission/rate_limit/distributed/beat.lua");
        format!("{}\r\n", ::redis::Script::new(beat).get_hash())
    });
    match (&*words[0], words.len()) {
        // Each passes, of however many there are.
        (b"EVALSHA\r\n", _) if words[1] == DECIDE.as_bytes() => {
            let count: usize = std::str::from_utf8(&words[2]).unwrap().trim().parse().unwrap();
            let said = format!("\u{1}{}", "\0".repeat(24)).repeat(count);
            format!("${}\r\n{said}\r\n", said.len())
        }
        (b"EVALSHA\r\n", _) if words[1] == BEAT.as_bytes() => "*3\r\n:1\r\n:0\r\n$0\r\n\r\n".to_owned(),
        // What a quota decides.
        (b"EVALSHA\r\n", 8) if words[2] == b"1\r\n" => "*2\r\n:1\r\n:1\r\n".to_owned(),
        // What is given back.
        (b"EVALSHA\r\n", _) => ":1\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

fn one(there: &Distribution, name: &str) -> Limit {
    limit(name, "1000000/year").distributed(there.clone()).build().unwrap()
}

/// Asks until it is known that nobody answers.
async fn fail(gate: &Gate, limit: &Limit) {
    let handle = limit.distribution().unwrap();
    let began = Instant::now();
    while handle.redis() != State::Open {
        let many = (0..5).map(|_| tokio::spawn(passes_soon(gate.clone())));
        for one in many.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}

/// Asks until Redis has decided: the machine may be so busy that the kernel takes longer than the deadline.
async fn decide(gate: &Gate, limit: &Limit) {
    let handle = limit.distribution().unwrap();
    let before = handle.by_redis();
    let asked = async {
        while handle.by_redis() == before {
            assert!(passes(gate, "a").await);
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("Redis decides");
}

async fn passes_soon(gate: Gate) {
    assert!(passes(&gate, "a").await);
}

/// Whether requests come or not, and however long they may wait.
#[tokio::test(start_paused = true)]
async fn all_is_as_before_within_a_second() {
    for outage in OUTAGES {
        for (deadline, comes) in [(DEADLINE, false), (DEADLINE, true), (Duration::from_secs(2), false)] {
            for step in 0..4 {
                let server = Server::start().await;
                let there = Distribution::on(server.redis()).deadline(deadline).fallback(Fallback::Allow);
                let limit = one(&there, "a");
                let (gate, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
                decide(&gate, &limit).await;
                assert_eq!(handle.redis(), State::Closed);
                server.mode.send_replace(outage);
                fail(&gate, &limit).await;
                sleep(Duration::from_millis(370 * step)).await;
                server.mode.send_replace(Mode::Serves);
                let began = Instant::now();
                while handle.redis() != State::Closed {
                    if comes {
                        assert!(passes(&gate, "a").await);
                    }
                    sleep(Duration::from_millis(1)).await;
                    let waited = began.elapsed();
                    assert!(
                        waited <= Duration::from_secs(1) + ON_THE_WAY,
                        "{outage:?}, {deadline:?}, {step}: {waited:?}"
                    );
                }
                decide(&gate, &limit).await;
            }
        }
    }
}

/// Limits of a listener, limits of a rule, and quotas.
fn three(server: &Server) -> Gate {
    let app = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let there = Distribution::on(server.redis()).deadline(DEADLINE).fallback(Fallback::Allow);
    let store = QuotaStore::redis(server.redis()).deadline(DEADLINE).fallback(QuotaFallback::Allow);
    let quota = Quota::builder("calls", 1_000_000, Period::Year).by(Key::Header(ACCOUNT)).store(store);
    let inner = Quotas::from_iter([quota.build().unwrap()]).layer().layer(app);
    let inner = RateLimit::new(one(&there, "rule")).layer().layer(inner);
    let service = RateLimit::new(one(&there, "listener")).layer().layer(inner);
    BoxCloneSyncService::new(service.map_response(|response| response.map(drop)))
}

/// Nor for the sum of several.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_one_deadline() {
    for outage in OUTAGES.into_iter().chain([45, 30, 20].map(|time| Mode::Slow(Duration::from_millis(time))))
    {
        let server = Server::start().await;
        let gate = three(&server);
        assert_eq!(answer(&gate, "a").await.status(), StatusCode::OK);
        server.mode.send_replace(outage);
        for at in 0..30 {
            let began = Instant::now();
            assert_eq!(answer(&gate, "a").await.status(), StatusCode::OK);
            let waited = began.elapsed();
            assert!(waited <= DEADLINE + ROUNDED, "{outage:?}, {at}: {waited:?}");
        }
    }
}
