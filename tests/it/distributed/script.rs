//! The scripts themselves, on each kind of server, by a clock that the test sets, against what the formulas say in numbers of any size.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use crate::support::redis::Server;

macro_rules! script {
    ($name:literal) => {
        include_str!(concat!("../../../src/admission/rate_limit/distributed/", $name))
    };
}

const LIMITS: &str = script!("limits.lua");
const BEAT: &str = script!("beat.lua");
/// Where the test says what time it is.
const CLOCK: &str = "{string.match(redis.call('GET', 'clock'), '(%d+) (%d+)')}";

struct Script {
    stream: BufReader<TcpStream>,
    decide: String,
    correct: String,
    now: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Told {
    passes: bool,
    wait: i64,
    remains: i64,
}

/// That the account's standing is told, whatever is decided.
const STANDING: u8 = 4;

impl Script {
    fn new(server: &Server) -> Self {
        let lives = "call('PSETEX', key, lives,";
        assert!(LIMITS.contains("redis.call('TIME')") && LIMITS.contains(lives));
        // The server's own clock decides when a key goes: none does here, and it is kept how long it was to live.
        let kept = "call('SET', 'lives', lives) call('PSETEX', key, '1000000000',";
        let limits = LIMITS.replace("redis.call('TIME')", CLOCK).replace(lives, kept);
        let [decide, correct] =
            [script!("decide.lua"), script!("correct.lua")].map(|text| format!("{limits}{text}"));
        Self { stream: BufReader::new(TcpStream::connect(server.address).unwrap()), decide, correct, now: 0 }
    }

    fn send(&mut self, words: &[&[u8]]) {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend([word, &b"\r\n"[..]].concat());
        }
        self.stream.get_mut().write_all(&command).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn set(&mut self, now: u64) {
        self.now = now;
        self.send(&[b"SET", b"clock", format!("{} {}", now / 1_000_000, now % 1_000_000).as_bytes()]);
        assert_eq!(self.line(), "+OK");
    }

    /// Decides about some requests in one call: each of one limit, by a key, its words and a cost.
    fn decide_all(&mut self, requests: &[(&str, [u64; 6], u32)]) -> Vec<Option<Told>> {
        let keys = requests.iter().map(|(key, ..)| key.as_bytes());
        let limits = requests.iter().flat_map(|(_, words, _)| doubles(words.map(|word| word as f64)));
        let asked = requests.iter().zip(1_u16..).flat_map(|((.., cost), which)| {
            let (one, ahead) = (1_u16.to_le_bytes(), 0_u32.to_le_bytes());
            [&one[..], &which.to_le_bytes(), &cost.to_le_bytes(), &ahead, &[STANDING]].concat()
        });
        let (limits, asked) = (limits.collect::<Vec<_>>(), asked.collect::<Vec<_>>());
        let (decide, count) = (self.decide.clone(), requests.len().to_string());
        let words = [b"EVAL", decide.as_bytes(), count.as_bytes()].into_iter().chain(keys);
        self.send(&words.chain([&limits[..], &asked]).collect::<Vec<_>>());
        let value = self.value().expect("an answer");
        let mut told = &value[..];
        let each = requests.iter().map(|_| {
            let passes = told.split_off_first().expect("whether it passes");
            let numbers = numbers(told.split_off(..if *passes == 2 { 0 } else { 48 }).expect("six numbers"));
            (*passes < 2).then(|| Told {
                passes: *passes == 1,
                wait: numbers[0] as i64,
                remains: numbers[3] as i64,
            })
        });
        let each = each.collect();
        assert!(told.is_empty());
        each
    }

    fn decide(&mut self, key: &str, words: [u64; 6], cost: i64) -> Told {
        let before = self.get(key);
        let told = self.decide_all(&[(key, words, cost as u32)]).remove(0).expect("the key is ours");
        self.lasts(key, before);
        told
    }

    /// A key that is said to last until then does, whoever has written it.
    fn lasts(&mut self, key: &str, before: Option<Vec<u64>>) {
        let (Some(state), now) = (self.get(key), self.now) else { return };
        if before.is_some_and(|before| before[0] == state[0]) {
            return;
        }
        self.send(&[b"GET", b"lives"]);
        let lives: u64 = String::from_utf8(self.value().unwrap()).unwrap().parse().unwrap();
        assert!(state[0] <= now + lives * 1000, "{key}");
    }

