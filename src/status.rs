//! `GET /v1/agent/status/{agent_id}`: the request, its response, and the call.

use std::time::Duration;

use crate::error::{Billing, Error, ErrorKind, Result};
use crate::http::{Request, Response};
use crate::text::{describe_char, hidden_char};
use crate::{agent::Agent, api::Api, event::Event, url::path_segment};

impl Api {
    /// Returns the agent's status.
    ///
    /// A failed generation is a result, not an error: see [`Agent::is_failed`]. Transient errors
    /// (no connection, 408, 425, 429, 5xx) are retried up to
    /// [`max_retries`](crate::ApiBuilder::max_retries) times.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an id that is empty, `.`, `..`, or contains
    /// a character that nobody sees. [`NotFound`](crate::ErrorKind::NotFound) for an agent that the
    /// service does not know. Otherwise [`Unauthorized`](crate::ErrorKind::Unauthorized),
    /// [`PlanLimit`](crate::ErrorKind::PlanLimit), [`RateLimited`](crate::ErrorKind::RateLimited),
    /// [`Rejected`](crate::ErrorKind::Rejected), [`Service`](crate::ErrorKind::Service),
    /// [`Network`](crate::ErrorKind::Network), [`Tls`](crate::ErrorKind::Tls), [`Timeout`](crate::ErrorKind::Timeout),
    /// [`UnexpectedResponse`](crate::ErrorKind::UnexpectedResponse) or [`ShutDown`](crate::ErrorKind::ShutDown).
    ///
    /// ```no_run
    /// let api = bithuman::Api::from_env()?;
    /// println!("{}", api.status("A91XMB7113")?.status);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn status(&self, agent_id: &str) -> Result<Agent> {
        self.retry(|| {
            self.poll(agent_id, None)
                .map_err(|error| error.call("status"))
        })
    }

    /// Asks once for an agent's status, by a deadline, and reports it.
    pub(crate) fn poll(&self, agent_id: &str, deadline: Option<Duration>) -> Result<Agent> {
        let agent = self.ask_status(agent_id, deadline)?;
        self.report(|| Event::Polled {
            agent: Box::new(agent.clone()),
        });
        Ok(agent)
    }

    /// Asks once for an agent's status, by a deadline. The error names the agent.
    pub(crate) fn ask_status(&self, agent_id: &str, deadline: Option<Duration>) -> Result<Agent> {
        let path = path(agent_id)?;
        let sent = self.shared.transport.send(Request {
            deadline,
            ..Request::get(&path)
        });
        let response = sent.map_err(|error| about_agent(error, agent_id))?;
        parse(response, agent_id).map_err(|error| about_agent(error, agent_id).after(1))
    }
}

/// Reads the response to a status request about this agent.
fn parse(response: Response, agent_id: &str) -> Result<Agent> {
    let fields = response.fields();
    if !response.is_success() || fields.says_failure() {
        let error = response.error();
        return Err(match is_unknown(&error) {
            true => not_found(error),
            false => error,
        });
    }
    let data = fields.object("data");
    // A record that breaks off may lack what comes last. One that is too long to be read does too.
    let is_usable = data.is_whole || response.is_too_long;
    let named = Agent::id_in(data).unwrap_or(agent_id.into());
    let Some(agent) = Agent::from_fields(data, named).filter(|_| is_usable) else {
        return Err(response.missing("the response has no status of the agent"));
    };
    if agent.agent_id == agent_id {
        return Ok(agent);
    }
    let other = response.quote(&agent.agent_id);
    let what = format!("the service described agent {other} instead");
    Err(Error::new(ErrorKind::UnexpectedResponse, what).repeat_is_safe(false))
}

/// Names the agent that an error is about, and says that it was billed when it was created.
pub(crate) fn about_agent(error: Error, agent_id: &str) -> Error {
    match error.kind() {
        ErrorKind::InvalidInput => error,
        // Nothing is known of an agent that the service does not know.
        _ if is_unknown(&error) => error.agent(agent_id).billing_is(Billing::Unknown),
        _ => error.agent(agent_id).billing_is(Billing::Billed),
    }
}

/// Whether the service does not know the agent. One that was deleted it knows.
pub(crate) fn is_unknown(error: &Error) -> bool {
    let is_deleted = matches!(error.code(), Some("AGENT_DELETED" | "AGENT_PURGED"));
    error.kind() == ErrorKind::NotFound && error.http_status().is_some() && !is_deleted
}

/// A page of a gateway's says nothing about the agent.
pub(crate) fn not_found(error: Error) -> Error {
    if error.code().is_none() {
        return error.what_is("no such agent, or not the service");
    }
    let error = error.what_is("the service knows no such agent");
    error.advice("check the id, and that the agent is in this account")
}

/// The path of a status request.
pub(crate) fn path(agent_id: &str) -> Result<String> {
    let segment = segment("agent id", agent_id).map_err(|error| error.call("status"))?;
    Ok(["/v1/agent/status/", &segment].concat())
}

/// A name, such as an agent id, as one segment of a path, whatever is in it.
pub(crate) fn segment(what: &str, name: &str) -> Result<String> {
    let problem: String = match name {
        "" => "is empty".into(),
        "." | ".." => "is . or .., which a URL removes".into(),
        name if name.trim() != name => "has a blank at its start or end".into(),
        name => match hidden_char(name) {
            Some(c) => format!("contains {}: remove it", describe_char(c)),
            None => return Ok(path_segment(name)),
        },
    };
    Err(Error::invalid(format!("the {what} {problem}")))
}
