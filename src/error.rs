use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::agent::Agent;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble an [`Error`] is, for a `match`.
///
/// Kinds may be added: keep a `_` arm. What an error means for the bill is no matter of its kind alone. Of a
/// generate, or a call that makes one, ask in this order:
///
/// 1. [`outcome_unknown`](Error::outcome_unknown), whatever the kind: perhaps billed. Look into the account
///    before you pay again.
/// 2. `GenerationFailed`: refunded by the service. Its [message](Error::message) may tell why; another try is
///    another generate.
/// 3. With an [agent id](Error::agent_id), any other kind: billed. Mend what the kind says, and go on with
///    [`wait`](crate::Api::wait), not with another generate.
/// 4. None of these: not billed, and the kind says what to do:
///
/// | kind | what to do |
/// |---|---|
/// | `InvalidInput` | mend the argument or setting |
/// | `Unauthorized` | mend the secret; is it for this base URL? |
/// | `InsufficientBalance` | add credits |
/// | `NotFound` | mend the base URL |
/// | `Rejected` | change the request |
/// | `RateLimited` | send it again after [`retry_after`](Error::retry_after) |
/// | `Service`, `Network`, `Timeout`, `UnexpectedAnswer`, `WaitTimedOut` | send it again later |
/// | `ShutDown` | send it again, with a new [`Api`](crate::Api) |
/// | `Tls` | mend the certificates, the clock or the base URL |
/// | `Receipt` | as the error says |
///
/// ```
/// use bithuman::{Api, ErrorKind};
///
/// match Api::new("").map_err(|error| error.kind()) {
///     Err(ErrorKind::InvalidInput) => {} // mend the setting
///     Err(other) => panic!("{other:?}"),
///     Ok(_) => unreachable!(),
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or a setting cannot be used. No whole request was sent.
    InvalidInput,
    /// The service refused the API secret or the account (401, 403).
    Unauthorized,
    /// The account has too few credits (402).
    InsufficientBalance,
    /// The service knows no such agent or address (404).
    NotFound,
    /// The service understood the request and refused it: any other 3xx or 4xx, or
    /// `"success": false`.
    Rejected,
    /// Too many requests (429); see [`Error::retry_after`].
    RateLimited,
    /// The service or a gateway before it failed (5xx, 408, 425).
    Service,
    /// The service could not be reached, or the connection broke.
    Network,
    /// No trusted TLS connection to the service could be made.
    Tls,
    /// A time-out of this client ran out; see [`ApiBuilder`](crate::ApiBuilder).
    Timeout,
    /// An answer that is not what the service documents.
    UnexpectedAnswer,
    /// The service reports that the generation failed; see [`Error::last_seen`].
    GenerationFailed,
    /// [`Wait::timeout`](crate::Wait::timeout) ran out. This is no failure of the agent: if there is
    /// an [agent id](Error::agent_id), the generation goes on.
    WaitTimedOut,
    /// [`Api::shutdown`](crate::Api::shutdown) ended the call.
    ShutDown,
    /// The receipt of [`Api::generate_once`](crate::Api::generate_once) cannot be used, or could not be
    /// updated after paying: then there is an [agent id](Error::agent_id).
    Receipt,
}

/// Why a call failed: one line for people, and the facts behind it for programs.
///
/// `Display` is one line. `{:?}` adds the causes, which [`source`](StdError::source) gives one by
/// one, and `{:#?}` lists every field. None of them shows the API secret, not even where the
/// service's answer repeats it (but for an agent id, which is never changed).
///
/// ```
/// use bithuman::{Api, ErrorKind};
///
/// let error = Api::new("").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// assert_eq!(error.to_string(), "Api: the API secret is empty: get one from imaginex.bithuman.ai");
/// ```
pub struct Error(Box<Context>);

