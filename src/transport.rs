use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::config::{Config, ConfigBuilder};
use ureq::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use ureq::http::{Response, StatusCode, Uri};
#[cfg(feature = "_tls")]
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::typestate::AgentScope;
use ureq::{Agent, Proxy, ProxyProtocol, RequestBuilder, SendBody, Timeout};

use crate::answer::{Answer, Head, Received};
use crate::body::Body;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

/// Where the service of the 2025 document is: the default.
pub const DEFAULT_BASE_URL: &str = "https://public.api.bithuman.ai";

/// Where the service published in 2026 is. It honours idempotency keys.
pub const BASE_URL_2026: &str = "https://api.bithuman.ai";

/// What has to be compiled in for https.
pub(crate) const TLS_FEATURES: &str = "one of the features rustls, native-tls and platform-verifier of bithuman";

/// The longest answer read. The service's own are a few KiB.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The slowest upload waited for, in bytes a second, on top of the fixed allowance.
const SLOWEST_UPLOAD: u64 = 32 * 1024;

/// No time may be longer than this: what it is added to must stay a time.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A body longer than this is sent only once the server is willing. One that ignores the question
/// costs the second ureq waits for it.
const EXPECT_ABOVE: u64 = 1024 * 1024;

/// An upload of which the server takes nothing for so long has ended. As ureq gives each system call
/// of a write the whole time that is left, this is also how late a deadline may be noticed in one.
const LONGEST_STALL: Duration = Duration::from_secs(60);

/// The longest wait for the head of the answer to a GET: the service answers those at once.
const LONGEST_GET: Duration = Duration::from_secs(30);

/// The longest an answer's body may take once its head is there.
const LONGEST_BODY: Duration = Duration::from_secs(60);

/// What [`Transport`] works with, checked before by the builder.
pub(crate) struct Settings {
    /// Without a trailing slash.
    pub base_url: String,
    /// Host and port of the base URL and, if there is one, of the proxy, for messages.
    pub host: String,
    pub proxy: Option<Proxy>,
    /// What is connected to is an IP address.
    pub is_address: bool,
    /// Trusted instead of the built-in roots.
    pub roots: Option<Roots>,
    pub secret: Secret,
    pub user_agent: String,
    pub connect_timeout: Duration,
    /// For the head of the answer, once the request is sent; a GET has less.
    pub answer_timeout: Duration,
    /// What an upload may take besides what its length does.
    pub upload_timeout: Duration,
    pub clock: Arc<dyn Clock>,
}

/// The ureq agent, and one exchange over it.
pub(crate) struct Transport {
    agent: Agent,
    settings: Settings,
    stopped: AtomicBool,
}

/// What ureq makes of a request.
type Answered = Result<Response<ureq::Body>, ureq::Error>;

/// The time one exchange may take, besides what the settings say.
#[derive(Clone, Copy)]
struct Limits {
    /// For the head of the answer, once the request is sent.
    answer: Duration,
    /// The caller's, on the clock.
    deadline: Option<Duration>,
}

impl Transport {
    pub fn new(settings: Settings) -> Self {
        let config = Config::builder()
            .http_status_as_error(false)
            // ureq takes a header of ours along to whatever host a redirect names.
            .max_redirects(0)
            .accept("application/json")
            .user_agent(&settings.user_agent)
            // ureq panics on some answers to `Expect` if it has less than 20 KiB, and takes a full
            // buffer for the end of the answer: so the head must be smaller.
            .input_buffer_size(24 * 1024)
            // Measured: with half of it an upload takes a tenth longer, with twice as much no less.
            .output_buffer_size(64 * 1024)
            .timeout_per_write(Some(LONGEST_STALL))
            .max_response_header_size(15 * 1024)
            .proxy(settings.proxy.clone())
            // ureq spawns a thread to bound a look-up, even for an address, which needs none.
            .timeout_resolve(Some(settings.connect_timeout).filter(|_| !settings.is_address))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_send_request(Some(settings.connect_timeout))
            .timeout_recv_response(Some(settings.answer_timeout.min(LONGEST_GET)))
            .timeout_recv_body(Some(settings.answer_timeout.min(LONGEST_BODY)));
        let config = trust(config, settings.roots.as_ref());
        Transport { agent: Agent::new_with_config(config.build()), settings, stopped: AtomicBool::new(false) }
    }

