//! One download: asks, fetches, resumes, and gives up.

use std::path::Path;
use std::time::Duration;

use super::offer::{Failure, Offer};
use super::part::{Note, Part};
use super::step::{self, Step, Then, next_step, strong};
use super::{Download, Downloaded};
use crate::api::Api;
use crate::error::{Billing, Error, ErrorKind, Facts, Result};
use crate::event::Event;
use crate::file::{self, LockWait};
use crate::http::{Fetch, Stream};
use crate::status::id_segment;
use crate::text::{human_size, human_time};

/// The least time between two events.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

/// A download that is going on.
pub(super) struct Job<'a> {
    pub api: &'a Api,
    pub agent_id: &'a str,
    pub download: &'a Download,
    /// A time on the clock.
    pub deadline: Duration,
    offer: Option<Offer>,
    /// The storage took too long to begin its response.
    is_slow: bool,
    /// The tries so far.
    attempts: u32,
    /// The tries in a row that brought the file no further than `furthest`.
    failures: u32,
    furthest: u64,
    fetched: u64,
    reported: u64,
    reported_at: Option<Duration>,
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
            offer: None,
            is_slow: false,
            attempts: 0,
            failures: 0,
            furthest: 0,
            fetched: 0,
            reported: 0,
            reported_at: None,
            last_error: None,
        }
    }

    pub fn run(&mut self, path: &Path) -> Result<Downloaded> {
        self.download.check()?;
        let id = id_segment(self.agent_id)?;
        let target = file::check_path(path)
            .map_err(|what| file_error(path, &what).advice("choose another path"))?;
        let target = file::follow_links(target);
        if let Some(there) = self.existing(&target) {
            return Ok(there);
        }
        let mut part = self.open(&target)?;
        // Another process may have had the lock, and finished.
        if let Some(there) = self.existing(&target) {
            return Ok(there);
        }
        self.furthest = part.offset;
        while !part.is_whole() {
            self.attempts += 1;
            if let Err(failure) = self.attempt(&id, &mut part) {
                self.pause(failure, &part)?;
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
            file_error(&downloaded.path, &what).advice("fix that, then call download again")
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

    fn open(&self, target: &Path) -> Result<Part> {
        let shared = &self.api.shared;
        let wanted = Note {
            base_url: shared.transport.base().url.clone(),
            agent_id: self.agent_id.into(),
            asked_model: self.download.model.clone(),
            ..Note::default()
        };
        let wait = LockWait {
            clock: &*shared.clock,
            stopped: shared.transport.stopped(),
            until: self.deadline,
        };
        Part::open(target, wanted, &wait).map_err(|error| {
            let error = error.into_error(ErrorKind::File);
            error.within(&format!("file {}", target.display()))
        })
    }

    /// Asks for the URL if there is none, and fetches as much as comes.
    fn attempt(&mut self, id: &str, part: &mut Part) -> Result<(), Failure> {
        let offer = match self.offer.take().filter(Offer::is_fresh) {
            Some(offer) => offer,
            None => self.ask(id)?,
        };
        part.set_model(offer.model.clone());
        let url = offer.url.clone();
        self.offer = Some(offer);
        let mut range = part.range();
        let (stream, starts_over) = loop {
            let stream = self.fetch(&url, range)?;
            match next_step(&stream.head, range.map(|(offset, _)| offset), &part.note) {
                Step::WithoutRange => range = None,
                Step::StartOver => break (stream, true),
                Step::Append(total) => {
                    part.note.total = Some(total);
                    part.resume()?;
                    break (stream, false);
                }
                Step::Fail(kind, then, what) => {
                    let facts = Facts {
                        http_status: Some(stream.head.status),
                        retry_after: stream.head.retry_after,
                        ..Facts::default()
                    };
                    let error = Error::new(kind, format!("the storage {} {what}", stream.host));
                    let error = error.response(facts);
                    return Err(Failure { error, then });
                }
            }
        };
        let copied = self.copy(stream, part, starts_over);
        part.save()?;
        copied
    }

    fn fetch(&mut self, url: &str, range: Option<(u64, &str)>) -> Result<Stream<'a>> {
        let fetch = Fetch {
            url,
            range,
            stall: self.download.stall,
            is_slow: self.is_slow,
            deadline: self.deadline,
        };
        let stream = self.api.shared.transport.fetch(&fetch);
        if let Err(error) = &stream {
            self.is_slow |= error.kind() == ErrorKind::Timeout;
        }
        stream
    }

    /// Writes a body to the part.
    fn copy(
        &mut self,
        mut stream: Stream,
        part: &mut Part,
        starts_over: bool,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; 64 * 1024];
        let mut is_first = true;
        loop {
            let n = stream.read(&mut buffer)?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            // Not before there is a first byte: a body without one costs nothing that is there.
            if starts_over && is_first {
                part.start_over(strong(stream.head.etag.as_deref()), stream.head.length)?;
            }
            is_first = false;
            let end = part.offset + n as u64;
            if part.note.total.is_some_and(|total| end > total) {
                let what = format!("the storage {} sent more than the file has", stream.host);
                return Err(unexpected(what).into());
            }
            part.write(bytes)?;
            self.fetched += n as u64;
            self.report(part);
            if self.remaining().is_zero() {
                return Err(Error::out_of_time().into());
            }
        }
        // A chunked body says only at its end how long it is.
        if !is_first {
            part.note.total.get_or_insert(part.offset);
        }
        match part.is_whole() {
            true => Ok(()),
            false => {
                let what = format!("the storage {} sent too little of the file", stream.host);
                Err(unexpected(what).into())
            }
        }
    }

    fn report(&mut self, part: &Part) {
        let now = self.api.shared.clock.now();
        let next = self.reported_at.map(|at| at.saturating_add(EVENT_INTERVAL));
        let is_due = next.is_none_or(|next| now >= next) || part.is_whole();
        if part.offset > self.reported && is_due {
            self.reported = part.offset;
            self.reported_at = Some(now);
            self.api.report(|| Event::Downloading {
                received: part.offset,
                total: part.note.total,
            });
        }
    }

    fn remaining(&self) -> Duration {
        let now = self.api.shared.clock.now();
        self.deadline.saturating_sub(now)
    }

    /// Pauses before the next try, or returns the error that ends the call.
    fn pause(&mut self, failure: Failure, part: &Part) -> Result<()> {
        let Failure { error, then } = failure;
        if error.kind() == ErrorKind::WaitTimedOut {
            return Err(self.deadline_error(part));
        }
        if part.offset > self.furthest {
            self.furthest = part.offset;
            self.failures = 0;
        }
        if then == Then::NewUrl {
            self.offer = None;
        }
        let retry_after = error.retry_after().unwrap_or_default();
        let interval = self.download.interval;
        let Some(delay) = step::pause(then, self.failures, interval, retry_after) else {
            return Err(match (then, error.kind()) {
                (Then::Stop, ErrorKind::File) => write_error(error, part),
                (Then::Stop, _) => error,
                _ => error.and_advice(&call_again(part)),
            });
        };
        if then != Then::Wait {
            self.failures += 1;
        }
        let error = error.call("download").agent(self.agent_id);
        let reason = error.to_string();
        self.last_error = Some(error);
        if delay >= self.remaining() {
            return Err(self.deadline_error(part));
        }
        self.api.report(|| Event::Retrying {
            attempts: self.attempts,
            delay,
            reason,
        });
        self.api.shared.clock.sleep(delay);
        Ok(())
    }
}

