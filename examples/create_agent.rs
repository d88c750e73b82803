//! Makes an agent and waits until it is ready: the main job.
//!
//! Without `BITHUMAN_API_SECRET` it runs against a stand-in of the service in this process.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/stand_in.rs"]
mod stand_in;

use std::env;
use std::path::Path;
use std::process::{self, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bithuman::{Api, ErrorKind, GenerateRequest, Media, Wait};
use cli::{Args, READY};
use stand_in::{Form, StandIn};

const PROGRAM: &str = "create_agent";

const HELP: &str = "\
Makes an agent and waits until it is ready. The model's URL goes to stdout, progress to stderr.

    cargo run --example create_agent -- --prompt TEXT [--image FILE|URL] [--video FILE|URL]
        [--audio FILE|URL] [--model NAME] [--agent-id ID] [--idempotency-key KEY]
        [--receipt FILE] [--interval SECONDS] [--timeout SECONDS] [--json]

--receipt    remembers the agent: the same command again goes on with it, and pays and makes no other
--interval   between two polls: 5 s, or 0.3 s in a demonstration
--timeout    for the wait, once the agent is named, or for all with --receipt: 2 h
--json       the whole agent to stdout, ready or failed

BITHUMAN_API_SECRET   the API secret; without it, a stand-in in this process plays the service, where a
                      prompt with [fail] in it fails
BITHUMAN_API_URL      the base URL, if it is not https://public.api.bithuman.ai

Exit codes: 0 ready, 1 failed or error, 2 usage, with nothing sent.";

struct Options {
    request: GenerateRequest,
    key: String,
    receipt: Option<String>,
    has_video: bool,
    creates: bool,
    has_interval: bool,
    wait: Wait,
    json: bool,
}

fn main() -> ExitCode {
    let mut args = Args::new();
    if args.flag("--help") || args.flag("-h") {
        return ExitCode::from(cli::out(HELP));
    }
    let no_arguments = args.is_empty();
    let options = match parse(args) {
        Ok(options) => options,
        Err(mistake) => return cli::usage(PROGRAM, &mistake),
    };
    let has_secret = env::var_os("BITHUMAN_API_SECRET").is_some();
    if !has_secret && env::var_os("BITHUMAN_API_URL").is_some_and(|url| !url.is_empty()) {
        return cli::usage(PROGRAM, "BITHUMAN_API_URL is set but BITHUMAN_API_SECRET is not");
    }
    if !has_secret && options.receipt.is_some() {
        return cli::usage(PROGRAM, "--receipt needs a service that stays: set BITHUMAN_API_SECRET, or run stand_in");
    }
    if !has_secret {
        return demonstrate(options, no_arguments);
    }
    if !options.creates {
        return cli::usage(PROGRAM, "nothing to create: give --prompt, --image, --video or --audio");
    }
    match Api::from_env() {
        Ok(api) => ExitCode::from(match &options.receipt {
            Some(receipt) => ensure(&api, receipt, &options),
            None => create(&api, &options, true),
        }),
        Err(error) => ExitCode::from(cli::report(&error)),
    }
}

/// The same against the stand-in, with a word before and after.
fn demonstrate(mut options: Options, no_arguments: bool) -> ExitCode {
    // The service of 2026 takes no video.
    let (form, year) = if options.has_video { (Form::Of2025, 2025) } else { (Form::Of2026, 2026) };
    cli::note(&format!(
        "BITHUMAN_API_SECRET is not set: this is a demonstration against a stand-in of the service (as of {year}) \
         in this process. Nothing leaves this machine, nothing is billed."
    ));
    if no_arguments {
        options.request = options.request.prompt("You are a friendly AI assistant that helps with creative writing.");
    }
    if !options.has_interval {
        options.wait = options.wait.interval(Duration::from_millis(300));
    }
    let service = StandIn::start(form);
    let code = match Api::builder().secret(stand_in::SECRET).base_url(service.base_url()).build() {
        Ok(api) => create(&api, &options, false),
        Err(error) => cli::report(&error),
    };
    cli::note(
        "That was the stand-in, which ends with this program: there is no such agent, and its URLs lead nowhere. \
         Set BITHUMAN_API_SECRET to make a real one.",
    );
    ExitCode::from(code)
}

/// The job itself. The commands to go on with are of no use once a stand-in has ended.
fn create(api: &Api, options: &Options, can_resume: bool) -> u8 {
    cli::note(&format!("idempotency key: {}", cli::clean(&options.key)));
    let api = cli::show_events(api);
    let started = match api.generate(&options.request) {
        Ok(started) => started,
        Err(error) => {
            let code = cli::report(&error);
            if can_resume && error.outcome_unknown() {
                let key = &options.key;
                cli::note(&format!("to send the same where keys are honoured: add --idempotency-key {key}"));
            } else if can_resume {
                cli::note("no agent was taken on, so nothing is billed");
            }
            return code;
        }
    };
    let again = if started.replayed { " (made before with this key: not billed again)" } else { "" };
    cli::note(&format!("agent: {}{again}", cli::clean(&started.agent_id)));
    let resume = format!("to go on with this agent: {}", cli::resume_command(&started.agent_id));
    if can_resume {
        // Now, as an interrupted program cannot tell.
        cli::note(&resume);
    }

    let code = cli::follow(&api, &started.agent_id, &options.wait, options.json);
    if can_resume && code != READY {
        cli::note(&resume);
    }
    code
}

/// The agent of a receipt. Whatever happens, the same command goes on with it.
fn ensure(api: &Api, receipt: &str, options: &Options) -> u8 {
    let error = match cli::show_polls(api).ensure_agent(receipt, &options.request, &options.wait) {
        Ok(agent) => return cli::finish(&agent, options.json),
        Err(error) => error,
    };
    if let Some(agent) = error.last_seen().filter(|agent| agent.is_failed() && options.json) {
        cli::out(&cli::json(agent));
    }
    let code = cli::report(&error);
    if let Some(id) = error.agent_id().filter(|_| error.kind() != ErrorKind::GenerationFailed) {
        cli::note(&format!("to go on with this agent: the same command again, or {}", cli::resume_command(id)));
    }
    code
}

fn parse(mut args: Args) -> Result<Options, String> {
    let mut request = GenerateRequest::new();
    let mut creates = false;
    if let Some(prompt) = args.value("--prompt")? {
        (request, creates) = (request.prompt(prompt), true);
    }
    if let Some(image) = args.value("--image")? {
        (request, creates) = (request.image(medium("--image", &image)?), true);
    }
    let video = args.value("--video")?;
    if let Some(video) = &video {
        (request, creates) = (request.video(medium("--video", video)?), true);
    }
    if let Some(audio) = args.value("--audio")? {
        (request, creates) = (request.audio(medium("--audio", &audio)?), true);
    }
    if let Some(model) = args.value("--model")? {
        request = request.model(model);
    }
    if let Some(id) = args.value("--agent-id")? {
        request = request.agent_id(id);
    }
    let receipt = args.value("--receipt")?;
    let own_key = args.value("--idempotency-key")?;
    // A key chosen here is known before the service answers, or does not. A receipt has one of its own.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let minted = || format!("create-agent-{now:x}-{:x}", process::id());
    let key = own_key.or_else(|| receipt.is_none().then(minted));
    let interval = args.seconds("--interval")?;
    let options = Options {
        request: key.iter().fold(request, GenerateRequest::idempotency_key),
        key: key.unwrap_or_default(),
        receipt,
        has_video: video.is_some(),
        creates,
        has_interval: interval.is_some(),
        wait: cli::wait(interval, args.seconds("--timeout")?),
        json: args.flag("--json"),
    };
    args.finish()?;
    Ok(options)
}

/// A link as it is, and anything else as a file that must be there.
fn medium(flag: &str, value: &str) -> Result<Media, String> {
    if value.contains("://") {
        return Ok(Media::url(value));
    }
    match Path::new(value) {
        path if path.is_file() => Ok(Media::file(path)),
        path if path.exists() => Err(format!("{flag}: not a file: {value}")),
        _ => Err(format!("{flag}: no such file: {value}")),
    }
}