    pub fn base_url(&self) -> &str {
        &self.settings.base_url
    }

    /// Ends what is running and refuses what comes, for good.
    pub fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// One exchange as the verbs see it: `read` takes from the answer what its call is about.
    fn exchange<T>(
        &self,
        limits: Limits,
        receive: impl FnOnce() -> Result<Received>,
        quick: impl FnOnce(&str) -> Option<T>,
        read: impl FnOnce(Answer) -> Result<T>,
    ) -> Result<T> {
        // ureq would look up the host before it noticed.
        if self.is_stopped() {
            return Err(Error::new(ErrorKind::ShutDown, "shut down"));
        }
        if self.left(limits).is_some_and(|left| left.is_zero()) {
            return Err(Error::new(ErrorKind::WaitTimedOut, "the time ran out"));
        }
        let secret = &self.settings.secret;
        let answered = receive().and_then(|received| {
            if let Some(read) = received.quick(quick, secret) {
                return Ok(read);
            }
            let (answer, cut) = received.decode(self.base_url(), secret)?;
            // An answer that breaks off counts if what came is whole; if not, the break is the trouble.
            read(answer).map_err(|error| cut.unwrap_or(error))
        });
        answered.map_err(|error| {
            error.with(|e| {
                let told = e.refused || matches!(e.http_status, Some(300..));
                if !told && e.kind != ErrorKind::InvalidInput && self.is_stopped() {
                    (e.kind, e.what) = (ErrorKind::ShutDown, format!("shut down: {}", e.what));
                }
                e.attempts = 1;
                secret.mask_error(e);
            })
        })
    }

    /// Asks once, reads the answer with a bound, and tells what it means.
    ///
    /// Servers close idle connections, some just when the next poll is due: after a break it asks once
    /// more, over a fresh connection. `quick` reads the answer that is expected, `read` any other.
    pub fn get<T>(
        &self,
        path: &str,
        deadline: Option<Duration>,
        quick: impl FnOnce(&str) -> Option<T>,
        read: impl FnOnce(Answer) -> Result<T>,
    ) -> Result<T> {
        let Settings { answer_timeout, connect_timeout, .. } = &self.settings;
        let limits = Limits { answer: (*answer_timeout).min(LONGEST_GET), deadline };
        // All the time-outs together: a deadline after that is none for this, and costs no thread.
        let longest = connect_timeout.saturating_mul(3).saturating_add(limits.answer).saturating_add(LONGEST_BODY);
        let ask = |fresh: bool| {
            let mut request = self.agent.get(self.url(path));
            if fresh {
                request = request.config().max_idle_age(Duration::ZERO).build();
            }
            if let Some(left) = self.left(limits).filter(|left| *left < longest || self.settings.proxy.is_some()) {
                request = request.config().timeout_global(Some(left)).build();
            }
            self.signed(request).call()
        };
        let receive = || {
            let answered = match ask(false) {
                Err(error) if is_break(&error) => ask(true),
                answered => answered,
            };
            Ok(self.read(answered.map_err(|error| self.failure(error, limits))?, limits))
        };
        self.exchange(limits, receive, quick, read)
    }

    /// Sends once, but for one thing that is sent without its body first; then as [`get`](Self::get).
    ///
    /// A server that refuses a request early, and closes, resets a connection on which a body is
    /// still coming, and its answer is lost. `Expect: 100-continue` saves the answer and the upload.
    /// A server that cannot deal with it gets the request once more without, and one that breaks
    /// off a small upload gets it once more with it: in neither case can it have taken the first.
    pub fn post<T>(
        &self,
        path: &str,
        body: &mut Body,
        key: &str,
        deadline: Option<Duration>,
        read: impl FnOnce(Answer) -> Result<T>,
    ) -> Result<T> {
        let limits = Limits { answer: self.settings.answer_timeout, deadline };
        self.exchange(limits, || self.send(&self.url(path), body, key, limits), |_| None, read)
    }

