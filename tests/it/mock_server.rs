//! The mock server behaves as the service does, with both versions of the API.

#[path = "../mock_server/mod.rs"]
mod server;

use std::thread;

use bithuman::serde_json::{self, Value};
use bithuman::{Api, Error, ErrorKind, GenerateRequest, Media, Wait};
use server::ApiVersion::{Current, V2025};
pub use server::{
    ApiVersion, ErrorShape, Fetched, MockServer, SECRET, Settings, Storage, Validator,
};

use crate::harness::{FakeClock, TempFile, ms, secs};

const VERSIONS: [ApiVersion; 2] = [V2025, Current];

fn api(server: &MockServer, secret: &str) -> Api {
    let builder = Api::builder().secret(secret).base_url(server.base_url());
    builder.clock(FakeClock::new()).build().unwrap()
}

#[test]
fn a_generation_goes_through_its_statuses() {
    let fail = "please [fail]";
    let ready = "processing generating generating generating completed success ready";
    let rows = [
        (V2025, "", "processing processing ready"),
        (V2025, fail, "processing failed"),
        (Current, "", ready),
        (Current, fail, "processing generating failed"),
    ];
    for (version, prompt, expected) in rows {
        let server = MockServer::start(version);
        let api = api(&server, SECRET);
        let request = GenerateRequest::new().prompt(prompt);
        let started = api.generate(&request).unwrap();
        let polls = api.watch(&started.agent_id, &Wait::new());
        let agents: Vec<_> = polls.map(Result::unwrap).collect();
        let statuses: Vec<_> = agents.iter().map(|agent| agent.status.as_str()).collect();
        assert_eq!(statuses.join(" "), expected);

        let last = agents.last().unwrap();
        assert_eq!(last.is_ready(), last.model_url.is_some());
        assert_eq!(last.is_failed(), last.error_message.is_some());
        assert_eq!(last.progress.is_some(), version == Current);
    }
}

#[test]
fn media_are_accepted() {
    let image = TempFile::new([0xff, 0xd8, 0xff, 0xe0, 7]);
    let prompt = "You are an art critic who analyzes visual artworks.";
    for version in VERSIONS {
        let server = MockServer::start(version);
        let request = GenerateRequest::new()
            .prompt(prompt)
            .image(Media::file(&image.0))
            .audio(Media::bytes(*b"RIFF....WAVE"));
        let api = api(&server, SECRET);
        let agent = api.generate_and_wait(&request, &Wait::new()).unwrap();
        assert!(agent.is_ready() && agent.model_url.is_some());
        assert_eq!(agent.system_prompt.as_deref(), Some(prompt));
        assert_eq!(server.billed(), 1);
    }
}

#[test]
fn a_repeated_idempotency_key_is_billed_once_by_the_current_api() {
    for (version, billed) in [(V2025, 2), (Current, 1)] {
        let is_current = version == Current;
        let server = MockServer::start(version);
        let api = api(&server, SECRET);
        let request = GenerateRequest::new().idempotency_key("k");
        let first = api.generate(&request).unwrap();
        let second = api.generate(&request).unwrap();
        assert_eq!(server.billed(), billed);
        assert_eq!(first.agent_id == second.agent_id, is_current);
        assert_eq!((first.replayed, second.replayed), (false, is_current));
    }
}

#[test]
fn an_agent_of_the_account_is_regenerated_in_place_and_no_other_is() {
    let server = MockServer::start(Current);
    let api = api(&server, SECRET);
    let id = api.generate(&GenerateRequest::new()).unwrap().agent_id;
    let again = GenerateRequest::new().agent_id(&id);
    assert_eq!(api.generate(&again).unwrap().agent_id, id);
    let billed = server.billed();
    let others = GenerateRequest::new().agent_id("A0/b?c#d%2e \u{e9}");
    let error = api.generate(&others).unwrap_err();
    assert_eq!(
        (error.kind(), server.billed()),
        (ErrorKind::NotFound, billed)
    );
}

#[test]
fn requests_are_rejected_with_the_codes_of_the_service() {
    for version in VERSIONS {
        let server = MockServer::start(version);
        let wrong = api(&server, "wrong").generate(&GenerateRequest::new());
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Unauthorized);
        assert_eq!(wrong.code(), Some("UNAUTHORIZED"));

        let unknown = api(&server, SECRET).status("nobody").unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        assert_eq!(unknown.code(), Some("NOT_FOUND"));

        let video = Media::url("https://example.com/video.mp4");
        let result = api(&server, SECRET).generate(&GenerateRequest::new().video(video));
        let code = result.as_ref().err().and_then(Error::code);
        let is_current = version == Current;
        assert_eq!(code, is_current.then_some("VIDEO_INPUT_NOT_SUPPORTED"));
    }
}

