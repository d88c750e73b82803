//! Prints what the service says of an agent.
//!
//! Needs `BITHUMAN_API_SECRET`: `cargo run --example status -- AGENT_ID`

use std::io::{Write, stderr, stdout};
use std::{env, error::Error, process};

use bithuman::{Api, serde_json};

fn main() {
    let Err(error) = run() else { return };
    let _ = writeln!(stderr(), "error: {error}");
    process::exit(1);
}

fn run() -> Result<(), Box<dyn Error>> {
    let id = env::args().nth(1);
    let id = id.ok_or("which agent? cargo run --example status -- AGENT_ID")?;
    let agent = Api::from_env()?.status(&id)?;
    let json = serde_json::to_string_pretty(&agent)?;
    Ok(writeln!(stdout(), "{json}")?)
}
