//! Waits for an agent until it is ready, or until Ctrl-C ends the wait.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use bithuman::{Api, ErrorKind, Wait};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Some(id) = env::args().nth(1) else {
        eprintln!("which agent? cargo run -- AGENT_ID");
        return Ok(ExitCode::from(2));
    };
    let api = Api::from_env()?;
    // The handler has a thread of its own, so it may do what a signal handler must not.
    let handle = api.clone();
    ctrlc::set_handler(move || handle.shutdown())?;

    match api.wait(&id, &Wait::new()) {
        Ok(agent) => println!(
            "{}",
            agent
                .model_url
                .as_deref()
                .unwrap_or("no downloadable model")
        ),
        Err(error) if error.kind() == ErrorKind::ShutDown => {
            // What the call knew is in its error.
            let seen = error
                .last_seen()
                .map_or("not seen yet", |agent| agent.status.as_str());
            eprintln!(
                "stopped. Agent {id} ({seen}) goes on at the service; to wait for it again: cargo run -- {id}"
            );
            return Ok(ExitCode::from(130));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
