//! What can be typed: the commands, their options, and the checks of single values.

use std::ffi::OsString;
use std::fs;
use std::path::{self, PathBuf};
use std::time::Duration;

use bithuman::serde_json::{self, Value};
use bithuman::{Download, Method, Wait};
use clap::builder::{OsStringValueParser, RangedI64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::exit;
use crate::files::why;

/// Creates bitHuman agents, waits until they are ready, and downloads their models.
///
/// The result goes to stdout. Progress, notes and errors go to stderr. The help of a command has
/// examples: bithuman-agent create --help
#[derive(Parser)]
#[command(name = "bithuman-agent", version, after_help = exit::HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Subcommand)]
pub enum Command {
    /// Create an agent, which is billed, and wait until it is ready. Prints its id
    #[command(after_help = CREATE_HELP)]
    Create(Box<Create>),
    /// Print the status of an agent
    #[command(after_help = STATUS_HELP)]
    Status {
        /// The agent's id
        #[arg(value_parser = id)]
        id: String,
    },
    /// Wait until an agent is ready. Prints its id
    #[command(after_help = WAIT_HELP)]
    Wait {
        /// The agent's id
        #[arg(value_parser = id)]
        id: String,
        /// Wait for this model of the agent, such as one that was added to it [default: the agent]
        #[arg(long, value_name = "NAME", value_parser = text)]
        model: Option<String>,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Download the model file of an agent, or resume the download. Prints the path of the file
    #[command(after_help = DOWNLOAD_HELP)]
    Download {
        /// The agent's id
        #[arg(value_parser = id)]
        id: String,
        /// Where the file goes [default: the id with .imx, in the current folder]
        #[arg(value_parser = OsStringValueParser::new().try_map(target))]
        path: Option<PathBuf>,
        /// Model whose file it is [default: the model that the agent was created with]
        #[arg(long, value_name = "NAME", value_parser = text)]
        model: Option<String>,
        /// Keep a file that is at the path already, whatever is in it, and send nothing
        /// [default: download it again and replace it]
        #[arg(long)]
        if_missing: bool,
        #[command(flatten)]
        wait: WaitOptions,
    },
    /// Send a request to any other endpoint. Prints the JSON of its response
    #[command(after_help = CALL_HELP)]
    Call {
        /// GET, POST or DELETE
        #[arg(value_parser = method)]
        method: Method,
        /// Path, with a query if there is one, such as /v1/agents?limit=100
        path: String,
        /// Body of the request [default: none]
        #[arg(value_name = "JSON", value_parser = json)]
        body: Option<Value>,
    },
    /// Run a mock server of the service on localhost, for programs in any language
    #[command(after_help = MOCK_HELP)]
    Mock(Mock),
}

/// The options of every command.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// Base URL of the service, such as https://api.bithuman.ai for the current API
    /// [default: $BITHUMAN_API_BASE, else $BITHUMAN_API_URL, else https://public.api.bithuman.ai]
    #[arg(long, global = true, value_name = "URL", value_parser = text)]
    pub base_url: Option<String>,
    /// File with the API secret [default: none, and the secret itself is in $BITHUMAN_API_SECRET]
    #[arg(long, global = true, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Print one JSON object to stdout, in success and in failure [default: text]
    #[arg(long, global = true)]
    pub json: bool,
    /// Print the result and errors only [default: progress and notes too]
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct Create {
    /// System prompt of the agent: a text, @FILE, or - for stdin. A text that begins with @, or is -,
    /// can only come from a file or stdin [default: none]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Picture of the agent, under 10 MB [default: made from the prompt]
    #[arg(long, value_name = "FILE|URL", value_parser = media)]
    pub image: Option<String>,
    /// Voice of the agent: 30 s or more, as MP3, WAV or M4A [default: chosen by the service]
    #[arg(long, value_name = "FILE|URL", value_parser = media)]
    pub audio: Option<String>,
    /// Video of the agent, for the 2025 API only [default: none]
    #[arg(long, value_name = "FILE|URL", value_parser = media)]
    pub video: Option<String>,
    /// Model, such as essence-2 (a real person) or expression-2 (any character)
    /// [default: none, which makes an expression-1 agent; the current API requires it from
    /// 2026-12-26]
    #[arg(long, value_name = "NAME", value_parser = text)]
    pub model: Option<String>,
    /// Aspect ratio: 16:9, 9:16 or 1:1 [default: chosen by the service]
    #[arg(long, value_name = "RATIO", value_parser = text)]
    pub aspect_ratio: Option<String>,
    /// Framing: portrait or full_body [default: chosen by the service]
    #[arg(long, value_name = "NAME", value_parser = text)]
    pub framing: Option<String>,
    /// Put the agent before a green screen [default: off]
    #[arg(long)]
    pub transparency: bool,
    /// Another field of the request, as in language='"en"'; can be repeated [default: none]
    #[arg(long, value_name = "NAME=JSON", value_parser = field)]
    pub field: Vec<(String, Value)>,
    /// File that remembers the agent: the same command again continues with it and pays for no
    /// other, unless the generation failed [default: none, and each command pays]
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Idempotency key: where the service honors keys, the same key within 24 h is billed once
    /// [default: a new one]
    #[arg(long, value_name = "KEY", value_parser = text)]
    pub key: Option<String>,
    /// Print the id as soon as the service accepted the request
    /// [default: wait until the agent is ready]
    #[arg(long, conflicts_with_all = ["interval", "timeout"])]
    pub no_wait: bool,
    /// Download the model file of the ready agent to this path, too; needs --model. What is there is
    /// replaced, but not a file that is newer than the --receipt [default: no download]
    #[arg(long, value_name = "PATH", conflicts_with = "no_wait", value_parser = OsStringValueParser::new().try_map(target))]
    pub download: Option<PathBuf>,
    #[command(flatten)]
    pub wait: WaitOptions,
}

#[derive(Args)]
pub struct WaitOptions {
    /// Time between two polls: seconds, or a number with s, m or h, as in 0.5s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub interval: Duration,
    /// Time for everything: seconds, or a number with s, m or h, as in 90s
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = time)]
    pub timeout: Duration,
}

