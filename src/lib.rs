//! A blocking client for the bitHuman agent creation service.
//!
//! It creates an avatar agent, waits until the agent is ready, and downloads its model file. It is
//! for programs without an async runtime.
//!
//! ```no_run
//! use bithuman::{Api, Download, GenerateRequest, Wait};
//!
//! fn main() -> Result<(), bithuman::Error> {
//!     let api = Api::from_env()?; // BITHUMAN_API_SECRET, BITHUMAN_API_BASE
//!     let request = GenerateRequest::new().prompt("You are an art critic.").model("essence-2");
//!     let agent = api.generate_and_wait(&request, &Wait::new())?; // billed; up to 2.5 h
//!     println!("{} is {}", agent.agent_id, agent.status);
//!     let file = api.download(&agent.agent_id, "agent.imx", &Download::new())?;
//!     println!("{} has {} bytes", file.path.display(), file.length);
//!     Ok(())
//! }
//! ```
//!
//! The same code speaks to the 2025 API, at [`DEFAULT_BASE_URL`], and to the
//! [current API](https://docs.bithuman.ai/api/agents), at [`CURRENT_BASE_URL`]. If a secret works
//! for both, use the current API: it honors idempotency keys, so more errors can be retried.
//!
//! # By task
//!
//! | to | use | chapter |
//! |---|---|---|
//! | set up a client | [`Api::from_env`], [`Api::builder`] | [features](_docs::features), [security](_docs::security) |
//! | create an agent, which is **billed** | [`Api::generate`] with a [`GenerateRequest`] | [errors and billing](_docs::errors) |
//! | add an image, a video or a voice | [`Media`], [`Api::upload`] | [media](_docs::media) |
//! | wait until it is ready | [`Api::wait`], [`Api::watch`] with a [`Wait`] | [waiting](_docs::waiting) |
//! | do both with one deadline | [`Api::generate_and_wait`] | [waiting](_docs::waiting) |
//! | pay once, however often a program runs | [`Api::ensure_agent`], [`Api::generate_once`] | [receipts](_docs::receipts) |
//! | ask once how it is | [`Api::status`], which returns an [`Agent`] | |
//! | download the model file | [`Api::download`] with a [`Download`] | [downloads](_docs::downloads) |
//! | call another endpoint | [`Api::call`] with a [`Method`] | |
//! | show progress | [`Api::on_event`] with an [`Event`] | |
//! | end a call from another thread | [`Api::shutdown`] | [waiting](_docs::waiting#ending-a-wait) |
//! | handle an error | [`Error::kind`], [`Error::billing`] | [errors and billing](_docs::errors) |
//! | find an agent of unknown outcome | [`Api::call`] | [finding a lost agent](_docs::lost_agents) |

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

pub mod _docs;

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
