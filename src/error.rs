//! The error of every call: one line for people, and the facts behind it for programs.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::agent::Agent;
use crate::text::{OneLine, before_url, excerpt, human_time};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of an [`Error`], for a `match`.
///
/// A kind says what went wrong. Whether something was billed is a question of its own: see
/// [`Error::billing`]. Kinds may be added: keep a `_` arm.
///
/// ```
/// use bithuman::{Api, ErrorKind};
///
/// let error = Api::new("").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or a setting cannot be used. No request was sent, or none to its end.
    InvalidInput,
    /// The service rejected the API secret or the account (401, 403).
    ///
    /// It is also the kind of a proxy that rejected its user and password (407).
    Unauthorized,
    /// The account's plan does not allow the request (403). See [`Error::help_url`].
    ///
    /// The code is `PLAN_REQUIRED`, `AGENT_LIMIT_REACHED` or `CONCURRENCY_LIMIT_REACHED`.
    PlanLimit,
    /// The account has too few credits (402). See [`Error::help_url`].
    InsufficientBalance,
    /// The service does not know the agent or the URL (404), or the agent was deleted.
    NotFound,
    /// The service rejected the request: any other 3xx or 4xx, or `"success": false`.
    Rejected,
    /// Too many requests (429). See [`Error::retry_after`].
    RateLimited,
    /// The service, or a gateway in front of it, failed (5xx, 408, 425).
    Service,
    /// The service cannot be reached, or the connection broke.
    Network,
    /// No trusted TLS connection to the service can be made.
    Tls,
    /// A timeout of the client expired. See [`ApiBuilder`](crate::ApiBuilder).
    Timeout,
    /// The response is not what the service documents.
    UnexpectedResponse,
    /// The service reports that the generation failed. See [`Error::message`].
    ///
    /// It is also the kind of a failed model that [`Wait::model`](crate::Wait::model) names.
    GenerationFailed,
    /// [`Wait::timeout`](crate::Wait::timeout) expired.
    ///
    /// The generation continues if the error has an [`agent_id`](Error::agent_id).
    WaitTimedOut,
    /// [`Api::shutdown`](crate::Api::shutdown) ended the call.
    ShutDown,
    /// The receipt of [`Api::generate_once`](crate::Api::generate_once) cannot be used or written.
    Receipt,
    /// The file of [`Api::download`](crate::Api::download) cannot be written.
    File,
}

impl ErrorKind {
    /// Returns whether an error of this kind may be gone at the next attempt.
    pub(crate) fn is_transient(self) -> bool {
        use ErrorKind::{Network, RateLimited, Service, Timeout, UnexpectedResponse, WaitTimedOut};
        matches!(
            self,
            RateLimited | Service | Network | Timeout | UnexpectedResponse | WaitTimedOut
        )
    }
}

/// Whether the agent that a failed call is about was billed: see [`Error::billing`].
///
/// ```no_run
/// use bithuman::{Api, Billing, GenerateRequest, Wait};
///
/// let api = Api::from_env()?;
/// let request = GenerateRequest::new()
///     .prompt("You are a friendly assistant.")
///     .model("essence-2");
/// if let Err(error) = api.generate_and_wait(&request, &Wait::new()) {
///     match error.billing() {
///         Billing::NotBilled | Billing::Refunded => println!("{error}; it cost nothing"),
///         Billing::Billed => println!("call wait again with {:?}", error.agent_id()),
///         Billing::Unknown => println!("{error}"), // says what to check
///     }
/// }
/// # Ok::<(), bithuman::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Billing {
    /// Nothing was billed: the service did not accept a request.
    NotBilled,
    /// The generation failed, and the service refunds it.
    Refunded,
    /// The agent exists and was billed when it was created.
    ///
    /// [`Api::wait`](crate::Api::wait) continues for free.
    Billed,
    /// The service may have accepted and billed the request.
    ///
    /// Check the account before creating another agent.
    Unknown,
}

/// Why a call failed: one line for people, and the facts behind it for programs.
///
/// `Display` is one line. `{:?}`, which a `main` that returns the error prints, adds the causes to
/// that line. Neither shows the API secret: where the service repeats a secret of 8 characters or
/// more, it is masked.
///
/// ```
/// use bithuman::Api;
///
/// let error = Api::new("").unwrap_err();
/// assert_eq!(error.to_string(), "config: secret is empty: set it to your API secret");
/// ```
///
/// What an error knows, for a log of fields:
///
/// ```
/// use bithuman::Error;
///
/// fn log(error: &Error) {
///     eprintln!("{:?}, {:?}: {error}", error.kind(), error.billing());
///     eprintln!("agent {:?}, key {:?}", error.agent_id(), error.idempotency_key());
///     eprintln!("last seen {:?}", error.last_seen().map(|agent| &agent.status));
///     eprintln!("attempts {}, HTTP {:?}", error.attempts(), error.http_status());
///     eprintln!("{:?}: {:?} ({:?})", error.code(), error.message(), error.details());
///     eprintln!("request {:?}, help {:?}", error.request_id(), error.help_url());
/// }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    billing: Billing,
    /// The public call that failed.
    call: &'static str,
    /// What failed, in this crate's words.
    what: String,
    response: Facts,
    attempts: u32,
    agent_id: Option<String>,
    idempotency_key: Option<String>,
    last_seen: Option<Agent>,
    /// The last byte of the request was handed to the connection.
    fully_sent: bool,
    /// The same call again cannot bill anything that is not billed already.
    repeat_is_safe: bool,
    /// What to do.
    advice: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What the service said in the response that an error is about. Texts are masked.
