//! `generate_once` and `ensure_agent`: an agent is created and billed once, whatever crashes. A
//! receipt, a file of JSON lines, says what was done.

mod lines;

use std::fs::{self, File};
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
use lines::{Attempt, Call, FORMAT, Line, NO_RECEIPT, Step, decide, may_be_receipt, parse};

/// No receipt is longer: a file that is, is something else.
const LONGEST: u64 = 16 * 1024 * 1024;

/// How much JSON of a field of the service's is kept. Where the disk is full, the ids alone.
const FIELD_LIMITS: [usize; 2] = [4 * 1024, 0];

/// How long to wait for the lock before an end is written. Without it the next call polls again.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl Api {
    /// Creates an agent, **which is billed once** however often this is called and whatever crashes:
    /// the receipt, a small file, says what was done.
    ///
    /// Before the request is sent, the receipt has its idempotency key, the base URL, the service's
    /// time, and a fingerprint of each field (no security hash), but neither the secret nor the
    /// media. Then:
    ///
    /// - A later call with the same request returns the agent of the receipt, with
    ///   [`replayed`](Generation::replayed) set, and sends nothing. Media files are read to compare
    ///   them. Line ends of text do not count.
    /// - A call at the same time, in this or another process of the computer, waits until the first
    ///   one has its agent.
    /// - After a crash the key is sent again, if the server
    ///   [honors](crate::ApiBuilder::honors_idempotency_keys) keys and its own clock says that this
    ///   one is younger than 23 h. Otherwise the outcome is [unknown](Billing::Unknown), and nothing
    ///   is sent.
    /// - A request that was not accepted leaves the receipt as it was. A new receipt is then an empty
    ///   file, which means that there is none.
    /// - After a generation that [`ensure_agent`](Api::ensure_agent) saw fail, the next call makes
    ///   another attempt, **which is billed**, unless the caller chose the same idempotency key.
    ///
    /// Delete the receipt to pay for another agent. See [Receipts](crate#receipts).
    ///
    /// # Errors
    ///
    /// [`Receipt`](ErrorKind::Receipt) for a receipt that cannot be locked, read or written, is for
    /// another request or base URL, has a format that a later version wrote, or has a key whose
    /// outcome is unknown. [`WaitTimedOut`](ErrorKind::WaitTimedOut) if another process uses the
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
        let (generation, end) = receipt.obtain(request)?;
        if let Some(agent) = end {
            let ended = receipt.watch(&generation, &Wait::new()).end(agent);
            ended.map_err(|error| {
                let error = error.call(receipt.call);
                receipt.after_wait(error, request, &generation, true)
            })?;
        }
        Ok(generation)
    }

    /// Returns the ready agent of a receipt. It is created, **and billed, once**:
    /// [`generate_once`](Api::generate_once) and [`wait`](Api::wait) with one deadline over both.
    ///
    /// For programs that run again and again, such as build scripts. The receipt has the end of the
    /// wait too. Once the agent is ready, a call returns it as it was then, without a secret and the
    /// network, and without the fields that took more than 4 KiB. Its URLs may have expired:
    /// [`status`](Api::status) returns new ones.
    ///
    /// Once the generation has failed, which this call reports, the next one **pays for another
    /// try**. Once the agent was deleted, no call pays until the receipt is deleted. After any other
    /// error with an [agent id](Error::agent_id) the next call continues to wait.
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
        wait.check().map_err(|error| receipt.unread(error))?;
        let (generation, end) = receipt.obtain(request)?;
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
                // A model that is ready pays for no other agent, whatever the agent's own word.
                let seen = seen.filter(|agent| result.is_err() || !agent.is_failed());
                let is_recorded = seen.is_some_and(|agent| receipt.record(&generation, agent));
                (result, is_recorded)
            }
        };
        result.map_err(|error| receipt.after_wait(error, request, &generation, is_recorded))
    }
}

