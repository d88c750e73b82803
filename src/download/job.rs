//! One download: asks, fetches, resumes, and gives up.

use std::path::Path;
use std::time::Duration;

use super::part::{Note, Part, about_file};
use super::step::{self, Failure, Step, next_step, strong_etag};
use super::{Download, Downloaded, offer};
use crate::api::Api;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::file;
use crate::http::{Fetch, Stream};
use crate::status::about_agent;
use crate::text::{human_size, human_time};

/// The least time between two events.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

const CALL_AGAIN: &str = "call download again";

const PUBLISHED_LATER: &str = "call download again in half an hour";

/// A download in progress.
pub(super) struct Job<'a> {
    pub api: &'a Api,
    pub agent_id: &'a str,
    pub download: &'a Download,
    /// A time on the clock.
    pub deadline: Duration,
    /// The tries so far.
    attempts: u32,
    /// The tries in a row that brought the file no further than `furthest`.
    failures: u32,
    furthest: u64,
    fetched: u64,
    /// The time of the next event.
    next_event: Duration,
    /// The endpoint has named a URL.
    pub has_offer: bool,
    /// Why the last try brought no whole file.
    last_error: Option<Error>,
}

impl<'a> Job<'a> {
    pub fn new(api: &'a Api, agent_id: &'a str, download: &'a Download) -> Self {
        Job {
            api,
            agent_id,
            download,
            deadline: api.shared.clock.now().saturating_add(download.timeout),
            attempts: 0,
            failures: 0,
            furthest: 0,
            fetched: 0,
            next_event: Duration::ZERO,
            has_offer: false,
            last_error: None,
        }
    }

    pub fn run(&mut self, path: &Path) -> Result<Downloaded> {
        self.download.check()?;
        let endpoint = offer::endpoint(self.agent_id, self.download)?;
        let target = file::check_path(path)
            .and_then(file::follow_links)
            .map_err(|what| file_error(path, what).advice("choose another path"))?;
        if let Some(there) = self.existing(&target) {
            if Part::has_note(&target) {
                // Removes the one that a crash has left beside a whole file.
                drop(self.lock_part(&target, &endpoint, Duration::ZERO));
            }
            return Ok(there);
        }
        let mut part = self.lock_part(&target, &endpoint, self.deadline)?;
        // Another process may have had the lock, and finished.
        if let Some(there) = self.existing(&target) {
            return Ok(there);
        }
        while !part.is_whole() {
            self.attempts += 1;
            if let Err(failure) = self.attempt(&endpoint, &mut part) {
                self.retry_or_fail(failure, &part)?;
            }
        }
        let downloaded = Downloaded {
            length: part.offset,
            fetched: self.fetched,
            model: part.note.model.clone(),
            path: target,
        };
        part.finish(&*self.api.shared.clock).map_err(|reason| {
            let what = format!("cannot be put in place: {reason}");
            file_error(&downloaded.path, what).advice(CALL_AGAIN)
        })?;
        Ok(downloaded)
    }

    /// The file that is left alone, if there is one.
    fn existing(&self, target: &Path) -> Option<Downloaded> {
        let metadata = target.metadata().ok()?;
        (self.download.if_missing && metadata.is_file()).then(|| Downloaded {
            path: target.into(),
            length: metadata.len(),
            fetched: 0,
            model: None,
        })
    }

    fn lock_part(&self, target: &Path, endpoint: &str, until: Duration) -> Result<Part> {
        let request = [&self.api.shared.transport.base().url, endpoint].concat();
        Part::lock(target, request, &self.api.lock_wait(until))
    }

    /// Asks for a URL, which then cannot have expired, and fetches as much as comes.
    fn attempt(&mut self, endpoint: &str, part: &mut Part) -> Result<(), Failure> {
        let offer = self.ask(endpoint)?;
        let transport = &self.api.shared.transport;
        let range = part.range(&offer.model);
        let stream = transport.fetch(&Fetch {
            url: &offer.url,
            range,
            stall: match self.last_error.as_ref().map(Error::kind) {
                // Some storages begin late, and ureq has one limit for the head and for each read.
                Some(ErrorKind::Timeout) => self.download.stall.max(transport.response_timeout),
                _ => self.download.stall,
            },
            deadline: self.deadline,
        })?;
        let offset = range.map(|range| range.0);
        match next_step(&stream.head, offset, &part.note, self.failures) {
            Step::Write(offset, total) => {
                let note = Note {
                    model: offer.model,
                    etag: strong_etag(&stream.head),
                    total,
                    ..part.note.clone()
                };
                self.copy(stream, offset, note, part)?;
            }
            Step::WithoutRange => part.offset = 0,
            Step::Fail(kind, what) => return Err(stream.error(kind, what).into()),
        }
        Ok(())
    }

