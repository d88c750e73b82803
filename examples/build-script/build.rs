//! Creates the agent of `prompt.txt`, once: whoever builds this again finds it in `agent.receipt`.

use std::path::Path;
use std::{env, fs, process};

use bithuman::{Agent, Api, CURRENT_BASE_URL, GenerateRequest, Wait};

/// Says what was paid for. Commit it: without it another agent is created.
const RECEIPT: &str = "agent.receipt";

fn main() {
    // Relative to this crate, as are the paths below.
    for path in ["build.rs", "prompt.txt", RECEIPT] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=BITHUMAN_API_BASE");
    match agent() {
        Ok(agent) => {
            let url = agent.model_url.as_deref().unwrap_or_default();
            println!("cargo::rustc-env=AGENT_ID={}", one_line(&agent.agent_id));
            println!("cargo::rustc-env=AGENT_MODEL_URL={}", one_line(url));
        }
        Err(message) => {
            println!("cargo::error={}", one_line(&message));
            process::exit(1);
        }
    }
}

fn agent() -> Result<Agent, String> {
    let prompt =
        fs::read_to_string("prompt.txt").map_err(|error| format!("prompt.txt: {error}"))?;
    let request = GenerateRequest::new()
        .prompt(prompt.trim())
        .model("essence-1");
    // Not the default: the current API honors idempotency keys, so the next build recovers from a
    // crash.
    let url = env::var("BITHUMAN_API_BASE").unwrap_or(CURRENT_BASE_URL.into());
    let mut api = Api::builder().base_url(url);
    if is_packaged() {
        // `cargo package` builds a copy, and so does everyone who depends on this crate. What such
        // a build writes into its receipt is lost, so each would create an agent and pay for it.
        // Without a secret a finished receipt can be read, and nothing can be sent.
        if !Path::new(RECEIPT).exists() {
            return Err(format!(
                "{RECEIPT} is not in the package: build once in the repository, commit {RECEIPT}, \
                 then package again"
            ));
        }
    } else {
        api = api.from_env();
    }
    let api = api.build().map_err(|error| format!("{error:?}"))?;
    // Once the receipt has the ready agent, this needs neither a secret nor the network.
    let agent = api.ensure_agent(RECEIPT, &request, &Wait::new());
    agent.map_err(|error| format!("{error:?}"))
}

/// Whether this is a copy that cargo made: below `target/package`, or of a published crate.
fn is_packaged() -> bool {
    let folder = env::current_dir().unwrap_or_default();
    let names: Vec<_> = folder.iter().collect();
    let below_target = names.windows(2).any(|two| two == ["target", "package"]);
    below_target || Path::new("Cargo.toml.orig").exists()
}

/// Without the line breaks, after which cargo would read instructions.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
