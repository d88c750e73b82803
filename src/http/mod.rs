//! HTTP: one request at a time to the service. The only module that names ureq.

mod base_url;
mod failure;
mod proxy;
mod request;
mod response;
mod storage;
mod tls;

use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io::Read, sync::Arc, time::Duration};

use ureq::config::Config as UreqConfig;
use ureq::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use ureq::http::{HeaderName, HeaderValue, Method as UreqMethod, Request as UreqRequest};
use ureq::{Agent, Proxy, SendBody};

use crate::config::{Config, LONGEST_TIME, Setting};
use crate::error::{Error, ErrorKind, Result};
use crate::{body::Body, clock::Clock, secret::Secret, text::human_size};

pub(crate) use base_url::BaseUrl;
pub use base_url::{CURRENT_BASE_URL, DEFAULT_BASE_URL};
use failure::{BASE_URL_HINT, Limits, THROUGH, is_break};
pub use request::Method;
pub(crate) use request::Request;
pub(crate) use response::Response;
pub(crate) use storage::{Fetch, Head, Stream};

/// How much of a response is read. A record of an agent repeats a long prompt.
const MAX_RESPONSE: u64 = 1024 * 1024;

/// The longest wait for the response to a GET: the service sends those at once.
const LONGEST_GET: Duration = Duration::from_secs(30);

/// An upload has failed if the server reads nothing of it for this long. ureq gives each system
/// call of a write the whole time, so this is also how late a deadline may be noticed in one.
const LONGEST_WRITE: Duration = Duration::from_secs(60);

/// The slowest upload that is waited for, in bytes a second, besides the response timeout.
const SLOWEST_UPLOAD: u64 = 32 * 1024;

/// A body longer than this may be refused by a gateway for its length alone.
pub(crate) const LARGE_BODY: u64 = 1024 * 1024;

/// ureq's own limit. A GET that meets a closed connection goes out again at once.
const MAX_IDLE_BEFORE_GET: Duration = Duration::from_secs(15);

/// A connection that was idle for longer may be closed by the server at any moment.
const MAX_IDLE_BEFORE_OTHERS: Duration = Duration::from_secs(1);

static API_SECRET: HeaderName = HeaderName::from_static("api-secret");

/// The connections to the service, and the secret that goes over them.
pub(crate) struct Transport {
    agent: Agent,
    /// Knows no secret.
    storage: Agent,
    /// The caller's proxy.
    proxy_setting: Option<Setting>,
    /// The proxy of the base URL.
    proxy: Option<Proxy>,
    base: BaseUrl,
    /// The service and its proxy, for errors.
    peer: Arc<str>,
    secret: Secret,
    secret_header: HeaderValue,
    /// Why no request can be sent, if that is so.
    problem: Option<String>,
    connect_timeout: Duration,
    /// How long a response may take to begin.
    pub response_timeout: Duration,
    clock: Arc<dyn Clock>,
    stopped: AtomicBool,
}

impl Transport {
    /// Checks the settings. Without a secret, or with a proxy that cannot be used, the first
    /// request fails: a finished receipt needs neither.
    pub fn new(config: &Config) -> Result<Self> {
        let default = Setting::new("base_url", DEFAULT_BASE_URL);
        let base_url = config.base_url.as_ref().unwrap_or(&default);
        let base = BaseUrl::parse(base_url)?;
        if base.is_https && cfg!(not(feature = "_tls")) {
            return Err(Error::config(format!("https needs {}", tls::FEATURES)));
        }
        if !base.is_https && !base.is_loopback && !config.allow_plain_http {
            let what = "is plain http to another host, where others can read the secret: use \
                https, or allow_plain_http(true)";
            return Err(base_url.error(what));
        }
        let secret = config.secret.as_ref().map(Secret::new).transpose()?;
        let is_missing = secret.is_none();
        let secret = secret.unwrap_or_default();
        let no_secret = "no API secret: set BITHUMAN_API_SECRET or ApiBuilder::secret";
        let mut problem = is_missing.then(|| no_secret.to_owned());
        let proxy = proxy::choose(config.proxy.as_ref(), &base, variable).unwrap_or_else(|error| {
            problem = Some(error.what().into());
            None
        });
        let builder = UreqConfig::builder()
            .http_status_as_error(false)
            // ureq takes a header of ours along to whatever host a redirect names.
            .max_redirects(0)
            .accept("application/json")
            // Another crate may switch on ureq's gzip for everyone, and a server may not ask.
            .accept_encoding("identity")
            .user_agent(user_agent(&config.user_agent)?)
            .max_response_header_size(32 * 1024)
            // A head that fills this buffer would read as "Peer disconnected".
            .input_buffer_size(40 * 1024)
            // Measured: with half of it an upload takes a tenth longer, with twice as much no less.
            .output_buffer_size(64 * 1024)
            // Each request has its own.
            .proxy(None);
        let ureq = tls::configure(builder, config.root_certificates_pem.as_deref())?.build();
        Ok(Transport {
            agent: Agent::new_with_config(ureq.clone()),
            storage: Agent::new_with_config(ureq),
            proxy_setting: config.proxy.clone(),
            peer: peer(&base, proxy.as_ref()).into(),
            proxy,
            base,
            secret_header: header(&secret),
            secret,
            problem,
            connect_timeout: config.connect_timeout.min(LONGEST_TIME),
            response_timeout: config.response_timeout.min(LONGEST_TIME),
            clock: config.clock.clone(),
            stopped: AtomicBool::new(false),
        })
    }

    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Replaces the secret in a text of the service's that goes into an error.
    pub fn mask(&self, text: &str) -> String {
        self.secret.mask(text)
    }

