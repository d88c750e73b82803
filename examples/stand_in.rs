//! Runs the stand-in of the service as a process of its own, for any client to be pointed at.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/stand_in.rs"]
mod stand_in;

use std::process::ExitCode;
use std::thread;

use cli::{Args, Stop};
use stand_in::{Form, Settings, StandIn};

fn main() -> ExitCode {
    cli::main("stand_in", include_str!("support/help/stand_in.txt"), run)
}

fn run(mut args: Args) -> Result<u8, Stop> {
    let form = match args.value("--generation")?.as_deref() {
        None | Some("2026") => Form::Of2026,
        Some("2025") => Form::Of2025,
        Some(other) => return Err(format!("--generation is 2025 or 2026, not {other}").into()),
    };
    let settings = Settings {
        form,
        fails: args.flag("--fail"),
        rate_limit: args.count("--rate-limit")?,
        slow: args.seconds("--slow")?,
        log: |line| cli::note(&cli::clean(line)),
    };
    args.finish()?;

    let service = StandIn::start(settings);
    cli::out(&format!("BITHUMAN_API_URL={} BITHUMAN_API_SECRET={}", service.base_url(), stand_in::SECRET));
    loop {
        thread::park();
    }
}
