//! What is read: the service's words, field by field, and its errors in every shape.

use std::error::Error as StdError;
use std::mem::{size_of, take};

use bithuman::serde_json::{self, Value, json};
use bithuman::{Agent, Billing, Error, ErrorKind, GenerateRequest, Generation, Result};

use crate::harness::*;

/// The samples of the 2025 document, word for word.
const GENERATE_SAMPLE: &str = r#"{
  "success": true,
  "message": "Agent generation started",
  "agent_id": "A91XMB7113",
  "status": "processing"
}"#;

/// The document's copy lacks the outer braces.
const STATUS_SAMPLE: &str = r#"{
"success": true,
"data": {
    "agent_id": "agent id",
    "event_type": "lip_created",
    "status": "ready",
    "error_message": null,
    "created_at": "2025-08-01T13:58:51.907177+00:00",
    "updated_at": "2025-08-01T09:59:15.159901+00:00",
    "system_prompt": "your agent prompt",
    "image_url": "your_image_url",
    "video_url": "your_video_url",
    "name": "agent name",
    "model_url": "your model url"
}
}"#;

const ERROR_SAMPLE: &str = r#"{
    "error": "Invalid API secret",
    "code": "UNAUTHORIZED",
    "details": "Please check your API secret from imaginex.bithuman.ai"
}"#;

fn asked(reply: Reply) -> Result<Agent> {
    Service::new([reply]).api().status(ID)
}

fn created(reply: Reply) -> Result<Generation> {
    let request = GenerateRequest::new().idempotency_key("the-key");
    Service::new([reply]).api().generate(&request)
}

/// The errors of both calls.
fn errors(reply: Reply) -> [Error; 2] {
    let service = Service::new([reply]);
    let api = service.api();
    let generate = api.generate(&small()).unwrap_err();
    [generate, api.status(ID).unwrap_err()]
}

/// What an error says of the response: kind, code, message, details, help URL.
fn facts(error: &Error) -> String {
    let facts = [
        error.code(),
        error.message(),
        error.details(),
        error.help_url(),
    ];
    let facts = facts.map(|fact| fact.unwrap_or("-")).join(" | ");
    format!("{:?} | {facts}", error.kind())
}

#[test]
fn the_samples_of_the_document_are_read() {
    let generation = created(Reply::new(200, GENERATE_SAMPLE)).unwrap();
    let mut expected: Value = serde_json::from_str(GENERATE_SAMPLE).unwrap();
    expected.as_object_mut().unwrap().remove("success");
    expected["idempotency_key"] = json!("the-key");
    expected["replayed"] = json!(false);
    assert_eq!(serde_json::to_value(&generation).unwrap(), expected);
    assert!(generation.extra.is_empty());

    let service = Service::new([Reply::new(200, STATUS_SAMPLE)]);
    let agent = service.api().status("agent id").unwrap();
    let mut expected: Value = serde_json::from_str(STATUS_SAMPLE).unwrap();
    let data = expected["data"].as_object_mut().unwrap();
    data.remove("error_message");
    assert_eq!(&serde_json::to_value(&agent).unwrap(), &expected["data"]);
    assert!(agent.extra.is_empty() && agent.is_ready());

    let error = created(Reply::new(401, ERROR_SAMPLE)).unwrap_err();
    let expected = "Unauthorized | UNAUTHORIZED | Invalid API secret | \
        Please check your API secret from imaginex.bithuman.ai | -";
    assert_eq!(facts(&error), expected);
}

/// Everything that both APIs document, and more.
fn full() -> Value {
    json!({
        "agent_id": ID, "event_type": "lip_created", "status": "generating",
        "error_message": "e", "created_at": "2026-08-01T13:58:51.907177+00:00",
        "updated_at": "2026-08-01T09:59:15Z", "system_prompt": "p", "image_url": "https://e/i",
        "video_url": "https://e/v", "name": "n", "model_url": "https://e/m", "progress": 0.25,
        "progress_msg": "pm", "current_step": "lip_sync", "supported_models": ["essence-2", "x"],
        "model": "essence-2", "voice_id": "v", "description": "d", "language": "en",
        "model_status": {"essence-2": {"state": "failed", "reason": "r", "since": 1}, "x": {}},
        "nothing": null,
    })
}

