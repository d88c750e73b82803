//! An object of the service's, field by field: what is wrong with one field costs no other.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// How much JSON text of undocumented fields is kept. As a tree of values, 1 MiB of JSON can take
/// 300 MB.
pub(crate) const MAX_EXTRA: usize = 64 * 1024;

/// The fields of a JSON object, each still as JSON text.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a str)>,
    /// The object has its end.
    pub is_whole: bool,
}

impl<'a> Fields<'a> {
    /// Text that breaks off, or is not JSON from some point on, gives the fields before that point.
    /// Text that does not begin with an object has none, and what follows the object is not read.
    pub fn parse(text: &'a str) -> Self {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let mut object = Fields::default();
        let mut next = text.strip_prefix('{').map(str::trim_start);
        object.is_whole = next.is_some_and(|rest| rest.starts_with('}'));
        while let Some((name, rest)) = next.and_then(parse_one::<&RawValue>) {
            let Some(name) = decode(name.get()) else {
                break;
            };
            let Some(value) = rest.trim_start().strip_prefix(':').map(str::trim_start) else {
                break;
            };
            let Some((json, rest)) = parse_one::<&RawValue>(value) else {
                // The fields of an object that breaks off can be read too.
                if value.starts_with('{') {
                    object.fields.push((name, value));
                }
                break;
            };
            let (json, rest) = (json.get(), rest.trim_start());
            // A number with nothing behind it may be half of one.
            if json.ends_with(is_digit) && !rest.starts_with([',', '}']) {
                break;
            }
            object.fields.push((name, json));
            object.is_whole = rest.starts_with('}');
            next = rest.strip_prefix(',');
        }
        object
    }

    /// The names and the JSON of the fields. Of a field that comes twice, the last one counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.fields.iter().map(|(name, json)| (&**name, *json))
    }

    /// A field's JSON. Of a field that comes twice, the last one counts.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let (_, json) = self.fields.iter().rfind(|(field, _)| field == name)?;
        Some(json)
    }

    /// Whether the object says that a response is an error, whatever its status.
    pub fn says_failure(&self) -> bool {
        self.get("success") == Some("false")
    }

    /// The fields of a field that is an object.
    pub fn object(&self, name: &str) -> Fields<'a> {
        Fields::parse(self.get(name).unwrap_or_default())
    }

    /// A field that is a text and not empty. One with an escape that stands for no character is
    /// given as it is written.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = decode(self.get(name)?)?;
        (!text.is_empty()).then(|| text.into_owned())
    }

    /// A field as text: what is not a string is given as JSON.
    pub fn any_text(&self, name: &str) -> Option<String> {
        let json = self.get(name)?;
        if is_text_or_null(json) || json.len() > MAX_EXTRA {
            return self.text(name);
        }
        // Written again, so that no escape hides a secret from being masked.
        let value: Value = serde_json::from_str(json).ok()?;
        Some(value.to_string())
    }

    /// A field that is an identifier: a text, or a whole number.
    pub fn id(&self, name: &str) -> Option<String> {
        let json = self.get(name)?;
        match json.chars().all(is_digit) {
            true => Some(json.into()),
            false => self.text(name),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(field, _)| field != name);
    }

    /// Removes a field that is a text or null. One of another type stays.
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        let text = self.text(name);
        if is_text_or_null(self.get(name)?) {
            self.remove(name);
        }
        text
    }

    /// Removes a field that has a type of Rust's. One of another type stays.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = serde_json::from_str(self.get(name)?).ok()?;
        self.remove(name);
        Some(value)
    }

    /// The fields that were not removed, as many as there is room for.
    pub fn extra(self) -> Map<String, Value> {
        let mut extra = Map::new();
        let mut size = 0;
        for (name, json) in self.fields {
            let with_this = size + name.len() + json.len();
            if with_this > MAX_EXTRA {
                continue;
            }
            if let Ok(value) = serde_json::from_str(json) {
                extra.insert(name.into_owned(), value);
                size = with_this;
            }
        }
        extra
    }
}

/// The JSON text of an object that comes from any source of serde's.
pub(crate) fn reread<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let object = Map::<String, Value>::deserialize(deserializer)?;
    serde_json::to_string(&object).map_err(Error::custom)
}

/// An agent id in a text that is not the JSON it should be: the first field of that name.
///
/// Inside a JSON string the quotes of the name would have backslashes, so no message matches.
pub(crate) fn scan_for_agent_id(text: &str) -> Option<String> {
    for (at, name) in text.match_indices("\"agent_id\"") {
        // Here the quote is a part of another field's name.
        if text.get(..at)?.ends_with('\\') {
            continue;
        }
        let rest = text.get(at + name.len()..)?.trim_start();
        let value = rest.strip_prefix(':').unwrap_or_default().trim_start();
        let found = match value.strip_prefix('"') {
            // One with an escape may have its end elsewhere.
            Some(quoted) => quoted.split_once('"').filter(|(id, _)| !id.contains('\\')),
            // A number must have an end, or it may be half of one.
            None => value
                .split_once([',', '}', ']', ' ', '\r', '\n'])
                .filter(|(id, _)| id.chars().all(is_digit)),
        };
        match found {
            None | Some(("", _)) => {}
            Some((id, _)) => return Some(id.into()),
        }
    }
    None
}

/// Whether such a text says somewhere that it is an error.
pub(crate) fn scan_for_failure(text: &str) -> bool {
    text.split("\"success\"").skip(1).any(|rest| {
        let value = rest.trim_start().strip_prefix(':').unwrap_or_default();
        value.trim_start().starts_with("false")
    })
}

/// The JSON value that a text begins with, and the text behind it.
fn parse_one<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, &'a str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}

/// A JSON string, which is copied only where it has escapes.
fn decode(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner.into());
    }
    let text: Option<String> = serde_json::from_str(json).ok();
    Some(text.map_or(inner.into(), Cow::from))
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn is_text_or_null(json: &str) -> bool {
    json.starts_with('"') || json == "null"
}

#[cfg(test)]
#[path = "../tests/unit/json.rs"]
mod tests;
