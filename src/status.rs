use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::agent::Agent;
use crate::answer::Answer;
use crate::api::Api;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;

/// The answer to a status as it should be.
#[derive(Deserialize)]
struct Told {
    success: Option<bool>,
    data: Agent,
}

impl Api {
    /// Asks once how an agent is: `GET /v1/agent/status/{agent_id}`.
    ///
    /// A generation that failed is an answer, not an error: see [`Agent::is_failed`]. Trouble that may
    /// pass (no connection, 408, 425, 429, 5xx) is tried again up to
    /// [`retries`](crate::ApiBuilder::retries) times.
    ///
    /// ```no_run
    /// let api = bithuman::Api::from_env()?;
    /// println!("{}", api.status("A91XMB7113")?.status);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an id that is empty, `.`, `..` or has control characters; `NotFound`,
    /// `Unauthorized`, `RateLimited`, `Rejected`, `Service`, `Network`, `Tls`, `Timeout` and
    /// `UnexpectedAnswer` as [`ErrorKind`](crate::ErrorKind) says. Each carries the agent id.
    pub fn status(&self, agent_id: &str) -> Result<Agent> {
        let mut attempts = 0;
        loop {
            let polled = self.poll(agent_id, None);
            let Err(error) = polled else { return polled };
            attempts += error.attempts();
            // A whole answer that makes no sense will make none the next time.
            let makes_no_sense = error.kind() == ErrorKind::UnexpectedAnswer && error.http_status().is_some();
            let passes = error.kind().passes() && !makes_no_sense;
            let error = error.with(|e| e.attempts = attempts);
            if !passes || !self.pause(attempts, &error, None) {
                return Err(error.with(|e| e.advice = passes.then_some("this may pass: ask again later").or(e.advice)));
            }
        }
    }

    /// One attempt, within a deadline.
    pub(crate) fn poll(&self, agent_id: &str, deadline: Option<Duration>) -> Result<Agent> {
        let quick = |body: &str| match serde_json::from_str(body) {
            Ok(Told { success: None | Some(true), data }) => Some(data),
            _ => None,
        };
        let read = |answer: Answer| {
            let mut data = answer.json.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
            if !data.get("agent_id").is_some_and(Value::is_string) {
                data.insert("agent_id".into(), agent_id.into());
            }
            // By way of text: to decode from a value too would be a second decoder in every program.
            let agent = serde_json::to_vec(&data).and_then(|data| serde_json::from_slice(&data));
            agent.map_err(|_| {
                answer.lacks("the answer does not tell the agent's status: ask again, or the service's support")
            })
        };
        let agent = path(agent_id).and_then(|path| self.shared.transport.get(&path, deadline, quick, read));
        let agent = agent.map_err(|error| {
            error.with(|e| {
                e.call = "status";
                e.agent_id = Some(agent_id.into()).filter(|id: &String| !id.is_empty());
                if e.kind == ErrorKind::NotFound && e.refused {
                    e.what = "the service knows no such agent; is the id right, and of this account?".into();
                }
            })
        })?;
        self.report(|| Event::Polled { agent: Box::new(agent.clone()) });
        Ok(agent)
    }
}

/// The id as one path segment, whatever is in it.
pub(crate) fn path(agent_id: &str) -> Result<String> {
    match agent_id {
        "" => return Err(Error::invalid("the agent id is empty")),
        "." | ".." => return Err(Error::invalid("an agent id cannot be . or .., which a URL takes away")),
        id if id.chars().any(char::is_control) => return Err(Error::invalid("the agent id has a control character")),
        _ => {}
    }
    let mut path = String::from("/v1/agent/status/");
    for byte in agent_id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(byte as char),
            _ => path += &format!("%{byte:02X}"),
        }
    }
    Ok(path)
}