#[derive(Debug)]
pub(crate) struct Context {
    pub kind: ErrorKind,
    /// The public call that failed.
    pub call: &'static str,
    /// What failed, in this crate's words.
    pub what: String,
    pub http_status: Option<u16>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub details: Option<String>,
    pub request_id: Option<String>,
    pub retry_after: Option<Duration>,
    pub attempts: u32,
    pub agent_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub last_seen: Option<Agent>,
    /// The answer is the service's own refusal, not a gateway's.
    pub refused: bool,
    pub outcome_unknown: bool,
    /// Where the key of an outcome that is unknown is kept.
    pub receipt: Option<PathBuf>,
    /// Whether the same call again can bill nothing that is not billed already.
    pub repeat_is_safe: bool,
    /// What to do, where nothing above tells: said last.
    pub advice: Option<&'static str>,
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error(Box::new(Context {
            kind,
            call: "Api",
            what: what.into(),
            http_status: None,
            code: None,
            message: None,
            details: None,
            request_id: None,
            retry_after: None,
            attempts: 0,
            agent_id: None,
            idempotency_key: None,
            last_seen: None,
            refused: false,
            outcome_unknown: false,
            receipt: None,
            repeat_is_safe: true,
            advice: None,
            source: None,
        }))
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, what)
    }

    pub(crate) fn with(mut self, set: impl FnOnce(&mut Context)) -> Self {
        set(&mut self.0);
        self
    }

    /// What kind of trouble this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The HTTP status of the answer, where there was one.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// The service's code, such as `INSUFFICIENT_BALANCE`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The service's own message, or the first 512 characters of an answer that is not the
    /// service's. For a failed generation, the agent's `error_message`.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// What the service adds to its message.
    pub fn details(&self) -> Option<&str> {
        self.0.details.as_deref()
    }

    /// The `X-Request-Id` of the answer, for the service's support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How long the service asks to wait before the next request (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// How many requests the call sent or tried to send, 0 if it ended before the first.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The agent: of a status or a wait the one asked for, of a generate the one the service has named.
    pub fn agent_id(&self) -> Option<&str> {
        self.0.agent_id.as_deref()
    }

    /// The `Idempotency-Key` of the generate: every error of a generate carries it, but for a
    /// caller's key that is refused, and for a receipt that is.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.0.idempotency_key.as_deref()
    }

    /// The last good answer about the agent before the trouble.
    pub fn last_seen(&self) -> Option<&Agent> {
        self.0.last_seen.as_ref()
    }

    /// Whether the service may have taken, and billed, a generate that is not known to it here.
    ///
    /// Where it is `true`, look for the agent in the account before sending the request anew, or
    /// send it with the same [`idempotency_key`](Error::idempotency_key), if the service honours keys
    /// and this one is younger than 23 h.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// Whether this exact call may succeed if made again later, and cannot bill twice.
    ///
    /// `false` for a generate whose outcome is unknown, and for whatever fails after
    /// [`generate_and_wait`](crate::Api::generate_and_wait) has paid, unless the request has a key
    /// of the caller's, or a receipt, and the service honours keys. There, [`wait`](crate::Api::wait) with the
    /// [`agent_id`](Error::agent_id) goes on without paying.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.passes() && self.0.repeat_is_safe
    }
}

impl ErrorKind {
    /// Whether trouble of this kind may be over the next time.
    pub(crate) fn passes(self) -> bool {
        use ErrorKind::{Network, RateLimited, Service, Timeout, UnexpectedAnswer, WaitTimedOut};
        matches!(self, RateLimited | Service | Network | Timeout | UnexpectedAnswer | WaitTimedOut)
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
        write!(f, "{}: ", e.call)?;
        if let Some(id) = &e.agent_id {
            write!(f, "agent {}: ", OneLine(id))?;
        }
        write!(f, "{}", OneLine(&e.what))?;
        match (e.http_status, &e.code) {
            (Some(status), Some(code)) => write!(f, " ({status} {})", OneLine(code))?,
            (Some(status), None) => write!(f, " ({status})")?,
            (None, Some(code)) => write!(f, " ({})", OneLine(code))?,
            (None, None) => {}
        }
        if let Some(message) = &e.message {
            write!(f, ": {}", OneLine(message))?;
        }
        if let Some(details) = &e.details {
            let ended = e.message.as_deref().is_some_and(|m| m.ends_with(['.', '!', '?']));
            write!(f, "{} {}", if ended { "" } else { "." }, OneLine(details))?;
        }
        if let Some(wait) = e.retry_after {
            write!(f, "; the service asks to wait {} s", wait.as_secs_f64())?;
        }
        if e.outcome_unknown {
            let way_out = match (&e.receipt, e.repeat_is_safe) {
                (None, _) => "look for the agent in the account before sending anew",
                (_, true) => "the same call again settles it",
                _ => "look for the agent in the account, or, if no call runs, delete the receipt and pay again",
            };
            write!(f, "; it is not known whether the service took and billed this: {way_out}")?;
            if let (None, Some(key)) = (&e.receipt, &e.idempotency_key) {
                write!(f, ", or send the same again with idempotency key {} where keys are honoured", OneLine(key))?;
            }
        }
        if let Some(advice) = e.advice {
            write!(f, "; {advice}")?;
        }
        if let Some(receipt) = e.receipt.as_ref().filter(|_| e.kind != ErrorKind::Receipt) {
            write!(f, " [receipt {}]", OneLine(&receipt.display().to_string()))?;
        }
        if let Some(id) = &e.request_id {
            write!(f, " [request {}]", OneLine(id))?;
        }
        Ok(())
    }
}

/// A `main` that returns this error prints `{:?}`, so that is the line and its causes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.debug_tuple("Error").field(&self.0).finish();
        }
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {}", OneLine(&error.to_string()))?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Foreign text on one line: what could break it, or forge another on a terminal, is escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let forges = matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || forges {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
