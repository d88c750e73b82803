//! `generate_once` and `ensure_agent`: an agent is created and billed once, whatever crashes. A
//! receipt, a file of JSON lines, says what was done.

mod errors;
mod lines;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::Agent;
use crate::api::Api;
use crate::body;
use crate::error::{Billing, Error, ErrorKind, Result};
use crate::file::{self, LockError, LockWait, LockedFile};
use crate::generate::{GenerateRequest, Generation, NOT_SENT, Submission};
use crate::retry;
use crate::wait::{End, Wait, Watch};
use lines::{Attempt, Call, FOREIGN, FORMAT, Line, Step, decide, may_be_receipt, parse};

/// A longer file is not a receipt.
const MAX_LEN: u64 = 16 * 1024 * 1024;

/// How much JSON of each field that the service sent is kept.
const FIELD_LIMIT: usize = 4 * 1024;

/// How long to wait for the lock before an end is written. Without it the next call polls again.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl Api {
    /// Creates an agent, **which is billed once** however often this is called.
    ///
    /// The receipt, a small file, says what was done. So this holds after a crash, too:
    ///
    /// - A later call with the same request returns the agent of the receipt, with
    ///   [`replayed`](Generation::replayed) set, and sends nothing. Media files are read to compare
    ///   them. Line ends of text do not count.
    /// - A call at the same time, in this or another process of the computer, waits until the first
    ///   one has its agent: for as long as a generate request may take with its retries, 1 to 2 h
    ///   with the default timeouts.
    /// - After a crash the request is retried with the same key, if the server
    ///   [honors](crate::ApiBuilder::honors_idempotency_keys) keys and its own clock says that this
    ///   one is younger than 23 h. Otherwise the outcome is [unknown](Billing::Unknown), and nothing
    ///   is sent.
    /// - A request that was not accepted leaves the receipt as it was. A new receipt is then an empty
    ///   file, which means that there is none.
    /// - After a generation that [`ensure_agent`](Api::ensure_agent) saw fail, the next call makes
    ///   another attempt, **which is billed**, unless the caller chose the same idempotency key.
    ///
    /// Delete the receipt to pay for another agent. See [Receipts](crate::_docs::receipts).
    ///
    /// # Errors
    ///
    /// [`Receipt`](ErrorKind::Receipt) for a receipt that cannot be locked, read or written, is for
    /// another request or base URL, has a format that a later version wrote, or has a key whose
    /// outcome is unknown. [`GenerationFailed`](ErrorKind::GenerationFailed) and
    /// [`NotFound`](ErrorKind::NotFound) for a receipt whose agent failed or was deleted. [`WaitTimedOut`](ErrorKind::WaitTimedOut) if another process uses the
    /// receipt for longer than a generate request may take. Otherwise as
    /// [`generate`](Api::generate). [`Error::billing`] counts earlier calls with this receipt too.
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest};
    ///
    /// let request = GenerateRequest::new()
    ///     .prompt("You are a friendly assistant.")
    ///     .model("essence-2");
    /// let generation = Api::from_env()?.generate_once("agent.receipt", &request)?;
    /// println!("{}", generation.agent_id);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn generate_once(
        &self,
        receipt: impl AsRef<Path>,
        request: &GenerateRequest,
    ) -> Result<Generation> {
        let receipt = Receipt::new(self, "generate_once", receipt.as_ref(), None)?;
        let (generation, end) = receipt.find_or_create(request)?;
        if let Some(agent) = end {
            let ended = receipt.watch(&generation, &Wait::new()).end(agent);
            ended.map_err(|error| receipt.after_wait(error, request, &generation, true))?;
        }
        Ok(generation)
    }

    /// Returns the ready agent of a receipt. It is created, **and billed, once**.
    ///
    /// This is [`generate_once`](Api::generate_once) and [`wait`](Api::wait) with one deadline.
    ///
    /// For programs that run again and again, such as build scripts. The receipt has the end of the
    /// wait too. Once the agent is ready, a call returns it as it was then, without a secret and the
    /// network, and without the fields that took more than 4 KiB. Its URLs may have expired:
    /// [`status`](Api::status) returns new ones.
    ///
    /// Once the generation has failed, which this call reports, the next one **pays for another
    /// try**. Once the agent was deleted, no call pays until the receipt is deleted. After any
    /// other error with an [agent id](Error::agent_id) the next call continues to wait.
    ///
    /// With [`Wait::model`], a call asks the service unless the receipt's agent was ready with that
    /// model. A model that failed does not end the receipt, and makes no later call pay.
    ///
    /// # Errors
    ///
    /// As [`generate_once`](Api::generate_once) and [`wait`](Api::wait).
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest, Wait};
    ///
    /// let request = GenerateRequest::new()
    ///     .prompt("You are a friendly assistant.")
    ///     .model("essence-2");
    /// let agent = Api::from_env()?.ensure_agent("agent.receipt", &request, &Wait::new())?;
    /// println!("{} is {}", agent.agent_id, agent.status);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn ensure_agent(
        &self,
        receipt: impl AsRef<Path>,
        request: &GenerateRequest,
        wait: &Wait,
    ) -> Result<Agent> {
        let receipt = Receipt::new(self, "ensure_agent", receipt.as_ref(), Some(wait))?;
        wait.check()
            .map_err(|error| receipt.unread(error.call(receipt.call)))?;
        let (generation, end) = receipt.find_or_create(request)?;
        let mut watch = receipt.watch(&generation, wait);
        let (result, is_recorded) = match end {
            // An agent that was ready may have been given another model since.
            Some(agent) if !agent.is_ready() || wait.end(&agent) == Some(End::Ready) => {
                (watch.end(agent), true)
            }
            _ => {
                if !generation.replayed {
                    watch.pause.wanted = wait.interval;
                }
                let result = watch.finish();
                let seen = result.as_ref().map_or_else(Error::last_seen, Some);
                // After a failed end the next call pays: only where this one says that it is refunded.
                let is_refunded = |error: &Error| error.billing() == Billing::Refunded;
                let is_refunded = result.as_ref().is_err_and(is_refunded);
                let seen = seen.filter(|agent| !agent.is_failed() || is_refunded);
                let is_recorded = seen.is_some_and(|agent| receipt.record(&generation, agent));
                (result, is_recorded)
            }
        };
        result.map_err(|error| receipt.after_wait(error, request, &generation, is_recorded))
    }
}

