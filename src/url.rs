//! The parts of a URL that rules look at.

use std::net::IpAddr;

/// The host and the port of an http or https URL: no user, no path. `None` for another scheme.
pub(crate) fn host_and_port(url: &str) -> Option<(&str, Option<&str>)> {
    let rest = after_scheme(url, "https://").or(after_scheme(url, "http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    Some(split_port(address))
}

fn after_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = url.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Splits `host:port`; the brackets of an IPv6 address are removed.
pub(crate) fn split_port(address: &str) -> (&str, Option<&str>) {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, port.strip_prefix(':'));
    }
    match address.split_once(':') {
        // More than one colon: an IPv6 address without brackets.
        Some((_, port)) if port.contains(':') => (address, None),
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

/// Whether a host is the computer that asks.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    host.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|ip| ip.to_canonical().is_loopback())
}

/// Resolves a reference, such as that of a redirect, by RFC 3986. Its fragment is dropped.
pub(crate) fn resolve(url: &str, reference: &str) -> String {
    let reference = before(reference, &['#']);
    let (scheme, rest) = url.split_once("//").unwrap_or(("", url));
    let authority = before(rest, &['/', '?']);
    let path = before(rest.strip_prefix(authority).unwrap_or_default(), &['?']);
    let (folder, _) = path.rsplit_once('/').unwrap_or_default();
    let path = match reference.chars().next() {
        _ if has_scheme(reference) => return reference.to_owned(),
        _ if reference.starts_with("//") => return [scheme, reference].concat(),
        None => return url.to_owned(),
        Some('/') => reference.to_owned(),
        Some('?') => [path, reference].concat(),
        Some(_) => [folder, "/", reference].concat(),
    };
    [scheme, "//", authority, &*without_dots(&path)].concat()
}

/// The text up to the first of these.
fn before<'a>(text: &'a str, ends: &[char]) -> &'a str {
    text.split(ends).next().unwrap_or_default()
}

fn has_scheme(reference: &str) -> bool {
    let (scheme, _) = reference.split_once(':').unwrap_or_default();
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(is_allowed)
}

/// A path, without its segments `.` and `..`, and its query.
fn without_dots(path_and_query: &str) -> String {
    let path = before(path_and_query, &['?']);
    let query = path_and_query.strip_prefix(path).unwrap_or_default();
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        segments.push("");
    }
    format!("/{}{query}", segments.join("/"))
}

/// A text as one segment of a path, whatever is in it.
pub(crate) fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(byte.into());
            }
            _ => segment += &format!("%{byte:02X}"),
        }
    }
    segment
}

#[cfg(test)]
#[path = "../tests/unit/url.rs"]
mod tests;
