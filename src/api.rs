use std::env;
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;

use crate::body::{Body, Meter};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::event::{Event, Hook};
use crate::secret::Secret;
use crate::transport::{DEFAULT_BASE_URL, LONGEST, Settings, Transport};

/// The variable [`Api::from_env`] takes the API secret from.
const SECRET_VARIABLE: &str = "BITHUMAN_API_SECRET";

/// The variable [`Api::from_env`] takes the base URL from, if it is set.
const URL_VARIABLE: &str = "BITHUMAN_API_URL";

/// The handle to the service.
///
/// A clone is cheap and shares the connections. Every call blocks the calling thread; threads
/// can share one `Api` or have a clone each.
///
/// ```no_run
/// use bithuman::{Api, GenerateRequest, Wait};
///
/// let api = Api::from_env()?;
/// let request = GenerateRequest::new().prompt("You are a friendly assistant.");
/// let agent = api.generate_and_wait(&request, &Wait::new())?;
/// # Ok::<(), bithuman::Error>(())
/// ```
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    hook: Option<Hook>,
}

struct Shared {
    transport: Transport,
    clock: Arc<dyn Clock>,
    answer_timeout: Duration,
}

impl Api {
    /// A handle to the service at [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL), with every other
    /// setting at its default.
    ///
    /// ```
    /// let api = bithuman::Api::new("the-API-secret")?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the secret is empty or cannot be sent in a header.
    pub fn new(secret: impl Into<String>) -> Result<Self> {
        Api::builder().secret(secret).build()
    }

    /// A handle with the secret of `BITHUMAN_API_SECRET`, to the service at `BITHUMAN_API_URL` or,
    /// if that is not set or empty, at [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL).
    ///
    /// ```no_run
    /// let api = bithuman::Api::from_env()?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no secret, or either variable cannot be used.
    pub fn from_env() -> Result<Self> {
        from_variables(|name| env::var_os(name))?.build()
    }

    /// Every setting at its default, to be changed before [`build`](ApiBuilder::build).
    ///
    /// ```
    /// use bithuman::{Api, BASE_URL_2026};
    ///
    /// let api = Api::builder().secret("the-API-secret").base_url(BASE_URL_2026).build()?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn builder() -> ApiBuilder {
        ApiBuilder::default()
    }

    /// A clone that shares the connections and tells `f` what its calls are doing: for progress
    /// bars, logs and watchdogs.
    ///
    /// `f` runs on the thread of the call, which waits for it. It replaces a function given before.
    ///
    /// ```
    /// use bithuman::{Api, Event};
    ///
    /// let api = Api::new("the-API-secret")?.on_event(|event| match event {
    ///     Event::Uploaded { sent, total } => eprintln!("{} %", sent * 100 / total),
    ///     _ => {}
    /// });
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn on_event(&self, f: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Api { shared: self.shared.clone(), hook: Some(Arc::new(f)) }
    }

    /// Has the body's progress reported.
    pub(crate) fn meter(&self, body: &mut Body) {
        if let Some(hook) = &self.hook {
            body.set_meter(Meter::new(hook.clone(), self.shared.clock.clone()));
        }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        self.shared.answer_timeout
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base_url", &self.shared.transport.base_url()).finish_non_exhaustive()
    }
}

fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<ApiBuilder> {
    let text = |name: &str| match get(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(Error::invalid(format!("{name} is not UTF-8"))),
    };
    let secret = text(SECRET_VARIABLE)?.ok_or_else(|| {
        Error::invalid(format!("no API secret: set {SECRET_VARIABLE} to the one from imaginex.bithuman.ai"))
    })?;
    let builder = Api::builder().secret(secret);
    Ok(match text(URL_VARIABLE)? {
        Some(url) => builder.base_url(url),
        None => builder,
    })
}

/// The settings of an [`Api`].
#[derive(Clone)]
pub struct ApiBuilder {
    secret: String,
    base_url: String,
    connect_timeout: Duration,
    answer_timeout: Duration,
    upload_timeout: Duration,
    user_agent: String,
    allow_plain_http: bool,
    clock: Option<Arc<dyn Clock>>,
}

impl Default for ApiBuilder {
    fn default() -> Self {
        ApiBuilder {
            secret: String::new(),
            base_url: DEFAULT_BASE_URL.into(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5 * 60),
            upload_timeout: Duration::from_secs(5 * 60),
            user_agent: concat!("bithuman-rust/", env!("CARGO_PKG_VERSION")).into(),
            allow_plain_http: false,
            clock: None,
        }
    }
}

