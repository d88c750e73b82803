use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// An agent as the service last described it: the answer to [`Api::status`](crate::Api::status).
///
/// Only `agent_id` and `status` are always there. A field that the service leaves out or sends as
/// null is `None`; one of a type that is not documented is `None` too, with the value kept in
/// [`extra`](Agent::extra), as is every field this crate does not know. Serialized and read back
/// it is the same.
///
/// ```
/// use bithuman::{Agent, serde_json};
///
/// let kept = r#"{"agent_id": "A91XMB7113", "status": "success", "progress": 0.6, "mood": "calm"}"#;
/// let agent: Agent = serde_json::from_str(kept)?;
/// assert!(!agent.is_ready() && agent.extra["mood"] == "calm");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Agent {
    /// The agent's identifier. Unlike all else, it is never masked, not even where it holds the secret:
    /// without it the agent would be lost.
    pub agent_id: String,
    /// Where the generation stands.
    pub status: Status,
    /// The service's last internal event, such as `lip_created`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Why the generation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When the agent was created, as the service writes it (RFC 3339). The service has been seen
    /// to write a later time here than in `updated_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When the agent last changed, as the service writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The agent's system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// The agent's picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// The agent's video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// The agent's display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the model can be downloaded. May be `None` for an agent that is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_url: Option<String>,
    /// How much of the generation is done, 0.0 to 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// The progress in the service's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_msg: Option<String>,
    /// The step at work, such as `lip_sync`. `awaiting_face_marking` waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_step: Option<String>,
    /// The models the agent can be used with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported_models: Option<Vec<String>>,
    /// The agent's voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice_id: Option<String>,
    /// The agent's description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Everything else the service sent.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Agent {
    /// Whether the agent can be used: `ready`, or `success` with `progress` 1.0.
    pub fn is_ready(&self) -> bool {
        match self.status {
            Status::Ready => true,
            Status::Success => self.progress.is_some_and(|progress| progress >= 1.0),
            _ => false,
        }
    }

    /// Whether the generation failed; [`error_message`](Agent::error_message) may tell why.
    pub fn is_failed(&self) -> bool {
        self.status == Status::Failed
    }

    /// Whether the generation has ended, ready or failed.
    pub fn is_finished(&self) -> bool {
        self.is_ready() || self.is_failed()
    }
}

/// The fields that are texts, in the order of the struct.
const TEXTS: [&str; 13] = [
    "event_type",
    "error_message",
    "created_at",
    "updated_at",
    "system_prompt",
    "image_url",
    "video_url",
    "name",
    "model_url",
    "progress_msg",
    "current_step",
    "voice_id",
    "description",
];

/// Straight from the text: to build a map first, and to take the fields out of it, takes nearly three
/// times the instructions (callgrind).
impl<'de> Deserialize<'de> for Agent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

/// Stores a text, or gives back what is none.
fn text(value: Value, slot: &mut Option<String>) -> Option<Value> {
    *slot = None;
    match value {
        Value::String(text) => {
            *slot = Some(text);
            None
        }
        Value::Null => None,
        other => Some(other),
    }
}

/// The name of a field, which need not be copied to be compared.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Fields {
    type Value = Agent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an agent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Agent, A::Error> {
        let (mut agent_id, mut status, mut progress, mut supported_models) = (None, None, None, None::<Vec<String>>);
        let mut texts: [Option<String>; TEXTS.len()] = Default::default();
        let mut extra = Map::new();
        while let Some(Name(name)) = map.next_key()? {
            // Of a field that comes twice the last one counts.
            if !extra.is_empty() {
                extra.remove(&*name);
            }
            let slot = TEXTS.iter().zip(&mut texts).find(|(text, _)| **text == name).map(|(_, slot)| slot);
            let other = match (&*name, map.next_value()?, slot) {
                (_, value, Some(slot)) => text(value, slot),
                ("agent_id", value, _) => text(value, &mut agent_id),
                ("status", value, _) => text(value, &mut status),
                ("progress", value, _) => {
                    progress = value.as_f64();
                    Some(value).filter(|value| !value.is_number() && !value.is_null())
                }
                ("supported_models", value, _) => {
                    supported_models = Vec::deserialize(&value).ok();
                    Some(value).filter(|value| supported_models.is_none() && !value.is_null())
                }
                (_, value, _) => Some(value),
            };
            if let Some(other) = other {
                extra.insert(name.into(), other);
            }
        }
        let (Some(agent_id), Some(status)) = (agent_id, status) else {
            return Err(A::Error::custom("an agent needs the strings agent_id and status"));
        };
        let [event_type, error_message, created_at, updated_at, system_prompt, texts @ ..] = texts;
        let [image_url, video_url, name, model_url, progress_msg, current_step, voice_id, description] = texts;
        Ok(Agent {
            agent_id,
            status: Status::from(status),
            event_type,
            error_message,
            created_at,
            updated_at,
            system_prompt,
            image_url,
            video_url,
            name,
            model_url,
            progress,
            progress_msg,
            current_step,
            supported_models,
            voice_id,
            description,
            extra,
        })
    }
}

/// Takes a field out of an answer if it has the documented type, and leaves it if it has another.
pub(crate) fn take<T: DeserializeOwned>(map: &mut Map<String, Value>, name: &str) -> Option<T> {
    let value = map.get(name)?;
    let taken = match value {
        Value::Null => None,
        other => Some(T::deserialize(other).ok()?),
    };
    map.remove(name);
    taken
}

/// Where a generation stands, in the service's words.
///
/// Only `ready`, `failed`, and `success` with `progress` 1.0 are ends: see
/// [`Agent::is_finished`]. Statuses may be added: keep a `_` arm.
///
/// ```
/// use bithuman::Status;
///
/// assert_eq!(Status::from("ready".to_owned()), Status::Ready);
/// assert_eq!(Status::from("dreaming".to_owned()).as_str(), "dreaming");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Status {
    /// `processing`: being generated (2025), queued (2026).
    Processing,
    /// `generating`: at work.
    Generating,
    /// `completed`: a sub-step ended. Not an end; it can come at 5 %.
    Completed,
    /// `success`: a sub-step ended. An end only together with `progress` 1.0.
    Success,
    /// `ready`: the agent can be used.
    Ready,
    /// `failed`: the generation failed.
    Failed,
    /// A status this crate does not know, as the service wrote it. Not an end.
    Unknown(String),
}

impl Status {
    /// The service's word.
    pub fn as_str(&self) -> &str {
        match self {
            Status::Processing => "processing",
            Status::Generating => "generating",
            Status::Completed => "completed",
            Status::Success => "success",
            Status::Ready => "ready",
            Status::Failed => "failed",
            Status::Unknown(word) => word,
        }
    }
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "processing" => Status::Processing,
            "generating" => Status::Generating,
            "completed" => Status::Completed,
            "success" => Status::Success,
            "ready" => Status::Ready,
            "failed" => Status::Failed,
            _ => Status::Unknown(word),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        status.as_str().into()
    }
}