/// The errors of a download.
impl Job<'_> {
    pub fn about(&self, error: Error) -> Error {
        let error = error.call("download").after(self.attempts);
        match (error.kind(), error.http_status()) {
            (ErrorKind::InvalidInput, _) => error,
            // Nothing is known of an agent that the service does not know.
            (ErrorKind::NotFound, Some(404)) => {
                error.agent(self.agent_id).billing_is(Billing::Unknown)
            }
            _ => error.agent(self.agent_id).billing_is(Billing::Billed),
        }
    }

    fn deadline_error(&mut self, part: &Part) -> Error {
        let timeout = human_time(self.download.timeout);
        let mut what = format!("the file was not whole within {timeout}");
        if !self.remaining().is_zero() {
            what = format!("the file is not whole, and too little of {timeout} remains for a try");
        }
        if part.offset > 0 {
            what += &format!(" ({})", progress(part));
        }
        let error = Error::new(ErrorKind::WaitTimedOut, what).advice(call_again(part));
        match self.last_error.take() {
            Some(last) => {
                let status = last.http_status().map(|status| format!(" ({status})"));
                let what = format!("; the last try: {}", last.what());
                let error = error.and(&what).and(&status.unwrap_or_default());
                error.caused_by(last)
            }
            None => error,
        }
    }
}

/// A response that makes no sense, and is not quoted.
pub(super) fn unexpected(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnexpectedResponse, what)
}

fn call_again(part: &Part) -> String {
    match part.range() {
        Some(_) => "call download again, which resumes".into(),
        None => "call download again".into(),
    }
}

fn file_error(path: &Path, what: &str) -> Error {
    let path = path.display().to_string();
    Error::new(ErrorKind::File, what).within(format!("file {path}").trim())
}

/// Says which file cannot be written, and how much of it is missing.
fn write_error(error: Error, part: &Part) -> Error {
    let error = error.within(&format!("file {}", part.path.display()));
    let error = error.advice("fix that, then call download again");
    match part.note.total {
        Some(total) if total > part.offset => {
            let missing = human_size(total - part.offset);
            error.and(&format!("; {missing} of {} are missing", human_size(total)))
        }
        _ => error,
    }
}

/// How much is there.
fn progress(part: &Part) -> String {
    let there = human_size(part.offset);
    match part.note.total {
        Some(total) => format!("{there} of {}", human_size(total)),
        None => there,
    }
}