/// An agent, and its end if that is known.
type Obtained = (Generation, Option<Agent>);

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

    /// Returns the agent as found, or after sending.
    fn obtain(&self, request: &GenerateRequest) -> Result<Obtained> {
        let unread = |error| self.unread(error);
        let mut submission = self.api.prepare(request).map_err(unread)?;
        submission.receipt = Some(self.path.clone());
        let mut call = self.asks(request, &mut submission).map_err(unread)?;
        if let Some(obtained) = self.obtain_unlocked(&mut call)? {
            return Ok(obtained);
        }
        let file = self.lock(&submission)?;
        self.obtain_locked(file, submission, call)
    }

    /// Returns what a finished receipt has, which no process changes any more.
    fn obtain_unlocked(&self, call: &mut Call) -> Result<Option<Obtained>> {
        let bytes = self.read_unlocked();
        if !may_be_receipt(&bytes) {
            return Err(self.error(NO_RECEIPT).billing_is(Billing::Unknown));
        }
        let Some(last) = parse(&bytes).ok().and_then(|lines| lines.last) else {
            return Ok(None);
        };
        if last.has_failed() {
            call.failed_before = Some(last.key.clone());
        }
        match decide(Some(&last), call) {
            Step::Return(generation, end) if end.is_some() || self.wait.is_none() => {
                Ok(Some((generation, end)))
            }
            Step::Refuse(what) if !last.is_pending() => Err(self.error(what)),
            _ => Ok(None),
        }
    }

    fn obtain_locked(
        &self,
        mut file: LockedFile,
        mut submission: Submission,
        mut call: Call,
    ) -> Result<Obtained> {
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
                Step::Unknown(why) => {
                    submission.key_is_kept = false;
                    let error = self.error(format!("{NOT_SENT}{why}"));
                    return Err(submission.error(error).call(self.call));
                }
            }
        }
    }

    fn asks(&self, request: &GenerateRequest, submission: &mut Submission) -> Result<Call> {
        let wanted = Attempt {
            format: FORMAT,
            base_url: self.api.shared.transport.base().url.clone(),
            key: submission.key.clone(),
            request: body::fingerprints(request.fields(), &mut submission.body)?,
            ..Attempt::default()
        };
        Ok(Call {
            wanted,
            has_own_key: request.own_key().is_some(),
            honored: self.api.shared.honors_keys,
            ..Call::default()
        })
    }

    /// What can be read now. On Windows another process's lock forbids it.
    fn read_unlocked(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(file) = File::open(&self.path) {
            // What was read before an error says enough, or else it is read under the lock.
            let _ = file.take(LONGEST).read_to_end(&mut bytes);
        }
        bytes
    }

    fn lock(&self, submission: &Submission) -> Result<LockedFile> {
        let longest = self.api.longest_generate(submission.body.len());
        let error = match LockedFile::open(&self.path, &self.lock_wait(longest)) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let others_may_send = matches!(error, LockError::Busy | LockError::ShutDown);
        let mut error = self.unread(self.named(error.into_error(ErrorKind::Receipt)));
        if others_may_send {
            error = error.billing_is(Billing::Unknown);
        }
        Err(error)
    }

    /// Waits for at most this long, and not beyond the deadline.
    fn lock_wait(&self, longest: Duration) -> LockWait<'_> {
        let shared = &self.api.shared;
        let until = shared.clock.now().saturating_add(longest);
        LockWait {
            clock: &*shared.clock,
            stopped: shared.transport.stopped(),
            until: self.deadline.map_or(until, |deadline| deadline.min(until)),
        }
    }

    /// Reads the last attempt, and cuts the file after its last whole line: no new line joins a
    /// torn one.
    fn read(&self, file: &mut LockedFile) -> Result<Option<Attempt>> {
        let unknown = |what| self.error(what).billing_is(Billing::Unknown);
        let cannot_read = |reason| unknown(format!("cannot be read and repaired: {reason}"));
        let bytes = file.read(LONGEST).map_err(cannot_read)?;
        if bytes.len() as u64 == LONGEST {
            return Err(unknown(
                "is too long to be a receipt; choose another path".into(),
            ));
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
        submission.stopwatch = self.api.stopwatch();
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
    ) -> Result<Obtained> {
        let cannot_write = |submission: &Submission, reason: io::Error| {
            let error = self.error(format!("cannot be written: {reason}"));
            let error = error.advice("fix that and call again");
            submission.error(error).call(self.call)
        };
        let start = file.len().map_err(|e| cannot_write(&submission, e))?;
        let sending = attempt.map(Line::Sending);
        let result = match write(&mut file, sending.as_ref()).and_then(|()| file.sync_folder()) {
            Ok(()) => self.submit(&mut file, &mut submission),
            Err(reason) => Err(cannot_write(&submission, reason)),
        };
        let error = match result {
            Ok(generation) => {
                let written = write(&mut file, Some(&Line::Accepted(generation.clone())));
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
        // Never by removing the file: another process may wait for its lock.
        if error.billing() == Billing::NotBilled && file.cut(start).is_err() {
            let path = self.path.display();
            let advice = format!("the receipt {path} could not be restored: delete it");
            return Err(error.and_advice(&advice));
        }
        Err(error)
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
                let _ = write(file, Some(&line));
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
        last.end.is_some() || write(&mut file, Some(&Line::Ended { key, agent })).is_ok()
    }

    fn watch(&self, generation: &Generation, wait: &Wait) -> Watch {
        let deadline = self.deadline.unwrap_or(Duration::MAX);
        Watch::new(self.api, &generation.agent_id, wait, deadline)
    }
}

/// The errors of a receipt.
impl Receipt<'_> {
    fn error(&self, what: impl Into<String>) -> Error {
        self.named(Error::new(ErrorKind::Receipt, what))
    }

    fn named(&self, error: Error) -> Error {
        let path = self.path.display();
        error
            .within(format!("receipt {path}").trim())
            .call(self.call)
    }

    /// An error before the receipt was read under its lock. If there is something in it, a request
    /// may have been sent.
    fn unread(&self, error: Error) -> Error {
        use io::ErrorKind::{NotADirectory, NotFound};
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() == 0 => error,
            // Nothing is there. Of what cannot be looked at, that is not known.
            Err(reason) if matches!(reason.kind(), NotFound | NotADirectory) => error,
            _ => error.billing_is(Billing::Unknown),
        }
    }

    /// Says which time ran out, in an error of a request.
    fn about_time(&self, error: Error) -> Error {
        match self.wait {
            Some(wait) => wait.name_timeout(error),
            None => error,
        }
    }

    fn not_recorded(&self, generation: &Generation, reason: &io::Error) -> Error {
        let what = format!("the agent was accepted and billed, but cannot be recorded: {reason}");
        self.error(what)
            .billing_is(Billing::Billed)
            .repeat_is_safe(false)
            .agent(&generation.agent_id)
            .key(&generation.idempotency_key)
            .advice("call wait with this agent")
    }

    /// Adds to an error of a wait what the receipt means for it.
    fn after_wait(
        &self,
        error: Error,
        request: &GenerateRequest,
        generation: &Generation,
        is_recorded: bool,
    ) -> Error {
        let error = error.paid_for(generation);
        let is_own_key = request.own_key() == Some(&generation.idempotency_key);
        match error.kind() {
            ErrorKind::GenerationFailed if error.billing() != Billing::Refunded => error,
            ErrorKind::GenerationFailed if !is_recorded => {
                error.advice("the service refunds it; call again to see how to continue")
            }
            ErrorKind::GenerationFailed if is_own_key => error.advice(
                "the service refunds it; another try, which is billed, needs another idempotency key",
            ),
            ErrorKind::GenerationFailed => {
                error.advice("the service refunds it; the same call again pays for another try")
            }
            ErrorKind::NotFound => error.and_advice(&format!(
                "delete the receipt {} to pay for another agent",
                self.path.display()
            )),
            _ => error,
        }
    }
}

/// Appends a line, the whole or else the ids alone, and syncs the file. Fails too if the file is no
/// longer the one at its path.
fn write(file: &mut LockedFile, line: Option<&Line>) -> io::Result<()> {
    let mut written = Ok(());
    if let Some(line) = line {
        written = Err(io::Error::other("the line cannot be read back"));
        for most in FIELD_LIMITS {
            if let (Err(_), Some(text)) = (&written, line.text(most)) {
                written = file.append(&text);
            }
        }
    }
    written?;
    file.sync()?;
    file.still_at_path()
}
