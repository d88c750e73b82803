//! Why a command ends without a result: what is said of it, and what can be done.

use std::env;
use std::io::{self, Write};

use bithuman::serde_json::{Value, json};
use bithuman::{Agent, Billing, CURRENT_BASE_URL, DEFAULT_BASE_URL, Error, ErrorKind};

use crate::args::{Cli, Command};
use crate::client::is_base_url;
use crate::exit;
use crate::files::why;
use crate::output;
use crate::progress::{Progress, clean, size};
use crate::steps::{next_steps, quoted};
use crate::wording::{NO_SECRET, line_of};

/// Why a command ends without a result.
pub enum Failure {
    /// A mistake that is found before anything is sent.
    Usage(String),
    /// A request needs a secret, and there is none.
    NoSecret,
    /// The error of a call.
    Call(Error),
    /// `create` made an agent, which is ready, but could not download its file.
    File(Box<Agent>, Error),
    /// The result cannot be written to stdout.
    Stdout(io::Error, String),
    /// As above, for the id of an agent that `create` made.
    Unprinted(io::Error, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Call(error)
    }
}

impl Failure {
    /// The error of a call, if it is one.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Failure::Call(error) | Failure::File(_, error) => Some(error),
            _ => None,
        }
    }

    fn code(&self, command: &Command) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Stdout(..) => exit::USAGE,
            Failure::NoSecret => exit::ACCOUNT,
            Failure::Call(_) if self.misses_endpoint(command) => exit::FAILED,
            Failure::Call(error) => {
                let creates = matches!(command, Command::Create(_));
                exit::code(error.kind(), error.billing(), creates)
            }
            Failure::File(_, error) => exit::code(error.kind(), Billing::Billed, true),
            Failure::Unprinted(..) => exit::UNFINISHED,
        }
    }

    /// The category, in the words of a person at a shell.
    fn kind(&self) -> String {
        let kind = match self {
            Failure::Usage(_) => "Usage",
            Failure::NoSecret => "NoSecret",
            Failure::Stdout(..) | Failure::Unprinted(..) => "Stdout",
            Failure::Call(error) | Failure::File(_, error) => match error.kind() {
                ErrorKind::InvalidInput => "Usage",
                ErrorKind::ShutDown => "Interrupted",
                kind => return format!("{kind:?}"),
            },
        };
        kind.into()
    }

    fn line(&self) -> String {
        match self {
            Failure::Usage(mistake) => mistake.clone(),
            Failure::NoSecret => NO_SECRET.into(),
            Failure::Call(error) => line_of(error),
            Failure::File(agent, error) => {
                let id = &agent.agent_id;
                let line = line_of(error);
                let start = format!("download: agent {id}: ");
                let why = line.strip_prefix(&start).unwrap_or(&line);
                format!("agent {id} is ready and paid for; only its file is missing: {why}")
            }
            Failure::Stdout(reason, result) => {
                let reason = why(reason);
                format!("cannot write to stdout: {reason}; the result is: {result}")
            }
            Failure::Unprinted(reason, id) => format!(
                "cannot write to stdout: {}; agent {id} exists and is paid for: creating another is \
                 billed again",
                why(reason)
            ),
        }
    }

    /// Whether the service does not know the path of a `call`, which names no agent.
    fn misses_endpoint(&self, command: &Command) -> bool {
        let is_404 = |error: &Error| error.http_status() == Some(404);
        match command {
            Command::Call { path, .. } => self.error().is_some_and(is_404) && !names_agent(path),
            _ => false,
        }
    }
}

/// Says what failed and what can be done, and returns the exit code.
pub fn report(cli: &Cli, failure: &Failure, progress: &Progress) -> u8 {
    let code = failure.code(&cli.command);
    let steps = next_steps(cli, failure, code);
    let mut line = failure.line();
    if failure.misses_endpoint(&cli.command) && is_base_url(&cli.common, DEFAULT_BASE_URL) {
        line += &format!("; the current API has more endpoints: --base-url {CURRENT_BASE_URL}");
    }
    if let Some(error) = failure.error() {
        line += &kept(error, progress.received());
    }
    progress.error(&format!("error: {line}"));
    let mut json = json!({"exit_code": code, "kind": failure.kind(), "error": line});
    add_facts(&mut json, failure, &cli.command);
    if cli.common.quiet && !steps.iter().any(|(purpose, _)| *purpose == "retry") {
        say_key(&cli.command, failure, progress);
    }
    for (purpose, command) in steps {
        progress.error(&format!("to {purpose}: {command}"));
        json[purpose] = json!(command);
    }
    // What cannot be written is on stderr already.
    let _ = match failure {
        Failure::File(agent, _) => output::write(&cli.common, &clean(&agent.agent_id), &json),
        _ if cli.common.json => output::write(&cli.common, "", &json),
        _ => Ok(()),
    };
    code
}

