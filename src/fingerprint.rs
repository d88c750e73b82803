use std::collections::BTreeMap;

use serde_json::Value;

use crate::body::{Body, Field};
use crate::error::Result;
use crate::media::{Media, Source};

/// What each field says: its kind, and the FNV-1a hash of its content. It tells one request from
/// another by mistake, not by malice: this is no security hash.
///
/// Over the content and not over what goes over the wire, so that a later version of this crate finds
/// the same. Media are read through the files that `body` has open, which are those that are sent.
pub(crate) fn fingerprints<'a>(
    fields: impl Iterator<Item = (&'a str, &'a Field)>,
    body: &mut Body,
) -> Result<BTreeMap<String, String>> {
    let mut contents = body.contents();
    fields
        .map(|(name, field)| {
            let mut hash = Fnv1a::new();
            let kind = match field {
                Field::Json(value) => {
                    hash.json(value);
                    "json"
                }
                Field::Media(Media(Source::Url(url))) => {
                    hash.write(url.as_bytes());
                    "url"
                }
                Field::Media(Media(Source::Base64(text))) => {
                    hash.write(text.as_bytes());
                    "base64"
                }
                Field::Media(Media(Source::Bytes(_) | Source::File(_))) => {
                    contents.next().map_or(Ok(()), |content| content.visit(|chunk| hash.write(chunk)))?;
                    "content"
                }
            };
            Ok((name.into(), format!("{kind} {:032x}", hash.0)))
        })
        .collect()
}

/// FNV-1a with 128 bits.
struct Fnv1a(u128);

impl Fnv1a {
    fn new() -> Self {
        Fnv1a(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }

    /// A value as what it means: neither the order of an object's fields nor the digits of a fraction
    /// count, which serde_json leaves to its features and versions.
    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.write(b"n"),
            Value::Bool(true) => self.write(b"t"),
            Value::Bool(false) => self.write(b"f"),
            Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(whole), _) => self.item(b'i', &whole.to_le_bytes()),
                (None, float) => self.item(b'd', &float.unwrap_or(f64::NAN).to_le_bytes()),
            },
            Value::String(text) => self.item(b's', text.as_bytes()),
            Value::Array(items) => {
                self.item(b'a', &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| self.json(item));
            }
            Value::Object(fields) => {
                self.item(b'o', &(fields.len() as u64).to_le_bytes());
                for (name, value) in fields.iter().collect::<BTreeMap<_, _>>() {
                    self.item(b's', name.as_bytes());
                    self.json(value);
                }
            }
        }
    }

    /// Its length goes first, so that no two values run into the same bytes.
    fn item(&mut self, kind: u8, bytes: &[u8]) {
        self.write(&[kind]);
        self.write(&(bytes.len() as u64).to_le_bytes());
        self.write(bytes);
    }
}

#[cfg(test)]
#[path = "../tests/unit/fingerprint.rs"]
mod tests;
