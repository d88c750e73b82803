//! The base URL: where the service is, and what may not go there.

use std::sync::Arc;

use ureq::http::Uri;

use crate::{config::Setting, error::Result, url::is_loopback};

/// The base URL of the 2025 API, the default.
pub const DEFAULT_BASE_URL: &str = "https://public.api.bithuman.ai";

/// The base URL of the current API, which honors idempotency keys.
pub const CURRENT_BASE_URL: &str = "https://api.bithuman.ai";

#[derive(Debug)]
pub(crate) struct BaseUrl {
    /// Without a trailing slash.
    pub url: Arc<str>,
    /// Host and port, as they were given.
    pub authority: String,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    pub is_https: bool,
    pub is_loopback: bool,
}

impl BaseUrl {
    /// The errors do not repeat the text: it may be a secret that went into the wrong variable.
    pub fn parse(setting: &Setting) -> Result<Self> {
        let text = setting.checked()?;
        let fail = |what: &str| Err(setting.error(what));
        let Ok(uri) = text.parse::<Uri>() else {
            return fail(&format!("is not a URL such as {DEFAULT_BASE_URL}"));
        };
        let (scheme, default_port) = match uri.scheme_str() {
            Some("https") => ("https", 443),
            Some("http") => ("http", 80),
            _ => return fail("must begin with https:// (or http:// for localhost)"),
        };
        let authority = uri.authority().map(|authority| authority.as_str());
        let authority = authority.unwrap_or_default().to_ascii_lowercase();
        if authority.contains([';', ',', '$', '%']) || text.ends_with([';', ',']) {
            return fail("contains a character that no host has: remove it");
        }
        if authority.contains('@') {
            return fail("contains a user or password, which are not the API secret: remove them");
        }
        if uri.query().is_some() || text.contains('#') {
            return fail("contains a query or a fragment: remove it");
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        if host.is_empty() || !has_good_port(&uri) {
            return fail("has no host, or a port that is not a number");
        }
        let path = uri.path().trim_end_matches('/');
        let lower = path.to_ascii_lowercase();
        if lower.contains("/runtime-tokens") {
            return fail("is a token URL, not a base URL: remove /v1 and what follows");
        }
        if lower.ends_with("/v1") {
            return fail("ends in /v1, which every request adds: remove it");
        }
        if lower.split('/').any(|segment| segment == "v1") {
            return fail("is the URL of one endpoint: remove /v1 and what follows");
        }
        let host = host.trim_matches(['[', ']']);
        Ok(BaseUrl {
            url: format!("{scheme}://{authority}{path}").into(),
            is_loopback: is_loopback(host),
            host: host.into(),
            port: uri.port_u16().unwrap_or(default_port),
            is_https: scheme == "https",
            authority,
        })
    }

    /// Whether this is the current API, which is known to honor idempotency keys.
    pub fn is_current_api(&self) -> bool {
        CURRENT_BASE_URL.strip_prefix("https://") == Some(&self.host)
            && self.is_https
            && self.port == 443
    }
}

/// What to say where whoever responds does not seem to be the service.
pub(super) fn hint(base_url: &str) -> String {
    format!("is the base URL {base_url} right?")
}

/// What to say where the service rejects the secret: each API has secrets of its own.
pub(super) fn secret_hint(base_url: &str) -> String {
    match base_url {
        DEFAULT_BASE_URL => {
            format!("check it: a secret from www.bithuman.ai is for {CURRENT_BASE_URL}")
        }
        CURRENT_BASE_URL => {
            format!("check it: a secret from imaginex.bithuman.ai is for {DEFAULT_BASE_URL}")
        }
        _ => format!("is it one for {base_url}?"),
    }
}

/// Whether the port is a number, or left out. ureq would use the default for another.
pub(super) fn has_good_port(uri: &Uri) -> bool {
    let authority = uri.authority().map(|authority| authority.as_str());
    let address = authority.unwrap_or_default().rsplit('@').next();
    uri.port_u16().is_some() || address == uri.host()
}

#[cfg(test)]
#[path = "../../tests/unit/base_url.rs"]
mod tests;
