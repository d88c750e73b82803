use std::str;

use serde_json::{Map, Value};
use ureq::http::HeaderMap;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::retry;
use crate::secret::Secret;

/// What an answer says before its body.
pub(crate) struct Head {
    pub status: u16,
    pub headers: HeaderMap,
}

/// An answer as it came.
pub(crate) struct Received {
    pub head: Head,
    pub body: Vec<u8>,
    /// Why it broke off, where it did.
    pub cut: Option<Error>,
}

/// The answer to a request that the service did not refuse.
pub(crate) struct Answer {
    pub head: Head,
    pub json: Map<String, Value>,
}

impl Received {
    /// Reads the answer that is expected, if that is what came and there is nothing to mask in it.
    pub fn quick<T>(&self, read: impl FnOnce(&str) -> Option<T>, secret: &Secret) -> Option<T> {
        let text = str::from_utf8(&self.body).ok()?;
        // serde takes an array for a struct too.
        let is_object = text.trim_start().starts_with('{');
        let is_plain = is_object && self.head.status == 200 && self.cut.is_none() && !secret.may_be_in(text);
        is_plain.then(|| read(text)).flatten()
    }

    /// Tells what the answer means, and why it broke off, where it did. The status comes first: a body
    /// is a hint.
    pub fn decode(self, base_url: &str, secret: &Secret) -> Result<(Answer, Option<Error>)> {
        let Received { head, body, cut } = self;
        let is_good = (200..300).contains(&head.status);
        // As any value first: serde_json's words about another type would quote it, the secret included.
        let error = match serde_json::from_slice(&body) {
            Ok(Value::Object(mut json)) if is_good && json.get("success") != Some(&Value::Bool(false)) => {
                secret.mask_fields(&mut json);
                let cut = cut.map(|error| error.with(|e| head.describe(e)));
                return Ok((Answer { head, json }, cut));
            }
            Ok(Value::Object(json)) => refusal(&head, &json, base_url),
            json if is_good => cut.unwrap_or_else(|| {
                let what = format!("the answer is not JSON as the service documents it; {}", doubt(base_url));
                Error::new(ErrorKind::UnexpectedAnswer, what).with(|e| e.source = json.err().map(|error| error.into()))
            }),
            _ => refusal(&head, &Map::new(), base_url),
        };
        Err(error.with(|e| {
            head.describe(e);
            if e.code.is_none() && e.message.is_none() && e.details.is_none() {
                e.message = Some(String::from_utf8_lossy(&body).trim().into()).filter(|text: &String| !text.is_empty());
            }
        }))
    }
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the answer is the one to an earlier request with the same key.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// What any error about this answer carries.
    pub fn describe(&self, e: &mut Context) {
        e.http_status = Some(self.status);
        e.request_id = self.header("x-request-id").map(String::from);
        e.retry_after = self.header("retry-after").and_then(retry::parse_retry_after);
    }
}

impl Answer {
    /// An error for an answer without what the call cannot do without; it quotes the answer.
    pub fn lacks(&self, what: &str) -> Error {
        Error::new(ErrorKind::UnexpectedAnswer, what).with(|e| {
            self.head.describe(e);
            e.message = serde_json::to_string(&self.json).ok();
        })
    }
}

/// Where whoever answers does not seem to be the service.
fn doubt(base_url: &str) -> String {
    format!("is the base URL {base_url} right?")
}

/// The one place that reads the service's errors, in every shape seen.
fn refusal(head: &Head, json: &Map<String, Value>, base_url: &str) -> Error {
    let error = json.get("error");
    let find = |name| error.and_then(|error| error.get(name)).or_else(|| json.get(name));
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(String::from);
    // As the service writes its codes. A gateway's are ServiceUnavailable, 503 and the like.
    let is_code = |word: &String| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    };

    let word = error.and_then(text);
    let code = find("code").and_then(text).or_else(|| word.clone().filter(is_code));
    let message = find("message").and_then(text).or_else(|| word.filter(|word| Some(word) != code.as_ref()));
    let details = find("details").and_then(|details| match details {
        Value::Null => None,
        Value::String(_) => text(details),
        other => serde_json::to_string(other).ok(),
    });
    let says_it = [&message, &details].into_iter().flatten().any(|text| text.contains("imaginex"));
    let (kind, what) = kind_of(head.status, code.as_deref());
    let what = match head.status {
        300..=399 => {
            let to = head.header("location").map(|to| format!(" to {to}")).unwrap_or_default();
            format!("{what}{to}; that is not followed, as the secret goes to one host only: {}", doubt(base_url))
        }
        404 => format!("{what}; {}", doubt(base_url)),
        403 if code.is_none() => format!("{what}; {}", doubt(base_url)),
        _ => what.into(),
    };
    Error::new(kind, what).with(|e| {
        // With this code the service does not know either what became of the request.
        let is_known = code.as_deref() != Some("INTERNAL_ERROR");
        e.refused = if head.status < 300 { is_known } else { code.as_ref().is_some_and(is_code) };
        e.advice = match kind {
            // The service says it itself, most of the time.
            ErrorKind::InsufficientBalance if message.is_none() => Some("add credits"),
            ErrorKind::Unauthorized if head.status == 401 && !says_it => {
                Some("is the secret the one from imaginex.bithuman.ai?")
            }
            _ => None,
        };
        (e.code, e.message, e.details) = (code, message, details);
    })
}

/// By the status, or by the code where the status says that all is well.
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
        403 if code.is_some() => (ErrorKind::Unauthorized, "the service refused the account"),
        403 => (ErrorKind::Unauthorized, "access is refused, by the service or by a gateway before it"),
        402 => (ErrorKind::InsufficientBalance, "the account has too few credits"),
        404 => (ErrorKind::NotFound, "the service has nothing at this address"),
        413 => (ErrorKind::Rejected, "the service refused the request as too large: send smaller media"),
        429 => (ErrorKind::RateLimited, "too many requests"),
        408 | 425 | 500.. => (ErrorKind::Service, "the service failed"),
        300..=399 => (ErrorKind::Rejected, "the service redirects"),
        200..=299 | 400..=499 => (ErrorKind::Rejected, "the service refused the request"),
        _ => (ErrorKind::UnexpectedAnswer, "the answer has a status that ends no request"),
    }
}
