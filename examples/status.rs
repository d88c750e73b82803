//! Asks for an agent, or waits until it is ready: what resumes an interrupted `create_agent`.

#[path = "support/cli.rs"]
mod cli;

use std::process::ExitCode;

use bithuman::Api;
use cli::{Args, Stop};

fn main() -> ExitCode {
    cli::main("status", include_str!("support/help/status.txt"), run)
}

fn run(mut args: Args) -> Result<u8, Stop> {
    let (waits, json) = (args.flag("--wait"), args.flag("--json"));
    let wait = args.wait(false)?;
    let id = args.positional().ok_or("which agent? Give its id")?;
    args.finish()?;

    let api = cli::show_events(&Api::from_env()?);
    if waits {
        return Ok(cli::follow(&api, &id, &wait, json)?);
    }
    let agent = api.status(&id)?;
    if agent.is_finished() || json {
        return Ok(cli::finish(&agent, json));
    }
    Ok(cli::out(&cli::describe(&agent)))
}
