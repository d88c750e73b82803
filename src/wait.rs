use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

use crate::agent::Agent;
use crate::api::Api;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::generate::GenerateRequest;
use crate::retry;

/// A last look at the agent is worth this much of the time that is left.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Nothing is lost where a wait ends and the generation does not.
const GO_ON: &str = "wait for it again, which is not billed";
const MEND_AND_GO_ON: &str = "mend that, and wait for it again, which is not billed";

/// How often in a row an agent may be unknown before it was first seen: the service that has just
/// named it may take a moment to know it everywhere.
const MAX_NOT_FOUND: u32 = 3;

/// How to wait for an agent.
///
/// ```
/// use std::time::Duration;
/// use bithuman::Wait;
///
/// let wait = Wait::new().interval(Duration::from_secs(10)).timeout(Duration::from_secs(4 * 60 * 60));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    outage: Duration,
}

impl Default for Wait {
    fn default() -> Self {
        Wait {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2 * 60 * 60),
            outage: Duration::from_secs(15 * 60),
        }
    }
}

impl Wait {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time between two polls, more than zero. Default: 5 s, which the service asks for.
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// The time for everything: with [`generate_and_wait`](Api::generate_and_wait) the upload too.
    /// Default: 2 h. A server that stops reading in mid-upload can delay the end by as much as was
    /// left, at most a minute.
    ///
    /// The last poll comes about a second before the end, even if the interval is longer. A wait that
    /// the service asks for and that would pass the end is not begun: the error comes at once.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// How long polls may go on failing, with no good answer in between, before the wait ends with
    /// their error; at once, if the service asks to wait longer than that. Default: 15 min.
    pub fn outage(mut self, time: Duration) -> Self {
        self.outage = time;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.interval.is_zero() {
            return Err(Error::invalid("the interval of the Wait is zero: the service asks for 5 s"));
        }
        Ok(())
    }

    /// An error of a generate, where it was this wait's time that ran out.
    pub(crate) fn ran_out(&self, error: Error) -> Error {
        error.with(|e| {
            if e.kind == ErrorKind::WaitTimedOut {
                e.what = format!("no answer within the {:?} to wait: {}", self.timeout, e.what);
            }
        })
    }
}

impl Api {
    /// Polls until the agent is ready, and returns it: at once, and then every
    /// [`interval`](Wait::interval).
    ///
    /// Trouble that passes (the network, 408, 425, 429, 5xx, an answer that makes no sense) is sat
    /// out, backing off, for up to [`Wait::outage`]. So is "no such agent" before the first good
    /// answer, three times.
    ///
    /// ```no_run
    /// use bithuman::{Api, ErrorKind, Wait};
    ///
    /// let api = Api::from_env()?;
    /// match api.wait("A91XMB7113", &Wait::new()) {
    ///     Ok(agent) => println!("{:?}", agent.model_url),
    ///     Err(error) if error.kind() == ErrorKind::GenerationFailed => println!("{error}"),
    ///     Err(error) => return Err(error), // wait("A91XMB7113") can be called again
    /// }
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`GenerationFailed`](ErrorKind::GenerationFailed) if the service says so;
    /// [`WaitTimedOut`](ErrorKind::WaitTimedOut) after [`Wait::timeout`], which is no failure of the agent;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a bad id or a zero interval; otherwise what
    /// [`status`](Api::status) reports. Each carries the agent id and what was
    /// [last seen](Error::last_seen).
    pub fn wait(&self, agent_id: &str, wait: &Wait) -> Result<Agent> {
        self.watch(agent_id, wait).finish()
    }

    /// The polls of [`wait`](Api::wait), one by one: for progress, or to stop in between.
    ///
    /// # Errors
    ///
    /// An error is the last item: those of [`wait`](Api::wait). But a generation that failed is no error
    /// here: it is an agent that [`is_failed`](Agent::is_failed).
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
        Watch::new(self, agent_id, wait, deadline, Duration::ZERO)
    }

    /// [`generate`](Api::generate), **which is billed**, and [`wait`](Api::wait), with one
    /// deadline over both. The first poll comes after one interval.
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest, Wait};
    ///
    /// let request = GenerateRequest::new().prompt("You are a friendly assistant.");
    /// let agent = Api::from_env()?.generate_and_wait(&request, &Wait::new())?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`generate`](Api::generate) and [`wait`](Api::wait). An error that carries an
    /// [agent id](Error::agent_id) came after the service had taken the request: go on with
    /// [`wait`](Api::wait), which is not billed.
    pub fn generate_and_wait(&self, request: &GenerateRequest, wait: &Wait) -> Result<Agent> {
        let own_key = request.own_key();
        wait.check()
            .map_err(|error| error.with(|e| (e.call, e.idempotency_key) = ("generate_and_wait", own_key.cloned())))?;
        let deadline = self.shared.clock.now().saturating_add(wait.timeout);
        let age = self.age();
        let started = self.generate_until(request, Some(deadline)).map_err(|error| wait.ran_out(error))?;
        Watch::new(self, &started.agent_id, wait, deadline, wait.interval).finish().map_err(|error| {
            error.with(|e| {
                e.idempotency_key = Some(started.idempotency_key);
                // The same call again has the same key.
                e.repeat_is_safe = own_key.is_some() && retry::may_resend(true, self.shared.idempotency_honored, age());
            })
        })
    }
}

