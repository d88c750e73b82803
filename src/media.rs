use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A picture, a video or a voice for a [`GenerateRequest`](crate::GenerateRequest).
///
/// A clone shares the content. `Debug` shows the kind and the length or path, never the content.
///
/// ```
/// use bithuman::Media;
///
/// let by_link = Media::url("https://example.com/artwork.jpg");
/// let from_disk = Media::file("portrait.jpg");
/// let from_memory = Media::bytes(vec![0xff, 0xd8, 0xff]);
/// let encoded_before = Media::base64("/9j/4AAQ");
/// assert_eq!(format!("{from_memory:?}"), "Media::bytes(3 bytes)");
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
    /// A medium the service fetches itself. The URL must be http or https.
    pub fn url(url: impl Into<String>) -> Self {
        Media(Source::Url(url.into()))
    }

    /// A file on this machine, read when the request is sent and base64-encoded on the way.
    ///
    /// It must be a regular file, not empty, and must not change while it is sent.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Media(Source::File(path.into()))
    }

    /// Content in memory, base64-encoded on the way.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Media(Source::Bytes(Arc::new(bytes.into())))
    }

    /// Content that is base64 already, or a data URI. It is sent as it is.
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

/// Refuses what the service could not fetch: the call is paid before it would find out.
pub(crate) fn check_url(url: &str) -> Result<()> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        None => Err(Error::invalid("a media URL must begin with http:// or https://; a file goes with Media::file")),
        Some("") => Err(Error::invalid("a media URL must name a host")),
        Some(_) if url.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err(Error::invalid("a media URL must not contain white space: write a space as %20"))
        }
        Some(_) => Ok(()),
    }
}
