//! What the command-line examples share: their arguments and what they print.

#![allow(dead_code, reason = "each example uses its part")]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bithuman::{Agent, Api, Error, ErrorKind, Wait, serde_json};

/// Exit codes: ready, failed or error, usage.
pub const READY: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;

/// The arguments, flags taken out one by one.
pub struct Args(Vec<String>);

impl Args {
    pub fn new() -> Self {
        Args(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a flag without a value.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|arg| arg == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes a flag with a value, as `--name value` or `--name=value`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let joined = format!("{name}=");
        let Some(at) = self.0.iter().position(|arg| arg == name || arg.starts_with(&joined)) else {
            return Ok(None);
        };
        let arg = self.0.remove(at);
        if let Some(value) = arg.strip_prefix(&joined) {
            return Ok(Some(value.into()));
        }
        if at == self.0.len() {
            return Err(format!("{name} needs a value"));
        }
        Ok(Some(self.0.remove(at)))
    }

    /// Takes a flag with a number of seconds, more than zero.
    pub fn seconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        let time = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match time {
            Some(time) if !time.is_zero() => Ok(Some(time)),
            _ => Err(format!("{name} needs a number of seconds, more than 0: {value}")),
        }
    }

    /// Takes what is no flag.
    pub fn positional(&mut self) -> Option<String> {
        let at = self.0.iter().position(|arg| !arg.starts_with('-'))?;
        Some(self.0.remove(at))
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some(arg) => Err(format!("unknown argument: {arg}")),
            None => Ok(()),
        }
    }
}

/// One clear line about a mistake in the arguments.
pub fn usage(program: &str, mistake: &str) -> ExitCode {
    eprintln!("{program}: {mistake} (--help shows the usage)");
    ExitCode::from(USAGE)
}

/// What an agent's progress looks like on one line.
pub fn describe(agent: &Agent) -> String {
    let mut line = agent.status.to_string();
    if let Some(progress) = agent.progress {
        line += &format!(", {:.0} %", progress * 100.0);
    }
    if let Some(step) = &agent.current_step {
        line += &format!(", {step}");
    }
    line
}

/// Progress on stderr: one live line on a terminal, plain lines elsewhere.
pub struct Progress {
    started: Instant,
    live: bool,
    shown: String,
    shown_at: Instant,
}

impl Progress {
    pub fn new() -> Self {
        let now = Instant::now();
        Progress { started: now, live: io::stderr().is_terminal(), shown: String::new(), shown_at: now }
    }

    pub fn show(&mut self, line: &str) {
        let elapsed = self.started.elapsed().as_secs();
        if self.live {
            eprint!("\r\x1b[K{line}, {elapsed} s");
            io::stderr().flush().ok();
        } else if line != self.shown || self.shown_at.elapsed() >= Duration::from_secs(60) {
            eprintln!("{line}, {elapsed} s");
            self.shown_at = Instant::now();
        }
        self.shown = line.into();
    }

    /// Ends the live line.
    pub fn end(&mut self) {
        if self.live && !self.shown.is_empty() {
            eprintln!();
        }
        self.shown.clear();
    }
}

/// An upload on stderr: a bar with its rate on a terminal, one plain line at the end elsewhere.
pub struct Bar {
    started: Instant,
    live: bool,
}

impl Bar {
    /// A smaller upload is over before it could be seen.
    const SMALLEST: u64 = 64 * 1024;

    pub fn new() -> Self {
        Bar { started: Instant::now(), live: io::stderr().is_terminal() }
    }

    pub fn show(&self, sent: u64, total: u64) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        if total < Self::SMALLEST {
            return;
        }
        if self.live {
            let filled = (sent * 30 / total) as usize;
            let (bar, rate) = ("#".repeat(filled) + &".".repeat(30 - filled), mb(sent) / seconds);
            eprint!("\r\x1b[K[{bar}] {:.1} of {:.1} MB, {rate:.1} MB/s", mb(sent), mb(total));
            io::stderr().flush().ok();
        }
        if sent == total {
            eprintln!("{}uploaded {:.1} MB in {seconds:.1} s", if self.live { "\r\x1b[K" } else { "" }, mb(total));
        }
    }
}

/// The defaults, but for what the arguments say.
pub fn wait(interval: Option<Duration>, timeout: Option<Duration>) -> Wait {
    let wait = interval.into_iter().fold(Wait::new(), Wait::interval);
    timeout.into_iter().fold(wait, Wait::timeout)
}

/// Waits until the agent is ready, with progress on stderr and the result alone on stdout.
pub fn follow(program: &str, api: &Api, agent_id: &str, wait: &Wait, json: bool) -> u8 {
    let mut progress = Progress::new();
    let mut code = FAILED;
    for item in api.watch(agent_id, wait) {
        match item {
            Ok(agent) if agent.is_finished() => {
                progress.end();
                code = finish(program, &agent, json);
            }
            Ok(agent) => progress.show(&describe(&agent)),
            Err(error) => {
                progress.end();
                code = report(program, &error);
            }
        }
    }
    code
}

/// The command to go on with, at no cost, after any end but ready.
pub fn hint(agent_id: &str) {
    eprintln!("to go on with this agent: cargo run --example status -- {agent_id} --wait");
}

/// Prints how an agent ended.
pub fn finish(program: &str, agent: &Agent, json: bool) -> u8 {
    if json {
        println!("{}", serde_json::to_string_pretty(agent).unwrap_or_default());
    }
    if agent.is_failed() {
        let reason = agent.error_message.as_deref().unwrap_or("the service does not say why");
        eprintln!("{program}: agent {}: the generation failed: {reason}", agent.agent_id);
        return FAILED;
    }
    match &agent.model_url {
        _ if json => {}
        Some(url) => println!("{url}"),
        None => eprintln!("agent {} is ready and has no downloadable model", agent.agent_id),
    }
    READY
}

/// An error with its causes on one line, and the exit code for it.
pub fn report(program: &str, error: &Error) -> u8 {
    // It may come in the middle of a live line.
    let start = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    eprintln!("{start}{program}: {error:?}");
    if error.kind() == ErrorKind::InvalidInput { USAGE } else { FAILED }
}
