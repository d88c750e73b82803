//! Makes an agent of every prompt in a file, on a few threads that share one `Api`.
//!
//! Without `BITHUMAN_API_SECRET` it runs against a stand-in of the service in this process.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/pace.rs"]
mod pace;
#[path = "support/stand_in.rs"]
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use bithuman::{Agent, Api, Error, ErrorKind, Event, GenerateRequest, Wait};
use cli::{Args, FAILED, Progress};
use pace::Pace;
use stand_in::{Form, StandIn};

const PROGRAM: &str = "batch";

const HELP: &str = "\
Makes an agent of every prompt in a file, one a line; empty lines and those that begin with # are none. Each
agent goes to stdout, with its id, model URL and prompt, progress and failures to stderr.

    cargo run --example batch -- FILE [--receipts DIR] [--per-minute N] [--interval SECONDS] [--timeout SECONDS]

--receipts     the folder that remembers the agents: the same command again goes on where it was stopped, and
               pays for no prompt twice, but for one whose generation failed. Default: receipts
--per-minute   how many generates: 4, as on the free plan, or 240 in a demonstration
--interval     between two polls of an agent: 5 s, or 0.3 s in a demonstration
--timeout      for each agent: 2 h

BITHUMAN_API_SECRET   the API secret; without it, a stand-in in this process plays the service, where a
                      prompt with [fail] in it fails
BITHUMAN_API_URL      the base URL, if it is not https://public.api.bithuman.ai

Exit codes: 0 all are ready, 1 some are not, 2 usage, with nothing sent.";

/// So many agents at a time: at a poll every 5 s they stay below the free plan's 120 reads a minute.
const THREADS: usize = 8;

const PROMPTS: &str = "You are a patient teacher of mathematics.\nYou are a cheerful tour guide.\nYou are a gardener.";

fn main() -> ExitCode {
    let mut args = Args::new();
    if args.flag("--help") || args.flag("-h") {
        return ExitCode::from(cli::out(HELP));
    }
    run(args).map_or_else(|mistake| cli::usage(PROGRAM, &mistake), ExitCode::from)
}

fn run(mut args: Args) -> Result<u8, String> {
    let (receipts, per_minute) = (args.value("--receipts")?, args.count("--per-minute")?);
    let (interval, timeout) = (args.seconds("--interval")?, args.seconds("--timeout")?);
    let file = args.positional();
    args.finish()?;
    let is_demo = env::var_os("BITHUMAN_API_SECRET").is_none();
    if is_demo && env::var_os("BITHUMAN_API_URL").is_some_and(|url| !url.is_empty()) {
        return Err("BITHUMAN_API_URL is set but BITHUMAN_API_SECRET is not".into());
    }
    if is_demo && receipts.is_some() {
        return Err("--receipts needs a service that stays: set BITHUMAN_API_SECRET, or run stand_in".into());
    }
    let text = match file {
        Some(file) => fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?,
        None if is_demo => PROMPTS.into(),
        None => return Err("which prompts? Give a file with one a line".into()),
    };
    // The same prompt has the same receipt, and so the same agent: once is enough.
    let mut seen = BTreeSet::new();
    let is_prompt = |line: &&str| !line.is_empty() && !line.starts_with('#') && seen.insert(line.to_string());
    let prompts: Vec<&str> = text.lines().map(str::trim).filter(is_prompt).collect();
    if prompts.is_empty() {
        return Err("there is no prompt in the file".into());
    }
    if !is_demo {
        let api = match Api::from_env() {
            Ok(api) => api,
            Err(error) => return Ok(cli::report(&error)),
        };
        let receipts = PathBuf::from(receipts.unwrap_or("receipts".into()));
        fs::create_dir_all(&receipts).map_err(|error| format!("{}: {error}", receipts.display()))?;
        return Ok(make_all(&api, &prompts, &receipts, per_minute.unwrap_or(4), &cli::wait(interval, timeout)));
    }

    cli::note(
        "BITHUMAN_API_SECRET is not set: this is a demonstration against a stand-in of the service in this process. \
         Nothing leaves this machine, nothing is billed.",
    );
    let service = StandIn::start(Form::Of2026);
    let receipts = env::temp_dir().join(format!("bithuman-batch-{}", process::id()));
    fs::create_dir_all(&receipts).map_err(|error| format!("{}: {error}", receipts.display()))?;
    let wait = cli::wait(interval.or(Some(Duration::from_millis(300))), timeout);
    let code = match Api::builder().secret(stand_in::SECRET).base_url(service.base_url()).build() {
        Ok(api) => make_all(&api, &prompts, &receipts, per_minute.unwrap_or(240), &wait),
        Err(error) => cli::report(&error),
    };
    let _ = fs::remove_dir_all(&receipts);
    cli::note("That was the stand-in: there are no such agents. Set BITHUMAN_API_SECRET to make real ones.");
    Ok(code)
}

