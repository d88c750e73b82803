//! Waiting for an agent: polls its status until the generation ends.

mod errors;

use std::{fmt, iter::FusedIterator, time::Duration};

use crate::agent::{Agent, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::text::human_time;
use crate::{api::Api, event::Event, generate::GenerateRequest, retry, status};

/// A last poll takes place this long before the deadline.
const LAST_POLL: Duration = Duration::from_secs(1);

/// How long an agent may be unknown before it was first seen: the service that has just named it
/// may take a moment to know it everywhere.
const NOT_FOUND_GRACE: Duration = Duration::from_secs(60);

/// How to wait for an agent.
///
/// ```
/// use std::time::Duration;
/// use bithuman::Wait;
///
/// let wait = Wait::new()
///     .interval(Duration::from_secs(10))
///     .timeout(Duration::from_secs(30 * 60))
///     .outage(Duration::from_secs(5 * 60));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Wait {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    outage: Duration,
    pub(crate) model: Option<String>,
}

impl Default for Wait {
    fn default() -> Self {
        Wait {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(4 * 60 * 60),
            outage: Duration::from_secs(15 * 60),
            model: None,
        }
    }
}

impl Wait {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time between two polls, more than zero. Default: 5 s, as the service asks.
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// Sets the time for the whole call.
    ///
    /// For [`generate_and_wait`](Api::generate_and_wait), that includes the upload. A response that
    /// is awaited after a long upload can make the end late: see
    /// [Threads](crate::_docs::waiting#threads).
    ///
    /// The last poll takes place about a second before the end. If the service asks to wait beyond
    /// the end, the call ends at once. Default: 4 h.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Sets how long polls may fail in a row before the wait ends with their error.
    ///
    /// If the service asks to wait longer than that, the call ends at once. Default: 15 min.
    pub fn outage(mut self, time: Duration) -> Self {
        self.outage = time;
        self
    }

    /// Sets which of the agent's models to wait for, instead of the agent.
    ///
    /// The wait ends when [`model_status`](Agent::model_status) says that the model is ready or
    /// failed, whatever the agent's own status is, or when the agent was deleted. For a model that
    /// is added to an agent, and for agents made long ago, whose status stays `completed` or
    /// `success`.
    ///
    /// A model that `model_status` does not name is ready once it is in
    /// [`supported_models`](Agent::supported_models), and failed if the agent is. An agent whose
    /// record has neither field is waited for by its own status. Default: none.
    ///
    /// ```no_run
    /// use bithuman::{Api, Wait};
    ///
    /// let wait = Wait::new().model("essence-2");
    /// let agent = Api::from_env()?.wait("A91XMB7113", &wait)?;
    /// println!("{:?}", agent.model_status.get("essence-2"));
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// How the wait ends with this record, or `None` if it continues.
    pub(crate) fn end(&self, agent: &Agent) -> Option<End> {
        let is_failed = agent.is_failed().then_some(End::Failed);
        if agent.status == Status::Deleted {
            return Some(End::Deleted);
        }
        let own = match agent.is_ready() {
            true => Some(End::Ready),
            false => is_failed,
        };
        let Some(model) = &self.model else {
            return own;
        };
        match (agent.model_status.get(model), &agent.supported_models) {
            (Some(status), _) if status.is_ready() => Some(End::Ready),
            (Some(status), _) if status.is_failed() => is_failed.or(Some(End::ModelFailed)),
            (Some(_), _) => None,
            (None, Some(models)) if models.contains(model) => Some(End::Ready),
            (None, None) if agent.model_status.is_empty() => own,
            (None, _) => is_failed,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.interval.is_zero() {
            let what = "the interval must be more than zero: the service asks for 5 s";
            return Err(Error::invalid(what).call("wait"));
        }
        if self.model.as_ref().is_some_and(|model| model.is_empty()) {
            return Err(Error::invalid("the model to wait for is empty").call("wait"));
        }
        Ok(())
    }

    /// Says which time ran out, in an error of a generate request.
    pub(crate) fn name_timeout(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::WaitTimedOut {
            return error;
        }
        error.what_is(format!("no response within {}", human_time(self.timeout)))
    }
}

/// How a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Ready,
    Failed,
    /// The model that was waited for failed, but not the agent.
    ModelFailed,
    Deleted,
}

