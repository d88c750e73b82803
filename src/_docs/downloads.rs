//! The model file of an agent on disk, resumed and whole.
//!
//! A model file has 20 to 550 MB, and is on another host: the storage. [`Api::download`] asks the
//! service for a signed URL, and fetches the file from there. With [`if_missing`] a program can do
//! that at every run:
//!
//! ```no_run
//! use bithuman::{Api, Download, GenerateRequest, Wait};
//!
//! let api = Api::from_env()?;
//! let request = GenerateRequest::new()
//!     .prompt("You are a friendly assistant.")
//!     .model("essence-2");
//! let agent = api.ensure_agent("agent.receipt", &request, &Wait::new())?;
//! // Another agent has another file.
//! let path = format!("{}.imx", agent.agent_id);
//! let file = api.download(&agent.agent_id, path, &Download::new().if_missing(true))?;
//! println!("{} has {} bytes", file.path.display(), file.length);
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! The service publishes the file some time after the agent is ready. The call waits for it. At a
//! server without this endpoint, such as the 2025 API, the agent's [`model_url`] is fetched,
//! whatever the model.
//!
//! # Resuming
//!
//! - What has arrived is in `<path>.part`, and a note about it in `<path>.part.json`. The file appears
//!   at the path when it is whole and synced to the disk.
//! - A part is resumed only if the storage has the same file: its strong `ETag`, its length and the
//!   offset must be those of the note. Otherwise the download starts over. There is no checksum of
//!   the whole file.
//! - After a kill, the next call resumes where the process ended on Linux, which has an id for the
//!   time since it was started. After a restart of the computer, and after a kill elsewhere, it
//!   resumes at what was synced, within 16 MiB.
//! - Calls for one path wait for each other under a lock of the operating system, also between
//!   processes. A file system without locks works, without resuming in a later call.
//!
//! # Errors of the storage
//!
//! - A file that is not published yet, an expired URL, a connection that breaks or stalls, and a
//!   storage that fails are retried, each time with a new URL. Ten tries in a row that bring the file
//!   no further end the call.
//! - A range that the storage refuses is asked for once more as the whole file before the call ends.
//!   The part stays until the first byte of that comes.
//! - A storage that takes longer to begin its response than [`stall`] is given the
//!   [`response_timeout`] in the next try.
//! - The proxy and `NO_PROXY` are decided for the storage's host. The certificates of
//!   [`root_certificates_pem`] are those for the storage too.
//!
//! [`Api::download`]: crate::Api::download
//! [`if_missing`]: crate::Download::if_missing
//! [`model_url`]: crate::Agent::model_url
//! [`response_timeout`]: crate::ApiBuilder::response_timeout
//! [`root_certificates_pem`]: crate::ApiBuilder::root_certificates_pem
//! [`stall`]: crate::Download::stall
