//! The result on stdout.

use std::io::{self, Write};

use bithuman::serde_json::{Value, json};
use bithuman::{Agent, Downloaded, Status};
use regex::Captures;

use crate::args::Common;
use crate::exit;
use crate::failure::Failure;
use crate::progress::{HIDDEN, Progress, clean, describe};

/// Prints a result, as text or JSON. A reader that wants no more of it is no failure.
pub fn print(common: &Common, text: &str, json: &Value) -> Result<(), Failure> {
    match write(common, text, json) {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => {
            let result = if common.json { &json.to_string() } else { text };
            Err(Failure::Stdout(reason, result.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Writes a line to stdout: the text, or the JSON if that is asked for.
pub fn write(common: &Common, text: &str, json: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match common.json {
        true => writeln!(stdout, "{}", clean_json(&json.to_string()))?,
        false => writeln!(stdout, "{text}")?,
    }
    stdout.flush()
}

/// Returns the JSON with what could play tricks on a terminal as JSON writes it. Line feeds are
/// between its values.
pub fn clean_json(json: &str) -> String {
    let escape = |found: &Captures| match &found[0] {
        "\n" => "\n".to_owned(),
        hidden => {
            let units = hidden.encode_utf16();
            units.map(|unit| format!("\\u{unit:04x}")).collect()
        }
    };
    HIDDEN.replace_all(json, escape).into_owned()
}

/// Prints how far an agent is, and returns the exit code. The JSON of one that failed or was deleted
/// is its record, with the fields of a failure.
pub fn print_status(agent: &Agent, common: &Common) -> Result<u8, Failure> {
    let (code, kind) = match agent.status {
        Status::Failed => (exit::FAILED, "GenerationFailed"),
        Status::Deleted => (exit::NO_AGENT, "NotFound"),
        _ => (exit::DONE, ""),
    };
    let text = describe(agent);
    let mut json = json!(agent);
    if code != exit::DONE {
        json["exit_code"] = json!(code);
        json["kind"] = json!(kind);
        json["error"] = json!(format!("agent {}: {text}", clean(&agent.agent_id)));
    }
    print(common, &text, &json)?;
    Ok(code)
}

/// Says that an agent is ready, and returns it as JSON, with its file if that was downloaded.
pub fn ready(agent: &Agent, file: Option<&Downloaded>, progress: &Progress) -> Value {
    progress.end();
    let mut json = json!(agent);
    if let Some(file) = file {
        progress.note(&format!("ready; model file: {}", file.path.display()));
        json["file"] = file_json(file);
    } else if let Some(url) = &agent.model_url {
        progress.note(&format!("ready; model: {url}"));
    }
    json
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
