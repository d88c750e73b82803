//! A response: its status first, then its JSON. An error in any shape becomes one `Error`.

use std::sync::Arc;

use ureq::http::HeaderMap;

use super::base_url::{hint, secret_hint};
use crate::acceptance::{leaves_outcome_open, says_nothing_changed};
use crate::error::{Error, ErrorKind, Facts};
use crate::text::{excerpt, page_title};
use crate::{json::Fields, retry, secret::Secret};

pub(crate) struct Response {
    pub status: u16,
    pub(super) headers: HeaderMap,
    pub body: String,
    /// The body is longer than what is read of it.
    pub is_too_long: bool,
    /// Why the body broke off, if it did.
    pub(super) broken: Option<Error>,
    pub(super) base_url: Arc<str>,
    pub(super) secret: Secret,
}

impl Response {
    pub fn is_success(&self) -> bool {
        (200..=299).contains(&self.status)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The service's own time. One that came with `Age` is a cache's.
    pub fn date(&self) -> Option<&str> {
        let date = self.header("date");
        date.filter(|_| self.header("age").is_none())
    }

    /// Whether the body came to its end. Without a length, only JSON says where that is.
    pub fn is_whole(&self) -> bool {
        let has = |name| self.headers.contains_key(name);
        let has_length = has("content-length") || has("transfer-encoding");
        let has_no_body = self.status == 204;
        self.broken.is_none() && (has_length || has_no_body || self.fields().is_whole)
    }

    /// Whether the body has ended and is blank, as that of a 204.
    pub fn is_empty(&self) -> bool {
        self.broken.is_none() && self.body.trim().is_empty()
    }

    /// The fields of the body, if it is a JSON object, whatever comes after the object's start.
    pub fn fields(&self) -> Fields<'_> {
        Fields::parse(&self.body)
    }

    /// The service's error code.
    pub fn code(&self) -> Option<String> {
        self.facts().code
    }

    /// The error that this response is.
    pub fn error(&self) -> Error {
        let facts = self.facts();
        let (kind, what) = classify(self.status, facts.code.as_deref());
        let advice = match (self.status, kind) {
            (300..=399, _) => hint(&self.base_url),
            (403 | 404, _) if facts.code.is_none() && !self.fields().is_whole => {
                hint(&self.base_url)
            }
            (401, _) => secret_hint(&self.base_url),
            (_, ErrorKind::InsufficientBalance) => "add credits".into(),
            (413, _) => "use smaller media files, or Media::url".into(),
            _ => String::new(),
        };
        let mut error = Error::new(kind, what).advice(advice);
        if (300..=399).contains(&self.status) {
            let to = self.quote(self.header("location").unwrap_or("nowhere"));
            error = error.and(&format!(" {to}, which is not followed"));
        }
        error.response(facts)
    }

    /// The error for a response without what the call needs. It quotes the body, or says why that
    /// broke off.
    pub fn missing(mut self, what: &str) -> Error {
        let mut facts = self.facts();
        if let Some(error) = self.broken.take() {
            facts.message = None;
            return error.response(facts);
        }
        facts.message = Some(self.quote(&self.body)).filter(|text| !text.is_empty());
        // A whole response that makes no sense makes none the next time.
        Error::new(ErrorKind::UnexpectedResponse, what)
            .repeat_is_safe(!self.is_whole())
            .advice(hint(&self.base_url))
            .response(facts)
    }

    /// The error for a response without what the call needs, but perhaps with a credential: it is not
    /// quoted.
    pub fn unquoted(&self, what: &str) -> Error {
        let facts = Facts {
            http_status: Some(self.status),
            ..Facts::default()
        };
        Error::new(ErrorKind::UnexpectedResponse, what)
            .advice(hint(&self.base_url))
            .response(facts)
    }

    /// The service's text for an error: masked before it is cut, or part of a secret could stay.
    pub fn quote(&self, text: &str) -> String {
        excerpt(&self.secret.mask(page_title(text))).to_owned()
    }

