use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::agent::{Status, take};
use crate::api::Api;
use crate::body::{Body, Field};
use crate::error::{Error, ErrorKind, Result};
use crate::media::Media;
use crate::retry;
use crate::status;

/// What to make an agent from. Everything is optional; what is not set is not sent.
///
/// `prompt`, `image`, `video` and `audio` are what the service of 2025 and that of 2026 know. The
/// service of 2026 refuses `video`, and knows the other fields.
///
/// ```
/// use bithuman::{GenerateRequest, Media};
///
/// let request = GenerateRequest::new()
///     .prompt("You are an art critic who analyzes visual artworks.")
///     .image(Media::url("https://example.com/artwork.jpg"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct GenerateRequest {
    fields: BTreeMap<&'static str, Field>,
    others: BTreeMap<String, Field>,
    idempotency_key: Option<String>,
}

/// The fields that have a setter.
const FIELDS: [&str; 10] =
    ["prompt", "image", "video", "audio", "model", "version", "aspect_ratio", "framing", "transparency", "agent_id"];

impl GenerateRequest {
    /// An empty request.
    pub fn new() -> Self {
        Self::default()
    }

    fn set(mut self, name: &'static str, field: Field) -> Self {
        self.fields.insert(name, field);
        self
    }

    fn text(self, name: &'static str, text: impl Into<String>) -> Self {
        self.set(name, Field::Json(Value::String(text.into())))
    }

    /// The agent's system prompt.
    pub fn prompt(self, prompt: impl Into<String>) -> Self {
        self.text("prompt", prompt)
    }

    /// The agent's picture.
    pub fn image(self, image: Media) -> Self {
        self.set("image", Field::Media(image))
    }

    /// A video of the agent. The service of 2026 refuses it, with nothing billed.
    pub fn video(self, video: Media) -> Self {
        self.set("video", Field::Media(video))
    }

    /// The agent's voice.
    pub fn audio(self, audio: Media) -> Self {
        self.set("audio", Field::Media(audio))
    }

    /// The model, such as `essence-2` or `auto` (2026). Default: the service's choice.
    pub fn model(self, model: impl Into<String>) -> Self {
        self.text("model", model)
    }

    /// The model's version, such as `v2` (2026).
    pub fn version(self, version: impl Into<String>) -> Self {
        self.text("version", version)
    }

    /// `16:9`, `9:16` or `1:1` (2026).
    pub fn aspect_ratio(self, ratio: impl Into<String>) -> Self {
        self.text("aspect_ratio", ratio)
    }

    /// `portrait` or `full_body` (2026).
    pub fn framing(self, framing: impl Into<String>) -> Self {
        self.text("framing", framing)
    }

    /// Whether the background is transparent (2026).
    pub fn transparency(self, transparent: bool) -> Self {
        self.set("transparency", Field::Json(Value::Bool(transparent)))
    }

    /// Your own identifier for the agent (2026). Default: the service's choice.
    pub fn agent_id(self, agent_id: impl Into<String>) -> Self {
        self.text("agent_id", agent_id)
    }

    /// The `Idempotency-Key`, 1 to 255 visible ASCII characters. Default: a new one for every call.
    ///
    /// For 24 hours the service of 2026 answers the same key with the first answer, and bills
    /// nothing. The document of 2025 knows no such header.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// A field the service has added since. One that has a setter is refused when sending.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.others.insert(name.into(), Field::Json(value.into()));
        self
    }

    pub(crate) fn own_key(&self) -> Option<&String> {
        self.idempotency_key.as_ref()
    }

    /// Opens what there is to send, or tells why it cannot be sent.
    fn body(&self) -> Result<Body> {
        if let Some(name) = self.others.keys().find(|name| FIELDS.contains(&name.as_str())) {
            return Err(Error::invalid(format!(
                "field(\"{name}\", ..) clashes with the setter of that name: use that"
            )));
        }
        if let Some(Field::Json(Value::String(id))) = self.fields.get("agent_id") {
            // The id will have to go into the path of a status, after the generate is paid.
            status::path(id)?;
        }
        Body::new(self.fields())
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Field)> {
        let others = self.others.iter().map(|(name, field)| (name.as_str(), field));
        self.fields.iter().map(|(name, field)| (*name, field)).chain(others)
    }
}

/// The service's answer to a generate: the agent it has begun to make.
///
/// Deserializing needs `agent_id` and `idempotency_key`; anything undocumented is in
/// [`extra`](Generation::extra).
///
/// ```
/// use bithuman::{Generation, serde_json};
///
/// let kept = r#"{"agent_id": "A91XMB7113", "status": "processing", "idempotency_key": "k", "replayed": false}"#;
/// let started: Generation = serde_json::from_str(kept)?;
/// assert_eq!(started.agent_id, "A91XMB7113");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Generation {
    /// The new agent's identifier: what [`Api::status`] and [`Api::wait`] ask for.
    pub agent_id: String,
    /// Where the generation stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The service's message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The `Idempotency-Key` the request went with.
    pub idempotency_key: String,
    /// Whether this is the answer to an earlier request with the same key, so that nothing was
    /// billed now.
    pub replayed: bool,
    /// Everything else the service sent.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Generation {
    /// `None` if there is no id.
    fn from_map(mut map: Map<String, Value>, idempotency_key: String, replayed: bool) -> Option<Self> {
        Some(Generation {
            agent_id: take(&mut map, "agent_id").filter(|id: &String| !id.is_empty())?,
            status: take(&mut map, "status"),
            message: take(&mut map, "message"),
            idempotency_key,
            replayed,
            extra: map,
        })
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut map = Map::deserialize(deserializer)?;
        let replayed = take(&mut map, "replayed").unwrap_or_default();
        take(&mut map, "idempotency_key")
            .and_then(|key| Generation::from_map(map, key, replayed))
            .ok_or_else(|| serde::de::Error::custom("a generation needs the strings agent_id and idempotency_key"))
    }
}

