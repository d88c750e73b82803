use std::mem;

use serde_json::{Map, Value};
use ureq::http::HeaderValue;

use crate::error::{Error, Result};

/// Answers that are data keep every word shorter than this, whatever the secret: a short one may
/// be part of any URL or sentence.
const SHORTEST_IN_DATA: usize = 8;

const MASK: &str = "[secret]";

/// The API secret. It leaves this type in one request header and nowhere else.
pub(crate) struct Secret {
    text: String,
    /// As JSON writes it inside a string.
    escaped: String,
    header: HeaderValue,
}

impl Secret {
    /// Refuses what no header can carry, without showing it.
    pub fn new(text: String) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("the API secret is empty"));
        }
        match HeaderValue::from_str(&text) {
            Ok(mut header) if text.bytes().all(|b| b.is_ascii_graphic()) => {
                header.set_sensitive(true);
                let quoted = Value::from(text.as_str()).to_string();
                let escaped = quoted.get(1..quoted.len() - 1).unwrap_or_default().into();
                Ok(Secret { text, escaped, header })
            }
            _ => Err(Error::invalid(
                "the API secret has a space, a line break or another character that no header can carry",
            )),
        }
    }

    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Masks the secret in text that ends up in an error.
    pub fn mask(&self, text: &str) -> String {
        text.replace(&self.text, MASK).replace(&self.escaped, MASK)
    }

    /// Masks the secret in an answer's data. An agent id is left whole: it must not be lost.
    pub fn mask_fields(&self, fields: &mut Map<String, Value>) {
        if fields.keys().any(|name| self.is_in_data(name)) {
            *fields = mem::take(fields).into_iter().map(|(name, value)| (self.mask(&name), value)).collect();
        }
        for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "agent_id") {
            self.mask_value(value);
        }
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
