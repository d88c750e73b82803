//! `bithuman-agent`: creates agents, waits for them and downloads their models, from a shell.

mod args;
mod client;
mod create;
mod exit;
mod files;
mod mock;
mod output;
mod progress;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bithuman::serde_json::json;
use bithuman::{Agent, Downloaded, Status};
use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command, Common};
use client::client;
use output::Failure;
use progress::{Progress, clean};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(not_parsed(&error)),
    };
    let progress = Arc::new(Progress::new(cli.common.quiet));
    let result = run(&cli, &progress);
    let code = result.unwrap_or_else(|failure| {
        progress.end();
        output::report(&cli, &failure, &progress)
    });
    ExitCode::from(code)
}

/// Prints the help that was asked for, or what is wrong with the arguments.
fn not_parsed(error: &clap::Error) -> u8 {
    let is_json = env::args_os().any(|arg| arg == "--json");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A pager that was closed is no failure.
            let _ = error.print();
            exit::DONE
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !is_json => {
            let _ = error.print();
            exit::USAGE
        }
        _ => output::report_usage(error, is_json),
    }
}

fn run(cli: &Cli, progress: &Arc<Progress>) -> Result<u8, Failure> {
    let common = &cli.common;
    match &cli.command {
        Command::Create(create) => create::run(create, common, progress),
        Command::Status { id } => {
            let agent = client(common, true, progress)?.status(id)?;
            output::print(common, &progress::describe(&agent), &json!(agent))?;
            Ok(match agent.status {
                Status::Failed => exit::FAILED,
                Status::Deleted => exit::NO_AGENT,
                _ => exit::DONE,
            })
        }
        Command::Wait { id, model, wait } => {
            let mut wait = wait.to_wait();
            if let Some(model) = model {
                wait = wait.model(model);
            }
            let agent = client(common, true, progress)?.wait(id, &wait)?;
            print_ready(&agent, None, common, progress)
        }
        Command::Download {
            id,
            path,
            model,
            if_missing,
            wait,
        } => {
            let default = PathBuf::from(format!("{id}.imx"));
            let mut download = wait.to_download(Duration::ZERO).if_missing(*if_missing);
            if let Some(model) = model {
                download = download.model(model);
            }
            let api = client(common, true, progress)?;
            let path = path.as_ref().unwrap_or(&default);
            files::note_wait(&files::lock_of_download(path), path, progress);
            let file = api.download(id, path, &download)?;
            progress.end();
            let shown = clean(&file.path.to_string_lossy());
            output::print(common, &shown, &output::file_json(&file))?;
            Ok(exit::DONE)
        }
        Command::Call { method, path, body } => {
            let api = client(common, true, progress)?;
            let response = api.call(*method, path, body.as_ref())?;
            output::print(common, &format!("{response:#}"), &response)?;
            Ok(exit::DONE)
        }
        Command::Mock(mock) => mock::run(mock, common),
    }
}

/// Prints an agent that is ready, and has its file if that was downloaded.
fn print_ready(
    agent: &Agent,
    file: Option<&Downloaded>,
    common: &Common,
    progress: &Progress,
) -> Result<u8, Failure> {
    progress.end();
    let mut json = json!(agent);
    if let Some(file) = file {
        progress.note(&format!("ready; model file: {}", file.path.display()));
        json["file"] = output::file_json(file);
    } else if let Some(url) = &agent.model_url {
        progress.note(&format!("ready; model: {url}"));
    }
    output::print(common, &clean(&agent.agent_id), &json)?;
    Ok(exit::DONE)
}
