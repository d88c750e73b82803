//! The lines of a receipt, and what follows from them. Nothing is read or written here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::error::{Billing, Error};
use crate::generate::{Generation, KEY_TOO_OLD};
use crate::retry;

/// The format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u64 = 1;

/// The fields of a record that are always kept.
const ALWAYS_KEPT: &str = "agent_id idempotency_key replayed status progress";

/// A line: JSON, with the key that it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Line {
    /// A request is about to be sent.
    Sending(Attempt),
    /// An error named an agent: the request may have been accepted.
    Named {
        key: String,
        agent_id: String,
    },
    Accepted(Generation),
    /// The last status of the agent.
    Ended {
        key: String,
        agent: Agent,
    },
}

impl Line {
    /// What an error of a request with this key says, if it names an agent.
    pub fn named_by(error: &Error, key: &str) -> Option<Self> {
        let (agent_id, key) = (error.agent_id()?.into(), key.into());
        match error.billing() {
            Billing::Billed => Some(Line::Accepted(Generation::named(agent_id, key))),
            // A refused request created no agent.
            Billing::NotBilled => None,
            _ => Some(Line::Named { key, agent_id }),
        }
    }

    /// Its text, if that can be read back. A field that the service sent with more JSON than the
    /// limit is left out.
    pub fn text(&self, limit: usize) -> Option<Vec<u8>> {
        let mut line = serde_json::to_value(self).ok()?;
        for record in ["/accepted", "/ended/agent"] {
            if let Some(Value::Object(fields)) = line.pointer_mut(record) {
                fields.retain(|name, value| {
                    ALWAYS_KEPT.split(' ').any(|kept| kept == name)
                        || value.to_string().len() <= limit
                });
            }
        }
        let mut text = serde_json::to_vec(&line).ok()?;
        serde_json::from_slice::<Line>(&text).ok()?;
        text.push(b'\n');
        Some(text)
    }
}

/// One attempt to create the agent: its first line, and what its later lines say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub format: u64,
    pub base_url: String,
    pub key: String,
    /// The time on the service's clock, where the service said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The fingerprint of each field.
    pub request: BTreeMap<String, String>,
    /// The agent that an error named.
    #[serde(skip)]
    pub named: Option<String>,
    #[serde(skip)]
    pub accepted: Option<Generation>,
    #[serde(skip)]
    pub end: Option<Agent>,
}

impl Attempt {
    /// Adds what a line says, if it has this key and is the first of its kind.
    fn add(&mut self, line: Line) {
        match line {
            Line::Named { key, agent_id } if key == self.key => {
                self.named.get_or_insert(agent_id);
            }
            Line::Accepted(generation) if generation.idempotency_key == self.key => {
                self.accepted.get_or_insert(generation);
            }
            Line::Ended { key, agent } if key == self.key && agent.is_finished() => {
                let accepted = || Generation::named(agent.agent_id.clone(), key);
                self.accepted.get_or_insert_with(accepted);
                self.end.get_or_insert(agent);
            }
            _ => {}
        }
    }

    /// The outcome of its request is unknown.
    pub fn is_pending(&self) -> bool {
        self.accepted.is_none()
    }

    pub fn has_failed(&self) -> bool {
        !self.is_pending() && self.end.as_ref().is_some_and(Agent::is_failed)
    }

    /// What the call asks for that this attempt did not, if anything.
    fn refusal(&self, call: &Call) -> Option<String> {
        let (old, new) = (&self.request, &call.wanted.request);
        let mut others = Vec::new();
        if self.base_url != call.wanted.base_url {
            let (old, new) = (&self.base_url, &call.wanted.base_url);
            others.push(format!("base URL ({old}, now {new})"));
        }
        if call.has_own_key && call.wanted.key != self.key && !self.has_failed() {
            others.push("idempotency key".into());
        }
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            if old.get(name) != new.get(name) {
                others.push(name.clone());
            }
        }
        if others.is_empty() {
            return None;
        }
        let (subject, advice) = match (&self.accepted, &self.named) {
            (Some(accepted), _) => (
                format!("agent {}, created", accepted.agent_id),
                "delete this one to pay for another agent",
            ),
            (None, Some(id)) => (
                format!("a request that may have created agent {id},"),
                "check that agent and delete this one",
            ),
            (None, None) => (
                "a request, maybe billed,".into(),
                "check your account and delete this one",
            ),
        };
        let others = others.join(", ");
        Some(format!(
            "is for {subject} with another {others}; undo that, use a new receipt, or \
             {advice}"
        ))
    }

    /// What to do about the key of an earlier call. Its age is that on the service's clock.
    fn retry(&self, call: &Call) -> Step {
        let time = |date: &Option<String>| retry::parse_date(date.as_ref()?);
        let sent = match time(&self.date) {
            _ if !call.honored => {
                return Step::Unknown("the server may not honor keys");
            }
            None => return Step::Unknown("the receipt has no time"),
            Some(_) if !call.has_asked => return Step::AskTime,
            Some(sent) => sent,
        };
        let Some(now) = time(&call.wanted.date) else {
            return Step::NotNow("needs a response with a usable Date");
        };
        if now.saturating_add(CLOCK_SKEW) < sent {
            return Step::NotNow("has a later time than the service's clock");
        }
        let age = now.saturating_sub(sent);
        match retry::is_safe(true, true, age) {
            true => Step::Retry(age),
            false => Step::Unknown(KEY_TOO_OLD),
        }
    }
}

