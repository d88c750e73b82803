//! A double of the service on this machine, for the examples and the tests: as strict as the real
//! one, with the API of its 2025 document or the current one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::serde_json::{Map, Value, json};
use httpmock::{HttpMockRequest, HttpMockResponse, MockServer as HttpMock};

/// The secret the mock server knows.
pub const SECRET: &str = "mock-secret";

/// Which service to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "one example knows one version")]
pub enum ApiVersion {
    V2025,
    Current,
}

/// How a mock server behaves.
pub struct Settings {
    pub version: ApiVersion,
    /// Every generation fails, and not only that of a prompt with `[fail]` in it.
    pub fails: bool,
    /// So many generates a minute, and no more.
    pub rate_limit: Option<usize>,
    /// An agent takes this long to be made, and not a few polls.
    pub slow: Option<Duration>,
    /// Is told every request and its answer's status.
    pub log: fn(&str),
}

impl From<ApiVersion> for Settings {
    fn from(version: ApiVersion) -> Self {
        Settings { version, fails: false, rate_limit: None, slow: None, log: |_| () }
    }
}

/// A running service. It ends with the process.
pub struct MockServer {
    server: HttpMock,
    service: Arc<Mutex<Service>>,
}

impl MockServer {
    pub fn start(settings: impl Into<Settings>) -> Self {
        let settings = settings.into();
        let (log, minute) = (settings.log, (Instant::now(), 0));
        let (agents, keys) = (BTreeMap::new(), BTreeMap::new());
        let service = Arc::new(Mutex::new(Service { settings, agents, keys, billed: 0, minute }));
        let server = HttpMock::start();
        let answering = service.clone();
        server.mock(|_, then| {
            then.respond_with(move |request: &HttpMockRequest| {
                let answer = answering.lock().unwrap_or_else(PoisonError::into_inner).answer(request);
                let status = answer.status.unwrap_or_default();
                log(&format!("{} {} {status}", request.method_str(), request.uri().path()));
                answer
            });
        });
        MockServer { server, service }
    }

    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// How many generates an account would have paid for.
    #[allow(dead_code, reason = "the tests ask, the examples do not")]
    pub fn billed(&self) -> usize {
        self.service.lock().unwrap_or_else(PoisonError::into_inner).billed
    }
}

struct Service {
    settings: Settings,
    agents: BTreeMap<String, Life>,
    /// The first answer to each idempotency key.
    keys: BTreeMap<String, Value>,
    billed: usize,
    /// When the minute of the rate limit began, and how many generates came in it.
    minute: (Instant, usize),
}

struct Life {
    request: Map<String, Value>,
    begun: Instant,
    polls: usize,
}

/// A refusal, before it is put into its version.
struct Refusal(u16, &'static str, &'static str, String);

const MINUTE: Duration = Duration::from_secs(60);

impl Service {
    fn answer(&mut self, request: &HttpMockRequest) -> HttpMockResponse {
        let uri = request.uri();
        let path = uri.path();
        let answer = self.authorize(request).and_then(|()| {
            match (request.method_str(), path.strip_prefix("/v1/agent/status/")) {
                ("POST", _) if path == "/v1/agent/generate" => self.generate(request),
                ("GET", Some(id)) => self.status(&decode(id)).map(|answer| (answer, false)),
                _ => Err(Refusal(404, "NOT_FOUND", "No such address", path.into())),
            }
        });
        let (status, body, replayed) = match answer {
            Ok((body, replayed)) => (200, body, replayed),
            Err(refusal) => (refusal.0, self.refuse(refusal), false),
        };
        let mut response = HttpMockResponse::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("x-request-id", "mock-server")
            .body(body.to_string());
        if replayed {
            response = response.header("idempotency-replayed", "true");
        }
        if status == 429 {
            response = response.header("retry-after", self.minute_left().to_string());
        }
        response.build()
    }

    fn refuse(&self, Refusal(status, code, message, details): Refusal) -> Value {
        match self.settings.version {
            ApiVersion::V2025 => json!({"error": message, "code": code, "details": details}),
            ApiVersion::Current => json!({
                "error": {"code": code, "message": format!("{message}: {details}"), "httpStatus": status},
                "status": "error",
                "status_code": status,
            }),
        }
    }

    fn authorize(&self, request: &HttpMockRequest) -> Result<(), Refusal> {
        let code = match (header(request, "api-secret"), self.settings.version) {
            (Some(secret), _) if secret == SECRET => return Ok(()),
            (None, ApiVersion::Current) => "MISSING_AUTH",
            _ => "UNAUTHORIZED",
        };
        let details = "Please check your API secret from imaginex.bithuman.ai";
        Err(Refusal(401, code, "Invalid API secret", details.into()))
    }

    /// What is left of the minute of the rate limit, in whole seconds and never too few.
    fn minute_left(&self) -> u64 {
        MINUTE.saturating_sub(self.minute.0.elapsed()).as_secs() + 1
    }

