//! What comes back when all is well, field by field.

use bithuman::serde_json::{self, Map, Value, json};
use bithuman::{Agent, ErrorKind, GenerateRequest, Generation, Status};

use crate::support::{Answer, ID, Service, agent, started, status};

fn status_of(answer: Answer) -> bithuman::Result<Agent> {
    Service::new([answer]).api().status(ID)
}

fn generation_of(answer: Answer) -> bithuman::Result<Generation> {
    Service::new([answer]).api().generate(&GenerateRequest::new().idempotency_key("the-key"))
}

fn extra(fields: Value) -> Map<String, Value> {
    fields.as_object().unwrap().clone()
}

/// An answer with everything the two documents name, and more.
fn full() -> Value {
    json!({
        "agent_id": ID, "event_type": "lip_created", "status": "generating", "error_message": "e",
        "created_at": "2026-08-01T13:58:51.907177+00:00", "updated_at": "2026-08-01T09:59:15Z",
        "system_prompt": "p", "image_url": "https://e/i", "video_url": "https://e/v", "name": "n",
        "model_url": "https://e/m", "progress": 0.25, "progress_msg": "pm", "current_step": "lip_sync",
        "supported_models": ["essence-2", "expression-2"], "voice_id": "v", "description": "d",
        "credits": 250, "nested": {"a": [1, null, {"b": "c"}]}, "nothing": null,
    })
}

#[test]
fn every_field_of_an_agent_is_read() {
    let agent = status_of(agent(full())).unwrap();
    assert_eq!(agent.agent_id, ID);
    assert_eq!(agent.status, Status::Generating);
    let texts = [
        (&agent.event_type, "lip_created"),
        (&agent.error_message, "e"),
        (&agent.created_at, "2026-08-01T13:58:51.907177+00:00"),
        (&agent.updated_at, "2026-08-01T09:59:15Z"),
        (&agent.system_prompt, "p"),
        (&agent.image_url, "https://e/i"),
        (&agent.video_url, "https://e/v"),
        (&agent.name, "n"),
        (&agent.model_url, "https://e/m"),
        (&agent.progress_msg, "pm"),
        (&agent.current_step, "lip_sync"),
        (&agent.voice_id, "v"),
        (&agent.description, "d"),
    ];
    for (field, text) in texts {
        assert_eq!(field.as_deref(), Some(text));
    }
    assert_eq!(agent.progress, Some(0.25));
    assert_eq!(agent.supported_models, Some(vec!["essence-2".to_owned(), "expression-2".into()]));
    assert_eq!(agent.extra, extra(json!({"credits": 250, "nested": {"a": [1, null, {"b": "c"}]}, "nothing": null})));
}

#[test]
fn null_missing_and_wrong_typed_fields_are_absent_and_nothing_is_lost() {
    let all = full();
    for (name, good) in all.as_object().unwrap() {
        if ["agent_id", "status", "credits", "nested", "nothing"].contains(&name.as_str()) {
            continue;
        }
        // Serialized, an absent field is not there.
        let seen = |value: Value| {
            let agent = status_of(agent(json!({"status": "processing", name: value}))).unwrap();
            let mut known = agent.clone();
            known.extra.clear();
            (serde_json::to_value(known).unwrap().get(name).cloned(), agent.extra)
        };
        assert_eq!(seen(good.clone()), (Some(good.clone()), Map::new()), "{name}");
        assert_eq!(seen(Value::Null), (None, Map::new()), "{name}");
        let wrong = [json!(true), json!({"a": 1}), json!([1, 2]), json!("half"), json!(7), json!(["x", 1])];
        let is_documented =
            |value: &Value| if good.is_number() { value.is_number() } else { good.is_string() && value.is_string() };
        for value in wrong.into_iter().filter(|value| !is_documented(value)) {
            assert_eq!(seen(value.clone()), (None, extra(json!({ name: value }))), "{name}");
        }
    }
    let bare = status_of(status("processing")).unwrap();
    assert_eq!(serde_json::to_value(&bare).unwrap(), json!({"agent_id": ID, "status": "processing"}));
}

