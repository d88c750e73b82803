//! TLS, proxies and targets.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `rustls` (default) | https with rustls, ring and Mozilla's root certificates |
//! | `platform-verifier` | rustls with the system's root certificates and rules instead |
//! | `native-tls` | https with the system's TLS library and root certificates |
//! | `socks-proxy` | SOCKS proxies |
//!
//! `native-tls` uses OpenSSL on Linux, and needs its headers to build. If `rustls` is on too,
//! rustls is used. Without the first three features only plain http works: to localhost, or where
//! it is [allowed](crate::ApiBuilder::allow_plain_http).
//!
//! # Proxies
//!
//! Proxies are read from the environment as curl reads them: `https_proxy` or `HTTPS_PROXY` for an
//! https base URL, `http_proxy` in lower case for plain http, then `all_proxy` or `ALL_PROXY`, with
//! the exceptions of `no_proxy` or `NO_PROXY`. [`ApiBuilder::proxy`](crate::ApiBuilder::proxy) sets
//! one in code.
//!
//! # Targets
//!
//! Every change is tested on 64-bit Linux. `tests/targets/run` tests 32-bit ARM in QEMU and 64-bit
//! Windows in Wine by hand, and creates an agent on 64-bit ARM, RISC-V and static x86-64 (musl).
//! macOS, Android and Windows itself were not tried. Two things differ elsewhere:
//!
//! - On Windows, a request in flight can last until its own timeout after a
//!   [`shutdown`](crate::Api::shutdown).
//! - Where the system has no file locks, such as on Android, [receipts](crate::_docs::receipts) are
//!   an error before anything is sent, and [downloads](crate::_docs::downloads) work without resuming
//!   in a later call.
//!
//! # Small hosts
//!
//! The crate starts no thread, and works on a stack of 64 KiB. Media files and downloads of any
//! size take a few MiB of memory. This profile makes a program smallest:
//!
//! ```toml
//! [profile.release]
//! opt-level = "z"
//! lto = true
//! codegen-units = 1
//! panic = "abort"
//! strip = true
//! ```