#[derive(Default)]
pub(crate) struct Facts {
    pub http_status: Option<u16>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub details: Option<String>,
    pub help_url: Option<String>,
    pub request_id: Option<String>,
    pub retry_after: Option<Duration>,
}

/// What stands for the call in an error about a setting.
const CONFIG: &str = "config";

/// How an error is made: by named steps, each where its fact is known.
impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            billing: Billing::NotBilled,
            call: "",
            what: what.into(),
            response: Facts::default(),
            attempts: 0,
            agent_id: None,
            idempotency_key: None,
            last_seen: None,
            fully_sent: false,
            repeat_is_safe: true,
            advice: String::new(),
            source: None,
        }))
    }

    /// An argument that cannot be used.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, what)
    }

    /// A setting that cannot be used, whichever call finds out.
    pub(crate) fn config(what: impl Into<String>) -> Self {
        Error::invalid(what).call(CONFIG)
    }

    /// The deadline of the call has passed.
    pub(crate) fn out_of_time() -> Self {
        Error::new(ErrorKind::WaitTimedOut, "the time ran out")
    }

    /// [`Api::shutdown`](crate::Api::shutdown) ended the call.
    pub(crate) fn shut_down() -> Self {
        Error::new(ErrorKind::ShutDown, "shut down")
    }

    pub(crate) fn call(mut self, call: &'static str) -> Self {
        if self.0.call != CONFIG {
            self.0.call = call;
        }
        self
    }

    pub(crate) fn agent(mut self, agent_id: &str) -> Self {
        self.0.agent_id = Some(agent_id.into());
        self
    }

    pub(crate) fn key(mut self, idempotency_key: &str) -> Self {
        self.0.idempotency_key = Some(idempotency_key.into());
        self
    }

    /// Counts the attempts of the call.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub(crate) fn billing_is(mut self, billing: Billing) -> Self {
        self.0.billing = billing;
        self
    }

    /// Whether the service may have the whole request, though no response came.
    pub(crate) fn fully_sent(mut self, fully_sent: bool) -> Self {
        self.0.fully_sent = fully_sent;
        self
    }

    pub(crate) fn was_fully_sent(&self) -> bool {
        self.0.fully_sent
    }

    pub(crate) fn repeat_is_safe(mut self, is_safe: bool) -> Self {
        self.0.repeat_is_safe = is_safe;
        self
    }

    pub(crate) fn seen(mut self, agent: Option<Agent>) -> Self {
        self.0.last_seen = agent;
        self
    }

    /// Adds to what failed.
    pub(crate) fn and(mut self, what: &str) -> Self {
        self.0.what += what;
        self
    }

    /// Says how the last of several tries failed, and keeps that as the cause.
    pub(crate) fn after_try(self, name: &str, last: Option<Error>) -> Self {
        let Some(last) = last else {
            return self;
        };
        let status = last.http_status().map(|status| format!(" ({status})"));
        let status = status.unwrap_or_default();
        self.and(&format!(
            "; the last {name} failed: {}{status}",
            last.what()
        ))
        .caused_by(last)
    }

    /// Names what this is about.
    pub(crate) fn within(mut self, subject: &str) -> Self {
        self.0.what = format!("{subject}: {}", self.0.what);
        self
    }

    /// Names what failed, where the text so far begins with its verb.
    pub(crate) fn subject(mut self, subject: &str) -> Self {
        self.0.what = format!("{subject} {}", self.0.what);
        self
    }

    /// Says what to do.
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = advice.into();
        self
    }

    /// Adds to what to do.
    pub(crate) fn and_advice(mut self, advice: &str) -> Self {
        if !self.0.advice.is_empty() && !advice.is_empty() {
            self.0.advice += "; ";
        }
        self.0.advice += advice;
        self
    }

    /// Says again what failed.
    pub(crate) fn what_is(mut self, what: impl Into<String>) -> Self {
        self.0.what = what.into();
        self
    }

    pub(crate) fn response(mut self, facts: Facts) -> Self {
        self.0.response = facts;
        self
    }

    /// Cuts what the service said before each URL. The page for help is meant to be seen.
    pub(crate) fn without_urls(mut self) -> Self {
        let e = &mut *self.0;
        if e.response.http_status.is_some() || e.kind == ErrorKind::UnexpectedResponse {
            e.what = before_url(&e.what);
        }
        let said = &mut e.response;
        let texts = [
            &mut said.code,
            &mut said.message,
            &mut said.details,
            &mut said.request_id,
        ];
        for text in texts.into_iter().flatten() {
            *text = before_url(text);
        }
        self
    }

    /// What failed, without the rest of the line.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }
}

