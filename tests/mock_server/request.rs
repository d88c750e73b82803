//! The checks that a request must pass. All of them are pure functions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::serde_json::{self, Map, Value};

use super::rejection::Rejection;
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

impl Request<'_> {
    /// Returns a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Returns a parameter of the query that is a whole number.
    pub fn number(&self, name: &str) -> Result<Option<usize>, Rejection> {
        let Some(value) = self.parameter(name) else {
            return Ok(None);
        };
        let invalid = |_| Rejection::invalid(format!("{name} is not a number"));
        value.parse().map(Some).map_err(invalid)
    }
}

/// Checks the API secret.
pub fn check_secret(secret: Option<&str>, version: ApiVersion) -> Result<(), Rejection> {
    let code = match (secret, version) {
        (Some(SECRET), _) => return Ok(()),
        (None, ApiVersion::Current) => "MISSING_AUTH",
        _ => "UNAUTHORIZED",
    };
    let details = match version {
        ApiVersion::V2025 => "Please check your API secret from imaginex.bithuman.ai",
        ApiVersion::Current => "Secrets are at www.bithuman.ai/developer/api-keys",
    };
    Err(Rejection::new(401, code, "Invalid API secret", details))
}

/// Returns the fields of a request, or why it has none.
pub fn fields(request: &Request) -> Result<Map<String, Value>, Rejection> {
    let content_type = request.content_type.unwrap_or_default();
    if !content_type.starts_with("application/json") {
        return Err(Rejection::invalid(
            "the content type is not application/json",
        ));
    }
    serde_json::from_slice(request.body).map_err(|error| Rejection::invalid(error.to_string()))
}

/// Returns the fields of a generate request, or why they are not valid.
pub fn generate_fields(request: &Request) -> Result<Map<String, Value>, Rejection> {
    let fields = fields(request)?;
    for name in STRING_FIELDS {
        if fields.get(name).is_some_and(|value| !value.is_string()) {
            return Err(Rejection::invalid(format!("{name} is not a string")));
        }
    }
    for name in MEDIA_FIELDS {
        if fields.get(name).is_some_and(|value| !is_media(value)) {
            return Err(Rejection::invalid(format!(
                "{name} is neither a URL nor base64"
            )));
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

/// Rejects a prompt with the code of an error in brackets, as in `[IMAGE_FACE_UNSUITABLE]`.
pub fn check_marks(prompt: &str) -> Result<(), Rejection> {
    let Some(mark) = mark(prompt) else {
        return Ok(());
    };
    for (status, code) in REQUESTED {
        if code == mark {
            let details = "this error was requested";
            return Err(Rejection::new(status, code, "Rejected", details));
        }
    }
    let codes = REQUESTED.map(|(_, code)| code).join(", ");
    Err(Rejection::invalid(format!(
        "the prompt contains [{mark}], but the errors that can be requested are {codes}"
    )))
}

/// Returns the first text in brackets that looks like the code of an error.
fn mark(prompt: &str) -> Option<&str> {
    let is_of_code = |c: char| c.is_ascii_uppercase() || c == '_';
    for part in prompt.split('[').skip(1) {
        if let Some((mark, _)) = part.split_once(']')
            && !mark.is_empty()
            && mark.chars().all(is_of_code)
        {
            return Some(mark);
        }
    }
    None
}

/// Returns the name of an uploaded file, or why the upload is not valid.
pub fn uploaded_name(fields: &Map<String, Value>) -> Result<String, Rejection> {
    let text = |name| fields.get(name).and_then(Value::as_str);
    if let Some(url) = text("file_url") {
        let details = "the URL leads nowhere";
        return match url.starts_with("http") {
            true => Ok(url.rsplit('/').next().unwrap_or_default().to_owned()),
            false => Err(Rejection::new(400, "DOWNLOAD_FAILED", "Bad URL", details)),
        };
    }
    let (Some(name), Some(data)) = (text("file_name"), fields.get("file_data")) else {
        let details = "file_name or file_data is missing";
        return Err(Rejection::new(400, "MISSING_PARAM", "Bad request", details));
    };
    if !is_media(data) {
        return Err(Rejection::invalid("file_data is not base64"));
    }
    let extension = name.rsplit('.').next().unwrap_or_default();
    let limit = match extension.to_ascii_lowercase().as_str() {
        "svg" => return Err(Rejection::new(415, "UNSUPPORTED_TYPE", "No SVG", name)),
        "mp3" | "wav" | "m4a" => 25_000_000,
        "mp4" | "mov" | "webm" => 100_000_000,
        _ => 10_000_000,
    };
    let size = data.as_str().unwrap_or_default().len() / 4 * 3;
    if size > limit {
        let details = format!("{name} has more than {limit} bytes");
        return Err(Rejection::new(413, "FILE_TOO_LARGE", "Too large", details));
    }
    Ok(name.to_owned())
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

/// The errors of a generate request that a prompt can ask for.
const REQUESTED: [(u16, &str); 6] = [
    (422, "IMAGE_FACE_UNSUITABLE"),
    (422, "MODEL_PREREQUISITE_MISSING"),
    (422, "MODEL_SUBJECT_MISMATCH"),
    (500, "INTERNAL_ERROR"),
    (503, "SERVICE_UNAVAILABLE"),
    (504, "UPSTREAM_TIMEOUT"),
];

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
