//! `create`: the request, and the call that sends it.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bithuman::serde_json::{Value, json};
use bithuman::{Billing, Error, ErrorKind, GenerateRequest, Media};

use crate::args::{Common, Create};
use crate::client::{client, has_secret};
use crate::failure::Failure;
use crate::progress::{Progress, clean};
use crate::{exit, files, output};

const TYPE_PROMPT: &str = match cfg!(windows) {
    true => "type the prompt; a line with Ctrl-Z ends it",
    false => "type the prompt; a line with Ctrl-D ends it",
};

const NOTHING: &str = "nothing to create: give --prompt, --image, --audio or --video";

pub fn run(create: &Create, common: &Common, progress: &Arc<Progress>) -> Result<u8, Failure> {
    if create.prompt.as_deref() == Some("-") && io::stdin().is_terminal() {
        progress.note(TYPE_PROMPT);
    }
    let mut request = request(create)?;
    if let Some(path) = &create.download {
        check_download(path, create, common)?;
    }
    let api = client(common, create.receipt.is_none(), progress)?;
    match (&create.key, &create.receipt) {
        (None, Some(receipt)) => {
            let receipt = receipt.display();
            progress.announce(format!("idempotency key: in the receipt {receipt}"));
        }
        (key, _) => {
            let key = key.clone().unwrap_or_else(new_key);
            if progress.is_secret(&key) {
                return Err(Failure::Usage("--key: this is the API secret".into()));
            }
            progress.announce(format!("idempotency key: {key}"));
            request = request.idempotency_key(key);
        }
    }
    if let Some(receipt) = &create.receipt {
        files::note_wait(receipt, receipt, progress);
    }
    if create.no_wait {
        let generation = match &create.receipt {
            Some(receipt) => api.generate_once(receipt, &request),
            None => api.generate(&request),
        };
        let generation = generation.map_err(|error| failure(error, common))?;
        return print_id(&generation.agent_id, &json!(generation), common);
    }
    let wait = create.wait.to_wait();
    let started = Instant::now();
    let agent = match &create.receipt {
        Some(receipt) => api.ensure_agent(receipt, &request, &wait),
        None => api.generate_and_wait(&request, &wait),
    };
    let agent = agent.map_err(|error| failure(error, common))?;
    let mut file = None;
    if let Some(path) = &create.download {
        let mut download = create.wait.to_download(started.elapsed());
        if let Some(receipt) = &create.receipt {
            // Its last line is written when the agent is ready: an older file is of another agent.
            download = download.if_missing(!files::is_older(path, receipt));
        }
        files::note_wait_for_download(path, progress);
        let downloaded = api.download(&agent.agent_id, path, &download);
        file = Some(downloaded.map_err(|error| Failure::File(agent.clone().into(), error))?);
    }
    let json = output::ready(&agent, file.as_ref(), progress);
    print_id(&agent.agent_id, &json, common)
}

/// Prints the id of an agent that is paid for, and must not be lost: on stderr where nobody reads
/// stdout.
fn print_id(id: &str, json: &Value, common: &Common) -> Result<u8, Failure> {
    let id = clean(id);
    match output::write(common, &id, json) {
        Ok(()) => Ok(exit::DONE),
        Err(reason)
            if reason.kind() == io::ErrorKind::BrokenPipe
                && writeln!(io::stderr(), "agent: {id}").is_ok() =>
        {
            Ok(exit::DONE)
        }
        Err(reason) => Err(Failure::Unprinted(reason, id)),
    }
}

/// The error of a call that reads a receipt, which is done before a secret is needed.
fn failure(error: Error, common: &Common) -> Failure {
    let is_free = error.billing() == Billing::NotBilled;
    if is_free && error.kind() == ErrorKind::InvalidInput && !has_secret(common) {
        return Failure::NoSecret;
    }
    Failure::Call(error)
}

/// Refuses a download that cannot be: nobody should pay before that is found.
fn check_download(path: &Path, create: &Create, common: &Common) -> Result<(), Failure> {
    let refuse = |reason| Failure::Usage(format!("--download {}: {reason}", path.display()));
    if matches!(create.model.as_deref(), None | Some("expression-1")) {
        let reason = "needs --model, and not expression-1: such an agent has no file";
        return Err(refuse(reason.into()));
    }
    let prompt = create.prompt.as_deref();
    let used = [
        ("--receipt", create.receipt.as_deref()),
        ("--image", create.image.as_deref().map(Path::new)),
        ("--audio", create.audio.as_deref().map(Path::new)),
        ("--video", create.video.as_deref().map(Path::new)),
        (
            "--prompt",
            prompt
                .and_then(|text| text.strip_prefix('@'))
                .map(Path::new),
        ),
        ("--secret-file", common.secret_file.as_deref()),
    ];
    files::check_unused(path, &used).map_err(refuse)?;
    files::check_writable(path).map_err(refuse)
}

fn request(create: &Create) -> Result<GenerateRequest, Failure> {
    let media = [&create.image, &create.audio, &create.video];
    let has_media = media.iter().any(|media| media.is_some());
    if create.prompt.is_none() && !has_media && create.field.is_empty() {
        return Err(Failure::Usage(NOTHING.into()));
    }
    let mut request = GenerateRequest::new();
    if let Some(text) = &create.prompt {
        request = request.prompt(prompt(text)?);
    }
    if let Some(image) = &create.image {
        request = request.image(to_media(image));
    }
    if let Some(audio) = &create.audio {
        request = request.audio(to_media(audio));
    }
    if let Some(video) = &create.video {
        request = request.video(to_media(video));
    }
    if let Some(model) = &create.model {
        request = request.model(model);
    }
    if let Some(ratio) = &create.aspect_ratio {
        request = request.aspect_ratio(ratio);
    }
    if let Some(framing) = &create.framing {
        request = request.framing(framing);
    }
    if create.transparency {
        request = request.transparency(true);
    }
    for (name, value) in &create.field {
        check_field(name)?;
        request = request.field(name, value.clone());
    }
    Ok(request)
}

fn to_media(text: &str) -> Media {
    match text.contains("://") {
        true => Media::url(text),
        false => Media::file(text),
    }
}

/// Refuses a field that has an option.
fn check_field(name: &str) -> Result<(), Failure> {
    let instead = match name {
        "prompt" | "image" | "audio" | "video" | "model" | "framing" | "transparency" => {
            format!("use --{name}")
        }
        "aspect_ratio" => "use --aspect-ratio".into(),
        "agent_id" => "create makes new agents only".into(),
        _ => return Ok(()),
    };
    Err(Failure::Usage(format!("--field {name}: {instead}")))
}

/// Returns the prompt, which is the text itself, or in a file, or comes from stdin.
fn prompt(text: &str) -> Result<String, Failure> {
    let read = match (text, text.strip_prefix('@')) {
        ("-", _) => io::read_to_string(io::stdin()),
        (_, Some(path)) => fs::read_to_string(path),
        _ => Ok(text.into()),
    };
    let prompt =
        read.map_err(|reason| Failure::Usage(format!("--prompt {text}: {}", files::why(&reason))))?;
    // Most likely the value of a variable that is not set: nobody pays for that on purpose.
    if prompt.trim().is_empty() {
        return Err(Failure::Usage("--prompt: it is empty".into()));
    }
    Ok(prompt.trim_end_matches(['\r', '\n']).into())
}

/// Returns a name that nothing else has.
pub fn new_key() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("bithuman-agent-{:016x}{:016x}", random(), random())
}
