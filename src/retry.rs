//! Pure rules: how long to wait before a retry, and when a retry of a generate request is safe.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{collections::hash_map::RandomState, ops::RangeInclusive, process};

/// The longest wait before a retry where there is no deadline, or where others wait.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The service remembers a key for 24 h. This leaves it an hour for the request to arrive.
const KEY_LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);

/// Whether a retry of a generate request cannot be billed again: the earlier one was not accepted,
/// or the service knows its key and returns the first response.
pub(crate) fn is_safe(acceptance_unknown: bool, keys_honored: bool, key_age: Duration) -> bool {
    (!acceptance_unknown || keys_honored) && key_age < KEY_LIFETIME
}

/// The wait before a retry after this many failures: the backoff, and at least `Retry-After`.
///
/// `None` if that would pass what remains until the deadline, or a minute where there is none.
pub(crate) fn delay(
    failures: u32,
    retry_after: Option<Duration>,
    remaining: Option<Duration>,
) -> Option<Duration> {
    let delay = backoff(failures, random()).max(retry_after.unwrap_or_default());
    let is_in_time = match remaining {
        Some(remaining) => delay < remaining,
        None => delay <= LONGEST_DELAY,
    };
    is_in_time.then_some(delay)
}

/// Full jitter: between nothing and a limit that doubles from 0.5 s to 30 s.
pub(crate) fn backoff(failures: u32, random: u64) -> Duration {
    let doubled = Duration::from_millis(500).saturating_mul(1 << failures.min(16));
    let limit = doubled.min(Duration::from_secs(30));
    limit.mul_f64(random as f64 / u64::MAX as f64)
}

/// Parses `Retry-After` in seconds or fractions of one, to the millisecond. A date is ignored.
///
/// By hand: the standard library's tables for parsing floating-point numbers add 15 KB to a small
/// program.
pub(crate) fn parse_retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.len() + fraction.len() == 0 || !is_digits(seconds) || !is_digits(fraction) {
        return None;
    }
    let seconds = format!("0{seconds}").parse().unwrap_or(u64::MAX);
    let millis = format!("{fraction}000").get(..3)?.parse().ok()?;
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_millis(millis)))
}

/// Parses a `Date`, as the time since 1970. Only the form that servers write today is known:
/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn parse_date(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.trim().split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words[..] else {
        return None;
    };
    let number = |text: &str, range: RangeInclusive<u64>| {
        let is_digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_digits)?;
        range.contains(&number).then_some(number)
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let day = number(day, 1..=31)?;
    let year = number(year, 1970..=9999)?;
    // Counted from March, so that a leap day is the last day of its year.
    let (year, month) = (year - u64::from(month < 2), (month + 10) % 12);
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let days = days.checked_sub(DAYS_TO_1970)?;
    let hours = days * 24 + number(hour, 0..=23)?;
    let minutes = hours * 60 + number(minute, 0..=59)?;
    Some(Duration::from_secs(minutes * 60 + number(second, 0..=60)?))
}

/// From the first of March of the year 0.
const DAYS_TO_1970: u64 = 719_469;

/// Mints an idempotency key that nobody has used: 128 random bits.
pub(crate) fn mint_key() -> String {
    format!("bithuman-{:016x}{:016x}", random(), random())
}

/// A random number. The standard library seeds its hashers from the system's randomness once for
/// each thread; process and time differ between forks and copies of a virtual machine.
pub(crate) fn random() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(process::id());
    hasher.write_u128(now.unwrap_or_default().as_nanos());
    hasher.finish()
}

#[cfg(test)]
#[path = "../tests/unit/retry.rs"]
mod tests;
