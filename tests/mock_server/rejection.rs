//! Why a request is rejected, in each of the shapes in which the service has published its errors.

use bithuman::serde_json::{Value, json};

use super::ApiVersion;

/// The shape of an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// As in the 2025 document.
    V2025,
    /// As on older pages of the documentation.
    Older,
    /// As the current API has it.
    Current,
    /// A gateway's HTML page, which hides the service's own error.
    Gateway,
}

impl From<ApiVersion> for ErrorShape {
    fn from(version: ApiVersion) -> Self {
        match version {
            ApiVersion::V2025 => ErrorShape::V2025,
            ApiVersion::Current => ErrorShape::Current,
        }
    }
}

/// Why a request is rejected.
#[derive(Debug, Clone)]
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

    pub fn invalid(details: impl Into<String>) -> Self {
        Rejection::new(400, "VALIDATION_ERROR", "Bad request", details)
    }

    pub fn not_found(message: &'static str, details: impl Into<String>) -> Self {
        Rejection::new(404, "NOT_FOUND", message, details)
    }

    /// Returns the body of the error response.
    pub fn body(&self, shape: ErrorShape) -> String {
        let (status, code, message) = (self.status, self.code, self.message);
        let details = &self.details;
        let body = match shape {
            ErrorShape::V2025 => json!({"error": message, "code": code, "details": details}),
            ErrorShape::Older => {
                json!({"success": false, "error": code, "message": format!("{message}: {details}")})
            }
            ErrorShape::Current => self.current_body(),
            ErrorShape::Gateway => {
                return format!("<html><head><title>{status}</title></head><body></body></html>");
            }
        };
        body.to_string()
    }

    fn current_body(&self) -> Value {
        let mut error = json!({
            "code": self.code,
            "message": format!("{}: {}", self.message, self.details),
            "httpStatus": self.status,
        });
        match self.status {
            402 => error["topup_url"] = json!("https://mock-server.invalid/topup"),
            403 => error["upgrade_url"] = json!("https://mock-server.invalid/upgrade"),
            _ => {}
        }
        json!({"error": error, "status": "error", "status_code": self.status})
    }
}
