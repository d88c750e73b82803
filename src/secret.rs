use std::mem;

use serde_json::{Map, Value};
use ureq::http::HeaderValue;

use crate::error::{Context, Error, Result};

/// Answers that are data keep every word shorter than this, whatever the secret: a short one may
/// be part of any URL or sentence.
const SHORTEST_IN_DATA: usize = 8;

const MASK: &str = "[secret]";

/// How much of the service's text an error keeps, in characters.
const EXCERPT: usize = 512;

/// The API secret. It leaves this type in one request header and nowhere else.
pub(crate) struct Secret {
    text: String,
    /// As JSON may write it inside a string, where that differs.
    escaped: Vec<String>,
    header: HeaderValue,
}

impl Secret {
    /// Refuses what no header can carry, without showing it.
    pub fn new(text: String) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("the API secret is empty: get one from imaginex.bithuman.ai"));
        }
        match HeaderValue::from_str(&text) {
            Ok(mut header) if text.bytes().all(|b| b.is_ascii_graphic()) => {
                header.set_sensitive(true);
                let quoted = serde_json::to_string(&text).unwrap_or_default();
                let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
                // Some writers escape the slash too.
                let mut escaped = vec![inner.replace('/', "\\/"), inner.into()];
                escaped.retain(|escaped| *escaped != text);
                Ok(Secret { text, escaped, header })
            }
            _ => Err(Error::invalid(
                "the API secret has a space, a line break or another character that no header can carry: trim it",
            )),
        }
    }

    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Masks the secret in the service's part of an error, and cuts what is longer than of use: in this
    /// order, or a part of the secret could stay.
    pub fn mask_error(&self, e: &mut Context) {
        let texts = [&mut e.code, &mut e.message, &mut e.details, &mut e.request_id];
        for text in texts.into_iter().flatten().chain([&mut e.what]) {
            *text = self.mask(text);
            if let Some((end, _)) = text.char_indices().nth(EXCERPT) {
                text.truncate(end);
            }
        }
    }

    fn mask(&self, text: &str) -> String {
        let masked = text.replace(&self.text, MASK);
        self.escaped.iter().fold(masked, |masked, escaped| masked.replace(escaped, MASK))
    }

    /// Masks the secret in an answer's data. An agent id is left whole: it must not be lost.
    pub fn mask_fields(&self, fields: &mut Map<String, Value>) {
        if fields.keys().any(|name| self.is_in_data(name)) {
            for (name, value) in mem::take(fields) {
                fields.insert(self.mask(&name), value);
            }
        }
        for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "agent_id") {
            self.mask_value(value);
        }
    }

    /// Whether JSON that is data has the secret in it, or escapes that may hide a character of it: those
    /// of visible ASCII.
    pub fn may_be_in(&self, json: &str) -> bool {
        // The standard library looks for up to 32 bytes with vector instructions, but not for where.
        let start = self.text.get(..32).unwrap_or(&self.text);
        let by_number = |(at, _)| matches!(json.as_bytes().get(at + 4), Some(b'2'..=b'7'));
        let by_backslash = [('"', "\\\""), ('\\', "\\\\"), ('/', "\\/")];
        let by_backslash = by_backslash.iter().filter(|(plain, _)| self.text.contains(*plain));
        self.text.len() >= SHORTEST_IN_DATA
            && (json.contains(start)
                || json.contains("\\u00") && json.match_indices("\\u00").any(by_number)
                || by_backslash.into_iter().any(|(_, escape)| json.contains(escape)))
    }

    fn is_in_data(&self, text: &str) -> bool {
        self.text.len() >= SHORTEST_IN_DATA && text.contains(&self.text)
    }

    fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) if self.is_in_data(text) => *text = self.mask(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(fields) => self.mask_fields(fields),
            _ => {}
        }
    }
}