/// An agent, and how its generation ended if that is known.
type Found = (Generation, Option<Agent>);

/// A receipt in use by one call.
struct Receipt<'a> {
    api: &'a Api,
    /// The name of the call, for errors.
    call: &'static str,
    path: PathBuf,
    wait: Option<&'a Wait>,
    deadline: Option<Duration>,
}

impl<'a> Receipt<'a> {
    fn new(api: &'a Api, call: &'static str, path: &Path, wait: Option<&'a Wait>) -> Result<Self> {
        let now = api.shared.clock.now();
        let mut receipt = Receipt {
            api,
            call,
            path: path.into(),
            wait,
            deadline: wait.map(|wait| now.saturating_add(wait.timeout)),
        };
        match file::check_path(path) {
            Ok(path) => receipt.path = path,
            Err(what) => return Err(receipt.error(what).advice("choose another path")),
        }
        Ok(receipt)
    }

    /// Returns the agent of the receipt, or else creates it.
    fn find_or_create(&self, request: &GenerateRequest) -> Result<Found> {
        let (submission, mut call) = match self.prepare(request) {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.unread(error.call(self.call))),
        };
        let last = self.read_unlocked()?;
        if let Some(last) = &last {
            if last.has_failed() {
                call.failed_before = Some(last.key.clone());
            }
            // Of a finished receipt no other process changes anything.
            match decide(Some(last), &call) {
                Step::Return(generation, end) if end.is_some() || self.wait.is_none() => {
                    return Ok((generation, end));
                }
                Step::Refuse(what) if !last.is_pending() => return Err(self.error(what)),
                _ => {}
            }
        }
        let file = self.lock(&submission)?;
        self.find_or_send(file, submission, call)
    }

    fn prepare(&self, request: &GenerateRequest) -> Result<(Submission, Call)> {
        let mut submission = self.api.prepare(request)?;
        submission.call = self.call;
        submission.receipt = Some(self.path.clone());
        let call = Call {
            wanted: Attempt {
                format: FORMAT,
                base_url: self.api.shared.transport.base().url.to_string(),
                key: submission.key.clone(),
                request: body::fingerprints(request.fields(), &mut submission.body)?,
                ..Attempt::default()
            },
            has_own_key: request.own_key().is_some(),
            honored: self.api.shared.honors_keys,
            ..Call::default()
        };
        Ok((submission, call))
    }

    /// Decides under the lock.
    fn find_or_send(
        &self,
        mut file: LockedFile,
        mut submission: Submission,
        mut call: Call,
    ) -> Result<Found> {
        let last = self.read(&mut file)?;
        let mut billing = Billing::NotBilled;
        if let Some(found) = last.as_ref()
            && found.is_pending()
        {
            billing = Billing::Unknown;
            submission.key = found.key.clone();
            submission.key_is_kept = true;
            submission.was_sent = true;
            submission.seen_agent_id = found.named.clone();
        }
        loop {
            match decide(last.as_ref(), &call) {
                Step::Return(generation, end) => return Ok((generation, end)),
                Step::AskTime => self.ask_time(&mut call, &mut submission)?,
                Step::Send => return self.send(file, submission, Some(call.wanted)),
                Step::Retry(age) => {
                    submission.key_age = age;
                    return self.send(file, submission, None);
                }
                Step::Refuse(what) => return Err(self.error(what).billing_is(billing)),
                Step::NotNow(why) => {
                    let error = Error::new(ErrorKind::UnexpectedResponse, why);
                    return Err(submission.error(self.named(error)));
                }
                Step::Unknown(why) => {
                    submission.key_is_kept = false;
                    let what = format!("{NOT_SENT}{why}");
                    return Err(submission.error(Error::new(ErrorKind::Receipt, what)));
                }
            }
        }
    }

    /// What can be read without the lock. On Windows another process's lock forbids it.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(&self.path)?;
        file.take(MAX_LEN).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What is wrong with a file that may be a receipt is found again, and reported, under the
    /// lock.
    fn read_unlocked(&self) -> Result<Option<Attempt>> {
        let bytes = self.bytes().unwrap_or_default();
        if !may_be_receipt(&bytes) {
            return Err(self.error(FOREIGN));
        }
        Ok(parse(&bytes).ok().and_then(|lines| lines.last))
    }

    fn lock(&self, submission: &Submission) -> Result<LockedFile> {
        let longest = self.api.longest_generate(submission.body.len());
        let error = match LockedFile::open(&self.path, &self.lock_wait(longest)) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let others_may_send = matches!(error, LockError::Busy | LockError::ShutDown);
        let error = match error {
            LockError::ShutDown => Error::shut_down().call(self.call),
            _ => self.named(error.into_error(ErrorKind::Receipt)),
        };
        let error = self.unread(error);
        match others_may_send {
            true => Err(error.billing_is(Billing::Unknown)),
            false => Err(error),
        }
    }

    /// Waits for at most this long, and not beyond the deadline.
    fn lock_wait(&self, longest: Duration) -> LockWait<'_> {
        let until = self.api.shared.clock.now().saturating_add(longest);
        let deadline = self.deadline.unwrap_or(until);
        self.api.lock_wait(until.min(deadline))
    }

    /// Reads the last attempt, and cuts the file after its last whole line: what is appended must
    /// not continue a torn line.
    fn read(&self, file: &mut LockedFile) -> Result<Option<Attempt>> {
        let unknown = |what| self.error(what).billing_is(Billing::Unknown);
        let cannot_read = |reason| unknown(format!("cannot be read and repaired: {reason}"));
        let bytes = file.read(MAX_LEN).map_err(cannot_read)?;
        if bytes.len() as u64 == MAX_LEN {
            let what = "is too long to be a receipt; choose another path";
            return Err(unknown(what.into()));
        }
        let parsed = parse(&bytes).map_err(unknown)?;
        if parsed.len < bytes.len() as u64 {
            file.cut(parsed.len).map_err(cannot_read)?;
        }
        if parsed.last.is_some() && !parsed.is_ended {
            file.append(b"\n").map_err(cannot_read)?;
        }
        Ok(parsed.last)
    }

    /// Makes the free request that comes before the first POST.
    fn ask_time(&self, call: &mut Call, submission: &mut Submission) -> Result<()> {
        call.has_asked = true;
        match self.api.preflight(self.deadline) {
            Ok(response) => {
                if let Some(date) = response.date()
                    && retry::parse_date(date).is_some()
                {
                    call.wanted.date = Some(date.into());
                    submission.key_is_kept = true;
                }
                submission.is_preflighted = true;
                Ok(())
            }
            // The POST will fail in the same way, or else its key has no time.
            Err(error) if error.http_status().is_none() && !submission.was_sent => Ok(()),
            Err(error) => Err(self.about_time(submission.error(error))),
        }
    }

    /// Sends a key, found in the receipt or new, and writes down what became of it.
    fn send(
        &self,
        mut file: LockedFile,
        mut submission: Submission,
        attempt: Option<Attempt>,
    ) -> Result<Found> {
        let start = file.len();
        let sent = match write_sending(&mut file, attempt) {
            Ok(()) => self.submit(&mut file, &mut submission),
            Err(reason) => {
                let error = self.error(format!("cannot be written: {reason}"));
                Err(submission.error(error.advice("fix that and call again")))
            }
        };
        let error = match sent {
            Ok(generation) => {
                let written = write(&mut file, &Line::Accepted(generation.clone()));
                // Others need not wait for the caller's function.
                drop(file);
                self.api.report_accepted(&generation);
                return match written {
                    Ok(()) => Ok((generation, None)),
                    Err(reason) => Err(self.not_recorded(&generation, &reason)),
                };
            }
            Err(error) => self.about_time(error),
        };
        if error.billing() != Billing::NotBilled {
            return Err(error);
        }
        // Never by removing the file: another process may wait for its lock.
        match start.and_then(|start| file.cut(start)) {
            Ok(()) => Err(error),
            Err(_) => Err(error.and_advice(&format!(
                "the receipt {} could not be restored: delete it",
                self.path.display()
            ))),
        }
    }

    /// As [`Api::submit`]. The agent that an error names is written down before the next attempt:
    /// a process that dies in the delay would lose it.
    fn submit(&self, file: &mut LockedFile, submission: &mut Submission) -> Result<Generation> {
        self.api.before_upload(submission, self.deadline)?;
        loop {
            let error = match self.api.attempt(submission, self.deadline) {
                Ok(generation) => return Ok(generation),
                Err(error) => error,
            };
            if let Some(line) = Line::named_by(&error, &submission.key) {
                // The error has the agent, whether this succeeds or not.
                let _ = write(file, &line);
            }
            if !self.api.is_retried(submission, &error, self.deadline) {
                return Err(submission.error(error));
            }
        }
    }

    /// Writes down how the last attempt ended, if it is this one. Returns whether the receipt has
    /// its end.
    fn record(&self, generation: &Generation, agent: &Agent) -> bool {
        if !agent.is_finished() || !self.path.exists() {
            return false;
        }
        let Ok(mut file) = LockedFile::open(&self.path, &self.lock_wait(END_PATIENCE)) else {
            return false;
        };
        let Ok(Some(last)) = self.read(&mut file) else {
            return false;
        };
        let key = generation.idempotency_key.clone();
        if last.key != key || last.is_pending() {
            return false;
        }
        let agent = agent.clone();
        last.end.is_some() || write(&mut file, &Line::Ended { key, agent }).is_ok()
    }

    fn watch(&self, generation: &Generation, wait: &Wait) -> Watch {
        let deadline = self.deadline.unwrap_or(Duration::MAX);
        let mut watch = Watch::new(self.api, &generation.agent_id, wait, deadline);
        watch.call = self.call;
        watch
    }
}

/// Writes the first line of an attempt, if it is a new one. The key and the name of the file are on
/// the disk before it is sent.
fn write_sending(file: &mut LockedFile, attempt: Option<Attempt>) -> io::Result<()> {
    match attempt {
        Some(attempt) => write(file, &Line::Sending(attempt))?,
        None => sync(file)?,
    }
    file.sync_folder()
}

/// Appends a line and syncs the file. On a full disk the line has the ids alone.
fn write(file: &mut LockedFile, line: &Line) -> io::Result<()> {
    append(file, line, FIELD_LIMIT).or_else(|_| append(file, line, 0))?;
    sync(file)
}

fn append(file: &mut LockedFile, line: &Line, limit: usize) -> io::Result<()> {
    match line.text(limit) {
        Some(text) => file.append(&text),
        None => Err(io::Error::other("the line cannot be read back")),
    }
}

/// Fails too if the file is no longer the one at its path.
fn sync(file: &LockedFile) -> io::Result<()> {
    file.sync()?;
    file.still_at_path()
}
