//! `bithuman-agent`: creates agents, waits for them and downloads their models, from a shell.

mod args;
mod client;
mod create;
mod exit;
mod failure;
mod files;
mod mock;
mod output;
mod progress;
mod steps;
mod wording;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bithuman::Agent;
use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use client::client;
use failure::Failure;
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
        failure::report(&cli, &failure, &progress)
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
        _ => failure::report_usage(error, is_json),
    }
}

fn run(cli: &Cli, progress: &Arc<Progress>) -> Result<u8, Failure> {
    let common = &cli.common;
    match &cli.command {
        Command::Create(create) => create::run(create, common, progress),
        Command::Status { id } => {
            let agent = client(common, true, progress)?.status(id)?;
            output::print_status(&agent, common)
        }
        Command::Wait { id, model, wait } => {
            let mut wait = wait.to_wait();
            if let Some(model) = model {
                wait = wait.model(model);
                progress.wait_for(model);
            }
            let agent = client(common, true, progress)?.wait(id, &wait)?;
            let json = output::ready(&agent, None, progress);
            output::print(common, &clean(&agent.agent_id), &json)?;
            Ok(exit::DONE)
        }
        Command::Download {
            id,
            path,
            model,
            if_missing,
            wait,
        } => {
            let default = PathBuf::from(format!("{id}.imx"));
            let path = path.as_ref().unwrap_or(&default);
            let used = [("--secret-file", common.secret_file.as_deref())];
            files::check_unused(path, &used)
                .map_err(|reason| Failure::Usage(format!("{}: {reason}", path.display())))?;
            let mut download = wait.to_download(Duration::ZERO).if_missing(*if_missing);
            if let Some(model) = model {
                download = download.model(model);
            }
            let api = client(common, true, progress)?;
            // The library waits for a file, and not for an end that leaves none.
            let is_there = *if_missing && path.is_file();
            let is_over = |agent: Agent| agent.is_finished() && !agent.is_ready();
            if !is_there && api.status(id).is_ok_and(is_over) {
                api.wait(id, &wait.to_wait())?;
            }
            files::note_wait_for_download(path, progress);
            let file = api.download(id, path, &download)?;
            progress.end();
            let shown = clean(&file.path.to_string_lossy());
            output::print(common, &shown, &output::file_json(&file))?;
            Ok(exit::DONE)
        }
        Command::Call { method, path, body } => {
            let api = client(common, true, progress)?;
            let response = api.call(*method, path, body.as_ref())?;
            let text = output::clean_json(&format!("{response:#}"));
            output::print(common, &text, &response)?;
            Ok(exit::DONE)
        }
        Command::Mock(mock) => mock::run(mock, common),
    }
}
