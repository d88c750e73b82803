use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use base64::Engine;
use serde::Serialize;
use serde_json::Value;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::{Event, Hook};
use crate::media::{self, Media, Source};

/// Raw bytes encoded at a time: they become 64 KiB of base64, one of the connection's buffers.
const CHUNK: usize = 48 * 1024;

/// The processor's vector instructions encode several times as fast, where base64 knows them.
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
static BASE64: LazyLock<base64::engine::Simd> =
    LazyLock::new(|| base64::engine::Simd::standard(base64::engine::general_purpose::PAD));

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"))))]
static BASE64: LazyLock<base64::engine::GeneralPurpose> = LazyLock::new(|| base64::engine::general_purpose::STANDARD);

/// A slow upload is reported this often.
const METER_INTERVAL: Duration = Duration::from_millis(100);

/// A field of the request: JSON, or a medium that becomes a JSON string.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    Json(Value),
    Media(Media),
}

/// A JSON object read piece by piece, with media encoded on the way and its length known before.
pub(crate) struct Body {
    parts: Vec<Part>,
    /// The part being read.
    at: usize,
    len: u64,
    sent: u64,
    /// Why a medium could not be read to its end.
    broken: Option<String>,
    pub meter: Option<Meter>,
}

enum Part {
    /// What goes out as it is, and how much of it is read.
    Text(Arc<String>, usize),
    Encoded(Encoder),
}

impl Body {
    /// Opens every medium, so that what is wrong with one is known before anything is sent.
    pub fn new<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Field)>) -> Result<Self> {
        let mut parts = Vec::new();
        for (name, field) in fields {
            let start = if parts.is_empty() { "{" } else { "," };
            parts.extend([text(start), json(name), text(":")]);
            match field {
                Field::Json(value) => parts.push(json(value)),
                Field::Media(media) => {
                    parts.extend(open(media).map_err(|e| e.with(|e| e.what = format!("{name}: {}", e.what)))?);
                }
            }
        }
        parts.push(text(if parts.is_empty() { "{}" } else { "}" }));
        let len = parts.iter().map(Part::len).fold(0, u64::saturating_add);
        Ok(Body { parts, at: 0, len, sent: 0, broken: None, meter: None })
    }

    /// Back to the first byte: the same ones come again.
    pub fn rewind(&mut self) {
        (self.at, self.sent, self.broken) = (0, 0, None);
        for part in &mut self.parts {
            match part {
                Part::Text(_, at) => *at = 0,
                Part::Encoded(encoder) => encoder.rewind(),
            }
        }
        if let Some(meter) = &mut self.meter {
            meter.shown = 0;
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// How much was handed over.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the last byte was handed over, so that the service may have the whole request.
    pub fn handed_over(&self) -> bool {
        self.sent == self.len
    }

    /// Everything that is encoded on the way, in the order of the fields.
    pub fn contents(&mut self) -> impl Iterator<Item = &mut Encoder> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Encoded(encoder) => Some(encoder),
            Part::Text(..) => None,
        })
    }

    /// Why a medium could not be read to its end, where that is so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while let Some(part) = self.parts.get_mut(self.at) {
            let rest = buf.get_mut(n..).unwrap_or_default();
            // A group of base64 has four bytes: less room is left to the next read, if it can be.
            if rest.is_empty() || n > 0 && rest.len() < 4 {
                break;
            }
            let read = match part {
                Part::Text(text, at) => text.as_bytes().get(*at..).unwrap_or_default().read(rest).inspect(|n| *at += n),
                Part::Encoded(encoder) => encoder.read(rest),
            };
            match read {
                Ok(0) => self.at += 1,
                Ok(more) => n += more,
                Err(error) => {
                    self.broken = Some(error.to_string());
                    return Err(error);
                }
            }
        }
        self.sent += n as u64;
        if let Some(meter) = &mut self.meter {
            meter.show(self.sent, self.len);
        }
        Ok(n)
    }
}

/// Reports progress often enough for a smooth bar, and not once per read.
pub(crate) struct Meter {
    hook: Hook,
    clock: Arc<dyn Clock>,
    shown: u64,
    shown_at: Duration,
}

impl Meter {
    pub fn new(hook: Hook, clock: Arc<dyn Clock>) -> Self {
        Meter { shown: 0, shown_at: clock.now(), hook, clock }
    }

    fn show(&mut self, sent: u64, total: u64) {
        let now = self.clock.now();
        let moved = sent.abs_diff(self.shown);
        let due = moved >= total.div_ceil(100) || now.saturating_sub(self.shown_at) >= METER_INTERVAL || sent == total;
        if moved > 0 && due {
            (self.shown, self.shown_at) = (sent, now);
            (self.hook)(&Event::Uploaded { sent, total });
        }
    }
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Text(text, _) => text.len() as u64,
            Part::Encoded(encoder) => encoder.raw.len().div_ceil(3).saturating_mul(4),
        }
    }
}

/// Base64 of a medium, written straight into the reader's buffer.
pub(crate) struct Encoder {
    raw: Raw,
    /// Raw bytes not yet encoded.
    left: u64,
    /// Where a file's bytes wait to be encoded.
    chunk: Vec<u8>,
    /// What is left of an encoded group that did not fit into a buffer of less than four bytes.
    pending: VecDeque<u8>,
}