    fn send(&self, url: &str, body: &mut Body, key: &str, limits: Limits) -> Result<Received> {
        let mut expect = body.len() > EXPECT_ABOVE;
        let mut switched = false;
        let answered = loop {
            body.rewind();
            let answered = self.upload(url, body, key, expect, limits);
            let again = match &answered {
                Ok(response) => expect && response.status() == StatusCode::EXPECTATION_FAILED,
                // A `100` that has headers is misread as the end, or waited on for more.
                Err(ureq::Error::Protocol(_) | ureq::Error::Timeout(Timeout::RecvResponse)) if expect => {
                    body.sent() == 0
                }
                Err(error) if expect => body.sent() == 0 && is_break(error),
                Err(error) => !body.handed_over() && is_break(error),
            };
            // A medium that cannot be read is no trouble of the connection's, whatever the system calls it.
            if switched || !again || body.broken().is_some() {
                break answered;
            }
            (expect, switched) = (!expect, true);
        };
        if let Some(reason) = body.broken() {
            return Err(Error::invalid(reason));
        }
        let response = answered.map_err(|error| {
            let by_them = is_break(&error) && !self.is_stopped();
            self.failure(error, limits).with(|e| {
                if body.sent() > 0 && !body.handed_over() {
                    e.what += &format!(" after {} of {} bytes", body.sent(), body.len());
                    e.what += if by_them { "; the service may be refusing a body this large" } else { "" };
                }
            })
        })?;
        Ok(self.read(response, limits))
    }

    fn upload(&self, url: &str, body: &mut Body, key: &str, expect: bool, limits: Limits) -> Answered {
        let at_slowest = Duration::from_secs(body.len() / SLOWEST_UPLOAD);
        let request = self.agent.post(url).config();
        let request = request
            // A stale connection of the pool would make this call's outcome unknown.
            .max_idle_age(Duration::ZERO)
            .timeout_send_body(Some(at_slowest.saturating_add(self.settings.upload_timeout)))
            .timeout_recv_response(Some(limits.answer))
            .timeout_global(self.left(limits));
        let mut request = self
            .signed(request.build())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.len())
            .header("Idempotency-Key", key);
        if expect {
            // Without the close, ureq waits for ever on a server that refuses and keeps the connection.
            request = request.header(EXPECT, "100-continue").header(CONNECTION, "close");
        }
        request.send(SendBody::from_reader(body))
    }

    fn url(&self, path: &str) -> String {
        [self.base_url(), path].concat()
    }

    /// What is left of the deadline.
    fn left(&self, limits: Limits) -> Option<Duration> {
        let left = limits.deadline?.saturating_sub(self.settings.clock.now());
        Some(left.min(LONGEST))
    }

    /// What every request of ours carries.
    fn signed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        request.header("api-secret", self.settings.secret.header())
    }

    fn read(&self, mut response: Response<ureq::Body>, limits: Limits) -> Received {
        let length = response.body().content_length().unwrap_or_default().min(MAX_ANSWER);
        let mut body = Vec::with_capacity(length as usize);
        let reading = response.body_mut().as_reader().take(MAX_ANSWER).read_to_end(&mut body);
        let (parts, _) = response.into_parts();
        let head = Head { status: parts.status.as_u16(), headers: parts.headers };
        let cut = reading.err().map(|error| self.failure(error.into(), limits));
        Received { head, body, cut }
    }

    /// What ureq reports, as an error of ours.
    fn failure(&self, error: ureq::Error, limits: Limits) -> Error {
        let Settings { host, connect_timeout, .. } = &self.settings;
        let (kind, what) = match &error {
            ureq::Error::Timeout(Timeout::Global) => (ErrorKind::WaitTimedOut, "the time ran out".into()),
            ureq::Error::Timeout(Timeout::Resolve) => (ErrorKind::Timeout, lookup_failed(host)),
            ureq::Error::Timeout(Timeout::Connect) => {
                (ErrorKind::Timeout, format!("no connection to {host} within {connect_timeout:?}"))
            }
            ureq::Error::Timeout(Timeout::RecvResponse) => {
                (ErrorKind::Timeout, format!("no answer from {host} within {:?}", limits.answer))
            }
            ureq::Error::Timeout(Timeout::RecvBody) => {
                (ErrorKind::Timeout, format!("{host} did not end its answer in time"))
            }
            ureq::Error::Timeout(_) => (ErrorKind::Timeout, format!("{host} did not read the request in time")),
            ureq::Error::HostNotFound => (ErrorKind::Network, lookup_failed(host)),
            ureq::Error::Io(error) => match error.kind() {
                _ if is_lookup(error) => (ErrorKind::Network, lookup_failed(host)),
                io::ErrorKind::InvalidData => (ErrorKind::Tls, no_tls(host, error)),
                io::ErrorKind::ConnectionRefused => {
                    (ErrorKind::Network, format!("nothing accepts connections at {host} (is the base URL right?)"))
                }
                _ => (ErrorKind::Network, format!("the connection to {host} failed")),
            },
            ureq::Error::Tls(_) | ureq::Error::TlsRequired => (ErrorKind::Tls, no_tls(host, &error)),
            #[cfg(feature = "rustls")]
            ureq::Error::Rustls(_) => (ErrorKind::Tls, no_tls(host, &error)),
            #[cfg(feature = "native-tls")]
            ureq::Error::NativeTls(error) if error.to_string().contains("unexpected EOF") => {
                (ErrorKind::Network, format!("the connection to {host} failed"))
            }
            #[cfg(feature = "native-tls")]
            ureq::Error::NativeTls(_) => (ErrorKind::Tls, no_tls(host, &error)),
            ureq::Error::ConnectProxyFailed(_) => (ErrorKind::Network, format!("no way to {host}: the proxy refused")),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyStalled => (
                ErrorKind::UnexpectedAnswer,
                format!("the answer from {host} is not valid HTTP (is the base URL right?)"),
            ),
            _ => (ErrorKind::Network, format!("the request to {host} failed")),
        };
        Error::new(kind, what).with(|e| {
            e.source = Some(match error {
                ureq::Error::Io(error) => error.into(),
                other => other.into(),
            });
        })
    }
}

