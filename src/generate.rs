//! `POST /v1/agent/generate`: the request, its response, and the call that never bills twice.

mod submission;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::acceptance::{Outcome, acceptance};
use crate::body::{Body, Field};
use crate::error::{Billing, Error, ErrorKind, Result};
use crate::http::{LARGE_BODY, Method, Request, Response};
use crate::json::{self, Fields};
use crate::text::describe_char;
use crate::{agent::Status, api::Api, event::Event, media::Media, retry, status};

pub(crate) use submission::{KEY_TOO_OLD, NOT_SENT, Submission, accepted_line};

const PATH: &str = "/v1/agent/generate";

/// What to create an agent from. Every field is optional; one that is not set is not sent.
///
/// The 2025 API knows `prompt`, `image`, `video` and `audio`. The current API rejects `video`,
/// knows the other fields, and requires `model` from 2026-12-26.
///
/// ```
/// use bithuman::{GenerateRequest, Media};
///
/// let request = GenerateRequest::new()
///     .prompt("You are an art critic who analyzes visual artworks.")
///     .image(Media::url("https://example.com/artwork.jpg"))
///     .model("essence-2");
/// ```
///
/// Every field of the current API for a new agent, and one that has no setter:
///
/// ```
/// use bithuman::{GenerateRequest, Media};
///
/// let request = GenerateRequest::new()
///     .prompt("You are a weather presenter.")
///     .image(Media::file("cloud.png"))
///     .audio(Media::file("voice.mp3"))
///     .model("expression-2")
///     .aspect_ratio("16:9")
///     .framing("portrait")
///     .transparency(true)
///     .field("language", "en")
///     .idempotency_key("weather-presenter-1");
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct GenerateRequest {
    fields: Vec<(String, Field)>,
    others: Vec<(String, Field)>,
    idempotency_key: Option<String>,
}

/// The fields that have a setter.
const SETTERS: &str = "prompt image video audio model aspect_ratio framing transparency agent_id";

impl GenerateRequest {
    /// Returns an empty request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the agent's system prompt. Default: the service's choice.
    pub fn prompt(self, prompt: impl Into<String>) -> Self {
        self.text("prompt", prompt)
    }

    /// Sets the agent's picture. Default: one made from the prompt.
    pub fn image(self, image: Media) -> Self {
        self.set("image", Field::Media(image))
    }

    /// Sets a video of the agent (2025 API).
    ///
    /// The current API rejects it, with nothing billed. Default: none.
    pub fn video(self, video: Media) -> Self {
        self.set("video", Field::Media(video))
    }

    /// Sets a recording of the agent's voice. Default: the service's choice.
    pub fn audio(self, audio: Media) -> Self {
        self.set("audio", Field::Media(audio))
    }

    /// Sets the model (current API), such as `essence-2`, `expression-2` or `auto`.
    ///
    /// Default: the service's choice.
    pub fn model(self, model: impl Into<String>) -> Self {
        self.text("model", model)
    }

    /// Sets the aspect ratio (current API): `16:9`, `9:16` or `1:1`.
    ///
    /// Default: the service's choice.
    pub fn aspect_ratio(self, ratio: impl Into<String>) -> Self {
        self.text("aspect_ratio", ratio)
    }

    /// Sets the framing (current API): `portrait` or `full_body`. Default: the service's choice.
    pub fn framing(self, framing: impl Into<String>) -> Self {
        self.text("framing", framing)
    }

    /// Sets whether the background is a green screen (current API).
    ///
    /// Default: the service's choice.
    pub fn transparency(self, transparency: bool) -> Self {
        self.set("transparency", Field::Json(Value::Bool(transparency)))
    }

    /// Names an agent of the account that is **regenerated in place** (current API).
    ///
    /// Default: a new agent.
    pub fn agent_id(self, agent_id: impl Into<String>) -> Self {
        self.text("agent_id", agent_id)
    }

