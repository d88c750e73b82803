//! An object of the service's, field by field: what is wrong with one field costs no other.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, IgnoredAny};
use serde_json::{Map, Value};

/// How much JSON text of undocumented fields is kept. As a tree of values, 1 MiB of JSON can take
/// 300 MB.
pub(crate) const MAX_EXTRA: usize = 64 * 1024;

/// The fields of a JSON object, each still as JSON text.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    fields: Vec<Field<'a>>,
    /// The object has its end.
    pub is_whole: bool,
}

struct Field<'a> {
    name: Cow<'a, str>,
    json: &'a str,
    /// What is in it, if it is an object and in no other field.
    object: Option<Box<Fields<'a>>>,
}

static NO_FIELDS: Fields = Fields {
    fields: Vec::new(),
    is_whole: false,
};

impl<'a> Fields<'a> {
    /// Text that breaks off, or is not JSON from some point on, gives the fields before that point.
    /// Text that does not begin with an object has none, and what follows the object is not read.
    pub fn parse(text: &'a str) -> Self {
        let text = text.trim_start_matches('\u{feff}').trim_ascii_start();
        Fields::parse_object(text, true).0
    }

    /// The object that a text begins with, and the text behind it.
    fn parse_object(text: &'a str, is_outer: bool) -> (Self, &'a str) {
        let mut object = Fields::default();
        // A record has about 20.
        object.fields.reserve(20);
        let mut next = text.strip_prefix('{').map(str::trim_ascii_start);
        if let Some(behind) = next.and_then(|rest| rest.strip_prefix('}')) {
            object.is_whole = true;
            return (object, behind);
        }
        while let Some((name, value)) = next.and_then(split_name) {
            let Some((field, rest)) = Field::parse(name, value, is_outer) else {
                break;
            };
            let rest = rest.trim_ascii_start();
            // A number with nothing behind it may be half of one.
            let is_number = field.json.ends_with(is_digit) && !field.json.starts_with('{');
            if is_number && !rest.starts_with([',', '}']) {
                break;
            }
            object.fields.push(field);
            if let Some(behind) = rest.strip_prefix('}') {
                object.is_whole = true;
                return (object, behind);
            }
            next = rest.strip_prefix(',').map(str::trim_ascii_start);
        }
        (object, "")
    }

    /// The names and the JSON of the fields. Of a field that comes twice, the last one counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.fields.iter().map(|field| (&*field.name, field.json))
    }

    fn find(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().rfind(|field| field.name == name)
    }

    /// A field's JSON. Of a field that comes twice, the last one counts.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        Some(self.find(name)?.json)
    }

    /// Whether the object says that a response is an error, whatever its status.
    pub fn says_failure(&self) -> bool {
        self.get("success") == Some("false")
    }

    /// The fields of a field that is an object, and in no other field.
    pub fn object(&self, name: &str) -> &Fields<'a> {
        let object = self.find(name).and_then(|field| field.object.as_deref());
        object.unwrap_or(&NO_FIELDS)
    }

    /// A field that is a text and not empty. One with an escape that stands for no character is
    /// given as it is written.
    pub fn text(&self, name: &str) -> Option<String> {
        read_text(self.get(name)?)
    }

    /// A field as text: what is not a string is given as JSON.
    pub fn any_text(&self, name: &str) -> Option<String> {
        let json = self.get(name)?;
        if is_text_or_null(json) || json.len() > MAX_EXTRA {
            return self.text(name);
        }
        // Written again, so that no escape hides a secret from being masked.
        let value: Value = serde_json::from_str(json).ok()?;
        serde_json::to_string(&value).ok()
    }

    /// A field that is an identifier: a text, or a whole number.
    pub fn id(&self, name: &str) -> Option<String> {
        let json = self.get(name)?;
        match json.chars().all(is_digit) {
            true => Some(json.into()),
            false => self.text(name),
        }
    }

    /// Passes every field to a function, and returns those that it does not take, as many as there
    /// is room for.
    pub fn read(&self, mut take: impl FnMut(&str, &str) -> bool) -> Map<String, Value> {
        let mut extra = Map::new();
        let mut size = 0;
        for (name, json) in self.iter() {
            // Of a field that comes twice, the last one counts.
            if take(name, json) || self.get(name) != Some(json) {
                continue;
            }
            let with_this = size + name.len() + json.len();
            if with_this > MAX_EXTRA {
                continue;
            }
            if let Ok(value) = serde_json::from_str(json) {
                extra.insert(name.into(), value);
                size = with_this;
            }
        }
        extra
    }
}

impl<'a> Field<'a> {
    /// The field whose value a text begins with, and the text behind it.
    fn parse(name: Cow<'a, str>, text: &'a str, is_outer: bool) -> Option<(Self, &'a str)> {
        let mut object = None;
        let rest = if text.starts_with('{') && is_outer {
            let (fields, rest) = Fields::parse_object(text, false);
            object = Some(Box::new(fields));
            rest
        } else if let Some(rest) = skip_value(text) {
            rest
        } else if text.starts_with('{') {
            // The fields of an object that breaks off can be read too.
            ""
        } else {
            return None;
        };
        let json = text.get(..text.len() - rest.len())?;
        Some((Field { name, json, object }, rest))
    }
}

/// Sets a text from JSON that is one, or null. Returns `false` for another type.
pub(crate) fn take_text(json: &str, text: &mut Option<String>) -> bool {
    *text = read_text(json);
    is_text_or_null(json)
}

/// Sets a value from JSON of its type, or null. Returns `false` for another type.
pub(crate) fn take<T: DeserializeOwned>(json: &str, value: &mut Option<T>) -> bool {
    let read = serde_json::from_str(json);
    let is_read = read.is_ok();
    *value = read.unwrap_or_default();
    is_read
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

/// The name of the field that a text begins with, and the text of its value.
fn split_name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (name, rest) = match split_plain(text) {
        Some((name, rest)) => (name.into(), rest),
        None => {
            let rest = skip_value(text)?;
            (decode(text.get(..text.len() - rest.len())?)?, rest)
        }
    };
    let value = rest.trim_ascii_start().strip_prefix(':')?;
    Some((name, value.trim_ascii_start()))
}

/// The text behind the JSON value that a text begins with.
fn skip_value(text: &str) -> Option<&str> {
    if let Some((_, rest)) = split_plain(text) {
        return Some(rest);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    text.get(values.byte_offset()..)
}

/// What is in the JSON string that a text begins with, if that has no escapes, and the text behind
/// it. Most names and values are such strings, and a parser costs more.
fn split_plain(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let is_end = |byte| byte == b'"' || byte == b'\\' || byte < b' ';
    let (plain, rest) = text.split_at_checked(text.bytes().position(is_end)?)?;
    Some((plain, rest.strip_prefix('"')?))
}

/// A JSON string as text, if it is not empty.
fn read_text(json: &str) -> Option<String> {
    let text = decode(json)?;
    (!text.is_empty()).then(|| text.into_owned())
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
