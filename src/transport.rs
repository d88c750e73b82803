use std::io::{self, Read};
use std::time::Duration;

use serde_json::{Map, Value};
use ureq::config::Config;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderValue, Response};
use ureq::{Agent, RequestBuilder, SendBody, Timeout};

use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::retry;
use crate::secret::Secret;

/// Where the service of the 2025 document is: the default.
pub const DEFAULT_BASE_URL: &str = "https://public.api.bithuman.ai";

/// Where the service published in 2026 is. It honours idempotency keys.
pub const BASE_URL_2026: &str = "https://api.bithuman.ai";

/// The longest answer read. The service's own are a few KiB.
const MAX_ANSWER: u64 = 1024 * 1024;

/// How much of an answer that is not the service's own is kept for the error, in characters.
const EXCERPT: usize = 512;

/// The slowest upload waited for, in bytes a second, on top of the fixed allowance.
const SLOWEST_UPLOAD: u64 = 32 * 1024;

/// No time may be longer than this: what it is added to must stay a time.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest an answer's body may take once its head is there.
const LONGEST_BODY: Duration = Duration::from_secs(60);

/// What [`Transport`] works with, checked before by the builder.
pub(crate) struct Settings {
    /// Without a trailing slash.
    pub base_url: String,
    /// Host and port of the base URL, for messages.
    pub host: String,
    pub is_loopback: bool,
    pub secret: Secret,
    pub user_agent: String,
    pub connect_timeout: Duration,
    /// What an upload may take besides what its length does.
    pub upload_timeout: Duration,
}

/// The ureq agent, and one exchange over it.
pub(crate) struct Transport {
    agent: Agent,
    settings: Settings,
}

/// One request.
pub(crate) struct Exchange<'a> {
    /// What comes after the base URL.
    pub path: &'a str,
    /// A POST with this body and idempotency key, or else a GET.
    pub post: Option<(&'a mut Body, &'a str)>,
    /// How long the head of the answer may take once the request is sent.
    pub answer_timeout: Duration,
    /// What is left of the caller's deadline.
    pub time_left: Option<Duration>,
}

/// The answer to a request that the service did not refuse.
pub(crate) struct Answer {
    pub status: u16,
    pub request_id: Option<String>,
    /// `Idempotency-Replayed: true`.
    pub replayed: bool,
    pub json: Map<String, Value>,
}

impl Transport {
    pub fn new(settings: Settings) -> Self {
        let mut config = Config::builder()
            .http_status_as_error(false)
            // ureq takes a header of ours along to whatever host a redirect names.
            .max_redirects(0)
            .accept("application/json")
            .user_agent(&settings.user_agent)
            .input_buffer_size(16 * 1024)
            .output_buffer_size(32 * 1024)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_send_request(Some(settings.connect_timeout));
        if settings.is_loopback {
            config = config.proxy(None);
        }
        Transport { agent: Agent::new_with_config(config.build()), settings }
    }

    pub fn base_url(&self) -> &str {
        &self.settings.base_url
    }

    /// Sends once, reads the answer with a bound, and tells what it means.
    pub fn exchange(&self, exchange: Exchange<'_>) -> Result<Answer> {
        let Exchange { path, post, answer_timeout, time_left } = exchange;
        let url = format!("{}{path}", self.settings.base_url);
        let answered = match post {
            None => self.limited(self.agent.get(&url), answer_timeout, time_left)?.call(),
            Some((body, key)) => {
                let upload =
                    Duration::from_secs(body.len() / SLOWEST_UPLOAD).saturating_add(self.settings.upload_timeout);
                let request = self
                    .agent
                    .post(&url)
                    .config()
                    // A stale connection of the pool would make this call's outcome unknown.
                    .max_idle_age(Duration::ZERO)
                    .timeout_send_body(Some(upload))
                    .build();
                let sent = self
                    .limited(request, answer_timeout, time_left)?
                    .header(CONTENT_TYPE, "application/json")
                    .header(CONTENT_LENGTH, body.len())
                    .header("Idempotency-Key", key)
                    .send(SendBody::from_reader(body));
                if let Some(reason) = body.broken() {
                    return Err(Error::invalid(reason));
                }
                sent
            }
        };
        self.read(answered.map_err(|error| self.failure(error, answer_timeout))?, answer_timeout)
    }

