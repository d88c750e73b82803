//! Targets, cells of tables, and where they were measured.

use std::process::{Command, ExitCode};
use std::{fs, thread};

/// The targets that are missed.
#[derive(Default)]
pub struct Targets {
    missed: Vec<String>,
}

impl Targets {
    pub fn at_most(&mut self, what: &str, value: f64, most: f64) {
        if value > most {
            let line = format!("missed: {what} is {value:.3}, and may be {most:.3} at most");
            self.missed.push(line);
        }
    }

    pub fn not_measured(&mut self, what: &str) {
        self.missed.push(format!("not measured: {what}"));
    }

    /// Prints a line for each target that is missed.
    pub fn exit_code(&self) -> ExitCode {
        if self.missed.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("\n{}", self.missed.join("\n"));
        ExitCode::FAILURE
    }
}

/// A cell of a table: the ratio to another value first, and then the value.
pub fn cell(value: Option<f64>, base: Option<f64>, digits: usize, unit: &str) -> String {
    match (value, base) {
        (Some(value), Some(base)) => format!(" {:.2} ({value:.digits$}{unit}) |", value / base),
        _ => " |".into(),
    }
}

/// The day and the machine.
pub fn setting() -> String {
    let cores = thread::available_parallelism().map_or(0, |cores| cores.get());
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "));
    let model = model.map_or("of an unknown model", |(_, model)| model);
    let day = first_line(Command::new("date").arg("+%F")).unwrap_or_else(|| "no date".into());
    let rustc = first_line(Command::new("rustc").arg("--version"))
        .unwrap_or_else(|| "rustc unknown".into());
    let rustc = rustc.split(" (").next().unwrap_or_default();
    format!("{day}, {cores} cores, {model}, {rustc}")
}

/// What a program says first, if it is installed and ends well.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()?
            .trim()
            .into(),
    )
}
