//! Finding the agent of a request whose outcome is unknown.
//!
//! After an error with [`Billing::Unknown`] there may be an agent that was billed and whose id
//! nobody has. Look for it before you create another one:
//!
//! - If the error has an [`agent_id`], ask for that agent with [`Api::status`].
//! - If the server [honors] idempotency keys, send the same request with the error's
//!   [`idempotency_key`] within 23 h. It returns the agent, and is billed once. With a receipt, call
//!   [`ensure_agent`] again: it does that.
//! - Otherwise look among the newest agents of the account. The list is part of the current API; for
//!   the 2025 API, look at the agents on the service's site.
//!
//! # Among the newest agents
//!
//! The record of the agent has the prompt of the request, and the agent was created after the
//! request was sent:
//!
//! ```no_run
//! use bithuman::{Api, ErrorKind, Method, Result};
//!
//! /// `since` is the time of the request, in UTC: `2026-10-20T08:30:00`.
//! fn find(api: &Api, prompt: &str, since: &str) -> Result<Option<String>> {
//!     let newest = api.call(Method::Get, "/v1/agents?limit=100", None)?;
//!     for summary in newest["data"].as_array().into_iter().flatten() {
//!         let id = summary["agent_id"].as_str().or(summary["code"].as_str());
//!         let agent = match api.status(id.unwrap_or_default()) {
//!             Err(error) if error.kind() == ErrorKind::NotFound => continue, // deleted since
//!             result => result?,
//!         };
//!         let is_older = agent.created_at.is_some_and(|time| time.as_str() < since);
//!         if !is_older && agent.system_prompt.as_deref() == Some(prompt) {
//!             return Ok(Some(agent.agent_id)); // call wait with it
//!         }
//!     }
//!     Ok(None) // no proof: look at your account too
//! }
//! ```
//!
//! From a shell, `bithuman-agent call GET '/v1/agents?limit=100'` prints the list.
//!
//! # Afterwards
//!
//! - If there is an agent, continue with [`Api::wait`], which is free. With a receipt, add the line
//!   that the error shows, with the agent's id for `ID`, and call again.
//! - If there is none, look once more after some minutes: the service may still be working on the
//!   request. Then create the agent again. With a receipt, delete the receipt before that.
//!
//! [`Api::status`]: crate::Api::status
//! [`Api::wait`]: crate::Api::wait
//! [`Billing::Unknown`]: crate::Billing::Unknown
//! [`agent_id`]: crate::Error::agent_id
//! [`ensure_agent`]: crate::Api::ensure_agent
//! [honors]: crate::ApiBuilder::honors_idempotency_keys
//! [`idempotency_key`]: crate::Error::idempotency_key
