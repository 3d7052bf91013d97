//! The script itself, by a clock that the test sets, against what the formulas say in numbers of any size.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use crate::support::redis::Server;

const SCRIPT: &str = include_str!("../../../src/admission/rate_limit/distributed/script.lua");

struct Script {
    stream: BufReader<TcpStream>,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Told {
    passes: bool,
    wait: i64,
    remains: i64,
}

impl Script {
    fn new(server: &Server) -> Self {
        let clock = "{string.match(redis.call('GET', 'clock'), '(%d+) (%d+)')}";
        let lives = "format('%.0f', max(1, ceil(lives / 1000) + 1))";
        assert!(SCRIPT.contains("redis.call('TIME')") && SCRIPT.contains(lives));
        // The server's own clock decides when a key goes: none does here.
        let text = SCRIPT.replace("redis.call('TIME')", clock).replace(lives, "'1000000000'");
        Self { stream: BufReader::new(TcpStream::connect(server.address).unwrap()), text }
    }

    fn send(&mut self, words: &[String]) {
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.stream.get_mut().write_all(command.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn set(&mut self, now: u64) {
        self.send(&["SET".into(), "clock".into(), format!("{} {}", now / 1_000_000, now % 1_000_000)]);
        assert_eq!(self.line(), "+OK");
    }

    fn decide(&mut self, key: &str, words: [u64; 6], cost: i64) -> Told {
        let mut command = vec!["EVAL".into(), self.text.clone(), "1".into(), key.into()];
        command.extend(words.iter().map(ToString::to_string));
        command.extend([cost.to_string(), "0".into(), "0".into()]);
        self.send(&command);
        assert_eq!(self.line(), "*7");
        let told: Vec<i64> = (0..7).map(|_| self.line().trim_start_matches(':').parse().unwrap()).collect();
        Told { passes: told[0] == 1, wait: told[1], remains: told[2] }
    }

    fn get(&mut self, key: &str) -> Option<String> {
        self.send(&["GET".into(), key.into()]);
        let length: i64 = self.line().trim_start_matches('$').parse().unwrap();
        let mut value = vec![0; usize::try_from(length).ok()? + 2];
        self.stream.read_exact(&mut value).unwrap();
        Some(String::from_utf8(value).unwrap().trim_end().to_owned())
    }
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
    let server = Server::start();
    let mut script = Script::new(&server);
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
                let state = script.get(&key).unwrap_or_default();
                let (at, owed) = state.split_once(' ').unwrap_or(("0", "0"));
                let gone = now.saturating_sub(at.parse().unwrap());
                debt = owed.parse::<u64>().unwrap().saturating_sub(gone * parts);
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
                assert_eq!(script.get(&key), Some(format!("{now} {debt}")), "whole numbers");
            }
        }
    }
}

#[test]
fn windows_are_what_their_formulas_say() {
    let server = Server::start();
    let mut script = Script::new(&server);
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
