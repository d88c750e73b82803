//! The secret goes to the service and is never shown, whoever repeats it.

use std::sync::{Arc, Mutex};

use bithuman::serde_json::json;
use bithuman::{Api, ErrorKind, GenerateRequest, Wait};

use crate::support::{Answer, SECRET, Service, agent, alone, api_to, listen, printed, read_head, say, status};

/// Where a service could put what it was sent.
fn echoes(secret: &str) -> Vec<Answer> {
    let with = format!("you sent {secret} to us");
    vec![
        Answer::json(401, json!({"error": with, "code": "UNAUTHORIZED", "details": "d"})),
        Answer::json(401, json!({"error": "m", "code": with, "details": "d"})),
        Answer::json(401, json!({"error": "m", "code": "UNAUTHORIZED", "details": with})),
        Answer::json(401, json!({"error": "m", "code": "UNAUTHORIZED", "details": {"sent": [with]}})),
        Answer::json(401, json!({"error": "m", "code": "UNAUTHORIZED", "details": {&with: 1}})),
        Answer::json(401, json!({"success": false, "error": secret, "message": with})),
        Answer::json(401, json!({"error": {"code": secret, "message": with, "details": with}})),
        Answer::json(401, json!({"detail": with})),
        Answer::json(200, json!({"success": false, "error": with})),
        Answer::json(200, json!({"success": false, "note": with})),
        Answer::json(200, json!({"success": true, "note": with})),
        Answer::json(200, json!({"success": true, "headers": {"api-secret": [secret]}})),
        Answer::json(200, json!({"success": true, &with: 1})),
        Answer::json(200, json!({"success": true, "data": {"agent_id": with}})),
        Answer::json(200, json!({"success": true, "data": {&with: 1}})),
        Answer::json(200, json!([with])),
        Answer::new(200, format!("<html>{with}</html>")),
        Answer::new(502, format!("<html>{with}</html>")),
        // Where the cut of a long answer goes through the secret.
        Answer::new(502, format!("{}{secret}", "x".repeat(500))),
        Answer::new(400, "").header("x-request-id", secret),
        Answer::json(401, json!({"code": "UNAUTHORIZED"})).header("x-request-id", format!("r-{secret}")),
        Answer::new(302, "").header("location", format!("http://127.0.0.1:9/?secret={secret}")),
        Answer::new(302, with),
        Answer::new(429, "").header("retry-after", secret),
    ]
}

/// Whether any part of the secret that is worth having is in the text.
fn shows(text: &str, secret: &str) -> bool {
    let part = secret.len().min(8);
    (0..=secret.len() - part).any(|at| text.contains(&secret[at..at + part]))
}

impl Service {
    fn request_secrets(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.header("api-secret").unwrap().to_owned()).collect()
    }
}

#[test]
fn no_error_shows_a_secret_that_the_service_repeats() {
    for (n, answer) in echoes(SECRET).into_iter().enumerate() {
        let service = Service::new([answer]);
        let api = service.api();
        let errors = [
            api.generate(&GenerateRequest::new()).unwrap_err(),
            api.status("A1").unwrap_err(),
            api.generate_and_wait(&GenerateRequest::new(), &Wait::new()).unwrap_err(),
        ];
        assert_eq!(service.request_secrets(), vec![SECRET; 3]);
        for error in errors {
            assert!(!shows(&printed(&error), SECRET), "{n}: {error:#?}");
        }
    }
}

#[test]
fn no_error_shows_even_a_short_secret() {
    for (n, answer) in echoes("pw-7").into_iter().enumerate() {
        let service = Service::new([answer]);
        let api = service.builder().secret("pw-7").build().unwrap();
        for error in [api.generate(&GenerateRequest::new()).unwrap_err(), api.status("A1").unwrap_err()] {
            assert!(!printed(&error).contains("pw-7"), "{n}: {error:#?}");
        }
    }
}

