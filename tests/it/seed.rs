//! The samples of the 2025 document, word for word.

use bithuman::serde_json::{self, Value};
use bithuman::{Agent, ErrorKind, GenerateRequest, Generation, Media, Status, Wait};

use crate::support::{Answer, Service, secs};

const GENERATE_REQUEST: &str = r#"{
    "prompt": "You are a professional video content creator who helps with social media content."
}"#;

const GENERATE_REQUEST_WITH_MEDIA: &str = r#"{
    "prompt": "You are an art critic who analyzes visual artworks.",
    "image": "https://example.com/artwork.jpg"
}"#;

const GENERATE_RESPONSE: &str = r#"{
  "success": true,
  "message": "Agent generation started",
  "agent_id": "A91XMB7113",
  "status": "processing"
}"#;

/// The document's copy lacks the outer braces.
const STATUS_RESPONSE: &str = r#"{
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

const ERROR_RESPONSE: &str = r#"{
    "error": "Invalid API secret",
    "code": "UNAUTHORIZED",
    "details": "Please check your API secret from imaginex.bithuman.ai"
}"#;

fn parsed(sample: &str) -> Value {
    serde_json::from_str(sample).unwrap()
}

fn answering(status: u16, sample: &str) -> Answer {
    Answer::new(status, sample).header("content-type", "application/json")
}

fn assert_is_the_sample(agent: &Agent) {
    assert_eq!(agent.agent_id, "agent id");
    assert_eq!(agent.event_type.as_deref(), Some("lip_created"));
    assert_eq!(agent.status, Status::Ready);
    assert_eq!(agent.error_message, None);
    assert_eq!(agent.created_at.as_deref(), Some("2025-08-01T13:58:51.907177+00:00"));
    assert_eq!(agent.updated_at.as_deref(), Some("2025-08-01T09:59:15.159901+00:00"));
    assert_eq!(agent.system_prompt.as_deref(), Some("your agent prompt"));
    assert_eq!(agent.image_url.as_deref(), Some("your_image_url"));
    assert_eq!(agent.video_url.as_deref(), Some("your_video_url"));
    assert_eq!(agent.name.as_deref(), Some("agent name"));
    assert_eq!(agent.model_url.as_deref(), Some("your model url"));
    assert_eq!((agent.progress, &agent.progress_msg, &agent.current_step), (None, &None, &None));
    assert_eq!((&agent.supported_models, &agent.voice_id, &agent.description), (&None, &None, &None));
    assert!(agent.extra.is_empty(), "{:?}", agent.extra);
    assert!(agent.is_ready() && agent.is_finished() && !agent.is_failed());
}

#[test]
fn the_example_requests_go_out_as_written() {
    let rows = [
        (
            GenerateRequest::new()
                .prompt("You are a professional video content creator who helps with social media content."),
            GENERATE_REQUEST,
        ),
        (
            GenerateRequest::new()
                .prompt("You are an art critic who analyzes visual artworks.")
                .image(Media::url("https://example.com/artwork.jpg")),
            GENERATE_REQUEST_WITH_MEDIA,
        ),
    ];
    for (request, sample) in rows {
        let service = Service::new([answering(200, GENERATE_RESPONSE)]);
        service.api().generate(&request).unwrap();
        assert_eq!(service.request().json(), parsed(sample));
    }
}

#[test]
fn the_generate_response_is_read() {
    let service = Service::new([answering(200, GENERATE_RESPONSE)]);
    let generation = service.api().generate(&GenerateRequest::new()).unwrap();
    assert_eq!(generation.agent_id, "A91XMB7113");
    assert_eq!(generation.status, Some(Status::Processing));
    assert_eq!(generation.message.as_deref(), Some("Agent generation started"));
    assert!(!generation.replayed);
    assert!(generation.extra.is_empty(), "{:?}", generation.extra);
}

#[test]
fn the_status_response_is_read() {
    let service = Service::new([answering(200, STATUS_RESPONSE)]);
    assert_is_the_sample(&service.api().status("agent id").unwrap());
    assert_eq!(service.request().target, "/v1/agent/status/agent%20id");
}

#[test]
fn the_status_response_is_kept_by_serde() {
    let mut data = parsed(STATUS_RESPONSE)["data"].take();
    let agent: Agent = serde_json::from_value(data.clone()).unwrap();
    assert_is_the_sample(&agent);
    data.as_object_mut().unwrap().remove("error_message");
    assert_eq!(serde_json::to_value(&agent).unwrap(), data);
}

#[test]
fn the_error_response_is_read() {
    let service = Service::new([answering(401, ERROR_RESPONSE)]);
    let error = service.api().generate(&GenerateRequest::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(error.message(), Some("Invalid API secret"));
    assert_eq!(error.code(), Some("UNAUTHORIZED"));
    assert_eq!(error.details(), Some("Please check your API secret from imaginex.bithuman.ai"));
    assert_eq!(
        error.to_string(),
        "generate: the service refused the API secret (401 UNAUTHORIZED): Invalid API secret. \
         Please check your API secret from imaginex.bithuman.ai"
    );
}

#[test]
fn the_complete_example_ends_with_the_model_url() {
    let processing = STATUS_RESPONSE.replace("\"ready\"", "\"processing\"");
    let failed = STATUS_RESPONSE.replace("\"ready\"", "\"failed\"");
    let steps = |last: &str| {
        let first = [answering(200, GENERATE_RESPONSE), answering(200, &processing), answering(200, &processing)];
        first.into_iter().chain([answering(200, last)])
    };
    let request = GenerateRequest::new().prompt("You are a friendly AI assistant that helps with creative writing.");

    let service = Service::new(steps(STATUS_RESPONSE));
    let agent = service.api().generate_and_wait(&request, &Wait::new()).unwrap();
    assert_eq!(agent.model_url.as_deref(), Some("your model url"));
    assert_eq!(service.clock.sleeps(), [secs(5); 3]);
    let targets: Vec<_> = service.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets[0], "/v1/agent/generate");
    assert_eq!(targets[1..], ["/v1/agent/status/A91XMB7113"; 3]);

    let service = Service::new(steps(&failed));
    let error = service.api().generate_and_wait(&request, &Wait::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GenerationFailed);
    let line = error.to_string();
    assert!(
        line.starts_with("wait: agent A91XMB7113: the generation failed, and the service does not say why"),
        "{line}"
    );
}

#[test]
fn a_generation_is_kept_by_serde() {
    let service = Service::new([answering(200, GENERATE_RESPONSE)]);
    let generation = service.api().generate(&GenerateRequest::new().idempotency_key("k")).unwrap();
    let mut expected = parsed(GENERATE_RESPONSE);
    let fields = expected.as_object_mut().unwrap();
    fields.remove("success");
    fields.extend([("idempotency_key".into(), "k".into()), ("replayed".into(), false.into())]);
    let value = serde_json::to_value(&generation).unwrap();
    assert_eq!(value, expected);
    assert_eq!(serde_json::from_value::<Generation>(value).unwrap(), generation);
}
