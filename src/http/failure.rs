//! What ureq reports where no response came, as an error of this crate.

use std::{io, sync::Arc, time::Duration};

use ureq::{Proxy, Timeout};

use super::base_url::{CURRENT_BASE_URL, DEFAULT_BASE_URL};
use super::tls;
use crate::error::{Error, ErrorKind};
use crate::text::human_time;

/// What stands between a host and its proxy in the name of a peer.
pub(super) const THROUGH: &str = " through the proxy ";

pub(super) const BASE_URL_HINT: &str = " (is the base URL right?)";

/// Who an exchange is with, and how long each of its phases may take.
pub(super) struct Limits {
    /// The host, and the proxy if there is one.
    pub peer: Arc<str>,
    /// What else may be wrong where the peer is not who it should be.
    pub hint: &'static str,
    pub proxy: Option<Proxy>,
    pub connect: Duration,
    /// One write, or the head of the request.
    pub write: Duration,
    /// The body of the request.
    pub upload: Duration,
    /// The head of the response, and then its body.
    pub response: Duration,
    /// How long nothing may come of a body that may take until the deadline.
    pub stall: Option<Duration>,
    /// How long a connection that is used may have been idle.
    pub max_idle: Duration,
    /// A time on the clock.
    pub deadline: Option<Duration>,
    /// What remained until the deadline when the exchange began.
    pub remaining: Option<Duration>,
}

/// Whether a connection that was there broke.
pub(super) fn is_break(error: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        ),
        #[cfg(feature = "native-tls")]
        ureq::Error::NativeTls(error) => error.to_string().contains("unexpected EOF"),
        _ => false,
    }
}

/// Whether there was no connection yet, so that nothing was sent.
pub(super) fn is_before_sending(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Timeout(timeout) => matches!(timeout, Timeout::Resolve | Timeout::Connect),
        ureq::Error::HostNotFound | ureq::Error::ConnectProxyFailed(_) => true,
        ureq::Error::Io(error) => {
            error.kind() == io::ErrorKind::ConnectionRefused || is_lookup(error)
        }
        _ => false,
    }
}

pub(super) fn to_error(error: ureq::Error, limits: &Limits) -> Error {
    use ErrorKind::{Network, Tls, UnexpectedResponse};
    let Limits { peer, hint, .. } = limits;
    let (kind, what) = match &error {
        ureq::Error::Timeout(timeout) => return timed_out(*timeout, limits),
        ureq::Error::ConnectProxyFailed(reason) => return proxy_failed(reason, peer),
        error if is_break(error) => (Network, format!("the connection to {peer} broke")),
        ureq::Error::Io(error) if is_lookup(error) => (Network, lookup_failed(peer)),
        ureq::Error::HostNotFound => (Network, lookup_failed(peer)),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let what = match peer.split_once(THROUGH) {
                Some((_, proxy)) => {
                    format!("connection refused by the proxy {proxy} (is it right?)")
                }
                None => format!("connection refused by {peer}{hint}"),
            };
            return Error::new(Network, what);
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            (Tls, no_tls(error, limits))
        }
        ureq::Error::Tls(_) | ureq::Error::TlsRequired => (Tls, no_tls(&error, limits)),
        #[cfg(feature = "rustls")]
        ureq::Error::Rustls(_) => (Tls, no_tls(&error, limits)),
        #[cfg(feature = "native-tls")]
        ureq::Error::NativeTls(_) => (Tls, no_tls(&error, limits)),
        ureq::Error::LargeResponseHeader(..) => {
            let what = format!("the head of the response from {peer} is larger than 32 KiB");
            (UnexpectedResponse, what)
        }
        // The type of ureq's protocol errors has no name outside ureq.
        ureq::Error::Protocol(reason) if reason.to_string().contains("too many headers") => {
            let what = format!("{peer} sent more than 128 headers (a proxy: more than 20)");
            (UnexpectedResponse, what)
        }
        ureq::Error::Protocol(_) | ureq::Error::BodyStalled => {
            let what = format!("the response from {peer} is not valid HTTP{hint}");
            (UnexpectedResponse, what)
        }
        // Their texts quote the URL, which may be a credential.
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            return Error::new(Network, format!("the request to {peer} failed"));
        }
        _ => (Network, format!("the request to {peer} failed")),
    };
    Error::new(kind, what).caused_by(error.into_io())
}

/// The time of a phase ran out: its own, or what remained until the deadline.
fn timed_out(timeout: Timeout, limits: &Limits) -> Error {
    let peer = &limits.peer;
    let unread = format!("{peer} did not read the request");
    let (own, what) = match (timeout, limits.stall) {
        (Timeout::Connect, _) => (limits.connect, format!("no connection to {peer}")),
        (Timeout::SendBody, _) => (limits.upload, unread),
        (Timeout::SendRequest | Timeout::PerWrite, _) => (limits.write, unread),
        (Timeout::PerRead, Some(stall)) => (stall, format!("nothing came from {peer}")),
        (Timeout::RecvBody, _) => (limits.response, format!("no whole response from {peer}")),
        _ => (limits.response, format!("no response from {peer}")),
    };
    if limits.remaining.is_some_and(|remaining| remaining <= own) {
        return Error::out_of_time();
    }
    let what = format!("{what} within {}", human_time(own));
    Error::new(ErrorKind::Timeout, what)
}

fn no_tls(error: &dyn std::fmt::Display, limits: &Limits) -> String {
    let Limits { peer, hint, .. } = limits;
    match tls::reason(&error.to_string()) {
        tls::NO_TLS => format!("no trusted TLS connection to {peer}: {}{hint}", tls::NO_TLS),
        reason => format!("no trusted TLS connection to {peer}: {reason}"),
    }
}

/// ureq has the status of a proxy's refusal in its text alone.
fn proxy_failed(reason: &str, peer: &str) -> Error {
    if reason.contains("responded 407") {
        let proxy = peer.split_once(THROUGH).map_or(peer, |(_, proxy)| proxy);
        let what = format!(
            "the proxy {proxy} wants a user and a password (407): http://user:password@host"
        );
        return Error::new(ErrorKind::Unauthorized, what);
    }
    let status = reason.rsplit('/').next().unwrap_or_default();
    let what = format!("no connection to {peer}: the proxy refused ({status})");
    Error::new(ErrorKind::Network, what)
}

/// The standard library has no kind for a failed DNS lookup. On Unix it has this text; on Windows
/// it is one of the system's errors WSAHOST_NOT_FOUND to WSANO_DATA.
fn is_lookup(error: &io::Error) -> bool {
    let text = error.to_string();
    cfg!(windows) && matches!(error.raw_os_error(), Some(11001..=11004))
        || text.starts_with("failed to lookup address information")
}

/// The two hosts have come and gone: the error names the other one.
fn lookup_failed(peer: &str) -> String {
    if let Some((_, proxy)) = peer.split_once(THROUGH) {
        return format!("the DNS lookup of the proxy {proxy} failed (is the name right?)");
    }
    let what = format!("the DNS lookup of {peer} failed (is the name right, and the network up?)");
    if DEFAULT_BASE_URL == format!("https://{peer}") {
        return format!("{what}; the current API is at {CURRENT_BASE_URL}: set BITHUMAN_API_BASE");
    }
    what
}
