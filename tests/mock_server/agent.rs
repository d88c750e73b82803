//! The life of an agent: the steps of its generations and how its record describes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bithuman::serde_json::{Map, Value, json};

use super::ApiVersion;

/// An agent, and the latest generation of each of its models.
pub struct Agent {
    pub id: String,
    /// The fields of the generate request.
    pub fields: Map<String, Value>,
    /// The number of the agent. Its time of creation follows from it.
    pub number: usize,
    /// The model it was created with.
    pub model: String,
    pub generations: BTreeMap<String, Generation>,
    pub is_deleted: bool,
}

pub struct Generation {
    steps: &'static [Step],
    /// Why it fails, if it does.
    failure: &'static str,
    started: Instant,
    status_requests: usize,
    /// How long it takes. Without it, each status request advances the generation by one step.
    time: Option<Duration>,
    /// What was charged for it and not refunded.
    credits: u64,
}

/// A step of a generation, in the words of a status response.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub status: &'static str,
    /// From 0.0 to 1.0. The 2025 API does not have it.
    pub progress: f64,
    /// What the service works on. The 2025 API does not have it.
    pub name: &'static str,
}

/// How a generation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Ready,
    Failed,
    FailedAtOnce,
}

impl Generation {
    pub fn new(version: ApiVersion, ending: Ending, time: Option<Duration>, credits: u64) -> Self {
        Generation {
            steps: steps(version, ending),
            failure: match ending {
                Ending::FailedAtOnce => "two essence-2 creations are running; nothing was charged",
                _ => "this failure was requested",
            },
            started: Instant::now(),
            status_requests: 0,
            time,
            credits,
        }
    }

    pub fn step(&self) -> Step {
        let last = self.steps.len() - 1;
        let index = match self.time {
            Some(time) => {
                let fraction = self.started.elapsed().as_secs_f64() / time.as_secs_f64();
                (fraction * last as f64) as usize
            }
            None => self.status_requests,
        };
        self.steps[index.min(last)]
    }

    pub fn is_running(&self) -> bool {
        !matches!(self.step().status, "ready" | "failed")
    }

    /// Counts a status request. Returns the credits to refund, if the generation just failed.
    pub fn advance(&mut self) -> Option<u64> {
        let has_failed = self.step().status == "failed";
        self.status_requests += 1;
        let credits = std::mem::take(&mut self.credits);
        if !has_failed {
            self.credits = credits;
        }
        Some(credits).filter(|credits| has_failed && *credits > 0)
    }

    /// Returns the model's part of `model_status`.
    fn state(&self) -> Value {
        match self.step().status {
            "ready" => json!({"state": "ready", "reason": null}),
            "failed" => json!({"state": "failed", "reason": self.failure}),
            _ => json!({"state": "pending", "reason": null}),
        }
    }
}

impl Agent {
    /// The step of the generation that created the agent. Models added later do not change its word.
    fn step(&self) -> Step {
        self.generations[&self.model].step()
    }

    /// Returns the full record, which is the `data` of a status response.
    pub fn record(&self, version: ApiVersion) -> Value {
        let (id, fields, step) = (&self.id, &self.fields, self.step());
        let failure = self.generations[&self.model].failure;
        let is_ready = step.status == "ready";
        let result = |file| is_ready.then(|| format!("https://mock-server.invalid/{id}/{file}"));
        let mut record = json!({
            "agent_id": id,
            "event_type": if is_ready { "lip_created" } else { "started" },
            "status": step.status,
            "error_message": (step.status == "failed").then_some(failure),
            "created_at": self.created_at(),
            "updated_at": "2025-08-01T09:59:15.159901+00:00",
            "system_prompt": fields.get("prompt"),
            "image_url": sent_url(fields, "image").or_else(|| result("image.jpg")),
            "video_url": sent_url(fields, "video").or_else(|| result("video.mp4")),
            "name": "Mock agent",
            "model_url": result("model.imx"),
        });
        if version == ApiVersion::Current {
            let states = self.generations.iter();
            let states = states.map(|(model, generation)| (model.clone(), generation.state()));
            record["progress"] = json!(step.progress);
            record["progress_msg"] = json!(format!("{}: {:.0}%", step.name, step.progress * 100.0));
            record["current_step"] = json!(step.name);
            record["model"] = json!(self.model);
            record["supported_models"] = self.generations.keys().cloned().collect();
            record["model_status"] = Value::Object(states.collect());
        }
        record
    }

    /// Returns the agent as a list of agents shows it.
    pub fn summary(&self) -> Value {
        json!({
            "agent_id": self.id,
            "status": self.step().status,
            "name": "Mock agent",
            "created_at": self.created_at(),
        })
    }

    /// A minute after the agent before it.
    fn created_at(&self) -> String {
        let (hour, minute) = (self.number / 60 % 24, self.number % 60);
        format!("2025-08-01T{hour:02}:{minute:02}:51.907177+00:00")
    }
}

/// Returns the steps of a generation. Their statuses come in the order of the documentation.
fn steps(version: ApiVersion, ending: Ending) -> &'static [Step] {
    match (version, ending) {
        (_, Ending::FailedAtOnce) => FAILED_AT_ONCE,
        (ApiVersion::V2025, Ending::Ready) => READY_2025,
        (ApiVersion::V2025, Ending::Failed) => FAILED_2025,
        (ApiVersion::Current, Ending::Ready) => READY,
        (ApiVersion::Current, Ending::Failed) => FAILED,
    }
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

const FAILED_AT_ONCE: &[Step] = &[step("failed", 0.0, "payment")];

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
