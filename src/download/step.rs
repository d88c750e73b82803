//! What a download does next: pure rules.

use std::time::Duration;

use super::part::Note;
use crate::error::{Error, ErrorKind};
use crate::http::Head;
use crate::retry;

/// How many tries in a row may bring the file no further: about a minute, with the pauses.
const MOST_FAILURES: u32 = 10;

/// What to do with a response of the storage.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its body has the file from this offset on. So long is the whole file, if that is said.
    Write(u64, Option<u64>),
    /// It is not about what is there: ask for the whole file.
    WithoutRange,
    /// It has no file.
    Fail(ErrorKind, &'static str),
}

/// Why a try brought no whole file.
pub(super) struct Failure {
    pub error: Error,
    /// The file is not there yet.
    pub is_pending: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            error,
            is_pending: false,
        }
    }
}

/// Decides what a response means. `offset` is where it was to begin, if not at the start. `failures`
/// counts as in [`pause`].
pub(super) fn next_step(head: &Head, offset: Option<u64>, note: &Note, failures: u32) -> Step {
    use ErrorKind::{Rejected, Service, UnexpectedResponse};
    let step = match (head.status, offset) {
        (200 | 206, _) if is_no_file(head) => {
            Step::Fail(UnexpectedResponse, "sent something else than a file")
        }
        (200, _) if is_whole_file(head) => Step::Write(0, length(head)),
        (206, Some(offset)) => match continued_total(head, offset, note) {
            Some(total) => Step::Write(offset, Some(total)),
            None => Step::WithoutRange,
        },
        (416, Some(_)) => Step::WithoutRange,
        (200..=299 | 416, _) => Step::Fail(UnexpectedResponse, "sent no file, or not the whole"),
        (400 | 401 | 403 | 404 | 410, _) => Step::Fail(Service, "refuses the signed URL"),
        (408 | 425 | 429 | 500.., _) => Step::Fail(Service, "failed"),
        _ => Step::Fail(Rejected, "rejected the request"),
    };
    // It may refuse ranges alone: every later call would ask for the same one again.
    let is_end = matches!(step, Step::Fail(kind, _) if !may_retry(kind.is_transient(), failures));
    match is_end && offset.is_some() {
        true => Step::WithoutRange,
        false => step,
    }
}

/// Whether a 200 is the whole file, and says where that ends.
fn is_whole_file(head: &Head) -> bool {
    let has_end = length(head) > Some(0) || head.is_chunked();
    has_end && head.get("content-range").is_none() && !is_encoded(head)
}

/// Whether a body is a page, an error or several ranges. A file may have any other media type: nginx
/// sends `text/plain` where none is set.
fn is_no_file(head: &Head) -> bool {
    let media_type = head.get("content-type").unwrap_or_default();
    let name = media_type.split([';', ' ']).next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let is_page = name.ends_with("html") || name.ends_with("json") || name.ends_with("xml");
    is_page || name.starts_with("multipart/")
}

/// The length of the whole file, if a 206 continues the noted one at this offset.
fn continued_total(head: &Head, offset: u64, note: &Note) -> Option<u64> {
    let range = head.get("content-range")?.strip_prefix("bytes ")?;
    let (range, total) = range.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (end, total): (u64, u64) = (end.parse().ok()?, total.parse().ok()?);
    let is_same = strong_etag(head) == note.etag && note.total.is_none_or(|noted| noted == total);
    let is_next = start.parse() == Ok(offset) && offset <= end && end < total;
    let has_room = length(head).is_none_or(|length| length <= total.saturating_sub(offset));
    (is_same && is_next && has_room && !is_encoded(head)).then_some(total)
}

/// The length of the body, unless its end says that.
fn length(head: &Head) -> Option<u64> {
    let length = head.get("content-length")?.parse().ok();
    length.filter(|_| !head.is_chunked())
}

/// A validator that stands for the same bytes, and not only for the same meaning.
pub(super) fn strong_etag(head: &Head) -> Option<String> {
    let etag = head.get("etag")?;
    let is_strong = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"');
    is_strong.then(|| etag.to_owned())
}

/// Whether the body is compressed, or changed in another way than in chunks.
fn is_encoded(head: &Head) -> bool {
    let is = |name, coding| {
        head.get(name)
            .unwrap_or(coding)
            .eq_ignore_ascii_case(coding)
    };
    let is_plain = head.is_chunked() || is("transfer-encoding", "identity");
    !is_plain || !is("content-encoding", "identity")
}

/// How long to pause before the next try, if there is to be one. `failures` counts the tries before
/// this one that brought the file no further.
pub(super) fn pause(failure: &Failure, failures: u32, interval: Duration) -> Option<Duration> {
    let retry_after = failure.error.retry_after().unwrap_or_default();
    if failure.is_pending {
        return Some(interval.max(retry_after));
    }
    let may_retry = may_retry(failure.error.is_retryable(), failures);
    may_retry.then(|| retry::backoff(failures, retry::random()).max(retry_after))
}

/// Whether this try is followed by another one, although it failed.
fn may_retry(is_transient: bool, failures: u32) -> bool {
    is_transient && failures + 1 < MOST_FAILURES
}

#[cfg(test)]
#[path = "../../tests/unit/step.rs"]
mod tests;
