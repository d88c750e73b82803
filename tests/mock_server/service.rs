//! The service behind the mock server: its endpoints and what it remembers between requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bithuman::serde_json::{Map, Value, json};

use super::agent::{self, Step};
use super::request::{self, Rejection, Request};
use super::{ApiVersion, Settings, Storage};

/// The state of the service.
pub struct Service {
    settings: Settings,
    storage: Storage,
    rate_limiter: RateLimiter,
    agents: BTreeMap<String, Agent>,
    /// The first response to each idempotency key.
    first_responses: BTreeMap<String, Value>,
    billed: usize,
    refunded: usize,
}

/// A response to any request.
pub struct Response {
    pub status: u16,
    pub body: Value,
    /// Whether it repeats the first response to an idempotency key.
    pub is_replay: bool,
    /// When to retry, in seconds.
    pub retry_after: Option<u64>,
}

impl Service {
    pub fn new(settings: Settings, storage: Storage) -> Self {
        Service {
            storage,
            rate_limiter: RateLimiter::new(settings.rate_limit),
            settings,
            agents: BTreeMap::new(),
            first_responses: BTreeMap::new(),
            billed: 0,
            refunded: 0,
        }
    }

    pub fn billed(&self) -> usize {
        self.billed
    }

    pub fn refunded(&self) -> usize {
        self.refunded
    }

    /// Handles a request.
    pub fn respond(&mut self, request: &Request) -> Response {
        match self.route(request) {
            Ok(response) => response,
            Err(rejection) => Response {
                status: rejection.status,
                body: rejection.body(self.settings.version),
                is_replay: false,
                retry_after: rejection.retry_after,
            },
        }
    }

    fn route(&mut self, request: &Request) -> Result<Response, Rejection> {
        request::check_secret(request.secret, self.settings.version)?;
        let status_id = request.path.strip_prefix("/v1/agent/status/");
        match (request.method, status_id) {
            ("POST", _) if request.path == "/v1/agent/generate" => self.generate(request),
            ("GET", Some(id)) => self.status(&request::percent_decode(id)),
            ("GET", None) if request.path.ends_with("/model/download") => self.download(request),
            _ => Err(not_found("No such endpoint", request.path.clone())),
        }
    }

    fn generate(&mut self, request: &Request) -> Result<Response, Rejection> {
        self.rate_limiter.count(Instant::now())?;
        let fields = request::generate_fields(request)?;
        // The 2025 API ignores the header.
        let is_current = self.settings.version == ApiVersion::Current;
        let key = request.idempotency_key.filter(|_| is_current);
        if let Some(first) = key.and_then(|key| self.first_responses.get(key)) {
            return Ok(Response {
                is_replay: true,
                ..success(first.clone())
            });
        }
        request::check_video(&fields, self.settings.version)?;
        let body = self.start_generation(fields);
        if let Some(key) = key {
            self.first_responses.insert(key.to_owned(), body.clone());
        }
        Ok(success(body))
    }

    /// Bills a generation, starts it, and returns the response body.
    fn start_generation(&mut self, fields: Map<String, Value>) -> Value {
        self.billed += 1;
        let id = self.agent_id(&fields);
        let prompt = fields.get("prompt").and_then(Value::as_str);
        let is_marked = prompt.is_some_and(|prompt| prompt.contains("[fail]"));
        let fails = self.settings.fail_all || is_marked;
        let agent = Agent {
            fields,
            steps: agent::steps(self.settings.version, fails),
            started: Instant::now(),
            status_requests: 0,
            is_refunded: false,
            file_requests: 0,
        };
        self.agents.insert(id.clone(), agent);
        json!({
            "success": true,
            "message": "Agent generation started",
            "agent_id": id,
            "status": "processing",
        })
    }

    /// Returns the agent id of the request, or a new one. The 2025 API always makes a new one.
    fn agent_id(&self, fields: &Map<String, Value>) -> String {
        match (self.settings.version, fields.get("agent_id")) {
            (ApiVersion::Current, Some(Value::String(id))) => id.clone(),
            _ => format!("A{:02}XMB7113", self.billed),
        }
    }

