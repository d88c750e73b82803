//! Progress on stderr: bars on a terminal, plain lines elsewhere, or nothing.

use std::fmt;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bithuman::serde_json::{Map, Value, json};
use bithuman::{Agent, Event, Status};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use regex::{Captures, Regex};

use crate::wording::in_words;

/// An upload below this is over before it could be seen.
const SMALLEST_UPLOAD: u64 = 64 * 1024;

/// A shorter secret may be part of any word, and is not masked.
const SHORTEST_MASKED: usize = 8;

/// How long nothing may be said without a terminal, where the same is said again.
const SILENCE: Duration = Duration::from_secs(60);

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const BYTES: &str = "{msg} [{bar:30.green}] {done} of {total}, {speed}";
const BYTES_UNMEASURED: &str = "{spinner:.green} {msg} {done}, {speed}";
const WAITING: &str = "{spinner:.green} {msg} [{bar:30.green}] {elapsed}";
const WAITING_UNMEASURED: &str = "{spinner:.green} {msg} {elapsed}";

/// What the library says of a file that it waits for: with the current API, and the 2025 API.
const NOT_PUBLISHED: [&str; 2] = ["the file is not there yet", "the agent has no file yet"];

/// What the library says of an agent that the service does not know, perhaps not yet.
const NOT_KNOWN: &str = "no such agent";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Bars,
    Lines,
    Quiet,
}

/// What is shown of a command's progress.
pub struct Progress {
    mode: Mode,
    secret: OnceLock<String>,
    /// The model that is waited for, if it is not the agent.
    model: OnceLock<String>,
    shown: Mutex<Shown>,
}

/// What is on the screen.
struct Shown {
    announcement: Option<String>,
    bar: ProgressBar,
    /// What the bar looks like. A bar with another template takes its place.
    template: &'static str,
    line: String,
    at: Instant,
    /// So much of a file is there.
    received: u64,
}

impl Progress {
    pub fn new(is_quiet: bool) -> Self {
        let mode = if is_quiet {
            Mode::Quiet
        } else if ProgressDrawTarget::stderr().is_hidden() {
            // No terminal, or one without TERM, where bars cannot be drawn.
            Mode::Lines
        } else {
            Mode::Bars
        };
        let shown = Mutex::new(Shown {
            announcement: None,
            bar: ProgressBar::hidden(),
            template: "",
            line: String::new(),
            at: Instant::now(),
            received: 0,
        });
        Progress {
            mode,
            secret: OnceLock::new(),
            model: OnceLock::new(),
            shown,
        }
    }

    /// Masks the API secret from now on: a service may repeat it in a warning or a URL.
    pub fn mask(&self, secret: &str) {
        let _ = self.secret.set(secret.trim().to_owned());
    }

    /// Says which model of an agent is waited for.
    pub fn wait_for(&self, model: &str) {
        let _ = self.model.set(model.to_owned());
    }

    pub fn is_secret(&self, text: &str) -> bool {
        self.secret.get().is_some_and(|secret| secret == text)
    }

    /// Returns the text as people may see it.
    fn safe(&self, text: &str) -> String {
        match self.secret.get() {
            Some(secret) if secret.len() >= SHORTEST_MASKED => {
                clean(&text.replace(secret, "[secret]"))
            }
            _ => clean(text),
        }
    }

    /// Keeps a line to print right before the body of a request goes out: whatever is found before
    /// that is said alone.
    pub fn announce(&self, line: String) {
        self.shown().announcement = Some(line);
    }

    /// Prints a line, unless it is quiet.
    pub fn note(&self, line: &str) {
        if self.mode != Mode::Quiet {
            self.error(line);
        }
    }