impl Api {
    /// Asks the service to make an agent: `POST /v1/agent/generate`. **This is billed.**
    ///
    /// Returns as soon as the service has named the agent; [`wait`](Api::wait) waits until it is
    /// ready. Media are read, checked and encoded before and while they are sent.
    ///
    /// It is sent again, up to [`retries`](crate::ApiBuilder::retries) times, only where that cannot
    /// be a second generate: if it was not taken and the trouble may pass (no connection, a break in
    /// mid-upload, 429, the service's own 503); and, with the same key, if it is unknown whether it
    /// was taken and the service [honours keys](crate::ApiBuilder::idempotency_honored).
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest};
    ///
    /// let api = Api::from_env()?;
    /// let started = api.generate(&GenerateRequest::new().prompt("You are a friendly assistant."))?;
    /// println!("{}", started.agent_id);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what cannot be sent, with no whole request sent; `ShutDown`; `Unauthorized`,
    /// `InsufficientBalance`, `NotFound`, `Rejected`, `RateLimited`, `Service`, `Network`, `Tls`,
    /// `Timeout` and `UnexpectedAnswer` as [`ErrorKind`](crate::ErrorKind) says. Each carries the
    /// [idempotency key](Error::idempotency_key), and tells with
    /// [`outcome_unknown`](Error::outcome_unknown) whether the service may have billed the call.
    pub fn generate(&self, request: &GenerateRequest) -> Result<Generation> {
        self.generate_until(request, None)
    }

    /// A generate with its resends, within a deadline.
    pub(crate) fn generate_until(&self, request: &GenerateRequest, deadline: Option<Duration>) -> Result<Generation> {
        let (text, mut body) = self.prepare(request)?;
        let key = Key { text, is_kept: request.own_key().is_some(), sent_before: None };
        self.submit(&key, &mut body, deadline)
    }

    /// The key to send with, and the body with everything opened.
    pub(crate) fn prepare(&self, request: &GenerateRequest) -> Result<(String, Body)> {
        let in_generate = |e: Error| e.with(|e| e.call = "generate");
        let key = match request.own_key() {
            Some(key) => check_key(key).map_err(in_generate)?,
            None => mint_key(),
        };
        let mut body = request.body().map_err(|e| in_generate(e).with(|e| e.idempotency_key = Some(key.clone())))?;
        body.meter = self.meter();
        Ok((key, body))
    }

    /// Sends, and sends again where that cannot be a second generate.
    pub(crate) fn submit(&self, key: &Key, body: &mut Body, deadline: Option<Duration>) -> Result<Generation> {
        let honored = self.shared.idempotency_honored;
        let since_now = self.age();
        let age = || key.sent_before.unwrap_or_default().saturating_add(since_now());
        let mut attempts = 0;
        let mut unknown = key.sent_before.is_some();
        loop {
            let started = self.shared.transport.post("/v1/agent/generate", body, &key.text, deadline, |answer| {
                let mut fields = answer.json.clone();
                // The last two are this crate's in a Generation; a service that echoes them says nothing new.
                fields.retain(|name, _| !["success", "idempotency_key", "replayed"].contains(&name.as_str()));
                Generation::from_map(fields, key.text.clone(), answer.head.is_replayed())
                    .ok_or_else(|| answer.lacks("the answer names no agent"))
            });
            let Err(error) = started else { return started };
            let kind = error.kind();
            let error = error.with(|e| {
                if e.attempts > 0 {
                    // Once unknown, always unknown: a later attempt tells nothing of an earlier one.
                    unknown |= retry::outcome_unknown(body.handed_over(), e.http_status, e.refused);
                }
                attempts += e.attempts;
                (e.call, e.attempts, e.idempotency_key) = ("generate", attempts, Some(key.text.clone()));
            });
            // An upload that was too slow once will be again.
            let too_slow = kind == ErrorKind::Timeout && body.sent() > 0 && !body.handed_over();
            // Asked again after the sleep: a key grows old while the machine is suspended.
            let may_resend = || kind.passes() && !too_slow && retry::may_resend(unknown, honored, age());
            if !may_resend() || !self.pause(attempts, &error, deadline) || !may_resend() {
                return Err(error.with(|e| {
                    e.outcome_unknown = unknown;
                    e.advice = ((kind.passes() || kind == ErrorKind::ShutDown) && !unknown)
                        .then_some("it was not taken: send it again later")
                        .or(e.advice);
                    e.repeat_is_safe = !unknown || key.is_kept && retry::may_resend(true, honored, age());
                }));
            }
        }
    }
}

/// The idempotency key of a generate, and its past.
pub(crate) struct Key {
    pub text: String,
    /// Whether the same call again would go with the same key.
    pub is_kept: bool,
    /// How long ago an earlier call sent it first, whose outcome is unknown.
    pub sent_before: Option<Duration>,
}

pub(crate) fn check_key(key: &str) -> Result<String> {
    if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(key.into())
    } else {
        Err(Error::invalid("an idempotency key is 1 to 255 visible ASCII characters"))
    }
}

/// A key nobody has used: 128 random bits.
fn mint_key() -> String {
    format!("bithuman-{:016x}{:016x}", retry::random(), retry::random())
}
