//! What the command-line examples share: their arguments and what they print.

#![allow(dead_code, reason = "each example uses its part")]

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bithuman::{Agent, Api, Error, ErrorKind, Event, Media, Status, Wait, serde_json};

/// Exit codes: ready, failed or error, usage.
pub const READY: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;

/// Why an example ends early.
pub enum Stop {
    /// A mistake in the arguments: nothing was sent.
    Usage(String),
    Error(Error),
}

impl From<String> for Stop {
    fn from(mistake: String) -> Self {
        Stop::Usage(mistake)
    }
}

impl From<&str> for Stop {
    fn from(mistake: &str) -> Self {
        Stop::Usage(mistake.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

/// An example's `main`: it prints help, or runs and says on one line what went wrong.
pub fn main(program: &str, help: &str, run: impl FnOnce(Args) -> Result<u8, Stop>) -> ExitCode {
    let mut args = Args(
        env::args_os()
            .skip(1)
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect(),
    );
    if args.flag("--help") || args.flag("-h") {
        return ExitCode::from(out(help.trim_end()));
    }
    ExitCode::from(match run(args) {
        Ok(code) => code,
        Err(Stop::Usage(mistake)) => {
            note(&format!(
                "{program}: {} (--help shows the usage)",
                clean(&mistake)
            ));
            USAGE
        }
        Err(Stop::Error(error)) => report(&error),
    })
}

/// The arguments, flags taken out one by one.
pub struct Args(Vec<String>);

impl Args {
    /// Whether there is such a flag.
    pub fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Where it is, as `--name` or `--name=value`.
    fn position(&self, name: &str) -> Option<usize> {
        let joined = |arg: &str| {
            arg.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('='))
        };
        self.0.iter().position(|arg| arg == name || joined(arg))
    }

    /// Takes a flag without a value.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|arg| arg == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes a flag with a value, as `--name value` or `--name=value`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.position(name) else {
            return Ok(None);
        };
        if let Some((_, value)) = self.0.remove(at).split_once('=') {
            return Ok(Some(value.into()));
        }
        if at == self.0.len() {
            return Err(format!("{name} needs a value"));
        }
        Ok(Some(self.0.remove(at)))
    }

    /// Takes a flag with a number of seconds, more than zero.
    pub fn seconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let time = value
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match time {
            Some(time) if !time.is_zero() => Ok(Some(time)),
            _ => Err(format!(
                "{name} needs a number of seconds, more than 0: {value}"
            )),
        }
    }

    /// Takes a flag with a whole number, more than zero.
    pub fn count(&mut self, name: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        match value.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(format!("{name} needs a whole number, more than 0: {value}")),
        }
    }

    /// Takes a flag with media: a URL, or else the path of a file that must exist.
    pub fn medium(&mut self, name: &str) -> Result<Option<Media>, String> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        if value.contains("://") {
            return Ok(Some(Media::url(value)));
        }
        match Path::new(&value) {
            path if path.is_file() => Ok(Some(Media::file(path))),
            path if path.exists() => Err(format!("{name}: not a file: {value}")),
            _ => Err(format!("{name}: no such file: {value}")),
        }
    }

    /// Takes `--interval` and `--timeout`. A mock server is quick.
    pub fn wait(&mut self, is_demo: bool) -> Result<Wait, String> {
        let interval = self
            .seconds("--interval")?
            .or_else(|| is_demo.then_some(Duration::from_millis(300)));
        let wait = interval.into_iter().fold(Wait::new(), Wait::interval);
        Ok(self
            .seconds("--timeout")?
            .into_iter()
            .fold(wait, Wait::timeout))
    }

    /// Takes what is no flag.
    pub fn positional(&mut self) -> Option<String> {
        let at = self.0.iter().position(|arg| !arg.starts_with('-'))?;
        Some(self.0.remove(at))
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some(arg) => Err(format!("unknown argument, or given twice: {arg}")),
            None => Ok(()),
        }
    }
}

/// A line on stderr. A reader that has gone must not end a wait that is paid.
pub fn note(line: &str) {
    // It may come in the middle of a live line.
    let start = if io::stderr().is_terminal() {
        "\r\x1b[K"
    } else {
        ""
    };
    let _ = writeln!(io::stderr(), "{start}{line}");
}

/// A line on stdout, and whether anybody could read it.
pub fn out(line: &str) -> u8 {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => READY,
        Err(error) => {
            note(&format!("error: cannot write to stdout: {error}"));
            FAILED
        }
    }
}

/// Text of the service's or the caller's, which must not play tricks on a terminal.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// Text as one word of a shell's command line.
fn quoted(word: &str) -> String {
    if word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
    {
        return word.into();
    }
    format!("'{}'", clean(word).replace('\'', "'\\''"))
}

/// The command that goes on with an agent, at no cost, unless its service ends with this program.
pub fn print_resume_hint(agent_id: &str) {
    if env::var_os("BITHUMAN_API_SECRET").is_some() {
        note(&format!(
            "to go on with this agent: cargo run --example status -- {} --wait",
            quoted(agent_id)
        ));
    }
}

/// An idempotency key of this run.
pub fn new_key() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!("create-agent-{now:x}-{:x}", process::id())
}