#[test]
fn every_field_is_read_and_one_of_another_type_costs_no_other() {
    let read = asked(agent(full())).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), full());
    let extra: Vec<_> = read.extra.keys().collect();
    assert_eq!(extra, ["nothing"]);
    let model = &read.model_status["essence-2"];
    assert_eq!((model.is_failed(), model.is_ready()), (true, false));
    assert_eq!(
        (model.reason.as_deref(), &model.extra["since"]),
        (Some("r"), &json!(1))
    );

    for (name, good) in full().as_object().unwrap() {
        if ["agent_id", "status"].contains(&&**name) || extra.contains(&name) {
            continue;
        }
        // Whether the field is there, and what of it is in `extra`. An absent one is not serialized.
        let seen = |value: &Value| {
            let fields = json!({"status": "ready", "last": 1, name: value});
            let mut agent = asked(agent(fields)).unwrap();
            let extra = take(&mut agent.extra);
            assert!(agent.is_ready() && extra["last"] == 1);
            let agent = serde_json::to_value(agent).unwrap();
            (agent.get(name) == Some(value), extra.get(name).cloned())
        };
        assert_eq!(seen(good), (true, None), "{name}");
        assert_eq!(seen(&Value::Null), (false, None), "{name}");
        for other in [
            json!(true),
            json!({"a": {"state": "b"}}),
            json!([1]),
            json!("half"),
            json!(7.5),
        ] {
            let is_good = (good.is_number() && other.is_number())
                || (good.is_string() && other.is_string())
                || (good.is_object() && other.is_object());
            let expected = (is_good, Some(other.clone()).filter(|_| !is_good));
            assert_eq!(seen(&other), expected, "{name}");
        }
    }
}

/// The state of a model, and what is read: its state, and the rest.
const MODELS: &str = r#"
    {"state": "pending", "reason": null} => pending {}
    {"state": "Ready", "reason": "r"} => Ready {"reason":"r"}
    {"state": "queued", "eta": 9} => queued {"eta":9}
    {"state": 7, "reason": ["r"]} =>  {"reason":["r"],"state":7}
    {} => {}
    "ready" => ready {}
    null => {}
    7 => 7 {}"#;

#[test]
fn the_state_of_a_model_is_read_whatever_is_wrong_with_it_or_another() {
    for (model, expected) in table(MODELS) {
        let model: Value = serde_json::from_str(model).unwrap();
        let all = json!({"a": {"state": "ready"}, "m": model, "z": {"state": "failed"}});
        let agent = asked(agent(json!({"status": "ready", "model_status": all}))).unwrap();
        assert!(agent.model_status["a"].is_ready() && agent.model_status["z"].is_failed());
        let read = &agent.model_status["m"];
        let mut rest = serde_json::to_value(read).unwrap();
        if !read.state.is_empty() {
            rest.as_object_mut().unwrap().remove("state");
        }
        assert_eq!(format!("{} {rest}", read.state).trim(), expected);
        let text = serde_json::to_string(&agent).unwrap();
        assert_eq!(serde_json::from_str::<Agent>(&text).unwrap(), agent);
    }
}

#[test]
fn a_404_of_a_request_that_names_an_agent_is_about_that_agent() {
    let service = Service::new([service_error(404, "NOT_FOUND")]);
    let error = service.api().generate(&small().agent_id(ID)).unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains("knows no such agent (404") && !line.contains("base URL"),
        "{line}"
    );
    assert_eq!(error.billing(), Billing::NotBilled);
}

/// A word and a progress, and what is read: the status, and the end if it is one.
const WORDS: &str = r#"
    "processing" 1.0 => Processing
    "generating" 1.0 => Generating
    "completed" 1.0 => Completed
    "success" null => Success
    "success" 0.99 => Success
    "success" 60 => Success
    "success" 100 => Success
    "success" "1.0" => Success
    "success" 1 => Success ready
    "ready" 0.4 => Ready ready
    " READY\n" null => Ready ready
    "Failed" 1.0 => Failed failed
    "deleted" null => Deleted finished
    "unknown" 1.0 => Unknown("unknown")
    "Queued_v3" 1.0 => Unknown("Queued_v3")"#;