#[test]
fn each_failed_generation_is_refunded_once() {
    for version in VERSIONS {
        let server = MockServer::start(Settings {
            fail_all: true,
            ..version.into()
        });
        let api = api(&server, SECRET);
        let mut request = GenerateRequest::new();
        for failed in 1..=2 {
            let error = api.generate_and_wait(&request, &Wait::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::GenerationFailed);
            assert_eq!(error.message(), Some("this failure was requested"));
            assert!(api.status(error.agent_id().unwrap()).unwrap().is_failed());
            assert_eq!((server.billed(), server.refunded()), (failed, failed));
            // The second generation is of the same agent.
            request = request.agent_id(error.agent_id().unwrap());
        }
    }
}

#[test]
fn a_generate_request_over_the_rate_limit_is_rejected_and_not_billed() {
    for version in VERSIONS {
        let server = MockServer::start(Settings {
            rate_limit: Some(2),
            ..version.into()
        });
        let generate = || api(&server, SECRET).generate(&GenerateRequest::new());
        let started = [generate().unwrap(), generate().unwrap()];
        let error = generate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.http_status(), Some(429));
        assert_eq!(error.code(), Some("RATE_LIMITED"));
        let retry_after = error.retry_after().unwrap();
        assert!((secs(30)..=secs(60)).contains(&retry_after), "{error}");
        assert_eq!((server.billed(), server.refunded()), (2, 0));
        // Status requests are not limited.
        for agent in started {
            api(&server, SECRET).status(&agent.agent_id).unwrap();
        }
    }
}

#[test]
fn a_generation_time_does_not_depend_on_the_number_of_status_requests() {
    for version in VERSIONS {
        for (generation_time, is_ready) in [(secs(3600), false), (ms(1), true)] {
            let server = MockServer::start(Settings {
                generation_time: Some(generation_time),
                ..version.into()
            });
            let api = api(&server, SECRET);
            let started = api.generate(&GenerateRequest::new()).unwrap();
            thread::sleep(ms(1));
            for _ in 0..9 {
                assert_eq!(api.status(&started.agent_id).unwrap().is_ready(), is_ready);
            }
        }
    }
}

