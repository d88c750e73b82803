//! The job with minreq.

use std::error::Error;
use std::time::Duration;
use std::{env, fs, thread};

use base64::prelude::{BASE64_STANDARD, Engine};
use minreq::{Request, Response};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Started {
    agent_id: String,
}

#[derive(Deserialize)]
struct StatusResponse {
    data: Agent,
}

#[derive(Deserialize)]
struct Agent {
    agent_id: String,
    status: String,
    model_url: Option<String>,
    error_message: Option<String>,
}

/// minreq takes an error of the service for a response.
fn send(request: Request) -> Result<Response, Box<dyn Error>> {
    let response = request
        .with_header("api-secret", "sk-0123456789abcdef0123456789abcdef01234567")
        .send()?;
    match response.status_code {
        200..300 => Ok(response),
        status => Err(format!("{status} {}", response.reason_phrase).into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, base_url, file, interval] = &args[..] else {
        return Err("usage: BASE_URL FILE INTERVAL_MS".into());
    };
    let interval = Duration::from_millis(interval.parse()?);

    let image = BASE64_STANDARD.encode(fs::read(file)?);
    let body = json!({"prompt": "You are a friendly assistant.", "image": image});
    let started: Started =
        send(minreq::post(format!("{base_url}/v1/agent/generate")).with_json(&body)?)?.json()?;

    let url = format!("{base_url}/v1/agent/status/{}", started.agent_id);
    loop {
        let response: StatusResponse = send(minreq::get(&url))?.json()?;
        let agent = response.data;
        match &*agent.status {
            "ready" => {
                println!("{}", agent.model_url.unwrap_or_default());
                return Ok(());
            }
            "failed" => {
                return Err(format!(
                    "{}: {}",
                    agent.agent_id,
                    agent.error_message.unwrap_or_default()
                )
                .into());
            }
            _ => thread::sleep(interval),
        }
    }
}
