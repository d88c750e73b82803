//! Measures the library against other ways to do the same. A module is a command:
//!
//! ```text
//! cargo run --release --manifest-path examples/compare/Cargo.toml [-- COMMAND]
//!
//!     [clients] [--rounds N] [--build] [--no-callgrind]   every client, side by side; --build: cold builds too
//!     upload [--rounds N]                                 a large file, beside curl with it encoded before
//!     download [--rounds N]                               a model file to the disk, beside curl -C -
//!     features                                            what each set of features takes
//!     profile [CLIENT]                                    where the instructions of a poll go, with valgrind
//! ```
//!
//! Each client is a program of its own, under `clients/`, and runs as a process of its own. The service is a
//! thread of this process. Ends with 0 if every target is reached, with 1 if not, and with 2 if something failed.

mod callgrind;
mod clients;
mod download;
mod job;
mod measure;
mod media;
mod report;
mod service;
mod table;
mod upload;

use std::env;
use std::error::Error;
use std::num::NonZero;
use std::process::ExitCode;

use table::Options;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: [clients] [--rounds N] [--build] [--no-callgrind] | upload [--rounds N] | download [--rounds N] | features | profile [CLIENT]";

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    match command(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Tells whether every target is reached.
fn command(args: &[&str]) -> Result<bool> {
    match *args {
        [command @ ("upload" | "download"), ref rest @ ..] => match (command, options(rest)?) {
            (_, Options { build: true, .. })
            | (
                _,
                Options {
                    callgrind: false, ..
                },
            ) => Err(USAGE.into()),
            ("upload", options) => upload::compare(options.rounds),
            (_, options) => download::compare(options.rounds),
        },
        ["features"] => clients::compare_features(),
        ["profile"] => callgrind::profile("ours"),
        ["profile", client] => callgrind::profile(client),
        ["clients", ref rest @ ..] | ref rest => table::compare(&options(rest)?),
    }
}

fn options(args: &[&str]) -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        build: false,
        callgrind: true,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--rounds" => {
                options.rounds = args.next().ok_or(USAGE)?.parse::<NonZero<usize>>()?.get()
            }
            "--build" => options.build = true,
            "--no-callgrind" => options.callgrind = false,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}