    /// What every request of ours carries.
    fn limited<B>(
        &self,
        request: RequestBuilder<B>,
        answer_timeout: Duration,
        time_left: Option<Duration>,
    ) -> Result<RequestBuilder<B>> {
        // The builder let nothing through that is no header value.
        let mut secret = HeaderValue::from_str(self.settings.secret.expose())
            .map_err(|_| Error::invalid("the API secret cannot be sent in a header"))?;
        secret.set_sensitive(true);
        Ok(request
            .config()
            .timeout_global(time_left.map(|time| time.min(LONGEST)))
            .timeout_recv_response(Some(answer_timeout))
            .timeout_recv_body(Some(answer_timeout.min(LONGEST_BODY)))
            .build()
            .header("api-secret", secret))
    }

    fn read(&self, mut response: Response<ureq::Body>, answer_timeout: Duration) -> Result<Answer> {
        let secret = &self.settings.secret;
        let status = response.status().as_u16();
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(secret.mask(value))
        };
        let request_id = header("x-request-id");
        let retry_after = header(RETRY_AFTER.as_str()).and_then(|text| retry::parse_retry_after(&text));
        let location = header(LOCATION.as_str());
        let replayed = header("idempotency-replayed").is_some_and(|value| value.eq_ignore_ascii_case("true"));

        let mut bytes = Vec::new();
        let reading = response.body_mut().as_reader().take(MAX_ANSWER).read_to_end(&mut bytes);
        let json = serde_json::from_slice::<Map<String, Value>>(&bytes);
        let error = match (status, json) {
            (200..=299, Ok(mut json)) if reading.is_ok() && json.get("success") != Some(&Value::Bool(false)) => {
                secret.mask_fields(&mut json);
                return Ok(Answer { status, request_id, replayed, json });
            }
            (200..=299, Err(error)) if reading.is_ok() => {
                let what = "the answer is not the JSON object the service documents";
                Error::new(ErrorKind::UnexpectedAnswer, what).with(|e| e.source = Some(error.into()))
            }
            (status, json) => match reading {
                Err(error) if status < 300 => self.failure(error.into(), answer_timeout),
                _ => refusal(status, &json.unwrap_or_default(), location),
            },
        };
        Err(error.with(|e| {
            e.http_status = Some(status);
            e.request_id = request_id;
            e.retry_after = retry_after;
            let told = [&mut e.code, &mut e.message, &mut e.details];
            told.into_iter().flatten().for_each(|text| *text = secret.mask(text));
            if e.code.is_none() && e.message.is_none() && e.details.is_none() {
                e.message = excerpt(secret, &bytes);
            }
        }))
    }

    /// An error for an answer without what the call cannot do without; it quotes the answer.
    pub fn lacks(&self, what: &str, answer: &Answer) -> Error {
        let all = serde_json::to_string(&answer.json).unwrap_or_default();
        Error::new(ErrorKind::UnexpectedAnswer, what).with(|e| {
            e.http_status = Some(answer.status);
            e.request_id = answer.request_id.clone();
            e.message = excerpt(&self.settings.secret, all.as_bytes());
        })
    }

    /// What ureq reports, as an error of ours.
    fn failure(&self, error: ureq::Error, answer_timeout: Duration) -> Error {
        let Settings { host, connect_timeout, .. } = &self.settings;
        let (kind, what) = match &error {
            ureq::Error::Timeout(Timeout::Global) => (ErrorKind::WaitTimedOut, "the time ran out".into()),
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                (ErrorKind::Timeout, format!("no connection to {host} within {connect_timeout:?}"))
            }
            ureq::Error::Timeout(Timeout::RecvResponse) => {
                (ErrorKind::Timeout, format!("no answer from {host} within {answer_timeout:?}"))
            }
            ureq::Error::Timeout(Timeout::RecvBody) => {
                (ErrorKind::Timeout, format!("{host} did not end its answer in time"))
            }
            ureq::Error::Timeout(_) => (ErrorKind::Timeout, format!("{host} did not read the request in time")),
            ureq::Error::HostNotFound => (ErrorKind::Network, lookup_failed(host)),
            ureq::Error::Io(error) => match error.kind() {
                _ if is_lookup(error) => (ErrorKind::Network, lookup_failed(host)),
                io::ErrorKind::InvalidData => (ErrorKind::Tls, no_tls(host)),
                io::ErrorKind::ConnectionRefused => {
                    (ErrorKind::Network, format!("nothing accepts connections at {host}"))
                }
                _ => (ErrorKind::Network, format!("the connection to {host} failed")),
            },
            ureq::Error::Tls(_) | ureq::Error::TlsRequired => (ErrorKind::Tls, no_tls(host)),
            #[cfg(feature = "rustls")]
            ureq::Error::Rustls(_) | ureq::Error::Pem(_) => (ErrorKind::Tls, no_tls(host)),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyStalled => {
                (ErrorKind::UnexpectedAnswer, format!("the answer from {host} is not valid HTTP"))
            }
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

fn no_tls(host: &str) -> String {
    format!("no trusted TLS connection to {host}")
}

/// The standard library has no kind for a failed look-up, only this text.
fn is_lookup(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

/// The two hosts have come and gone: the error names the other one.
fn lookup_failed(host: &str) -> String {
    let mut what = format!("the host {host} cannot be looked up");
    if DEFAULT_BASE_URL == format!("https://{host}") {
        what += &format!("; the service of 2026 is at {BASE_URL_2026}, which BITHUMAN_API_URL or base_url can name");
    }
    what
}

/// The beginning of an answer nobody knows, masked before it is cut.
fn excerpt(secret: &Secret, bytes: &[u8]) -> Option<String> {
    let text: String = secret.mask(String::from_utf8_lossy(bytes).trim()).chars().take(EXCERPT).collect();
    (!text.is_empty()).then_some(text)
}

/// The one place that reads the service's errors, in every shape seen.
fn refusal(status: u16, json: &Map<String, Value>, location: Option<String>) -> Error {
    let error = json.get("error");
    let find = |name| error.and_then(|error| error.get(name)).or_else(|| json.get(name));
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(String::from);
    let is_code = |word: &String| word.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));

    let word = error.and_then(text);
    let code = find("code").and_then(text).or_else(|| word.clone().filter(is_code));
    let message = find("message").and_then(text).or_else(|| word.filter(|word| Some(word) != code.as_ref()));
    let details = find("details").and_then(|details| match details {
        Value::Null => None,
        Value::String(_) => text(details),
        other => Some(other.to_string()),
    });
    let (kind, what) = kind_of(status, code.as_deref());
    let to = location.map(|location| format!(" to {location}")).unwrap_or_default();
    let what = match status {
        300..=399 => {
            format!("{what}{to}; it is not followed, the secret goes to one host only: is the base URL right?")
        }
        _ => what.into(),
    };
    Error::new(kind, what).with(|e| {
        e.refused = status < 300 || code.is_some();
        e.code = code;
        e.message = message;
        e.details = details;
    })
}

