//! An image, a video or a voice for a request.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::error::{Error, Result};
use crate::text::{describe_char, hidden_char};
use crate::url::{host_and_port, is_loopback};

/// An image, a video or a voice for a request.
///
/// It is for a [`GenerateRequest`](crate::GenerateRequest) or an [`upload`](crate::Api::upload). A
/// clone shares the content. `Debug` shows the kind and the length or path, never the content.
///
/// ```
/// use bithuman::Media;
///
/// let linked = Media::url("https://example.com/artwork.jpg");
/// let on_disk = Media::file("portrait.jpg");
/// let in_memory = Media::bytes(vec![0xff, 0xd8, 0xff]);
/// let encoded = Media::base64("/9j/4AAQ");
/// assert_eq!(format!("{in_memory:?}"), "Media::bytes(3 bytes)");
/// ```
#[derive(Clone)]
pub struct Media(pub(crate) Source);

#[derive(Clone)]
pub(crate) enum Source {
    Url(String),
    File(PathBuf),
    Bytes(Arc<Vec<u8>>),
    Base64(Arc<String>),
}

impl Media {
    /// Returns media that the service fetches from a URL, http or https.
    ///
    /// A URL on localhost is refused, unless the base URL is on localhost too.
    ///
    /// ```
    /// let media = bithuman::Media::url("https://example.com/artwork.jpg");
    /// ```
    pub fn url(url: impl Into<String>) -> Self {
        Media(Source::Url(url.into()))
    }

    /// Returns media from a local file, read and base64-encoded while the request is sent.
    ///
    /// It must be a regular file, not empty, and must not change while it is sent.
    ///
    /// ```
    /// let media = bithuman::Media::file("portrait.jpg");
    /// ```
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Media(Source::File(path.into()))
    }

    /// Returns media from memory, base64-encoded while the request is sent.
    ///
    /// ```
    /// let media = bithuman::Media::bytes(std::fs::read("Cargo.toml").unwrap());
    /// ```
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Media(Source::Bytes(Arc::new(bytes.into())))
    }

    /// Returns media from base64 text or a `data:` URL, sent unchanged.
    ///
    /// ```
    /// let media = bithuman::Media::base64("/9j/4AAQ");
    /// ```
    pub fn base64(text: impl Into<String>) -> Self {
        Media(Source::Base64(Arc::new(text.into())))
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Url(url) => write!(f, "Media::url({} bytes)", url.len()),
            Source::File(path) => write!(f, "Media::file({path:?})"),
            Source::Bytes(bytes) => write!(f, "Media::bytes({} bytes)", bytes.len()),
            Source::Base64(text) => write!(f, "Media::base64({} bytes)", text.len()),
        }
    }
}

/// Refuses a URL that the service could not fetch: the request is billed before it would find out.
pub(crate) fn check_url(url: &str, service_is_local: bool) -> Result<()> {
    let Some((host, _)) = host_and_port(url) else {
        let what = "a media URL begins with http:// or https://; use Media::file for a file";
        return Err(Error::invalid(what));
    };
    if host.is_empty() {
        return Err(Error::invalid("the media URL has no host"));
    }
    if let Some(c) = hidden_char(url).or(url.contains(' ').then_some(' ')) {
        let name = describe_char(c);
        let what = format!("the media URL contains {name}: remove or percent-encode it");
        return Err(Error::invalid(what));
    }
    let name = host.trim_end_matches('.');
    if (is_loopback(name) || name.ends_with(".localhost") || matches!(name, "0.0.0.0" | "::"))
        && !service_is_local
    {
        let what = format!("the service cannot fetch a media URL on {host}; use Media::file");
        return Err(Error::invalid(what));
    }
    Ok(())
}

/// Whether a base64 text has no content: an empty `data:` URL is empty media too.
pub(crate) fn is_empty_base64(text: &str) -> bool {
    let mut content = text.trim();
    let scheme = content.get(..5).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("data:") {
        (_, content) = content.split_once(',').unwrap_or_default();
    }
    content.trim().is_empty()
}

#[cfg(test)]
#[path = "../tests/unit/media.rs"]
mod tests;
