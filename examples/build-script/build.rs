//! Makes the agent of `prompt.txt`, once: whoever builds this again finds it in `agent.json`.

use std::path::Path;
use std::{env, fs, process};

use bithuman::{Agent, Api, ErrorKind, GenerateRequest, Wait};

const SECRET: &str = "BITHUMAN_API_SECRET";

fn main() {
    // Relative to this crate, as are the paths below. A receipt that is gone is to be made anew.
    for path in ["build.rs", "prompt.txt", "agent.json"] {
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
    let receipt = Path::new("agent.json");
    // A receipt that is ready needs no secret: check it in, and nobody else pays or asks.
    if env::var_os(SECRET).is_none() && !receipt.exists() {
        return Err(format!("there is no agent yet: set {SECRET} to make one, which is billed once"));
    }
    let prompt = fs::read_to_string("prompt.txt").map_err(|error| format!("prompt.txt: {error}"))?;
    let request = GenerateRequest::new().prompt(prompt.trim());

    let mut api = Api::builder().secret(env::var(SECRET).unwrap_or("not-set".into()));
    if let Some(url) = env::var("BITHUMAN_API_URL").ok().filter(|url| !url.is_empty()) {
        api = api.base_url(url);
    }
    let agent = api.build().and_then(|api| api.ensure_agent(receipt, &request, &Wait::new()));
    agent.map_err(|error| match error.kind() {
        ErrorKind::Unauthorized if env::var_os(SECRET).is_none() => format!("{SECRET} is not set: {error:?}"),
        _ => format!("{error:?}"),
    })
}

/// What a line break would turn into instructions to cargo.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
