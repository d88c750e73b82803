//! A blocking client for the bitHuman agent creation service: ask for an avatar agent, wait until
//! it is ready. For programs without an async runtime.
//!
//! ```no_run
//! use bithuman::{Api, GenerateRequest, Media, Wait};
//!
//! fn main() -> Result<(), bithuman::Error> {
//!     let api = Api::from_env()?; // BITHUMAN_API_SECRET, BITHUMAN_API_URL
//!     let request = GenerateRequest::new()
//!         .prompt("You are an art critic who analyzes visual artworks.")
//!         .image(Media::file("portrait.jpg"));
//!     let started = api.generate(&request)?; // billed
//!     let agent = api.wait(&started.agent_id, &Wait::new())?; // minutes to hours
//!     println!("{}", agent.model_url.as_deref().unwrap_or("no downloadable model"));
//!     Ok(())
//! }
//! ```
//!
//! # Overview
//!
//! - [`Api`] is the handle; [`ApiBuilder`] has its settings.
//! - [`Api::generate`] sends a [`GenerateRequest`], with [`Media`] by link, from disk or from
//!   memory, and returns a [`Generation`] with the agent's id. It is **billed**.
//! - [`Api::status`] asks once for the [`Agent`], [`Api::wait`] polls until it is ready, and
//!   [`Api::watch`] gives every poll. [`Api::generate_and_wait`] is both with one deadline.
//! - [`Api::generate_once`] and [`Api::ensure_agent`] do the same with a receipt, a file that
//!   remembers what was paid for: run again and again, they pay once.
//! - [`Api::on_event`] reports what a call is doing, as an [`Event`].
//! - [`Error`] is one line for people; [`Error::kind`] and the rest are for programs.
//!
//! The same code talks to the service of its 2025 document, at [`DEFAULT_BASE_URL`], and to the one
//! [published in 2026](https://docs.bithuman.ai/api/agents), at [`BASE_URL_2026`]. Where a secret works for
//! both, take that of 2026: it honours idempotency keys, so more failures can be recovered from.
//!
//! # Errors
//!
//! Every failure is an [`Error`], whose `Display` is one line that says what failed, for which agent, what
//! the service said and what to do next. Programs match on its kind; [`ErrorKind`] tells
//! how to know what was billed, and what to do for each:
//!
//! ```no_run
//! use bithuman::{Api, ErrorKind, GenerateRequest, Wait};
//!
//! let api = Api::from_env()?;
//! let request = GenerateRequest::new().prompt("You are a friendly assistant.");
//! let agent = match api.generate_and_wait(&request, &Wait::new()) {
//!     Ok(agent) => agent,
//!     Err(error) => match (error.kind(), error.agent_id()) {
//!         // Perhaps billed: look into the account before paying again, as the error says.
//!         _ if error.outcome_unknown() => return Err(error),
//!         // Refunded; another try is another generate.
//!         (ErrorKind::GenerationFailed, _) => return Err(error),
//!         // Billed and on its way: to go on waiting costs nothing.
//!         (
//!             ErrorKind::WaitTimedOut
//!             | ErrorKind::Service
//!             | ErrorKind::RateLimited
//!             | ErrorKind::Network
//!             | ErrorKind::Timeout
//!             | ErrorKind::UnexpectedAnswer,
//!             Some(id),
//!         ) => {
//!             std::thread::sleep(error.retry_after().unwrap_or_default());
//!             api.wait(id, &Wait::new())?
//!         }
//!         // Not taken, not billed, and this may pass: once more, with a deadline of its own.
//!         (_, None) if error.is_retryable() => {
//!             std::thread::sleep(error.retry_after().unwrap_or_default());
//!             api.generate_and_wait(&request, &Wait::new())?
//!         }
//!         // A person must change something: not billed without an agent id, and not lost with one.
//!         (
//!             ErrorKind::InvalidInput
//!             | ErrorKind::Unauthorized
//!             | ErrorKind::InsufficientBalance
//!             | ErrorKind::NotFound
//!             | ErrorKind::Rejected
//!             | ErrorKind::Tls
//!             | ErrorKind::Receipt,
//!             _,
//!         ) => return Err(error),
//!         // `ShutDown`, which this program asked for, and what may come.
//!         _ => return Err(error),
//!     },
//! };
//! println!("{:?}", agent.model_url);
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! # Waiting
//!
//! An agent of a first-generation model (`essence-1`, `expression-1`) takes 1 to 5 minutes, one of a
//! second (`essence-2`, `expression-2`) 25 to 100, rarely hours, by the service's own account. [`Wait`]
//! has the interval (5 s, which the service asks for), the time for everything (2 h), and how long there
//! may be no good answer at all (15 min); trouble shorter than that is sat out. Running out of time is
//! [`ErrorKind::WaitTimedOut`], which is no failure: the generation goes on, and so does [`Api::wait`]
//! with its id, in this program or another. [`Api::shutdown`] from another thread ends a wait, and every
//! other call, within 100 ms; the error has the id:
//!
//! ```no_run
//! # use bithuman::{Api, ErrorKind, Wait};
//! # fn key_pressed() {}
//! let api = Api::from_env()?;
//! let handle = api.clone();
//! std::thread::spawn(move || {
//!     key_pressed();
//!     handle.shutdown();
//! });
//! match api.wait("A91XMB7113", &Wait::new()) {
//!     Ok(agent) => println!("{:?}", agent.model_url),
//!     Err(error) if error.kind() == ErrorKind::ShutDown => println!("later: {:?}", error.agent_id()),
//!     Err(error) => return Err(error),
//! }
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! # Money
//!
//! A generate is billed (the service refunds one whose generation fails), a status never is. On its own
//! this crate sends no request that could make, and bill, a second agent. Every generate carries an
//! idempotency key, yours or a new one, and every error of a generate has that key. It is sent again:
//!
//! - if it was not taken and the trouble may pass: no connection, a break in mid-upload, 429, the
//!   service's own 503;
//! - if it is unknown whether it was taken, with the same key and bytes, and only where the service
//!   [honours keys](ApiBuilder::idempotency_honored): that of 2026 does, that of 2025 does not.
//!
//! Otherwise the error tells with [`Error::outcome_unknown`] whether the service may have billed the
//! call. Waiting costs nothing: as long as the agent id is known, [`Api::wait`] can be called again.
//!
//! # Receipts
//!
//! A build script runs again and again, and a laptop lid closes in the middle.
//! [`Api::ensure_agent`] writes the idempotency key to disk before it sends anything, then the agent's
//! id, and at last the ready agent, so that the next run needs no network:
//!
//! ```no_run
//! # use bithuman::{Api, GenerateRequest, Wait};
//! let request = GenerateRequest::new().prompt("You are a friendly assistant.");
//! let agent = Api::from_env()?.ensure_agent("agent.json", &request, &Wait::new())?;
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! The handle needs a secret even then, but does not send it: `none` will do, with the base URL of the
//! receipt. (Before the agent is ready the call goes on waiting, and needs the real one.) A crash in between
//! is mended with the same key where keys are honoured, and is an error with
//! [`outcome_unknown`](Error::outcome_unknown) where they are not. Another request with the same
//! receipt is refused.
//!
//! # Media
//!
//! A medium is opened, checked and measured before anything is sent, and then read, encoded and sent
//! piece by piece: 100 MB take no more memory than 100 KB. A file that changes meanwhile is an error
//! before its last byte has gone. A body over 1 MiB is sent only once the service is willing
//! (`Expect: 100-continue`), so that a refusal costs no upload. A service that ignores the question
//! costs one second; one whose `100` carries headers, which ureq misreads, may cost the
//! [`answer_timeout`](ApiBuilder::answer_timeout).
//!
//! # What it does not do
//!
//! - No async: every call blocks. Call from a thread of its own if you must.
//! - No other part of the service than making agents: no talking to them, no account.
//! - No check of what the service alone can judge: models, formats, sizes.
//!
//! # Secrecy
//!
//! The secret goes into one header to one origin, over https or to this machine, unless
//! [`allow_plain_http`](ApiBuilder::allow_plain_http) says otherwise. It is in no error, no `Debug`
//! and no log record at `DEBUG` or above, but for a server that echoes it in one of the few headers
//! of an answer that ureq logs at `DEBUG`, such as `Server`. At `TRACE` the `ureq-proto` crate logs
//! whole requests, the secret included, and nothing here can stop it: do not enable `TRACE` for it
//! where logs are kept.
//!
//! # Threads
//!
//! This crate spawns none. ureq looks up the host for every request, also where it has a connection
//! already, and spawns a short thread for it; it panics if the system refuses that. An IP address is
//! not looked up, and costs none, unless a deadline is nearer than the time-outs of a poll (2 min
//! together by default) or a proxy is used.
//!
//! # Features
//!
//! - `rustls` (default): https with rustls, ring and Mozilla's root certificates built in.
//! - `platform-verifier`: rustls with the system's root certificates and rules instead.
//! - `native-tls`: https with the system's TLS library (OpenSSL on Linux, where its headers are needed
//!   to build) and root certificates. Where `rustls` is on too, that is what is used.
//! - `socks-proxy`: adds SOCKS proxies.
//!
//! Without the first three only plain http works: to this machine, such as to a local TLS terminator,
//! or where it is [allowed](ApiBuilder::allow_plain_http).

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]
#![cfg_attr(not(test), deny(clippy::panic, clippy::todo, clippy::unreachable))]

#[cfg(all(feature = "_tls", not(any(feature = "rustls", feature = "native-tls"))))]
compile_error!("the feature _tls is not for use: choose rustls, platform-verifier or native-tls");

// The rooms, from the top of the house down: each imports only from those below it.
mod receipt; // a generate that is billed once, whatever crashes
mod wait; // polling until the end, and the whole job
mod generate; // POST /v1/agent/generate
mod status; // GET /v1/agent/status/{agent_id}
mod api; // the handle and its settings
mod transport; // one exchange over ureq
mod answer; // what an answer means
mod fingerprint; // to know a request again
mod body; // the request's body, encoded while it is read
mod retry; // was it taken, and when again
mod clock; // now, and sleep
mod media; // from here on, what everyone may name
mod secret;
mod event;
mod error;
mod agent;

pub use agent::{Agent, Status};
pub use api::{Api, ApiBuilder};
#[doc(hidden)]
pub use clock::Clock;
pub use error::{Error, ErrorKind, Result};
pub use event::Event;
pub use generate::{GenerateRequest, Generation};
pub use media::Media;
pub use serde_json;
pub use transport::{BASE_URL_2026, DEFAULT_BASE_URL};
pub use wait::{Wait, Watch};