/// An agent on its way: the iterator of [`Api::watch`].
///
/// Each item is an answered poll; the last is the agent's end, ready or failed, or else the only
/// error. Between two items it sleeps; trouble that passes is not shown.
///
/// ```no_run
/// use bithuman::{Api, Wait};
///
/// let mut watch = Api::from_env()?.watch("A91XMB7113", &Wait::new());
/// let first = watch.next().transpose()?;
/// println!("{:?}", first.map(|agent| agent.status));
/// # Ok::<(), bithuman::Error>(())
/// ```
pub struct Watch {
    api: Api,
    agent_id: String,
    wait: Wait,
    deadline: Duration,
    /// What the next poll waits for.
    pause: Pause,
    last_seen: Option<Agent>,
    trouble: Option<Trouble>,
    not_found: u32,
    polls: u32,
    ended: bool,
}

/// The wait before a poll.
struct Pause {
    wanted: Duration,
    /// What the service asked for: the wait is this long, or there is none.
    at_least: Duration,
}

/// What there was since the last good answer.
struct Trouble {
    since: Duration,
    failures: u32,
    last: Error,
}

impl Watch {
    pub(crate) fn new(api: &Api, agent_id: &str, wait: &Wait, deadline: Duration, first: Duration) -> Self {
        Watch {
            api: api.clone(),
            agent_id: agent_id.into(),
            wait: wait.clone(),
            deadline,
            pause: Pause { wanted: first, at_least: Duration::ZERO },
            last_seen: None,
            trouble: None,
            not_found: 0,
            polls: 0,
            ended: false,
        }
    }

    pub(crate) fn finish(mut self) -> Result<Agent> {
        loop {
            let agent = self.poll()?;
            if agent.is_failed() {
                let message = agent.error_message.clone();
                let what = match message {
                    Some(_) => "the generation failed",
                    None => "the generation failed, and the service does not say why",
                };
                return Err(self.report(Error::new(ErrorKind::GenerationFailed, what)).with(|e| {
                    e.message = message;
                    e.advice = Some("another try is a new generate, which is billed");
                }));
            }
            if agent.is_ready() {
                return Ok(agent.clone());
            }
        }
    }

    /// Sleeps and asks until there is an answer: what was last seen then.
    fn poll(&mut self) -> Result<&Agent> {
        self.wait.check().map_err(|e| self.report(e))?;
        loop {
            let left = self.deadline.saturating_sub(self.api.shared.clock.now());
            let Some(pause) = next_poll(&self.pause, left) else { return Err(self.timed_out()) };
            if !pause.is_zero() {
                self.api.shared.clock.sleep(pause);
            }
            match self.api.poll(&self.agent_id, Some(self.deadline)) {
                Ok(agent) => {
                    self.polls += 1;
                    self.trouble = None;
                    self.pause = Pause { wanted: self.wait.interval, at_least: Duration::ZERO };
                    return Ok(self.last_seen.insert(agent));
                }
                Err(error) => {
                    self.polls += error.attempts();
                    self.sit_out(error)?;
                }
            }
        }
    }

