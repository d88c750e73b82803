//! The client that a command uses: its secret, its progress, and how Ctrl-C ends it.

use std::env;
use std::fs;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    } else if needs_secret && is_blank("BITHUMAN_API_SECRET") {
        return Err(Failure::NoSecret);
    } else {
        progress.mask(&env::var("BITHUMAN_API_SECRET").unwrap_or_default());
    }
    if let Some(url) = &common.base_url {
        builder = builder.base_url(url);
    }
    let shown = Arc::clone(progress);
    let api = builder.from_env().build()?;
    let api = api.on_event(move |event| shown.event(event));
    stop_on_ctrl_c(&api)?;
    Ok(api)
}

/// Whether requests go to the library's default base URL, where the 2025 API is.
pub fn is_default_base_url(common: &Common) -> bool {
    match &common.base_url {
        Some(url) => url == DEFAULT_BASE_URL,
        None => is_blank("BITHUMAN_API_BASE") && is_blank("BITHUMAN_API_URL"),
    }
}

/// Whether the variable is not set, or blank, which is the same to the library.
fn is_blank(variable: &str) -> bool {
    let value = env::var_os(variable).unwrap_or_default();
    value.to_string_lossy().trim().is_empty()
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

/// Lets Ctrl-C end the call in flight, and a second one the process. That needs nothing of the main
/// thread, which may be syncing a file.
fn stop_on_ctrl_c(api: &Api) -> Result<(), Failure> {
    let api = api.clone();
    let is_pressed = AtomicBool::new(false);
    let handler = move || {
        if is_pressed.swap(true, Ordering::Relaxed) {
            process::exit(exit::INTERRUPTED.into());
        }
        api.shutdown();
    };
    ctrlc::set_handler(handler).map_err(|reason| Failure::Usage(format!("Ctrl-C: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    #[test]
    fn the_default_base_url_may_be_named() {
        for (url, expected) in [
            (DEFAULT_BASE_URL, true),
            (bithuman::CURRENT_BASE_URL, false),
        ] {
            let args = ["bithuman-agent", "status", "A1", "--base-url", url];
            let common = Cli::parse_from(args).common;
            assert_eq!(is_default_base_url(&common), expected, "{url}");
        }
    }
}
