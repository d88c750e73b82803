use std::env;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;

use crate::body::Meter;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::event::{Event, Hook};
use crate::retry;
use crate::secret::Secret;
use crate::transport::{self, BASE_URL_2026, DEFAULT_BASE_URL, LONGEST, Settings, Transport};

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
    pub(crate) shared: Arc<Shared>,
    hook: Option<Hook>,
}

/// What all clones of a handle share, for the verbs.
pub(crate) struct Shared {
    pub transport: Transport,
    pub clock: Arc<dyn Clock>,
    pub idempotency_honored: bool,
    retries: u32,
}

impl Api {
    /// A handle to the service at [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL), with every other
    /// setting at its default.
    ///
    /// ```no_run
    /// let api = bithuman::Api::new("the-API-secret")?;
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the secret is empty or cannot be sent in a
    /// header, or if the proxy of the environment cannot be used.
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
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no secret, or either variable cannot be
    /// used.
    pub fn from_env() -> Result<Self> {
        from_variables(|name| env::var_os(name))?.build()
    }

    /// Every setting at its default, to be changed before [`build`](ApiBuilder::build).
    ///
    /// ```no_run
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
    /// `f` runs on the thread of the call, which waits for it, and may call
    /// [`shutdown`](Api::shutdown). It replaces a function given before.
    ///
    /// ```no_run
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

    /// Ends every call of this handle and its clones, for good: those running on other threads, and
    /// those to come, return [`ErrorKind::ShutDown`](crate::ErrorKind::ShutDown).
    ///
    /// A sleep, an upload or a wait for an answer ends within 100 ms; a look-up or a TCP connect when
    /// its [time-out](ApiBuilder::connect_timeout) does. The error carries what is known by then: the
    /// agent id, the idempotency key, and whether the
    /// [outcome is unknown](crate::Error::outcome_unknown).
    ///
    /// ```no_run
    /// use bithuman::{Api, Wait};
    ///
    /// let api = Api::from_env()?;
    /// let waiting = { let api = api.clone(); std::thread::spawn(move || api.wait("A91XMB7113", &Wait::new())) };
    /// api.shutdown();
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn shutdown(&self) {
        self.shared.transport.shutdown();
        self.shared.clock.wake();
    }

    pub(crate) fn report(&self, event: impl FnOnce() -> Event) {
        if let Some(hook) = &self.hook {
            hook(&event());
        }
    }