    /// Sets the `Idempotency-Key`: 1 to 255 visible ASCII characters.
    ///
    /// For 24 h the current API returns its first response to a request with the same key, and
    /// bills nothing. The 2025 API knows no such header. Default: a new key for every call.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets a field that has no setter, such as one that the service has added since.
    ///
    /// A field that has a setter is refused by the call that sends it. Default: none.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        insert(&mut self.others, name.into(), Field::Json(value.into()));
        self
    }

    fn text(self, name: &'static str, text: impl Into<String>) -> Self {
        self.set(name, Field::Json(Value::String(text.into())))
    }

    fn set(mut self, name: &'static str, field: Field) -> Self {
        insert(&mut self.fields, name.into(), field);
        self
    }

    pub(crate) fn own_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Field)> {
        let fields = self.fields.iter().chain(&self.others);
        fields.map(|(name, field)| (&**name, field))
    }

    fn own_agent_id(&self) -> Option<&str> {
        let (_, field) = self.fields.iter().find(|(name, _)| name == "agent_id")?;
        match field {
            Field::Json(Value::String(id)) => Some(id),
            _ => None,
        }
    }

    /// Opens what is to be sent, or says why it cannot be sent.
    fn body(&self, service_is_local: bool) -> Result<Body> {
        for (name, _) in &self.others {
            if SETTERS.split(' ').any(|setter| setter == name) {
                let what = format!("field(\"{name}\", ..) has a setter of that name: use it");
                return Err(Error::invalid(what));
            }
        }
        if let Some(id) = self.own_agent_id() {
            // A status request will need the id, after the agent is paid for.
            status::path(id)?;
        }
        Body::new(self.fields(), service_is_local)
    }
}

/// The service's response to a generate request: the agent that it is creating.
///
/// Deserializing needs `agent_id` and `idempotency_key`. Undocumented fields are in
/// [`extra`](Generation::extra).
///
/// ```
/// use bithuman::{Generation, serde_json};
///
/// let saved = r#"{"agent_id": "A91XMB7113", "idempotency_key": "k", "replayed": false}"#;
/// let generation: Generation = serde_json::from_str(saved)?;
/// assert_eq!(generation.agent_id, "A91XMB7113");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Generation {
    /// The agent's identifier, for [`Api::status`] and [`Api::wait`].
    pub agent_id: String,
    /// The state of the generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The service's message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The `Idempotency-Key` of the request.
    pub idempotency_key: String,
    /// Whether the service repeated an earlier response, so that nothing was billed now.
    ///
    /// It does that for a key that it knows.
    pub replayed: bool,
    /// Every other field the service sent, up to 64 KiB of JSON.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Generation {
    /// A response from which only the ids are known.
    pub(crate) fn named(agent_id: String, idempotency_key: String) -> Self {
        Generation::from_fields(&Fields::default(), agent_id, idempotency_key)
    }

    fn from_fields(fields: &Fields, agent_id: String, idempotency_key: String) -> Self {
        let mut generation = Generation {
            agent_id,
            status: None,
            message: None,
            idempotency_key,
            replayed: fields.get("replayed") == Some("true"),
            extra: Map::new(),
        };
        let mut status = None;
        generation.extra = fields.read(|name, json| match name {
            "agent_id" | "success" | "idempotency_key" | "replayed" => true,
            "status" => json::take_text(json, &mut status),
            "message" => json::take_text(json, &mut generation.message),
            _ => false,
        });
        generation.status = status.map(Status::from);
        generation
    }
}

impl Error {
    /// An error after an agent was accepted, which the service may not know, or no URL can carry.
    pub(crate) fn paid_for(self, generation: &Generation) -> Self {
        let error = self.key(&generation.idempotency_key);
        match error.billing() {
            Billing::Billed | Billing::Refunded => error,
            _ => error
                .agent(&generation.agent_id)
                .billing_is(Billing::Billed),
        }
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = json::reread(deserializer)?;
        let fields = Fields::parse(&json);
        match (fields.id("agent_id"), fields.text("idempotency_key")) {
            (Some(id), Some(key)) => Ok(Generation::from_fields(&fields, id, key)),
            _ => Err(de::Error::custom(
                "a generation needs agent_id and idempotency_key",
            )),
        }
    }
}

