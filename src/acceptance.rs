//! Was a generate request accepted, and so billed? The one rule that decides it.

use crate::error::Billing;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome<'a> {
    /// The last byte of the body was handed to the connection.
    pub fully_sent: bool,
    /// The status of the response, if one came.
    pub status: Option<u16>,
    /// The body says `"success": false`.
    pub success_is_false: bool,
    /// The error code in the body.
    pub code: Option<&'a str>,
    /// The body names an agent.
    pub names_agent: bool,
    /// That agent is not the one that the request itself named.
    pub names_new_agent: bool,
}

/// Decides whether a request was accepted, for every way in which an attempt can end. What was
/// accepted is billed.
pub(crate) fn acceptance(outcome: Outcome) -> Billing {
    use Billing::{Billed, NotBilled, Unknown};
    match outcome.status {
        _ if !outcome.fully_sent => NotBilled,
        Some(200..=299) if outcome.success_is_false => match outcome.code {
            _ if outcome.names_new_agent => Unknown,
            Some(code) if leaves_outcome_open(code) => Unknown,
            _ => NotBilled,
        },
        Some(200..=299) if outcome.names_agent => Billed,
        Some(408) => Unknown,
        Some(300..=499) => NotBilled,
        Some(503) if outcome.code.is_some_and(says_nothing_changed) => NotBilled,
        _ => Unknown,
    }
}

/// The codes of a 503 that the service publishes as "nothing was changed". Any other code may be a
/// gateway's: Express with `connect-timeout` writes `ETIMEDOUT` after the request was accepted.
pub(crate) fn says_nothing_changed(code: &str) -> bool {
    matches!(
        code,
        "NO_AVAILABLE_WORKERS" | "MODEL_NOT_YET_AVAILABLE" | "SERVICE_UNAVAILABLE"
    )
}

/// The codes with which the service itself does not know what became of a request.
pub(crate) fn leaves_outcome_open(code: &str) -> bool {
    code == "INTERNAL_ERROR" || code.starts_with("UPSTREAM_")
}

#[cfg(test)]
#[path = "../tests/unit/acceptance.rs"]
mod tests;