/// Prints the key of what may be billed: it was not printed before.
fn say_key(command: &Command, failure: &Failure, progress: &Progress) {
    if let (Command::Create(_), Failure::Call(error)) = (command, failure)
        && let Some(key) = error.idempotency_key()
        && matches!(error.billing(), Billing::Billed | Billing::Unknown)
    {
        progress.error(&format!("idempotency key: {key}"));
    }
}

/// Says how much of a download is kept, where the library's line does not.
fn kept(error: &Error, received: u64) -> String {
    let says_it = matches!(error.kind(), ErrorKind::WaitTimedOut | ErrorKind::File);
    match received == 0 || says_it {
        true => String::new(),
        false => format!("; {} of the file are kept", size(received)),
    }
}

/// Whether the path of a `call` is about one agent.
fn names_agent(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "v1", "agent", "status" | "generate"] => false,
        ["", "v1", "agent", _, ..] => true,
        _ => false,
    }
}

/// Says why the arguments cannot be used, on one line.
pub fn report_usage(error: &clap::Error, is_json: bool) -> u8 {
    let mut line = one_line(&error.render().to_string());
    // clap does not name it.
    if error.kind() == clap::error::ErrorKind::InvalidUtf8
        && let Some(word) = env::args_os().find(|word| word.to_str().is_none())
    {
        line = format!("{} is not UTF-8", quoted(word));
    }
    let shown = clean(&line);
    let _ = writeln!(io::stderr(), "error: {shown} (--help shows the usage)");
    if is_json {
        let json = json!({"exit_code": exit::USAGE, "kind": "Usage", "error": line}).to_string();
        let _ = writeln!(io::stdout(), "{}", output::clean_json(&json));
    }
    exit::USAGE
}

/// Returns the first part of clap's text, and its tips, on one line.
fn one_line(text: &str) -> String {
    let mut message = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let separator = match line {
            "" => continue,
            _ if message.is_empty() => "",
            _ if line.starts_with("tip:") => "; ",
            _ => " ",
        };
        message = message + separator + line;
    }
    message.trim_start_matches("error: ").to_owned()
}

/// Adds what is known. Of a free command that is not what became of the agent's bill.
fn add_facts(json: &mut Value, failure: &Failure, command: &Command) {
    let Some(error) = failure.error() else {
        return;
    };
    let (billing, agent) = match (command, failure) {
        (_, Failure::File(agent, _)) => (Some(Billing::Billed), Some(&**agent)),
        (Command::Create(_) | Command::Call { .. }, _) => {
            (Some(error.billing()), error.last_seen())
        }
        _ => (None, error.last_seen()),
    };
    let billing = billing.map(|billing| format!("{billing:?}"));
    for (name, fact) in [
        ("billing", json!(billing)),
        ("agent_id", json!(error.agent_id())),
        ("idempotency_key", json!(error.idempotency_key())),
        ("http_status", json!(error.http_status())),
        ("code", json!(error.code())),
        ("agent", json!(agent)),
    ] {
        if !fact.is_null() {
            json[name] = fact;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_agent_below_v1_agent() {
        for (path, expected) in [
            ("/v1/agent/A1", true),
            ("/v1/agent/A1/models?x=/", true),
            ("/v1/agent/status/A1", true),
            ("/v1/agent/status", false),
            ("/v1/agent/generate", false),
            ("/v1/agents?limit=5", false),
            ("/v1/me?of=/v1/agent/A1", false),
            ("/v1/webhooks/1", false),
        ] {
            assert_eq!(names_agent(path), expected, "{path}");
        }
    }

    #[test]
    fn what_clap_says_is_one_line() {
        let text = "error: unexpected argument '--promt' found\n\n  tip: a similar argument exists: \
                    '--prompt'\n\nUsage: bithuman-agent create\n";
        let line =
            "unexpected argument '--promt' found; tip: a similar argument exists: '--prompt'";
        assert_eq!(one_line(text), line);
    }
}
