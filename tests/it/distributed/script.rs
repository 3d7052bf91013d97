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
const RETURNED: &str = script!("returned.lua");
/// Where the test says what time it is.
const CLOCK: &str = "{string.match(redis.call('GET', 'clock'), '(%d+) (%d+)')}";

struct Script {
    stream: BufReader<TcpStream>,
    decide: String,
    correct: String,
    reset: String,
    now: u64,
}

/// A key, a limit's name under it, its words and a cost.
type Asked<'a> = (&'a str, u64, [u64; 6], u32);

#[derive(Debug, PartialEq, Eq)]
struct Told {
    passes: bool,
    wait: i64,
    remains: i64,
}

/// That the account's standing is told, whatever is decided.
const STANDING: u8 = 4;
/// That a limit is the first of the next key, and the last of its request.
const NEXT: u8 = 8;
const LAST: u8 = 16;
/// Of a limit that is alone under its key.
const NAME: u64 = 7;

impl Script {
    fn new(server: &Server) -> Self {
        let lives = "call('PSETEX', key, lives,";
        assert!(LIMITS.contains("redis.call('TIME')") && LIMITS.contains(lives));
        // The server's own clock decides when a key goes: none does here, and it is kept how long it was to live.
        let kept = "call('SET', 'lives', lives) call('PSETEX', key, '1000000000',";
        let limits = LIMITS.replace("redis.call('TIME')", CLOCK).replace(lives, kept);
        let [decide, correct, reset] = [script!("decide.lua"), script!("correct.lua"), script!("reset.lua")]
            .map(|text| format!("{limits}{text}"));
        let stream = BufReader::new(TcpStream::connect(server.address).unwrap());
        Self { stream, decide, correct, reset, now: 0 }
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
        let lists: Vec<_> = requests.iter().map(|&(key, words, cost)| [(key, NAME, words, cost)]).collect();
        self.decide_lists(&lists.iter().map(|list| &list[..]).collect::<Vec<_>>())
    }