/// rustls keeps its reasons in types that ureq does not name, and OpenSSL has none: their texts must do.
fn no_tls(host: &str, reason: &dyn fmt::Display) -> String {
    let reason = reason.to_string();
    let untrusted = "its certificate is from an issuer that is not trusted (see root_certificates_pem)";
    let reasons = [
        (&["UnknownIssuer", "BadSignature", "local issuer", "self-signed", "signature failure"][..], untrusted),
        (&["CaUsedAsEndEntity"], "its certificate is one to sign others with, not one for a server"),
        (&["not valid for name", "mismatch"], "its certificate is for another host"),
        (&["expired"], "its certificate has expired, or the clock of this machine is wrong"),
        (&["valid yet", "yet valid"], "its certificate is not valid yet, or the clock of this machine is wrong"),
        (&["corrupt message", "wrong version number"], "it does not speak TLS; is the base URL right?"),
    ];
    let known = reasons.iter().find(|(texts, _)| texts.iter().any(|text| reason.contains(text)));
    format!("no trusted TLS connection to {host}: {}", known.map_or("the handshake failed", |(_, hint)| hint))
}

/// The proxy to use: the caller's, or that of the environment, or none to this machine.
///
/// ureq would go without one that it cannot read, and panic for one that needs a missing feature.
pub(crate) fn proxy(explicit: Option<&str>, base_url: &str, is_loopback: bool) -> Result<Option<Proxy>> {
    if is_loopback {
        return match explicit {
            None => Ok(None),
            Some(_) => Err(Error::invalid("proxy: a base URL on this machine does not go through one: leave it out")),
        };
    }
    // In ureq's order. It passes over a variable that it cannot read.
    let variables = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
    let set = variables.into_iter().find_map(|name| Some((name, env::var_os(name).filter(|url| !url.is_empty())?)));
    let is_proxy = |url: &OsString| url.to_str().is_some_and(|url| Proxy::new(url).is_ok());
    let (name, proxy) = match (explicit, set) {
        (Some(url), _) => ("proxy", Proxy::new(url).ok()),
        (None, Some((name, url))) => (name, Proxy::try_from_env().filter(|_| is_proxy(&url))),
        (None, None) => return Ok(None),
    };
    let unusable = |why: &str| Err(Error::invalid(format!("{name}: {why}")));
    match proxy {
        Some(proxy) if !has_good_port(proxy.uri()) => unusable("a bad port"),
        Some(proxy) if base_url.parse().is_ok_and(|uri| proxy.is_no_proxy(&uri)) => Ok(None),
        Some(proxy) => match proxy.protocol() {
            ProxyProtocol::Http => Ok(Some(proxy)),
            ProxyProtocol::Https if cfg!(feature = "_tls") => Ok(Some(proxy)),
            ProxyProtocol::Https => unusable(&format!("a proxy over https needs {TLS_FEATURES}")),
            _ if cfg!(feature = "socks-proxy") => Ok(Some(proxy)),
            _ => unusable("a SOCKS proxy needs the feature socks-proxy of bithuman"),
        },
        None => unusable("not the URL of a proxy, such as http://localhost:3128"),
    }
}

