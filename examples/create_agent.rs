//! Creates an agent and waits until it is ready.
//!
//! Without `BITHUMAN_API_SECRET` it runs against a mock server in the same process.

#[path = "../tests/mock_server/mod.rs"]
mod mock_server;

use std::io::{Write, stderr, stdout};
use std::{env, error::Error, process, time::Duration};

use bithuman::{Api, Event, GenerateRequest, Wait};
use mock_server::{ApiVersion, MockServer, SECRET};

fn main() {
    let Err(error) = run() else { return };
    let _ = writeln!(stderr(), "error: {error}");
    process::exit(1);
}

fn run() -> Result<(), Box<dyn Error>> {
    let prompt = env::args().nth(1);
    let secret = env::var_os("BITHUMAN_API_SECRET").unwrap_or_default();
    if !secret.to_string_lossy().trim().is_empty() {
        // Billed, so nobody should do it by accident.
        let prompt = prompt.ok_or("which prompt? cargo run --example create_agent -- PROMPT")?;
        return create(&Api::from_env()?, &prompt, &Wait::new());
    }
    let server = MockServer::start(ApiVersion::Current);
    let url = server.base_url();
    let api = Api::builder().secret(SECRET).base_url(url).build()?;
    let note = "no BITHUMAN_API_SECRET: this is a mock server, and nothing is billed";
    writeln!(stderr(), "{note}")?;
    let prompt = prompt.unwrap_or("You are a friendly assistant.".into());
    let wait = Wait::new().interval(Duration::from_millis(300));
    create(&api, &prompt, &wait)
}

fn create(api: &Api, prompt: &str, wait: &Wait) -> Result<(), Box<dyn Error>> {
    let api = api.on_event(|event| {
        let _ = match event {
            Event::Accepted { agent_id, .. } => writeln!(stderr(), "agent {agent_id}"),
            Event::Polled { agent } => writeln!(stderr(), "{}", agent.status),
            _ => Ok(()),
        };
    });
    let request = GenerateRequest::new().prompt(prompt).model("essence-2");
    let agent = api.generate_and_wait(&request, wait)?;
    let model = agent.model_url.unwrap_or("no model file".into());
    Ok(writeln!(stdout(), "{} is ready: {model}", agent.agent_id)?)
}
