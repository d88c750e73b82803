//! Runs the stand-in of the service as a process of its own, for any client to be pointed at.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/stand_in.rs"]
mod stand_in;

use std::process::ExitCode;
use std::thread;

use cli::Args;
use stand_in::{Form, Settings, StandIn};

const HELP: &str = "\
Runs a stand-in of the service on this machine until it is stopped (Ctrl-C). Its URL and secret go to stdout,
as two variables, and every request is told on stderr.

    cargo run --example stand_in -- [--generation 2025|2026] [--fail] [--rate-limit N] [--slow SECONDS]

--generation   of the service: as its 2025 document has it, or as it is published in 2026 (default)
--fail         every generation fails, and not only that of a prompt with [fail] in it
--rate-limit   more than N generates in a minute are refused with 429 RATE_LIMITED and Retry-After
--slow         an agent takes so long to be made, asked for or not: time to run out of, and to resume in.
               Without it, it takes a few polls, whenever they come. Answers always come at once.

Unlike the service, the stand-in reads a whole request before it refuses one.";

fn main() -> ExitCode {
    let mut args = Args::new();
    if args.flag("--help") || args.flag("-h") {
        return ExitCode::from(cli::out(HELP));
    }
    let service = match parse(args) {
        Ok(settings) => StandIn::start(settings),
        Err(mistake) => return cli::usage("stand_in", &mistake),
    };
    cli::out(&format!("BITHUMAN_API_URL={} BITHUMAN_API_SECRET={}", service.base_url(), stand_in::SECRET));
    loop {
        thread::park();
    }
}

fn parse(mut args: Args) -> Result<Settings, String> {
    let form = match args.value("--generation")?.as_deref() {
        None | Some("2026") => Form::Of2026,
        Some("2025") => Form::Of2025,
        Some(other) => return Err(format!("--generation is 2025 or 2026, not {other}")),
    };
    let settings = Settings {
        form,
        fails: args.flag("--fail"),
        rate_limit: args.count("--rate-limit")?,
        slow: args.seconds("--slow")?,
        log: |line| cli::note(&cli::clean(line)),
    };
    args.finish()?;
    Ok(settings)
}