/// The clocks of the servers behind one address may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// What a file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lines {
    pub last: Option<Attempt>,
    /// Where the last whole line ends.
    pub len: u64,
    /// That line has its line end.
    pub is_ended: bool,
}

/// Reads a file. What cannot be parsed at its end was being written during a crash.
pub(super) fn parse(bytes: &[u8]) -> Result<Lines, String> {
    let mut parsed = Lines::default();
    let (mut at, mut is_torn) = (0, false);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let bom = "\u{feff}".as_bytes();
        let text = line.strip_prefix(bom).filter(|_| at == 0).unwrap_or(line);
        at += line.len() as u64;
        if text.trim_ascii().is_empty() {
            continue;
        }
        if serde_json::from_slice::<IgnoredAny>(text).is_err() {
            is_torn = true;
            continue;
        }
        match (parse_line(text)?, &mut parsed.last) {
            (Line::Sending(attempt), last) if !is_torn => *last = Some(attempt),
            (line, Some(last)) if !is_torn => last.add(line),
            _ => return Err(DAMAGED.into()),
        }
        parsed.len = at;
        parsed.is_ended = line.ends_with(b"\n");
    }
    if parsed.last.is_none() && is_torn {
        return Err(DAMAGED.into());
    }
    Ok(parsed)
}

const DAMAGED: &str = "is damaged, a line is torn or missing; restore it, or check your account \
    before you delete it";

pub(super) const FOREIGN: &str = "is not a receipt; nothing was sent, choose another path";

/// Whether a file has the start of a receipt's first line somewhere, perhaps behind what damaged it,
/// or ends within that start, perhaps in the NULs of a power cut.
pub(super) fn may_be_receipt(bytes: &[u8]) -> bool {
    let start = b"{\"sending\":";
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let is_torn = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let len = text
        .iter()
        .rposition(|byte| !is_torn(byte))
        .map_or(0, |last| last + 1);
    let text = text.get(..len).unwrap_or_default().trim_ascii_start();
    start.starts_with(text) || text.windows(start.len()).any(|part| part == start)
}

fn parse_line(text: &[u8]) -> Result<Line, String> {
    let line: Value = serde_json::from_slice(text).unwrap_or_default();
    match line.pointer("/sending/format").and_then(Value::as_u64) {
        Some(newer) if newer > FORMAT => Err(format!(
            "has format {newer}, which a later version of bithuman wrote; update bithuman"
        )),
        _ => serde_json::from_slice(text).map_err(|_| DAMAGED.into()),
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    /// The attempt that it would begin. Its time is the service's, once that was asked.
    pub wanted: Attempt,
    pub has_own_key: bool,
    pub has_asked: bool,
    /// The server honors idempotency keys.
    pub honored: bool,
    /// The key of the failed attempt that the receipt ended with when the call began.
    pub failed_before: Option<String>,
}

/// What to do.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Step {
    /// Return the agent, and its end if that is known.
    Return(Generation, Option<Agent>),
    /// Ask the service for its time, and whether the secret is good. Then decide again.
    AskTime,
    /// Send a new key.
    Send,
    /// Send the key of an earlier call, which has this age.
    Retry(Duration),
    /// The receipt is for another request.
    Refuse(String),
    /// The key of an earlier call cannot be retried now, for this reason.
    NotNow(&'static str),
    /// The outcome of an earlier call is unknown, and for this reason stays so.
    Unknown(&'static str),
}

/// Decides what follows from the last attempt of a receipt.
pub(super) fn decide(last: Option<&Attempt>, call: &Call) -> Step {
    let is_time_known = call.has_asked || !call.honored;
    let first_step = if is_time_known {
        Step::Send
    } else {
        Step::AskTime
    };
    let Some(last) = last else {
        return first_step;
    };
    if let Some(what) = last.refusal(call) {
        return Step::Refuse(what);
    }
    // A failure that this call is the first to see is reported before another attempt is paid for.
    let is_reported = call.failed_before.as_ref() == Some(&last.key);
    let is_same_key = call.has_own_key && call.wanted.key == last.key;
    match &last.accepted {
        None => last.retry(call),
        Some(_) if last.has_failed() && is_reported && !is_same_key => first_step,
        Some(generation) => {
            let mut generation = generation.clone();
            generation.replayed = true;
            Step::Return(generation, last.end.clone())
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/receipt.rs"]
mod tests;
