//! Makes the agent of `prompt.txt`, once: whoever builds this again finds it in `agent.json`.

use std::path::Path;
use std::time::Duration;
use std::{env, fs, process};

use bithuman::{Agent, Api, BASE_URL_2026, ErrorKind, GenerateRequest, Wait};

/// The receipt of the agent. If it is gone, another one is made.
const RECEIPT: &str = "agent.json";

fn main() {
    // Relative to this crate, as are the paths below.
    for path in ["build.rs", "prompt.txt", RECEIPT] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=BITHUMAN_API_URL");

    match agent() {
        Ok(agent) => {
            println!("cargo::rustc-env=AGENT_ID={}", one_line(&agent.agent_id));
            println!("cargo::rustc-env=AGENT_MODEL_URL={}", one_line(agent.model_url.as_deref().unwrap_or_default()));
        }
        Err(message) => {
            println!("cargo::error={}", one_line(&message));
            process::exit(1);
        }
    }
}

fn agent() -> Result<Agent, String> {
    let prompt = fs::read_to_string("prompt.txt").map_err(|error| format!("prompt.txt: {error}"))?;
    let request = GenerateRequest::new().prompt(prompt.trim());
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    // Not the default: the service of 2026 honours idempotency keys, so a crash is mended by the next build.
    let url = variable("BITHUMAN_API_URL").unwrap_or(BASE_URL_2026.into());

    // A receipt that is ready needs neither a secret nor time: check it in, and nobody else pays or asks.
    let secret = variable("BITHUMAN_API_SECRET");
    let (wait, missing) = match &secret {
        Some(_) => (Wait::new(), ""),
        None if Path::new(RECEIPT).exists() => {
            (Wait::new().timeout(Duration::ZERO), "BITHUMAN_API_SECRET is not set: ")
        }
        None => return Err("there is no agent yet: set BITHUMAN_API_SECRET to make one, which is billed once".into()),
    };
    let api = Api::builder().secret(secret.unwrap_or("none".into())).base_url(url).build();
    let agent = api.and_then(|api| api.ensure_agent(RECEIPT, &request, &wait));
    agent.map_err(|error| match error.kind() {
        ErrorKind::WaitTimedOut => format!("{missing}{error:?}"),
        _ => format!("{error:?}"),
    })
}

/// What a line break would turn into instructions to cargo.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
