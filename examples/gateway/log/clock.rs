//! The time as RFC 3339 has it, to the microsecond.
use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

const LENGTH: usize = "0000-00-00T00:00:00.000000Z".len();
const MICROS: std::ops::Range<usize> = 20..26;

thread_local! {
    /// A second, and its text.
    static SECOND: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, *b"0000-00-00T00:00:00.000000Z")) };
}

/// Writes the time that it is.
pub(super) fn stamp(text: &mut Vec<u8>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = SECOND.try_with(|told| {
        let (second, mut stamp) = told.get();
        if second != since.as_secs() {
            stamp = second_of(since.as_secs());
            told.set((since.as_secs(), stamp));
        }
        stamp
    });
    let mut stamp = second.unwrap_or_else(|_| second_of(since.as_secs()));
    put(&mut stamp[MICROS], since.subsec_micros().into());
    text.extend_from_slice(&stamp);
}

fn second_of(second: u64) -> [u8; LENGTH] {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let (year, month, day) = date(second / 86_400);
    let parts = [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, second % 86_400 / 3_600),
        (14..16, second / 60 % 60),
        (17..19, second % 60),
    ];
    for (place, number) in parts {
        put(&mut text[place], number);
    }
    text
}

fn put(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of the day that is so many days after 1970-01-01, in a calendar that begins in March: a leap day
/// is the last of its year then.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    match month {
        0..10 => (era * 400 + year, month + 3, day),
        _ => (era * 400 + year + 1, month - 9, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_778, (2026, 11, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn seconds_have_their_text() {
        assert_eq!(&second_of(951_782_399), b"2000-02-28T23:59:59.000000Z");
        assert_eq!(&second_of(951_782_400), b"2000-02-29T00:00:00.000000Z");
    }
}
