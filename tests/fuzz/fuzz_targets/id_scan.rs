//! The fields of an object and the id scan, against the plain decoder: an id in whole JSON is
//! found, and a text that breaks off gives what it has of it and never another id.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

#[path = "../../../src/json.rs"]
#[allow(dead_code, reason = "only a part of it is used")]
mod json;

use json::{Fields, scan_for_agent_id};

fuzz_target!(|input: (u16, &str)| {
    let (cut, text) = input;
    check_cut(text, cut);
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) else {
        return;
    };
    check_fields(text, &object);
    // Written by others: every name is once there, and is not spelled with escapes.
    let object = Value::Object(object);
    for text in [
        serde_json::to_string(&object).unwrap(),
        serde_json::to_string_pretty(&object).unwrap(),
    ] {
        assert_eq!(scan_for_agent_id(&text), first_id(&object), "{text}");
        check_cut_of_json(&text, cut);
    }
});

/// A text that breaks off has the same first id, or none.
fn check_cut(text: &str, cut: u16) {
    let whole = scan_for_agent_id(text);
    let part = start(text, cut);
    let scanned = scan_for_agent_id(part);
    assert!(scanned.is_none() || scanned == whole, "{part}");
    Fields::parse(part).read(|_, _| false);
}

/// Each field that is there at all is there as a whole. One that is an object may break off.
fn check_cut_of_json(text: &str, cut: u16) {
    let (whole, part) = (Fields::parse(text), start(text, cut));
    let fields = Fields::parse(part);
    assert_eq!(fields.is_whole, part.len() == text.len());
    let object: Map<String, Value> = serde_json::from_str(text).unwrap();
    for name in object.keys() {
        let (json, found) = (whole.get(name).unwrap(), fields.get(name));
        assert!(found.is_none_or(|it| it == json || it.starts_with('{') && json.starts_with(it)));
    }
    let id = fields.id("agent_id");
    assert!(id.is_none() || id == whole.id("agent_id"), "{part}");
}

/// Every field has the plain decoder's value.
fn check_fields(text: &str, object: &Map<String, Value>) {
    let fields = Fields::parse(text);
    assert!(fields.is_whole);
    for (name, value) in object {
        let json = fields.get(name).unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), *value);
        let text = value.as_str().filter(|text| !text.is_empty());
        assert_eq!(fields.text(name).as_deref(), text);
        let number = value.as_u64().map(|number| number.to_string());
        let id = text.map(String::from).or(number);
        assert!(fields.id(name) == id || is_long_number(json), "{json}");
    }
    assert_eq!(fields.read(|_, _| false), *object);
}

/// Whole, and more than the plain decoder takes for an integer.
fn is_long_number(json: &str) -> bool {
    json.len() > 19 && json.bytes().all(|byte| byte.is_ascii_digit())
}

/// The first field of that name that is an id, as a reader from left to right meets it.
fn first_id(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items.iter().find_map(first_id),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| match value {
            Value::String(id) if name == "agent_id" => is_plain(id).then(|| id.clone()),
            Value::Number(id) if name == "agent_id" => id.is_u64().then(|| id.to_string()),
            _ => first_id(value),
        }),
        _ => None,
    }
}

/// Whether JSON writes a text without escapes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && serde_json::to_string(text).is_ok_and(|json| json.len() == text.len() + 2)
}

/// The first bytes of a text, which end where a character does.
fn start(text: &str, cut: u16) -> &str {
    let mut end = usize::from(cut) % (text.len() + 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
