//! A limit in the words of the script: integers below 2^53, times in microseconds.

use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::admission::rate_limit::{Algorithm, Quota, rate::nanos, windows::Windows};

/// The largest integer that a number of Lua holds is twice this.
const MOST: u64 = 1 << 52;
/// The finest part of a microsecond.
const FINEST: u32 = 20;

/// What the script is told of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Params {
    /// The interval, and what an account owes that is spent and at most, in parts of a microsecond; and how many parts that
    /// has.
    Bucket {
        interval: u64,
        whole: u64,
        parts: u64,
        deepest: u64,
    },
    Sliding {
        window: u64,
        count: u32,
    },
    Fixed {
        windows: Windows,
        count: u32,
    },
}

impl Params {
    /// `None` if no script can judge by it. An account may owe `debt` units beyond what it holds.
    pub(super) fn new(algorithm: Algorithm, quota: Quota, debt: u32) -> Option<Self> {
        let count = quota.rate().count().get();
        let period = u64::try_from(quota.rate().period().as_micros()).ok().filter(|period| *period > 0)?;
        match algorithm {
            Algorithm::TokenBucket => {
                Self::bucket(nanos(quota.rate().period()), count, quota.burst().get(), debt)
            }
            Algorithm::SlidingWindow => Some(Self::Sliding { window: period, count }),
            Algorithm::FixedWindow { zone } => {
                let windows = Windows::new(nanos(quota.rate().period()), zone)?;
                Some(Self::Fixed { windows, count })
            }
            Algorithm::LeakyBucket { .. } => None,
        }
    }

    /// An interval is rounded up to as fine a part as there is room for: at ten million a second by 6 parts in a million.
    fn bucket(period: u64, count: u32, burst: u32, debt: u32) -> Option<Self> {
        (0..=FINEST).rev().find_map(|bits| {
            let parts = 1_u64 << bits;
            let interval = (u128::from(period) * u128::from(parts)).div_ceil(1000 * u128::from(count));
            let deepest = u64::try_from(interval * (u128::from(burst) + u128::from(debt)))
                .ok()
                .filter(|most| *most <= MOST)?;
            let whole = u64::try_from(interval * u128::from(burst)).ok()?;
            let interval = u64::try_from(interval).ok()?;
            Some(Self::Bucket { interval, whole, parts, deepest })
        })
    }

    /// What an account holds when it is full.
    pub(super) fn capacity(self) -> u64 {
        match self {
            Self::Bucket { interval, whole, .. } => whole / interval,
            Self::Sliding { count, .. } | Self::Fixed { count, .. } => count.into(),
        }
    }

    /// What accounts have in common that can go on from one of these to another: what is spent stays so, whatever the rate of
    /// a bucket, and whatever the count of a window.
    fn kind(self) -> String {
        match self {
            Self::Bucket { .. } => "1".into(),
            Self::Sliding { window, .. } => format!("2.{window}"),
            Self::Fixed { windows: Windows::Every { period, from }, .. } => {
                format!("3.{}.{}", period / 1000, from / 1000)
            }
            Self::Fixed { windows: Windows::Months { months, ahead }, .. } => format!("4.{months}.{ahead}"),
        }
    }

    /// Whether accounts that are counted by one of them can go on by the other.
    pub(super) fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Bucket { .. }, Self::Bucket { .. }) => true,
            (Self::Sliding { window, .. }, Self::Sliding { window: other, .. }) => window == other,
            (Self::Fixed { windows, .. }, Self::Fixed { windows: other, .. }) => windows == other,
            _ => false,
        }
    }

    /// By which accounts of this limit are known among those of others: 53 bits of a digest, which a number of Lua holds.
    pub(super) fn name(self, limit: &str) -> u64 {
        let digest: [u8; 32] = Sha256::digest(format!("{limit}:{}", self.kind())).into();
        digest[..8].iter().fold(0, |name, &byte| name << 8 | u64::from(byte)) >> 11
    }

    /// As the scripts read it, with this name: seven doubles. The clock says which months are near.
    pub(super) fn tell(self, name: u64, now: SystemTime) -> [u8; 56] {
        let [a, b, c, d, e, f] = self.words(now);
        told([name, a, b, c, d, e, f].map(|number| number as f64))
    }

    fn words(self, now: SystemTime) -> [u64; 6] {
        match self {
            Self::Bucket { interval, whole, parts, deepest } => [1, interval, whole, parts, deepest, 0],
            Self::Sliding { window, count } => [2, window, count.into(), 0, 0, 0],
            Self::Fixed { windows: Windows::Every { period, from }, count } => {
                [3, period / 1000, from / 1000, count.into(), 0, 0]
            }
            // Those of the calendar are not of one length: the one before the running one, this, and the two after it.
            Self::Fixed { windows, count } => {
                let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let here = windows.index(nanos(now));
                let [before, here, next, later] =
                    [here - 1, here, here + 1, here + 2].map(|index| windows.start(index) / 1000);
                [4, before, here, next, later, count.into()]
            }
        }
    }
}