/// What an agent's progress looks like on one line.
pub fn describe(agent: &Agent) -> String {
    let mut line = agent.status.to_string();
    if let Status::Completed | Status::Success = agent.status {
        line += " (of a step, not of the agent)";
    }
    if let Some(progress) = agent.progress {
        line += &format!(", {:.0} %", progress.clamp(0.0, 1.0) * 100.0);
    }
    if let Some(step) = &agent.current_step {
        line += &format!(", {step}");
    }
    clean(&line)
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
        Progress {
            started: now,
            live: io::stderr().is_terminal(),
            shown: String::new(),
            shown_at: now,
        }
    }

    pub fn show(&mut self, line: &str) {
        let elapsed = self.started.elapsed().as_secs();
        if self.live {
            let _ = write!(io::stderr(), "\r\x1b[K{line}, {elapsed} s");
        } else if line != self.shown || self.shown_at.elapsed() >= Duration::from_secs(60) {
            note(&format!("{line}, {elapsed} s"));
            self.shown_at = Instant::now();
        }
        self.shown = line.into();
    }

    /// Ends the live line.
    pub fn end(&mut self) {
        if self.live && !self.shown.is_empty() {
            let _ = writeln!(io::stderr());
        }
        self.shown.clear();
    }
}

/// Shows what a handle is doing, besides the polls: an upload as a bar with its rate on a terminal and
/// as one plain line at the end elsewhere, and every resend.
pub fn show_events(api: &Api) -> Api {
    api.on_event(events())
}

/// The same, and the polls too, for a call that does not give them.
pub fn show_polls(api: &Api) -> Api {
    let (others, progress) = (events(), Mutex::new(Progress::new()));
    api.on_event(move |event| match event {
        Event::Polled { agent } => {
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            if agent.is_finished() {
                progress.end()
            } else {
                progress.show(&describe(agent))
            }
        }
        other => others(other),
    })
}

fn events() -> impl Fn(&Event) + Send + Sync + 'static {
    /// A smaller upload is over before it could be seen.
    const SMALLEST: u64 = 64 * 1024;
    let live = io::stderr().is_terminal();
    let upload = Mutex::new((Instant::now(), 0));
    move |event| match event {
        Event::Uploading { sent, total } if *total >= SMALLEST => {
            let (mb_sent, mb) = (*sent as f64 / 1e6, *total as f64 / 1e6);
            let mut upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
            if *sent < upload.1 {
                // A retry.
                upload.0 = Instant::now();
            }
            upload.1 = *sent;
            let seconds = upload.0.elapsed().as_secs_f64().max(0.001);
            if sent == total {
                note(&format!("uploaded {mb:.1} MB in {seconds:.1} s"));
            } else if live {
                let filled = (sent * 30 / total) as usize;
                let (bar, rate) = (
                    "#".repeat(filled) + &".".repeat(30 - filled),
                    mb_sent / seconds,
                );
                let _ = write!(
                    io::stderr(),
                    "\r\x1b[K[{bar}] {mb_sent:.1} of {mb:.1} MB, {rate:.1} MB/s"
                );
            }
        }
        Event::Retrying { delay, reason, .. } => {
            note(&format!("{reason}; again in {:.1} s", delay.as_secs_f64()))
        }
        _ => {}
    }
}

/// Waits until the agent is ready, with progress on stderr and the result alone on stdout.
pub fn follow(api: &Api, agent_id: &str, wait: &Wait, json: bool) -> Result<u8, Error> {
    let mut progress = Progress::new();
    let mut code = FAILED;
    for item in api.watch(agent_id, wait) {
        match item {
            Ok(agent) if !agent.is_finished() => progress.show(&describe(&agent)),
            end => {
                progress.end();
                code = finish(&end?, json);
            }
        }
    }
    Ok(code)
}

pub fn json(agent: &Agent) -> String {
    serde_json::to_string_pretty(agent).unwrap_or_default()
}

/// Prints how an agent ended.
pub fn finish(agent: &Agent, json: bool) -> u8 {
    let mut code = READY;
    if json {
        code = out(&self::json(agent));
    }
    if agent.is_failed() {
        let reason = agent
            .error_message
            .as_deref()
            .unwrap_or("the service does not say why");
        note(&format!(
            "error: agent {}: the generation failed: {}; another try is another generate, which is billed",
            clean(&agent.agent_id),
            clean(reason)
        ));
        return FAILED;
    }
    match &agent.model_url {
        _ if json => {}
        Some(url) => code = out(&clean(url)),
        None => note(&format!(
            "agent {} is ready and has no downloadable model",
            clean(&agent.agent_id)
        )),
    }
    code
}

/// An error with its causes on one line, and the exit code: usage only if nothing at all was sent.
fn report(error: &Error) -> u8 {
    note(&format!("error: {error:?}"));
    use ErrorKind::{GenerationFailed, InvalidInput, NotFound, Unauthorized};
    // If something must be fixed first, or the generation is over, the command would not help.
    let leads_nowhere = matches!(
        error.kind(),
        GenerationFailed | InvalidInput | NotFound | Unauthorized
    );
    if let Some(id) = error.agent_id().filter(|_| !leads_nowhere) {
        print_resume_hint(id);
    }
    if error.kind() == InvalidInput && error.attempts() == 0 {
        USAGE
    } else {
        FAILED
    }
}
