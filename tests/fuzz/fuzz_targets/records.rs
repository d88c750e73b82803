//! `Agent` and `Generation` from JSON text: what the plain decoder finds is in them, nothing else
//! is, and what was read stays the same when it is written and read again.

#![no_main]

use std::fmt::Debug;

use bithuman::{Agent, Generation, Status};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

type Object = Map<String, Value>;

fuzz_target!(|text: &str| {
    let plain: Object = serde_json::from_str(text).unwrap_or_default();
    let written = serde_json::to_string(&plain).unwrap();
    if serde_json::from_str::<Object>(&written).unwrap() != plain {
        // serde_json does not read a fraction of many digits exactly.
        return;
    }
    let has_id = is_id(plain.get("agent_id"));
    let has_code = is_id(plain.get("code"));
    let agent = read::<Agent>(text, &plain);
    let has_status = is_text(plain.get("status"));
    assert_eq!(agent.is_some(), (has_id || has_code) && has_status);
    let generation = read::<Generation>(text, &plain);
    let has_key = is_text(plain.get("idempotency_key"));
    assert_eq!(generation.is_some(), has_id && has_key);
});

fn read<T>(text: &str, plain: &Object) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let record: T = serde_json::from_str(text).ok()?;
    let written = serde_json::to_string(&record).unwrap();
    let again: T = serde_json::from_str(&written).unwrap();
    assert_eq!(again, record);
    let fields: Object = serde_json::from_str(&written).unwrap();
    for (name, value) in plain {
        let kept = fields.get(name).unwrap_or(&Value::Null);
        assert!(is_kept(name, value, kept), "{name}: {value} became {kept}");
    }
    for name in fields.keys() {
        let is_ours = ["agent_id", "replayed"].contains(&&**name);
        assert!(plain.contains_key(name) || is_ours, "{name}");
    }
    Some(record)
}

fn is_kept(name: &str, value: &Value, kept: &Value) -> bool {
    match (name, value, kept) {
        // An id that is a number becomes a text, and a number becomes a fraction.
        ("agent_id", Value::Number(number), Value::String(id)) => number.to_string() == *id,
        // Some records have the id as `code`.
        ("agent_id", _, Value::String(_)) if !is_id(Some(value)) => true,
        ("progress", Value::Number(_), Value::Number(_)) => value.as_f64() == kept.as_f64(),
        ("status", Value::String(word), Value::String(kept)) => {
            Status::from(word.clone()).as_str() == kept
        }
        // What says nothing, or only how a response went, may be left out.
        ("replayed", _, Value::Bool(kept)) => *kept == (*value == Value::Bool(true)),
        ("success", _, Value::Null) => true,
        ("model_status", Value::Object(models), Value::Null) => models.is_empty(),
        ("model_status", Value::Object(models), Value::Object(kept)) => {
            models.keys().eq(kept.keys())
                && models
                    .iter()
                    .all(|(name, model)| has_state(model, &kept[name]))
        }
        (_, Value::String(text), Value::Null) => text.is_empty(),
        _ => value == kept,
    }
}

/// In an agent, the word of a model alone becomes its state.
fn has_state(model: &Value, kept: &Value) -> bool {
    let state = kept["state"].as_str().unwrap_or_default();
    model == kept || model.as_str().is_none_or(|word| word == state)
}

fn is_text(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_str)
        .is_some_and(|text| !text.is_empty())
}

fn is_id(value: Option<&Value>) -> bool {
    is_text(value) || value.is_some_and(Value::is_u64)
}
