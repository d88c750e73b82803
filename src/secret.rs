//! The API secret, which leaves its type in one request header and nowhere else.

use std::sync::Arc;

use crate::{config::Setting, error::Result, text::describe_char};

/// A shorter secret may be part of any word, and is not masked.
const SHORTEST_MASKED: usize = 8;

const MASK: &str = "[secret]";

#[derive(Clone, Default)]
pub(crate) struct Secret {
    /// First the secret, then as JSON may write it inside a string.
    forms: Arc<[String]>,
}

impl Secret {
    /// Refuses what no header can carry and what cannot be meant, without showing it.
    pub fn new(setting: &Setting) -> Result<Self> {
        let text = setting.checked()?;
        if text.is_empty() {
            return Err(setting.error("is empty: set it to your API secret"));
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
            let what = format!("contains {}, which no secret has", describe_char(c));
            return Err(setting.error(&what));
        }
        let is_in = |start, end| text.starts_with(start) && text.ends_with(end);
        let is_placeholder = is_in("<", ">") || is_in("{{", "}}") || is_in("%", "%");
        if is_placeholder || text.starts_with('$') || text.starts_with("BITHUMAN_API_SECRET=") {
            return Err(setting.error("is not a secret but a placeholder or an assignment"));
        }
        if text.contains("://") || text.starts_with("api-secret:") {
            return Err(setting.error("is not a secret but a URL or a header"));
        }
        if text.ends_with([';', ',']) || text.ends_with("\\n") || text.ends_with("\\r") {
            return Err(setting.error("ends in a separator or an escape: remove it"));
        }
        let quoted = serde_json::to_string(text).unwrap_or_default();
        let escaped = quoted.trim_matches('"');
        // Some JSON writers escape the slash too.
        let forms = [text.into(), escaped.into(), escaped.replace('/', "\\/")].into();
        Ok(Secret { forms })
    }

    /// The secret itself, for the header.
    pub fn expose(&self) -> &str {
        self.forms.first().map(String::as_str).unwrap_or_default()
    }

    /// Replaces the secret in text of the service's that goes into an error.
    pub fn mask(&self, text: &str) -> String {
        if self.expose().len() < SHORTEST_MASKED {
            return text.into();
        }
        let mut masked = unescape(text);
        if !masked.contains(self.expose()) {
            masked = text.into();
        }
        for form in &*self.forms {
            masked = masked.replace(form, MASK);
        }
        masked
    }
}

/// Replaces the escapes of JSON that stand for visible ASCII characters: any may be written so.
fn unescape(text: &str) -> String {
    let mut parts = text.split("\\u00");
    let mut unescaped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).unwrap_or_default();
        if let Ok(byte @ b'!'..=b'~') = u8::from_str_radix(hex, 16) {
            unescaped.push(byte.into());
            unescaped += rest;
        } else {
            unescaped += "\\u00";
            unescaped += part;
        }
    }
    unescaped
}

#[cfg(test)]
#[path = "../tests/unit/secret.rs"]
mod tests;