    /// Sits trouble out if it may pass, and gives it back if not.
    fn sit_out(&mut self, error: Error) -> Result<()> {
        let passing = match error.kind() {
            ErrorKind::WaitTimedOut => return Err(self.timed_out()),
            // Where TLS never worked, it is set up wrong; where it did, this may be another network.
            ErrorKind::Tls => self.last_seen.is_some(),
            ErrorKind::NotFound => {
                self.not_found += 1;
                self.last_seen.is_none() && self.not_found <= MAX_NOT_FOUND
            }
            _ => error.is_retryable(),
        };
        if !passing {
            return Err(self.report(error.with(|e| match e.kind {
                ErrorKind::ShutDown => e.advice = Some(GO_ON),
                ErrorKind::Unauthorized => e.advice = Some(MEND_AND_GO_ON),
                _ => {}
            })));
        }
        if error.kind() != ErrorKind::NotFound {
            self.not_found = 0;
        }
        let now = self.api.shared.clock.now();
        let (since, failures) = self.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.failures));
        let at_least = error.retry_after().unwrap_or_default();
        let backoff = retry::backoff(failures, retry::random());
        self.pause = Pause { wanted: self.wait.interval.max(backoff).max(at_least), at_least };

        let outage_left = since.saturating_add(self.wait.outage).saturating_sub(now);
        let time_left = self.deadline.saturating_sub(now);
        if let Some(delay) = next_poll(&self.pause, outage_left.min(time_left)) {
            self.pause.wanted = delay;
            self.api.report(|| Event::Resending { attempts: failures + 1, delay, reason: error.to_string() });
            self.trouble = Some(Trouble { since, failures: failures + 1, last: error });
            return Ok(());
        }
        if time_left <= outage_left {
            self.trouble = Some(Trouble { since, failures: failures + 1, last: error });
            return Err(self.timed_out());
        }
        let (out, allowed) = (now.saturating_sub(since).as_secs_f64(), self.wait.outage);
        let outage = if at_least > outage_left {
            format!("; the service asks for a longer wait than is left of the {allowed:?} of outage allowed")
        } else {
            format!("; no good answer for {out:.1} s of the {allowed:?} allowed")
        };
        Err(self.report(error.with(|e| {
            e.what += &outage;
            e.advice = Some(GO_ON);
        })))
    }

    /// An error about this agent.
    fn report(&self, error: Error) -> Error {
        error.with(|e| {
            e.call = "wait";
            e.agent_id = Some(self.agent_id.clone()).filter(|id| !id.is_empty());
            e.attempts = self.polls;
            e.last_seen = self.last_seen.clone();
        })
    }

    /// There is no time left, or none for another poll.
    fn timed_out(&mut self) -> Error {
        let timeout = self.wait.timeout;
        let start = self.deadline.saturating_sub(timeout);
        let waited = self.api.shared.clock.now().saturating_sub(start);
        let left = if waited < timeout { " (too little is left to ask again)" } else { "" };
        let seen = self.last_seen.as_ref().map(|agent| {
            let progress = agent.progress.map(|progress| format!(", {:.0} %", progress.clamp(0.0, 1.0) * 100.0));
            let step = agent.current_step.as_ref().map(|step| match step.as_str() {
                "awaiting_face_marking" => format!(", {step} (the service waits for a person to mark the face)"),
                _ => format!(", {step}"),
            });
            format!("{}{}{}", agent.status, progress.unwrap_or_default(), step.unwrap_or_default())
        });
        let seen = seen.as_deref().unwrap_or("not seen yet");
        let what = format!(
            "not ready after {:.1} s of {timeout:?}{left}: {seen}; this is no failure, wait for it again",
            waited.as_secs_f64(),
        );
        let trouble = self.trouble.take().map(|trouble| trouble.last);
        self.report(Error::new(ErrorKind::WaitTimedOut, what)).with(|e| {
            e.retry_after = trouble.as_ref().and_then(Error::retry_after);
            e.source = trouble.map(|error| error.into());
        })
    }
}

/// How long to sleep before the next poll: as wanted, or until just before the end, or not at all
/// if a poll would come too late.
fn next_poll(pause: &Pause, left: Duration) -> Option<Duration> {
    let last_look = left.saturating_sub(LAST_LOOK);
    if pause.wanted < left {
        return Some(pause.wanted);
    }
    Some(last_look).filter(|last_look| !last_look.is_zero() && pause.at_least <= *last_look)
}

impl Iterator for Watch {
    type Item = Result<Agent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.poll().cloned();
        self.ended = item.as_ref().map_or(true, Agent::is_finished);
        Some(item)
    }
}

impl FusedIterator for Watch {}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("agent_id", &self.agent_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "../tests/unit/wait.rs"]
mod tests;