/// Whether the port is a number, or left out. ureq would take the default one for another.
pub(crate) fn has_good_port(uri: &Uri) -> bool {
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    uri.port_u16().is_some() || authority.rsplit('@').next() == uri.host()
}

type Builder = ConfigBuilder<AgentScope>;

#[cfg(feature = "_tls")]
pub(crate) type Roots = RootCerts;

#[cfg(not(feature = "_tls"))]
pub(crate) type Roots = std::convert::Infallible;

/// TLS as the features have it. ureq panics where it is to use one that is not compiled in, and has
/// its built-in roots for rustls only.
#[cfg(feature = "_tls")]
fn trust(config: Builder, roots: Option<&Roots>) -> Builder {
    let (provider, own) = match (cfg!(feature = "rustls"), cfg!(feature = "platform-verifier")) {
        (true, false) => (TlsProvider::Rustls, RootCerts::WebPki),
        (true, true) => (TlsProvider::Rustls, RootCerts::PlatformVerifier),
        (false, _) => (TlsProvider::NativeTls, RootCerts::PlatformVerifier),
    };
    config.tls_config(TlsConfig::builder().provider(provider).root_certs(roots.cloned().unwrap_or(own)).build())
}

#[cfg(not(feature = "_tls"))]
fn trust(config: Builder, _: Option<&Roots>) -> Builder {
    config
}

/// The certificates in a PEM text.
#[cfg(feature = "_tls")]
pub(crate) fn roots(pem: &[u8]) -> Result<Roots> {
    let invalid = || Error::invalid("root_certificates_pem: no certificate can be read from it; is it PEM?");
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        let item = item.map_err(|error| invalid().with(|e| e.source = Some(error.into())))?;
        if let PemItem::Certificate(certificate) = item {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() || !certificates.iter().all(|certificate| is_der(certificate.der())) {
        return Err(invalid());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Whether this is one DER sequence and nothing else. rustls passes over what is none in silence.
#[cfg(feature = "_tls")]
fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, length @ 0..0x80, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, digits, rest @ ..] => rest.split_at_checked(usize::from(digits & 0x7f)).is_some_and(|(length, rest)| {
            rest.len() == length.iter().fold(0, |all: usize, byte| all << 8 | usize::from(*byte))
        }),
        _ => false,
    }
}

#[cfg(not(feature = "_tls"))]
pub(crate) fn roots(_: &[u8]) -> Result<Roots> {
    Err(Error::invalid(format!("root_certificates_pem needs {TLS_FEATURES}")))
}

/// Whether the connection was there and broke.
fn is_break(error: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ureq::Error::Io(error) = error else { return false };
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The standard library has no kind for a failed look-up: on Unix it has this text, and on Windows
/// it is one of the system's errors WSAHOST_NOT_FOUND to WSANO_DATA.
fn is_lookup(error: &io::Error) -> bool {
    let of_windows = cfg!(windows) && matches!(error.raw_os_error(), Some(11001..=11004));
    of_windows || error.to_string().starts_with("failed to lookup address information")
}

/// The two hosts have come and gone: the error names the other one.
fn lookup_failed(host: &str) -> String {
    let mut what = format!("the host {host} cannot be looked up (is it right, and this machine online?)");
    if DEFAULT_BASE_URL == format!("https://{host}") {
        what += &format!("; the service of 2026 is at {BASE_URL_2026}, which BITHUMAN_API_URL or base_url can name");
    }
    what
}