    /// Decides about requests in one call, of each the limits of one key beside each other.
    fn decide_lists(&mut self, lists: &[&[Asked<'_>]]) -> Vec<Option<Told>> {
        let requests: Vec<_> = lists.iter().copied().flatten().collect();
        let of_key = |list: &[Asked<'_>], at: usize| at == 0 || list[at].0 != list[at - 1].0;
        let places = lists
            .iter()
            .flat_map(|list| (0..list.len()).map(move |at| (of_key(list, at), at + 1 == list.len())));
        let places: Vec<_> = places.collect();
        let keys = requests
            .iter()
            .zip(&places)
            .filter(|(_, (is_next, _))| *is_next)
            .map(|((key, ..), _)| key.as_bytes());
        let keys: Vec<_> = keys.collect();
        let limits = requests.iter().flat_map(|(_, name, words, _)| told(*name, *words));
        let asked = requests.iter().zip(&places).zip(1_u16..).flat_map(
            |(((.., cost), (is_next, is_last)), which)| {
                let flags = STANDING | if *is_next { NEXT } else { 0 } | if *is_last { LAST } else { 0 };
                [&which.to_le_bytes()[..], &cost.to_le_bytes(), &0_u32.to_le_bytes(), &[flags]].concat()
            },
        );
        let (limits, asked) = (limits.collect::<Vec<_>>(), asked.collect::<Vec<_>>());
        let (decide, count) = (self.decide.clone(), keys.len().to_string());
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
        self.correct_one((key, NAME, words), units, window, debt);
    }

    fn correct_one(&mut self, (key, name, words): (&str, u64, [u64; 6]), units: i64, window: u64, debt: u64) {
        let told = [told(name, words), doubles([units as f64, window as f64, debt as f64])].concat();
        let correct = self.correct.clone();
        self.send(&[b"EVAL", correct.as_bytes(), b"1", key.as_bytes(), &told]);
        assert_eq!(self.line(), ":1");
    }

    fn reset(&mut self, key: &str, name: u64) -> bool {
        let reset = self.reset.clone();
        self.send(&[b"EVAL", reset.as_bytes(), b"1", key.as_bytes(), &doubles([name as f64])]);
        self.line() == ":1"
    }

    /// The names of the limits under a key, in the order in which they are there.
    fn names(&mut self, key: &str) -> Vec<u64> {
        self.send(&[b"GET", key.as_bytes()]);
        let numbers = numbers(&self.value().unwrap_or_default());
        assert_eq!(numbers.len() % 6, 0);
        numbers.chunks(6).map(|state| state[0] as u64).collect()
    }

    fn beat(&mut self, name: &str, lives: u64) -> (i64, bool, Vec<f64>) {
        let text =
            BEAT.replace("redis.call('TIME')", CLOCK).replace("redis.call('PEXPIRE'", "tostring('PEXPIRE'");
        let words = ["EVAL", &text, "3", "instances", "sign", "returned", name, &lives.to_string(), "100"];
        self.send(&words.map(str::as_bytes));
        assert_eq!(self.line(), "*3");
        let [seen, is_new] = [0; 2].map(|_| self.line().trim_start_matches(':').parse::<i64>().unwrap());
        (
            seen,
            is_new == 1,
            self.value().expect("what came back").chunks(16).map(|one| numbers(one)[0]).collect(),
        )
    }

    /// Says that units of these limits have come back.
    fn returned(&mut self, lives: u64, names: &[f64]) {
        let text = RETURNED.replace("redis.call('TIME')", CLOCK);
        let (lives, names) = (lives.to_string(), doubles(names.iter().copied()));
        self.send(&[b"EVAL", text.as_bytes(), b"1", b"returned", lives.as_bytes(), &names]);
        assert!(self.line().starts_with(':'));
    }

    /// The numbers of the first limit under a key: until when its key lasts, and its state.
    fn get(&mut self, key: &str) -> Option<Vec<u64>> {
        self.send(&[b"GET", key.as_bytes()]);
        let numbers = numbers(&self.value()?);
        assert!(numbers.iter().all(|number| number.fract() == 0.0), "whole numbers: {numbers:?}");
        Some(numbers.into_iter().skip(1).map(|number| number as u64).collect())
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

fn told(name: u64, words: [u64; 6]) -> Vec<u8> {
    doubles([name].into_iter().chain(words).map(|word| word as f64))
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

impl Dice {
    /// Some requests, each by one or two keys, of some of four limits with their costs.
    fn lists(&mut self) -> Vec<Vec<(&'static str, usize, u32)>> {
        let mut lists = Vec::new();
        for _ in 0..=self.below(2) {
            let mut list = Vec::new();
            for key in ["x", "y"].into_iter().skip(self.below(2) as usize) {
                let (first, count) = (self.below(4) as usize, 1 + self.below(4) as usize);
                list.extend((0..count).map(|at| (key, (first + 3 * at) % 4, self.below(3) as u32)));
            }
            lists.push(list);
        }
        lists
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

/// Limits of one key are each as they would be under a key of their own: whichever a request names, in whichever order, with whatever
/// cost, as time goes on and back; and the key lasts as long as each of them has to.
#[test]
fn limits_of_one_key_are_as_if_each_had_its_own() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        let mut dice = Dice(3);
        const SECOND: u64 = 1_000_000;
        let limits = [
            (11, [1, SECOND, 5 * SECOND, 1, 0, 0]),
            (12, [2, 3 * SECOND, 6, 0, 0, 0]),
            (13, [3, 4 * SECOND, 0, 7, 0, 0]),
            (14, [1, 2 * SECOND, 4 * SECOND, 1, 0, 0]),
        ];
        let mut now = BEGIN;
        let mut passed = 0;
        for step in 0..600 {
            // What has gone in its time stays away by a clock that is set back: it is by less than a key lasts too long.
            now = if step % 20 == 19 { now - SECOND / 2 } else { now + dice.below(2 * SECOND) };
            script.set(now);
            let lists = dice.lists();
            let of = |(key, which, cost): &(&'static str, usize, u32)| {
                (*key, limits[*which].0, limits[*which].1, *cost)
            };
            let together: Vec<Vec<_>> = lists.iter().map(|list| list.iter().map(of).collect()).collect();
            let names: Vec<Vec<_>> = together
                .iter()
                .map(|list| list.iter().map(|(key, name, ..)| format!("{key}{name}")).collect())
                .collect();
            let alone: Vec<Vec<_>> = together
                .iter()
                .zip(&names)
                .map(|(list, names)| {
                    list.iter()
                        .zip(names)
                        .map(|((.., words, cost), own)| (&**own, NAME, *words, *cost))
                        .collect()
                })
                .collect();
            let mut decide = |lists: &[Vec<_>]| {
                script.decide_lists(&lists.iter().map(|list| &list[..]).collect::<Vec<_>>())
            };
            let (told, expected) = (decide(&together), decide(&alone));
            assert_eq!(told, expected, "{step}: {lists:?}");
            passed += told.iter().flatten().filter(|told| told.passes).count();
            if step % 7 == 0 {
                let (name, words) = limits[dice.below(4) as usize];
                let (own, units) = (format!("x{name}"), dice.below(5) as i64 - 3);
                let window = [0, now / (3 * SECOND), now / (4 * SECOND) * 4 * SECOND, 0][name as usize - 11];
                script.correct_one(("x", name, words), units, window, 2);
                script.correct_one((&own, NAME, words), units, window, 2);
            }
            if step % 50 == 10 {
                assert_eq!(script.reset("x", 11), script.reset("x11", NAME), "{step}");
            }
        }
        assert!((100..3000).contains(&passed), "{passed}: some pass and some do not");
    }
}

/// A limit of which nobody knows any more, is not kept for as long as the others are asked for; and a key is not kept for less time
/// than any of its limits needs.
#[test]
fn what_nobody_asks_for_goes_in_its_time() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        const SECOND: u64 = 1_000_000;
        let [long, short] = [[1, 60 * SECOND, 600 * SECOND, 1, 0, 0], [1, SECOND, 5 * SECOND, 1, 0, 0]];
        let lives = |script: &mut Script| {
            script.send(&[b"GET", b"lives"]);
            String::from_utf8(script.value().unwrap()).unwrap().parse::<u64>().unwrap() * 1000
        };
        script.set(BEGIN);
        script.decide_lists(&[&[("x", 1, long, 2), ("x", 2, short, 1), ("x", 3, long, 1)]]);
        assert_eq!(script.names("x"), [1, 2, 3]);
        assert!(lives(&mut script) >= 120 * SECOND, "as long as the longest");
        for at in 1..=60 {
            script.set(BEGIN + at * 2 * SECOND);
            script.decide_lists(&[&[("x", 2, short, 1)]]);
            if at <= 30 {
                assert_eq!(script.names("x"), [1, 2, 3], "{at}");
                assert!(BEGIN + at * 2 * SECOND + lives(&mut script) >= BEGIN + 120 * SECOND, "{at}");
            }
        }
        script.set(BEGIN + 130 * SECOND);
        script.decide_lists(&[&[("x", 2, short, 1)]]);
        assert_eq!(script.names("x"), [2]);
        assert!(lives(&mut script) < 10 * SECOND);
        // Who comes again, is new.
        assert_eq!(script.decide_lists(&[&[("x", 1, long, 1)]])[0].as_ref().unwrap().remains, 9);
    }
}

/// An instance is there as long as it is seen, also where the clock is set back.
#[test]
fn instances_are_counted_by_a_clock_that_may_be_set_back() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        const LIVES: u64 = 3_000_000;
        let told = |script: &mut Script, name| {
            let (seen, is_new, _) = script.beat(name, LIVES);
            (seen, is_new)
        };
        script.set(BEGIN);
        assert_eq!(["a", "b", "a"].map(|name| told(&mut script, name)), [(1, true), (2, true), (2, false)]);
        script.set(BEGIN + LIVES - 1);
        assert_eq!(told(&mut script, "a"), (2, false));
        script.set(BEGIN + LIVES + 1);
        assert_eq!(told(&mut script, "a"), (1, false), "the other was not seen for its time");
        script.set(BEGIN - 3_600_000_000);
        assert_eq!(told(&mut script, "b"), (1, true), "what was written later than now is forgotten");
        assert_eq!(told(&mut script, "a"), (2, true), "and comes again");
    }
}

/// What has come back is told for longer than an instance counts that does not hear it; and by a clock that is set back as well.
#[test]
fn it_is_told_of_which_limits_units_have_come_back() {
    for server in Server::each() {
        let mut script = Script::new(&server);
        const LIVES: u64 = 3_000_000;
        let told = |script: &mut Script| script.beat("a", LIVES).2;
        script.set(BEGIN);
        assert!(told(&mut script).is_empty());
        script.returned(LIVES, &[7.0, 8.0]);
        assert_eq!(told(&mut script), [7.0, 8.0]);
        script.set(BEGIN + 2 * LIVES);
        script.returned(LIVES, &[8.0, 9.0]);
        assert_eq!(told(&mut script), [8.0, 9.0, 7.0]);
        script.set(BEGIN + 4 * LIVES);
        script.returned(LIVES, &[1.0]);
        assert_eq!(told(&mut script), [1.0, 8.0, 9.0]);
        script.set(BEGIN - 3_600_000_000);
        script.returned(LIVES, &[2.0]);
        assert_eq!(told(&mut script), [2.0, 1.0, 8.0, 9.0]);
        script.set(BEGIN - 3_600_000_000 + 4 * LIVES);
        script.returned(LIVES, &[2.0]);
        assert_eq!(told(&mut script), [2.0], "they go in their time");
    }
}
