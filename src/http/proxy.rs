//! Which proxy to use, read from the environment as curl reads it.

use std::net::IpAddr;

use ureq::{Proxy, ProxyProtocol};

use super::base_url::{BaseUrl, has_good_port};
use super::tls;
use crate::{config::Setting, error::Result, url::split_port};

/// Chooses the proxy for a base URL: the caller's, the environment's, or none.
///
/// `variable` returns the value of an environment variable. A variable that cannot be used is
/// passed over if another can.
pub(super) fn choose(
    explicit: Option<&Setting>,
    target: &BaseUrl,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>> {
    if let Some(setting) = explicit {
        if target.is_loopback {
            return Err(setting.error("is not used for a base URL on localhost: remove it"));
        }
        return usable(setting).map(Some);
    }
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let exempt = set("no_proxy").or(set("NO_PROXY"));
    if target.is_loopback || exempt.is_some_and(|list| is_exempt(&list, target)) {
        return Ok(None);
    }
    // A CGI program gets HTTP_PROXY from the attacker's `Proxy` header.
    let mut names = vec!["http_proxy", "all_proxy", "ALL_PROXY"];
    if target.is_https {
        names = vec!["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    }
    let mut first_error = None;
    for name in names {
        let Some(url) = set(name) else { continue };
        match usable(&Setting::new(name, url)) {
            Ok(proxy) => return Ok(Some(proxy)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Checks what ureq would panic at or ignore.
fn usable(setting: &Setting) -> Result<Proxy> {
    let url = setting.checked()?;
    let Ok(proxy) = Proxy::new(url) else {
        return Err(setting.error("is not the URL of a proxy such as http://localhost:3128"));
    };
    if !has_good_port(proxy.uri()) {
        return Err(setting.error("has a port that is not a number"));
    }
    let missing = match proxy.protocol() {
        ProxyProtocol::Http => None,
        ProxyProtocol::Https => (!cfg!(feature = "_tls")).then_some(tls::FEATURES),
        _ => (!cfg!(feature = "socks-proxy")).then_some("the feature socks-proxy of bithuman"),
    };
    match missing {
        Some(feature) => Err(setting.error(&format!("is a proxy that needs {feature}"))),
        None => Ok(proxy),
    }
}

/// Whether a list such as `localhost, .example.com, 10.0.0.0/8, api.example.com:8443` has the host.
fn is_exempt(list: &str, target: &BaseUrl) -> bool {
    list.split(|c: char| matches!(c, ',' | ';' | '"' | '\'') || c.is_whitespace())
        .any(|entry| entry == "*" || matches_entry(entry, target))
}

fn matches_entry(entry: &str, target: &BaseUrl) -> bool {
    let (name, port) = split_port(entry);
    if port.is_some_and(|port| port.parse() != Ok(target.port)) {
        return false;
    }
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return matches_address(name, address);
    }
    let name = name.trim_start_matches('*').trim_matches('.');
    let name = name.to_ascii_lowercase();
    let host = target.host.trim_end_matches('.');
    match host.strip_suffix(&*name) {
        Some(rest) => !name.is_empty() && (rest.is_empty() || rest.ends_with('.')),
        None => false,
    }
}

/// Whether an address, or a range such as `10.0.0.0/8`, has this address.
fn matches_address(range: &str, address: IpAddr) -> bool {
    let (network, prefix) = range.split_once('/').unwrap_or((range, "128"));
    let (Ok(network), Ok(prefix)) = (network.parse(), prefix.parse::<u32>()) else {
        return false;
    };
    let ((network, width), (address, other_width)) = (bits(network), bits(address));
    let same = (network ^ address).leading_zeros();
    width == other_width && same.min(width) >= prefix.min(width)
}

/// An address as bits from the left, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

#[cfg(test)]
#[path = "../../tests/unit/proxy.rs"]
mod tests;
