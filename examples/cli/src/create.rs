//! `create`: the request, and the call that sends it.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal};
use std::path::{self, Path};
use std::sync::Arc;
use std::time::Instant;

use bithuman::GenerateRequest;
use bithuman::serde_json::{Value, json};

use crate::args::{Common, Create};
use crate::client::client;
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
        check_target(path, create.receipt.as_deref())
            .map_err(|reason| Failure::Usage(format!("--download {}: {reason}", path.display())))?;
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
            Some(receipt) => api.generate_once(receipt, &request)?,
            None => api.generate(&request)?,
        };
        return print_id(&generation.agent_id, &json!(generation), common, progress);
    }
    let wait = create.wait.to_wait();
    let started = Instant::now();
    let agent = match &create.receipt {
        Some(receipt) => api.ensure_agent(receipt, &request, &wait)?,
        None => api.generate_and_wait(&request, &wait)?,
    };
    let mut file = None;
    if let Some(path) = &create.download {
        let mut download = create.wait.to_download(started.elapsed());
        if let Some(receipt) = &create.receipt {
            // Its last line is written when the agent is ready: an older file is of another agent.
            download = download.if_missing(!files::is_older(path, receipt));
        }
        files::note_wait(&files::beside(path, ".part.json"), path, progress);
        let downloaded = api.download(&agent.agent_id, path, &download);
        file = Some(downloaded.map_err(|error| Failure::File(agent.clone().into(), error))?);
    }
    let json = output::ready(&agent, file.as_ref(), progress);
    print_id(&agent.agent_id, &json, common, progress)
}

/// Prints the id of an agent that is paid for, and must not be lost.
fn print_id(id: &str, json: &Value, common: &Common, progress: &Progress) -> Result<u8, Failure> {
    match output::write(common, &clean(id), json) {
        Err(reason) if reason.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::Unprinted(reason, id.into()));
        }
        Err(_) => progress.error(&format!("agent: {id}")),
        Ok(()) => {}
    }
    Ok(exit::DONE)
}

/// Fails where the download would: nobody should pay before that is found. As the download does, it
/// makes the note beside the part, and removes it again.
fn check_target(path: &Path, receipt: Option<&Path>) -> io::Result<()> {
    if receipt.is_some_and(|receipt| path::absolute(receipt).ok() == path::absolute(path).ok()) {
        return Err(io::Error::other("this is the receipt"));
    }
    for suffix in [".part", ".part.json"] {
        let path = files::beside(path, suffix);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let what = format!("{} is not a regular file", path.display());
            return Err(io::Error::other(what));
        }
    }
    let path = files::beside(path, ".part.json");
    let mut options = File::options();
    options.read(true).write(true);
    let opened = match options.clone().create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(&path).map(drop),
        // Another process that has locked the new file uses it.
        Ok(file) => match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(()),
            _ => fs::remove_file(&path),
        },
        Err(error) => Err(error),
    };
    opened.map_err(|reason| {
        let (path, reason) = (path.display(), files::why(&reason));
        io::Error::other(format!("{path} cannot be written: {reason}"))
    })
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
        request = request.image(image.clone());
    }
    if let Some(audio) = &create.audio {
        request = request.audio(audio.clone());
    }
    if let Some(video) = &create.video {
        request = request.video(video.clone());
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

fn new_key() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("bithuman-agent-{:016x}{:016x}", random(), random())
}
