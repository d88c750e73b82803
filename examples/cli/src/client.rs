//! The client that a command uses: its secret, its progress, and how a signal ends it.

use std::env;
use std::fs;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bithuman::{Api, DEFAULT_BASE_URL};

use crate::args::Common;
use crate::exit;
use crate::failure::Failure;
use crate::files::why;
use crate::progress::Progress;

/// Returns the client. A finished receipt is read without a secret.
pub fn client(
    common: &Common,
    needs_secret: bool,
    progress: &Arc<Progress>,
) -> Result<Api, Failure> {
    let mut builder = Api::builder();
    if let Some(path) = &common.secret_file {
        let secret = read_secret(path, progress)?;
        progress.mask(&secret);
        builder = builder.secret(secret);
    } else if needs_secret && !has_secret(common) {
        return Err(Failure::NoSecret);
    } else {
        progress.mask(&variable("BITHUMAN_API_SECRET").unwrap_or_default());
    }
    if let Some(url) = &common.base_url {
        builder = builder.base_url(url);
    }
    let shown = Arc::clone(progress);
    let api = builder.from_env().build()?;
    let api = api.on_event(move |event| shown.event(event));
    stop_on_signals(&api)?;
    Ok(api)
}

pub fn has_secret(common: &Common) -> bool {
    common.secret_file.is_some() || variable("BITHUMAN_API_SECRET").is_some()
}

/// Whether requests go to this base URL.
pub fn is_base_url(common: &Common, url: &str) -> bool {
    let set = common.base_url.clone();
    let set = set.or_else(|| variable("BITHUMAN_API_BASE"));
    let set = set.or_else(|| variable("BITHUMAN_API_URL"));
    let set = set.as_deref().unwrap_or(DEFAULT_BASE_URL);
    set.trim().trim_end_matches('/').eq_ignore_ascii_case(url)
}

/// Returns a variable. One that is blank is not set, as to the library.
fn variable(name: &str) -> Option<String> {
    let value = env::var_os(name)?.to_string_lossy().into_owned();
    (!value.trim().is_empty()).then_some(value)
}

fn read_secret(path: &Path, progress: &Progress) -> Result<String, Failure> {
    let shown = path.display();
    let secret = fs::read_to_string(path)
        .map_err(|reason| Failure::Usage(format!("secret file {shown}: {}", why(&reason))))?;
    if secret.trim().is_empty() {
        return Err(Failure::Usage(format!("secret file {shown}: it is empty")));
    }
    if is_readable_by_others(path) {
        progress.note(&format!(
            "warning: secret file {shown}: others can read it; chmod 600 makes it yours alone"
        ));
    }
    Ok(secret)
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}

/// `timeout` sends two signals, and so can a terminal that closes.
const BURST: Duration = Duration::from_millis(100);

/// Lets Ctrl-C, SIGTERM or SIGHUP end the call in flight, and a second one the process. That needs
/// nothing of the main thread, which may be syncing a file.
fn stop_on_signals(api: &Api) -> Result<(), Failure> {
    let api = api.clone();
    let mut first: Option<Instant> = None;
    let handler = move || match first {
        None => {
            first = Some(Instant::now());
            api.shutdown();
        }
        Some(first) if first.elapsed() < BURST => {}
        Some(_) => process::exit(exit::INTERRUPTED.into()),
    };
    set_handler(handler).map_err(|reason| Failure::Usage(format!("Ctrl-C: {reason}")))
}

/// Sets the handler. A SIGHUP that is ignored, as under `nohup`, stays so.
#[cfg(unix)]
fn set_handler(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: to ignore a signal runs no code.
    let ignore_hangup = || unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    let before = ignore_hangup();
    ctrlc::set_handler(handler)?;
    if matches!(before, Ok(SigHandler::SigIgn)) {
        let _ = ignore_hangup();
    }
    Ok(())
}

#[cfg(not(unix))]
fn set_handler(handler: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(handler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use bithuman::CURRENT_BASE_URL;
    use clap::Parser;

    #[test]
    fn a_base_url_is_the_same_with_a_slash() {
        for (option, url, expected) in [
            (DEFAULT_BASE_URL, DEFAULT_BASE_URL, true),
            (CURRENT_BASE_URL, DEFAULT_BASE_URL, false),
            (CURRENT_BASE_URL, CURRENT_BASE_URL, true),
            (" https://API.bithuman.ai/", CURRENT_BASE_URL, true),
            ("http://api.bithuman.ai", CURRENT_BASE_URL, false),
        ] {
            let args = ["bithuman-agent", "status", "A1", "--base-url", option];
            let common = Cli::parse_from(args).common;
            assert_eq!(is_base_url(&common, url), expected, "{option}");
        }
    }
}
