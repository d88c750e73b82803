//! The settings of an `Api`.

use std::{env, ffi::OsString, fmt, sync::Arc, time::Duration};

use crate::config::{Config, Setting};
use crate::error::{Error, Result};
use crate::{clock::Clock, http::Transport};

/// The settings of an [`Api`](crate::Api).
///
/// ```no_run
/// use std::time::Duration;
/// use bithuman::{Api, CURRENT_BASE_URL};
///
/// let api = Api::builder()
///     .secret("the-api-secret")
///     .base_url(CURRENT_BASE_URL)
///     .response_timeout(Duration::from_secs(60))
///     .max_retries(1)
///     .build()?;
/// # Ok::<(), bithuman::Error>(())
/// ```
///
/// For a gateway in front of the service:
///
/// ```no_run
/// use std::time::Duration;
/// use bithuman::Api;
///
/// let api = Api::builder()
///     .from_env()
///     .base_url("https://gateway.example.com/bithuman")
///     .root_certificates_pem(std::fs::read("gateway.pem")?)
///     .proxy("http://user:password@proxy.example.com:3128")
///     .connect_timeout(Duration::from_secs(30))
///     .user_agent("my-program/1.0")
///     .honors_idempotency_keys(true) // the current API is behind it
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct ApiBuilder {
    pub(crate) config: Config,
}

impl ApiBuilder {
    /// Fills what is not set from the environment.
    ///
    /// The secret comes from `BITHUMAN_API_SECRET`, the base URL from `BITHUMAN_API_BASE` or else
    /// `BITHUMAN_API_URL`. A blank variable counts as not set.
    ///
    /// ```no_run
    /// let api = bithuman::Api::builder().from_env().max_retries(0).build()?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn from_env(self) -> Self {
        self.fill(|name| env::var_os(name))
    }

    fn fill(mut self, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let setting = |name: &'static str| {
            // What is not UTF-8 becomes a character that is refused by its name.
            let text = variable(name)?.to_string_lossy().into_owned();
            (!text.trim().is_empty()).then(|| Setting::new(name, text))
        };
        let config = &mut self.config;
        if config.secret.is_none() {
            config.secret = setting("BITHUMAN_API_SECRET");
        }
        if config.base_url.is_none() {
            config.base_url = setting("BITHUMAN_API_BASE").or(setting("BITHUMAN_API_URL"));
        }
        self
    }

    /// Sets the API secret. Blanks and line ends around it are removed.
    ///
    /// Secrets for the current API are at `www.bithuman.ai/developer/api-keys`, those for the 2025
    /// API at `imaginex.bithuman.ai`. Default: none, and the first request fails.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.config.secret = Some(Setting::new("secret", secret));
        self
    }

    /// Sets where the service is: an https URL, or an http URL on localhost.
    ///
    /// It may have a path prefix. Blanks and line ends around it are removed.
    /// Default: [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL).
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.config.base_url = Some(Setting::new("base_url", url));
        self
    }

    /// Sets how long connecting may take, the TLS handshake included.
    ///
    /// The DNS lookup and a connection to a proxy are bounded by the operating system instead: see
    /// [Threads](crate::_docs::waiting#threads). Default: 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.config.connect_timeout = time;
        self
    }

    /// Sets how long the service may take to begin its response to a request that was sent.
    ///
    /// A status request, and any other GET, waits at most 30 s of it. The upload may take this long
    /// besides what its length takes at 32 KiB/s, and fails if the server reads nothing of it for
    /// 60 s. Default: 5 min.
    pub fn response_timeout(mut self, time: Duration) -> Self {
        self.config.response_timeout = time;
        self
    }

    /// Sets how many times a request is retried.
    ///
    /// The delay is random, up to 0.5 s at first and doubling to 30 s, and at least what the
    /// service asks for in `Retry-After`. A delay that would pass the deadline, or 60 s where
    /// there is no deadline, is not started. Default: 3.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.config.max_retries = retries;
        self
    }

    /// Sets whether the server honors idempotency keys.
    ///
    /// A server that does returns its first response for a key it knows, and bills nothing. With
    /// `true`, a generate request that may have been accepted is retried with the same key. If the
    /// server does not honor keys, that can create and bill a second agent. Default: `true` for the
    /// host of [`CURRENT_BASE_URL`](crate::CURRENT_BASE_URL) only.
    pub fn honors_idempotency_keys(mut self, honors: bool) -> Self {
        self.config.honors_idempotency_keys = Some(honors);
        self
    }

    /// Sets a proxy: `http://user:password@host:port`, or the same with `https`.
    ///
    /// With the feature `socks-proxy` also `socks4`, `socks4a`, `socks5` and `socks5h`. One that
    /// cannot be used is an error of the first request, as is any for a base URL on localhost.
    /// Default: the environment's, read as curl reads it: `https_proxy` or `HTTPS_PROXY` for an
    /// https base URL, `http_proxy` for an http one, then `all_proxy` or `ALL_PROXY`, but not for
    /// the hosts in `no_proxy` or `NO_PROXY`.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.config.proxy = Some(Setting::new("proxy", url));
        self
    }

    /// Sets the root certificates to trust, as PEM, **instead of** all others.
    ///
    /// They are for a gateway with a certificate of its own. Default: Mozilla's, built in; the
    /// system's with the feature `platform-verifier`, or with `native-tls` and not `rustls`.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.config.root_certificates_pem = Some(pem.into());
        self
    }

    /// Sets the `User-Agent` header for the service. Default: `bithuman-rust/` and the version of this crate.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.config.user_agent = Setting::new("user_agent", user_agent);
        self
    }

    /// Sets whether the base URL may be http on another host than localhost.
    ///
    /// Then everyone on the way can read the secret. Default: `false`.
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.config.allow_plain_http = allow;
        self
    }

    /// Time for tests.
    #[doc(hidden)]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.config.clock = clock;
        self
    }

    /// Checks the settings, and makes the transport. Nothing is sent.
    pub(crate) fn transport(&self) -> Result<Transport> {
        if self.config.connect_timeout.is_zero() {
            return Err(Error::config("connect_timeout must be more than zero"));
        }
        if self.config.response_timeout.is_zero() {
            return Err(Error::config("response_timeout must be more than zero"));
        }
        Transport::new(&self.config)
    }
}

/// Shows no setting: each may contain a secret or a password before it is checked.
impl fmt::Debug for ApiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiBuilder").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "../tests/unit/builder.rs"]
mod tests;