impl Api {
    /// Waits until the agent is ready, and returns it.
    ///
    /// It polls at once and then at every [`interval`](Wait::interval).
    ///
    /// Transient errors (the network, 408, 425, 429, 5xx, a response that makes no sense) are
    /// retried through for up to [`Wait::outage`]. So is a 404 for 60 s, as long as there was no
    /// good response.
    ///
    /// # Errors
    ///
    /// [`GenerationFailed`](ErrorKind::GenerationFailed), with the agent as
    /// [`last_seen`](Error::last_seen), if the generation failed, or the model of [`Wait::model`].
    /// [`NotFound`](ErrorKind::NotFound) if the agent is unknown or was deleted.
    /// [`WaitTimedOut`](ErrorKind::WaitTimedOut) after [`Wait::timeout`].
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an interval of zero. Otherwise as
    /// [`status`](Api::status). After any error but `GenerationFailed` and `NotFound`, `wait` can be
    /// called again, for free.
    ///
    /// ```no_run
    /// use bithuman::{Api, ErrorKind, Wait};
    ///
    /// let api = Api::from_env()?;
    /// match api.wait("A91XMB7113", &Wait::new()) {
    ///     Ok(agent) => println!("{} is ready", agent.agent_id),
    ///     Err(error) if error.kind() == ErrorKind::GenerationFailed => println!("{error}"),
    ///     Err(error) => return Err(error), // the generation may continue
    /// }
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn wait(&self, agent_id: &str, wait: &Wait) -> Result<Agent> {
        self.watch(agent_id, wait).finish()
    }

    /// Returns an iterator over the polls of a [`wait`](Api::wait).
    ///
    /// # Errors
    ///
    /// The iterator gives at most one error, as its last item: as [`wait`](Api::wait). A record
    /// that says `failed` or `deleted` is not an error here, but the last good item.
    ///
    /// ```no_run
    /// use bithuman::{Api, Wait};
    ///
    /// let api = Api::from_env()?;
    /// for agent in api.watch("A91XMB7113", &Wait::new()) {
    ///     println!("{}", agent?.status);
    /// }
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn watch(&self, agent_id: &str, wait: &Wait) -> Watch {
        let deadline = self.shared.clock.now().saturating_add(wait.timeout);
        Watch::new(self, agent_id, wait, deadline)
    }

    /// Creates an agent, **which is billed**, and waits until it is ready.
    ///
    /// This is [`generate`](Api::generate) and [`wait`](Api::wait) with one deadline over both. The
    /// first poll takes place after one interval.
    ///
    /// # Errors
    ///
    /// As [`generate`](Api::generate) and [`wait`](Api::wait). [`Error::billing`] says whether the
    /// agent was billed. If it was, continue with [`wait`](Api::wait), which is free.
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest, Wait};
    ///
    /// let request = GenerateRequest::new()
    ///     .prompt("You are a friendly assistant.")
    ///     .model("essence-2");
    /// let agent = Api::from_env()?.generate_and_wait(&request, &Wait::new())?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn generate_and_wait(&self, request: &GenerateRequest, wait: &Wait) -> Result<Agent> {
        wait.check()?;
        let deadline = self.shared.clock.now().saturating_add(wait.timeout);
        let mut submission = self.prepare(request)?;
        let generation = self.submit(&mut submission, Some(deadline));
        let generation = generation.map_err(|error| wait.name_timeout(error))?;
        self.report_accepted(&generation);
        let mut watch = Watch::new(self, &generation.agent_id, wait, deadline);
        watch.pause.wanted = wait.interval;
        watch.finish().map_err(|error| {
            let error = error.paid_for(&generation);
            error.repeat_is_safe(submission.key_is_good())
        })
    }
}

/// The iterator of [`Api::watch`].
///
/// Each item is a good poll. The last item is the end of the generation, or else the only error.
/// Between two items it sleeps; transient errors are not shown.
///
/// ```no_run
/// use bithuman::{Api, Wait};
///
/// let mut watch = Api::from_env()?.watch("A91XMB7113", &Wait::new());
/// let first = watch.next().transpose()?;
/// println!("{:?}", first.map(|agent| agent.status));
/// # Ok::<(), bithuman::Error>(())
/// ```
#[must_use]
pub struct Watch {
    api: Api,
    /// The name of the call, for errors. It can be called again, for free.
    pub(crate) call: &'static str,
    agent_id: String,
    wait: Wait,
    deadline: Duration,
    pub(crate) pause: Pause,
    last_seen: Option<Agent>,
    first_not_found: Option<Duration>,
    /// The polls that failed in a row: since when, and the last one's error.
    failures: u32,
    failing_since: Duration,
    last_error: Option<Error>,
    polls: u32,
    ended: bool,
}

/// The wait before a poll.
#[derive(Default)]
pub(crate) struct Pause {
    pub wanted: Duration,
    /// What the service asks for: a shorter wait is not worth a poll.
    at_least: Duration,
}

impl Watch {
    pub(crate) fn new(api: &Api, agent_id: &str, wait: &Wait, deadline: Duration) -> Self {
        Watch {
            api: api.clone(),
            call: "wait",
            agent_id: agent_id.into(),
            wait: wait.clone(),
            deadline,
            pause: Pause::default(),
            last_seen: None,
            first_not_found: None,
            failures: 0,
            failing_since: Duration::ZERO,
            last_error: None,
            polls: 0,
            ended: false,
        }
    }