    fn status(&mut self, id: &str) -> Result<Response, Rejection> {
        let Some(agent) = self.agents.get_mut(id) else {
            return Err(not_found("Agent not found", format!("no agent {id}")));
        };
        let step = agent.step(self.settings.generation_time);
        agent.status_requests += 1;
        if step.status == "failed" && !agent.is_refunded {
            agent.is_refunded = true;
            self.refunded += 1;
        }
        let mut data = agent::status_data(self.settings.version, id, &agent.fields, step);
        if self.settings.version == ApiVersion::V2025 && step.status == "ready" {
            data["model_url"] = json!(self.storage.sign());
        }
        Ok(success(json!({"success": true, "data": data})))
    }

    /// Names the URL of an agent's model file. The 2025 API has no such endpoint.
    fn download(&mut self, request: &Request) -> Result<Response, Rejection> {
        if self.settings.version == ApiVersion::V2025 {
            return Ok(Response {
                status: 404,
                ..success(json!({"error": "Not Found"}))
            });
        }
        let id = request.path.strip_prefix("/v1/agent/");
        let id = id.and_then(|rest| rest.strip_suffix("/model/download"));
        let id = request::percent_decode(id.unwrap_or_default());
        let Some(agent) = self.agents.get_mut(&id) else {
            return Err(not_found("Agent not found", format!("no agent {id}")));
        };
        let own_model = agent.fields.get("model").and_then(Value::as_str);
        let own_model = own_model.unwrap_or("essence-2");
        let model = request::parameter(&request.query, "model").unwrap_or(own_model);
        if model == "expression-1" {
            return Err(no_file(400, "MODEL_NOT_DOWNLOADABLE", model));
        }
        if model != own_model {
            return Err(no_file(409, "MODEL_NOT_GENERATED", model));
        }
        let is_ready = agent.step(self.settings.generation_time).status == "ready";
        agent.file_requests += usize::from(is_ready);
        if !is_ready || agent.file_requests <= self.settings.file_delay {
            return Err(no_file(404, "MODEL_ARTIFACT_NOT_READY", model));
        }
        let data = json!({
            "code": id,
            "model": model,
            "filename": format!("{id}.imx"),
            "url": self.storage.sign(),
            "expires_in": 3600,
        });
        Ok(success(json!({"success": true, "data": data})))
    }
}

fn no_file(status: u16, code: &'static str, model: &str) -> Rejection {
    Rejection::new(status, code, "No file", format!("the model is {model}"))
}

fn success(body: Value) -> Response {
    Response {
        status: 200,
        body,
        is_replay: false,
        retry_after: None,
    }
}

fn not_found(message: &'static str, details: String) -> Rejection {
    Rejection::new(404, "NOT_FOUND", message, details)
}

/// An agent and its latest generation.
struct Agent {
    /// The fields of the generate request.
    fields: Map<String, Value>,
    steps: &'static [Step],
    started: Instant,
    status_requests: usize,
    /// How often the file was asked for.
    file_requests: usize,
    is_refunded: bool,
}

impl Agent {
    fn step(&self, generation_time: Option<Duration>) -> Step {
        match generation_time {
            Some(time) => agent::step_by_time(self.steps, self.started.elapsed(), time),
            None => agent::step_by_requests(self.steps, self.status_requests),
        }
    }
}

/// Limits the generate requests of a minute. The first request after it starts the next minute.
struct RateLimiter {
    limit: Option<usize>,
    minute_started: Instant,
    requests: usize,
}

impl RateLimiter {
    const MINUTE: Duration = Duration::from_secs(60);

    fn new(limit: Option<usize>) -> Self {
        RateLimiter {
            limit,
            minute_started: Instant::now(),
            requests: 0,
        }
    }

    /// Counts a request, and rejects it if it exceeds the limit.
    fn count(&mut self, now: Instant) -> Result<(), Rejection> {
        let mut elapsed = now.duration_since(self.minute_started);
        if elapsed >= Self::MINUTE {
            self.minute_started = now;
            self.requests = 0;
            elapsed = Duration::ZERO;
        }
        self.requests += 1;
        match self.limit {
            Some(limit) if self.requests > limit => {
                // Rounded up: whole seconds that are never too few.
                let seconds = (Self::MINUTE - elapsed).as_secs() + 1;
                Err(rate_limited(limit, seconds))
            }
            _ => Ok(()),
        }
    }
}

fn rate_limited(limit: usize, seconds: u64) -> Rejection {
    let details = format!("{limit} requests per minute are allowed; retry in {seconds} s");
    Rejection {
        retry_after: Some(seconds),
        ..Rejection::new(429, "RATE_LIMITED", "Rate limit exceeded", details)
    }
}
