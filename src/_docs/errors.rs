//! What an error means, and what was billed.
//!
//! An [`Error`] is one line for people. A program asks it two questions: was something billed, and
//! what went wrong?
//!
//! ```no_run
//! use bithuman::{Api, Billing, ErrorKind, GenerateRequest, Wait};
//! use std::time::Duration;
//!
//! let api = Api::from_env()?;
//! let request = GenerateRequest::new()
//!     .prompt("You are a friendly assistant.")
//!     .model("essence-2");
//! let agent = match api.generate_and_wait(&request, &Wait::new()) {
//!     Ok(agent) => agent,
//!     Err(error) => match (error.billing(), error.agent_id()) {
//!         // Accepted and billed: waiting again is free.
//!         (Billing::Billed, Some(id)) if error.kind() != ErrorKind::ShutDown => {
//!             api.wait(id, &Wait::new())?
//!         }
//!         // Not billed, and the error may be gone next time.
//!         (Billing::NotBilled, _) if error.is_retryable() => {
//!             let pause = error.retry_after().unwrap_or(Duration::from_secs(5));
//!             std::thread::sleep(pause.min(Duration::from_secs(600)));
//!             api.generate_and_wait(&request, &Wait::new())?
//!         }
//!         // A person must look: the line says at what.
//!         _ => return Err(error),
//!     },
//! };
//! println!("{} is ready", agent.agent_id);
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! # Billing
//!
//! A generate request is billed once the service has accepted it, and refunded if the generation
//! fails. Status requests, uploads and downloads are free.
//!
//! By itself this crate never sends a request that could bill a second agent. Every generate request
//! carries an idempotency key, and every error has that key. A request is retried in two cases:
//!
//! - It was not accepted, and the error is transient: no connection, a broken upload, 429, or a 503
//!   with a code that the service publishes as "nothing was changed".
//! - It may have been accepted, and the server [honors][honors] keys: the same bytes go out with
//!   the same key.
//!
//! Everything else ends with an error whose [`Error::billing`] says what is known. Some requests of
//! [`Api::call`] are billed too, such as adding a model to an agent. They are retried only if they
//! were not accepted.
//!
//! # Looking for an agent
//!
//! After an error with [`Billing::Unknown`] there may be an agent whose id nobody has. With the
//! current API, look among the newest agents: its record has the prompt of the request, and it was
//! created after the request was sent.
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
//! [`Api::call`]: crate::Api::call
//! [`Billing::Unknown`]: crate::Billing::Unknown
//! [`Error`]: crate::Error
//! [`Error::billing`]: crate::Error::billing
//! [honors]: crate::ApiBuilder::honors_idempotency_keys
