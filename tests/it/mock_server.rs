//! The mock server is a fair double: as strict as the service, in both forms.

#[path = "../mock_server/mod.rs"]
mod service;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bithuman::serde_json::{Value, json};
use bithuman::{Api, ErrorKind, GenerateRequest, Media, Wait};
pub use service::{ApiVersion, MockServer, SECRET, Settings};

use crate::support::{FakeClock, ms, secs};

const VERSIONS: [ApiVersion; 2] = [ApiVersion::V2025, ApiVersion::Current];

fn api(service: &MockServer, secret: &str) -> Api {
    let clock = Arc::new(FakeClock::default());
    Api::builder().secret(secret).base_url(service.base_url()).clock(clock).build().unwrap()
}

#[test]
fn an_agent_lives_through_the_statuses_of_its_generation() {
    let lives = [
        (ApiVersion::V2025, "", vec!["processing", "processing", "ready"]),
        (ApiVersion::V2025, "please [fail]", vec!["processing", "failed"]),
        (
            ApiVersion::Current,
            "",
            vec!["processing", "generating", "completed", "generating", "success", "generating", "ready"],
        ),
        (ApiVersion::Current, "please [fail]", vec!["processing", "generating", "failed"]),
    ];
    for (version, prompt, expected) in lives {
        let service = MockServer::start(version);
        let api = api(&service, SECRET);
        let started = api.generate(&GenerateRequest::new().prompt(prompt)).unwrap();
        let seen: Vec<_> = api.watch(&started.agent_id, &Wait::new()).map(Result::unwrap).collect();
        assert_eq!(seen.iter().map(|agent| agent.status.as_str()).collect::<Vec<_>>(), expected);
        let last = seen.last().unwrap();
        assert_eq!(last.is_ready(), last.model_url.is_some());
        assert_eq!(last.is_failed(), last.error_message.is_some());
        assert_eq!(last.progress.is_some(), version == ApiVersion::Current);
    }
}

#[test]
fn the_whole_job_with_media_in_both_forms() {
    let picture = std::env::temp_dir().join(format!("bithuman-picture-{}", std::process::id()));
    std::fs::write(&picture, [0xff, 0xd8, 0xff, 0xe0, 7]).unwrap();
    for version in VERSIONS {
        let service = MockServer::start(version);
        let request = GenerateRequest::new()
            .prompt("You are an art critic who analyzes visual artworks.")
            .image(Media::file(&picture))
            .audio(Media::bytes(*b"RIFF....WAVE"));
        let agent = api(&service, SECRET).generate_and_wait(&request, &Wait::new()).unwrap();
        assert!(agent.is_ready() && agent.model_url.is_some());
        assert_eq!(agent.system_prompt.as_deref(), Some("You are an art critic who analyzes visual artworks."));
        assert_eq!(service.billed(), 1);
    }
    std::fs::remove_file(picture).unwrap();
}

#[test]
fn the_same_key_is_billed_once_where_keys_are_honoured() {
    for (version, billed) in [(ApiVersion::V2025, 2), (ApiVersion::Current, 1)] {
        let service = MockServer::start(version);
        let api = api(&service, SECRET);
        let request = GenerateRequest::new().idempotency_key("k");
        let first = api.generate(&request).unwrap();
        let second = api.generate(&request).unwrap();
        assert_eq!(service.billed(), billed);
        assert_eq!(first.agent_id == second.agent_id, version == ApiVersion::Current);
        assert_eq!((first.replayed, second.replayed), (false, version == ApiVersion::Current));
    }
}

#[test]
fn a_callers_agent_id_comes_back_whatever_is_in_it() {
    let service = MockServer::start(ApiVersion::Current);
    let api = api(&service, SECRET);
    for id in ["mine", "a/b?c#d%2e é"] {
        let started = api.generate(&GenerateRequest::new().agent_id(id)).unwrap();
        assert_eq!(started.agent_id, id);
        assert_eq!(api.status(id).unwrap().agent_id, id);
    }
}