    fn generate(&mut self, request: &HttpMockRequest) -> Result<(Value, bool), Refusal> {
        if self.minute.0.elapsed() >= MINUTE {
            self.minute = (Instant::now(), 0);
        }
        self.minute.1 += 1;
        if let Some(limit) = self.settings.rate_limit.filter(|limit| self.minute.1 > *limit) {
            let details = format!("{limit} a minute are allowed; try again in {} s", self.minute_left());
            return Err(Refusal(429, "RATE_LIMITED", "Rate limit exceeded", details));
        }
        let bad = |details: String| Refusal(400, "VALIDATION_ERROR", "Bad request", details);
        if !header(request, "content-type").is_some_and(|kind| kind.starts_with("application/json")) {
            return Err(bad("the content type is not application/json".into()));
        }
        let fields: Map<String, Value> =
            bithuman::serde_json::from_slice(request.body_ref()).map_err(|error| bad(error.to_string()))?;
        for name in ["prompt", "model", "version", "aspect_ratio", "framing", "agent_id"] {
            if fields.get(name).is_some_and(|value| !value.is_string()) {
                return Err(bad(format!("{name} is not a string")));
            }
        }
        for name in ["image", "video", "audio"] {
            if !fields.get(name).is_none_or(is_medium) {
                return Err(bad(format!("{name} is neither a URL nor base64")));
            }
        }
        let key = header(request, "idempotency-key").filter(|_| self.settings.version == ApiVersion::Current);
        if let Some(first) = key.and_then(|key| self.keys.get(key)) {
            return Ok((first.clone(), true));
        }
        if self.settings.version == ApiVersion::Current && fields.contains_key("video") {
            let details = "send an image instead; nothing was billed";
            return Err(Refusal(400, "VIDEO_INPUT_NOT_SUPPORTED", "Video is not supported", details.into()));
        }
        self.billed += 1;
        let own =
            fields.get("agent_id").and_then(Value::as_str).filter(|_| self.settings.version == ApiVersion::Current);
        let id = own.map_or_else(|| format!("A{:02}XMB7113", self.billed), String::from);
        let answer =
            json!({"success": true, "message": "Agent generation started", "agent_id": id, "status": "processing"});
        self.agents.insert(id, Life { request: fields, begun: Instant::now(), polls: 0 });
        if let Some(key) = key {
            self.keys.insert(key.into(), answer.clone());
        }
        Ok((answer, false))
    }

    fn status(&mut self, id: &str) -> Result<Value, Refusal> {
        let unknown = || Refusal(404, "NOT_FOUND", "Agent not found", format!("no agent {id}"));
        let life = self.agents.get_mut(id).ok_or_else(unknown)?;
        let text = |name: &str| life.request.get(name).and_then(Value::as_str);
        let fails = self.settings.fails || text("prompt").is_some_and(|prompt| prompt.contains("[fail]"));
        // Status, progress, step. The document of 2025 knows three statuses, and no progress.
        let steps: &[(&str, f64, &str)] = match (self.settings.version, fails) {
            (ApiVersion::V2025, false) => &[("processing", 0.0, ""), ("processing", 0.0, ""), ("ready", 1.0, "")],
            (ApiVersion::V2025, true) => &[("processing", 0.0, ""), ("failed", 0.0, "")],
            (ApiVersion::Current, false) => &[
                ("processing", 0.0, "payment"),
                ("generating", 0.02, "persona"),
                ("completed", 0.05, "persona"),
                ("generating", 0.35, "voice_image"),
                ("success", 0.6, "video"),
                ("generating", 0.85, "lip_sync"),
                ("ready", 1.0, "done"),
            ],
            (ApiVersion::Current, true) => {
                &[("processing", 0.0, "payment"), ("generating", 0.1, "persona"), ("failed", 0.1, "persona")]
            }
        };
        let last = steps.len() - 1;
        let at = match self.settings.slow {
            None => life.polls,
            Some(time) => (life.begun.elapsed().as_secs_f64() / time.as_secs_f64() * last as f64) as usize,
        };
        let (status, progress, step) = steps[at.min(last)];
        let link = |name: &str| text(name).filter(|medium| medium.starts_with("http")).map(String::from);
        let made = |what: &str| (status == "ready").then(|| format!("https://mock-server.invalid/{id}/{what}"));
        let mut data = json!({
            "agent_id": id,
            "event_type": if status == "ready" { "lip_created" } else { "started" },
            "status": status,
            "error_message": (status == "failed").then_some("a failure was asked for"),
            "created_at": "2025-08-01T13:58:51.907177+00:00",
            "updated_at": "2025-08-01T09:59:15.159901+00:00",
            "system_prompt": text("prompt"),
            "image_url": link("image").or_else(|| made("image.jpg")),
            "video_url": link("video").or_else(|| made("video.mp4")),
            "name": "Mock agent",
            "model_url": made("model.imx"),
        });
        if self.settings.version == ApiVersion::Current {
            data["progress"] = json!(progress);
            data["progress_msg"] = json!(format!("{step}: {:.0} %", progress * 100.0));
            data["current_step"] = json!(step);
            data["supported_models"] = json!([text("model").unwrap_or("essence-2")]);
        }
        life.polls += 1;
        Ok(json!({"success": true, "data": data}))
    }
}

fn header<'a>(request: &'a HttpMockRequest, name: &str) -> Option<&'a str> {
    let (_, value) = request.headers_vec().iter().find(|(header, _)| header.eq_ignore_ascii_case(name))?;
    Some(value)
}

fn is_medium(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let encoded = match text.strip_prefix("data:") {
        Some(uri) => uri.split_once(";base64,").map(|(_, data)| data),
        None => Some(text),
    };
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    is_url || encoded.is_some_and(|data| !data.is_empty() && STANDARD.decode(data).is_ok())
}

/// Undoes percent-encoding.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| char::from(digit.unwrap_or_default()).to_digit(16).unwrap_or_default() as u8;
        bytes.push(if byte == b'%' { hex(rest.next()) * 16 + hex(rest.next()) } else { byte });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
