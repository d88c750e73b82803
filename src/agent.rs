//! An agent as the service describes it.

use std::{collections::BTreeMap, fmt};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::json::{self, Fields, MAX_EXTRA};

/// An agent as the service last described it: the result of [`Api::status`](crate::Api::status).
///
/// Only `agent_id` and `status` are always present. A field that the service leaves out or sends
/// as null is `None`. A field of an undocumented type is `None` too, with its value in
/// [`extra`](Agent::extra), where undocumented fields are. Serialized and deserialized, an agent
/// stays the same.
///
/// ```
/// use bithuman::{Agent, serde_json};
///
/// let saved = r#"{"agent_id": "A91XMB7113", "status": "success", "progress": 0.6, "mood": "calm"}"#;
/// let agent: Agent = serde_json::from_str(saved)?;
/// assert!(!agent.is_ready() && !agent.is_failed() && !agent.is_finished());
/// assert_eq!(agent.extra["mood"], "calm");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Agent {
    /// The agent's identifier.
    pub agent_id: String,
    /// The state of the generation.
    pub status: Status,
    /// The service's last internal event, such as `lip_created`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Why the generation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// When the agent was created, as the service writes it (RFC 3339).
    ///
    /// The service has been seen to write a later time here than in `updated_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When the agent last changed, as the service writes it (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The agent's system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// The URL of the agent's picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// The URL of the agent's video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// The agent's display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL of the agent's model file. May be `None` for an agent that is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_url: Option<String>,
    /// How much of the generation is done, from 0.0 to 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// The progress in the service's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_msg: Option<String>,
    /// The current step, such as `lip_sync`.
    ///
    /// In `awaiting_face_marking` the service waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_step: Option<String>,
    /// The model that the agent was created with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The models that the agent can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported_models: Option<Vec<String>>,
    /// How far each of the agent's models is, by the model's name.
    ///
    /// Empty if the service does not say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_status: BTreeMap<String, ModelStatus>,
    /// The agent's voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice_id: Option<String>,
    /// The agent's description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The agent's language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Every other field the service sent, up to 64 KiB of JSON.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Agent {
    /// Returns whether the agent can be used: `ready`, or `success` with a `progress` of 1.0.
    pub fn is_ready(&self) -> bool {
        match self.status {
            Status::Ready => true,
            Status::Success => self.progress == Some(1.0),
            _ => false,
        }
    }

    /// Returns whether the generation failed. [`error_message`](Agent::error_message) may say why.
    pub fn is_failed(&self) -> bool {
        self.status == Status::Failed
    }

    /// Returns whether nothing more will happen: the agent is ready, failed or deleted.
    pub fn is_finished(&self) -> bool {
        self.is_ready() || self.is_failed() || self.status == Status::Deleted
    }

    /// The id in a record, which some records call `code`.
    pub(crate) fn id_in(fields: &Fields) -> Option<String> {
        fields.id("agent_id").or_else(|| fields.id("code"))
    }

    /// Reads the service's record of an agent. `None` if it has no status.
    pub(crate) fn from_fields(fields: &Fields, agent_id: String) -> Option<Self> {
        let mut agent = Agent::new(agent_id, fields.text("status")?.into());
        agent.extra = fields.read(|name, json| match name {
            "agent_id" | "status" => true,
            "progress" => json::take(json, &mut agent.progress),
            "supported_models" => json::take(json, &mut agent.supported_models),
            "model_status" => ModelStatus::take_all(json, &mut agent.model_status),
            _ => match agent.text_field(name) {
                Some(field) => json::take_text(json, field),
                None => false,
            },
        });
        Some(agent)
    }

    fn new(agent_id: String, status: Status) -> Self {
        Agent {
            agent_id,
            status,
            event_type: None,
            error_message: None,
            created_at: None,
            updated_at: None,
            system_prompt: None,
            image_url: None,
            video_url: None,
            name: None,
            model_url: None,
            progress: None,
            progress_msg: None,
            current_step: None,
            model: None,
            supported_models: None,
            model_status: BTreeMap::new(),
            voice_id: None,
            description: None,
            language: None,
            extra: Map::new(),
        }
    }

    fn text_field(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "event_type" => &mut self.event_type,
            "error_message" => &mut self.error_message,
            "created_at" => &mut self.created_at,
            "updated_at" => &mut self.updated_at,
            "system_prompt" => &mut self.system_prompt,
            "image_url" => &mut self.image_url,
            "video_url" => &mut self.video_url,
            "name" => &mut self.name,
            "model_url" => &mut self.model_url,
            "progress_msg" => &mut self.progress_msg,
            "current_step" => &mut self.current_step,
            "model" => &mut self.model,
            "voice_id" => &mut self.voice_id,
            "description" => &mut self.description,
            "language" => &mut self.language,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Agent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = json::reread(deserializer)?;
        let fields = Fields::parse(&json);
        let id = Agent::id_in(&fields);
        let agent = id.and_then(|id| Agent::from_fields(&fields, id));
        agent.ok_or_else(|| Error::custom("an agent needs agent_id and status"))
    }
}

