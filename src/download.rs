//! `GET /v1/agent/{agent_id}/model/download`, and the model file to disk: resumed after whatever
//! broke, and whole when it is at its place.

mod offer;
mod part;
mod step;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::Api;
use crate::error::{Billing, Error, ErrorKind, Facts, Result};
use crate::event::Event;
use crate::file::{self, LockWait};
use crate::http::{Fetch, Stream};
use crate::status::id_segment;
use crate::text::{describe_char, hidden_char, human_size, human_time};
use offer::{Failure, Offer};
use part::{Note, Part};
use step::{Step, Then, next_step, strong};

/// The least time between two events.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

/// Which model file to download, and how long to try.
///
/// ```
/// use std::time::Duration;
/// use bithuman::Download;
///
/// let download = Download::new()
///     .model("essence-2")
///     .timeout(Duration::from_secs(30 * 60))
///     .if_missing(true);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Download {
    model: Option<String>,
    timeout: Duration,
    stall: Duration,
    interval: Duration,
    if_missing: bool,
}

impl Default for Download {
    fn default() -> Self {
        Download {
            model: None,
            timeout: Duration::from_secs(4 * 60 * 60),
            stall: Duration::from_secs(60),
            interval: Duration::from_secs(5),
            if_missing: false,
        }
    }
}

impl Download {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the model, such as `essence-2`. Default: the model that the agent was created with.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the time for the whole call, the wait for a file that is not there yet included.
    ///
    /// Default: 4 h.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Sets how long the storage may send nothing before the download is resumed over another
    /// connection. Default: 60 s.
    pub fn stall(mut self, time: Duration) -> Self {
        self.stall = time;
        self
    }

    /// Sets the time between two requests for a file that is not there yet, more than zero.
    ///
    /// Default: 5 s.
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// Sets whether a regular file that is at the path already is left alone and returned, whatever
    /// is in it. Then nothing is sent. Default: `false`, and the file is replaced.
    pub fn if_missing(mut self, if_missing: bool) -> Self {
        self.if_missing = if_missing;
        self
    }

    fn check(&self) -> Result<()> {
        for (name, time) in [("interval", self.interval), ("stall", self.stall)] {
            if time.is_zero() {
                return Err(Error::invalid(format!("the {name} must be more than zero")));
            }
        }
        let model = self.model.as_deref();
        if model.is_some_and(|model| model.trim().is_empty()) {
            return Err(Error::invalid("the model is empty"));
        }
        if let Some(c) = model.and_then(hidden_char) {
            let what = format!("the model contains {}: remove it", describe_char(c));
            return Err(Error::invalid(what));
        }
        Ok(())
    }
}

/// A model file on disk: the result of [`Api::download`].
///
/// ```no_run
/// use bithuman::{Api, Download};
///
/// let file = Api::from_env()?.download("A91XMB7113", "agent.imx", &Download::new())?;
/// println!("{}: {} bytes", file.path.display(), file.length);
/// # Ok::<(), bithuman::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// Where the file is, as an absolute path. Symbolic links are followed.
    pub path: PathBuf,
    /// The length of the file in bytes.
    pub length: u64,
    /// How many bytes of the file this call received. What an earlier call left is not counted.
    pub fetched: u64,
    /// The model, if the service named it.
    pub model: Option<String>,
}

impl Api {
    /// Downloads the agent's model file, and returns when the whole of it is on the disk. It is free.
    ///
    /// The file appears at `path` when it is whole, and replaces what is there. Until then its part
    /// is at `<path>.part`, with a note at `<path>.part.json`. If the download breaks, or the process
    /// is killed, the next try or call resumes it, provided that the storage has the same file. Calls
    /// for the same path, also in other processes, wait for each other.
    ///
    /// A file that is not there yet is waited for: it can appear half an hour after the agent is
    /// ready. Transient errors and URLs that expire are retried, up to 10 times in a row that bring
    /// the file no further.
    ///
    /// The storage is another host. It gets neither the secret nor anything else of this client's.
    /// The service publishes no checksum: the file has the length that the storage announced.
    ///
    /// # Errors
    ///
    /// [`File`](ErrorKind::File) if the path is not that of a regular file, or cannot be written.
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an id, a model or a time that cannot be meant.
    /// [`WaitTimedOut`](ErrorKind::WaitTimedOut) after [`Download::timeout`].
    /// [`NotFound`](ErrorKind::NotFound) for an agent that is unknown or was deleted.
    /// [`Rejected`](ErrorKind::Rejected) for a model that has no file, or that the agent does not have.
    /// [`PlanLimit`](ErrorKind::PlanLimit) for a plan without downloads. Otherwise as
    /// [`status`](Api::status). What was at the path before stays there.
    ///
    /// ```no_run
    /// use bithuman::{Api, Download};
    ///
    /// let api = Api::from_env()?;
    /// let download = Download::new().if_missing(true);
    /// let file = api.download("A91XMB7113", "agent.imx", &download)?;
    /// println!("{} bytes, {} of them now", file.length, file.fetched);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn download(
        &self,
        agent_id: &str,
        path: impl AsRef<Path>,
        download: &Download,
    ) -> Result<Downloaded> {
        let mut job = Job {
            api: self,
            agent_id,
            download,
            deadline: self.shared.clock.now().saturating_add(download.timeout),
            offer: None,
            is_slow: false,
            attempts: 0,
            failures: 0,
            furthest: 0,
            fetched: 0,
            reported: 0,
            reported_at: None,
            last_error: None,
        };
        let result = job.run(path.as_ref());
        result.map_err(|error| job.about(error))
    }
}