    /// Ends requests in flight and refuses new ones, for good.
    pub fn shutdown(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
        self.storage.clone().shutdown();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn check_stopped(&self) -> Result<()> {
        match self.is_stopped() {
            true => Err(Error::shut_down()),
            false => Ok(()),
        }
    }

    /// Set for good by a shutdown.
    pub fn stopped(&self) -> &AtomicBool {
        &self.stopped
    }

    /// The longest that a POST of this length may take, but for what the system bounds.
    pub fn longest_post(&self, body_len: u64) -> Duration {
        // The upload, the head of the response, its body, and the write that is noticed late.
        let phases = at_slowest(body_len) + self.response_timeout * 3;
        self.connect_timeout + phases + LONGEST_WRITE
    }

    /// Sends a request and reads the response. `Err`: no head of a response came by the deadline.
    pub fn send(&self, mut request: Request) -> Result<Response> {
        self.check_stopped()?;
        if let Some(problem) = &self.problem {
            return Err(Error::config(problem));
        }
        let mut limits = self.limits(&request)?;
        match self.exchange(&mut request, &mut limits) {
            Ok(response) => Ok(self.read(response, &limits)),
            Err(error) if self.is_stopped() && error.kind() != ErrorKind::InvalidInput => {
                let stopped = Error::shut_down().fully_sent(error.was_fully_sent());
                Err(stopped.after(1))
            }
            Err(error) => Err(error.after(1)),
        }
    }

    fn exchange(&self, request: &mut Request, limits: &mut Limits) -> Result<UreqResponse> {
        let is_get = request.method == Method::Get;
        let mut result = self.run(request, limits);
        // Servers close idle connections, some just when the next poll is due. So after a broken
        // connection a GET goes out once more, over a fresh one.
        if is_get && result.as_ref().is_err_and(is_break) && !self.is_stopped() {
            limits.remaining = self.remaining(limits.deadline)?;
            limits.max_idle = Duration::ZERO;
            result = self.run(request, limits);
        }
        result.map_err(|error| match &mut request.body {
            Some(body) => upload_failed(error, body, limits),
            None => {
                let was_connected = !failure::is_before_sending(&error);
                let error = failure::to_error(error, limits);
                let is_sent = was_connected && error.kind() != ErrorKind::Tls;
                error.fully_sent(is_sent)
            }
        })
    }

    /// Hands a request to ureq.
    fn run(&self, request: &mut Request, limits: &Limits) -> Result<UreqResponse, ureq::Error> {
        let method = match request.method {
            Method::Get => UreqMethod::GET,
            Method::Post => UreqMethod::POST,
            Method::Delete => UreqMethod::DELETE,
        };
        let mut builder = UreqRequest::builder()
            .method(method)
            .uri([&*self.base.url, request.path].concat())
            .header(&API_SECRET, &self.secret_header);
        if request.method == Method::Get {
            builder = builder.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        } else {
            builder = builder.header(CONTENT_LENGTH, request.body_len());
        }
        if let Some(key) = request.idempotency_key {
            builder = builder.header("Idempotency-Key", key);
        }
        if request.body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        let limited = self.limit(builder.body(())?, limits);
        match &mut request.body {
            Some(body) => {
                let body = SendBody::from_reader(*body);
                self.agent.run(limited.map(|()| body))
            }
            None => self.agent.run(limited),
        }
    }

    /// Gives each phase its own time, or what remains if that is less.
    ///
    /// Without ureq's limits for a whole call and for the DNS lookup, and for a connection through
    /// a proxy: for those it starts a thread, and panics where the system refuses one. Through a
    /// proxy the limit of a read bounds what the proxy says.
    fn limit(&self, request: UreqRequest<()>, limits: &Limits) -> UreqRequest<()> {
        let at_most = |own: Duration| Some(own.min(limits.remaining.unwrap_or(own)));
        let is_proxied = limits.proxy.is_some();
        let (read, body) = match limits.stall {
            Some(stall) => (at_most(stall), limits.remaining),
            None => (
                at_most(limits.response).filter(|_| is_proxied),
                at_most(limits.response),
            ),
        };
        self.agent
            .configure_request(request)
            .timeout_connect(at_most(limits.connect).filter(|_| !is_proxied))
            .timeout_send_request(at_most(limits.write))
            .timeout_per_write(at_most(limits.write))
            .timeout_per_read(read)
            .timeout_send_body(at_most(limits.upload))
            .timeout_recv_response(at_most(limits.response))
            .timeout_recv_body(body)
            .max_idle_age(limits.max_idle)
            .proxy(limits.proxy.clone())
            .build()
    }

    /// What remains until a deadline, or the error that nothing does.
    fn remaining(&self, deadline: Option<Duration>) -> Result<Option<Duration>> {
        let now = self.clock.now();
        match deadline.map(|deadline| deadline.saturating_sub(now).min(LONGEST_TIME)) {
            Some(Duration::ZERO) => Err(Error::out_of_time()),
            remaining => Ok(remaining),
        }
    }

    fn limits(&self, request: &Request) -> Result<Limits> {
        let (response, max_idle) = match request.method {
            Method::Get => (self.response_timeout.min(LONGEST_GET), MAX_IDLE_BEFORE_GET),
            _ => (self.response_timeout, MAX_IDLE_BEFORE_OTHERS),
        };
        Ok(Limits {
            peer: self.peer.clone(),
            hint: BASE_URL_HINT,
            proxy: self.proxy.clone(),
            connect: self.connect_timeout,
            write: self.response_timeout.min(LONGEST_WRITE),
            upload: self.response_timeout + at_slowest(request.body_len()),
            response,
            stall: None,
            max_idle,
            deadline: request.deadline,
            remaining: self.remaining(request.deadline)?,
        })
    }

    fn read(&self, response: UreqResponse, limits: &Limits) -> Response {
        let (head, body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut broken = self.read_body(body, &mut bytes, limits).err();
        let is_too_long = bytes.len() as u64 == MAX_RESPONSE;
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        // A shutdown passes for the end of a body without a length.
        if self.is_stopped() {
            broken = Some(Error::shut_down());
        }
        Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body: text,
            is_too_long,
            broken,
            base_url: self.base.url.clone(),
            secret: self.secret.clone(),
        }
    }

    fn read_body(&self, body: ureq::Body, bytes: &mut Vec<u8>, limits: &Limits) -> Result<()> {
        let mut reader = body.into_reader().take(MAX_RESPONSE);
        let mut chunk = [0; 2 * 1024];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(error) => return Err(failure::to_error(error.into(), limits)),
            }
            // After the read: what has come is not thrown away.
            self.remaining(limits.deadline)?;
        }
    }
}

