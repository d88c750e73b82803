//! Paying for one agent, however often a program runs.
//!
//! A build script runs again and again, and a laptop is closed in the middle. [`ensure_agent`] and
//! [`generate_once`] keep a receipt: a file of JSON lines that a person can read. Its first line is
//! on disk before the request is sent. Once the agent is ready, [`ensure_agent`] needs neither a
//! secret nor the network.
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
//! A receipt has the idempotency key, the base URL and a fingerprint of each field, but neither the
//! secret nor the media. Then come the agent's id and how the generation ended: the service's
//! record of the agent, with its prompt and its URLs, but without fields of more than 4 KiB. A
//! receipt is for one request and one base URL: with another one, the call is an error.
//!
//! # In a repository
//!
//! Commit the receipt of a build script once its agent is ready, and do not ignore it in git.
//! `cargo package` leaves ignored files out and builds a copy under `target/package`. Without the
//! receipt, every run creates and bills an agent. So does a receipt of a failed generation, in
//! every clone. The example `build-script` of the repository sends nothing from such a copy.
//!
//! # After a crash
//!
//! - The next call retries with the same key where the server [honors][honors] keys and the key is
//!   younger than 23 h by the server's clock. Use a secret of the same account: another account does
//!   not know the key.
//! - Otherwise the error says that the outcome is unknown. [Look for the agent][look]. If there is
//!   one, add the line that the error shows to the receipt, with the agent's id. If not, delete the
//!   receipt. Then call again.
//! - What a crash left of a last line is dropped. An empty file is no receipt.
//!
//! After a failed generation, which the service refunds, the error says so, and the next call pays
//! for another try.
//!
//! # Sharing
//!
//! - Processes of one computer can share a receipt: they take turns under a lock of the operating
//!   system. The locks of some network file systems are local to each computer, so two computers can
//!   pay twice there. A file system or system without locks, such as Android, is an error before
//!   anything is sent.
//! - A receipt has one name. With two hard links, an editor's save would make two receipts of it, so
//!   that is refused. Symbolic links and bind mounts work.
//!
//! [`ensure_agent`]: crate::Api::ensure_agent
//! [`generate_once`]: crate::Api::generate_once
//! [honors]: crate::ApiBuilder::honors_idempotency_keys
//! [look]: crate::_docs::lost_agents
