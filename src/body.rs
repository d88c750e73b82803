//! The body of a request: JSON, whose media are encoded while it is read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use base64::engine::{self, Engine};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::event::{Event, Hook};
use crate::media::{self, Media, Source};
use crate::{clock::Clock, fingerprint::Fingerprint};

/// Raw bytes encoded at a time. They become 64 KiB of base64, the size of the connection's buffer.
const CHUNK: usize = 48 * 1024;

/// A slow upload is reported this often.
const METER_INTERVAL: Duration = Duration::from_millis(100);

/// The processor's vector instructions encode several times as fast, where base64 has code for
/// them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<engine::Simd> =
    LazyLock::new(|| engine::Simd::standard(engine::general_purpose::PAD));

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: LazyLock<engine::GeneralPurpose> =
    LazyLock::new(|| engine::general_purpose::STANDARD);

/// A field of the request: JSON, or media that become a JSON string.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    Json(Value),
    Media(Media),
}

/// JSON that is read piece by piece, its length known beforehand.
#[derive(Default)]
pub(crate) struct Body {
    parts: Vec<Part>,
    /// The part being read, and how much of it was read.
    at: usize,
    offset: u64,
    len: u64,
    /// How many bytes were handed to the connection.
    pub sent: u64,
    /// Why it could not be read to its end.
    pub failure: Option<Error>,
    deadline: Option<(Arc<dyn Clock>, Duration)>,
    meter: Option<Meter>,
}

impl Body {
    /// Opens every media file, so that what is wrong with one is known before anything is sent.
    pub fn new<'a>(
        fields: impl IntoIterator<Item = (&'a str, &'a Field)>,
        service_is_local: bool,
    ) -> Result<Self> {
        let mut body = Body::default();
        let mut separator = "{";
        for (name, field) in fields {
            body.push([text(separator), json(name), text(":")]);
            match field {
                Field::Json(value) => body.push([json(value)]),
                Field::Media(media) => {
                    let opened = open(media, service_is_local);
                    body.push(opened.map_err(|error| error.within(name))?);
                }
            }
            separator = ",";
        }
        body.push([text(if body.len == 0 { "{}" } else { "}" })]);
        Ok(body)
    }

    /// A body without media.
    pub fn from_json(value: &Value) -> Self {
        let mut body = Body::default();
        body.push([json(value)]);
        body
    }

    fn push(&mut self, parts: impl IntoIterator<Item = Part>) {
        for part in parts {
            self.len = self.len.saturating_add(part.len());
            self.parts.push(part);
        }
    }

    /// Ends the reading at this time.
    pub fn set_deadline(&mut self, clock: &Arc<dyn Clock>, deadline: Option<Duration>) {
        self.deadline = deadline.map(|deadline| (clock.clone(), deadline));
    }

    /// Reports the progress of the upload.
    pub fn report_to(&mut self, hook: &Hook, clock: &Arc<dyn Clock>) {
        self.meter = Some(Meter {
            hook: hook.clone(),
            clock: clock.clone(),
            shown: 0,
            shown_at: clock.now(),
        });
    }

    /// Returns to the first byte: the same bytes are read again.
    pub fn rewind(&mut self) {
        self.at = 0;
        self.offset = 0;
        self.sent = 0;
        self.failure = None;
        if let Some(meter) = &mut self.meter {
            meter.shown = 0;
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the last byte was handed to the connection, so that the service may have it all.
    pub fn fully_sent(&self) -> bool {
        self.sent == self.len
    }

    /// Whether the upload began and did not end.
    pub fn broke_off(&self) -> bool {
        self.sent > 0 && !self.fully_sent()
    }

    /// The contents that are encoded, in the order of the fields.
    pub fn contents(&mut self) -> impl Iterator<Item = &mut Part> {
        self.parts.iter_mut().filter(|part| !part.is_text())
    }

    /// Reads as much as fits. Of base64 these are whole groups of four.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        if let Some((clock, deadline)) = &self.deadline
            && clock.now() >= *deadline
        {
            return Err(Error::out_of_time());
        }
        let mut n = 0;
        while let Some(part) = self.parts.get_mut(self.at) {
            let rest = buf.get_mut(n..).unwrap_or_default();
            let is_text = part.is_text();
            let groups = rest.len() / 4;
            let most = if is_text { rest.len() } else { groups * 3 };
            if most == 0 {
                break;
            }
            let mut raw = part.read(self.offset, most)?;
            self.offset += raw.len() as u64;
            if raw.is_empty() {
                self.at += 1;
                self.offset = 0;
            } else if is_text {
                n += raw.read(rest).unwrap_or_default();
            } else {
                let encoded = BASE64.encode_slice(raw, rest);
                n += encoded.map_err(|error| Error::invalid(error.to_string()))?;
            }
        }
        if n == 0 && !self.fully_sent() {
            // An end before the declared length would make ureq wait for ever.
            return Err(Error::invalid("too short"));
        }
        Ok(n)
    }
}

