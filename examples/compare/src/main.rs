//! Measures the library against other ways to do the same. A module is a command:
//!
//! ```text
//! cargo run --release --manifest-path examples/compare/Cargo.toml -- upload [--rounds N]
//! ```
//!
//! Each way runs as a process of its own: this executable again, with the name of the way. Ends
//! with 0 if every target is reached, with 1 if not, and with 2 if something failed.

mod measure;
mod sink;
mod upload;

use std::env;
use std::error::Error;
use std::num::NonZero;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

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
        ["upload"] => upload::compare(5),
        ["upload", "--rounds", rounds] => upload::compare(rounds.parse::<NonZero<usize>>()?.get()),
        ["upload-ours", url, file] => measure::tell_peak(|| upload::ours(url, file)),
        ["upload-naive", url, file] => measure::tell_peak(|| upload::naive(url, file)),
        _ => Err("usage: upload [--rounds N]".into()),
    }
}
