//! A blocking client for the bitHuman agent creation service: creates an avatar agent and waits
//! until it is ready. For programs without an async runtime.
//!
//! ```no_run
//! use bithuman::{Api, GenerateRequest, Media, Wait};
//!
//! fn main() -> Result<(), bithuman::Error> {
//!     let api = Api::from_env()?; // BITHUMAN_API_SECRET, BITHUMAN_API_BASE
//!     let request = GenerateRequest::new()
//!         .prompt("You are an art critic who analyzes visual artworks.")
//!         .image(Media::file("portrait.jpg"))
//!         .model("essence-2");
//!     let generation = api.generate(&request)?; // billed
//!     let agent = api.wait(&generation.agent_id, &Wait::new())?; // minutes to hours
//!     println!("{} is {}", agent.agent_id, agent.status);
//!     Ok(())
//! }
//! ```
//!
//! # Overview
//!
//! - [`Api`] is the client; [`ApiBuilder`] has its settings.
//! - [`Api::generate`] sends a [`GenerateRequest`], with [`Media`] by URL, from disk or from memory,
//!   and returns a [`Generation`] with the agent's id. It is **billed**.
//! - [`Api::status`] returns the [`Agent`] once, [`Api::wait`] polls until it is ready, and
//!   [`Api::watch`] gives every poll. [`Api::generate_and_wait`] does both with one deadline.
//! - [`Api::generate_once`] and [`Api::ensure_agent`] do the same with a receipt: a file that
//!   remembers what was paid for. However often they run, the agent is billed once.
//! - [`Api::download`] puts the agent's model file on the disk, as a [`Download`] says.
//! - [`Api::upload`] stores a media file for many requests, for free.
//! - [`Api::call`] sends a [`Method`] and JSON to any other endpoint: the credits that are left, the
//!   prices, the agents of the account.
//! - [`Api::on_event`] reports what a call is doing, as an [`Event`].
//! - [`Error`] is one line for people. [`Error::kind`] and [`Error::billing`] are for programs.
//!
//! The same code speaks to the 2025 API, at [`DEFAULT_BASE_URL`], and to the
//! [current API](https://docs.bithuman.ai/api/agents), at [`CURRENT_BASE_URL`]. If a secret works
//! for both, use the current API: it honors idempotency keys, so more errors can be retried.
//!
//! # Errors
//!
//! Ask two things of an error: was something billed, and what went wrong?
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
//! fails. A status request is free. By itself this crate never sends a request that could bill a
//! second agent. Every generate request carries an idempotency key, and every error has that key. A
//! request is retried in two cases:
//!
//! - It was not accepted, and the error is transient: no connection, a broken upload, 429, or a 503
//!   with a code that the service publishes as "nothing was changed".
//! - It may have been accepted, and the server
//!   [honors](ApiBuilder::honors_idempotency_keys) keys: the same bytes go out with the same key.
//!
//! Everything else ends with an error whose [`Error::billing`] says what is known. If that is
//! [`Billing::Unknown`], [look for the agent](#looking-for-an-agent).
//!
//! An upload is free. Some requests that [`Api::call`] sends are billed, such as adding a model to an
//! agent: it retries them only if they were not accepted.
//!
//! # Looking for an agent
//!
//! After an error with [`Billing::Unknown`] there may be an agent that nobody has the id of. With the
//! current API, look among the newest ones: its record has the prompt of the request, and it was
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
//! # Waiting
//!
//! The service measured 1 min for `expression-1`, 13 min for `essence-1`, and 2 h to 2.5 h for
//! `expression-2` and `essence-2`. [`Wait`] has the interval between polls (5 s), the time for the
//! whole call (4 h), and how long polls may fail in a row (15 min).
//!
//! An agent has a status of its own, and one for each of its models. [`Wait::model`] waits for a
//! model: one that was added to an agent, or one of an agent made long ago, whose own status may
//! stay `completed` for good.
//!
//! Running out of time is [`ErrorKind::WaitTimedOut`]. The generation continues, and so does
//! [`Api::wait`] with the agent's id, in this program or another. [`Api::shutdown`] from another
//! thread ends a wait, and every other call:
//!
//! ```no_run
//! # use bithuman::{Api, ErrorKind, Wait};
//! # fn key_pressed() {}
//! let api = Api::from_env()?;
//! let stopper = api.clone();
//! std::thread::spawn(move || {
//!     key_pressed();
//!     stopper.shutdown();
//! });
//! match api.wait("A91XMB7113", &Wait::new()) {
//!     Ok(agent) => println!("{} is ready", agent.agent_id),
//!     Err(error) if error.kind() == ErrorKind::ShutDown => println!("{error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! # Receipts
//!
//! A build script runs again and again, and a laptop is closed in the middle.
//! [`Api::ensure_agent`] and [`Api::generate_once`] write a receipt: a file of JSON lines that a
//! person can read. Its first line is on the disk before the request is sent. It has the idempotency
//! key, the base URL and a fingerprint of each field, but neither the secret nor the media. Then
//! come the agent's id and how the generation ended: the service's record of the agent, with its
//! prompt and its URLs, but without fields of more than 4 KiB. Once the agent is ready,
//! `ensure_agent` needs neither a secret nor the network.
//!
//! ```no_run
//! use bithuman::{Api, GenerateRequest, Wait};
//!
//! let request = GenerateRequest::new()
//!     .prompt("You are a friendly assistant.")
//!     .model("essence-2");
//! let agent = Api::from_env()?.ensure_agent("agent.receipt", &request, &Wait::new())?;
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! - Commit the receipt of a build script once its agent is ready, and do not ignore it in git.
//!   `cargo package` leaves ignored files out and builds a copy under `target/package`. Without the
//!   receipt, every run creates and bills an agent. So does a receipt of a failed generation, in
//!   every clone. The example `build-script` sends nothing from such a copy.
//! - After a crash, the next call retries with the same key where the server
//!   [honors](ApiBuilder::honors_idempotency_keys) keys and the key is younger than 23 h by the
//!   server's clock. Use a secret of the same account: another account does not know the key.
//! - Otherwise the error says that the outcome is unknown. Look for a new agent in your account
//!   ([`Api::call`] shows how). If there is one, add the line that the error shows to the receipt,
//!   with the agent's id. If not, delete the receipt. Then call again.
//! - After a failed generation, which the service refunds, the error says so, and the next call pays
//!   for another try.
//! - Processes of one computer can share a receipt: they take turns under a lock of the operating
//!   system. The locks of some network file systems are local to each computer, so two computers can
//!   pay twice there. A file system or system without locks, such as Android, is an error before
//!   anything is sent.
//! - A receipt has one name. With two hard links, an editor's save would make two receipts of it, so
//!   that is refused. Symbolic links and bind mounts work.
//! - An empty file is no receipt. What a crash left of a last line is dropped.
//!
//! # Downloads
//!
//! A model file has 20 to 550 MB, and is on another host: the storage. [`Api::download`] asks the
//! service for a signed URL, and fetches the file from there. With
//! [`if_missing`](Download::if_missing) a build script can do that at every run.
//!
//! ```no_run
//! use bithuman::{Api, Download, GenerateRequest, Wait};
//!
//! let api = Api::from_env()?;
//! let request = GenerateRequest::new()
//!     .prompt("You are a friendly assistant.")
//!     .model("essence-2");
//! let agent = api.ensure_agent("agent.receipt", &request, &Wait::new())?;
//! let download = Download::new().if_missing(true);
//! let file = api.download(&agent.agent_id, "agent.imx", &download)?;
//! println!("{} has {} bytes", file.path.display(), file.length);
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! - The part that is there is at `<path>.part`, its note at `<path>.part.json`. The file appears at
//!   the path when it is whole and synced to the disk.
//! - What is there is resumed only if the storage has the same file: its strong `ETag`, its length
//!   and the offset must be those of the note. Otherwise the download starts over. There is no
//!   checksum of the whole file.
//! - After a kill, the next call resumes where the process ended on Linux, which has an id for the time
//!   since it was started. After a restart of the computer, and after a kill elsewhere, it resumes at
//!   what was synced, within 16 MiB.
//! - Calls for one path wait for each other under a lock of the operating system, also between
//!   processes. A file system without locks works, without resuming in a later call.
//! - A file that is not published yet, an expired URL, a connection that breaks or stalls, and a
//!   storage that fails are retried, each time with a new URL. Ten tries in a row that bring the file
//!   no further end the call.
//! - The proxy and `NO_PROXY` are decided for the storage's host. The certificates of
//!   [`root_certificates_pem`](ApiBuilder::root_certificates_pem) are those for the storage too.
//! - A storage that takes longer to begin its response than [`stall`](Download::stall) is given the
//!   [`response_timeout`](ApiBuilder::response_timeout) in the next try.
//! - At a server without this endpoint, such as the 2025 API, the agent's
//!   [`model_url`](Agent::model_url) is fetched, whatever the model.
//!
//! # Media files
//!
//! A media file is opened, checked and measured before anything is sent, then read, encoded and sent
//! piece by piece: 100 MB take no more memory than 100 KB. If the file changes meanwhile, the call
//! fails before its last byte is sent. [`Api::upload`] keeps large files out of the billed request. A body over 1 MiB is preceded by one free status request, so
//! that a wrong secret costs no upload. If a server breaks off an upload over 1 MiB, the upload is
//! retried once.
//!
//! # Secrecy
//!
//! The secret goes into one header to one origin, over https or to localhost, unless
//! [`allow_plain_http`](ApiBuilder::allow_plain_http) says otherwise. Redirects are not followed. The
//! storage of a model file gets neither the secret nor anything else. Its signed URL is a secret as
//! well: only its host is shown.
//! The secret is in no error, no `Debug` and no log record at `DEBUG` or above. A server that repeats
//! it in one of the few response headers that ureq logs at `DEBUG`, such as `Server`, is the
//! exception. At `TRACE` the crates `ureq` and `ureq-proto` log whole requests, the secret and signed
//! URLs included: turn that off with the feature `release_max_level_debug` of the crate `log` in your manifest.
//!
//! # Threads
//!
//! This crate starts no thread, and gives ureq no cause to start one. So two things have no timeout
//! of this crate's: a DNS lookup ends when the system's resolver does (5 to 30 s), and connecting to
//! a proxy when the system's TCP does (about 2 min). A deadline or a shutdown can be late by that.
//! A proxy that sends its response byte by byte is bounded for each byte alone.
//!
//! The wait for a response begins with the time that remained before the upload. So a deadline that
//! passes in that wait can be late by as long as the upload took, at most by
//! [`response_timeout`](ApiBuilder::response_timeout).
//!
//! # Features
//!
//! - `rustls` (default): https with rustls, ring and Mozilla's root certificates built in.
//! - `platform-verifier`: rustls with the system's root certificates and rules instead.
//! - `native-tls`: https with the system's TLS library and root certificates (OpenSSL on Linux, which
//!   needs its headers to build). If `rustls` is on too, rustls is used.
//! - `socks-proxy`: adds SOCKS proxies.
//!
//! Without the first three only plain http works: to localhost, or where it is
//! [allowed](ApiBuilder::allow_plain_http).

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![cfg_attr(not(test), deny(clippy::panic, clippy::todo, clippy::unreachable))]

