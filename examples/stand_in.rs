//! Runs the stand-in of the service as a process of its own, for any client to be pointed at.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/stand_in.rs"]
mod stand_in;

use std::process::ExitCode;
use std::thread;

use stand_in::{Form, StandIn};

const HELP: &str = "\
Runs a stand-in of the service on this machine until it is stopped (Ctrl-C).

    cargo run --example stand_in -- [--generation 2025|2026]

An agent takes a few polls to be made, and fails if its prompt has [fail] in it. Every request is told on
stderr. Unlike the service, the stand-in reads a whole request before it refuses one.";

fn main() -> ExitCode {
    let mut args = cli::Args::new();
    if args.flag("--help") || args.flag("-h") {
        return ExitCode::from(cli::out(HELP));
    }
    let form = args.value("--generation").and_then(|year| match year.as_deref() {
        None | Some("2026") => Ok(Form::Of2026),
        Some("2025") => Ok(Form::Of2025),
        Some(other) => Err(format!("--generation is 2025 or 2026, not {other}")),
    });
    let form = match form.and_then(|form| args.finish().map(|()| form)) {
        Ok(form) => form,
        Err(mistake) => return cli::usage("stand_in", &mistake),
    };
    let service = StandIn::start_with(form, |line| cli::note(&cli::clean(line)));
    cli::out(&format!("BITHUMAN_API_URL={} BITHUMAN_API_SECRET={}", service.base_url(), stand_in::SECRET));
    loop {
        thread::park();
    }
}
