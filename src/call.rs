//! Every other endpoint: a method, a path and JSON, under the rules of all requests.

use serde_json::Value;

use crate::acceptance::{Outcome, acceptance};
use crate::body::Body;
use crate::error::{Billing, Error, ErrorKind, Result};
use crate::http::{Method, Request, Response};
use crate::{api::Api, text::describe_char};

impl Api {
    /// Sends a request to any other endpoint, and returns the JSON of the response.
    ///
    /// The path begins with `/` and may have a query: `/v1/agents?limit=100`. It goes to the origin
    /// of the base URL, with the secret. An empty response is `Value::Null`. Creating an agent this
    /// way is refused, because [`generate`](Api::generate) carries an idempotency key.
    ///
    /// A GET is retried as a [`status`](Api::status) request is, up to
    /// [`max_retries`](crate::ApiBuilder::max_retries) times: after no connection, 408, 425, 429 and
    /// 5xx. Other methods are retried only where the service surely did not accept the request: no
    /// connection, a broken upload, 425, 429, or a 503 with a code that the service publishes as
    /// "nothing was changed".
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a path that could lead elsewhere or is not
    /// percent-encoded, and for a GET with a body. Otherwise
    /// [`Unauthorized`](ErrorKind::Unauthorized), [`PlanLimit`](ErrorKind::PlanLimit),
    /// [`InsufficientBalance`](ErrorKind::InsufficientBalance),
    /// [`NotFound`](ErrorKind::NotFound), [`Rejected`](ErrorKind::Rejected),
    /// [`RateLimited`](ErrorKind::RateLimited), [`Service`](ErrorKind::Service),
    /// [`Network`](ErrorKind::Network), [`Tls`](ErrorKind::Tls), [`Timeout`](ErrorKind::Timeout),
    /// [`UnexpectedResponse`](ErrorKind::UnexpectedResponse), also for more than 1 MiB, or
    /// [`ShutDown`](ErrorKind::ShutDown).
    ///
    /// [`Error::billing`] is [`NotBilled`](Billing::NotBilled) for GET and DELETE. For other methods
    /// it is [`Unknown`](Billing::Unknown) if the service may have accepted the request.
    ///
    /// # Account and prices
    ///
    /// The credits that are left, the price of a model, and whether the service knows the secret:
    ///
    /// ```no_run
    /// use bithuman::{Api, Method};
    ///
    /// let api = Api::from_env()?;
    /// let me = api.call(Method::Get, "/v1/me", None)?;
    /// let pricing = api.call(Method::Get, "/v1/pricing", None)?;
    /// let prices = &pricing["data"]["agent_generation"]["by_model"];
    /// println!("{} credits are left", me["data"]["credit_balance"]);
    /// println!("an agent costs {}", prices["essence-2"]);
    ///
    /// let validated = api.call(Method::Post, "/v1/validate", None)?;
    /// println!("the secret is valid: {}", validated["valid"]);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # The agents of the account
    ///
    /// Lists them page by page, the newest first, and deletes those that failed:
    ///
    /// ```no_run
    /// use bithuman::{Api, Method};
    ///
    /// let api = Api::from_env()?;
    /// let mut agents = Vec::new();
    /// loop {
    ///     let path = format!("/v1/agents?limit=100&offset={}", agents.len());
    ///     let page = api.call(Method::Get, &path, None)?;
    ///     let found = page["data"].as_array().cloned().unwrap_or_default();
    ///     let is_last = found.is_empty() || page["pagination"]["has_more"] != true;
    ///     agents.extend(found);
    ///     if is_last {
    ///         break;
    ///     }
    /// }
    /// for agent in &agents {
    ///     let id = agent["agent_id"].as_str().or(agent["code"].as_str());
    ///     if let Some(id) = id.filter(|_| agent["status"] == "failed") {
    ///         api.call(Method::Delete, &format!("/v1/agent/{id}"), None)?;
    ///     }
    /// }
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// A chapter shows how to find a [lost agent](crate::_docs::lost_agents).
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let checked = check(method, path, body.is_some());
        checked.map_err(|what| Error::invalid(what).call("call"))?;
        let without_query = path.split('?').next().unwrap_or_default();
        let subject = self.shared.transport.mask(without_query);
        let subject = format!("{} {subject}", method.as_str());
        let mut body = body.map(Body::from_json);
        self.retry(|| {
            let called = self.send_call(method, path, body.as_mut());
            called.map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => error.call("call"),
                _ => error.within(&subject).call("call"),
            })
        })
    }

    /// Sends the request once. The error is retryable if a retry cannot do the same twice.
    fn send_call(&self, method: Method, path: &str, mut body: Option<&mut Body>) -> Result<Value> {
        if let Some(body) = &mut body {
            body.rewind();
        }
        let sent = self.shared.transport.send(Request {
            body,
            ..Request::new(method, path)
        });
        let response = sent.map_err(|error| {
            let outcome = Outcome {
                fully_sent: error.was_fully_sent(),
                ..Outcome::default()
            };
            with_billing(error, method, acceptance(outcome))
        })?;
        let acceptance = acceptance(Outcome {
            fully_sent: true,
            status: Some(response.status),
            success_is_false: response.fields().says_failure(),
            code: response.code().as_deref(),
            ..Outcome::default()
        });
        parse(response).map_err(|error| with_billing(error.after(1), method, acceptance))
    }
}