impl Read for Body {
    /// The buffer must hold at least four bytes.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill(buf).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the body cannot be read to its end")
        })?;
        self.sent += n as u64;
        if let Some(meter) = &mut self.meter {
            meter.show(self.sent, self.len);
        }
        Ok(n)
    }
}

/// Reports progress often enough for a smooth bar, and not at every read.
struct Meter {
    hook: Hook,
    clock: Arc<dyn Clock>,
    shown: u64,
    shown_at: Duration,
}

impl Meter {
    fn show(&mut self, sent: u64, total: u64) {
        let now = self.clock.now();
        let moved = sent.abs_diff(self.shown);
        let is_due = moved >= total.div_ceil(100)
            || now.saturating_sub(self.shown_at) >= METER_INTERVAL
            || sent == total;
        if moved > 0 && is_due {
            self.shown = sent;
            self.shown_at = now;
            (self.hook)(&Event::Uploading { sent, total });
        }
    }
}

/// A piece of the body: text that is sent unchanged, or a content that is encoded.
pub(crate) enum Part {
    Text(Arc<String>),
    Bytes(Arc<Vec<u8>>),
    File(OpenFile),
}

impl Part {
    fn is_text(&self) -> bool {
        matches!(self, Part::Text(_))
    }

    fn raw_len(&self) -> u64 {
        match self {
            Part::Text(text) => text.len() as u64,
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File(file) => file.len,
        }
    }

    fn len(&self) -> u64 {
        match self {
            Part::Text(text) => text.len() as u64,
            encoded => encoded.raw_len().div_ceil(3).saturating_mul(4),
        }
    }

    /// Raw bytes from an offset on, and not more than this many.
    fn read(&mut self, offset: u64, most: usize) -> Result<&[u8]> {
        let n = (self.raw_len() - offset).min(most.min(CHUNK) as u64) as usize;
        let range = offset as usize..offset as usize + n;
        match self {
            Part::Text(text) => Ok(text.as_bytes().get(range).unwrap_or_default()),
            Part::Bytes(bytes) => Ok(bytes.get(range).unwrap_or_default()),
            Part::File(file) => file.read(offset, n),
        }
    }

