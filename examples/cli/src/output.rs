//! The result on stdout, and what is said of a failure.

use std::io::{self, Write};
use std::path::Path;

use bithuman::serde_json::{Value, json};
use bithuman::{Billing, Downloaded, Error};

use crate::args::{Cli, Command, Common};
use crate::exit;
use crate::progress::{Progress, clean};

/// Why a command ends without a result.
pub enum Failure {
    /// A mistake that is found before anything is sent.
    Usage(String),
    /// The error of a call.
    Call(Error),
    /// The result cannot be written to stdout.
    Stdout(io::Error, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Call(error)
    }
}

/// Prints a result, as text or JSON. A reader that wants no more of it is no failure.
pub fn print(common: &Common, text: &str, json: &Value) -> Result<(), Failure> {
    let line = if common.json {
        json.to_string()
    } else {
        text.into()
    };
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Stdout(error, line))
        }
        _ => Ok(()),
    }
}

/// Returns a downloaded file as JSON.
pub fn file_json(file: &Downloaded) -> Value {
    let path = file.path.to_string_lossy();
    json!({
        "path": path,
        "length": file.length,
        "fetched": file.fetched,
        "model": file.model,
    })
}

/// Says what failed and how to resume, and returns the exit code.
pub fn report(cli: &Cli, failure: &Failure, progress: &Progress) -> u8 {
    let (code, message) = match failure {
        Failure::Usage(mistake) => (exit::USAGE, mistake.clone()),
        Failure::Stdout(reason, text) => {
            let message = format!("cannot write to stdout: {reason}; the result is: {text}");
            (exit::UNFINISHED, message)
        }
        Failure::Call(error) => {
            let creates = matches!(cli.command, Command::Create(_));
            let code = exit::code(error.kind(), error.billing(), creates);
            (code, error.to_string())
        }
    };
    progress.error(&format!("error: {message}"));
    let mut json = json!({"exit_code": code, "error": {"message": message}});
    if let Failure::Call(error) = failure {
        add_facts(&mut json, error);
        say_how_to_resume(cli, error, code, &mut json, progress);
    }
    if cli.common.json {
        // What cannot be written is on stderr already.
        let _ = print(&cli.common, "", &json);
    }
    code
}

/// Says why the arguments cannot be used, on one line.
pub fn report_usage(error: &clap::Error, is_json: bool) -> u8 {
    let message = one_line(&error.render().to_string());
    let _ = writeln!(io::stderr(), "error: {message} (--help shows the usage)");
    if is_json {
        let json = json!({"exit_code": exit::USAGE, "error": {"message": message}});
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

fn add_facts(json: &mut Value, error: &Error) {
    json["error"]["kind"] = json!(format!("{:?}", error.kind()));
    json["error"]["billing"] = json!(format!("{:?}", error.billing()));
    json["error"]["is_retryable"] = json!(error.is_retryable());
    json["error"]["http_status"] = json!(error.http_status());
    json["error"]["code"] = json!(error.code());
    json["agent_id"] = json!(error.agent_id());
    json["idempotency_key"] = json!(error.idempotency_key());
    json["agent"] = json!(error.last_seen());
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

/// Returns the text as one word of a shell's command line.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", clean(word).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_in_a_shell() {
        for (word, expected) in [
            ("A91XMB7113", "A91XMB7113"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("\u{1b}[2J", "'\\u{1b}[2J'"),
        ] {
            assert_eq!(quoted(word), expected);
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
