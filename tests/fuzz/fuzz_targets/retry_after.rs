//! `Retry-After` and `Date`, against plain arithmetic, and the delay that follows.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

#[path = "../../../src/retry.rs"]
#[allow(dead_code, reason = "only a part of it is used")]
mod retry;

/// The end of the year 9999.
const LAST: u64 = 253_402_300_799;

fuzz_target!(|input: (u64, u32, &str)| {
    let (number, failures, text) = input;
    let delay = retry::parse_retry_after(text);
    assert_eq!(delay, by_hand(text), "{text}");
    check_delay(failures, delay, Duration::from_millis(number));
    if let Some(time) = retry::parse_date(text) {
        assert!(time.as_secs() <= LAST + 3 * 86_400 + 1, "{text}");
        if time.as_secs() <= LAST {
            assert_eq!(retry::parse_date(&date(time.as_secs())), Some(time));
        }
    }
    let time = number % (LAST + 1);
    let parsed = retry::parse_date(&date(time));
    assert_eq!(parsed, Some(Duration::from_secs(time)));
});

fn by_hand(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    if !text.chars().all(is_number) || text.matches('.').count() > 1 {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut seconds, mut millis) = (0_u64, 0);
    for digit in whole.bytes() {
        seconds = seconds.saturating_mul(10).saturating_add(value(digit));
    }
    for digit in fraction.bytes().chain([b'0'; 3]).take(3) {
        millis = millis * 10 + value(digit);
    }
    let seconds = Duration::from_secs(seconds);
    Some(seconds.saturating_add(Duration::from_millis(millis)))
}

fn value(digit: u8) -> u64 {
    (digit - b'0').into()
}

fn check_delay(failures: u32, retry_after: Option<Duration>, remaining: Duration) {
    let least = retry_after.unwrap_or_default();
    for remaining in [None, Some(remaining), Some(least)] {
        let Some(delay) = retry::delay(failures, retry_after, remaining) else {
            let limit = remaining.unwrap_or(retry::LONGEST_DELAY);
            assert!(least.max(retry::backoff(failures, u64::MAX)) >= limit);
            continue;
        };
        assert!(delay >= least && delay <= least.max(Duration::from_secs(30)));
        assert!(remaining.is_none_or(|remaining| delay < remaining));
    }
}

/// A time as servers write it, counted day by day from the start of a 400-year cycle.
fn date(seconds: u64) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = |year: u64| match year {
        _ if year.is_multiple_of(400) => true,
        _ => year.is_multiple_of(4) && !year.is_multiple_of(100),
    };
    let days = seconds / 86_400;
    let (mut year, mut day) = (1970 + days / 146_097 * 400, days % 146_097);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let length = |month: usize| LENGTHS[month] + u64::from(month == 1 && is_leap(year));
    let mut month = 0;
    while day >= length(month) {
        day -= length(month);
        month += 1;
    }
    let name = &MONTHS[month * 3..month * 3 + 3];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let day = day + 1;
    format!("Day, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