#[test]
fn words_are_read_without_case_and_blanks_and_four_are_ends() {
    for (words, expected) in table(WORDS) {
        let (word, progress) = words.rsplit_once(' ').unwrap();
        let [word, progress] = [word, progress].map(|json| serde_json::from_str(json).unwrap());
        let fields: [(&str, Value); 2] = [("status", word), ("progress", progress)];
        let agent = asked(agent(fields.into_iter().collect())).unwrap();
        let end = match (agent.is_ready(), agent.is_failed(), agent.is_finished()) {
            (true, false, true) => " ready",
            (false, true, true) => " failed",
            (false, false, true) => " finished",
            _ => "",
        };
        assert_eq!(format!("{:?}{end}", agent.status), expected, "{words}");
    }
}

#[test]
fn a_status_is_about_the_agent_that_was_asked_for() {
    let about = |id: Value| {
        let data = json!({"status": "ready", "agent_id": id});
        Reply::json(200, json!({"success": true, "data": data}))
    };
    for id in [json!(null), json!(ID), json!([])] {
        assert_eq!(asked(about(id)).unwrap().agent_id, ID);
    }
    for id in [json!("A0"), json!(7), json!("a91xmb7113")] {
        let error = asked(about(id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedResponse);
        assert_eq!(error.agent_id(), Some(ID));
        assert!(!error.is_retryable());
    }
    let numbered = Service::new([about(json!(7))]);
    assert_eq!(numbered.api().status("7").unwrap().agent_id, "7");
}

#[test]
fn a_status_with_the_code_of_another_agent_is_about_another_agent() {
    let data = json!({"status": "ready", "code": "A0"});
    let error = asked(Reply::json(200, json!({"data": data}))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse);
    let record = json!({"status": "ready", "code": ID});
    assert_eq!(
        serde_json::from_value::<Agent>(record).unwrap().agent_id,
        ID
    );
}

#[test]
fn half_a_number_is_no_id() {
    let half = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"success\": true, \"agent_id\": 12";
    let server = Server::new([reply(half)]);
    let error = server.builder().build().unwrap().generate(&small());
    assert_eq!(error.unwrap_err().agent_id(), None);
}

#[test]
fn a_status_that_cannot_be_read_is_an_error_that_quotes_it() {
    let bodies = [
        r#"{"success":true,"data":{"agent_id":"A91XMB7113"}}"#,
        r#"{"data":{"agent_id":"A91XMB7113","status":null}}"#,
        r#"{"data":{"agent_id":"A91XMB7113","status":7}}"#,
        r#"{"data":[{"agent_id":"A91XMB7113","status":"ready"}]}"#,
        r#"{"agent_id":"A91XMB7113","status":"ready"}"#,
        r#"{"data":{"status":"rea"#,
        "[]",
        "\"ready\"",
        "null",
        "",
        "<html>\n<TITLE> Welcome </TITLE></html>",
    ];
    for body in bodies {
        let service = Service::new([Reply::new(200, body).header("x-request-id", "r-1")]);
        let api = service.builder().max_retries(3).build().unwrap();
        let error = api.status(ID).unwrap_err();
        let quoted = match body {
            "" => "-",
            _ if body.contains("TITLE") => "Welcome",
            _ => body,
        };
        assert_eq!(
            facts(&error),
            format!("UnexpectedResponse | - | {quoted} | - | -")
        );
        assert_eq!(error.http_status(), Some(200));
        assert_eq!(
            (error.agent_id(), error.request_id()),
            (Some(ID), Some("r-1"))
        );
        assert_eq!(service.requests().len(), 1, "it would be the same again");
    }
}

/// A response to a generate request, and what of it is in `extra`.
const GENERATIONS: &str = r#"
    {"agent_id": "A91XMB7113"} => {}
    {"agent_id": "A91XMB7113", "status": null, "message": null} => {}
    {"agent_id": "A91XMB7113", "success": "yes", "more": 1} => {"more": 1}
    {"agent_id": "A91XMB7113", "status": 1, "message": ["m"]} => {"status": 1, "message": ["m"]}
    {"data": {"agent_id": "A91XMB7113"}} => {"data": {"agent_id": "A91XMB7113"}}
    {"agent_id": "A91XMB7113", "warning": "MODEL_DEFAULT_DEPRECATED"} => {"warning": "MODEL_DEFAULT_DEPRECATED"}
    {"agent_id": "A91XMB7113", "warnings": [{"code": "W"}]} => {"warnings": [{"code": "W"}]}
    {"agent_id": "A91XMB7113", "data": {"warnings": ["W"]}} => {"data": {"warnings": ["W"]}}"#;

#[test]
fn a_generation_needs_only_its_id() {
    for (body, extra) in table(GENERATIONS) {
        let generation = created(Reply::new(201, body)).unwrap();
        assert_eq!(generation.agent_id, ID);
        assert_eq!((generation.status, generation.message), (None, None));
        assert_eq!(generation.idempotency_key, "the-key");
        let extra: Value = serde_json::from_str(extra).unwrap();
        assert_eq!(Value::Object(generation.extra), extra);
    }
    let numbered = Reply::json(200, json!({"agent_id": 7}));
    assert_eq!(created(numbered).unwrap().agent_id, "7");
    for (value, replayed) in [
        ("true", true),
        ("True", true),
        ("false", false),
        ("", false),
    ] {
        let reply = accepted().header("idempotency-replayed", value);
        assert_eq!(created(reply).unwrap().replayed, replayed, "{value}");
    }
}

#[test]
fn what_was_read_is_the_same_after_a_round_trip() {
    let rows = [
        full(),
        json!({"agent_id": ID, "status": "queued_v3", "idempotency_key": "k", "replayed": "yes"}),
        json!({"agent_id": ID, "status": "ready", "progress": "50 %", "name": 7, "success": true}),
        json!({"agent_id": ID, "status": "x", "supported_models": {"a": 1}, "extra": {"b": 1}}),
    ];
    for value in rows {
        let agent: Agent = serde_json::from_value(value.clone()).unwrap();
        let text = serde_json::to_string(&agent).unwrap();
        assert_eq!(serde_json::from_str::<Agent>(&text).unwrap(), agent);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);

        let generation = created(Reply::json(200, value)).unwrap();
        assert_eq!(generation.idempotency_key, "the-key");
        let text = serde_json::to_string(&generation).unwrap();
        assert_eq!(
            serde_json::from_str::<Generation>(&text).unwrap(),
            generation
        );
    }
    for value in [
        json!({"status": "ready"}),
        json!({"agent_id": ID, "status": 7}),
        json!([]),
    ] {
        assert!(serde_json::from_value::<Agent>(value.clone()).is_err());
        assert!(serde_json::from_value::<Generation>(value).is_err());
    }
}

