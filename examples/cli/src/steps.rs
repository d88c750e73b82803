//! The commands that a person can use after a failure.

use bithuman::{Error, ErrorKind};

use crate::args::{Cli, Command, Common};
use crate::exit;
use crate::failure::Failure;
use crate::progress::clean;
use crate::wording::key_advice;

/// What can be done: `look`, `retry` or `resume`, and the command for it.
pub fn next_steps(cli: &Cli, failure: &Failure, code: u8) -> Vec<(&'static str, String)> {
    match (&cli.command, failure) {
        (Command::Create(_), Failure::Call(error)) if code == exit::PERHAPS_BILLED => {
            look_and_retry(error, &cli.common)
        }
        _ => Vec::from_iter(resume(cli, failure, code).map(|command| ("resume", command))),
    }
}

/// What to do about an agent that may be there.
fn look_and_retry(error: &Error, common: &Common) -> Vec<(&'static str, String)> {
    let look = match error.agent_id() {
        Some(id) => command(&["status", id], None, common),
        None => command(&["call", "GET", "/v1/agents?limit=5"], None, common),
    };
    let mut steps = vec![("look", look)];
    let key = error.idempotency_key().unwrap_or_default();
    let line = error.to_string();
    if key_advice(key).iter().any(|advice| line.contains(advice)) {
        // Not as a whole: prompts and signed URLs do not belong into a log.
        let retry = format!("the same command with --key {}", quoted(key));
        steps.push(("retry", retry));
    }
    steps
}

/// Returns the command that continues with the agent, if that can lead somewhere.
fn resume(cli: &Cli, failure: &Failure, code: u8) -> Option<String> {
    let common = &cli.common;
    if let Failure::Unprinted(_, id) = failure {
        return Some(command(&["wait", id], None, common));
    }
    let error = failure.error()?;
    let id = error.agent_id()?;
    let can_wait = !matches!(code, exit::FAILED | exit::USAGE | exit::NO_AGENT);
    match &cli.command {
        Command::Create(create) => {
            let path = create.download.as_ref().map(|path| path.to_string_lossy());
            let download = path.map(|path| command(&["download", id, &path], None, common));
            if let Failure::File(..) = failure {
                return download.filter(|_| can_download(error));
            }
            let wait = command(&["wait", id], None, common);
            let commands = Vec::from_iter([wait].into_iter().chain(download));
            can_wait.then(|| commands.join(" && "))
        }
        Command::Wait { model, .. } if can_wait => {
            Some(command(&["wait", id], model.as_deref(), common))
        }
        Command::Download { path, model, .. } if can_download(error) => {
            let path = path.as_ref().map(|path| path.to_string_lossy());
            let words = Vec::from_iter(["download", id].into_iter().chain(path.as_deref()));
            // A path that cannot be used is found before the first attempt.
            let is_path = error.kind() == ErrorKind::File && error.attempts() == 0;
            (!is_path).then(|| command(&words, model.as_deref(), common))
        }
        _ => None,
    }
}

/// Whether another download may succeed where this one failed.
fn can_download(error: &Error) -> bool {
    use ErrorKind::{GenerationFailed, NotFound, PlanLimit, Rejected};
    match error.kind() {
        GenerationFailed | NotFound | PlanLimit | Rejected => false,
        // The service could not build the file.
        ErrorKind::Service | ErrorKind::UnexpectedResponse => error.is_retryable(),
        _ => true,
    }
}

/// Returns a command of this program, with the options that it needs.
fn command(words: &[&str], model: Option<&str>, common: &Common) -> String {
    let mut command = "bithuman-agent".to_owned();
    for word in words {
        command += &format!(" {}", quoted(word));
    }
    let file = common
        .secret_file
        .as_ref()
        .map(|path| path.to_string_lossy());
    for (option, value) in [
        ("--model", model),
        ("--base-url", common.base_url.as_deref()),
        ("--secret-file", file.as_deref()),
    ] {
        if let Some(value) = value {
            command += &format!(" {option} {}", quoted(value));
        }
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
}