    /// Passes a content on piece by piece. Of a file it is what will be sent: the same open file.
    pub fn visit(&mut self, mut see: impl FnMut(&[u8])) -> Result<()> {
        let mut offset = 0;
        while offset < self.raw_len() {
            let piece = self.read(offset, CHUNK)?;
            see(piece);
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// An open file, with what it was like when its length was declared.
pub(crate) struct OpenFile {
    file: File,
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
    chunk: Vec<u8>,
}

impl OpenFile {
    fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        // Checked before opening: opening a FIFO waits for its writer.
        let metadata = fs::metadata(path).map_err(|error| cannot_read(path, error))?;
        if metadata.is_dir() {
            return Err(Error::invalid(format!("a directory, not a file: {shown}")));
        }
        if !metadata.is_file() {
            return Err(Error::invalid(format!("not a regular file: {shown}")));
        }
        let file = File::open(path).map_err(|error| cannot_read(path, error))?;
        let metadata = file.metadata().map_err(|error| cannot_read(path, error))?;
        if metadata.len() == 0 {
            return Err(Error::invalid(format!("the file is empty: {shown}")));
        }
        Ok(OpenFile {
            file,
            path: path.to_owned(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
            chunk: Vec::new(),
        })
    }

    /// Before its last bytes are handed over, the file must still be what it was. So either one
    /// content is sent whole, or the service cannot have the whole request.
    fn read(&mut self, offset: u64, n: usize) -> Result<&[u8]> {
        self.chunk.resize(n, 0);
        let filled = self.fill(offset);
        let path = self.path.display();
        let what = match filled {
            Ok(true) => return Ok(&self.chunk),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                format!("cannot read the file {path}: {error}")
            }
            _ => format!("the file changed while it was read: {path}"),
        };
        Err(Error::invalid(what))
    }

    /// Fills the chunk from an offset on. Returns `false` if the file is not what it was.
    fn fill(&mut self, offset: u64) -> io::Result<bool> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut self.chunk)?;
        if offset + (self.chunk.len() as u64) < self.len {
            return Ok(true);
        }
        let now = self.file.metadata()?;
        Ok(now.len() == self.len && now.modified().ok() == self.modified)
    }
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::invalid(format!("no such file: {}", path.display())),
        _ => Error::invalid(format!("cannot read the file {}", path.display())).caused_by(error),
    }
}

fn text(text: impl Into<String>) -> Part {
    Part::Text(Arc::new(text.into()))
}

/// A value whose serialization cannot fail: no map in it has keys that are not strings.
fn json(value: &(impl Serialize + ?Sized)) -> Part {
    text(serde_json::to_string(value).unwrap_or_default())
}

/// Whether a byte stands for itself in a JSON string.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// A media file as a JSON string.
fn open(media: &Media, service_is_local: bool) -> Result<Vec<Part>> {
    let inner = match &media.0 {
        Source::Url(url) => {
            media::check_url(url, service_is_local)?;
            return Ok(vec![json(url)]);
        }
        Source::Base64(encoded) if media::is_empty_base64(encoded) => {
            return Err(Error::invalid("the base64 text is empty"));
        }
        Source::Base64(encoded) if encoded.bytes().all(is_plain) => Part::Text(encoded.clone()),
        Source::Base64(encoded) => return Ok(vec![json(&**encoded)]),
        Source::Bytes(bytes) if bytes.is_empty() => {
            return Err(Error::invalid("the media file is empty"));
        }
        Source::Bytes(bytes) => Part::Bytes(bytes.clone()),
        Source::File(path) => Part::File(OpenFile::open(path)?),
    };
    Ok(vec![text("\""), inner, text("\"")])
}

/// The fingerprint of each field: its kind, and a hash of its content. Of a file that is what will
/// be sent: the body has it open.
pub(crate) fn fingerprints<'a>(
    fields: impl Iterator<Item = (&'a str, &'a Field)>,
    body: &mut Body,
) -> Result<BTreeMap<String, String>> {
    let mut fingerprints = BTreeMap::new();
    let mut contents = body.contents();
    for (name, field) in fields {
        let mut print = Fingerprint::new();
        let kind = match field {
            Field::Json(value) => {
                print.write_json(value);
                "json"
            }
            Field::Media(Media(Source::Url(url))) => {
                print.write(url.as_bytes());
                "url"
            }
            Field::Media(Media(Source::Base64(text))) => {
                print.write_text(text);
                "base64"
            }
            Field::Media(Media(Source::Bytes(_) | Source::File(_))) => {
                if let Some(content) = contents.next() {
                    let read = content.visit(|piece| print.write(piece));
                    read.map_err(|error| error.within(name).call("generate"))?;
                }
                "content"
            }
        };
        fingerprints.insert(name.into(), format!("{kind} {}", print.finish()));
    }
    Ok(fingerprints)
}

#[cfg(test)]
#[path = "../tests/unit/body.rs"]
mod tests;
