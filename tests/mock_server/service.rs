//! The service behind the mock server: its endpoints and what it remembers between requests.

use std::collections::BTreeMap;
use std::time::Instant;

use bithuman::serde_json::{Map, Value, json};

use super::account::{self, Account, RateLimiter};
use super::agent::{Agent, Ending, Generation};
use super::rejection::{ErrorShape, Rejection};
use super::request::{self, Request};
use super::{ApiVersion, Settings, Storage};

/// How many `essence-2` agents an account creates at the same time.
const ESSENCE_2_AT_ONCE: usize = 2;

/// The state of the service.
pub struct Service {
    settings: Settings,
    storage: Storage,
    rate_limiter: RateLimiter,
    pub account: Account,
    /// All agents, the deleted ones too, the oldest first.
    agents: Vec<Agent>,
    /// The first response to each idempotency key.
    first_responses: BTreeMap<String, Value>,
    uploads: usize,
    /// How often the file of a ready agent was asked for.
    file_requests: usize,
}

/// A response to any request.
pub struct Response {
    pub status: u16,
    pub body: String,
    /// Whether it repeats the first response to an idempotency key.
    pub is_replay: bool,
    /// When to retry, in seconds.
    pub retry_after: Option<u64>,
}

impl Response {
    fn success(body: Value) -> Self {
        Response {
            status: 200,
            body: body.to_string(),
            is_replay: false,
            retry_after: None,
        }
    }
}

impl Service {
    pub fn new(settings: Settings, storage: Storage) -> Self {
        Service {
            storage,
            rate_limiter: RateLimiter::new(settings.rate_limit),
            account: Account::new(&settings),
            settings,
            agents: Vec::new(),
            first_responses: BTreeMap::new(),
            uploads: 0,
            file_requests: 0,
        }
    }

    /// Handles a request.
    pub fn respond(&mut self, request: &Request) -> Response {
        let shape = self.settings.error_shape;
        let shape = shape.unwrap_or(ErrorShape::from(self.settings.version));
        self.route(request).unwrap_or_else(|rejection| Response {
            status: rejection.status,
            body: rejection.body(shape),
            is_replay: false,
            retry_after: rejection.retry_after,
        })
    }