#[test]
fn no_success_shows_a_secret_that_the_service_repeats() {
    let with = format!("you sent {SECRET} to us");
    let service = Service::new([
        Answer::json(200, json!({"agent_id": "A1", "message": with, "headers": {"api-secret": [SECRET]}})),
        agent(json!({"status": "generating", "system_prompt": with, "name": SECRET, "seen": {"x": [with]}})),
    ]);
    let api = service.api();
    let generation = api.generate(&GenerateRequest::new()).unwrap();
    assert_eq!(generation.message.as_deref(), Some("you sent [secret] to us"));
    assert!(!shows(&format!("{generation:?}"), SECRET));
    let agent = api.status("A1").unwrap();
    assert_eq!(agent.system_prompt.as_deref(), Some("you sent [secret] to us"));
    assert_eq!(agent.extra["seen"], json!({"x": ["you sent [secret] to us"]}));
    assert!(!shows(&format!("{agent:#?}"), SECRET));
}

#[test]
fn no_cause_shows_a_secret_from_an_answer_that_is_no_http() {
    let answers = [
        format!("{SECRET}\r\n\r\n"),
        format!("HTTP/1.1 {SECRET}\r\n\r\n"),
        format!("HTTP/1.1 400 {SECRET}\r\ncontent-length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{SECRET}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\napi-secret : {SECRET}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {SECRET}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{SECRET}\r\n"),
        format!("HTTP/1.1 200 OK\r\n\r\n{{\"{SECRET}\": tru"),
    ];
    for answer in answers {
        let shown = answer.clone();
        let url = listen(move |_, mut stream| say(&mut stream, &answer));
        let api = api_to(&url).build().unwrap();
        for error in [api.generate(&GenerateRequest::new()).unwrap_err(), api.status("A1").unwrap_err()] {
            assert!(!shows(&printed(&error), SECRET), "{shown:?}: {error:#?}");
        }
    }
}

#[test]
fn no_error_of_a_wait_shows_it_through_what_was_last_seen() {
    let service = Service::new([
        agent(json!({"status": "generating", "current_step": SECRET, "system_prompt": SECRET})),
        Answer::json(400, json!({"error": SECRET})),
    ]);
    let error = service.api().wait("A1", &Wait::new()).unwrap_err();
    assert!(error.last_seen().is_some());
    assert!(!shows(&printed(&error), SECRET), "{error:#?}");

    let service = Service::new([agent(json!({"status": "failed", "error_message": SECRET}))]);
    let error = service.api().wait("A1", &Wait::new()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::GenerationFailed, Some("[secret]")));
    assert!(!shows(&printed(&error), SECRET), "{error:#?}");
}

#[test]
fn no_error_of_a_wait_shows_it_through_the_name_of_a_field_that_was_last_seen() {
    let echo = agent(json!({"status": "generating", SECRET: 1, "nested": [{SECRET: 2}]}));
    let service = Service::new([echo, Answer::new(400, "")]);
    let error = service.api().wait("A1", &Wait::new()).unwrap_err();
    assert!(!shows(&printed(&error), SECRET), "{error:#?}");
}

#[test]
fn no_error_shows_a_secret_that_json_had_to_escape() {
    let secret = "sk\"test\\0123456789abcdef";
    for (n, answer) in echoes(secret).into_iter().enumerate() {
        let service = Service::new([answer]);
        let api = service.builder().secret(secret).build().unwrap();
        for error in [api.generate(&GenerateRequest::new()).unwrap_err(), api.status("A1").unwrap_err()] {
            assert!(!shows(&printed(&error), secret), "{n}: {error:#?}");
        }
    }
}

