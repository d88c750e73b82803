//! The service that the environment names, or a mock server in this process.

use std::env;

use bithuman::Api;

use crate::cli::{self, Stop};
use crate::mock_server::{self, ApiVersion, MockServer};

/// Whether there is no service to ask. A URL without a secret is a mistake, and no demonstration.
pub fn is_demo() -> Result<bool, Stop> {
    let is_demo = env::var_os("BITHUMAN_API_SECRET").is_none();
    if is_demo && env::var_os("BITHUMAN_API_BASE").is_some_and(|url| !url.is_empty()) {
        return Err("BITHUMAN_API_BASE is set but BITHUMAN_API_SECRET is not".into());
    }
    Ok(is_demo)
}

/// Does the work with the service, or with a mock server of this API version, and says so before and after.
pub fn with_api(
    version: ApiVersion,
    work: impl FnOnce(&Api) -> Result<u8, Stop>,
) -> Result<u8, Stop> {
    if !is_demo()? {
        return work(&Api::from_env()?);
    }
    let name = if version == ApiVersion::V2025 {
        "2025"
    } else {
        "current"
    };
    cli::note(&format!(
        "BITHUMAN_API_SECRET is not set: this is a demonstration against a mock server of the service \
         (the {name} API) in this process. Nothing leaves this machine, nothing is billed."
    ));
    let service = MockServer::start(version);
    let api = Api::builder()
        .secret(mock_server::SECRET)
        .base_url(service.base_url())
        .build()?;
    let ended = work(&api);
    cli::note(
        "That was the mock server, which ends with this program: there is no such agent, and its URLs lead nowhere. \
         Set BITHUMAN_API_SECRET to make a real one.",
    );
    ended
}
