//! Runs the mock server of the service as a process of its own, for any client to be pointed at.

#[path = "support/cli.rs"]
mod cli;
#[path = "../tests/mock_server/mod.rs"]
mod mock_server;

use std::process::ExitCode;
use std::thread;

use cli::{Args, Stop};
use mock_server::{ApiVersion, MockServer, Settings};

fn main() -> ExitCode {
    cli::main("mock_server", include_str!("support/help/mock_server.txt"), run)
}

fn run(mut args: Args) -> Result<u8, Stop> {
    let version = match args.value("--version")?.as_deref() {
        None | Some("current") => ApiVersion::Current,
        Some("2025") => ApiVersion::V2025,
        Some(other) => return Err(format!("--version is 2025 or current, not {other}").into()),
    };
    let settings = Settings {
        version,
        fails: args.flag("--fail"),
        rate_limit: args.count("--rate-limit")?,
        slow: args.seconds("--slow")?,
        log: |line| cli::note(&cli::clean(line)),
    };
    args.finish()?;

    let service = MockServer::start(settings);
    cli::out(&format!("BITHUMAN_API_URL={} BITHUMAN_API_SECRET={}", service.base_url(), mock_server::SECRET));
    loop {
        thread::park();
    }
}
