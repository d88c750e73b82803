//! Why a command ends without a result: what is said of it, and what can be done.

use std::io::{self, Write};
use std::path::Path;

use bithuman::serde_json::{Value, json};
use bithuman::{Billing, Error, ErrorKind};

use crate::args::{Cli, Command};
use crate::client::is_default_base_url;
use crate::exit;
use crate::output;
use crate::progress::Progress;
use crate::shell::{NO_SECRET, in_words, quoted};

/// Why a command ends without a result.
pub enum Failure {
    /// A mistake that is found before anything is sent.
    Usage(String),
    /// A request needs a secret, and there is none.
    NoSecret,
    /// The error of a call.
    Call(Error),
    /// The result cannot be written to stdout.
    Stdout(io::Error, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // A receipt is looked at first: what it says of a bill matters more.
        let is_billed = error.billing() != Billing::NotBilled;
        match in_words(&error.to_string()) == NO_SECRET && !is_billed {
            true => Failure::NoSecret,
            false => Failure::Call(error),
        }
    }
}

impl Failure {
    /// The error of a call, if it is one.
    fn error(&self) -> Option<&Error> {
        match self {
            Failure::Call(error) => Some(error),
            _ => None,
        }
    }

    fn code(&self, command: &Command) -> u8 {
        match self {
            Failure::Usage(_) => exit::USAGE,
            Failure::NoSecret => exit::ACCOUNT,
            Failure::Call(_) if self.misses_endpoint(command) => exit::FAILED,
            Failure::Call(error) => {
                let creates = matches!(command, Command::Create(_));
                exit::code(error.kind(), error.billing(), creates)
            }
            Failure::Stdout(..) => exit::UNFINISHED,
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

    /// The category, in the words of a person at a shell.
    fn kind(&self) -> String {
        match self {
            Failure::Usage(_) => "Usage".into(),
            Failure::NoSecret => "NoSecret".into(),
            Failure::Call(error) => match error.kind() {
                ErrorKind::InvalidInput => "Usage".into(),
                ErrorKind::ShutDown => "Interrupted".into(),
                kind => format!("{kind:?}"),
            },
            Failure::Stdout(..) => "Stdout".into(),
        }
    }

    fn line(&self) -> String {
        match self {
            Failure::Usage(mistake) => mistake.clone(),
            Failure::NoSecret => NO_SECRET.into(),
            Failure::Call(error) => in_words(&error.to_string()),
            Failure::Stdout(reason, text) => {
                format!("cannot write to stdout: {reason}; the result is: {text}")
            }
        }
    }
}

/// Says what failed and what can be done, and returns the exit code.
pub fn report(cli: &Cli, failure: &Failure, progress: &Progress) -> u8 {
    let code = failure.code(&cli.command);
    let mut line = failure.line();
    if failure.misses_endpoint(&cli.command) {
        line += missing_endpoint_advice(is_default_base_url(&cli.common));
    }
    progress.error(&format!("error: {line}"));
    let mut json = json!({"exit_code": code, "kind": failure.kind(), "error": line});
    if let Some(error) = failure.error() {
        add_facts(&mut json, error, &cli.command);
        say_how_to_resume(cli, error, code, &mut json, progress);
    }
    if cli.common.json {
        // What cannot be written is on stderr already.
        let _ = output::print(&cli.common, "", &json);
    }
    code
}

fn missing_endpoint_advice(is_default_base_url: bool) -> &'static str {
    match is_default_base_url {
        true => "; the current API has more endpoints: --base-url https://api.bithuman.ai",
        false => "",
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
    let line = one_line(&error.render().to_string());
    let _ = writeln!(io::stderr(), "error: {line} (--help shows the usage)");
    if is_json {
        let json = json!({"exit_code": exit::USAGE, "kind": "Usage", "error": line});
        let _ = writeln!(io::stdout(), "{json}");
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
fn add_facts(json: &mut Value, error: &Error, command: &Command) {
    let billing = match command {
        Command::Create(_) | Command::Call { .. } => Some(format!("{:?}", error.billing())),
        _ => None,
    };
    for (name, fact) in [
        ("billing", json!(billing)),
        ("agent_id", json!(error.agent_id())),
        ("idempotency_key", json!(error.idempotency_key())),
        ("http_status", json!(error.http_status())),
        ("code", json!(error.code())),
        ("agent", json!(error.last_seen())),
    ] {
        if !fact.is_null() {
            json[name] = fact;
        }
    }
}

/// Names what may have been billed, and the command that resumes.
fn say_how_to_resume(cli: &Cli, error: &Error, code: u8, json: &mut Value, progress: &Progress) {
    let creates = matches!(cli.command, Command::Create(_));
    if creates && matches!(error.billing(), Billing::Billed | Billing::Unknown) {
        for (name, value) in [
            ("idempotency key", error.idempotency_key()),
            ("agent", error.agent_id()),
        ] {
            if let Some(value) = value {
                progress.error(&format!("{name}: {value}"));
            }
        }
    }
    if let Some(command) = resume(cli, error, code) {
        progress.error(&format!("to resume: {command}"));
        json["resume"] = json!(command);
    }
}
/// Returns the command that continues with the agent, if that can lead somewhere.
fn resume(cli: &Cli, error: &Error, code: u8) -> Option<String> {
    if matches!(code, exit::FAILED | exit::USAGE | exit::NO_AGENT) {
        return None;
    }
    let id = error.agent_id()?;
    let commands = match &cli.command {
        Command::Create(create) => {
            let mut commands = vec![command("wait", id, None, None)];
            if let Some(path) = &create.download {
                commands.push(command("download", id, Some(path), None));
            }
            commands
        }
        Command::Wait { model, .. } => vec![command("wait", id, None, model.as_deref())],
        Command::Download { path, model, .. } => {
            vec![command("download", id, path.as_deref(), model.as_deref())]
        }
        _ => return None,
    };
    let mut options = String::new();
    if let Some(url) = &cli.common.base_url {
        options += &format!(" --base-url {}", quoted(url));
    }
    if let Some(path) = &cli.common.secret_file {
        options += &format!(" --secret-file {}", quoted(&path.to_string_lossy()));
    }
    let commands = commands.iter().map(|command| format!("{command}{options}"));
    Some(commands.collect::<Vec<_>>().join(" && "))
}

fn command(name: &str, id: &str, path: Option<&Path>, model: Option<&str>) -> String {
    let mut command = format!("bithuman-agent {name} {}", quoted(id));
    if let Some(path) = path {
        command += &format!(" {}", quoted(&path.to_string_lossy()));
    }
    if let Some(model) = model {
        command += &format!(" --model {}", quoted(model));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithuman::CURRENT_BASE_URL;

    #[test]
    fn who_misses_an_endpoint_of_the_default_base_url_learns_of_the_other() {
        assert!(missing_endpoint_advice(true).ends_with(CURRENT_BASE_URL));
        assert_eq!(missing_endpoint_advice(false), "");
    }

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