type UreqResponse = ureq::http::Response<ureq::Body>;

/// The host, and the proxy if there is one, for errors.
fn peer(target: &BaseUrl, proxy: Option<&Proxy>) -> String {
    let host = &target.authority;
    match proxy {
        Some(proxy) => format!("{host}{THROUGH}{}:{}", proxy.host(), proxy.port()),
        None => host.clone(),
    }
}

/// The header with the secret, which `Secret` has checked. ureq logs none of its value.
fn header(secret: &Secret) -> HeaderValue {
    let none = HeaderValue::from_static("");
    let mut value = HeaderValue::from_str(secret.expose()).unwrap_or(none);
    value.set_sensitive(true);
    value
}

fn variable(name: &str) -> Option<String> {
    Some(env::var_os(name)?.to_string_lossy().into_owned())
}

/// The error of a request with a body: what the body says, or else what ureq says.
fn upload_failed(error: ureq::Error, body: &mut Body, limits: &Limits) -> Error {
    if let Some(failure) = body.failure.take() {
        return failure;
    }
    let broke = is_break(&error);
    let error = failure::to_error(error, limits).fully_sent(body.fully_sent());
    if !body.broke_off() {
        return error;
    }
    let (sent, len) = (human_size(body.sent), human_size(body.len()));
    let error = error.and(&format!(" after {sent} of {len}"));
    match broke && body.len() > LARGE_BODY {
        true => error.and("; the server may be refusing a body this large"),
        false => error,
    }
}

/// The time in which the slowest upload that is waited for sends this many bytes.
fn at_slowest(body_len: u64) -> Duration {
    Duration::from_secs(body_len / SLOWEST_UPLOAD)
}

fn user_agent(setting: &Setting) -> Result<&str> {
    let text = setting.checked()?;
    match text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        true => Ok(text),
        false => Err(setting.error("contains a character that no header can carry")),
    }
}

#[cfg(test)]
#[path = "../../tests/unit/http.rs"]
mod tests;
