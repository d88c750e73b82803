//! Polling until an agent is ready, deadlines, and ending a wait.
//!
//! The service measured 1 min for `expression-1`, 13 min for `essence-1`, and 2 h to 2.5 h for
//! `expression-2` and `essence-2`. [`Wait`] has the interval between polls (5 s), the time for the
//! whole call (4 h), and how long polls may fail in a row (15 min).
//!
//! [`Api::wait`] returns the agent once it is ready. [`Api::watch`] is an iterator over the polls:
//!
//! ```no_run
//! use bithuman::{Api, Wait};
//!
//! for agent in Api::from_env()?.watch("A91XMB7113", &Wait::new()) {
//!     let agent = agent?;
//!     println!("{}: {:.0}%", agent.status, agent.progress.unwrap_or(0.0) * 100.0);
//! }
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! An agent has a status of its own, and one for each of its models. [`Wait::model`] waits for a
//! model: one that was added to an agent, or one of an agent made long ago, whose own status may
//! stay `completed` for good.
//!
//! # Deadlines
//!
//! One deadline bounds everything that a call does. Running out of time is
//! [`ErrorKind::WaitTimedOut`]. The generation continues, and so does [`Api::wait`] with the agent's
//! id, in this program or another.
//!
//! # Ending a wait
//!
//! [`Api::shutdown`] ends a wait from another thread, and every other call:
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
//! # Threads
//!
//! This crate starts no thread, and gives ureq no cause to start one. So two things have no timeout
//! of this crate's:
//!
//! - A DNS lookup ends when the system's resolver does, after 5 to 30 s.
//! - Connecting to a proxy ends when the system's TCP does, after about 2 min. A proxy that sends its
//!   response byte by byte is bounded for each byte alone.
//!
//! A deadline or a shutdown can be late by that. The wait for a response begins with the time that
//! remained before the upload, so a deadline that passes in that wait can be late by as long as the
//! upload took, at most by [`response_timeout`].
//!
//! [`Api::shutdown`]: crate::Api::shutdown
//! [`Api::wait`]: crate::Api::wait
//! [`Api::watch`]: crate::Api::watch
//! [`ErrorKind::WaitTimedOut`]: crate::ErrorKind::WaitTimedOut
//! [`Wait`]: crate::Wait
//! [`Wait::model`]: crate::Wait::model
//! [`response_timeout`]: crate::ApiBuilder::response_timeout
