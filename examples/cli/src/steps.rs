//! What a person can do after a failure.

use std::ffi::OsStr;
use std::path::Path;

use bithuman::{Billing, CURRENT_BASE_URL, Error, ErrorKind};

use crate::args::{Cli, Command, Common, Create};
use crate::client::is_base_url;
use crate::exit;
use crate::failure::Failure;
use crate::progress::clean;

/// What to do with a receipt: it knows what was done. Prompts and signed URLs do not belong into a
/// log, so that the command is not repeated.
const AGAIN: &str = "the same command again";

/// What can be done: `look`, `retry` or `resume`, and how.
pub fn next_steps(cli: &Cli, failure: &Failure, code: u8) -> Vec<(&'static str, String)> {
    match (&cli.command, failure) {
        (Command::Create(create), Failure::Call(error)) if code == exit::PERHAPS_BILLED => {
            look_and_retry(create, error, &cli.common)
        }
        _ => Vec::from_iter(resume(cli, failure, code).map(|command| ("resume", command))),
    }
}

/// What to do about an agent that may be there.
fn look_and_retry(create: &Create, error: &Error, common: &Common) -> Vec<(&'static str, String)> {
    let honors_keys = is_base_url(common, CURRENT_BASE_URL);
    let has_receipt = create.receipt.is_some();
    if has_receipt && (honors_keys || error.is_retryable()) {
        return vec![("retry", AGAIN.into())];
    }
    let look = match error.agent_id() {
        Some(id) => command(&["status", id], None, common),
        None => command(&["call", "GET", "/v1/agents?limit=5"], None, common),
    };
    let mut steps = vec![("look", look)];
    // A response that accepts a request is only repeated.
    let is_accepted = error.http_status().is_some_and(|status| status < 300);
    if let Some(key) = error.idempotency_key()
        && honors_keys
        && !(has_receipt || is_accepted || error.agent_id().is_some())
    {
        let retry = format!("the same command with --key {}", quoted(key));
        steps.push(("retry", retry));
    }
    steps
}

/// Returns what continues with the agent, if that can lead somewhere.
fn resume(cli: &Cli, failure: &Failure, code: u8) -> Option<String> {
    let common = &cli.common;
    match &cli.command {
        Command::Create(create) => resume_create(create, failure, common),
        Command::Wait { id, model, .. } => {
            failure.error()?;
            let can_wait = !matches!(code, exit::FAILED | exit::USAGE | exit::NO_AGENT);
            can_wait.then(|| command(&["wait", id], model.as_deref(), common))
        }
        Command::Download {
            id, path, model, ..
        } => {
            let error = failure.error()?;
            // A path that cannot be used is found before the first attempt.
            let is_path = error.kind() == ErrorKind::File && error.attempts() == 0;
            let mut words = vec![OsStr::new("download"), OsStr::new(id)];
            words.extend(path.as_ref().map(|path| path.as_os_str()));
            (can_download(error) && !is_path).then(|| command(&words, model.as_deref(), common))
        }
        _ => None,
    }
}

fn resume_create(create: &Create, failure: &Failure, common: &Common) -> Option<String> {
    use ErrorKind::{GenerationFailed, NotFound, Receipt};
    let download = |id: &str| {
        let path = create.download.as_ref()?.as_os_str();
        let words = [OsStr::new("download"), OsStr::new(id), path];
        Some(command(&words, None, common))
    };
    let has_receipt = create.receipt.is_some();
    match failure {
        Failure::File(_, error) if !can_download(error) => None,
        Failure::File(..) | Failure::Unprinted(..) if has_receipt => Some(AGAIN.into()),
        Failure::File(agent, _) => download(&agent.agent_id),
        Failure::Unprinted(_, id) => Some(command(&["wait", id], None, common)),
        Failure::Call(error) if error.billing() == Billing::Billed => match error.kind() {
            GenerationFailed | NotFound => None,
            // The receipt could not be written, and does not know the agent.
            kind if has_receipt && kind != Receipt => Some(AGAIN.into()),
            _ => {
                let id = error.agent_id()?;
                let wait = command(&["wait", id], None, common);
                Some(match download(id) {
                    Some(download) => format!("{wait} && {download}"),
                    None => wait,
                })
            }
        },
        _ => None,
    }
}

/// Whether another download may succeed where this one failed.
fn can_download(error: &Error) -> bool {
    use ErrorKind::{GenerationFailed, NotFound, Rejected};
    match error.kind() {
        GenerationFailed | NotFound | Rejected => false,
        // The service could not build the file.
        ErrorKind::Service | ErrorKind::UnexpectedResponse => error.is_retryable(),
        _ => true,
    }
}

/// Returns a command of this program, with the options that it needs.
fn command(words: &[impl AsRef<OsStr>], model: Option<&str>, common: &Common) -> String {
    let mut command = "bithuman-agent".to_owned();
    for word in words {
        command += &format!(" {}", quoted(word));
    }
    for (option, value) in [
        ("--model", model.map(OsStr::new)),
        ("--base-url", common.base_url.as_deref().map(OsStr::new)),
        (
            "--secret-file",
            common.secret_file.as_deref().map(Path::as_os_str),
        ),
    ] {
        if let Some(value) = value {
            command += &format!(" {option} {}", quoted(value));
        }
    }
    command
}

/// Returns the text as one word of a shell's command line.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.into(),
        Some(text) if text == clean(text) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => format!("$'{}'", word.as_encoded_bytes().escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::mock_server::{ApiVersion::Current, MockServer, SECRET};
    use bithuman::{Api, DEFAULT_BASE_URL, GenerateRequest};
    use clap::Parser;

    /// The agent that an error may be about is looked for where the key is not honored.
    #[test]
    fn a_retry_is_offered_where_it_is_billed_once() {
        let service = MockServer::start(Current);
        let api = Api::builder().secret(SECRET).base_url(service.base_url());
        let request = GenerateRequest::new().prompt("[INTERNAL_ERROR]");
        let request = request.idempotency_key("it's-1");
        let error = api.build().unwrap().generate(&request).unwrap_err();
        let failure = Failure::Call(error);
        let look = |url: &str| {
            let look = "bithuman-agent call GET '/v1/agents?limit=5'";
            ("look", format!("{look} --base-url {url}"))
        };
        let retry = (
            "retry",
            "the same command with --key 'it'\\''s-1'".to_owned(),
        );
        let again = ("retry", "the same command again".to_owned());
        for (receipt, url, expected) in [
            ("", DEFAULT_BASE_URL, vec![look(DEFAULT_BASE_URL)]),
            ("", CURRENT_BASE_URL, vec![look(CURRENT_BASE_URL), retry]),
            (
                "--receipt=r",
                DEFAULT_BASE_URL,
                vec![look(DEFAULT_BASE_URL)],
            ),
            ("--receipt=r", CURRENT_BASE_URL, vec![again]),
        ] {
            let args = ["bithuman-agent", "create", "--base-url", url, receipt];
            let args = args.iter().filter(|arg| !arg.is_empty());
            let cli = Cli::parse_from(args);
            let steps = next_steps(&cli, &failure, exit::PERHAPS_BILLED);
            assert_eq!(steps, expected, "{receipt}, {url}");
        }
    }

    #[test]
    fn a_word_stays_one_word_in_a_shell() {
        for (word, expected) in [
            ("A91XMB7113", "A91XMB7113"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("\u{1b}[2J", "$'\\x1b[2J'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
