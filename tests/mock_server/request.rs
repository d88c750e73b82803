//! The checks that a request must pass. All of them are pure functions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::serde_json::{self, Map, Value, json};

use super::{ApiVersion, SECRET};

/// What the service reads of an HTTP request.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: String,
    pub query: String,
    pub secret: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub idempotency_key: Option<&'a str>,
    pub body: &'a [u8],
}

/// Why a request is rejected.
pub struct Rejection {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
    pub details: String,
    /// When to retry, in seconds.
    pub retry_after: Option<u64>,
}

impl Rejection {
    pub fn new(
        status: u16,
        code: &'static str,
        message: &'static str,
        details: impl Into<String>,
    ) -> Self {
        Rejection {
            status,
            code,
            message,
            details: details.into(),
            retry_after: None,
        }
    }

    /// Returns the body of the error response.
    pub fn body(&self, version: ApiVersion) -> Value {
        let Rejection {
            status,
            code,
            message,
            details,
            ..
        } = self;
        match version {
            ApiVersion::V2025 => json!({"error": message, "code": code, "details": details}),
            ApiVersion::Current => json!({
                "error": {
                    "code": code,
                    "message": format!("{message}: {details}"),
                    "httpStatus": status,
                },
                "status": "error",
                "status_code": status,
            }),
        }
    }
}

/// Checks the API secret.
pub fn check_secret(secret: Option<&str>, version: ApiVersion) -> Result<(), Rejection> {
    let code = match (secret, version) {
        (Some(SECRET), _) => return Ok(()),
        (None, ApiVersion::Current) => "MISSING_AUTH",
        _ => "UNAUTHORIZED",
    };
    let details = "Please check your API secret from imaginex.bithuman.ai";
    Err(Rejection::new(401, code, "Invalid API secret", details))
}

/// Returns the fields of a generate request, or why they are not valid.
pub fn generate_fields(request: &Request) -> Result<Map<String, Value>, Rejection> {
    let content_type = request.content_type.unwrap_or_default();
    if !content_type.starts_with("application/json") {
        return Err(invalid("the content type is not application/json"));
    }
    let fields: Map<String, Value> =
        serde_json::from_slice(request.body).map_err(|error| invalid(error.to_string()))?;
    for name in STRING_FIELDS {
        if fields.get(name).is_some_and(|value| !value.is_string()) {
            return Err(invalid(format!("{name} is not a string")));
        }
    }
    for name in MEDIA_FIELDS {
        if fields.get(name).is_some_and(|value| !is_media(value)) {
            return Err(invalid(format!("{name} is neither a URL nor base64")));
        }
    }
    Ok(fields)
}

/// Returns a parameter of the query.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Some(pairs.find(|(key, _)| *key == name)?.1)
}

/// Checks that a generate request to the current API has no video.
pub fn check_video(fields: &Map<String, Value>, version: ApiVersion) -> Result<(), Rejection> {
    if version == ApiVersion::V2025 || !fields.contains_key("video") {
        return Ok(());
    }
    Err(Rejection::new(
        400,
        "VIDEO_INPUT_NOT_SUPPORTED",
        "Video is not supported",
        "send an image instead; nothing was billed",
    ))
}

/// Decodes the percent-encoded bytes of a path segment.
pub fn percent_decode(segment: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()) * 16 + hex_digit(bytes.next()),
            _ => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

const MEDIA_FIELDS: [&str; 3] = ["image", "video", "audio"];
const STRING_FIELDS: [&str; 6] = [
    "prompt",
    "model",
    "version",
    "aspect_ratio",
    "framing",
    "agent_id",
];

/// Returns the value of a hexadecimal digit, or 0 if it is not one.
fn hex_digit(byte: Option<u8>) -> u8 {
    let digit = byte.and_then(|byte| char::from(byte).to_digit(16));
    digit.unwrap_or_default() as u8
}

fn invalid(details: impl Into<String>) -> Rejection {
    Rejection::new(400, "VALIDATION_ERROR", "Bad request", details)
}

/// Whether a field is a URL, a base64 `data:` URL or base64.
fn is_media(value: &Value) -> bool {
    let Some(text) = value.as_str() else {
        return false;
    };
    if text.starts_with("http://") || text.starts_with("https://") {
        return true;
    }
    let base64 = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").map(|(_, base64)| base64),
        None => Some(text),
    };
    base64.is_some_and(|base64| !base64.is_empty() && STANDARD.decode(base64).is_ok())
}
