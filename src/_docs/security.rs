//! Where the API secret goes, and where it does not.
//!
//! The secret goes into one header to one origin, over https or to localhost, unless
//! [`allow_plain_http`] says otherwise. Redirects are not followed. A base URL on localhost is never
//! reached through a proxy.
//!
//! The storage of a model file gets neither the secret nor anything else of the service's requests.
//! Its signed URL is a credential as well: errors and events show its host only.
//!
//! # Errors and logs
//!
//! The secret is in no [`Error`], no `Debug` and no log record at `DEBUG` or above. Where the
//! service repeats a secret of 8 characters or more in an error, it is masked. Two things remain:
//!
//! - A server that repeats the secret in one of the few response headers that ureq logs at `DEBUG`,
//!   such as `Server`, has it logged.
//! - At `TRACE` the crates `ureq` and `ureq-proto` log whole requests, the secret and signed URLs
//!   included. Turn that off in the manifest of your program:
//!
//! ```toml
//! [dependencies]
//! log = { version = "0.4", features = ["release_max_level_debug"] }
//! ```
//!
//! # Memory and disk
//!
//! The secret stays in memory as long as the client does, and is not erased afterwards. It is never
//! written to disk. A [receipt] has the prompt and the URLs that the service returned, and on Unix
//! a new one can be read by its owner alone.
//!
//! # What a server can do
//!
//! Responses are bounded in size, depth and time, and their text is shown on one line, without
//! control characters. The crate has no `unsafe` code.
//!
//! [`Error`]: crate::Error
//! [`allow_plain_http`]: crate::ApiBuilder::allow_plain_http
//! [receipt]: crate::_docs::receipts