    fn route(&mut self, request: &Request) -> Result<Response, Rejection> {
        let version = self.settings.version;
        let is_current = version == ApiVersion::Current;
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        let route = (request.method, &segments[..]);
        if is_current && route == ("POST", &["v1", "validate"]) {
            let is_valid = request::check_secret(request.secret, version).is_ok();
            return Ok(Response::success(json!({"valid": is_valid})));
        }
        request::check_secret(request.secret, version)?;
        self.account.check_plan(version)?;
        let body = match route {
            ("POST", ["v1", "agent", "generate"]) => return self.generate(request),
            ("GET", ["v1", "agent", "status", id]) => self.status(id)?,
            ("GET", ["v1", "agent", _, "model", "download"]) if !is_current => {
                return Ok(Response {
                    status: 404,
                    ..Response::success(json!({"error": "Not Found"}))
                });
            }
            // The 2025 document has no more than these two.
            _ if !is_current => return Err(no_endpoint(request)),
            ("GET", ["v1", "me"]) => self.account.me(),
            ("GET", ["v1", "pricing"]) => account::pricing(),
            ("GET", ["v1", "agents"]) => self.list(request)?,
            ("GET", ["v1", "agent", id]) => {
                let record = self.agent(id)?.record(version);
                json!({"success": true, "data": record})
            }
            ("POST", ["v1", "agent", id]) => self.change_prompt(id, request)?,
            ("DELETE", ["v1", "agent", id]) => self.delete(id)?,
            ("POST", ["v1", "agent", id, "models"]) => self.add_model(id, request)?,
            ("GET", ["v1", "agent", id, "model", "download"]) => self.download(id, request)?,
            ("POST", ["v1", "files", "upload"]) => self.upload(request)?,
            _ => return Err(no_endpoint(request)),
        };
        Ok(Response::success(body))
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
                ..Response::success(first.clone())
            });
        }
        request::check_video(&fields, self.settings.version)?;
        let body = self.create(fields)?;
        if let Some(key) = key {
            self.first_responses.insert(key.to_owned(), body.clone());
        }
        Ok(Response::success(body))
    }

    /// Creates an agent or regenerates one, and returns the response body.
    fn create(&mut self, fields: Map<String, Value>) -> Result<Value, Rejection> {
        let is_current = self.settings.version == ApiVersion::Current;
        let text = |name| fields.get(name).and_then(Value::as_str);
        // The 2025 API has one model, and always makes a new agent.
        let named = text("model").filter(|_| is_current);
        let model = named.unwrap_or("expression-1").to_owned();
        let is_warned = is_current && named.is_none();
        let own_id = text("agent_id").filter(|_| is_current);
        let mut old = None;
        if let Some(id) = own_id {
            self.agent_by_id(id)?;
            old = self.agents.iter().position(|agent| agent.id == id);
        } else {
            let living = self.agents.iter().filter(|agent| !agent.is_deleted);
            self.account.check_agents(living.count())?;
        }
        let generation = self.start(&model, text("prompt"))?;
        let number = self.agents.len() + 1;
        let new_id = format!("A{number:02}XMB7113");
        let agent = Agent {
            id: own_id.unwrap_or(&new_id).to_owned(),
            number,
            generations: BTreeMap::from([(model.clone(), generation)]),
            model,
            fields,
            is_deleted: false,
        };
        let mut body = json!({
            "success": true,
            "message": "Agent generation started",
            "agent_id": agent.id,
            "status": "processing",
        });
        if is_warned {
            body["warnings"] = json!([{"code": "MODEL_DEFAULT_DEPRECATED"}]);
        }
        match old {
            Some(at) => self.agents[at] = agent,
            None => self.agents.push(agent),
        }
        Ok(body)
    }

    /// Charges the account and starts a generation. One `essence-2` too many fails, uncharged.
    fn start(&mut self, model: &str, prompt: Option<&str>) -> Result<Generation, Rejection> {
        let version = self.settings.version;
        let time = self.settings.generation_time;
        let prompt = prompt.unwrap_or_default();
        if version == ApiVersion::Current {
            request::check_marks(prompt)?;
        }
        let running = self
            .agents
            .iter()
            .filter(|agent| !agent.is_deleted)
            .filter_map(|agent| agent.generations.get("essence-2"));
        let running = running.filter(|generation| generation.is_running()).count();
        if model == "essence-2" && running >= ESSENCE_2_AT_ONCE {
            return Ok(Generation::new(version, Ending::FailedAtOnce, time, 0));
        }
        let ending = match self.settings.fail_all || prompt.contains("[fail]") {
            true => Ending::Failed,
            false => Ending::Ready,
        };
        let credits = self.account.charge(model)?;
        Ok(Generation::new(version, ending, time, credits))
    }

    fn agent(&mut self, segment: &str) -> Result<&mut Agent, Rejection> {
        self.agent_by_id(&request::percent_decode(segment))
    }

    /// Finds an agent that is not deleted.
    fn agent_by_id(&mut self, id: &str) -> Result<&mut Agent, Rejection> {
        let agent = self.agents.iter_mut().find(|agent| agent.id == id);
        match agent {
            Some(agent) if agent.is_deleted => {
                let message = "The agent was deleted";
                Err(Rejection::new(410, "AGENT_DELETED", message, id))
            }
            Some(agent) => Ok(agent),
            None => Err(Rejection::not_found(
                "Agent not found",
                format!("no agent {id}"),
            )),
        }
    }

    fn status(&mut self, id: &str) -> Result<Value, Rejection> {
        let version = self.settings.version;
        let agent = self.agent(id)?;
        let mut data = agent.record(version);
        let generations = agent.generations.values_mut();
        let refunds: Vec<u64> = generations.filter_map(Generation::advance).collect();
        for credits in refunds {
            self.account.refund(credits);
        }
        // A link, which the current API does not give here.
        if version == ApiVersion::V2025 && data["status"] == "ready" {
            data["model_url"] = json!(self.storage.public_url());
        }
        Ok(json!({"success": true, "data": data}))
    }

    /// Lists the agents, the newest first.
    fn list(&self, request: &Request) -> Result<Value, Rejection> {
        let limit = request.number("limit")?.unwrap_or(20).min(100);
        let offset = request.number("offset")?.unwrap_or(0);
        let status = request.parameter("status");
        let living = self.agents.iter().rev().filter(|agent| !agent.is_deleted);
        let all: Vec<Value> = living
            .map(Agent::summary)
            .filter(|agent| status.is_none_or(|status| agent["status"] == status))
            .collect();
        let page: Vec<&Value> = all.iter().skip(offset).take(limit).collect();
        let has_more = offset + page.len() < all.len();
        let pagination = json!({"limit": limit, "offset": offset, "has_more": has_more});
        Ok(json!({"success": true, "data": page, "pagination": pagination}))
    }

    fn change_prompt(&mut self, id: &str, request: &Request) -> Result<Value, Rejection> {
        let fields = request::fields(request)?;
        let agent = self.agent(id)?;
        let Some(prompt) = fields.get("system_prompt") else {
            let details = "system_prompt is missing";
            return Err(Rejection::new(
                400,
                "MISSING_PARAM",
                "Nothing to update",
                details,
            ));
        };
        agent.fields.insert("prompt".into(), prompt.clone());
        Ok(json!({"success": true, "agent_code": agent.id, "updated": true}))
    }

    fn delete(&mut self, id: &str) -> Result<Value, Rejection> {
        let agent = self.agent(id)?;
        agent.is_deleted = true;
        Ok(json!({"success": true, "agent_code": agent.id, "deleted": true}))
    }

    fn add_model(&mut self, id: &str, request: &Request) -> Result<Value, Rejection> {
        let fields = request::fields(request)?;
        let agent = self.agent(id)?;
        let prompt = agent
            .fields
            .get("prompt")
            .and_then(Value::as_str)
            .map(String::from);
        let Some(model) = fields.get("model").and_then(Value::as_str) else {
            return Err(Rejection::new(
                400,
                "MISSING_PARAM",
                "Bad request",
                "model is missing",
            ));
        };
        let generation = self.start(model, prompt.as_deref())?;
        let agent = self.agent(id)?;
        agent.generations.insert(model.to_owned(), generation);
        Ok(json!({"success": true, "agent_id": agent.id, "model": model, "status": "processing"}))
    }

    /// Names the URL of an agent's model file.
    fn download(&mut self, id: &str, request: &Request) -> Result<Value, Rejection> {
        let agent = self.agent(id)?;
        let id = agent.id.clone();
        let asked = request::parameter(&request.query, "model");
        let model = asked.unwrap_or(&agent.model).to_owned();
        let no_file = |status, code| {
            let details = format!("the model is {model}");
            Err(Rejection::new(status, code, "No file", details))
        };
        let Some(generation) = agent.generations.get(&model) else {
            return no_file(409, "MODEL_NOT_GENERATED");
        };
        if model == "expression-1" {
            return no_file(400, "MODEL_NOT_DOWNLOADABLE");
        }
        let is_ready = generation.step().status == "ready";
        self.file_requests += usize::from(is_ready);
        if !is_ready || self.file_requests <= self.settings.file_delay {
            return no_file(404, "MODEL_ARTIFACT_NOT_READY");
        }
        let data = json!({
            "code": id,
            "model": model,
            "filename": format!("{id}.imx"),
            "url": self.storage.sign(),
            "expires_in": 3600,
        });
        Ok(json!({"success": true, "data": data}))
    }

    fn upload(&mut self, request: &Request) -> Result<Value, Rejection> {
        let name = request::uploaded_name(&request::fields(request)?)?;
        self.uploads += 1;
        let url = format!("https://mock-server.invalid/files/{}/{name}", self.uploads);
        Ok(json!({"success": true, "data": {"file_url": url}}))
    }
}

fn no_endpoint(request: &Request) -> Rejection {
    Rejection::not_found("No such endpoint", request.path.clone())
}
