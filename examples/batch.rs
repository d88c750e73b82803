//! Creates an agent for each line of a file, within a rate limit. Run it again after any error: the
//! receipts in the folder `receipts` remember which agents were paid for.
//!
//! Needs `BITHUMAN_API_SECRET`: `cargo run --example batch -- prompts.txt [SECONDS_BETWEEN_REQUESTS]`

use std::error::Error;
use std::time::Duration;
use std::{env, fs, thread};

use bithuman::{Api, GenerateRequest, Wait};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "which prompts? cargo run --example batch -- FILE [SECONDS_BETWEEN_REQUESTS]";
    let prompts = fs::read_to_string(env::args().nth(1).ok_or(usage)?)?;
    // A free account may send 4 generate requests a minute.
    let seconds = env::args().nth(2).map_or(Ok(15.0), |arg| arg.parse())?;
    let api = Api::from_env()?;
    fs::create_dir_all("receipts")?;

    let mut started = Vec::new();
    for (index, prompt) in prompts.lines().enumerate() {
        let receipt = format!("receipts/line-{}.receipt", index + 1);
        let request = GenerateRequest::new().prompt(prompt).model("expression-1");
        match api.generate_once(&receipt, &request) {
            Ok(generation) => {
                eprintln!("{receipt}: agent {}", generation.agent_id);
                started.push((receipt, request));
                if !generation.replayed {
                    thread::sleep(Duration::from_secs_f64(seconds));
                }
            }
            Err(error) => eprintln!("{receipt}: {error}"),
        }
    }

    let mut missing = prompts.lines().count();
    for (receipt, request) in &started {
        match api.ensure_agent(receipt, request, &Wait::new()) {
            Ok(agent) => {
                println!("{} {receipt}", agent.agent_id);
                missing -= 1;
            }
            Err(error) => eprintln!("{receipt}: {error}"),
        }
    }
    match missing {
        0 => Ok(()),
        _ => Err(format!("{missing} prompts have no agent: run it again").into()),
    }
}
