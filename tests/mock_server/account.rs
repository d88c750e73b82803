//! The account behind the API secret: its plan, its credits and its rate limit.

use std::time::{Duration, Instant};

use bithuman::serde_json::{Value, json};

use super::rejection::Rejection;
use super::{ApiVersion, Settings};

/// What an agent costs, by its model.
pub const PRICES: [(&str, u64); 5] = [
    ("auto", 500),
    ("essence-1", 250),
    ("essence-2", 500),
    ("expression-1", 250),
    ("expression-2", 2000),
];

pub struct Account {
    plan: &'static str,
    agent_limit: usize,
    pub balance: u64,
    /// How many times the account was charged.
    pub billed: usize,
    /// How many charges were refunded.
    pub refunded: usize,
}

impl Account {
    pub fn new(settings: &Settings) -> Self {
        Account {
            plan: settings.plan,
            agent_limit: settings.agent_limit,
            balance: settings.balance,
            billed: 0,
            refunded: 0,
        }
    }

    /// Rejects every request of a free account. The 2025 API has no plans.
    pub fn check_plan(&self, version: ApiVersion) -> Result<(), Rejection> {
        if version == ApiVersion::V2025 || self.plan != "free" {
            return Ok(());
        }
        let details = "the free plan has no API access";
        Err(Rejection::new(
            403,
            "PLAN_REQUIRED",
            "Upgrade your plan",
            details,
        ))
    }

    /// Rejects one more agent than the plan allows.
    pub fn check_agents(&self, agents: usize) -> Result<(), Rejection> {
        if agents < self.agent_limit {
            return Ok(());
        }
        let details = format!("the plan allows {} agents", self.agent_limit);
        Err(Rejection::new(
            403,
            "AGENT_LIMIT_REACHED",
            "Too many agents",
            details,
        ))
    }

    /// Takes the price of a model, and returns it.
    pub fn charge(&mut self, model: &str) -> Result<u64, Rejection> {
        let Some((_, price)) = PRICES.iter().find(|(name, _)| *name == model) else {
            let details = format!("there is no model {model}");
            return Err(Rejection::new(
                400,
                "MODEL_NOT_OFFERED",
                "Unknown model",
                details,
            ));
        };
        let Some(balance) = self.balance.checked_sub(*price) else {
            let details = format!("{price} credits are needed, {} are left", self.balance);
            let message = "Insufficient balance";
            return Err(Rejection::new(
                402,
                "INSUFFICIENT_BALANCE",
                message,
                details,
            ));
        };
        self.balance = balance;
        self.billed += 1;
        Ok(*price)
    }

    pub fn refund(&mut self, credits: u64) {
        self.balance += credits;
        self.refunded += 1;
    }

    /// Returns the response to `GET /v1/me`.
    pub fn me(&self) -> Value {
        let data = json!({
            "plan": self.plan,
            "credit_balance": self.balance,
            "account_status": "active",
        });
        json!({"data": data, "status": "success", "status_code": 200})
    }
}

/// Returns the response to `GET /v1/pricing`.
pub fn pricing() -> Value {
    let mut by_model = json!({});
    for (model, price) in PRICES {
        by_model[model] = json!(price);
    }
    json!({"success": true, "data": {"agent_generation": {"by_model": by_model}}})
}

/// Limits the generate requests of a minute. The first request after it starts the next minute.
pub struct RateLimiter {
    limit: Option<usize>,
    minute_started: Instant,
    requests: usize,
}

impl RateLimiter {
    const MINUTE: Duration = Duration::from_secs(60);

    pub fn new(limit: Option<usize>) -> Self {
        RateLimiter {
            limit,
            minute_started: Instant::now(),
            requests: 0,
        }
    }

    /// Counts a request, and rejects it if it exceeds the limit.
    pub fn count(&mut self, now: Instant) -> Result<(), Rejection> {
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
