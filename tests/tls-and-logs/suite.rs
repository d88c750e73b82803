//! TLS over real sockets, what is logged, and what is shown: the tests that need crates which the
//! library's own manifest does not allow.

#![cfg(any(feature = "rustls", feature = "native-tls"))]

mod canary;
mod logs;
// Not all of it is needed here.
#[allow(dead_code)]
#[path = "../it/script.rs"]
mod script;
mod server;
mod tls;