/// How far one of an agent's models is.
///
/// ```
/// use bithuman::{Agent, serde_json};
///
/// let saved = r#"{"agent_id": "A91XMB7113", "status": "completed",
///     "model_status": {"essence-2": {"state": "ready", "reason": null}}}"#;
/// let agent: Agent = serde_json::from_str(saved)?;
/// assert!(agent.model_status["essence-2"].is_ready());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelStatus {
    /// `pending`, `ready` or `failed`, or a word that the service has added since.
    ///
    /// Empty if the service sends none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Why the model has this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Every other field the service sent, up to 64 KiB of JSON.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ModelStatus {
    /// Returns whether the agent can run the model.
    pub fn is_ready(&self) -> bool {
        self.is("ready")
    }

    /// Returns whether the model failed. [`reason`](ModelStatus::reason) may say why.
    pub fn is_failed(&self) -> bool {
        self.is("failed")
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.is("pending")
    }

    fn is(&self, word: &str) -> bool {
        self.state.trim().eq_ignore_ascii_case(word)
    }

    /// Sets the models from JSON that is an object or null, and not too long for `extra`: it has too
    /// many values then. Returns `false` for another.
    fn take_all(json: &str, all: &mut BTreeMap<String, Self>) -> bool {
        all.clear();
        if json.len() > MAX_EXTRA {
            return false;
        }
        let models = Fields::parse(json);
        for (name, _) in models.iter() {
            let model = models.object(name);
            let (mut state, mut reason) = (None, None);
            let extra = model.read(|name, json| match name {
                "state" if model.is_whole => json::take_text(json, &mut state),
                "reason" => json::take_text(json, &mut reason),
                _ => false,
            });
            if !model.is_whole {
                // The word alone, instead of an object with it.
                state = models.any_text(name);
            }
            let status = ModelStatus {
                state: state.unwrap_or_default(),
                reason,
                extra,
            };
            all.insert(name.into(), status);
        }
        models.is_whole || json == "null"
    }
}

/// The state of a generation, in the service's words.
///
/// Only `ready`, `failed`, `deleted`, and `success` with a `progress` of 1.0 are ends: see
/// [`Agent::is_finished`]. Words are compared without case and surrounding blanks. Statuses may be
/// added: keep a `_` arm.
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
    /// `processing`: the agent is being generated (2025 API) or queued (current API).
    Processing,
    /// `generating`: the agent is being generated.
    Generating,
    /// `completed`: a step ended. Not an end: it can come at 5%.
    Completed,
    /// `success`: a step ended. An end only together with a `progress` of 1.0.
    Success,
    /// `ready`: the agent can be used.
    Ready,
    /// `failed`: the generation failed.
    Failed,
    /// `deleted`: the agent no longer exists.
    Deleted,
    /// A status that this crate does not know, as the service wrote it. Not an end.
    Unknown(String),
}

impl Status {
    /// Returns the service's word.
    pub fn as_str(&self) -> &str {
        match self {
            Status::Processing => "processing",
            Status::Generating => "generating",
            Status::Completed => "completed",
            Status::Success => "success",
            Status::Ready => "ready",
            Status::Failed => "failed",
            Status::Deleted => "deleted",
            Status::Unknown(word) => word,
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Status::Unknown(_))
    }
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.trim().to_ascii_lowercase().as_str() {
            "processing" => Status::Processing,
            "generating" => Status::Generating,
            "completed" => Status::Completed,
            "success" => Status::Success,
            "ready" => Status::Ready,
            "failed" => Status::Failed,
            "deleted" => Status::Deleted,
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