impl WaitOptions {
    pub fn to_wait(&self) -> Wait {
        Wait::new().interval(self.interval).timeout(self.timeout)
    }

    /// `elapsed` is the time that the command took before.
    pub fn to_download(&self, elapsed: Duration) -> Download {
        let download = Download::new().interval(self.interval);
        download.timeout(self.timeout.saturating_sub(elapsed))
    }
}

#[derive(Args)]
pub struct Mock {
    /// Version of the API
    #[arg(long, default_value = "current", value_parser = ["2025", "current"])]
    pub version: String,
    /// Port on localhost. Model files are on the next one, as a storage of its own
    /// [default: free ones]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..u16::MAX as i64))]
    pub port: Option<u16>,
    /// Let every generation fail [default: only those with [fail] in the prompt]
    #[arg(long)]
    pub fail: bool,
    /// Time that a generation takes, as in 90s or 5m [default: a few polls]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub slow: Option<Duration>,
    /// Number of generate requests accepted in a minute [default: no limit]
    #[arg(long, value_name = "NUMBER")]
    pub rate_limit: Option<usize>,
    /// Credits of the account: a request that costs more is refused [default: 1000000]
    #[arg(long, value_name = "CREDITS")]
    pub balance: Option<u64>,
    /// Plan of the account: free has no access to the current API
    #[arg(long, default_value = "pro", value_parser = ["free", "pro"])]
    pub plan: String,
    /// Shape of error responses: gateway is a page without a code [default: as the version has them]
    #[arg(long, value_name = "SHAPE", value_parser = ["2025", "older", "current", "gateway"])]
    pub error_shape: Option<String>,
    /// Size of each model file
    #[arg(long, value_name = "BYTES", default_value = "65536", value_parser = file_size())]
    pub file_size: u32,
    /// Number of requests that do not find the file of a ready agent yet
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub file_delay: usize,
    /// Pause before each 64 KiB of a model file, as in 0.1s [default: none]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub file_pause: Option<Duration>,
    /// Number of bytes after which each download breaks off [default: none breaks off]
    #[arg(long, value_name = "BYTES")]
    pub file_break: Option<usize>,
    // Options of the other commands.
    #[arg(long, hide = true, value_parser = unused::<String>)]
    base_url: Option<String>,
    #[arg(long, hide = true, value_parser = unused::<PathBuf>)]
    secret_file: Option<PathBuf>,
}

const CREATE_HELP: &str = "\
Examples:
  bithuman-agent create --prompt 'You are a friendly assistant.' --model essence-2
  bithuman-agent create --prompt @prompt.txt --image portrait.jpg --model essence-2 \\
      --receipt agent.receipt --download agent.imx
  bithuman-agent create --prompt - --model expression-2 --no-wait --json <prompt.txt

Exit codes: see bithuman-agent --help.";

const STATUS_HELP: &str = "\
Examples:
  bithuman-agent status A91XMB7113
  bithuman-agent status A91XMB7113 --json            All that the service says of it

Exit codes: see bithuman-agent --help.";

const WAIT_HELP: &str = "\
Examples:
  bithuman-agent wait A91XMB7113
  bithuman-agent wait A91XMB7113 --model essence-2 --timeout 30m

Exit codes: see bithuman-agent --help.";

const DOWNLOAD_HELP: &str = "\
A file that is not published yet is waited for: it can appear half an hour after the agent is ready.

Examples:
  bithuman-agent download A91XMB7113
  bithuman-agent download A91XMB7113 models/agent.imx --if-missing

Exit codes: see bithuman-agent --help.";

