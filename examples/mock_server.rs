//! Runs the mock server as a process of its own, for any client.

#[path = "support/cli.rs"]
mod cli;
#[path = "../tests/mock_server/mod.rs"]
mod mock_server;

use std::process::ExitCode;
use std::thread;

use cli::{Args, Stop};
use mock_server::{ApiVersion, MockServer, SECRET, Settings};

fn main() -> ExitCode {
    let help = include_str!("support/help/mock_server.txt");
    cli::main("mock_server", help, run)
}

fn run(mut args: Args) -> Result<u8, Stop> {
    let settings = settings(&mut args)?;
    args.finish()?;

    let server = MockServer::start(settings);
    let url = server.base_url();
    let variables = format!("BITHUMAN_API_BASE={url} BITHUMAN_API_SECRET={SECRET}");
    cli::out(&variables);
    loop {
        thread::park();
    }
}

fn settings(args: &mut Args) -> Result<Settings, String> {
    let version = match args.value("--version")?.as_deref() {
        None | Some("current") => ApiVersion::Current,
        Some("2025") => ApiVersion::V2025,
        Some(other) => return Err(format!("--version is 2025 or current, not {other}")),
    };
    let defaults = Settings::from(version);
    let balance = args.count("--balance")?.map(|credits| credits as u64);
    Ok(Settings {
        fail_all: args.flag("--fail"),
        rate_limit: args.count("--rate-limit")?,
        generation_time: args.seconds("--slow")?,
        balance: balance.unwrap_or(defaults.balance),
        log: |line| cli::note(&cli::clean(line)),
        ..defaults
    })
}
