//! Pure decisions: was a generate taken, and how long to wait.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Whether the service took a generate, and so bills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    No,
    Unknown,
}

/// The one place that says whether a generate was taken, for every way an attempt can end.
///
/// `handed_over`: the whole body left this crate. `status`: of the answer, if one came. `named`:
/// it names the agent. `refused`: its body is the service's own refusal, `"success": false` on a
/// 2xx or an error with a code on another; a gateway writes neither.
pub(crate) fn taken(handed_over: bool, status: Option<u16>, named: bool, refused: bool) -> Taken {
    match status {
        Some(200..=299) if named => Taken::Yes,
        Some(200..=299) if refused => Taken::No,
        _ if !handed_over => Taken::No,
        Some(408) => Taken::Unknown,
        Some(300..=499) => Taken::No,
        Some(503) if refused => Taken::No,
        _ => Taken::Unknown,
    }
}

/// Full jitter: between nothing and a limit that doubles from 0.5 s to 30 s.
pub(crate) fn backoff(failures: u32, random: u64) -> Duration {
    let limit = Duration::from_millis(500).saturating_mul(1 << failures.min(16)).min(Duration::from_secs(30));
    limit.mul_f64(random as f64 / u64::MAX as f64)
}

/// `Retry-After` in seconds or fractions of one; a date or nonsense is none.
pub(crate) fn parse_retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds: f64 = plain.then(|| text.parse().ok()).flatten()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A random number: the standard library seeds its hashers from the system's randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
#[path = "../tests/unit/retry.rs"]
mod tests;