#[test]
fn no_success_shows_a_secret_however_it_is_written() {
    let long = "0123456789".repeat(7);
    for (secret, written) in [
        (SECRET, SECRET),
        (SECRET, "sk-t\\u0065st-0123456789abcdef"),
        ("sk/test/0123456789", "sk\\/test/0123456789"),
        ("sk\"test\\0123456789", "sk\\\"test\\\\0123456789"),
        (&long, &long),
    ] {
        let body =
            format!(r#"{{"data": {{"agent_id": "A1", "status": "ready", "name": "of {written}", "b": "\\n"}}}}"#);
        let service = Service::new([Answer::new(200, body)]);
        let agent = service.builder().secret(secret).build().unwrap().status("A1").unwrap();
        assert_eq!(agent.name.as_deref(), Some("of [secret]"), "{written}");
    }
}

#[test]
fn a_short_secret_leaves_the_data_alone() {
    let service = Service::new([agent(json!({"status": "ready", "model_url": "https://e/a.imx", "name": "a"}))]);
    let agent = service.builder().secret("a").build().unwrap().status("A1").unwrap();
    assert_eq!((agent.model_url.as_deref(), agent.name.as_deref()), (Some("https://e/a.imx"), Some("a")));
}

#[test]
fn no_handle_shows_it() {
    let builder = Api::builder().secret(SECRET).base_url("http://127.0.0.1");
    let api = builder.clone().build().unwrap();
    let watch = api.watch("A1", &Wait::new());
    for shown in [
        format!("{builder:?}{builder:#?}"),
        format!("{api:?}{api:#?}"),
        format!("{watch:?}{watch:#?}"),
        format!("{:#?}", api.status("")),
    ] {
        assert!(!shows(&shown, SECRET), "{shown}");
    }
}

#[test]
fn a_secret_no_header_can_carry_is_refused_unseen() {
    let secrets = [
        "hunter2hunter2\r\nx-evil: 1",
        "hunter2hunter2\n",
        "hunter2hunter2\r",
        "hunter2\0hunter2",
        "hunter2 hunter2",
        " hunter2hunter2",
        "hunter2hunter2\t",
        "hunter2hunter2\u{7f}",
        "hünter2hunter2",
        "hunter2🎨hunter2",
    ];
    for secret in secrets {
        let error = Api::new(secret).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidInput, 0));
        assert!(error.to_string().contains("the API secret has"), "{error}");
        assert!(!printed(&error).contains("nter2"), "{error:#?}");
    }
    for none in [Api::new("").unwrap_err(), Api::builder().build().unwrap_err()] {
        assert_eq!(none.kind(), ErrorKind::InvalidInput);
        assert_eq!(none.to_string(), "Api: the API secret is empty: get one from imaginex.bithuman.ai");
    }
}

#[test]
fn every_visible_secret_goes_as_it_is() {
    let visible: String = ('!'..='~').collect();
    let service = Service::new([status("ready")]);
    service.builder().secret(&visible).build().unwrap().status("A1").unwrap();
    assert_eq!(service.request_secrets(), [visible]);
}

#[test]
fn a_loopback_service_is_asked_directly_whatever_proxy_the_environment_names() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let proxy = listen(move |_, mut stream| seen.lock().unwrap().push(read_head(&mut stream)));
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let variables: Vec<_> = names.iter().map(|name| (*name, &*proxy)).collect();
    alone("secrecy::a_loopback_service_is_asked_directly_whatever_proxy_the_environment_names", &variables, || {
        let service = Service::new([status("ready")]);
        service.api().status("A1").unwrap();
        let by_name = service.builder().base_url(format!("http://localhost:{}", service.port()));
        by_name.build().unwrap().status("A1").unwrap();
        assert_eq!(service.request_secrets(), [SECRET, SECRET]);
        // The same variables do count for another host.
        let other = service.builder().base_url("http://agents.invalid").allow_plain_http(true).build().unwrap();
        other.status("A1").unwrap_err();
    });
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains("agents.invalid") && !asked[0].contains(SECRET), "{asked:?}");
}

#[test]
fn only_the_secret_is_masked() {
    let service = Service::new([Answer::json(401, json!({"error": format!("key {SECRET} unknown")}))]);
    let error = service.api().status("A1").unwrap_err();
    assert_eq!((error.message(), error.code()), (Some("key [secret] unknown"), None));
}
