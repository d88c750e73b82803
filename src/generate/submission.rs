//! A generate request between its attempts: what is known, whether a retry is safe, and what an
//! error means for the caller's money.

use std::{path::PathBuf, time::Duration};

use serde_json::json;

use crate::acceptance::{Outcome, acceptance};
use crate::body::Body;
use crate::clock::Stopwatch;
use crate::error::{Billing, Error, ErrorKind, Result};
use crate::generate::Generation;
use crate::http::{LARGE_BODY, Response};
use crate::{json, retry, status};

pub(crate) const KEY_TOO_OLD: &str = "the key is older than 23 h";

/// How an error begins that says why the request of a receipt is not retried.
pub(crate) const NOT_SENT: &str = "not sent: ";

/// A generate request that is ready to be sent, and what is known after each attempt.
pub(crate) struct Submission {
    /// The name of the call, for errors.
    pub call: &'static str,
    pub key: String,
    /// The same call again would use the same key.
    pub key_is_kept: bool,
    pub honors_keys: bool,
    /// An earlier call sent this key. What became of that is unknown.
    pub was_sent: bool,
    /// The age of the key when the stopwatch was started.
    pub key_age: Duration,
    pub stopwatch: Stopwatch,
    /// The free request before it was made.
    pub is_preflighted: bool,
    /// The receipt that has the key, if any. Other processes may wait for its lock.
    pub receipt: Option<PathBuf>,
    /// The agent that the request names.
    pub own_agent_id: Option<String>,
    pub body: Body,
    pub attempts: u32,
    pub billing: Billing,
    /// The agent that an error named, in this call or an earlier one.
    pub seen_agent_id: Option<String>,
    pub broken_uploads: u32,
}

impl Submission {
    fn key_age(&self) -> Duration {
        self.key_age.saturating_add(self.stopwatch.elapsed())
    }

    /// Whether the same call again would send a key that the service knows.
    pub fn key_is_good(&self) -> bool {
        self.key_is_kept && retry::is_safe(true, self.honors_keys, self.key_age())
    }

    fn billing(&self) -> Billing {
        match self.billing {
            Billing::NotBilled if self.was_sent => Billing::Unknown,
            billing => billing,
        }
    }

    /// Notes what an attempt came to.
    pub fn add(&mut self, error: &Error) {
        self.attempts += error.attempts();
        // A later attempt says nothing of an earlier one that may have been accepted, and an agent
        // that a refusal names is not one that this request created.
        if error.billing() != Billing::NotBilled {
            self.billing = error.billing();
            if self.seen_agent_id.is_none() {
                self.seen_agent_id = error.agent_id().map(String::from);
            }
        }
        if self.body.broke_off() && self.body.len() > LARGE_BODY {
            self.broken_uploads += 1;
        }
    }

    pub fn may_retry(&self, error: &Error) -> bool {
        // An upload that was too slow once will be too slow again.
        let is_too_slow = self.body.broke_off() && error.kind() == ErrorKind::Timeout;
        let is_too_long =
            self.receipt.is_some() && error.retry_after() > Some(retry::LONGEST_DELAY);
        if is_too_slow || is_too_long || self.broken_uploads > 1 || !error.is_retryable() {
            return false;
        }
        match self.billing() {
            Billing::NotBilled => retry::is_safe(false, self.honors_keys, self.key_age()),
            Billing::Unknown => retry::is_safe(true, self.honors_keys, self.key_age()),
            _ => false,
        }
    }

    /// The error of the call: what is known, and what to do.
    pub fn error(&self, error: Error) -> Error {
        let (kind, billing) = (error.kind(), self.billing());
        let is_final = kind.is_transient() && !error.is_retryable();
        let is_too_large =
            self.broken_uploads > 1 || (self.body.broke_off() && kind == ErrorKind::Timeout);
        let is_safe = match billing {
            Billing::NotBilled => !is_too_large,
            _ => self.key_is_good(),
        };
        let mut error = error.call(self.call).key(&self.key).billing_is(billing);
        error = error.repeat_is_safe(!is_final && is_safe);
        if let Some(id) = &self.seen_agent_id {
            error = error.agent(id);
        }
        let advice = match billing {
            Billing::Billed => {
                let next = match self.receipt {
                    Some(_) => &format!("{} again, which is free", self.call),
                    None => "wait",
                };
                return error.advice(format!("the agent was accepted and billed: call {next}"));
            }
            Billing::Unknown => &self.what_to_check(kind, is_final),
            _ if is_too_large => "not billed, try smaller media files",
            _ if kind.is_transient() => "not billed, try again later",
            _ if kind == ErrorKind::InvalidInput => "",
            _ => "not billed",
        };
        error.and_advice(advice)
    }

