//! Knows the agent that its build script created.

fn main() {
    println!("agent {}: {}", env!("AGENT_ID"), env!("AGENT_MODEL_URL"));
}