    /// What an error about this response says. The body's four shapes are those of CONTRACT.md.
    fn facts(&self) -> Facts {
        let fields = self.fields();
        let error = fields.object("error");
        let find = |name: &str| error.text(name).or(fields.text(name));
        let any = |name: &str| error.any_text(name).or(fields.any_text(name));
        // Some errors are one word, which is a code or else a message.
        let word = fields.text("error");
        let code = find("code").or(word.clone().filter(|word| is_code(word)));
        let mut message = find("message").or(word.filter(|word| code.as_ref() != Some(word)));
        let mut details = any("details").or(any("detail"));
        // The reason is more precise than the code, and never decides what was billed.
        if let Some(reason) = any("reason") {
            details = Some(match details {
                Some(details) => format!("{reason}: {details}"),
                None => reason,
            });
        }
        if code.is_none() && message.is_none() && details.is_none() {
            message = Some(self.body.clone());
        } else if self.status == 402 {
            let amounts = amounts(error).or(amounts(&fields));
            let parts = [details, amounts].into_iter().flatten();
            details = Some(parts.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty());
        }
        let shown = |text: Option<String>| {
            let text = text.map(|text| self.quote(&text));
            text.filter(|text| !text.is_empty())
        };
        let wait = self.header("retry-after");
        Facts {
            http_status: Some(self.status),
            code: shown(code),
            message: shown(message),
            details: shown(details),
            help_url: shown(find("upgrade_url").or(find("topup_url"))),
            request_id: shown(self.header("x-request-id").map(String::from)),
            retry_after: wait.and_then(retry::parse_retry_after),
        }
    }
}

/// What a 402 says is needed, and what is there. The service does not document the names: every
/// number counts that is not a status.
fn amounts(fields: &Fields) -> Option<String> {
    let mut amounts = Vec::new();
    for (name, value) in fields.iter() {
        let is_number = value.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if is_number && !name.to_ascii_lowercase().contains("status") {
            amounts.push(format!("{name} {value}"));
        }
    }
    Some(amounts.join(", ")).filter(|amounts| !amounts.is_empty())
}

/// Whether a word is written as the service writes its codes.
fn is_code(word: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    word.starts_with(|c: char| c.is_ascii_uppercase()) && word.bytes().all(is_allowed)
}

/// What a status means, or the code where the status claims success.
fn classify(status: u16, code: Option<&str>) -> (ErrorKind, &'static str) {
    use ErrorKind::{InsufficientBalance, NotFound, PlanLimit, RateLimited, Rejected};
    use ErrorKind::{Service, Unauthorized, UnexpectedResponse};
    let status = match (status, code) {
        (200..=299, Some("UNAUTHORIZED" | "MISSING_AUTH")) => 401,
        (200..=299, Some("ACCOUNT_SUSPENDED" | "FORBIDDEN")) => 403,
        (200..=299, Some("INSUFFICIENT_BALANCE")) => 402,
        (200..=299, Some("NOT_FOUND" | "AGENT_NOT_FOUND")) => 404,
        (200..=299, Some("AGENT_DELETED" | "AGENT_PURGED")) => 410,
        (200..=299, Some("RATE_LIMITED")) => 429,
        (200..=299, Some(code)) if is_service_failure(code) => 500,
        _ => status,
    };
    match (status, code) {
        (200..=299 | 403, Some(code)) if is_plan_limit(code) => {
            (PlanLimit, "the plan does not allow this")
        }
        (410, Some("AGENT_DELETED" | "AGENT_PURGED")) => (NotFound, "the agent was deleted"),
        (401, _) => (Unauthorized, "the service rejected the API secret"),
        (403, Some(_)) => (Unauthorized, "the service rejected the account"),
        (403, None) => (Unauthorized, "access denied, perhaps by a gateway"),
        (402, _) => (InsufficientBalance, "the account has too few credits"),
        (404, _) => (NotFound, "not found"),
        (413, _) => (Rejected, "the request is too large"),
        (429, _) => (RateLimited, "too many requests"),
        (408 | 425 | 500.., _) => (Service, "the service failed"),
        (300..=399, _) => (Rejected, "the server redirects to"),
        (200..=499, _) => (Rejected, "the service rejected the request"),
        _ => (UnexpectedResponse, "the response has an unknown status"),
    }
}

/// The codes that the service publishes for a 500, 502, 503 or 504.
fn is_service_failure(code: &str) -> bool {
    leaves_outcome_open(code) || says_nothing_changed(code)
}

fn is_plan_limit(code: &str) -> bool {
    matches!(
        code,
        "PLAN_REQUIRED" | "AGENT_LIMIT_REACHED" | "CONCURRENCY_LIMIT_REACHED"
    )
}

#[cfg(test)]
#[path = "../../tests/unit/response.rs"]
mod tests;
