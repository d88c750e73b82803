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

use bithuman::{Api, Event, GenerateRequest, Media, Wait};
use cli::{Args, Bar, READY};
use stand_in::{Form, StandIn};

const PROGRAM: &str = "create_agent";

const HELP: &str = "\
Makes an agent and waits until it is ready. The model's URL goes to stdout, progress to stderr.

    cargo run --example create_agent -- --prompt TEXT [--image FILE|URL] [--video FILE|URL]
        [--audio FILE|URL] [--model NAME] [--agent-id ID] [--idempotency-key KEY]
        [--interval SECONDS] [--timeout SECONDS] [--json]

BITHUMAN_API_SECRET   the API secret; without it, a stand-in in this process plays the service
BITHUMAN_API_URL      the base URL, if it is not https://public.api.bithuman.ai

Exit codes: 0 ready, 1 failed or error, 2 usage.";

struct Options {
    request: GenerateRequest,
    key: String,
    has_video: bool,
    creates: bool,
    has_interval: bool,
    wait: Wait,
    json: bool,
}

fn main() -> ExitCode {
    let mut args = Args::new();
    if args.flag("--help") || args.flag("-h") {
        println!("{HELP}");
        return ExitCode::from(READY);
    }
    let no_arguments = args.is_empty();
    let options = match parse(args) {
        Ok(options) => options,
        Err(mistake) => return cli::usage(PROGRAM, &mistake),
    };
    let set = |name: &str| env::var_os(name).is_some();
    if !set("BITHUMAN_API_SECRET") && set("BITHUMAN_API_URL") {
        return cli::usage(PROGRAM, "BITHUMAN_API_URL is set but BITHUMAN_API_SECRET is not");
    }
    if !set("BITHUMAN_API_SECRET") {
        return demonstrate(options, no_arguments);
    }
    if !options.creates {
        return cli::usage(PROGRAM, "nothing to create: give --prompt, --image, --video or --audio");
    }
    let (code, agent_id) = match Api::from_env() {
        Ok(api) => create(&api, &options),
        Err(error) => (cli::report(PROGRAM, &error), None),
    };
    if let (true, Some(id)) = (code != READY, agent_id) {
        cli::hint(&id);
    }
    ExitCode::from(code)
}

/// The same against the stand-in, with a word before and after.
fn demonstrate(mut options: Options, no_arguments: bool) -> ExitCode {
    // The service of 2026 takes no video.
    let form = if options.has_video { Form::Of2025 } else { Form::Of2026 };
    let year = if form == Form::Of2025 { 2025 } else { 2026 };
    eprintln!(
        "BITHUMAN_API_SECRET is not set: this is a demonstration against a stand-in of the service (as of {year}) \
         in this process. Nothing leaves this machine, nothing is billed."
    );
    if no_arguments {
        options.request = options.request.prompt("You are a friendly AI assistant that helps with creative writing.");
    }
    if !options.has_interval {
        options.wait = options.wait.interval(Duration::from_millis(300));
    }
    let service = StandIn::start(form);
    let code = match Api::builder().secret(stand_in::SECRET).base_url(service.base_url()).build() {
        Ok(api) => create(&api, &options).0,
        Err(error) => cli::report(PROGRAM, &error),
    };
    eprintln!(
        "That was the stand-in, which ends with this program: there is no such agent, and its URLs lead nowhere. \
         Set BITHUMAN_API_SECRET to make a real one."
    );
    ExitCode::from(code)
}

/// The job itself: the exit code, and the agent's id as soon as there is one.
fn create(api: &Api, options: &Options) -> (u8, Option<String>) {
    eprintln!("idempotency key: {}", options.key);
    let bar = Bar::new();
    let uploading = api.on_event(move |event| {
        if let Event::Uploaded { sent, total } = event {
            bar.show(*sent, *total);
        }
    });
    let started = match uploading.generate(&options.request) {
        Ok(started) => started,
        Err(error) => return (cli::report(PROGRAM, &error), error.agent_id().map(String::from)),
    };
    let again = if started.replayed { " (made before with this key: not billed again)" } else { "" };
    eprintln!("agent: {}{again}", started.agent_id);

    (cli::follow(PROGRAM, api, &started.agent_id, &options.wait, options.json), Some(started.agent_id))
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
    // A key chosen here is known before the service answers, or does not.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let key = args.value("--idempotency-key")?.unwrap_or_else(|| format!("create-agent-{now:x}-{:x}", process::id()));
    let interval = args.seconds("--interval")?;
    let options = Options {
        request: request.idempotency_key(&key),
        key,
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
    if value.starts_with("http://") || value.starts_with("https://") {
        return Ok(Media::url(value));
    }
    if !Path::new(value).is_file() {
        return Err(format!("{flag}: no such file: {value}"));
    }
    Ok(Media::file(value))
}
