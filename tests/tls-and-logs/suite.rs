//! TLS over real sockets, what is logged, and what is shown: the tests that need crates which the
//! library's own manifest does not allow.

#![cfg(any(feature = "rustls", feature = "native-tls"))]

mod canary;
#[path = "../harness/mod.rs"]
mod harness;
mod logs;
mod server;
mod tls;
