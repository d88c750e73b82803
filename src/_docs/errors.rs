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
//! By itself this crate never sends a request that could bill a second agent. Every generate
//! request carries an idempotency key, and every error has that key. A request is retried in two
//! cases:
//!
//! - It was not accepted, and the error is transient: no connection, a broken upload, 429, or a 503
//!   with a code that the service publishes as "nothing was changed".
//! - It may have been accepted, and the server [honors][honors] keys: the same bytes go out with
//!   the same key.
//!
//! Everything else ends with an error whose [`Error::billing`] says what is known. If that is
//! [`Billing::Unknown`], there may be an agent whose id nobody has: see
//! [finding a lost agent](crate::_docs::lost_agents).
//!
//! Some requests of [`Api::call`] are billed too, such as adding a model to an agent. They are
//! retried only if they were not accepted.
//!
//! # Reading a line
//!
//! `generate: the account has too few credits (402 INSUFFICIENT_BALANCE): 12 left; see
//! https://..; add credits; not billed`
//!
//! First comes the call that failed, or `config` for a setting; then the agent, if there is one,
//! and what failed, with the HTTP status and the service's code. After a colon follows what the
//! service said, and after semicolons what was billed and what to do. `{:?}` adds the causes.
//!
//! [`Api::call`]: crate::Api::call
//! [`Billing::Unknown`]: crate::Billing::Unknown
//! [`Error`]: crate::Error
//! [`Error::billing`]: crate::Error::billing
//! [honors]: crate::ApiBuilder::honors_idempotency_keys