    /// Charges afterwards, or gives back, what was charged in this window.
    fn correct(&mut self, key: &str, words: [u64; 6], units: i64, window: u64, debt: u64) {
        let numbers =
            words.map(|word| word as f64).into_iter().chain([units as f64, window as f64, debt as f64]);
        let told = doubles(numbers);
        let correct = self.correct.clone();
        self.send(&[b"EVAL", correct.as_bytes(), b"1", key.as_bytes(), &told]);
        assert_eq!(self.line(), ":1");
    }

    fn beat(&mut self, name: &str, lives: u64) -> i64 {
        let text =
            BEAT.replace("redis.call('TIME')", CLOCK).replace("redis.call('PEXPIRE'", "tostring('PEXPIRE'");
        let words = ["EVAL", &text, "2", "instances", "sign", name, &lives.to_string(), "100"];
        self.send(&words.map(str::as_bytes));
        self.line().trim_start_matches(':').parse().unwrap()
    }

    /// The numbers of an account: until when its key lasts, and its state.
    fn get(&mut self, key: &str) -> Option<Vec<u64>> {
        self.send(&[b"GET", key.as_bytes()]);
        let numbers = numbers(&self.value()?);
        assert!(numbers.iter().all(|number| number.fract() == 0.0), "whole numbers: {numbers:?}");
        Some(numbers.into_iter().map(|number| number as u64).collect())
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let length: i64 = line.strip_prefix('$').unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        let mut value = vec![0; usize::try_from(length).ok()? + 2];
        self.stream.read_exact(&mut value).unwrap();
        value.truncate(value.len() - 2);
        Some(value)
    }
}

fn doubles(numbers: impl IntoIterator<Item = f64>) -> Vec<u8> {
    numbers.into_iter().flat_map(f64::to_le_bytes).collect()
}

fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Numbers that look like chance, and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }
}

const BEGIN: u64 = 1_795_255_200_000_000;

#[test]
fn a_bucket_is_what_its_formula_says() {
    Server::each().iter().for_each(bucket);
}

fn bucket(server: &Server) {
    let mut script = Script::new(server);
    let mut dice = Dice(1);
    // Interval, burst, parts: 10 million a second, one a month, something odd.
    for (at, (interval, burst, parts)) in
        [(104_857, 10_000_000, 1 << 20), (2_592_000_000_000, 3, 1), (149_796_571, 7, 1 << 20)]
            .into_iter()
            .enumerate()
    {
        let whole = interval * burst;
        let (key, mut now, mut debt) = (format!("bucket{at}"), BEGIN, 0_u64);
        for step in 0..300 {
            // Now and then the clock is set back: what was owed when it was last written is owed still.
            if step % 50 == 49 {
                now -= 10_000_000;
                let state = script.get(&key).unwrap_or_else(|| vec![0; 3]);
                let gone = now.saturating_sub(state[1]);
                debt = state[2].saturating_sub(gone * parts);
            } else {
                let wait = dice.below(whole / parts / 4 + 2);
                now += wait;
                debt = debt.saturating_sub(wait * parts);
            }
            let cost = dice.below(burst + burst / 8 + 2);
            script.set(now);
            let told = script.decide(&key, [1, interval, whole, parts, 0, 0], cost as i64);
            let price = cost * interval;
            let fits = debt + price <= whole;
            assert_eq!(told.passes, fits, "{at} {step}: {cost} with {debt} of {whole}");
            match told.wait {
                0 => debt += price,
                -1 => assert!(price > whole),
                wait => assert_eq!(wait as u64, (debt + price - whole).div_ceil(parts)),
            }
            assert_eq!(told.remains as u64, (whole - debt) / interval);
            if debt > 0 && told.passes && cost > 0 {
                let state = script.get(&key).unwrap();
                assert_eq!(state[1..], [now, debt, interval, parts]);
                assert!(state[0] >= now + debt / parts, "its key lasts until it is whole");
            }
        }
    }
}

#[test]
fn windows_are_what_their_formulas_say() {
    Server::each().iter().for_each(windows);
}