#[test]
fn progress_may_be_a_whole_number() {
    for (progress, read) in [(json!(0), 0.0), (json!(1), 1.0), (json!(0.05), 0.05), (json!(1.0), 1.0)] {
        let agent = status_of(agent(json!({"status": "success", "progress": progress}))).unwrap();
        assert_eq!(agent.progress, Some(read));
        assert_eq!(agent.is_ready(), read == 1.0);
    }
}

#[test]
fn of_a_field_that_comes_twice_the_last_one_counts() {
    let rows = [
        (r#""name": "x", "name": 5"#, json!({"extra": {"name": 5}})),
        (r#""name": 5, "name": "x""#, json!({"name": "x"})),
        (r#""name": "x", "name": null"#, json!({})),
        (r#""progress": 0.5, "progress": null"#, json!({})),
        (r#""progress": 0.5, "progress": "half""#, json!({"extra": {"progress": "half"}})),
        (r#""supported_models": ["a"], "supported_models": [1]"#, json!({"extra": {"supported_models": [1]}})),
        (r#""other": 1, "other": 2"#, json!({"extra": {"other": 2}})),
    ];
    // The second is not read straight from the text: it has what may be a part of the secret.
    for start in ["", r#""description": "\u0041","#] {
        for (fields, expected) in &rows {
            let body = format!(r#"{{"data": {{"agent_id": "A1", {start} "status": "ready", {fields}}}}}"#);
            let agent = status_of(Answer::new(200, body)).unwrap();
            let mut seen = json!({"extra": agent.extra.clone(), "name": agent.name, "progress": agent.progress});
            seen["supported_models"] = json!(agent.supported_models);
            seen.as_object_mut().unwrap().retain(|_, value| !value.is_null() && *value != json!({}));
            assert_eq!(seen, *expected, "{fields}");
        }
        for fields in [r#""status": "ready", "status": null"#, r#""status": "ready", "status": 5"#] {
            let body = format!(r#"{{"data": {{{start} "agent_id": "A1", {fields}}}}}"#);
            assert_eq!(status_of(Answer::new(200, body)).unwrap_err().kind(), ErrorKind::UnexpectedAnswer, "{fields}");
        }
    }
    let array = status_of(Answer::new(200, r#"[true, {"agent_id": "A1", "status": "ready"}]"#));
    assert_eq!(array.unwrap_err().kind(), ErrorKind::UnexpectedAnswer);
}

#[test]
fn every_status_is_named_and_only_three_are_ends() {
    let one = Some(json!(1.0));
    let rows = [
        ("processing", None, Status::Processing, false, false),
        ("processing", one.clone(), Status::Processing, false, false),
        ("generating", None, Status::Generating, false, false),
        ("generating", one.clone(), Status::Generating, false, false),
        ("completed", Some(json!(0.05)), Status::Completed, false, false),
        ("completed", one.clone(), Status::Completed, false, false),
        ("success", None, Status::Success, false, false),
        ("success", Some(json!(0.2)), Status::Success, false, false),
        ("success", Some(json!(0.99)), Status::Success, false, false),
        ("success", Some(json!("1.0")), Status::Success, false, false),
        ("success", one.clone(), Status::Success, true, false),
        ("ready", None, Status::Ready, true, false),
        ("ready", Some(json!(0.4)), Status::Ready, true, false),
        ("failed", None, Status::Failed, false, true),
        ("failed", one.clone(), Status::Failed, false, true),
        ("Ready", one.clone(), Status::Unknown("Ready".into()), false, false),
        ("canceled", one, Status::Unknown("canceled".into()), false, false),
        ("", None, Status::Unknown(String::new()), false, false),
    ];
    for (word, progress, named, ready, failed) in rows {
        let agent = status_of(agent(json!({"status": word, "progress": progress}))).unwrap();
        assert_eq!(agent.status, named);
        assert_eq!((agent.status.as_str(), agent.status.to_string()), (word, word.to_owned()));
        let ends = (agent.is_ready(), agent.is_failed(), agent.is_finished());
        assert_eq!(ends, (ready, failed, ready || failed), "{word} {progress:?}");
        assert_eq!(Status::from(word.to_owned()), named);
    }
}

#[test]
fn an_agent_the_service_does_not_name_is_the_one_asked_for() {
    for data in [json!({"status": "ready"}), json!({"status": "ready", "agent_id": null})] {
        let agent = status_of(Answer::json(200, json!({"success": true, "data": data}))).unwrap();
        assert_eq!(agent.agent_id, ID);
    }
    let other = json!({"data": {"agent_id": "other", "status": "ready"}});
    assert_eq!(status_of(Answer::json(200, other)).unwrap().agent_id, "other");
}

#[test]
fn an_agent_without_a_status_is_an_error_that_quotes_the_answer() {
    let answers = [
        json!({"success": true, "data": {"agent_id": ID}}),
        json!({"success": true, "data": {"agent_id": ID, "status": null}}),
        json!({"success": true, "data": {"agent_id": ID, "status": 7}}),
        json!({"success": true, "data": null}),
        json!({"success": true, "data": []}),
        json!({"success": true, "data": "ready"}),
        json!({"success": true}),
        json!({"agent_id": ID, "status": "ready"}),
        json!({}),
    ];
    for answer in answers {
        let error = status_of(Answer::json(200, answer.clone()).header("x-request-id", "r-1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{answer}");
        assert_eq!((error.http_status(), error.request_id()), (Some(200), Some("r-1")));
        assert_eq!(serde_json::from_str::<Value>(error.message().unwrap()).unwrap(), answer);
        assert_eq!((error.agent_id(), error.attempts()), (Some(ID), 1));
        assert!(error.is_retryable() && !error.outcome_unknown());
    }
}

#[test]
fn every_field_of_a_generation_is_read() {
    let whole = json!({
        "success": true, "message": "Agent generation started", "agent_id": ID, "status": "processing",
        "credits": 250, "links": {"self": "/v1"}, "note": null,
    });
    let generation = generation_of(Answer::json(200, whole)).unwrap();
    assert_eq!(generation.agent_id, ID);
    assert_eq!(generation.status, Some(Status::Processing));
    assert_eq!(generation.message.as_deref(), Some("Agent generation started"));
    assert_eq!(generation.idempotency_key, "the-key");
    assert!(!generation.replayed);
    assert_eq!(generation.extra, extra(json!({"credits": 250, "links": {"self": "/v1"}, "note": null})));
}

#[test]
fn a_generation_needs_only_its_id() {
    let rows = [
        (json!({"agent_id": ID}), json!({})),
        (json!({"agent_id": ID, "status": null, "message": null}), json!({})),
        (json!({"agent_id": ID, "status": 1, "message": ["m"]}), json!({"status": 1, "message": ["m"]})),
        (json!({"agent_id": ID, "success": "yes"}), json!({})),
    ];
    for (answer, left) in rows {
        let generation = generation_of(Answer::json(200, answer)).unwrap();
        assert_eq!((&*generation.agent_id, generation.status, generation.message), (ID, None, None));
        assert_eq!(generation.extra, extra(left));
    }
    for status in [200, 201, 202] {
        assert_eq!(generation_of(Answer::json(status, json!({"agent_id": ID}))).unwrap().agent_id, ID);
    }
}

#[test]
fn a_generation_without_an_id_is_an_error_of_unknown_outcome() {
    let rows = [
        json!({"success": true, "status": "processing"}),
        json!({"success": true, "agent_id": null}),
        json!({"success": true, "agent_id": 7}),
        json!({"success": true, "agent_id": ""}),
        json!({"success": true, "data": {"agent_id": ID}}),
        json!({}),
    ];
    for answer in rows {
        let error = generation_of(Answer::json(200, answer.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{answer}");
        assert!(error.outcome_unknown() && !error.is_retryable(), "{answer}");
        assert_eq!(error.idempotency_key(), Some("the-key"));
        assert_eq!((error.agent_id(), error.http_status()), (None, Some(200)));
        assert_eq!(serde_json::from_str::<Value>(error.message().unwrap()).unwrap(), answer);
    }
}

#[test]
fn a_replayed_generation_says_so() {
    for (value, replayed) in [("true", true), ("True", true), ("false", false), ("1", false), ("", false)] {
        let generation = generation_of(started().header("idempotency-replayed", value)).unwrap();
        assert_eq!(generation.replayed, replayed, "{value}");
    }
}

#[test]
fn an_agent_survives_a_round_trip() {
    let rows = [
        full(),
        json!({"agent_id": ID, "status": "queued_v3"}),
        json!({"agent_id": "", "status": "", "progress": "50 %", "supported_models": {"a": 1}, "name": 7}),
        json!({"agent_id": ID, "status": "ready", "progress": 1, "extra": {"extra": 1}, "success": false}),
    ];
    for value in rows {
        let agent: Agent = serde_json::from_value(value.clone()).unwrap();
        let text = serde_json::to_string(&agent).unwrap();
        assert_eq!(serde_json::from_str::<Agent>(&text).unwrap(), agent);
        let mut back: Value = serde_json::from_str(&text).unwrap();
        if value["progress"] == json!(1) {
            assert_eq!(back["progress"].take(), json!(1.0));
            back["progress"] = json!(1);
        }
        assert_eq!(back, value);
    }
}

#[test]
fn a_generation_survives_a_round_trip() {
    let rows = [
        json!({"agent_id": ID}),
        json!({"agent_id": ID, "status": "queued_v3", "message": "m", "credits": 250}),
        json!({"agent_id": ID, "status": 1, "message": {"a": null}}),
    ];
    for (answer, replayed) in rows.iter().flat_map(|row| [(row, "true"), (row, "false")]) {
        let answer = Answer::json(200, answer.clone()).header("idempotency-replayed", replayed);
        let generation = generation_of(answer).unwrap();
        let text = serde_json::to_string(&generation).unwrap();
        assert_eq!(serde_json::from_str::<Generation>(&text).unwrap(), generation, "{text}");
    }
}

#[test]
fn a_generation_survives_a_round_trip_though_the_service_sends_our_own_field_names() {
    let answer = json!({"agent_id": ID, "idempotency_key": "another", "replayed": "yes", "extra": {"a": 1}});
    let generation = generation_of(Answer::json(200, answer)).unwrap();
    assert_eq!((&*generation.idempotency_key, generation.replayed), ("the-key", false));
    let text = serde_json::to_string(&generation).unwrap();
    assert_eq!(serde_json::from_str::<Generation>(&text).unwrap(), generation, "{text}");
}

#[test]
fn what_lacks_its_id_or_status_does_not_deserialize() {
    let agents = [
        json!({"status": "ready"}),
        json!({"agent_id": ID}),
        json!({"agent_id": null, "status": "ready"}),
        json!({"agent_id": ID, "status": 7}),
        json!({}),
        json!([]),
    ];
    for value in agents {
        assert!(serde_json::from_value::<Agent>(value.clone()).is_err(), "{value}");
    }
    let generations =
        [json!({"agent_id": ID}), json!({"idempotency_key": "k"}), json!({"agent_id": "", "idempotency_key": "k"})];
    for value in generations {
        assert!(serde_json::from_value::<Generation>(value.clone()).is_err(), "{value}");
    }
}

#[test]
fn what_is_not_a_json_object_is_an_error_that_quotes_it() {
    let rows = ["[]", "\"ready\"", "null", "7", "", "   ", "<html>hello</html>", "{\"success\": true", "\u{feff}{}"];
    for body in rows {
        let service = Service::new([Answer::new(200, body).header("x-request-id", "r-1")]);
        let api = service.api();
        let (generate, status) = (api.generate(&GenerateRequest::new()).unwrap_err(), api.status(ID).unwrap_err());
        for error in [&generate, &status] {
            assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{body}");
            assert_eq!((error.http_status(), error.request_id()), (Some(200), Some("r-1")));
            assert_eq!(error.message(), Some(body.trim()).filter(|text| !text.is_empty()));
        }
        assert!(generate.outcome_unknown() && !generate.is_retryable());
        assert!(!status.outcome_unknown() && status.is_retryable());
    }
}

#[test]
fn an_answer_is_read_up_to_one_mebibyte() {
    let of_length = |length: usize| {
        let empty = json!({"data": {"status": "ready", "name": ""}}).to_string();
        let name = "x".repeat(length - empty.len());
        let body = json!({"data": {"status": "ready", "name": name}}).to_string();
        assert_eq!(body.len(), length);
        status_of(Answer::new(200, body))
    };
    assert!(of_length(1 << 20).unwrap().is_ready());
    let error = of_length((1 << 20) + 1).unwrap_err();
    assert_eq!((error.kind(), error.http_status()), (ErrorKind::UnexpectedAnswer, Some(200)));
}