/// A download that is going on.
struct Job<'a> {
    api: &'a Api,
    agent_id: &'a str,
    download: &'a Download,
    /// A time on the clock.
    deadline: Duration,
    offer: Option<Offer>,
    /// The storage took too long to begin its response.
    is_slow: bool,
    /// The requests to the service and to the storage.
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
    fn run(&mut self, path: &Path) -> Result<Downloaded> {
        self.download.check()?;
        let id = id_segment(self.agent_id)?;
        let target = file::check_path(path).map_err(|what| file_error(path, &what))?;
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
        loop {
            let stream = self.fetch(&url, range)?;
            match next_step(&stream.head, range.map(|(offset, _)| offset), &part.note) {
                Step::WithoutRange => range = None,
                Step::StartOver => return self.receive(stream, part, true),
                Step::Append(total) => {
                    part.note.total = Some(total);
                    return self.receive(stream, part, false);
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
        }
    }

    fn fetch(&mut self, url: &str, range: Option<(u64, &str)>) -> Result<Stream<'a>> {
        self.attempts += 1;
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

    /// Writes a body to the part, and then how much there is.
    fn receive(
        &mut self,
        stream: Stream,
        part: &mut Part,
        starts_over: bool,
    ) -> Result<(), Failure> {
        let copied = self.copy(stream, part, starts_over);
        part.save().map_err(|reason| write_error(part, &reason))?;
        copied
    }

    fn copy(
        &mut self,
        mut stream: Stream,
        part: &mut Part,
        mut starts_over: bool,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; 64 * 1024];
        if !starts_over {
            part.resume().map_err(|reason| write_error(part, &reason))?;
        }
        loop {
            let n = stream.read(&mut buffer)?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            // Not before there is something else: a body without a byte costs nothing.
            if starts_over {
                let etag = strong(stream.head.etag.as_deref());
                part.start_over(etag, stream.head.length)
                    .map_err(|reason| write_error(part, &reason))?;
                starts_over = false;
            }
            let end = part.offset + n as u64;
            if part.note.total.is_some_and(|total| end > total) {
                let what = format!("the storage {} sent more than the file has", stream.host);
                return Err(unexpected(what).into());
            }
            part.write(bytes)
                .map_err(|reason| write_error(part, &reason))?;
            self.fetched += n as u64;
            self.report(part);
            if self.remaining().is_zero() {
                return Err(Error::out_of_time().into());
            }
        }
        if stream.head.is_chunked && part.note.total.is_none() && !starts_over {
            part.note.total = Some(part.offset);
        }
        match part.is_whole() && !starts_over {
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
            return Err(match then {
                Then::Stop => error,
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
    fn about(&self, error: Error) -> Error {
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
        let mut what = match self.remaining().is_zero() {
            true => format!("the file was not whole within {timeout}"),
            false => format!("the file is not whole, and too little of {timeout} remains"),
        };
        what += &format!(" ({})", progress(part));
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
fn unexpected(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnexpectedResponse, what)
}

fn call_again(part: &Part) -> String {
    match part.range() {
        Some(_) => "call download again, which resumes".into(),
        None => "call download again".into(),
    }
}

fn file_error(path: &Path, what: &str) -> Error {
    let path = path.display();
    Error::new(ErrorKind::File, format!("file {path}: {what}"))
}

fn write_error(part: &Part, reason: &io::Error) -> Error {
    let mut what = format!("cannot be written: {reason}");
    if let Some(total) = part.note.total {
        let missing = human_size(total.saturating_sub(part.offset));
        what += &format!("; {missing} of {} are missing", human_size(total));
    }
    file_error(&part.path, &what).advice("fix that, then call download again")
}

/// How much is there.
fn progress(part: &Part) -> String {
    let there = human_size(part.offset);
    match part.note.total {
        Some(total) => format!("{there} of {}", human_size(total)),
        None => there,
    }
}
