//! Creates the agent of `prompt.txt`, once: whoever builds this again finds it in `agent.receipt`. Then
//! downloads its model file, if it is not there. The file is named after the agent.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use bithuman::{Api, CURRENT_BASE_URL, Download, GenerateRequest, Wait};

/// Says what was paid for. Commit it: without it another agent is created.
const RECEIPT: &str = "agent.receipt";

fn main() {
    // Relative to this crate, as are the paths below.
    for path in ["build.rs", "prompt.txt", RECEIPT] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=BITHUMAN_API_BASE");
    match agent() {
        Ok((id, file)) => {
            println!("cargo::rustc-env=AGENT_ID={}", one_line(&id));
            let file = one_line(&file.display().to_string());
            println!("cargo::rustc-env=AGENT_FILE={file}");
            if !file.is_empty() {
                println!("cargo::rerun-if-changed={file}");
            }
        }
        Err(message) => {
            println!("cargo::error={}", one_line(&message));
            process::exit(1);
        }
    }
}

/// The agent's id, and its model file. A packaged copy has no file, since it may ask for nothing.
fn agent() -> Result<(String, PathBuf), String> {
    let prompt =
        fs::read_to_string("prompt.txt").map_err(|error| format!("prompt.txt: {error}"))?;
    let request = GenerateRequest::new()
        .prompt(prompt.trim())
        .model("essence-1");
    // Not the default: the current API honors idempotency keys, so the next build recovers from a
    // crash.
    let url = env::var("BITHUMAN_API_BASE").unwrap_or(CURRENT_BASE_URL.into());
    let mut api = Api::builder().base_url(url);
    if !is_packaged() {
        api = api.from_env();
    }
    let api = api.build().map_err(|error| format!("{error:?}"))?;
    // Once the receipt has the ready agent, this needs neither a secret nor the network.
    let agent = api.ensure_agent(RECEIPT, &request, &Wait::new());
    if is_packaged() {
        // `cargo package` builds a copy, and so does everyone who depends on this crate. What such
        // a build writes into its receipt is lost, so each would create an agent and pay for it.
        // Without a secret a finished receipt can be read, and nothing can be sent.
        let agent = agent.map_err(|error| {
            format!(
                "{RECEIPT} in this package has no ready agent: build once in the repository, \
                 commit it, and package again ({error})"
            )
        })?;
        return Ok((agent.agent_id, PathBuf::new()));
    }
    let id = agent.map_err(|error| format!("{error:?}"))?.agent_id;
    // Nor does this, once the file is there. A build that was interrupted is resumed. The file is not in
    // OUT_DIR, which cargo may empty before every run of this.
    let name = id.replace(|c: char| !c.is_ascii_alphanumeric(), "_") + ".imx";
    let file = api.download(&id, name, &Download::new().if_missing(true));
    Ok((id, file.map_err(|error| format!("{error:?}"))?.path))
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