/// Says of an error whether something was billed, and whether a retry is safe. A GET changes
/// nothing, and neither a GET nor a DELETE is billed.
fn with_billing(error: Error, method: Method, acceptance: Billing) -> Error {
    if method == Method::Get || acceptance == Billing::NotBilled {
        return error;
    }
    let error = match method {
        Method::Delete => error,
        _ => error.billing_is(acceptance),
    };
    let advice = "the service may have accepted the request: check before calling again";
    error.repeat_is_safe(false).and_advice(advice)
}

fn parse(response: Response) -> Result<Value> {
    if !response.is_success() || response.fields().says_failure() {
        return Err(response.error());
    }
    if response.is_empty() {
        return Ok(Value::Null);
    }
    let what = match response.is_too_long {
        true => "the response is longer than 1 MiB",
        false => "the response is not JSON",
    };
    let parsed = serde_json::from_str(response.body.trim_start_matches('\u{feff}'));
    parsed.map_err(|_| response.missing(what))
}

/// What is wrong with a request: it could reach something else than it says, or be billed twice.
fn check(method: Method, path: &str, has_body: bool) -> Result<(), String> {
    if method == Method::Get && has_body {
        return Err("a GET has no body: put what it says into the query".into());
    }
    if !path.starts_with('/') {
        return Err("the path must begin with /, as in /v1/me".into());
    }
    if let Some(c) = path.chars().find(|&c| !is_allowed(c)) {
        let name = describe_char(c);
        return Err(format!("the path contains {name}: percent-encode it"));
    }
    let path = path.split('?').next().unwrap_or_default();
    let decoded = decode(path);
    let mut segments = decoded.split('/').skip(1).map(|segment| {
        // What some servers take for a parameter.
        segment.split(';').next().unwrap_or_default()
    });
    if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("the path has a segment that is empty, . or ..: remove it".into());
    }
    if method == Method::Post && decoded == "/v1/agent/generate" {
        return Err("to create an agent, use generate, which carries an idempotency key".into());
    }
    Ok(())
}

/// The path as a server reads it that decodes it before it splits it.
fn decode(path: &str) -> String {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        match u8::from_str_radix(hex, 16) {
            Ok(byte) => decoded.push(char::from(byte)),
            Err(_) => decoded += hex,
        }
        decoded += rest;
    }
    decoded.to_ascii_lowercase().replace('\\', "/")
}

/// Whether a path or a query may contain a character as it is.
fn is_allowed(c: char) -> bool {
    c.is_ascii_graphic() && !"\\#\"<>^`{|}".contains(c)
}

#[cfg(test)]
#[path = "../tests/unit/call.rs"]
mod tests;