// The code of the README is compiled as that of the docs is.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(all(feature = "_tls", not(any(feature = "rustls", feature = "native-tls"))))]
compile_error!("the feature _tls is not for use: choose rustls, platform-verifier or native-tls");

// From the top down: each module imports only from those below it.
mod receipt; // generate_once, ensure_agent: once, whatever crashes
mod download; // the model file to disk, resumed and whole
mod wait; // wait, watch, generate_and_wait: polls until the generation ends
mod generate; // POST /v1/agent/generate
mod status; // GET /v1/agent/status/{agent_id}
mod upload; // POST /v1/files/upload
mod call; // every other endpoint
mod api; // the client
mod builder; // its settings
mod http; // one request at a time, over ureq: the only module that names it
mod body; // the fields of a request, encoded while they are read
mod acceptance; // was a generate request accepted, and so billed?
mod retry; // when to retry, and when that is safe
mod fingerprint; // to recognize a request in a later run
mod secret; // the API secret, and masking it
mod file; // files that several processes share: locked, synced
mod config; // what an Api can be set to
mod clock; // now, and sleep
mod media; // from here on, what every module may name
mod event;
mod error;
mod agent;
mod json; // an object of the service's, field by field
mod url; // parts of URLs
mod text; // text for people

pub use agent::{Agent, ModelStatus, Status};
pub use api::Api;
pub use builder::ApiBuilder;
#[doc(hidden)]
pub use clock::Clock;
pub use download::{Download, Downloaded};
pub use error::{Billing, Error, ErrorKind, Result};
pub use event::Event;
pub use generate::{GenerateRequest, Generation};
pub use http::{CURRENT_BASE_URL, DEFAULT_BASE_URL, Method};
pub use media::Media;
pub use serde_json;
pub use wait::{Wait, Watch};
