//! Chapters of documentation: there is no code here.
//!
//! - [`errors`]: what an error means, and what was billed.
//! - [`lost_agents`]: finding the agent of a request whose outcome is unknown.
//! - [`waiting`]: polling, deadlines, ending a wait, and what no timeout bounds.
//! - [`receipts`]: paying once, however often a program runs.
//! - [`media`]: images, videos and voices of any size.
//! - [`downloads`]: the model file on disk, resumed and whole.
//! - [`security`]: where the API secret goes, and where it does not.
//! - [`features`]: TLS, proxies and targets.

pub mod downloads;
pub mod errors;
pub mod features;
pub mod lost_agents;
pub mod media;
pub mod receipts;
pub mod security;
pub mod waiting;