fn windows(server: &Server) {
    let mut script = Script::new(server);
    let mut dice = Dice(2);
    for (at, (window, count)) in
        [(1_000_000, 10), (60_000_000, 1000), (31_536_000_000_000, 4_000_000_000_u64)].into_iter().enumerate()
    {
        let (sliding, fixed) = (format!("sliding{at}"), format!("fixed{at}"));
        let (mut now, mut index, mut before, mut running, mut spent) = (BEGIN, 0, 0_u128, 0_u128, 0);
        for step in 0..300 {
            now += dice.below(window / 4);
            script.set(now);
            let here = now / window;
            (before, running, spent) = match here - index {
                0 => (before, running, spent),
                1 => (running, 0, 0),
                _ => (0, 0, 0),
            };
            index = here;
            let cost = dice.below(count / 3 + 2);

            // It may take what was spent before for a 2^20th of a window younger than it is, and never for older.
            let told = script.decide(&sliding, [2, window, count, 0, 0, 0], cost as i64);
            let (into, unit) = (now % window, window.div_ceil(1 << 20));
            let load = |left: u64| {
                (before * u128::from(left)).div_ceil(u128::from(window)) + running + u128::from(cost)
            };
            let (exact, most) =
                (load(window - into), load((window - into + unit + unit).min(window + unit)) + 1);
            if told.passes {
                assert!(exact <= u128::from(count), "{at} {step}");
                running += u128::from(cost);
            } else {
                assert!(most > u128::from(count), "{at} {step}: {most} of {count}");
                if told.wait > 0 && told.wait < i64::try_from(window - into).unwrap() {
                    script.set(now + told.wait as u64 - 1);
                    assert!(
                        !script.decide(&sliding, [2, window, count, 0, 0, 0], cost as i64).passes,
                        "too early"
                    );
                    script.set(now);
                }
            }

            let told = script.decide(&fixed, [3, window, 0, count, 0, 0], cost as i64);
            assert_eq!(told.passes, spent + cost <= count, "{at} {step}");
            if told.passes {
                spent += cost;
            } else {
                assert_eq!(told.wait as u64, window - into);
            }
            assert_eq!(told.remains as u64, count - spent);
        }
    }
}

/// A limit as the script is told of it so many microseconds after the beginning.
type WordsAt<'a> = &'a dyn Fn(u64) -> [u64; 6];

#[test]
fn what_is_corrected_is_what_was_charged() {
    Server::each().iter().for_each(corrections);
}

fn corrections(server: &Server) {
    let mut script = Script::new(server);
    const SECOND: u64 = 1_000_000;
    // Ten a second: of a bucket, and of windows.
    let bucket = |_| [1, SECOND / 10, SECOND, 1, 0, 0];
    let sliding = |_| [2, SECOND, 10, 0, 0, 0];
    let fixed = |_| [3, SECOND, 0, 10, 0, 0];
    // Those of three seconds that are near, as a gateway tells them.
    let months = |at: u64| {
        let here = BEGIN + at / (3 * SECOND) * 3 * SECOND;
        [4, here - 3 * SECOND, here, here + 3 * SECOND, here + 6 * SECOND, 10]
    };
    let starts = BEGIN / SECOND;
    let limits: [(&str, WordsAt<'_>, u64, u64); 4] = [
        ("bucket", &bucket, 0, 1),
        ("sliding", &sliding, starts, 1),
        ("fixed", &fixed, BEGIN, 1),
        ("months", &months, BEGIN, 3),
    ];
    for (key, words_at, window, long) in limits {
        let words = words_at(0);
        let remains = |script: &mut Script, at: u64| {
            script.set(BEGIN + at);
            script.decide(key, words_at(at), 0).remains
        };
        script.set(BEGIN);
        // To an account that is whole nothing is given back, and none is made.
        script.correct(key, words, -5, window, 0);
        assert_eq!(script.get(key), None, "{key}");
        assert!(script.decide(key, words, 4).passes);
        script.correct(key, words, -1, window, 0);
        assert_eq!(remains(&mut script, 0), 7, "{key}: one came back");
        script.correct(key, words, 2, window, 0);
        assert_eq!(remains(&mut script, 0), 5, "{key}: two more were charged");
        script.correct(key, words, 100, window, 0);
        assert_eq!(remains(&mut script, 0), 0, "{key}");
        script.correct(key, words, -10, window, 0);
        assert_eq!(remains(&mut script, 0), 10, "{key}: it owed no more than it held");
        script.correct(key, words, -10, window, 0);
        assert_eq!(remains(&mut script, 0), 10, "{key}: it never holds more");

        // Debt is paid before anything can be spent.
        script.correct(key, words, 100, window, 15);
        assert_eq!(remains(&mut script, 0), 0, "{key}");
        let told = script.decide(key, words, 1);
        assert!(!told.passes && told.wait > 0, "{key}: {told:?}");
        let later = told.wait as u64;
        script.set(BEGIN + later - 1);
        assert!(!script.decide(key, words_at(later - 1), 1).passes, "{key}: too early");
        script.set(BEGIN + later + 1);
        assert!(script.decide(key, words_at(later + 1), 1).passes, "{key}: at its time");
        assert!(later >= SECOND * long, "{key}: {later}");

        // What was charged in a window that is long over has no use any more.
        if window != 0 {
            let before = remains(&mut script, 10 * SECOND * long);
            script.correct(key, words_at(10 * SECOND * long), -5, window, 0);
            assert_eq!(remains(&mut script, 10 * SECOND * long), before, "{key}");
        }
    }
}

/// What is spent stays spent where what is granted changes: as many units, but none that are owed beyond what there is.
#[test]
fn units_outlive_other_terms() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        const DAY: u64 = 86_400_000_000;
        let bucket = |count: u64, burst: u64, debt: u64| {
            let interval = DAY * 16 / count;
            [1, interval, interval * burst, 16, interval * (burst + debt), 0]
        };
        let months = |count| [4, BEGIN - 31 * DAY, BEGIN, BEGIN + 30 * DAY, BEGIN + 61 * DAY, count];
        script.set(BEGIN);
        for (key, words, spent, then, remains) in [
            ("faster", bucket(100, 100, 0), 60, bucket(200, 100, 0), 40),
            ("better", bucket(100, 100, 0), 60, bucket(1000, 200, 0), 140),
            ("slower", bucket(100, 100, 0), 60, bucket(10, 100, 0), 40),
            ("odd", bucket(100, 100, 0), 60, bucket(97, 101, 0), 41),
            ("less", bucket(100, 100, 0), 60, bucket(10, 10, 0), 0),
            ("window", [3, DAY, 0, 100, 0, 0], 60, [3, DAY, 0, 101, 0, 0], 41),
            ("small", [3, DAY, 0, 100, 0, 0], 60, [3, DAY, 0, 10, 0, 0], 0),
            ("month", months(100), 60, months(200), 140),
            ("free", months(100), 60, months(10), 0),
            ("sliding", [2, DAY, 100, 0, 0, 0], 60, [2, DAY, 101, 0, 0, 0], 41),
        ] {
            assert!(script.decide(key, words, spent).passes, "{key}");
            let told = script.decide(key, then, 1);
            assert_eq!((told.passes, told.remains), (remains > 0, (remains - 1).max(0)), "{key}");
            if remains == 0 {
                let whole = if key == "free" { 30 * DAY } else { DAY };
                assert!(told.wait as u64 <= whole, "{key}: it owes nothing beyond what it holds: {told:?}");
                // What was spent under larger terms is not forgotten.
                assert!(!script.decide(key, then, 1).passes);
                script.correct(key, then, 5, then[2] * u64::from(key == "free"), 0);
                assert!(script.decide(key, then, 1).wait as u64 <= whole, "{key}");
            }
        }
    }
}