    /// Sleeps before a resend, unless there have been enough or it would take too long.
    pub(crate) fn pause(&self, attempts: u32, error: &Error, deadline: Option<Duration>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_sub(self.shared.clock.now()));
        let delay = retry::delay(attempts.saturating_sub(1), error.retry_after(), left);
        let Some(delay) = delay.filter(|_| attempts <= self.shared.retries) else { return false };
        self.report(|| Event::Resending { attempts, delay, reason: error.to_string() });
        self.shared.clock.sleep(delay);
        true
    }

    /// A stopwatch that also counts the time the machine is suspended.
    pub(crate) fn age(&self) -> impl Fn() -> Duration {
        let (start, started) = (self.shared.clock.now(), self.shared.clock.wall_time());
        move || {
            let by_day = self.shared.clock.wall_time().duration_since(started).unwrap_or_default();
            self.shared.clock.now().saturating_sub(start).max(by_day)
        }
    }

    /// What reports a body's progress, if anybody listens.
    pub(crate) fn meter(&self) -> Option<Meter> {
        self.hook.as_ref().map(|hook| Meter::new(hook.clone(), self.shared.clock.clone()))
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
///
/// ```no_run
/// use std::time::Duration;
/// use bithuman::{Api, BASE_URL_2026};
///
/// let builder = Api::builder().secret("the-API-secret").base_url(BASE_URL_2026);
/// let api = builder.answer_timeout(Duration::from_secs(60)).retries(1).build()?;
/// # Ok::<(), bithuman::Error>(())
/// ```
#[derive(Clone)]
pub struct ApiBuilder {
    secret: String,
    base_url: String,
    connect_timeout: Duration,
    answer_timeout: Duration,
    upload_timeout: Duration,
    retries: u32,
    idempotency_honored: Option<bool>,
    proxy: Option<String>,
    root_certificates: Option<Vec<u8>>,
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
            retries: 3,
            idempotency_honored: None,
            proxy: None,
            root_certificates: None,
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
    /// 5 min of its own, and more for a long one (its length at 32 KiB/s), but ends if the server
    /// takes nothing of it for a minute.
    pub fn answer_timeout(mut self, time: Duration) -> Self {
        self.answer_timeout = time;
        self
    }

    /// How often a request is sent again after the first time. Default: 3.
    ///
    /// The delay is random, up to 0.5 s at first and doubling to 30 s, or what the service asks for in
    /// `Retry-After`. One that would pass the deadline, or a minute where there is none, is not begun.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Whether the service answers an idempotency key that it knows with its first answer, and bills
    /// nothing. Default: `true` for the host of [`BASE_URL_2026`](crate::BASE_URL_2026) only.
    ///
    /// Where it is `true`, a generate is sent again with the same key when it is unknown whether it was
    /// taken. Where that is wrong, the agent may be made, and billed, twice.
    pub fn idempotency_honored(mut self, honored: bool) -> Self {
        self.idempotency_honored = Some(honored);
        self
    }

    /// A proxy to go through: `http://user:password@host:port`, or `https`; with the feature `socks-proxy`
    /// also `socks4`, `socks4a`, `socks5` and `socks5h`, of which `socks4` and `socks5` are told an
    /// address that is looked up here. A base URL on this machine takes none.
    ///
    /// A proxy that answers drop by drop is waited for beyond the connect time-out, which ureq gives
    /// each read of its answer.
    ///
    /// Default: that of the first of `ALL_PROXY`, `HTTPS_PROXY` and `HTTP_PROXY` that is set, in upper
    /// or lower case, but for this machine and the hosts in `NO_PROXY`, where `.example.com` and
    /// `*.example.com` mean those within a domain and `example.com` only itself.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// The root certificates to trust, as PEM, **instead of** all others: for a gateway with a
    /// certificate of its own. Default: Mozilla's, built in; the system's with the feature
    /// `platform-verifier`, or with `native-tls` and not `rustls`.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
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
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the secret is missing or cannot be sent in a
    /// header; if the base URL is not one, has a user, query or fragment, is plain http to another machine,
    /// or is https without a [TLS feature](crate#features); for a time-out of zero; if the user agent cannot
    /// be sent; if the proxy, or that of the environment, cannot be used; or if there is no certificate in
    /// the PEM.
    pub fn build(self) -> Result<Api> {
        let secret = Secret::new(self.secret)?;
        let base = BaseUrl::parse(&self.base_url)?;
        if base.is_https && cfg!(not(feature = "_tls")) {
            return Err(Error::invalid(format!("https needs {}", transport::TLS_FEATURES)));
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
            return Err(Error::invalid("the user agent has a character that no header can carry: leave it out"));
        }
        let is_of_2026 = format!("https://{}", base.host.trim_end_matches(":443")) == BASE_URL_2026;
        let proxy = transport::proxy(self.proxy.as_deref(), &base.url, base.is_loopback)?;
        let through = proxy.as_ref().map(|proxy| format!(" through the proxy {}:{}", proxy.host(), proxy.port()));
        let roots = self.root_certificates.map(|pem| transport::roots(&pem)).transpose()?;
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let transport = Transport::new(Settings {
            base_url: base.url,
            host: base.host + &through.unwrap_or_default(),
            is_address: base.is_address && proxy.is_none(),
            proxy,
            roots,
            secret,
            user_agent: self.user_agent,
            connect_timeout: self.connect_timeout.min(LONGEST),
            answer_timeout: self.answer_timeout.min(LONGEST),
            upload_timeout: self.upload_timeout.min(LONGEST),
            clock: clock.clone(),
        });
        let shared = Shared {
            transport,
            clock,
            retries: self.retries,
            idempotency_honored: self.idempotency_honored.unwrap_or(is_of_2026),
        };
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

struct BaseUrl {
    /// Without a trailing slash.
    url: String,
    /// Host and port.
    host: String,
    is_https: bool,
    is_loopback: bool,
    /// The host is an IP address.
    is_address: bool,
}

impl BaseUrl {
    /// The errors do not repeat the text: it may be a secret that went into the wrong variable.
    fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("the base URL {why}"));
        let uri: Uri = text.parse().map_err(|_| invalid(&format!("is not a URL, such as {DEFAULT_BASE_URL}")))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("must begin with https://, or http:// to this machine")),
        };
        let authority = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).unwrap_or_default();
        if authority.contains('@') {
            return Err(invalid("has a user or password, which are not the API secret: leave them out"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(invalid("has a query or a fragment: leave it out"));
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() || !transport::has_good_port(&uri) {
            return Err(invalid("has no host, or a port that is no number"));
        }
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address: Option<IpAddr> = match v6 {
            Some(v6) => v6.parse().ok().map(IpAddr::V6),
            None => host.parse().ok().map(IpAddr::V4),
        };
        let scheme = if is_https { "https" } else { "http" };
        Ok(BaseUrl {
            url: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')),
            host: authority,
            is_https,
            is_loopback: host.eq_ignore_ascii_case("localhost") || address.is_some_and(|ip| ip.is_loopback()),
            is_address: address.is_some(),
        })
    }
}

#[cfg(test)]
#[path = "../tests/unit/api.rs"]
mod tests;