    /// Polls until the generation ends.
    pub(crate) fn finish(mut self) -> Result<Agent> {
        loop {
            self.poll()?;
            let wait = &self.wait;
            if let Some(agent) = self.last_seen.take_if(|agent| wait.end(agent).is_some()) {
                return self.end(agent);
            }
        }
    }

    /// The result of a wait that ended with this record.
    pub(crate) fn end(&mut self, agent: Agent) -> Result<Agent> {
        let end = self.wait.end(&agent);
        if end == Some(End::Ready) {
            return Ok(agent);
        }
        self.last_seen = Some(agent.clone());
        Err(match end {
            Some(End::Deleted) => {
                self.about_agent(Error::new(ErrorKind::NotFound, "the agent was deleted"))
            }
            Some(End::ModelFailed) => self.model_failed(&agent),
            _ => self.generation_failed(&agent),
        })
    }

    /// Sleeps and polls until there is a good response: what is seen last then.
    fn poll(&mut self) -> Result<()> {
        self.wait.check()?;
        loop {
            let Some(pause) = next_poll(&self.pause, self.remaining()) else {
                return Err(self.deadline_error());
            };
            if !pause.is_zero() {
                self.api.shared.clock.sleep(pause);
            }
            let error = match self.api.poll(&self.agent_id, Some(self.deadline)) {
                Ok(agent) => {
                    self.polls += 1;
                    self.failures = 0;
                    self.last_error = None;
                    self.pause.wanted = self.wait.interval;
                    self.pause.at_least = Duration::ZERO;
                    self.last_seen = Some(agent);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.polls += error.attempts();
            self.backoff_or_fail(error)?;
        }
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.api.shared.clock.now())
    }

    /// Sets the wait before the next poll, or returns the error that ends the call.
    fn backoff_or_fail(&mut self, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::WaitTimedOut {
            return Err(self.deadline_error());
        }
        let error = error.call(self.call);
        let now = self.api.shared.clock.now();
        if !self.is_transient(&error, now) {
            return Err(self.ended_by(error));
        }
        if self.failures == 0 {
            self.failing_since = now;
        }
        let at_least = error.retry_after().unwrap_or_default();
        let backoff = retry::backoff(self.failures, retry::random());
        self.failures += 1;
        self.pause.at_least = at_least;
        self.pause.wanted = self.wait.interval.max(backoff).max(at_least);
        let outage_end = self.failing_since.saturating_add(self.wait.outage);
        let outage_left = outage_end.saturating_sub(now);
        let remaining = self.remaining();
        let Some(delay) = next_poll(&self.pause, outage_left.min(remaining)) else {
            if outage_left >= remaining {
                self.last_error = Some(error);
                return Err(self.deadline_error());
            }
            let outage = human_time(self.wait.outage);
            let why = match at_least > outage_left {
                true => format!("that is longer than the outage allowed, {outage}"),
                false => format!("no good response for {outage}"),
            };
            return Err(self.ended_by(error.and_advice(&why)));
        };
        self.pause.wanted = delay;
        self.api.report(|| Event::Retrying {
            attempts: self.failures,
            delay,
            reason: error.to_string(),
        });
        self.last_error = Some(error);
        Ok(())
    }

    fn is_transient(&mut self, error: &Error, now: Duration) -> bool {
        match error.kind() {
            // Where TLS never worked, it is set up wrong. Where it did, this may be another network.
            ErrorKind::Tls => self.last_seen.is_some(),
            ErrorKind::NotFound => {
                let since = *self.first_not_found.get_or_insert(now);
                let is_new = now.saturating_sub(since) < NOT_FOUND_GRACE;
                is_new && self.last_seen.is_none() && status::is_unknown(error)
            }
            kind => kind.is_transient(),
        }
    }
}

/// How long to sleep before the next poll: as wanted, or until just before the end, or not at all
/// if a poll would come too late.
fn next_poll(pause: &Pause, remaining: Duration) -> Option<Duration> {
    if pause.wanted < remaining {
        return Some(pause.wanted);
    }
    let last = remaining.saturating_sub(LAST_POLL);
    (!last.is_zero() && pause.at_least <= last).then_some(last)
}

impl Iterator for Watch {
    type Item = Result<Agent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let result = self.poll();
        let agent = self.last_seen.as_ref();
        let is_last = |agent| self.wait.end(agent).is_some();
        self.ended = result.is_err() || agent.is_none_or(is_last);
        match result {
            Ok(()) => agent.cloned().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}

impl FusedIterator for Watch {}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "../tests/unit/wait.rs"]
mod tests;