impl Api {
    /// Creates an agent: `POST /v1/agent/generate`. **This is billed.**
    ///
    /// Returns as soon as the service has named the agent. [`wait`](Api::wait) waits until it is
    /// ready. Media files are opened and checked before anything is sent, then read and encoded
    /// while they are sent.
    ///
    /// The request is retried up to [`max_retries`](crate::ApiBuilder::max_retries) times, only
    /// where that cannot create a second agent: if it was not accepted and the error is transient,
    /// or with the same key if it may have been accepted and the server
    /// [honors](crate::ApiBuilder::honors_idempotency_keys) keys. A body over 1 MiB is preceded by
    /// a free status request, so that a wrong secret costs no upload.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for what cannot be sent. Otherwise
    /// [`Unauthorized`](ErrorKind::Unauthorized), [`PlanLimit`](ErrorKind::PlanLimit),
    /// [`InsufficientBalance`](ErrorKind::InsufficientBalance),
    /// [`NotFound`](ErrorKind::NotFound), [`Rejected`](ErrorKind::Rejected),
    /// [`RateLimited`](ErrorKind::RateLimited), [`Service`](ErrorKind::Service),
    /// [`Network`](ErrorKind::Network), [`Tls`](ErrorKind::Tls), [`Timeout`](ErrorKind::Timeout),
    /// [`UnexpectedResponse`](ErrorKind::UnexpectedResponse) or [`ShutDown`](ErrorKind::ShutDown).
    /// [`Error::billing`] says whether the agent was billed, and the error has the
    /// [idempotency key](Error::idempotency_key).
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest};
    ///
    /// let api = Api::from_env()?;
    /// let request = GenerateRequest::new()
    ///     .prompt("You are a friendly assistant.")
    ///     .model("essence-2");
    /// println!("{}", api.generate(&request)?.agent_id);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn generate(&self, request: &GenerateRequest) -> Result<Generation> {
        let generation = self.submit(&mut self.prepare(request)?, None)?;
        self.report_accepted(&generation);
        Ok(generation)
    }

    /// Checks and opens everything that is to be sent.
    pub(crate) fn prepare(&self, request: &GenerateRequest) -> Result<Submission> {
        let key = match request.own_key() {
            Some(key) => check_key(key)?.to_owned(),
            None => retry::mint_key(),
        };
        let body = request.body(self.shared.transport.base().is_loopback);
        let mut body = body.map_err(|error| error.call("generate"))?;
        if let Some(hook) = &self.hook {
            body.report_to(hook, &self.shared.clock);
        }
        Ok(Submission {
            call: "generate",
            key,
            key_is_kept: request.own_key().is_some(),
            honors_keys: self.shared.honors_keys,
            was_sent: false,
            key_age: Duration::ZERO,
            stopwatch: self.stopwatch(),
            is_preflighted: false,
            receipt: None,
            own_agent_id: request.own_agent_id().map(String::from),
            body,
            attempts: 0,
            billing: Billing::NotBilled,
            seen_agent_id: None,
            broken_uploads: 0,
        })
    }

    /// Sends a generate request, and retries it where that cannot create a second agent.
    pub(crate) fn submit(
        &self,
        submission: &mut Submission,
        deadline: Option<Duration>,
    ) -> Result<Generation> {
        self.before_upload(submission, deadline)?;
        loop {
            match self.attempt(submission, deadline) {
                Ok(generation) => return Ok(generation),
                Err(error) if self.is_retried(submission, &error, deadline) => {}
                Err(error) => return Err(submission.error(error)),
            }
        }
    }

    /// Fails where an upload would be refused, or a key that was found is too old by now.
    pub(crate) fn before_upload(
        &self,
        submission: &mut Submission,
        deadline: Option<Duration>,
    ) -> Result<()> {
        submission.body.set_deadline(&self.shared.clock, deadline);
        if submission.body.len() > LARGE_BODY
            && !submission.is_preflighted
            && let Some(refusal) = self.refusal(deadline)
        {
            return Err(submission.error(refusal));
        }
        if submission.was_sent && !submission.key_is_good() {
            let what = format!("{NOT_SENT}{KEY_TOO_OLD}");
            return Err(submission.error(Error::new(ErrorKind::Receipt, what)));
        }
        Ok(())
    }

    /// Sleeps before the next attempt and returns `true`, if a retry is safe and may help.
    pub(crate) fn is_retried(
        &self,
        submission: &Submission,
        error: &Error,
        deadline: Option<Duration>,
    ) -> bool {
        // Checked again after the delay: a key ages while the computer is suspended.
        submission.may_retry(error)
            && self.sleep_before_retry(submission.attempts, error, deadline)
            && submission.may_retry(error)
    }

    /// The error of a free request before a large upload, if it saves the upload. Anything but a
    /// refusal, the service's or a proxy's, says nothing of the upload.
    pub(crate) fn refusal(&self, deadline: Option<Duration>) -> Option<Error> {
        let error = self.preflight(deadline).err()?;
        let is_refusal = error.http_status().is_some() || error.kind() == ErrorKind::Unauthorized;
        is_refusal.then_some(error)
    }

    /// Learns from one free request whether the service refuses the secret, the plan or the
    /// account, and the time of its clock. The error has a status if it is a refusal.
    pub(crate) fn preflight(&self, deadline: Option<Duration>) -> Result<Response> {
        let path = "/v1/agent/status/preflight";
        let response = self.shared.transport.send(Request {
            deadline,
            ..Request::get(path)
        })?;
        match (response.status, response.code().as_deref()) {
            (401, _) | (403, Some("PLAN_REQUIRED" | "ACCOUNT_SUSPENDED")) => Err(response.error()),
            _ => Ok(response),
        }
    }

    /// Sends the request once. The error says whether this attempt was billed, and has the agent
    /// that the response names. It is retryable unless a replay would say the same.
    pub(crate) fn attempt(
        &self,
        submission: &mut Submission,
        deadline: Option<Duration>,
    ) -> Result<Generation> {
        submission.body.rewind();
        let sent = self.shared.transport.send(Request {
            body: Some(&mut submission.body),
            idempotency_key: Some(&submission.key),
            deadline,
            ..Request::new(Method::Post, PATH)
        });
        let result = match sent {
            Ok(response) => submission.parse(response).map_err(|error| error.after(1)),
            Err(error) => {
                let outcome = Outcome {
                    fully_sent: error.was_fully_sent(),
                    ..Outcome::default()
                };
                Err(error.billing_is(acceptance(outcome)))
            }
        };
        result.map_err(|error| {
            submission.add(&error);
            error.call(submission.call).after(submission.attempts)
        })
    }

    pub(crate) fn report_accepted(&self, generation: &Generation) {
        self.report(|| Event::Accepted {
            agent_id: generation.agent_id.clone(),
            idempotency_key: generation.idempotency_key.clone(),
            replayed: generation.replayed,
            extra: generation.extra.clone(),
        });
    }
}

/// Sets a field, among the others in the order of their names: whatever was set first, the bytes are
/// the same.
fn insert(fields: &mut Vec<(String, Field)>, name: String, field: Field) {
    fields.retain(|(known, _)| *known != name);
    let at = fields.partition_point(|(known, _)| *known < name);
    fields.insert(at, (name, field));
}

pub(crate) fn check_key(key: &str) -> Result<&str> {
    let what = "an idempotency key is 1 to 255 visible ASCII characters";
    let error = match key.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Error::invalid(format!("{what}: this one contains {}", describe_char(c))),
        None if (1..=255).contains(&key.len()) => return Ok(key),
        None => Error::invalid(format!("{what}: this one has {}", key.len())),
    };
    Err(error.call("generate"))
}