/// Makes an agent of each prompt, and tells how they ended, in the order of the prompts.
fn make_all(api: &Api, prompts: &[&str], receipts: &Path, per_minute: usize, wait: &Wait) -> u8 {
    let api = &api.on_event(|event| {
        if let Event::Resending { delay, reason, .. } = event {
            cli::note(&format!("{reason}; again in {:.1} s", delay.as_secs_f64()));
        }
    });
    let queue = Mutex::new((prompts.iter().enumerate(), Pace::per_minute(per_minute)));
    let is_over = AtomicBool::new(false);
    let next = || {
        // Held while it waits for its turn: the others come after it.
        let (prompts, pace) = &mut *queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, prompt) = prompts.next()?;
        let receipt = receipts.join(receipt_name(prompt));
        // What has a receipt is sent again only after a crash or a failure. If the service finds that too
        // much, it says so, and the library waits.
        if !receipt.exists() && !is_over.load(Relaxed) {
            pace.turn();
        }
        (!is_over.load(Relaxed)).then_some((at, prompt, receipt))
    };
    let work = &|ends: Sender<(usize, Result<Agent, Error>)>| {
        while let Some((at, prompt, receipt)) = next() {
            let end = api.ensure_agent(receipt, &GenerateRequest::new().prompt(*prompt), wait);
            let kind = end.as_ref().map_err(Error::kind);
            if let Err(ErrorKind::Unauthorized | ErrorKind::InsufficientBalance) = kind {
                // Those to come would end the same way.
                is_over.store(true, Relaxed);
            }
            let _ = ends.send((at, end));
        }
    };
    let (mut ready, mut failed, mut progress) = (BTreeMap::new(), BTreeMap::new(), Progress::new());
    thread::scope(|scope| {
        let (sender, ends) = mpsc::channel();
        for ends in vec![sender; THREADS] {
            scope.spawn(|| work(ends));
        }
        loop {
            progress.show(&format!("{} of {} ready, {} failed", ready.len(), prompts.len(), failed.len()));
            match ends.recv_timeout(Duration::from_secs(1)) {
                Ok((at, Ok(agent))) => drop(ready.insert(at, agent)),
                Ok((at, Err(error))) => drop(failed.insert(at, error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    progress.end();

    let mut code = FAILED * u8::from(ready.len() < prompts.len());
    for (at, agent) in &ready {
        let url = agent.model_url.as_deref().unwrap_or("no downloadable model");
        code |= cli::out(&cli::clean(&[&agent.agent_id, url, prompts[*at]].join("  ")));
    }
    for (at, error) in &failed {
        cli::note(&format!("not ready: {}: {error:?}", cli::clean(prompts[*at])));
    }
    let begun = ready.len() + failed.len();
    if begun < prompts.len() {
        cli::note(&format!("{} not begun", prompts.len() - begun));
    }
    code
}

/// The same prompt finds its receipt again: its first words, for people, and a hash (FNV-1a).
fn receipt_name(prompt: &str) -> String {
    let hash = prompt
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let words: String = prompt.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{words}-{hash:016x}.json")
}
