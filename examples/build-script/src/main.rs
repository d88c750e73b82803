//! Knows the agent that its build script made.

fn main() {
    println!("agent {}: {}", env!("AGENT_ID"), env!("AGENT_MODEL_URL"));
}
