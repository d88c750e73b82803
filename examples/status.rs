//! Asks for an agent, or waits until it is ready: what resumes an interrupted `create_agent`.

#[path = "support/cli.rs"]
mod cli;

use std::process::ExitCode;

use bithuman::Api;
use cli::{Args, FAILED};

const PROGRAM: &str = "status";

const HELP: &str = "\
Asks once for an agent, or waits until it is ready. Neither is billed.

    cargo run --example status -- AGENT_ID [--wait] [--interval SECONDS] [--timeout SECONDS] [--json]

BITHUMAN_API_SECRET   the API secret
BITHUMAN_API_URL      the base URL, if it is not https://public.api.bithuman.ai

Exit codes: 0 ready (without --wait: not failed), 1 failed or error, 2 usage.";

fn main() -> ExitCode {
    let mut args = Args::new();
    if args.flag("--help") || args.flag("-h") {
        return ExitCode::from(cli::out(HELP));
    }
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(mistake) => cli::usage(PROGRAM, &mistake),
    }
}

fn run(mut args: Args) -> Result<u8, String> {
    let (waits, json) = (args.flag("--wait"), args.flag("--json"));
    let wait = cli::wait(args.seconds("--interval")?, args.seconds("--timeout")?);
    let id = args.positional().ok_or("which agent? Give its id")?;
    args.finish()?;

    let code = match Api::from_env().map(|api| cli::show_events(&api)) {
        Err(error) => cli::report(&error),
        Ok(api) if waits => cli::follow(&api, &id, &wait, json),
        Ok(api) => match api.status(&id) {
            Ok(agent) if agent.is_finished() || json => cli::finish(&agent, json),
            Ok(agent) => cli::out(&cli::describe(&agent)),
            Err(error) => cli::report(&error),
        },
    };
    if code == FAILED {
        cli::note(&format!("to go on with this agent: {}", cli::resume_command(&id)));
    }
    Ok(code)
}