/// Requests of one call are decided one after the other, as if each had come alone; of one whose key is somebody else's nothing
/// is decided, and the others have no part in that.
#[test]
fn requests_of_one_call_are_decided_one_after_the_other() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        const SECOND: u64 = 1_000_000;
        script.set(BEGIN);
        for (key, words) in [
            ("bucket", [1, SECOND, 5 * SECOND, 1, 0, 0]),
            ("sliding", [2, 1000 * SECOND, 5, 0, 0, 0]),
            ("fixed", [3, 1000 * SECOND, 0, 5, 0, 0]),
        ] {
            server.ask("LPUSH theirs x");
            server.ask("SETRANGE short 0 x");
            let other = format!("other-{key}");
            let asked = [key, "theirs", key, &other, "short", key, key, &other].map(|key| (key, words, 2));
            let told: Vec<_> = script
                .decide_all(&asked)
                .into_iter()
                .map(|told| told.map(|told| (told.passes, told.remains)))
                .collect();
            let (first, second, refused) = (Some((true, 3)), Some((true, 1)), Some((false, 1)));
            assert_eq!(told, [first, None, second, first, None, refused, refused, second], "{key}");
            script.correct("theirs", words, 1, 0, 0);
            assert_eq!(server.ask("LLEN theirs"), ":1\r\n");
            server.ask("DEL theirs");
        }
    }
}

/// An instance is there as long as it is seen, also where the clock is set back.
#[test]
fn instances_are_counted_by_a_clock_that_may_be_set_back() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        const LIVES: u64 = 3_000_000;
        script.set(BEGIN);
        assert_eq!([script.beat("a", LIVES), script.beat("b", LIVES), script.beat("a", LIVES)], [1, 2, 2]);
        script.set(BEGIN + LIVES - 1);
        assert_eq!(script.beat("a", LIVES), 2);
        script.set(BEGIN + LIVES + 1);
        assert_eq!(script.beat("a", LIVES), 1, "the other was not seen for its time");
        script.set(BEGIN - 3_600_000_000);
        assert_eq!(script.beat("b", LIVES), 1, "what was written later than now is forgotten");
        assert_eq!(script.beat("a", LIVES), 2, "and comes again");
    }
}