/// A refusal in an answer with a 2xx is told apart by its code alone.
fn kind_of(status: u16, code: Option<&str>) -> (ErrorKind, &'static str) {
    let status = match (status, code) {
        (200..=299, Some("UNAUTHORIZED" | "MISSING_AUTH")) => 401,
        (200..=299, Some("ACCOUNT_SUSPENDED")) => 403,
        (200..=299, Some("INSUFFICIENT_BALANCE")) => 402,
        (200..=299, Some("NOT_FOUND" | "AGENT_NOT_FOUND")) => 404,
        (200..=299, Some("RATE_LIMITED")) => 429,
        (200..=299, Some("INTERNAL_ERROR" | "NO_AVAILABLE_WORKERS" | "MODEL_NOT_YET_AVAILABLE")) => 500,
        _ => status,
    };
    match status {
        401 => (ErrorKind::Unauthorized, "the service refused the API secret"),
        403 => (ErrorKind::Unauthorized, "the service refused the account"),
        402 => (ErrorKind::InsufficientBalance, "the account has too few credits"),
        404 => (ErrorKind::NotFound, "the service has nothing at this address; is the base URL right?"),
        429 => (ErrorKind::RateLimited, "too many requests"),
        408 | 425 | 500.. => (ErrorKind::Service, "the service failed"),
        300..=399 => (ErrorKind::Rejected, "the service redirects"),
        200..=299 | 400..=499 => (ErrorKind::Rejected, "the service refused the request"),
        _ => (ErrorKind::UnexpectedAnswer, "the answer has a status that does not end a request"),
    }
}