impl Error {
    /// Returns the category of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the agent that this error is about was billed.
    ///
    /// An error of a call that creates an agent says what became of its request. An error of
    /// [`status`](crate::Api::status), [`wait`](crate::Api::wait), [`watch`](crate::Api::watch) or
    /// [`download`](crate::Api::download) is about an agent that was billed when it was created; those
    /// calls are free. Of an agent that the service does not know, it says `Unknown`. An
    /// [`upload`](crate::Api::upload) is free. An error of [`call`](crate::Api::call) says what became
    /// of that request.
    pub fn billing(&self) -> Billing {
        self.0.billing
    }

    /// Returns whether this exact call may succeed if made again later, and cannot bill twice.
    ///
    /// `false` if the request may have been accepted, unless the caller chose its idempotency key,
    /// the server [honors](crate::ApiBuilder::honors_idempotency_keys) keys, and this one is
    /// younger than 23 h. Where it is `false` and the error has an
    /// [`agent_id`](Error::agent_id), [`Api::wait`](crate::Api::wait) continues for free.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_transient() && self.0.repeat_is_safe
    }

    /// Returns the agent: the one asked for, or the one that the service named.
    pub fn agent_id(&self) -> Option<&str> {
        self.0.agent_id.as_deref()
    }

    /// Returns the `Idempotency-Key` of the generate request.
    ///
    /// Every error about a request that creates an agent has it. An error about the key itself, the
    /// [`Wait`](crate::Wait) or the file of a receipt may have none.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.0.idempotency_key.as_deref()
    }

    /// Returns the last good status of the agent before the error.
    pub fn last_seen(&self) -> Option<&Agent> {
        self.0.last_seen.as_ref()
    }

    /// Returns the HTTP status of the response, if there was one.
    pub fn http_status(&self) -> Option<u16> {
        self.0.response.http_status
    }

    /// Returns the service's error code, such as `INSUFFICIENT_BALANCE`.
    pub fn code(&self) -> Option<&str> {
        self.0.response.code.as_deref()
    }

    /// Returns the service's message.
    ///
    /// For a failed generation, it is the agent's `error_message`. For a response that is not the
    /// service's, it is the first 512 characters.
    pub fn message(&self) -> Option<&str> {
        self.0.response.message.as_deref()
    }

    /// Returns what the service adds to its message.
    ///
    /// That is its reason, such as `DEVICE_BUILD_PENDING`, its details, or the amounts of a 402.
    pub fn details(&self) -> Option<&str> {
        self.0.response.details.as_deref()
    }

    /// Returns the page that the service names for a larger plan or more credits.
    pub fn help_url(&self) -> Option<&str> {
        self.0.response.help_url.as_deref()
    }

    /// Returns the `X-Request-Id` of the response, for the service's support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.response.request_id.as_deref()
    }

    /// Returns how long the service asks to wait before the next request.
    ///
    /// That is its `Retry-After` in seconds. A date there is ignored.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.response.retry_after
    }

    /// Returns how many times the call tried to send its request, or polled.
    ///
    /// It is 0 if the call failed before that.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        let said = &e.response;
        let id = e.agent_id.as_deref().map(excerpt);
        let status = match (said.http_status, &said.code) {
            (Some(status), Some(code)) => Some(format!("{status} {code}")),
            (Some(status), None) => Some(status.to_string()),
            (None, code) => code.clone(),
        };
        let wait = said.retry_after.map(human_time);
        let advice = Some(&*e.advice).filter(|advice| !advice.is_empty());
        let parts = [
            ("agent ", id, ": "),
            ("", Some(&*e.what), ""),
            (" (", status.as_deref(), ")"),
            (": ", said.message.as_deref(), ""),
            (" (", said.details.as_deref(), ")"),
            ("; the service asks to wait ", wait.as_deref(), ""),
            ("; see ", said.help_url.as_deref(), ""),
            ("; ", advice, ""),
            (" [request ", said.request_id.as_deref(), "]"),
        ];
        write!(f, "{}: ", e.call)?;
        for (before, text, after) in parts {
            if let Some(text) = text {
                write!(f, "{before}{}{after}", OneLine(text))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, " [cause: {}]", OneLine(&error.to_string()))?;
            cause = error.source();
        }
        Ok(())
    }
}
