//! Pure decisions: was a generate taken, may it be sent again, and when.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest wait before a resend where there is no deadline.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Was the generate taken? The one place that tells, for every way an attempt can fail: `false` if it
/// was not, `true` if that is unknown. (An answer that names the agent is no failure.)
///
/// `handed_over`: the whole body left this crate. `status`: of the answer, if one came. `refused`: its
/// body is the service's own refusal, `"success": false` on a 2xx or an error with a code on another
/// status; a gateway writes neither.
pub(crate) fn outcome_unknown(handed_over: bool, status: Option<u16>, refused: bool) -> bool {
    match status {
        _ if !handed_over => false,
        Some(408) => true,
        Some(300..=499) => false,
        Some(200..=299 | 503) => !refused,
        _ => true,
    }
}

/// The service remembers a key for 24 h. This leaves it an hour for the request to arrive.
const KEY_LIFE: Duration = Duration::from_secs(23 * 60 * 60);

/// Whether sending the same generate once more cannot be a second one: it was not taken, or the
/// service answers a key it knows with its first answer, and still knows this one.
pub(crate) fn may_resend(outcome_unknown: bool, honored: bool, key_age: Duration) -> bool {
    (!outcome_unknown || honored) && key_age < KEY_LIFE
}

/// When to send again after so many failures: `Retry-After` is a floor to the backoff. `None` if that
/// would pass what is left of the deadline, or a minute where there is none.
pub(crate) fn delay(failures: u32, retry_after: Option<Duration>, left: Option<Duration>) -> Option<Duration> {
    let delay = backoff(failures, random()).max(retry_after.unwrap_or_default());
    left.map_or(delay <= LONGEST_DELAY, |left| delay < left).then_some(delay)
}

/// Full jitter: between nothing and a limit that doubles from 0.5 s to 30 s.
pub(crate) fn backoff(failures: u32, random: u64) -> Duration {
    let limit = Duration::from_millis(500).saturating_mul(1 << failures.min(16)).min(Duration::from_secs(30));
    limit.mul_f64(random as f64 / u64::MAX as f64)
}

/// `Retry-After` in seconds or fractions of one, to the millisecond; a date or nonsense is none.
///
/// By hand: the standard library's tables for floating-point numbers are 15 KB of a small program.
pub(crate) fn parse_retry_after(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    if seconds.len() + fraction.len() == 0 || !seconds.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = format!("0{seconds}").parse().ok()?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_millis(millis.parse().ok()?)))
}

/// A random number: the standard library seeds its hashers from the system's randomness, once per
/// thread. So the rest tells the processes of a fork apart, and the copies of a virtual machine.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(process::id());
    hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
    hasher.finish()
}

#[cfg(test)]
#[path = "../tests/unit/retry.rs"]
mod tests;
