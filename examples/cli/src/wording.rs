//! The library's errors in the words of a shell: commands and options instead of its functions.

use bithuman::{Error, ErrorKind};

pub const NO_SECRET: &str = "no API secret: set BITHUMAN_API_SECRET, or use --secret-file";

/// How a line of the library begins, and what a command says instead.
const STARTS: [(&str, &str); 6] = [
    ("generate: ", "create: "),
    ("generate_once: ", "create: "),
    ("ensure_agent: ", "create: "),
    ("config: base_url ", "--base-url "),
    ("config: secret ", "--secret-file: the secret "),
    ("config: ", ""),
];

/// What names something of the library, and what a command says instead.
const PHRASES: [(&str, &str); 8] = [
    (
        "no API secret: set BITHUMAN_API_SECRET or ApiBuilder::secret",
        NO_SECRET,
    ),
    ("use https, or allow_plain_http(true)", "use https"),
    ("; use Media::file for a file", ""),
    ("; use Media::file", "; give the path of a file"),
    (", or Media::url", ", or their URLs"),
    (
        "use generate, which carries an idempotency key",
        "use bithuman-agent create",
    ),
    (
        "or call generate and keep its key yourself",
        "or use --key instead of --receipt",
    ),
    ("the same call again", "the same command again"),
];

/// The functions that the library advises to call again.
const CALLS: [&str; 4] = ["wait", "download", "ensure_agent", "generate_once"];

/// Advice that is left out: a line below says what to do.
const ADVICE: [&str; 10] = [
    ", or call again",
    ", then call again, which is free",
    ", then call again",
    ", call again",
    ": call again, which is free",
    "; call again: the same key is billed once",
    "; call again later",
    "; call again",
    ": call wait",
    "; call wait with this agent",
];

/// Returns a line of the library's, in the words of this program.
pub fn in_words(line: &str) -> String {
    let mut line = line.to_owned();
    for (start, instead) in STARTS {
        if let Some(rest) = line.strip_prefix(start) {
            line = format!("{instead}{rest}");
            break;
        }
    }
    for (phrase, instead) in PHRASES {
        line = line.replace(phrase, instead);
    }
    for call in CALLS {
        line = line.replace(&format!("call {call} again"), "call again");
    }
    // It is said nowhere else when, or why.
    for more in [" to ", " with ", " when ", " in "] {
        let instead = format!("run the same command again{more}");
        line = line.replace(&format!("call again{more}"), &instead);
    }
    line = line.replace("and call again", "and run the same command again");
    for advice in ADVICE {
        line = line.replace(advice, "");
    }
    line
}

/// The library's line about an error, in the words of a shell.
pub fn line_of(error: &Error) -> String {
    let mut line = in_words(&error.to_string());
    // The lines below say the same.
    let key = error.idempotency_key().unwrap_or_default();
    for advice in [
        format!("; retry with idempotency key {key}, which is billed once"),
        format!("; check your account before retrying (idempotency key {key})"),
    ] {
        line = line.replace(&advice, "");
    }
    match error.kind() {
        ErrorKind::ShutDown => line.replacen(": shut down", ": interrupted", 1),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_library_speaks_of_commands_and_options() {
        for (line, expected) in [
            (
                "config: base_url ends in /v1, which every request adds: remove it",
                "--base-url ends in /v1, which every request adds: remove it",
            ),
            (
                "config: BITHUMAN_API_BASE is not UTF-8",
                "BITHUMAN_API_BASE is not UTF-8",
            ),
            (
                "ensure_agent: the receipt r cannot be locked: there are no locks here; use a path on \
                 a local disk, or call generate and keep its key yourself",
                "create: the receipt r cannot be locked: there are no locks here; use a path on a \
                 local disk, or use --key instead of --receipt",
            ),
            (
                "ensure_agent: the agent was accepted and billed: call ensure_agent again, which \
                 is free",
                "create: the agent was accepted and billed",
            ),
            (
                "generate: image: a media URL begins with http:// or https://; use Media::file for \
                 a file",
                "create: image: a media URL begins with http:// or https://",
            ),
        ] {
            assert_eq!(in_words(line), expected);
        }
    }

    /// Every error of the library that its own tests show.
    #[test]
    fn no_error_of_the_library_names_its_functions() {
        let all = include_str!("../../../tests/it/golden/errors.txt");
        let is_error = |line: &&str| !line.is_empty() && !line.starts_with(['#', ' ']);
        for line in all.lines().filter(is_error) {
            let line = in_words(line);
            for name in ["::", "(true)", "use generate", "generate:", "call "] {
                assert!(!line.contains(name), "{line}");
            }
        }
    }
}
