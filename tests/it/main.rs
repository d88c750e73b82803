//! The library against servers of our own, over real sockets on this machine.

mod answers;
mod cut;
mod deadline;
mod errors;
mod examples;
mod fault;
// The causes are in the words of the system and of the TLS library.
#[cfg(all(unix, feature = "rustls"))]
mod golden;
mod hostile;
mod mock_server;
mod origin;
mod package;
mod polling;
mod public_api;
mod receipt;
mod receipt_crash;
mod request;
mod resend;
mod retry_after;
mod script;
mod secrecy;
mod seed;
mod settings;
mod shutdown;
mod support;
mod trouble;
mod upload;
mod waiting;
