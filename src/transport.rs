use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use ureq::config::Config;
use ureq::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LOCATION, RETRY_AFTER};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, RequestBuilder, SendBody, Timeout};

use crate::body::Body;
use crate::clock::Clock;
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

/// A body longer than this is sent only once the server is willing. One that ignores the question
/// costs the second ureq waits for it.
const EXPECT_ABOVE: u64 = 1024 * 1024;

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
    pub clock: Arc<dyn Clock>,
}

/// The ureq agent, and one exchange over it.
pub(crate) struct Transport {
    agent: Agent,
    settings: Settings,
}

/// The time one exchange may take, besides what the settings say.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// For the head of the answer, once the request is sent.
    pub answer: Duration,
    /// The caller's, on the clock.
    pub deadline: Option<Duration>,
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

    /// Asks once, reads the answer with a bound, and tells what it means.
    pub fn get(&self, path: &str, limits: Limits) -> Result<Answer> {
        let request = self.agent.get(self.url(path));
        let answered = self.limited(request, limits).call();
        self.read(answered.map_err(|error| self.failure(error, limits))?, limits)
    }

    /// Sends once, but for one thing that is sent without its body first; then as [`get`](Self::get).
    ///
    /// A server that refuses a request early, and closes, resets a connection on which a body is
    /// still coming, and its answer is lost. `Expect: 100-continue` saves the answer and the upload.
    /// A server that cannot deal with it gets the request once more without, and one that breaks
    /// off a small upload gets it once more with it: in neither case can it have taken the first.
    pub fn post(&self, path: &str, body: &mut Body, key: &str, limits: Limits) -> Result<Answer> {
        let url = self.url(path);
        let mut expect = body.len() > EXPECT_ABOVE;
        let mut switched = false;
        let answered = loop {
            body.rewind()?;
            let answered = self.upload(&url, body, key, expect, limits);
            let again = match &answered {
                Ok(response) => expect && response.status() == StatusCode::EXPECTATION_FAILED,
                // A `100` that has headers is misread as the end, or waited on for more.
                Err(ureq::Error::Timeout(Timeout::RecvResponse)) if expect => body.sent() == 0,
                Err(error) if expect => body.sent() == 0 && is_break(error),
                Err(error) => !body.handed_over() && is_break(error),
            };
            if switched || !again {
                break answered;
            }
            (expect, switched) = (!expect, true);
        };
        if let Some(reason) = body.broken() {
            return Err(Error::invalid(reason));
        }
        let response = answered.map_err(|error| {
            self.failure(error, limits).with(|e| {
                if body.sent() > 0 && !body.handed_over() {
                    let (sent, len) = (body.sent(), body.len());
                    e.what += &format!(" after {sent} of {len} bytes; the service may be refusing a body this large");
                }
            })
        })?;
        self.read(response, limits)
    }

    fn upload(
        &self,
        url: &str,
        body: &mut Body,
        key: &str,
        expect: bool,
        limits: Limits,
    ) -> std::result::Result<Response<ureq::Body>, ureq::Error> {
        let at_slowest = Duration::from_secs(body.len() / SLOWEST_UPLOAD);
        let request = self.agent.post(url).config();
        // A stale connection of the pool would make this call's outcome unknown.
        let request = request.max_idle_age(Duration::ZERO);
        let request = request.timeout_send_body(Some(at_slowest.saturating_add(self.settings.upload_timeout)));
        let mut request = self
            .limited(request.build(), limits)
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
        format!("{}{path}", self.settings.base_url)
    }

    /// What every request of ours carries.
    fn limited<B>(&self, request: RequestBuilder<B>, limits: Limits) -> RequestBuilder<B> {
        let left = limits.deadline.map(|deadline| deadline.saturating_sub(self.settings.clock.now()));
        let request = request
            .config()
            .timeout_global(left.map(|left| left.min(LONGEST)))
            .timeout_recv_response(Some(limits.answer))
            .timeout_recv_body(Some(limits.answer.min(LONGEST_BODY)));
        request.build().header("api-secret", self.settings.secret.header())
    }

    fn read(&self, mut response: Response<ureq::Body>, limits: Limits) -> Result<Answer> {
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
                Err(error) if status < 300 => self.failure(error.into(), limits),
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
    fn failure(&self, error: ureq::Error, limits: Limits) -> Error {
        let Settings { host, connect_timeout, .. } = &self.settings;
        let (kind, what) = match &error {
            ureq::Error::Timeout(Timeout::Global) => (ErrorKind::WaitTimedOut, "the time ran out".into()),
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
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

/// Whether the connection was there and broke, or ended in something that is not HTTP.
fn is_break(error: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ureq::Error::Protocol(_) => true,
        ureq::Error::Io(error) => {
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        _ => false,
    }
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