    /// Writes a body to the part.
    fn copy(&mut self, mut stream: Stream, offset: u64, note: Note, part: &mut Part) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut n = stream.read(&mut buffer)?;
        // A body without a byte costs nothing that is there.
        if n > 0 {
            let started = part.begin(offset, note);
            started.map_err(|reason| write_error(reason, part))?;
        }
        while n > 0 {
            let end = part.offset + n as u64;
            if part.note.total.is_some_and(|total| end > total) {
                // What was written of this body may be wrong too.
                let cut = part.begin(offset, part.note.clone());
                cut.map_err(|reason| write_error(reason, part))?;
                part.offset = 0;
                break;
            }
            let written = part.write(buffer.get(..n).unwrap_or_default());
            written.map_err(|reason| write_error(reason, part))?;
            self.fetched += n as u64;
            self.progress(part);
            n = stream.read(&mut buffer)?;
            // Only its end says how long a chunked body is.
            if n == 0 {
                part.note.total.get_or_insert(part.offset);
            }
        }
        if !part.is_whole() {
            let what = "did not send the file as it announced";
            return Err(stream.error(ErrorKind::UnexpectedResponse, what));
        }
        Ok(())
    }

    /// Notes and reports that more than ever is there, if that is so.
    fn progress(&mut self, part: &Part) {
        if part.offset <= self.furthest {
            return;
        }
        self.furthest = part.offset;
        self.failures = 0;
        let now = self.api.shared.clock.now();
        if now >= self.next_event || part.is_whole() {
            self.next_event = now.saturating_add(EVENT_INTERVAL);
            self.api.report(|| Event::Downloading {
                received: part.offset,
                total: part.note.total,
            });
        }
    }

    /// Pauses before the next try, or returns the error that ends the call.
    fn retry_or_fail(&mut self, failure: Failure, part: &Part) -> Result<()> {
        let delay = step::pause(&failure, self.failures, self.download.interval);
        let Failure { error, is_pending } = failure;
        if error.kind() == ErrorKind::WaitTimedOut {
            let timeout = human_time(self.download.timeout);
            let what = format!("the file was not whole within {timeout}");
            return Err(deadline_error(what, part).advice(CALL_AGAIN));
        }
        let Some(delay) = delay else {
            return Err(match error.is_retryable() {
                true => error.and_advice(CALL_AGAIN),
                false => error,
            });
        };
        self.failures += u32::from(!is_pending);
        let error = self.last_error.insert(self.about(error));
        let remaining = self.deadline.saturating_sub(self.api.shared.clock.now());
        if delay < remaining {
            self.api.pause(self.attempts, delay, error);
            return Ok(());
        }
        let is_asked_for = error.retry_after() == Some(delay);
        let [delay, remaining, timeout] = [delay, remaining, self.download.timeout].map(human_time);
        let what = match is_asked_for {
            true => format!("the server asks to wait {delay}, but the deadline is in {remaining}"),
            false => format!("the file is not whole and no other try fits into {timeout}"),
        };
        let advice = match is_pending && !is_asked_for {
            true => PUBLISHED_LATER,
            false => CALL_AGAIN,
        };
        let error = deadline_error(what, part).advice(advice);
        Err(error.after_try("try", self.last_error.take()))
    }

    /// Names the call and the agent. What the service says may have the signed URL in it.
    pub fn about(&self, error: Error) -> Error {
        let error = about_agent(error, self.agent_id).without_urls();
        error.call("download").after(self.attempts)
    }
}

/// There is no time left, or too little for another try.
fn deadline_error(mut what: String, part: &Part) -> Error {
    if part.offset > 0 {
        what += &format!(" ({} are there)", human_size(part.offset));
    }
    Error::new(ErrorKind::WaitTimedOut, what)
}

fn file_error(path: &Path, what: String) -> Error {
    about_file(path, Error::new(ErrorKind::File, what))
}

/// Says which file cannot be written, and how much of it is missing.
fn write_error(reason: std::io::Error, part: &Part) -> Error {
    let mut what = format!("cannot be written: {reason}");
    if let Some(total) = part.note.total {
        let missing = human_size(total.saturating_sub(part.offset));
        what += &format!("; {missing} of {} are missing", human_size(total));
    }
    file_error(&part.path, what).advice("fix that, then call download again")
}
