use std::fmt;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Answers that are data keep every word shorter than this, whatever the secret: a short one may
/// be part of any URL or sentence.
const SHORTEST_IN_DATA: usize = 8;

const MASK: &str = "[secret]";

/// The API secret. It leaves this type in one request header and nowhere else.
pub(crate) struct Secret(String);

impl Secret {
    /// Refuses what no header can carry, without showing it.
    pub fn new(secret: String) -> Result<Self> {
        if secret.is_empty() {
            return Err(Error::invalid("the API secret is empty"));
        }
        if secret.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(Error::invalid(
                "the API secret has a space, a line break or another character that no header can carry",
            ));
        }
        Ok(Secret(secret))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Masks the secret in text that ends up in an error.
    pub fn mask(&self, text: &str) -> String {
        text.replace(&self.0, MASK)
    }

    /// Masks the secret in an answer's data. An agent id is left whole: it must not be lost.
    pub fn mask_fields(&self, fields: &mut Map<String, Value>) {
        for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "agent_id") {
            self.mask_value(value);
        }
    }

    fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) if self.0.len() >= SHORTEST_IN_DATA && text.contains(&self.0) => {
                *text = self.mask(text);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(fields) => self.mask_fields(fields),
            _ => {}
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