impl ApiBuilder {
    /// The API secret from imaginex.bithuman.ai. There is no default.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = secret.into();
        self
    }

    /// Where the service is: an https URL, with or without a path prefix and a trailing slash, or
    /// an http one to this machine. Default: [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL).
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// How long the look-up of the host may take, and then connecting with TLS. Default: 10 s each.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long the service may take to begin its answer once a generate is sent. Default: 5 min.
    ///
    /// A status gets at most 30 s of it, and the rest of an answer at most 60 s. The upload has
    /// 5 min of its own, and more for a long one (its length at 32 KiB/s).
    pub fn answer_timeout(mut self, time: Duration) -> Self {
        self.answer_timeout = time;
        self
    }

    /// The `User-Agent` header. Default: `bithuman-rust/` and the version of this crate.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Allows an http base URL to another machine, so that everyone on the way can read the
    /// secret. Default: `false`.
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.allow_plain_http = allow;
        self
    }

    /// What an upload may take besides what its length does. For tests.
    #[doc(hidden)]
    pub fn upload_timeout(mut self, time: Duration) -> Self {
        self.upload_timeout = time;
        self
    }

    /// Time for tests.
    #[doc(hidden)]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings. Nothing is sent.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the secret is missing or cannot be sent in a header; if the base URL is
    /// not one, has a user, query or fragment, is plain http to another machine, or is https
    /// without a TLS feature; for a time-out of zero; or if the user agent cannot be sent.
    pub fn build(self) -> Result<Api> {
        let secret = Secret::new(self.secret)?;
        let base = BaseUrl::parse(&self.base_url)?;
        if base.is_https && cfg!(not(feature = "rustls")) {
            return Err(Error::invalid("https needs the feature rustls of this crate"));
        }
        if !base.is_https && !base.is_loopback && !self.allow_plain_http {
            return Err(Error::invalid(
                "the base URL is plain http to another machine, so others could read the secret: \
                 use https, or allow_plain_http(true)",
            ));
        }
        for (name, time) in [("connect_timeout", self.connect_timeout), ("answer_timeout", self.answer_timeout)] {
            if time.is_zero() {
                return Err(Error::invalid(format!("{name} is zero")));
            }
        }
        if !self.user_agent.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(Error::invalid("the user agent has a character that no header can carry"));
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let transport = Transport::new(Settings {
            base_url: base.url,
            host: base.host,
            is_loopback: base.is_loopback,
            secret,
            user_agent: self.user_agent,
            connect_timeout: self.connect_timeout.min(LONGEST),
            upload_timeout: self.upload_timeout.min(LONGEST),
            clock: clock.clone(),
        });
        let shared = Shared { transport, clock, answer_timeout: self.answer_timeout.min(LONGEST) };
        Ok(Api { shared: Arc::new(shared), hook: None })
    }
}

/// Shows no setting: the secret is none of `Debug`'s business, and an unchecked URL may hold a
/// password.
impl fmt::Debug for ApiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiBuilder").finish_non_exhaustive()
    }
}

#[derive(Debug, PartialEq)]
struct BaseUrl {
    /// Without a trailing slash.
    url: String,
    /// Host and port.
    host: String,
    is_https: bool,
    is_loopback: bool,
}

impl BaseUrl {
    /// The errors do not repeat the text: it may be a secret that went into the wrong variable.
    fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("the base URL {why}"));
        let uri: Uri = text.parse().map_err(|_| invalid("is not a URL"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(invalid("must begin with https://, or http:// to this machine"));
            }
        };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(invalid("has a user or password, which are not the API secret"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(invalid("has a query or a fragment"));
        }
        let host = uri.host().unwrap_or_default();
        let port = authority.strip_prefix(host).unwrap_or_default();
        // ureq would take the default port for one that is no number.
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        if host.is_empty() || !port_ok {
            return Err(invalid("has no host or a bad port"));
        }
        let scheme = if is_https { "https" } else { "http" };
        Ok(BaseUrl {
            url: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')),
            host: authority.into(),
            is_https,
            is_loopback: is_loopback(host),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let v6 = host.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>();
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || v6.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[path = "../tests/unit/api.rs"]
mod tests;
