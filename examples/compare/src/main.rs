//! Measures the library against other ways to do the same:
//!
//! ```text
//! cargo run --release --manifest-path examples/compare/Cargo.toml [-- features | profile [CLIENT]]
//! ```
//!
//! Without a command it prints three tables: sizes and polls, an upload, and a download. Then it names every
//! target that is missed, and ends with 1 if there is one, with 0 if there is none, and with 2 if something
//! failed. `features` prints what each set of features takes, and `profile` where the instructions of a poll go.
//!
//! Each client is a program of its own, under `clients/`, and runs as a process of its own. The service is a
//! thread of this process. Sizes and instructions do not depend on what else the machine does. Of several rounds,
//! in each of which all clients run in turn, the least time counts, and the most memory.

mod callgrind;
mod clients;
mod download;
mod job;
mod measure;
mod media;
mod polls;
mod report;
mod service;
mod upload;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use report::{Targets, setting};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often times and peaks are measured.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        [] => compare(),
        ["features"] => clients::compare_features(),
        ["profile"] => callgrind::profile("ours"),
        ["profile", client] => callgrind::profile(client),
        _ => Err("usage: [features | profile [CLIENT]]".into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Prints the tables and what is missed.
fn compare() -> Result<ExitCode> {
    let mut targets = Targets::default();
    let versions = polls::compare(&mut targets)?;
    upload::compare(&mut targets)?;
    download::compare(&mut targets)?;
    println!("{}; {versions}.", setting());
    Ok(targets.exit_code())
}