/// The statuses and codes that the service publishes, and some of a gateway's, by their kind.
const STATUSES: &str = "
    Rejected: 400 VALIDATION_ERROR, 400 MISSING_PARAM, 400 VIDEO_INPUT_NOT_SUPPORTED
    Rejected: 400 MODEL_NOT_OFFERED, 400 MODEL_NOT_DOWNLOADABLE, 405 X, 409 AGENT_NOT_READY
    Rejected: 409 MODEL_NOT_GENERATED, 410 ENDPOINT_RETIRED, 413 FILE_TOO_LARGE
    Rejected: 415 UNSUPPORTED_TYPE, 422 MODEL_SUBJECT_MISMATCH, 422 IMAGE_FACE_UNSUITABLE
    Rejected: 422 MODEL_PREREQUISITE_MISSING
    Unauthorized: 401 UNAUTHORIZED, 401 MISSING_AUTH, 403 ACCOUNT_SUSPENDED, 403 FORBIDDEN
    PlanLimit: 403 PLAN_REQUIRED, 403 AGENT_LIMIT_REACHED, 403 CONCURRENCY_LIMIT_REACHED
    InsufficientBalance: 402 INSUFFICIENT_BALANCE
    NotFound: 404 NOT_FOUND, 404 AGENT_NOT_FOUND, 404 MODEL_ARTIFACT_NOT_READY
    NotFound: 410 AGENT_DELETED, 410 AGENT_PURGED, 200 AGENT_DELETED, 200 AGENT_PURGED
    RateLimited: 429 RATE_LIMITED
    Service: 408 X, 425 X, 500 INTERNAL_ERROR, 500 UPSTREAM_ERROR, 501 X, 502 UPSTREAM_UNAVAILABLE
    Service: 503 SERVICE_UNAVAILABLE, 503 NO_AVAILABLE_WORKERS, 503 MODEL_NOT_YET_AVAILABLE
    Service: 503 ETIMEDOUT, 504 UPSTREAM_TIMEOUT, 530 X, 599 X
    Rejected: 200 VALIDATION_ERROR, 200 SOMETHING_NEW
    Unauthorized: 200 UNAUTHORIZED, 200 MISSING_AUTH, 200 ACCOUNT_SUSPENDED, 200 FORBIDDEN
    PlanLimit: 200 PLAN_REQUIRED, 200 AGENT_LIMIT_REACHED
    InsufficientBalance: 200 INSUFFICIENT_BALANCE
    NotFound: 200 NOT_FOUND, 200 AGENT_NOT_FOUND
    RateLimited: 200 RATE_LIMITED
    Service: 200 INTERNAL_ERROR, 200 UPSTREAM_TIMEOUT, 200 SERVICE_UNAVAILABLE
    Service: 200 NO_AVAILABLE_WORKERS";