    /// Prints a line, even if it is quiet. A reader that has gone must not end what is paid.
    pub fn error(&self, line: &str) {
        self.shown().bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{}", self.safe(line));
        });
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.shown().bar.finish_and_clear();
    }

    /// Shows what a call is doing.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Uploading { sent, total } => self.uploading(*sent, *total),
            Event::Accepted {
                agent_id,
                replayed,
                extra,
                ..
            } => self.accepted(agent_id, *replayed, extra),
            Event::Polled { agent } => self.polled(agent),
            Event::Downloading { received, total } => {
                self.shown().received = *received;
                self.bytes("downloading", *received, *total);
            }
            Event::Retrying { reason, .. }
                if NOT_PUBLISHED.iter().any(|it| reason.contains(it)) =>
            {
                self.still("the file is not published yet; it can take half an hour");
            }
            Event::Retrying { reason, .. } if reason.contains(NOT_KNOWN) => {
                self.still("the service does not know the agent; a new one can take a minute");
            }
            Event::Retrying { delay, reason, .. } => {
                let seconds = delay.as_secs_f64();
                let reason = in_words(reason);
                self.note(&format!("{reason}; next attempt in {seconds:.1} s"));
            }
            _ => {}
        }
    }

    /// How much of a file the last download had, in bytes.
    pub fn received(&self) -> u64 {
        self.shown().received
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accepted(&self, agent_id: &str, replayed: bool, extra: &Map<String, Value>) {
        // Of the upload.
        self.end();
        let why = match replayed {
            true => " (created before with this key: not billed again)",
            false => "",
        };
        self.note(&format!("agent: {agent_id}{why}"));
        for warning in warnings(extra) {
            self.note(&format!("warning: {warning}"));
        }
    }

    fn uploading(&self, sent: u64, total: u64) {
        let announcement = self.shown().announcement.take();
        if let Some(line) = announcement {
            self.note(&line);
        }
        if total >= SMALLEST_UPLOAD {
            self.bytes("uploading", sent, Some(total));
        }
    }

    fn bytes(&self, what: &'static str, done: u64, total: Option<u64>) {
        let line = bytes_line(what, done, total);
        match total {
            Some(total) => self.show(BYTES, what, &line, done, total),
            None => self.show(BYTES_UNMEASURED, what, &line, done, 0),
        }
    }

    fn polled(&self, agent: &Agent) {
        if let Some(model) = self.model.get()
            && is_not_listed(agent, model)
        {
            self.still(&format!(
                "the service does not list model {model} of this agent"
            ));
        } else if !agent.is_finished() {
            let line = describe(agent);
            match agent.progress {
                Some(progress) => self.show(WAITING, &line, &line, (progress * 100.0) as u64, 100),
                None => self.still(&line),
            }
        }
    }

    /// Shows what is waited for, where nobody knows how far it is.
    fn still(&self, line: &str) {
        self.show(WAITING_UNMEASURED, line, line, 0, 1);
    }

    /// Shows a message with a bar, or else a line if it is another one.
    fn show(&self, template: &'static str, message: &str, line: &str, done: u64, total: u64) {
        let (message, line) = (&self.safe(message), &self.safe(line));
        let mut shown = self.shown();
        match self.mode {
            Mode::Quiet => {}
            Mode::Bars => {
                if shown.template != template || shown.bar.is_finished() {
                    shown.replace_bar(template, message, done, total);
                }
                shown.bar.set_length(total);
                shown.bar.set_position(done);
                shown.bar.set_message(message.to_owned());
            }
            Mode::Lines if is_due(line, &shown.line, shown.at.elapsed()) => {
                let _ = writeln!(io::stderr(), "{line}");
                shown.line = line.clone();
                shown.at = Instant::now();
            }
            Mode::Lines => {}
        }
    }
}

impl Shown {
    /// The new bar is drawn once it knows what to show. What is there already is no speed.
    fn replace_bar(&mut self, template: &'static str, message: &str, done: u64, total: u64) {
        self.bar.finish_and_clear();
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        self.bar = bar.with_message(message.to_owned()).with_position(done);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(with_sizes(style).progress_chars("=> "));
        }
        self.bar.tick();
        self.bar.reset_eta();
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(250));
        self.template = template;
    }
}

/// Whether a line is printed where there are no bars, after the last one.
fn is_due(line: &str, last: &str, silence: Duration) -> bool {
    line != last || silence >= SILENCE
}

/// Whether the service lists the models of the agent, but not this one.
fn is_not_listed(agent: &Agent, model: &str) -> bool {
    let supported = agent.supported_models.as_deref().unwrap_or_default();
    let is_listed =
        agent.model_status.contains_key(model) || supported.iter().any(|it| it == model);
    let lists_any = !agent.model_status.is_empty() || agent.supported_models.is_some();
    lists_any && !is_listed
}

/// Returns the line about a transfer, which changes with each tenth of it or each 10 MiB.
fn bytes_line(what: &str, done: u64, total: Option<u64>) -> String {
    let Some(total) = total else {
        return format!("{what}, {}", size(done / MIB / 10 * 10 * MIB));
    };
    let tenths = (done * 10).checked_div(total).unwrap_or(10);
    format!("{what}, {}% of {}", tenths * 10, size(total))
}

/// Returns a size as people write it: `40.0 KiB`, `1.9 MiB`.
pub fn size(bytes: u64) -> String {
    match bytes < MIB {
        true => format!("{:.1} KiB", bytes as f64 / KIB as f64),
        false => format!("{:.1} MiB", bytes as f64 / MIB as f64),
    }
}

