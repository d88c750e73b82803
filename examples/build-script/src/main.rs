//! Knows the agent that its build script created, and has its model file.

use std::fs;

fn main() {
    let (id, file) = (env!("AGENT_ID"), env!("AGENT_FILE"));
    match fs::metadata(file) {
        Ok(metadata) => println!("agent {id}: {} bytes in {file}", metadata.len()),
        Err(_) => println!("agent {id}: a packaged copy has no model file"),
    }
}
