//! What a download does next: pure rules.

use std::time::Duration;

use super::part::Note;
use crate::error::ErrorKind;
use crate::http::Head;
use crate::retry;

/// How many tries in a row may bring the file no further: about a minute, with the pauses.
const MOST_FAILURES: u32 = 10;

/// What to do with a response of the storage.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its body continues what is there, of a file of this length.
    Append(u64),
    /// Its body is the whole file.
    StartOver,
    /// It is not about what is there: ask for the whole file.
    WithoutRange,
    /// It has no file.
    Fail(ErrorKind, Then, &'static str),
}

/// What may help after a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Stop,
    /// Another try.
    Retry,
    /// Another URL.
    NewUrl,
    /// Time: the file is not there yet.
    Wait,
}

/// Decides what a response means. `offset` is where it was to begin, if not at the start.
pub(super) fn next_step(head: &Head, offset: Option<u64>, note: &Note) -> Step {
    use ErrorKind::{Rejected, Service, UnexpectedResponse};
    match (head.status, offset) {
        (200, _) => match no_file(head) {
            Some(what) => Step::Fail(UnexpectedResponse, Then::Retry, what),
            None => Step::StartOver,
        },
        (206, Some(offset)) => match continued_total(head, offset, note) {
            Some(total) => Step::Append(total),
            None => Step::WithoutRange,
        },
        (416, Some(_)) => Step::WithoutRange,
        (400 | 401 | 403 | 404 | 410, _) => {
            Step::Fail(Rejected, Then::NewUrl, "refuses the signed URL")
        }
        (408 | 425 | 429 | 500.., _) => Step::Fail(Service, Then::Retry, "failed"),
        (201..=299 | 416, _) => Step::Fail(UnexpectedResponse, Then::Retry, "sent no file"),
        _ => Step::Fail(Rejected, Then::Stop, "rejected the request"),
    }
}

/// Why a 200 is not the whole file, if that is so.
fn no_file(head: &Head) -> Option<&'static str> {
    if head.is_html {
        Some("sent a web page instead of the file")
    } else if head.content_range.is_some() {
        Some("sent a part of the file as the whole")
    } else if head.length == Some(0) {
        Some("sent an empty file")
    } else if head.is_encoded {
        Some("sent the file compressed")
    } else if head.length.is_none() && !head.is_chunked {
        Some("sent the file without its length")
    } else {
        None
    }
}

/// The length of the whole file, if a 206 continues the noted one at this offset.
fn continued_total(head: &Head, offset: u64, note: &Note) -> Option<u64> {
    let range = head.content_range.as_deref()?.strip_prefix("bytes ")?;
    let (range, total) = range.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = total.parse().ok()?;
    let is_same = head.etag == note.etag && note.total.is_none_or(|noted| noted == total);
    let is_usable = !head.is_encoded && !head.is_html;
    (is_same && is_usable && start.parse() == Ok(offset)).then_some(total)
}

/// A validator that stands for the same bytes, and not only for the same meaning.
pub(super) fn strong(etag: Option<&str>) -> Option<String> {
    let etag = etag?;
    let is_strong = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"');
    is_strong.then(|| etag.to_owned())
}

/// How long to pause before the next try, if there is to be one. `failures` counts the tries before
/// this one that brought the file no further.
pub(super) fn pause(
    then: Then,
    failures: u32,
    interval: Duration,
    retry_after: Duration,
) -> Option<Duration> {
    match then {
        Then::Wait => Some(interval.max(retry_after)),
        Then::Retry | Then::NewUrl if failures + 1 < MOST_FAILURES => {
            Some(retry::backoff(failures, retry::random()).max(retry_after))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "../../tests/unit/step.rs"]
mod tests;
