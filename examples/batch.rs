//! Makes an agent of every prompt in a file, on a few threads that share one `Api`.
//!
//! Without `BITHUMAN_API_SECRET` it runs against a mock server of the service in this process.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/pace.rs"]
mod pace;
#[path = "support/prompts.rs"]
mod prompts;
#[path = "support/service.rs"]
mod service;
#[path = "../tests/mock_server/mod.rs"]
mod mock_server;

use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use bithuman::{Api, Error, ErrorKind, GenerateRequest, Wait};
use cli::{Args, FAILED, Progress, READY, Stop};
use mock_server::ApiVersion;
use pace::Pace;

/// How many agents at a time: at a poll every 5 s they stay below the free plan's 120 reads a minute.
const THREADS: usize = 8;

fn main() -> ExitCode {
    cli::main("batch", include_str!("support/help/batch.txt"), run)
}

fn run(mut args: Args) -> Result<u8, Stop> {
    let is_demo = service::is_demo()?;
    let (receipts, per_minute) = (args.value("--receipts")?, args.count("--per-minute")?);
    let wait = args.wait(is_demo)?;
    let prompts = prompts::read(args.positional(), is_demo)?;
    args.finish()?;
    if is_demo && receipts.is_some() {
        return Err(
            "--receipts needs a service that stays: set BITHUMAN_API_SECRET, or run mock_server"
                .into(),
        );
    }
    let per_minute = per_minute.unwrap_or(if is_demo { 240 } else { 4 });
    let receipts = match receipts {
        _ if is_demo => env::temp_dir().join(format!("bithuman-batch-{}", process::id())),
        receipts => PathBuf::from(receipts.unwrap_or("receipts".into())),
    };

    let code = service::with_api(ApiVersion::Current, |api| {
        fs::create_dir_all(&receipts)
            .map_err(|error| format!("{}: {error}", receipts.display()))?;
        cli::note(&format!(
            "{} prompts, {per_minute} begun a minute at most",
            prompts.len()
        ));
        Ok(make_all(
            &cli::show_events(api),
            &prompts,
            Pace::per_minute(per_minute),
            &receipts,
            &wait,
        ))
    });
    if is_demo {
        let _ = fs::remove_dir_all(&receipts);
    }
    code
}

/// Makes an agent of each prompt, and prints how they ended: first the ready ones.
fn make_all(api: &Api, prompts: &[String], pace: Pace, receipts: &Path, wait: &Wait) -> u8 {
    let queue = Mutex::new((prompts.iter().enumerate(), pace));
    let (ends, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let next = || {
        // Held while it waits for its turn: the others come after it.
        let (prompts, pace) = &mut *lock(&queue);
        let (at, prompt) = prompts.next()?;
        let receipt = receipts.join(prompts::receipt_name(prompt));
        // What has a receipt is sent again only after a crash or a failure. If the service finds that too
        // much, it says so, and the library waits.
        if !receipt.exists() && !is_over.load(Relaxed) {
            pace.turn();
        }
        (!is_over.load(Relaxed)).then_some((at, prompt, receipt))
    };
    let work = || {
        while let Some((at, prompt, receipt)) = next() {
            let end = api.ensure_agent(receipt, &GenerateRequest::new().prompt(prompt), wait);
            if let Err(ErrorKind::Unauthorized | ErrorKind::InsufficientBalance) =
                end.as_ref().map_err(Error::kind)
            {
                // Those to come would end the same way.
                is_over.store(true, Relaxed);
            }
            lock(&ends).push((at, end));
        }
    };
    thread::scope(|scope| {
        let workers = [(); THREADS].map(|()| scope.spawn(work));
        let mut progress = Progress::new();
        loop {
            let is_last = workers.iter().all(|worker| worker.is_finished());
            let (ended, ready) = {
                let ends = lock(&ends);
                (
                    ends.len(),
                    ends.iter().filter(|(_, end)| end.is_ok()).count(),
                )
            };
            progress.show(&format!(
                "{ready} of {} ready, {} ended without",
                prompts.len(),
                ended - ready
            ));
            if is_last {
                break progress.end();
            }
            thread::sleep(Duration::from_millis(200));
        }
    });

    let mut ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    ends.sort_by_key(|(at, end)| (end.is_err(), *at));
    let not_begun = prompts.len() - ends.len();
    let mut code = if not_begun > 0 { FAILED } else { READY };
    for (at, end) in ends {
        let prompt = &prompts[at];
        code |= match end {
            Ok(agent) => {
                let url = agent
                    .model_url
                    .as_deref()
                    .unwrap_or("no downloadable model");
                cli::out(&cli::clean(&format!("{}  {url}  {prompt}", agent.agent_id)))
            }
            Err(error) => {
                cli::note(&format!("not ready: {}: {error:?}", cli::clean(prompt)));
                FAILED
            }
        };
    }
    if not_begun > 0 {
        cli::note(&format!("{not_begun} not begun"));
    }
    code
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