    /// What to do where the request may have been accepted.
    fn what_to_check(&self, kind: ErrorKind, is_final: bool) -> String {
        let may_help = self.key_is_good() && !is_final && kind != ErrorKind::Rejected;
        let todo = match (&self.receipt, &self.seen_agent_id) {
            (Some(_), _) if may_help => self.same_key_again(kind),
            (Some(path), id) => self.complete_receipt(&path.display().to_string(), id.as_deref()),
            (None, Some(_)) => "check this agent before retrying".into(),
            (None, None) if is_final => "check your account for a new agent".into(),
            (None, None) => {
                let key = &self.key;
                let is_honored = retry::is_safe(true, self.honors_keys, self.key_age());
                match is_honored && kind != ErrorKind::Rejected {
                    true => format!("retry with idempotency key {key}, which is billed once"),
                    false => format!("check your account before retrying (idempotency key {key})"),
                }
            }
        };
        let which = if self.was_sent { "an earlier" } else { "the" };
        format!("{which} request may have been billed; {todo}")
    }

    fn same_key_again(&self, kind: ErrorKind) -> String {
        // Another account does not know the key.
        let how = match kind {
            ErrorKind::Unauthorized => " with a secret of the same account",
            _ => "",
        };
        let call = self.call;
        format!("call {call} again{how}: the same key is billed once")
    }

    fn complete_receipt(&self, path: &str, agent_id: Option<&str>) -> String {
        let (agent, with_id) = match agent_id {
            Some(_) => ("this agent", ""),
            None => ("a new agent", " with its id"),
        };
        let line = accepted_line(agent_id.unwrap_or("ID"), &self.key);
        format!("if your account has {agent}, add {line}{with_id} to {path}, else delete {path}")
    }

    /// Reads the response.
    pub fn parse(&self, response: Response) -> Result<Generation> {
        let fields = response.fields();
        let in_data = fields.object("data").id("agent_id");
        let documented = fields.id("agent_id").or(in_data);
        let scanned = || json::scan_for_agent_id(&response.body);
        let named = documented.clone().or_else(scanned);
        let is_new = named.is_some() && named != self.own_agent_id;
        let mut billing = acceptance(Outcome {
            fully_sent: true,
            status: Some(response.status),
            success_is_false: fields.says_failure(),
            code: response.code().as_deref(),
            names_agent: named.is_some(),
            names_new_agent: is_new,
        });
        // What a scan finds in a text that cannot be read may be about something else.
        let is_unread = documented.is_none() || !fields.is_whole;
        let is_unsaid = is_unread && fields.get("success").is_none();
        if billing == Billing::Billed && is_unsaid && json::scan_for_failure(&response.body) {
            billing = Billing::Unknown;
        }
        if let (Billing::Billed, Some(id)) = (billing, documented) {
            let mut generation = Generation::from_fields(&fields, id, self.key.clone());
            let replayed = response.header("idempotency-replayed").unwrap_or_default();
            generation.replayed = replayed.eq_ignore_ascii_case("true");
            return Ok(generation);
        }
        let is_good = response.is_success() && !fields.says_failure();
        let is_final = is_good && response.is_whole() && named.is_none();
        let mut error = match (is_good, &named) {
            (true, Some(_)) => {
                response.missing("the response names an agent in an unexpected place")
            }
            (true, None) => response.missing("the response names no agent"),
            (false, _) if response.status == 404 && self.own_agent_id.is_some() => {
                status::not_found(response.error())
            }
            (false, _) => response.error(),
        };
        // In an error, the agent that the request itself named proves nothing.
        if let Some(id) = named.filter(|_| is_new || billing == Billing::Billed) {
            error = error.agent(&id);
        }
        Err(error.billing_is(billing).repeat_is_safe(!is_final))
    }
}

/// The line with which a receipt has an agent.
pub(crate) fn accepted_line(agent_id: &str, key: &str) -> String {
    let line = json!({"accepted": {"agent_id": agent_id, "idempotency_key": key}});
    serde_json::to_string(&line).unwrap_or_default()
}