impl Encoder {
    fn new(raw: Raw) -> Self {
        Encoder { left: raw.len(), raw, chunk: Vec::new(), pending: VecDeque::new() }
    }

    fn rewind(&mut self) {
        self.left = self.raw.len();
        self.pending.clear();
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.pending.is_empty() && buf.len() >= 4 {
            return self.encode(buf);
        }
        if self.pending.is_empty() {
            let mut group = [0; 4];
            let n = self.encode(&mut group)?;
            self.pending.extend(group.iter().take(n));
        }
        self.pending.read(buf)
    }

    /// Encodes as many whole groups as fit.
    fn encode(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        BASE64.encode_slice(self.next(buf.len() / 4 * 3)?, buf).map_err(io::Error::other)
    }

    /// The next raw bytes, so many at the most.
    fn next(&mut self, most: usize) -> io::Result<&[u8]> {
        let from = self.raw.len() - self.left;
        let n = self.left.min(most.min(CHUNK) as u64);
        if let Raw::File(file) = &mut self.raw {
            self.chunk.resize(n as usize, 0);
            file.fill(&mut self.chunk, from)?;
        }
        self.left -= n;
        Ok(match &self.raw {
            Raw::Bytes(bytes) => bytes.get(from as usize..(from + n) as usize).unwrap_or_default(),
            Raw::File(_) => &self.chunk,
        })
    }

    /// Shows the content piece by piece: of a file what will be sent, as it is the same open one.
    pub fn visit(&mut self, mut see: impl FnMut(&[u8])) -> Result<()> {
        while self.left > 0 {
            see(self.next(CHUNK).map_err(|error| Error::invalid(error.to_string()))?);
        }
        self.rewind();
        Ok(())
    }
}

/// A medium before it is encoded.
enum Raw {
    Bytes(Arc<Vec<u8>>),
    File(Opening),
}

impl Raw {
    fn len(&self) -> u64 {
        match self {
            Raw::Bytes(bytes) => bytes.len() as u64,
            Raw::File(file) => file.len,
        }
    }
}

/// An open file, with what it was like when its length was declared.
struct Opening {
    file: File,
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
}

impl Opening {
    fn new(path: &Path) -> Result<Self> {
        let fail = |what: String, error: io::Error| Error::invalid(what).with(|e| e.source = Some(Box::new(error)));
        let shown = path.display();
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => fail(format!("no such file: {shown}"), error),
            _ => fail(format!("cannot read the file {shown}"), error),
        };
        // Asked before opening: to open a FIFO waits for its writer.
        let kind = fs::metadata(path).map_err(cannot)?;
        if kind.is_dir() {
            return Err(Error::invalid(format!("a directory, not a file: {shown}")));
        }
        if !kind.is_file() {
            return Err(Error::invalid(format!("not a regular file: {shown}")));
        }
        let file = File::open(path).map_err(cannot)?;
        let now = file.metadata().map_err(cannot)?;
        if now.len() == 0 {
            return Err(Error::invalid(format!("the file is empty: {shown}")));
        }
        Ok(Opening { file, path: path.to_owned(), len: now.len(), modified: now.modified().ok() })
    }

    /// Before the last bytes are given away the file must still be what it was: what is sent is
    /// one content, or an error while the service cannot have the whole request.
    fn fill(&mut self, chunk: &mut [u8], from: u64) -> io::Result<()> {
        let changed = || io::Error::other(format!("the file changed while it was read: {}", self.path.display()));
        let read = self.file.seek(SeekFrom::Start(from)).and_then(|_| self.file.read_exact(chunk));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => io::Error::new(error.kind(), format!("cannot read the file {}: {error}", self.path.display())),
        })?;
        if from + chunk.len() as u64 == self.len {
            let now = self.file.metadata()?;
            if now.len() != self.len || now.modified().ok() != self.modified {
                return Err(changed());
            }
        }
        Ok(())
    }
}

fn text(text: impl Into<String>) -> Part {
    Part::Text(Arc::new(text.into()), 0)
}

/// A value that cannot fail to be written: it has no map whose keys are not strings.
fn json(value: &(impl Serialize + ?Sized)) -> Part {
    text(serde_json::to_string(value).unwrap_or_default())
}

/// Whether JSON has a byte as it is.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// A medium as a JSON string.
fn open(media: &Media) -> Result<Vec<Part>> {
    let inner = match &media.0 {
        Source::Url(url) => return media::check_url(url).map(|()| vec![json(url)]),
        Source::Base64(encoded) if encoded.is_empty() => return Err(Error::invalid("the base64 text is empty")),
        Source::Base64(encoded) if encoded.bytes().all(is_plain) => Part::Text(encoded.clone(), 0),
        Source::Base64(encoded) => return Ok(vec![json(&**encoded)]),
        Source::Bytes(bytes) if bytes.is_empty() => return Err(Error::invalid("the medium is empty")),
        Source::Bytes(bytes) => Part::Encoded(Encoder::new(Raw::Bytes(bytes.clone()))),
        Source::File(path) => Part::Encoded(Encoder::new(Raw::File(Opening::new(path)?))),
    };
    Ok(vec![text("\""), inner, text("\"")])
}

#[cfg(test)]
#[path = "../tests/unit/body.rs"]
mod tests;
