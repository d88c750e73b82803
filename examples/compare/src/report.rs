//! Targets, and where they were measured.

use std::process::Command;
use std::{fs, thread};

/// Which targets were reached.
pub struct Targets {
    reached: bool,
}

impl Targets {
    pub fn new() -> Self {
        Targets { reached: true }
    }

    pub fn check(&mut self, what: &str, value: &str, ok: bool) {
        println!(
            "- {what}: {value}, {}",
            if ok { "reached" } else { "MISSED" }
        );
        self.reached &= ok;
    }

    /// Neither reached nor missed.
    pub fn skip(&self, what: &str, why: &str) {
        println!("- {what}: not measured, {why}");
    }

    pub fn are_reached(&self) -> bool {
        self.reached
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
