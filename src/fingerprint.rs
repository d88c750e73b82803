//! Fingerprints of a request's fields, to recognize the request in a later run.

use std::collections::BTreeMap;

use serde_json::Value;

/// An FNV-1a hash of 128 bits. It finds mistakes, not malice: this is no security hash.
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    pub fn new() -> Self {
        Fingerprint(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let mixed = self.0 ^ u128::from(*byte);
            self.0 = mixed.wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }

    /// Adds a value by its meaning. The order of an object's fields and the digits of a fraction
    /// do not count, which serde_json leaves to its features and versions, nor do line ends.
    pub fn write_json(&mut self, value: &Value) {
        match value {
            Value::Null => self.write(b"n"),
            Value::Bool(true) => self.write(b"t"),
            Value::Bool(false) => self.write(b"f"),
            Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(whole), _) => self.item(b'i', &whole.to_le_bytes()),
                (None, float) => self.item(b'd', &float.unwrap_or(f64::NAN).to_le_bytes()),
            },
            Value::String(text) => {
                let text = text.replace("\r\n", "\n");
                self.item(b's', text.as_bytes());
            }
            Value::Array(items) => {
                self.item(b'a', &(items.len() as u64).to_le_bytes());
                for item in items {
                    self.write_json(item);
                }
            }
            Value::Object(fields) => {
                self.item(b'o', &(fields.len() as u64).to_le_bytes());
                for (name, value) in fields.iter().collect::<BTreeMap<_, _>>() {
                    self.item(b's', name.as_bytes());
                    self.write_json(value);
                }
            }
        }
    }

    /// Adds a text. How its lines end does not count: git may check it out with other line ends.
    pub fn write_text(&mut self, text: &str) {
        for (number, line) in text.split("\r\n").enumerate() {
            if number > 0 {
                self.write(b"\n");
            }
            self.write(line.as_bytes());
        }
    }

    pub fn finish(self) -> String {
        format!("{:032x}", self.0)
    }

    /// The length goes first, so that no two values run into the same bytes.
    fn item(&mut self, kind: u8, bytes: &[u8]) {
        self.write(&[kind]);
        self.write(&(bytes.len() as u64).to_le_bytes());
        self.write(bytes);
    }
}

#[cfg(test)]
#[path = "../tests/unit/fingerprint.rs"]
mod tests;