/// Numbers as the scripts read them.
pub(super) fn told<const N: usize, const BYTES: usize>(numbers: [f64; N]) -> [u8; BYTES] {
    let mut told = [0; BYTES];
    for (place, number) in told.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    told
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::{admission::rate_limit::Rate, time::Calendar};

    const DAY: u64 = 86_400_000_000;
    const YEAR: u64 = 365 * DAY;

    fn bucket(rate: &str, burst: u32) -> Option<Params> {
        let quota = Quota::new(rate.parse().unwrap()).with_burst(NonZeroU32::new(burst).unwrap());
        Params::new(Algorithm::TokenBucket, quota, 0)
    }

    #[test]
    fn an_interval_is_never_faster_than_the_rate_and_hardly_slower() {
        for (rate, burst) in [
            ("1/year", 100),
            ("1/month", 1),
            ("1000000/month", 1_000_000),
            ("999983/month", 999_983),
            ("7/s", 7),
            ("7000000/s", 7_000_000),
            ("9999991/s", 1),
            ("10000000/s", 10_000_000),
            ("4294967295/h", u32::MAX),
        ] {
            let Params::Bucket { interval, whole, parts, .. } = bucket(rate, burst).unwrap() else {
                panic!()
            };
            let of: Rate = rate.parse().unwrap();
            let exact = of.period().as_micros() * u128::from(parts);
            let told = u128::from(interval) * u128::from(of.count().get());
            assert!(told >= exact && (told - exact) * 100_000 < exact, "{rate}");
            assert!(whole <= MOST && whole / interval == u64::from(burst), "{rate}");
        }
    }

    /// Otherwise instances of two versions would count for themselves.
    #[test]
    fn accounts_go_on_where_they_can() {
        let of =
            |algorithm, rate: &str| Params::new(algorithm, Quota::new(rate.parse().unwrap()), 0).unwrap();
        let zone = "+01:00".parse().unwrap();
        let all = [
            of(Algorithm::TokenBucket, "5/s"),
            of(Algorithm::TokenBucket, "7/h"),
            of(Algorithm::SlidingWindow, "5/s"),
            of(Algorithm::SlidingWindow, "7/s"),
            of(Algorithm::SlidingWindow, "5/h"),
            of(Algorithm::CALENDAR, "5/h"),
            of(Algorithm::CALENDAR, "7/h"),
            of(Algorithm::CALENDAR, "5/month"),
            of(Algorithm::FixedWindow { zone }, "5/month"),
            of(Algorithm::CALENDAR, "5/year"),
        ];
        for one in all {
            for other in all {
                assert_eq!(one.is_like(other), one.kind() == other.kind(), "{one:?} {other:?}");
                assert_eq!(one.is_like(other), one.name("a") == other.name("a"), "{one:?} {other:?}");
            }
            assert!(one.name("a") != one.name("b") && one.name("a") < 1 << 53);
        }
        assert_eq!(
            all[0].name("per-customer"),
            5_569_337_675_771_553,
            "pinned: others would be other accounts"
        );
    }

    #[test]
    fn what_lua_cannot_count_is_refused() {
        assert_eq!(bucket("1/year", u32::MAX), None);
        let indebted = |debt| Params::new(Algorithm::TokenBucket, Quota::new("10/s".parse().unwrap()), debt);
        assert!(indebted(1_000_000).is_some());
        assert_eq!(
            Params::new(Algorithm::TokenBucket, Quota::new("1/year".parse().unwrap()), u32::MAX),
            None
        );
    }

    #[test]
    fn windows_are_those_of_the_calendar() {
        let fixed =
            |rate: &str| Params::new(Algorithm::CALENDAR, Quota::new(rate.parse().unwrap()), 0).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_255_200); // 2026-11-21
        assert_eq!(fixed("5/min").words(now), [3, 60_000_000, 0, 5, 0, 0]);
        assert_eq!(fixed("5/week").words(now), [3, 7 * DAY, 4 * DAY, 5, 0, 0]);
        let [_, before, here, next, later, _] = fixed("5/month").words(now);
        assert_eq!([here - before, next - here, later - next], [31 * DAY, 30 * DAY, 31 * DAY]);
        let [_, before, here, next, later, _] = fixed("5/year").words(now);
        assert_eq!([here - before, next - here, later - next], [YEAR, YEAR, YEAR]);
        assert_eq!(here, 1_767_225_600_000_000, "2026-01-01");
        let zone: Calendar = "+01:00".parse().unwrap();
        let here = |rate: &str| {
            let quota = Quota::new(rate.parse().unwrap());
            Params::new(Algorithm::FixedWindow { zone }, quota, 0).unwrap().words(now)
        };
        assert_eq!(here("5/year")[2], 1_767_225_600_000_000 - 3_600_000_000);
        assert_eq!(here("5/d")[2], DAY - 3_600_000_000);
    }
}