#[test]
fn refusals() {
    for version in VERSIONS {
        let service = MockServer::start(version);
        let wrong = api(&service, "wrong").generate(&GenerateRequest::new()).unwrap_err();
        assert_eq!((wrong.kind(), wrong.code()), (ErrorKind::Unauthorized, Some("UNAUTHORIZED")));
        let unknown = api(&service, SECRET).status("nobody").unwrap_err();
        assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::NotFound, Some("NOT_FOUND")));
        let video = GenerateRequest::new().video(Media::url("https://example.com/video.mp4"));
        let video = api(&service, SECRET).generate(&video);
        match version {
            ApiVersion::V2025 => assert!(video.is_ok()),
            ApiVersion::Current => assert_eq!(video.unwrap_err().code(), Some("VIDEO_INPUT_NOT_SUPPORTED")),
        }
    }
}

#[test]
fn every_generation_fails_where_that_is_wanted() {
    for version in VERSIONS {
        let service = MockServer::start(Settings { fails: true, ..version.into() });
        let error = api(&service, SECRET).generate_and_wait(&GenerateRequest::new(), &Wait::new()).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::GenerationFailed, Some("a failure was asked for")));
    }
}

#[test]
fn more_generates_than_allowed_are_refused_and_not_billed() {
    for version in VERSIONS {
        let service = MockServer::start(Settings { rate_limit: Some(2), ..version.into() });
        let generate = || api(&service, SECRET).generate(&GenerateRequest::new());
        let started = [generate().unwrap(), generate().unwrap()];
        let error = generate().unwrap_err();
        assert_eq!((error.kind(), error.http_status()), (ErrorKind::RateLimited, Some(429)));
        assert_eq!(error.code(), Some("RATE_LIMITED"));
        assert!((secs(30)..=secs(60)).contains(&error.retry_after().unwrap()), "{error}");
        assert_eq!(service.billed(), 2);
        // A status is none.
        started.iter().for_each(|agent| drop(api(&service, SECRET).status(&agent.agent_id).unwrap()));
    }
}

#[test]
fn a_slow_agent_takes_its_time_however_often_it_is_asked_for() {
    for version in VERSIONS {
        for (slow, is_ready) in [(secs(3600), false), (ms(1), true)] {
            let service = MockServer::start(Settings { slow: Some(slow), ..version.into() });
            let api = api(&service, SECRET);
            let started = api.generate(&GenerateRequest::new()).unwrap();
            thread::sleep(ms(1));
            let polls: Vec<_> = (0..9).map(|_| api.status(&started.agent_id).unwrap().is_ready()).collect();
            assert_eq!(polls, [is_ready; 9]);
        }
    }
}

#[test]
fn what_this_crate_would_never_send_is_refused_too() {
    let cases = [
        (Some(SECRET), "application/json", "{}".to_owned(), 200),
        (Some(SECRET), "application/json; charset=utf-8", "{}".to_owned(), 200),
        (Some(SECRET), "application/json", json!({"image": "data:image/png;base64,AAAA"}).to_string(), 200),
        (None, "application/json", "{}".to_owned(), 401),
        (Some(SECRET), "text/plain", "{}".to_owned(), 400),
        (Some(SECRET), "application/json", "{".to_owned(), 400),
        (Some(SECRET), "application/json", "[]".to_owned(), 400),
        (Some(SECRET), "application/json", json!({"image": "not base64!"}).to_string(), 400),
        (Some(SECRET), "application/json", json!({"audio": ""}).to_string(), 400),
        (Some(SECRET), "application/json", json!({"image": 1}).to_string(), 400),
        (Some(SECRET), "application/json", json!({"prompt": 1}).to_string(), 400),
    ];
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(30))).build().into();
    for version in VERSIONS {
        let service = MockServer::start(version);
        for (secret, content_type, body, status) in &cases {
            let mut post = agent.post(format!("{}/v1/agent/generate", service.base_url()));
            if let Some(secret) = secret {
                post = post.header("api-secret", *secret);
            }
            let mut answer = post.header("content-type", *content_type).send(body.as_str()).unwrap();
            assert_eq!(answer.status(), *status, "{version:?} {content_type} {body}");
            let answer: Value = bithuman::serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
            let code = match version {
                ApiVersion::V2025 => &answer["code"],
                ApiVersion::Current => &answer["error"]["code"],
            };
            assert_eq!(code.is_string(), *status != 200, "{answer}");
        }
        assert_eq!(service.billed(), 3);
    }
}