/// Checks requests that this library never sends, but that other clients may.
#[test]
fn invalid_requests_of_other_clients_are_rejected() {
    const JSON: &str = "application/json";
    let rows = [
        (JSON, "{}", 200),
        ("application/json; charset=utf-8", "{}", 200),
        (JSON, r#"{"image": "data:image/png;base64,AAAA"}"#, 200),
        ("text/plain", "{}", 400),
        (JSON, "{", 400),
        (JSON, "[]", 400),
        (JSON, r#"{"image": "not base64!"}"#, 400),
        (JSON, r#"{"audio": ""}"#, 400),
        (JSON, r#"{"image": 1}"#, 400),
        (JSON, r#"{"prompt": 1}"#, 400),
    ];
    for version in VERSIONS {
        let server = MockServer::start(version);
        for (content_type, body, expected) in rows {
            let (status, code) = post(&server, Some(SECRET), content_type, body);
            assert_eq!(status, expected, "{version:?} {content_type} {body}");
            let is_ok = status == 200;
            assert_eq!(code.as_deref(), (!is_ok).then_some("VALIDATION_ERROR"));
        }
        assert_eq!(server.billed(), 3);

        let (status, code) = post(&server, None, JSON, "{}");
        let expected = match version {
            V2025 => "UNAUTHORIZED",
            Current => "MISSING_AUTH",
        };
        assert_eq!((status, code.as_deref()), (401, Some(expected)));
    }
}

/// A client without the library.
fn bare_client() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(secs(30)));
    config.build().into()
}

fn read_json(mut response: ureq::http::Response<ureq::Body>) -> Value {
    let text = response.body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Sends a generate request without the library, and returns the status and the error code.
fn post(
    server: &MockServer,
    secret: Option<&str>,
    content_type: &str,
    body: &str,
) -> (u16, Option<String>) {
    let url = format!("{}/v1/agent/generate", server.base_url());
    let mut request = bare_client().post(url).header("content-type", content_type);
    if let Some(secret) = secret {
        request = request.header("api-secret", secret);
    }
    let response = request.send(body).unwrap();
    let status = response.status().as_u16();
    let body = read_json(response);
    let code = body["code"].as_str().or(body["error"]["code"].as_str());
    (status, code.map(str::to_owned))
}

/// The "Complete Example" of the 2025 document, line by line.
#[test]
fn the_python_example_of_the_2025_document_runs_with_both_versions() {
    for version in VERSIONS {
        let server = MockServer::start(version);
        let client = bare_client();
        let url = |path: &str| format!("{}/v1/agent/{path}", server.base_url());
        let payload = r#"{
            "prompt": "You are a friendly AI assistant that helps with creative writing."
        }"#;
        let request = client
            .post(url("generate"))
            .header("Content-Type", "application/json")
            .header("api-secret", SECRET);
        let result = read_json(request.send(payload).unwrap());
        let agent_id = result["agent_id"].as_str().unwrap();
        let status_url = url(&format!("status/{agent_id}"));
        let mut polls = 0;
        let model_url = loop {
            let request = client.get(&status_url).header("api-secret", SECRET);
            let status_data = read_json(request.call().unwrap());
            match status_data["data"]["status"].as_str().unwrap() {
                "ready" => break status_data["data"]["model_url"].clone(),
                "failed" => panic!("Generation failed"),
                _ => polls += 1,
            }
        };
        assert!(model_url.is_string() && polls > 0);
        assert_eq!(
            (result["success"].as_bool(), server.billed()),
            (Some(true), 1)
        );
    }
}

#[test]
fn a_request_that_the_account_does_not_allow_is_rejected_and_not_billed() {
    let settings = || Settings::from(Current);
    let (poor, free, small) = (
        Settings {
            balance: 499,
            ..settings()
        },
        Settings {
            plan: "free",
            ..settings()
        },
        Settings {
            agent_limit: 0,
            ..settings()
        },
    );
    let rows = [
        (
            poor,
            "essence-2",
            ErrorKind::InsufficientBalance,
            "INSUFFICIENT_BALANCE",
        ),
        (free, "essence-2", ErrorKind::PlanLimit, "PLAN_REQUIRED"),
        (
            small,
            "essence-2",
            ErrorKind::PlanLimit,
            "AGENT_LIMIT_REACHED",
        ),
        (
            settings(),
            "essence",
            ErrorKind::Rejected,
            "MODEL_NOT_OFFERED",
        ),
    ];
    for (settings, model, kind, code) in rows {
        let balance = settings.balance;
        let server = MockServer::start(settings);
        let request = GenerateRequest::new().model(model);
        let error = api(&server, SECRET).generate(&request).unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, Some(code)));
        assert_eq!((server.billed(), server.balance()), (0, balance));
        let has_page = kind != ErrorKind::Rejected;
        assert_eq!(error.help_url().is_some(), has_page, "{error}");
    }
}

#[test]
fn a_prompt_can_ask_for_an_error_which_costs_nothing() {
    let server = MockServer::start(Current);
    for (code, kind) in [
        ("IMAGE_FACE_UNSUITABLE", ErrorKind::Rejected),
        ("MODEL_PREREQUISITE_MISSING", ErrorKind::Rejected),
        ("MODEL_SUBJECT_MISMATCH", ErrorKind::Rejected),
        ("INTERNAL_ERROR", ErrorKind::Service),
        ("SERVICE_UNAVAILABLE", ErrorKind::Service),
        ("UPSTREAM_TIMEOUT", ErrorKind::Service),
    ] {
        let request = GenerateRequest::new().prompt(format!("Hi [{code}]"));
        let error = api(&server, SECRET).generate(&request).unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, Some(code)));
    }
    assert_eq!((server.billed(), server.balance()), (0, 1_000_000));
    // The 2025 API has no such codes.
    let old = MockServer::start(V2025);
    let request = GenerateRequest::new().prompt("[IMAGE_FACE_UNSUITABLE]");
    api(&old, SECRET).generate(&request).unwrap();
}

#[test]
fn a_third_essence_2_at_once_fails_and_costs_nothing() {
    let server = MockServer::start(Current);
    let api = api(&server, SECRET);
    let request = GenerateRequest::new().model("essence-2");
    let before = server.balance();
    let ids = [(); 3].map(|()| api.generate(&request).unwrap().agent_id);
    assert_eq!(before - server.balance(), 1000);
    let third = api.wait(&ids[2], &Wait::new()).unwrap_err();
    assert_eq!(third.kind(), ErrorKind::GenerationFailed);
    assert_eq!((server.billed(), server.refunded()), (2, 0));
    api.wait(&ids[0], &Wait::new()).unwrap();
    api.generate(&request).unwrap();
    assert_eq!(before - server.balance(), 1500);
}

#[test]
fn errors_come_in_each_of_the_four_shapes() {
    for version in VERSIONS {
        for shape in [
            ErrorShape::V2025,
            ErrorShape::Older,
            ErrorShape::Current,
            ErrorShape::Gateway,
        ] {
            let server = MockServer::start(Settings {
                error_shape: Some(shape),
                ..version.into()
            });
            let error = api(&server, "wrong").status("A1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized);
            let is_gateway = shape == ErrorShape::Gateway;
            assert_eq!(error.code(), (!is_gateway).then_some("UNAUTHORIZED"));
        }
    }
}