/// Adds the sizes of a transfer: indicatif's own have another form.
fn with_sizes(style: ProgressStyle) -> ProgressStyle {
    let done = |state: &ProgressState, text: &mut dyn fmt::Write| {
        let _ = text.write_str(&size(state.pos()));
    };
    let total = |state: &ProgressState, text: &mut dyn fmt::Write| {
        let _ = text.write_str(&size(state.len().unwrap_or_default()));
    };
    let speed = |state: &ProgressState, text: &mut dyn fmt::Write| {
        let _ = write!(text, "{}/s", size(state.per_sec() as u64));
    };
    let style = style.with_key("done", done).with_key("total", total);
    style.with_key("speed", speed)
}

/// Returns the warnings in a response. Where they are in it is not documented.
fn warnings(extra: &Map<String, Value>) -> Vec<String> {
    let text = json!(extra).to_string();
    if text.contains("MODEL_DEFAULT_DEPRECATED") {
        let what = "without --model this made an expression-1 agent; from 2026-12-26 the service \
                    requires a model";
        return vec![format!("MODEL_DEFAULT_DEPRECATED: {what}")];
    }
    match extra.get("warnings") {
        Some(Value::Array(warnings)) => warnings.iter().map(Value::to_string).collect(),
        Some(warning) if !warning.is_null() => vec![warning.to_string()],
        _ => vec![],
    }
}

/// Returns what an agent's status looks like on one safe line.
pub fn describe(agent: &Agent) -> String {
    let mut line = agent.status.to_string();
    if agent.is_finished() {
        if let Some(reason) = agent.error_message.as_ref().filter(|_| agent.is_failed()) {
            line += &format!(": {reason}");
        }
        return clean(&line);
    }
    if let Status::Completed | Status::Success = agent.status {
        line += " (of a step)";
    }
    if let Some(progress) = agent.progress {
        line += &format!(", {:.0}%", progress.clamp(0.0, 1.0) * 100.0);
    }
    if let Some(step) = &agent.current_step {
        line += &format!(", {step}");
    }
    clean(&line)
}

/// A character that could play tricks on a terminal: a control, one that changes the direction of
/// text, or one that nobody sees.
pub static HIDDEN: LazyLock<Regex> = LazyLock::new(|| {
    let classes = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]";
    Regex::new(classes).expect("classes of Unicode")
});

/// Returns the text with such characters as Rust writes them.
pub fn clean(text: &str) -> String {
    let escape = |found: &Captures| found[0].escape_default().to_string();
    HIDDEN.replace_all(text, escape).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_shown_in_tenths_or_each_10_mib() {
        for (done, total, line) in [
            (0, Some(3 * MIB / 2), "up, 0% of 1.5 MiB"),
            (MIB, Some(3 * MIB), "up, 30% of 3.0 MiB"),
            (KIB, Some(MIB - KIB), "up, 0% of 1023.0 KiB"),
            (0, Some(0), "up, 100% of 0.0 KiB"),
            (10 * MIB - 1, None, "up, 0.0 KiB"),
            (25 * MIB, None, "up, 20.0 MiB"),
        ] {
            assert_eq!(bytes_line("up", done, total), line);
        }
    }

    #[test]
    fn a_line_that_says_the_same_comes_again_after_a_minute_of_silence() {
        let seconds = Duration::from_secs;
        for (line, silence, expected) in [
            ("b", seconds(0), true),
            ("a", seconds(0), false),
            ("a", seconds(59), false),
            ("a", seconds(60), true),
        ] {
            assert_eq!(is_due(line, "a", silence), expected, "{line}, {silence:?}");
        }
    }

    #[test]
    fn the_warnings_of_a_response_are_found() {
        let deprecated = "MODEL_DEFAULT_DEPRECATED";
        for (extra, starts) in [
            (json!({}), &[][..]),
            (json!({"warnings": []}), &[]),
            (json!({"warnings": null, "name": "Ada"}), &[]),
            (json!({"warnings": [{"code": deprecated}]}), &[deprecated]),
            (json!({"warning": deprecated}), &[deprecated]),
            (json!({"data": {"warnings": [deprecated]}}), &[deprecated]),
            (json!({"warnings": ["a", "b"]}), &["\"a\"", "\"b\""]),
            (json!({"warnings": {"code": "c"}}), &["{\"code\":\"c\"}"]),
        ] {
            let found = warnings(extra.as_object().unwrap());
            assert_eq!(found.len(), starts.len(), "{extra}");
            for (warning, start) in found.iter().zip(starts) {
                assert!(warning.starts_with(start), "{warning}");
            }
        }
    }
}