const CALL_HELP: &str = "\
Examples:
  bithuman-agent call GET /v1/me                     The plan, and the credits that are left
  bithuman-agent call GET /v1/pricing                The price of each model
  bithuman-agent call GET '/v1/agents?limit=100'     The agents, the newest first
  bithuman-agent call POST /v1/agent/A91XMB7113 '{\"system_prompt\": \"You are a gardener.\"}'
  bithuman-agent call DELETE /v1/agent/A91XMB7113    Deletes an agent

Exit codes: see bithuman-agent --help.";

const MOCK_HELP: &str = "\
It prints BITHUMAN_API_BASE=... BITHUMAN_API_SECRET=... and runs until Ctrl-C. In another \
terminal, export that line and run any program. Each request is logged to stderr.

A prompt with one of these codes in brackets is refused with that error, and one with any other \
code in brackets with VALIDATION_ERROR (current API): [IMAGE_FACE_UNSUITABLE], \
[MODEL_PREREQUISITE_MISSING], [MODEL_SUBJECT_MISMATCH], [INTERNAL_ERROR], [SERVICE_UNAVAILABLE], \
[UPSTREAM_TIMEOUT].

Not simulated: webhooks, the showcase, and what a media file shows. Agents are gone when it ends.

Examples:
  bithuman-agent mock
  bithuman-agent mock --version 2025 --slow 90s --rate-limit 4
  bithuman-agent mock --file-size 50000000 --file-pause 0.01s --file-break 20000000

Exit codes: see bithuman-agent --help.";

/// Parses a time: seconds, or a number with `s`, `m` or `h`. Fractions are allowed.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('h') => (number, 3600.0),
        Some(number) if text.ends_with('m') => (number, 60.0),
        Some(number) => (number, 1.0),
        None => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(time) if !time.is_zero() => Ok(time),
        _ => Err("not a time above 0, such as 5, 0.5, 90s, 5m or 4h".into()),
    }
}

/// Refuses what is most likely the value of a variable that is not set.
fn text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".into()),
        _ => Ok(text.into()),
    }
}

/// Checks an agent's id. One with a slash is more likely a path or a URL.
fn id(text: &str) -> Result<String, String> {
    match text.contains('/') {
        true => Err("an id has no slash".into()),
        false => self::text(text),
    }
}

/// The mock server has the file in memory.
fn file_size() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=1_000_000_000)
}

/// Refuses an option that has no meaning here.
fn unused<T>(_: &str) -> Result<T, &'static str> {
    Err("the mock server has a URL and a secret of its own")
}

/// Checks the path of a media file. What has a scheme is a URL.
fn media(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Ok(text.into());
    }
    match fs::metadata(self::text(text)?) {
        Ok(metadata) if metadata.is_file() => Ok(text.into()),
        Ok(_) => Err("not a regular file".into()),
        Err(reason) => Err(format!("cannot read the file: {}", why(&reason))),
    }
}

/// Checks the path of a file to download: after hours and a bill it would be too late.
fn target(path: OsString) -> Result<PathBuf, String> {
    self::text(&path.to_string_lossy())?;
    let absolute = path::absolute(&path).map_err(|reason| reason.to_string())?;
    let last = path.as_encoded_bytes().last();
    match fs::metadata(&absolute) {
        Ok(metadata) if !metadata.is_file() => return Err("not a regular file".into()),
        _ if last.is_some_and(|byte| path::is_separator(char::from(*byte))) => {
            return Err("not the path of a file".into());
        }
        _ => {}
    }
    match absolute.parent() {
        Some(folder) if folder.is_dir() => Ok(path.into()),
        _ => Err("its folder does not exist".into()),
    }
}

fn method(text: &str) -> Result<Method, String> {
    Ok(match &*text.to_ascii_uppercase() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        _ => return Err("not GET, POST or DELETE".into()),
    })
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|reason| format!("not JSON: {reason}"))
}

fn field(text: &str) -> Result<(String, Value), String> {
    let (name, json) = text.split_once('=').ok_or("not NAME=JSON")?;
    self::text(name).map_err(|_| "there is no name before the =")?;
    let value = serde_json::from_str(json)
        .map_err(|_| "not JSON after the =: a text needs double quotes, as in name='\"Ada\"'")?;
    Ok((name.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_is_seconds_or_a_number_with_a_unit() {
        for (text, milliseconds) in [
            ("5", 5_000),
            ("0.25", 250),
            ("90s", 90_000),
            ("1.5m", 90_000),
            ("4h", 14_400_000),
        ] {
            assert_eq!(
                time(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "", "0", "-1", "s", "soon", "5 m", "5d", "1e30", "NaN", "inf",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_field_is_a_name_and_json() {
        assert_eq!(
            field("a={\"b\":1}"),
            Ok(("a".into(), serde_json::json!({"b": 1})))
        );
        assert_eq!(field("a=\"=\""), Ok(("a".into(), "=".into())));
        for text in ["a", "a=", "a=b", "=1", " =1"] {
            assert!(field(text).is_err(), "{text}");
        }
    }
}
