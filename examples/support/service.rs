//! The service that the environment names, or else a stand-in of it in this process.

use std::env;

use bithuman::Api;

use crate::cli::{self, Stop};
use crate::stand_in::{self, Form, StandIn};

/// Whether there is no service to ask. A URL without a secret is a mistake, and no demonstration.
pub fn is_demo() -> Result<bool, Stop> {
    let is_demo = env::var_os("BITHUMAN_API_SECRET").is_none();
    if is_demo && env::var_os("BITHUMAN_API_URL").is_some_and(|url| !url.is_empty()) {
        return Err("BITHUMAN_API_URL is set but BITHUMAN_API_SECRET is not".into());
    }
    Ok(is_demo)
}

/// Does the work with the service, or else with a stand-in of this form, with a word before and after.
pub fn with_api(form: Form, work: impl FnOnce(&Api) -> Result<u8, Stop>) -> Result<u8, Stop> {
    if !is_demo()? {
        return work(&Api::from_env()?);
    }
    let year = if form == Form::Of2025 { 2025 } else { 2026 };
    cli::note(&format!(
        "BITHUMAN_API_SECRET is not set: this is a demonstration against a stand-in of the service (as of {year}) \
         in this process. Nothing leaves this machine, nothing is billed."
    ));
    let service = StandIn::start(form);
    let api = Api::builder().secret(stand_in::SECRET).base_url(service.base_url()).build()?;
    let ended = work(&api);
    cli::note(
        "That was the stand-in, which ends with this program: there is no such agent, and its URLs lead nowhere. \
         Set BITHUMAN_API_SECRET to make a real one.",
    );
    ended
}
