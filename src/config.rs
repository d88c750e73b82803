//! Everything an `Api` can be set to, as it was set.

use std::{sync::Arc, time::Duration};

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::text::{describe_char, hidden_char};

/// No time may be longer than this: what it is added to must stay a time.
pub(crate) const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) const USER_AGENT: &str = concat!("bithuman-rust/", env!("CARGO_PKG_VERSION"));

/// The settings of an `Api`, with the defaults in one place.
#[derive(Clone)]
pub(crate) struct Config {
    pub secret: Option<Setting>,
    pub base_url: Option<Setting>,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub max_retries: u32,
    pub honors_idempotency_keys: Option<bool>,
    pub proxy: Option<Setting>,
    pub root_certificates_pem: Option<Vec<u8>>,
    pub user_agent: Setting,
    pub allow_plain_http: bool,
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            secret: None,
            base_url: None,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(5 * 60),
            max_retries: 3,
            honors_idempotency_keys: None,
            proxy: None,
            root_certificates_pem: None,
            user_agent: Setting::new("user_agent", USER_AGENT),
            allow_plain_http: false,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// A text, and the variable or setter that it comes from, for errors.
#[derive(Clone)]
pub(crate) struct Setting {
    pub name: &'static str,
    pub text: String,
}

impl Setting {
    pub fn new(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Setting { name, text }
    }

    /// An error about this setting. It does not show the text, which may be a secret.
    pub fn error(&self, what: &str) -> Error {
        Error::config(format!("{} {what}", self.name))
    }

    /// The text without the blanks and line ends around it. Refuses what cannot be meant: a
    /// character that nobody sees, and quotes around the text.
    pub fn checked(&self) -> Result<&str> {
        let text = self.text.trim();
        if let Some(hidden) = hidden_char(text) {
            let what = format!("contains {}: remove it", describe_char(hidden));
            return Err(self.error(&what));
        }
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(self.error("is not UTF-8"));
        }
        let is_quote = |c: char| "\"'`\u{2018}\u{2019}\u{201c}\u{201d}\u{ab}\u{bb}".contains(c);
        if text.starts_with(is_quote) || text.ends_with(is_quote) {
            return Err(self.error("has a quote at its start or end: remove the quotes"));
        }
        Ok(text)
    }
}

#[cfg(test)]
#[path = "../tests/unit/config.rs"]
mod tests;