/// Every shape of error, whole and with fields missing, and what is read of it. With a status of
/// 200 only those count that say `"success": false`.
const SHAPES: &str = r#"
    {"error": "It broke", "code": "CODE", "details": "Fix it"} => CODE | It broke | Fix it | -
    {"error": "It broke", "code": "CODE", "details": null} => CODE | It broke | - | -
    {"code": "CODE", "details": {"a": [1]}} => CODE | - | {"a":[1]} | -
    {"error": "It broke"} => - | It broke | - | -
    {"detail": "Fix it"} => - | - | Fix it | -
    {"success": false, "error": "CODE", "message": "It broke"} => CODE | It broke | - | -
    {"success": false, "error": "It broke", "code": "CODE"} => CODE | It broke | - | -
    {"success": false, "error": "CODE", "data": {"status": "ready"}} => CODE | - | - | -
    {"success": false, "error": {"code": "CODE", "message": "It broke"}} => CODE | It broke | - | -
    {"error": {"code": "CODE", "message": "It broke", "upgrade_url": "u"}} => CODE | It broke | - | u
    {"error": {"code": "CODE", "details": "Fix it", "topup_url": "u"}} => CODE | - | Fix it | u
    {"error": {"message": "It broke"}, "status": "error"} => - | It broke | - | -
    {"error": {"code": "CODE", "httpStatus": 402}, "status_code": 402} => CODE | - | - | -
    {"error": {"code": "CODE", "reason": "R_1"}} => CODE | - | R_1 | -
    {"error": {"code": "CODE", "reason": "R_1", "details": "Fix it"}} => CODE | - | R_1: Fix it | -
    <html><head><title>It broke</title></head><body>nginx</body></html> => - | It broke | - | -
    upstream connect error => - | upstream connect error | - | -
    {"error": "cut => - | {"error": "cut | - | -
    {"error":7,"code":7} => - | {"error":7,"code":7} | - | -
    [] => - | [] | - | -
     => - | - | - | -"#;

#[test]
fn every_shape_of_error_with_every_status_is_read() {
    let mut rows = Vec::new();
    for line in STATUSES.trim().lines() {
        let (kind, statuses) = line.trim().split_once(": ").unwrap();
        for (http, code) in statuses.split(", ").map(|row| row.split_once(' ').unwrap()) {
            for (body, facts) in table(SHAPES) {
                let http: u16 = http.parse().unwrap();
                // Without its code it may be a gateway's.
                let kind = match http {
                    200 if !body.contains("\"success\": false") => continue,
                    403 if !facts.starts_with("CODE") => "Unauthorized",
                    410 if !facts.starts_with("CODE") => "Rejected",
                    _ => kind,
                };
                let facts = format!("{kind} | {facts}").replace("CODE", code);
                let reply = Reply::new(http, body.replace("CODE", code));
                let reply = reply
                    .header("x-request-id", "r-1")
                    .header("retry-after", "20");
                rows.push((http, reply, facts));
            }
        }
    }
    let script = rows
        .iter()
        .flat_map(|(_, reply, _)| [reply.clone(), reply.clone()]);
    let service = Service::new(script);
    let api = service.api();
    for (http, _, expected) in rows {
        let generate = api.generate(&small()).unwrap_err();
        let status = api.status(ID).unwrap_err();
        for error in [&generate, &status] {
            assert_eq!(facts(error), expected, "{http} {error}");
            assert_eq!((error.http_status(), error.attempts()), (Some(http), 1));
            assert_eq!(
                (error.retry_after(), error.request_id()),
                (Some(secs(20)), Some("r-1"))
            );
            assert!(error.last_seen().is_none() && error.source().is_none());
        }
        assert!(generate.agent_id().is_none() && generate.idempotency_key().is_some());
        assert_eq!(
            (status.agent_id(), status.idempotency_key()),
            (Some(ID), None)
        );
        let billing = match status.code() {
            _ if status.kind() != ErrorKind::NotFound => Billing::Billed,
            Some("AGENT_DELETED" | "AGENT_PURGED") => Billing::Billed,
            _ => Billing::Unknown,
        };
        assert_eq!(status.billing(), billing);
        let is_transient = matches!(status.kind(), ErrorKind::RateLimited | ErrorKind::Service);
        assert_eq!(status.is_retryable(), is_transient);
    }
}

#[test]
fn foreign_text_is_cut_after_512_characters_and_stays_on_one_line() {
    let long = "é".repeat(512);
    for http in [200, 400, 502] {
        for error in errors(Reply::new(http, format!("\n\t{long}x tail"))) {
            assert_eq!(error.message(), Some(&*long));
        }
    }
    for error in errors(Reply::new(502, *b"bad \xff gateway")) {
        assert_eq!(error.message(), Some("bad \u{fffd} gateway"));
    }
    let nasty = "a\r\nb\u{1b}[31m\u{0}\u{85}\u{2028}\u{202e}\u{200b}";
    let escaped = "a\\r\\nb\\u{1b}[31m\\u{0}\\u{85}\\u{2028}\\u{202e}\\u{200b}";
    let replies = [
        Reply::json(
            400,
            json!({"error": nasty, "code": nasty, "details": nasty}),
        ),
        Reply::json(
            400,
            json!({"error": {"message": nasty, "topup_url": nasty}}),
        ),
        Reply::new(502, format!("<title>{nasty}x</title>")),
    ];
    for error in replies.into_iter().flat_map(errors) {
        for shown in [error.to_string(), format!("{error:?}")] {
            let is_hidden = |c: char| c.is_control() || "\u{2028}\u{202e}\u{200b}".contains(c);
            assert!(
                !shown.contains(is_hidden) && shown.contains(escaped),
                "{shown:?}"
            );
        }
    }
}

#[test]
fn a_redirect_is_an_error_and_is_not_followed() {
    let other = Server::new([reply(status("ready"))]);
    let elsewhere = format!("//{}/v1/agent/generate", other.address);
    for http in [300, 301, 302, 303, 304, 305, 307, 308] {
        for location in [&*other.url, &elsewhere, "/v2/agent/generate", ""] {
            let mut redirect = Reply::new(http, "");
            let mut line = "redirects to nowhere".to_owned();
            if !location.is_empty() {
                redirect = redirect.header("location", location);
                line = format!("redirects to {location}");
            }
            for error in errors(redirect) {
                assert_eq!(error.kind(), ErrorKind::Rejected);
                assert_eq!((error.http_status(), error.attempts()), (Some(http), 1));
                assert!(error.to_string().contains(&line), "{error}");
                assert!(!error.is_retryable() && error.billing() != Billing::Unknown);
            }
        }
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_response_is_read_up_to_one_mebibyte_and_what_is_undocumented_up_to_64_kib() {
    let named = |name: &str| format!(r#"{{"data":{{"status":"ready","name":"{name}"}}}}"#);
    for (length, is_read) in [(1 << 20, true), ((1 << 20) + 9, false)] {
        let body = named(&"x".repeat(length - named("").len()));
        let agent = asked(Reply::new(200, body)).unwrap();
        assert_eq!((agent.is_ready(), agent.name.is_some()), (true, is_read));
    }
    // Each of them takes more memory than its text.
    let models = format!("{{{}}}", vec![r#""m":{}"#; 140_000].join(","));
    let body = format!(r#"{{"data":{{"status":"ready","model_status":{models}}}}}"#);
    assert!(body.len() > 900_000 && body.len() < 1 << 20);
    let agent_with_many = asked(Reply::new(200, body)).unwrap();
    assert!(agent_with_many.model_status.is_empty() && agent_with_many.extra.is_empty());
    for (length, kept) in [(64_000, 1), (66_000, 0)] {
        let fields = json!({"status": "ready", "more": "x".repeat(length), "name": "n"});
        let agent = asked(agent(fields)).unwrap();
        assert_eq!(
            (agent.name.as_deref(), agent.extra.len()),
            (Some("n"), kept)
        );
    }
}

#[test]
fn an_error_is_small_and_goes_anywhere() {
    fn is_error<T: StdError + Send + Sync + 'static>() {}
    fn goes_anywhere<T: Clone + Send + Sync + 'static>() {}
    is_error::<Error>();
    goes_anywhere::<(bithuman::Api, GenerateRequest)>();
    assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
}
