//! Prints what the service says of an agent.
//!
//! Needs `BITHUMAN_API_SECRET`: `cargo run --example status -- AGENT_ID`

use std::env;
use std::error::Error;

use bithuman::{Api, serde_json};

fn main() -> Result<(), Box<dyn Error>> {
    let id = env::args().nth(1);
    let id = id.ok_or("which agent? cargo run --example status -- AGENT_ID")?;
    let agent = Api::from_env()?.status(&id)?;
    println!("{}", serde_json::to_string_pretty(&agent)?);
    Ok(())
}
