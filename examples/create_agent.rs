//! Makes an agent and waits until it is ready: the main job.
//!
//! Without `BITHUMAN_API_SECRET` it runs against a mock server of the service in this process.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/service.rs"]
mod service;
#[path = "../tests/mock_server/mod.rs"]
mod mock_server;

use std::process::ExitCode;

use bithuman::{Api, Error, GenerateRequest, Wait};
use cli::{Args, Stop};
use mock_server::ApiVersion;

fn main() -> ExitCode {
    cli::main(
        "create_agent",
        include_str!("support/help/create_agent.txt"),
        run,
    )
}

fn run(mut args: Args) -> Result<u8, Stop> {
    let is_demo = service::is_demo()?;
    let creates = ["--prompt", "--image", "--video", "--audio"]
        .iter()
        .any(|name| args.has(name));
    // The current API accepts no video.
    let version = if args.has("--video") {
        ApiVersion::V2025
    } else {
        ApiVersion::Current
    };
    let (receipt, json) = (args.value("--receipt")?, args.flag("--json"));
    let wait = args.wait(is_demo)?;
    let key = args.value("--idempotency-key")?;
    let request = request(&mut args)?;
    args.finish()?;
    if !creates && !is_demo {
        return Err(
            "nothing to create: give --prompt, --image, --video or --audio (without them it is a demonstration, where \
             BITHUMAN_API_SECRET is not set)"
                .into(),
        );
    }
    if is_demo && receipt.is_some() {
        return Err(
            "--receipt needs a service that stays: set BITHUMAN_API_SECRET, or run mock_server"
                .into(),
        );
    }
    let request = if creates {
        request
    } else {
        request.prompt("You are a friendly AI assistant.")
    };

    // Told before the service answers, or does not. A receipt has one of its own.
    let key = key.or_else(|| receipt.is_none().then(cli::new_key));
    let request = key.iter().fold(request, GenerateRequest::idempotency_key);

    service::with_api(version, |api| {
        if let Some(key) = key {
            cli::note(&format!("idempotency key: {}", cli::clean(&key)));
        }
        Ok(match receipt {
            Some(receipt) => ensure(&cli::show_polls(api), &receipt, &request, &wait, json)?,
            None => create(&cli::show_events(api), &request, &wait, json)?,
        })
    })
}

fn create(api: &Api, request: &GenerateRequest, wait: &Wait, json: bool) -> Result<u8, Error> {
    let started = api.generate(request)?;
    let again = if started.replayed {
        " (made before with this key: not billed again)"
    } else {
        ""
    };
    cli::note(&format!("agent: {}{again}", cli::clean(&started.agent_id)));
    // Now, because an interrupted program cannot print it later.
    cli::print_resume_hint(&started.agent_id);
    cli::follow(api, &started.agent_id, wait, json)
}

/// The agent of a receipt: the same command goes on with it, unless its generation failed.
fn ensure(
    api: &Api,
    receipt: &str,
    request: &GenerateRequest,
    wait: &Wait,
    json: bool,
) -> Result<u8, Error> {
    cli::note(&format!(
        "receipt: {}; the same command again continues with it, or pays for another try if its generation failed",
        cli::clean(receipt)
    ));
    let ended = api.ensure_agent(receipt, request, wait);
    let seen = ended.as_ref().err().and_then(Error::last_seen);
    if let Some(failed) = seen.filter(|agent| json && agent.is_failed()) {
        cli::out(&cli::json(failed));
    }
    Ok(cli::finish(&ended?, json))
}

fn request(args: &mut Args) -> Result<GenerateRequest, String> {
    let prompt = args.value("--prompt")?;
    if prompt.as_deref() == Some("") {
        // As of a variable that is not set: nobody would pay for that on purpose.
        return Err("--prompt is empty".into());
    }
    let request = prompt
        .into_iter()
        .fold(GenerateRequest::new(), GenerateRequest::prompt);
    let request = args
        .medium("--image")?
        .into_iter()
        .fold(request, GenerateRequest::image);
    let request = args
        .medium("--video")?
        .into_iter()
        .fold(request, GenerateRequest::video);
    let request = args
        .medium("--audio")?
        .into_iter()
        .fold(request, GenerateRequest::audio);
    let request = args
        .value("--model")?
        .into_iter()
        .fold(request, GenerateRequest::model);
    Ok(args
        .value("--agent-id")?
        .into_iter()
        .fold(request, GenerateRequest::agent_id))
}
