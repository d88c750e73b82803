//! The life of an agent: the steps of its generation and how a status response describes them. All
//! of it is pure functions.

use std::time::Duration;

use bithuman::serde_json::{Map, Value, json};

use super::ApiVersion;

/// A step of a generation, in the words of a status response.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub status: &'static str,
    /// From 0.0 to 1.0. The 2025 API does not have it.
    pub progress: f64,
    /// What the service works on. The 2025 API does not have it.
    pub name: &'static str,
}

/// Returns the steps of a generation. Their statuses come in the order of the documentation.
pub fn steps(version: ApiVersion, fails: bool) -> &'static [Step] {
    match (version, fails) {
        (ApiVersion::V2025, false) => READY_2025,
        (ApiVersion::V2025, true) => FAILED_2025,
        (ApiVersion::Current, false) => READY,
        (ApiVersion::Current, true) => FAILED,
    }
}

/// Returns the step of a generation that advances with each status request.
pub fn step_by_requests(steps: &[Step], requests: usize) -> Step {
    steps[requests.min(steps.len() - 1)]
}

/// Returns the step of a generation that takes `generation_time`, after `elapsed`.
pub fn step_by_time(steps: &[Step], elapsed: Duration, generation_time: Duration) -> Step {
    let last = steps.len() - 1;
    let fraction = elapsed.as_secs_f64() / generation_time.as_secs_f64();
    let index = (fraction * last as f64) as usize;
    steps[index.min(last)]
}

/// Returns the `data` of a status response. `fields` are those of the generate request.
pub fn status_data(
    version: ApiVersion,
    id: &str,
    fields: &Map<String, Value>,
    step: Step,
) -> Value {
    let is_ready = step.status == "ready";
    let mut data = json!({
        "agent_id": id,
        "event_type": if is_ready { "lip_created" } else { "started" },
        "status": step.status,
        "error_message": (step.status == "failed").then_some("this failure was requested"),
        "created_at": "2025-08-01T13:58:51.907177+00:00",
        "updated_at": "2025-08-01T09:59:15.159901+00:00",
        "system_prompt": fields.get("prompt"),
        "image_url": sent_url(fields, "image").or_else(|| result_url(id, "image.jpg", is_ready)),
        "video_url": sent_url(fields, "video").or_else(|| result_url(id, "video.mp4", is_ready)),
        "name": "Mock agent",
        "model_url": result_url(id, "model.imx", is_ready),
    });
    if version == ApiVersion::Current {
        let model = fields.get("model").and_then(Value::as_str);
        data["progress"] = json!(step.progress);
        data["progress_msg"] = json!(format!("{}: {:.0}%", step.name, step.progress * 100.0));
        data["current_step"] = json!(step.name);
        data["supported_models"] = json!([model.unwrap_or("essence-2")]);
    }
    data
}

const READY_2025: &[Step] = &[
    step("processing", 0.0, ""),
    step("processing", 0.0, ""),
    step("ready", 1.0, ""),
];

const FAILED_2025: &[Step] = &[step("processing", 0.0, ""), step("failed", 0.0, "")];

const READY: &[Step] = &[
    step("processing", 0.0, "payment"),
    step("generating", 0.02, "persona"),
    step("generating", 0.35, "voice_image"),
    step("generating", 0.6, "video"),
    step("completed", 0.85, "lip_sync"),
    step("success", 0.95, "lip_sync"),
    step("ready", 1.0, "done"),
];

const FAILED: &[Step] = &[
    step("processing", 0.0, "payment"),
    step("generating", 0.1, "persona"),
    step("failed", 0.1, "persona"),
];

const fn step(status: &'static str, progress: f64, name: &'static str) -> Step {
    Step {
        status,
        progress,
        name,
    }
}

/// Returns the URL of a media file that the caller sent as a URL.
fn sent_url(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let text = fields.get(name)?.as_str()?;
    text.starts_with("http").then(|| text.to_owned())
}

/// Returns the URL of a file that the generation produced.
fn result_url(id: &str, file: &str, is_ready: bool) -> Option<String> {
    is_ready.then(|| format!("https://mock-server.invalid/{id}/{file}"))
}
