//! TLS as the features have it, and what a failed handshake means.

#[cfg(feature = "_tls")]
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::error::{Error, Result};

/// What has to be compiled in for https.
pub(super) const FEATURES: &str =
    "one of the features rustls, native-tls and platform-verifier of bithuman";

type Builder = ConfigBuilder<AgentScope>;

/// Trusts the certificates of a PEM text instead of the built-in ones. ureq panics where it is to
/// use a TLS library that is not compiled in, and has built-in roots for rustls only.
#[cfg(feature = "_tls")]
pub(super) fn configure(builder: Builder, pem: Option<&[u8]>) -> Result<Builder> {
    let (rustls, platform) = (
        cfg!(feature = "rustls"),
        cfg!(feature = "platform-verifier"),
    );
    let (provider, defaults) = match (rustls, platform) {
        (true, false) => (TlsProvider::Rustls, RootCerts::WebPki),
        (true, true) => (TlsProvider::Rustls, RootCerts::PlatformVerifier),
        (false, _) => (TlsProvider::NativeTls, RootCerts::PlatformVerifier),
    };
    let roots = pem.map_or(Ok(defaults), read_roots)?;
    let tls = TlsConfig::builder().provider(provider).root_certs(roots);
    Ok(builder.tls_config(tls.build()))
}

#[cfg(not(feature = "_tls"))]
pub(super) fn configure(builder: Builder, pem: Option<&[u8]>) -> Result<Builder> {
    if pem.is_some() {
        let what = format!("root_certificates_pem needs {FEATURES}");
        return Err(Error::config(what));
    }
    Ok(builder)
}

#[cfg(feature = "_tls")]
fn read_roots(pem: &[u8]) -> Result<RootCerts> {
    let invalid = || Error::config("root_certificates_pem has no readable certificate; is it PEM?");
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| invalid().caused_by(e))? {
            certificates.push(certificate);
        }
    }
    let is_good = certificates.iter().all(|it| is_der(it.der()));
    if certificates.is_empty() || !is_good {
        return Err(invalid());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Whether this is one DER sequence and nothing else. rustls silently skips what is not.
#[cfg(feature = "_tls")]
fn is_der(bytes: &[u8]) -> bool {
    let (declared, rest) = match bytes {
        [0x30, length @ 0..0x80, rest @ ..] => (usize::from(*length), rest),
        [0x30, digits, rest @ ..] => {
            let Some((length, rest)) = rest.split_at_checked(usize::from(digits & 0x7f)) else {
                return false;
            };
            let append = |all: usize, byte: &u8| (all << 8) | usize::from(*byte);
            (length.iter().fold(0, append), rest)
        }
        _ => return false,
    };
    declared == rest.len()
}

const UNTRUSTED: &str = "its certificate is from an issuer that is not trusted (see \
    root_certificates_pem and the feature platform-verifier)";
const NOT_A_SERVER: &str = "its certificate is one to sign others with, not one for a server";
const OTHER_HOST: &str = "its certificate is for another host";
const EXPIRED: &str = "its certificate has expired, or the local clock is wrong";
const TOO_EARLY: &str = "its certificate is not valid yet, or the local clock is wrong";
const NO_ROOTS: &str = "no trusted certificates were found on this system (install its CA \
    certificates, or see root_certificates_pem)";
pub(super) const NO_TLS: &str = "it does not speak TLS";

/// Parts of the texts of rustls and OpenSSL, and what they mean. rustls keeps its reasons in types
/// that ureq does not name, and OpenSSL has only texts.
const REASONS: [(&str, &str); 14] = [
    ("No CA certificates", NO_ROOTS),
    ("UnknownIssuer", UNTRUSTED),
    ("BadSignature", UNTRUSTED),
    ("local issuer", UNTRUSTED),
    ("self-signed", UNTRUSTED),
    ("signature failure", UNTRUSTED),
    ("CaUsedAsEndEntity", NOT_A_SERVER),
    ("not valid for name", OTHER_HOST),
    ("mismatch", OTHER_HOST),
    ("expired", EXPIRED),
    ("valid yet", TOO_EARLY),
    ("yet valid", TOO_EARLY),
    ("corrupt message", NO_TLS),
    ("wrong version number", NO_TLS),
];

/// Why there is no trusted connection.
pub(super) fn reason(error: &str) -> &'static str {
    let known = REASONS.iter().find(|(text, _)| error.contains(text));
    known.map_or("the handshake failed", |(_, meaning)| meaning)
}
